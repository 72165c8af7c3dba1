"""What recording costs a training loop: time in the caller's thread for a call of ``log``, and memory of its copies.

python bench/hook.py
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


if __name__ == "__main__":
    main()
