"""What recording costs a training: the caller's time for ``log`` and ``log_gradient_flow``, a step's, and memory.

python bench/hook.py

The rows of torch are made where torch is installed (.venv-torch), those of CUDA where it has a device. Torch's own norm
of all gradients stands beside ours.
"""

from __future__ import annotations

import os
import resource
import statistics
import tempfile
import time
from itertools import pairwise
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
STEPS, ROUNDS = 40, 5  # of a training, and how often each of the two is timed


def calls(mask: Any, count: int) -> tuple[list[float], float]:
    """Milliseconds of each call of ``log``, every one with the snapshot before it on the disk; and the CPU of the rest.

    That is what the recording thread takes for a snapshot, since the caller waits meanwhile.
    """
    taken = []
    with tempfile.TemporaryDirectory() as folder, ts.init("bench", mode="offline", spool=folder) as run:
        before = time.process_time() - time.thread_time()
        for step in range(count):
            began = time.perf_counter()
            run.log([mask], step=step)
            taken.append((time.perf_counter() - began) * 1000)
            run.flush(None)
        assert run.counts.saved == count, run.counts
        writing = (time.process_time() - time.thread_time() - before) * 1000 / count
    return taken, writing


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


def masks(shape: tuple[int, int]) -> dict[str, Any]:
    """The same mask in every kind that there is here."""
    dense = np.random.default_rng(0).random(shape) < 0.05
    kinds = {"bool": dense, "float32": dense.astype(np.float32), "CSR, 5 %": sp.csr_array(dense)}
    if torch is not None:
        kinds["torch, float32"] = torch.tensor(kinds["float32"])
        if torch.cuda.is_available():
            kinds["torch on CUDA, bool"] = torch.tensor(dense, device="cuda")
            kinds["torch on CUDA, float32"] = torch.tensor(kinds["float32"], device="cuda")
    return kinds


def caller() -> None:
    """The time of a call, and what its copy takes."""
    print(
        "\n| entries | kind | median ms | worst ms | goal ms | copy, bytes an entry | the thread's CPU, ms | "
        "memory of the process, MB more |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, shape in SIZES.items():
        entries = shape[0] * shape[1]
        for kind, mask in masks(shape).items():
            before = peak()
            taken, writing = calls(mask, 20 if entries < 10**7 else 5)
            copied = sources.read([mask])
            assert isinstance(copied, sources.Reading)
            goal = GOAL_MS + GOAL_NS * entries / 1e6
            print(
                f"| {name} | {kind} | {statistics.median(taken):.2f} | {max(taken):.2f} | {goal:.1f} | "
                f"{copied.nbytes / entries:.3f} | {writing:.1f} | {peak() - before:.0f} |",
                flush=True,
            )


def peak() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def trained(record: bool, every: int, device: str) -> tuple[float, float]:
    """Milliseconds of a step of a real training, the mean, and of ``finish``; logged is each ``every``-th step.

    What the first snapshot builds for the others is there before the first step that counts.
    """
    from torch import nn  # noqa: PLC0415
    from torch.nn.utils import prune  # noqa: PLC0415

    torch.manual_seed(0)
    widths = (784, 1000, 1000, 10)
    layers = [nn.Linear(*pair) for pair in pairwise(widths)]
    for layer in layers:
        prune.random_unstructured(layer, "weight", 0.9)
    model = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2]).to(device)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    images, labels = torch.rand(128, 784, device=device), torch.randint(10, (128,), device=device)
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        run = ts.init("bench", mode="offline" if record else "disabled", spool=folder)
        for step in range(STEPS + 1):
            began = time.perf_counter()
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
            if step % every == 0:
                run.log(model, step=step)
            if device == "cuda":
                torch.cuda.synchronize()
            taken.append((time.perf_counter() - began) * 1000)
            if step == 0:
                run.flush(timeout=None)
        began = time.perf_counter()
        run.finish(timeout=None)
        finishing = (time.perf_counter() - began) * 1000
        assert not run.counts.troubles, run.counts
    return statistics.mean(taken[1:]), finishing


def step_time() -> None:
    """A training with the hook against the same without, one after the other, several times."""
    print(f"\nMLP 784-1000-1000-10, masks of 1.8 million entries, batches of 128, {ROUNDS} times {STEPS} steps each:")
    print("\n| device, threads of torch | logged | step without, ms | step with, ms | overhead | finish, ms |")
    print("| --- | --- | --- | --- | --- | --- |")
    ways = [("cpu", 1), ("cpu", torch.get_num_threads()), *([("cuda", 1)] if torch.cuda.is_available() else [])]
    for device, threads in ways:
        torch.set_num_threads(threads)
        for every in (1, 10):
            pairs = [(trained(False, every, device), trained(True, every, device)) for _ in range(ROUNDS)]
            plain, recorded = (statistics.median(step for step, _ in times) for times in zip(*pairs, strict=True))
            overhead = statistics.median(with_hook / without - 1 for (without, _), (with_hook, _) in pairs)
            finishing = statistics.median(finish for _, (_, finish) in pairs)
            when = "each step" if every == 1 else f"each {every}th step"
            print(
                f"| {device}, {threads} | {when} | {plain:.1f} | {recorded:.1f} | {overhead:+.1%} | {finishing:.0f} |",
                flush=True,
            )


def main() -> None:
    packages = ["numpy", "scipy"] if torch is None else ["numpy", "scipy", "torch"]
    print(surroundings(*packages), f"load {os.getloadavg()[0]:.1f}", sep=", ")
    caller()
    flows()
    if torch is not None:
        step_time()


if __name__ == "__main__":
    main()
