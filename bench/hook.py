"""What recording costs a training loop: time in the caller's thread for ``log`` and ``log_gradient_flow``, and memory.

python bench/hook.py

Gradients of torch are measured where torch is installed; its own norm of all gradients stands beside them.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from typing import Any

import numpy as np
import scipy.sparse as sp
from surroundings import surroundings

import topostrata as ts
from topostrata.ingest.hook import sources

try:
    import torch
except ImportError:
    torch = None

SIZES = {"20 thousand": (100, 200), "1 million": (1000, 1000), "25 million": (5000, 5000)}
GOAL_MS, GOAL_NS = 2.0, 10.0  # a call, and an entry


def calls(mask: Any, count: int) -> list[float]:
    """Milliseconds of each call of ``log``, every one with the snapshot before it on the disk."""
    taken = []
    with tempfile.TemporaryDirectory() as folder, ts.init("bench", mode="offline", spool=folder) as run:
        for step in range(count):
            began = time.perf_counter()
            run.log([mask], step=step)
            taken.append((time.perf_counter() - began) * 1000)
            run.flush(600)
        assert run.counts.saved == count, run.counts
    return taken


def flow_calls(gradient: Any, mask: Any, count: int) -> list[float]:
    """Milliseconds of each call of ``log_gradient_flow``."""
    taken = []
    with tempfile.TemporaryDirectory() as folder, ts.init("bench", mode="offline", spool=folder) as run:
        for step in range(count):
            began = time.perf_counter()
            run.log_gradient_flow({"fc": gradient}, {"fc": mask}, step=step)
            taken.append((time.perf_counter() - began) * 1000)
            run.flush(600)
        assert not run.counts.troubles, run.counts
    return taken


def flows() -> None:
    """The table of gradient flow."""
    print("\n| entries | gradients, mask | median ms | worst ms | ns an entry | torch's norm, ms |")
    print("| --- | --- | --- | --- | --- | --- |")
    rng = np.random.default_rng(0)
    for name, shape in SIZES.items():
        gradient, mask = rng.standard_normal(shape, dtype=np.float32), rng.random(shape) < 0.05
        kinds: dict[str, tuple[Any, Any]] = {"NumPy float32, bool": (gradient, mask)}
        if torch is not None:
            tensor = torch.from_numpy(gradient)
            kinds["torch float32, bool"] = (tensor, torch.from_numpy(mask))
            kinds["torch float32, float32"] = (tensor, torch.from_numpy(mask.astype(np.float32)))
        for kind, pair in kinds.items():
            taken = flow_calls(*pair, 20 if mask.size < 10**7 else 5)
            norm = "" if kind.startswith("NumPy") else f"{statistics.median(norm_calls(pair[0])):.2f}"
            median = statistics.median(taken)
            print(f"| {name} | {kind} | {median:.2f} | {max(taken):.2f} | {median * 1e6 / mask.size:.1f} | {norm} |")


def norm_calls(tensor: Any) -> list[float]:
    """Milliseconds of each call of what ``clip_grad_norm_`` computes of one gradient."""
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        float(tensor.norm())
        taken.append((time.perf_counter() - began) * 1000)
    return taken


def main() -> None:
    print(surroundings("numpy", "scipy"))
    print("\n| entries | kind | median ms | worst ms | goal ms | copy, bytes an entry |")
    print("| --- | --- | --- | --- | --- | --- |")
    rng = np.random.default_rng(0)
    for name, shape in SIZES.items():
        dense = rng.random(shape) < 0.05
        entries = dense.size
        kinds = {"bool": dense, "float32": dense.astype(np.float32), "CSR, 5 %": sp.csr_array(dense)}
        for kind, mask in kinds.items():
            taken = calls(mask, 20 if entries < 10**7 else 5)
            copied = sources.read([mask])
            assert isinstance(copied, sources.Reading)
            goal = GOAL_MS + GOAL_NS * entries / 1e6
            print(
                f"| {name} | {kind} | {statistics.median(taken):.2f} | {max(taken):.2f} | {goal:.1f} | "
                f"{copied.nbytes / entries:.3f} |",
                flush=True,
            )
    flows()


if __name__ == "__main__":
    main()
