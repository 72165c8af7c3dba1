"""How fast NNSTD is, against a plain SciPy version in the same run. ``python bench/distance.py [--wide] [--out FILE]``.

CPU seconds of one thread, so that other work on the machine blurs the ratios less than wall time would; every number is
the median of several turns in which the versions take turns. The plain version is what one would write: CSR masks
prepared once, a sparse product, one dense float64 matrix, ``linear_sum_assignment``. The short form takes some minutes;
``--wide`` adds the shapes for which plain SciPy alone takes minutes.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime as dt
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numba
import numpy as np
import scipy
import scipy.sparse as sp
from scipy.optimize import linear_sum_assignment

from topostrata.distance import canonical as rule
from topostrata.distance.nnstd import compare, nnstd
from topostrata.distance.pairwise import distances
from topostrata.distance.prepared import prepare, prepare_sets
from topostrata.topology import Layer, Mask, Space, Topology

TURNS = 9
NETWORKS = Path(
    os.environ.get("TOPOSTRATA_REFERENCE_TOPOLOGIES")
    or Path(__file__).resolve().parents[1] / ".." / "shared" / "set-topologies"
)
# ResNet-50: (input channels, output channels, kernel positions) and how often.
RESNET50 = [
    (3, 64, 49, 1), (64, 64, 1, 1), (64, 64, 9, 3), (64, 256, 1, 4), (256, 64, 1, 2), (256, 128, 1, 1),
    (128, 128, 9, 4), (128, 512, 1, 4), (256, 512, 1, 1), (512, 128, 1, 3), (512, 256, 1, 1), (256, 256, 9, 6),
    (256, 1024, 1, 6), (512, 1024, 1, 1), (1024, 256, 1, 5), (1024, 512, 1, 1), (512, 512, 9, 3),
    (512, 2048, 1, 3), (1024, 2048, 1, 1), (2048, 512, 1, 2),
]  # fmt: skip


class Report:
    """Lines for the screen and, at the end, for a file."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str = "") -> None:
        """Print a line and keep it."""
        print(line, flush=True)
        self.lines.append(line)


def cpu(work: Callable[[], Any]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def plain_masks(topology: Topology) -> list[tuple[Any, Any]]:
    masks = []
    for layer in topology.layers:
        matrix = layer.mask.to_csc().astype(np.float64).tocsr()
        masks.append((matrix, np.asarray(matrix.sum(axis=0)).ravel()))
    return masks


def plain(a: list[tuple[Any, Any]], b: list[tuple[Any, Any]]) -> list[float]:
    """The published procedure, written simply."""
    values, order = [], None
    for (mask_a, size_a), (mask_b, size_b) in zip(a, b, strict=True):
        moved = mask_b if order is None else mask_b[order]
        common = (mask_a.T @ moved).toarray()
        total = size_a[:, None] + size_b[None, :]
        union = total - common
        costs = np.divide(total - 2 * common, union, out=np.zeros_like(union), where=union > 0)
        rows, order = linear_sum_assignment(costs)
        values.append(float(costs[rows, order].sum()) / len(rows))
    return values


def rewired(rng: np.random.Generator, mask: Mask, share: float) -> Mask:
    remaining = mask.cells[rng.random(mask.nnz) >= share]
    fresh = np.setdiff1d(rng.integers(0, mask.size, 2 * (mask.nnz - len(remaining)) + 16), mask.cells)
    fresh = rng.permutation(fresh)[: mask.nnz - len(remaining)]
    return Mask(mask.n_source, mask.n_target, np.sort(np.concatenate([remaining, fresh])), mask.taps)


def random_mask(rng: np.random.Generator, n_source: int, n_target: int, density: float, taps: int = 1) -> Mask:
    size = n_source * taps * n_target
    return Mask(n_source, n_target, np.unique(rng.integers(0, size, round(size * -np.log1p(-density)))), taps)


def real_networks() -> list[Topology]:
    networks = []
    for folder in sorted(NETWORKS.glob("*/epoch_*")):
        masks = [sp.csr_array(sp.load_npz(file))[:-1] for file in sorted(folder.glob("weight_l*.npz"))]
        networks.append(Topology.from_masks(masks, zeros="absent"))
    return networks


def real_pairs(report: Report) -> None:
    networks = real_networks()
    prepared, sets = [prepare(t) for t in networks], [prepare_sets(t) for t in networks]
    masks = [plain_masks(t) for t in networks]
    pairs = [(i, j) for i in range(15) for j in range(i + 1, 15)][::3]
    ways: dict[str, Callable[[int, int], Any]] = {
        "plain SciPy": lambda i, j: plain(masks[i], masks[j]),
        "canonical": lambda i, j: compare(prepared[i], prepared[j], alignment="canonical"),
        "reference": lambda i, j: compare(sets[i], sets[j], alignment="reference"),
        "identity": lambda i, j: nnstd(networks[i], networks[j], alignment="identity"),
        "refined": lambda i, j: compare(prepared[i], prepared[j], alignment="refined"),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(TURNS + 1):  # in turns, so that a machine that is slower for a while is so for all
        for name, way in ways.items():
            some = pairs[::9] if name == "refined" else pairs
            spent = cpu(lambda way=way, some=some: [way(i, j) for i, j in some]) / len(some)  # type: ignore[misc]
            if turn:
                times[name].append(spent)
    report.say("### One real pair, warm, one thread\n")
    report.say(f"784-784-784-784-10 at 0.6 %, {len(pairs)} pairs of the 15 networks, {TURNS} turns.\n")
    report.say("| | ms a pair (median) | plain SciPy takes: median of the turns | least and most |")
    report.say("| --- | ---: | ---: | --- |")
    for name, turns in times.items():
        ratios = sorted(plainly / ours for plainly, ours in zip(times["plain SciPy"], turns, strict=True))
        report.say(
            f"| {name} | {statistics.median(turns) * 1e3:.2f} | {statistics.median(ratios):.1f} x "
            f"| {ratios[0]:.1f} to {ratios[-1]:.1f} x |"
        )
    report.say()


def many_pairs(report: Report) -> None:
    rng = np.random.default_rng(1)
    networks = real_networks()
    base = len(networks)
    while len(networks) < 90:  # as far apart as the 90 published networks are: 0.18 to 0.42
        old = networks[len(networks) % base]
        networks.append(
            Topology(
                tuple(
                    Layer(x.name, x.source, x.target, x.mask if x.density == 1 else rewired(rng, x.mask, 0.03))
                    for x in old.layers
                )
            )
        )
    report.say("### All 4,005 pairs of 90 networks\n")
    report.say("The 15 real ones and 75 made of them by moving 3 % of the connections; preparing them included.\n")
    report.say("| threads | wall s | CPU s |\n| ---: | ---: | ---: |")
    for workers in (1, 2):
        begin, used = time.perf_counter(), time.process_time()
        distances(networks, alignment="canonical", workers=workers)
        report.say(f"| {workers} | {time.perf_counter() - begin:.1f} | {time.process_time() - used:.1f} |")
    report.say()


def layer_pair(report: Report, name: str, mask_a: Mask, mask_b: Mask) -> float:
    """One layer, both ways, with the CPU time and how much memory each took at its peak."""
    left, right = prepare_sets(_alone(mask_a)), prepare_sets(_alone(mask_b))
    inputs = {0: np.arange(mask_a.n_source, dtype=np.int64)}
    spent = [cpu(lambda: rule._by_fan_in(left, right, 1, inputs, {})) for _ in range(3)]  # noqa: SLF001 - the match alone
    peak_ours = _peak(lambda: rule._by_fan_in(left, right, 1, inputs, {}))  # noqa: SLF001
    masks = plain_masks(_alone(mask_a)), plain_masks(_alone(mask_b))
    base = cpu(lambda: plain(*masks))
    ours = statistics.median(spent)
    bytes_a_pair = peak_ours / mask_a.n_target / mask_b.n_target
    report.say(f"| {name} | {base:.3f} | {ours:.4f} | {base / ours:.1f} x | {bytes_a_pair:.2f} |")
    return base / ours


def _alone(mask: Mask) -> Topology:
    return Topology((Layer("conv", Space("in", mask.n_source, labelled=True), Space("out", mask.n_target), mask),))


def _peak(work: Callable[[], Any]) -> float:
    """The bytes by which the peak of the resident memory rises while something runs; NaN where Linux is not there."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
        before = _status("VmRSS")
        work()
        return _status("VmHWM") - before
    except (OSError, AttributeError):
        return float("nan")


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def layers(report: Report, *, wide: bool) -> None:
    rng = np.random.default_rng(2)
    report.say("### Wide layers, the matching of one layer\n")
    report.say("| layer | plain SciPy s | ours s | ratio | bytes a pair |\n| --- | ---: | ---: | ---: | ---: |")
    shapes = [(3072, 4000, 0.01), (3072, 4000, 0.05), (4000, 1000, 0.01), (4000, 1000, 0.05), (1000, 4000, 0.05)]
    if wide:
        shapes += [(4096, 4096, 0.1), (4096, 11008, 0.1)]
    ratios = []
    for n_source, n_target, density in shapes:
        mask = random_mask(rng, n_source, n_target, density)
        for kind, other in (
            ("30 % rewired", rewired(rng, mask, 0.3)),
            ("independent", random_mask(rng, n_source, n_target, density)),
        ):
            ratio = layer_pair(report, f"{n_source} -> {n_target} at {density:.0%}, {kind}", mask, other)
            if n_target >= 3000:
                ratios.append(ratio)
    report.say(f"\nMedian ratio of those at least 3,000 wide: {statistics.median(ratios):.1f} x.\n")


def convolutions(report: Report) -> None:
    rng = np.random.default_rng(3)
    report.say("### The 53 convolution shapes of ResNet-50 at 10 %, 30 % rewired\n")
    base = ours = 0.0
    for n_source, n_target, taps, times in RESNET50:
        mask = random_mask(rng, n_source, n_target, 0.1, taps)
        other = rewired(rng, mask, 0.3)
        left, right = prepare_sets(_alone(mask)), prepare_sets(_alone(other))
        inputs = {0: np.arange(n_source, dtype=np.int64)}
        ours += times * min(cpu(lambda: rule._by_fan_in(left, right, 1, inputs, {})) for _ in range(2))  # noqa: B023, SLF001
        base += times * cpu(lambda: plain(plain_masks(_alone(mask)), plain_masks(_alone(other))))  # noqa: B023
    report.say(f"Plain SciPy {base:.2f} s, ours {ours:.2f} s: {base / ours:.1f} x.\n")


def growth(report: Report) -> None:
    rng = np.random.default_rng(4)
    report.say("### How the cost grows: independent square layers, ms\n")
    report.say("| width | 0.5 % | 1 % | 2 % | 5 % | 10 % |\n| ---: | ---: | ---: | ---: | ---: | ---: |")
    for width in (500, 1000, 2000):
        cells = []
        for density in (0.005, 0.01, 0.02, 0.05, 0.1):
            a, b = (prepare_sets(_alone(random_mask(rng, width, width, density))) for _ in range(2))
            inputs = {0: np.arange(width, dtype=np.int64)}
            spent = min(cpu(lambda a=a, b=b, inputs=inputs: rule._by_fan_in(a, b, 1, inputs, {})) for _ in range(3))  # type: ignore[misc]  # noqa: SLF001
            cells.append(f"{spent * 1e3:.1f}")
        report.say(f"| {width} | {' | '.join(cells)} |")
    report.say()


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wide", action="store_true", help="4096 and 11,008 wide layers too: minutes of plain SciPy")
    parser.add_argument("--out", type=Path, help="write the tables to this file as well")
    options = parser.parse_args()
    report = Report()
    today = dt.datetime.now(tz=dt.UTC).date()
    report.say(
        f"{today}, {processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, NumPy {np.__version__}, "
        f"SciPy {scipy.__version__}, numba {numba.__version__}. CPU seconds of one thread unless said otherwise; the "
        f"load of the machine was {os.getloadavg()[0]:.1f}.\n"
    )
    # Nothing is to be compiled while time is taken.
    warm = random_mask(np.random.default_rng(0), 100, 100, 0.3)
    other = rewired(np.random.default_rng(1), warm, 0.3)
    compare(prepare(_alone(warm)), prepare(_alone(other)), alignment="canonical")
    if NETWORKS.is_dir():
        real_pairs(report)
        many_pairs(report)
    else:
        print(f"no reference networks at {NETWORKS}: those tables are left out", file=sys.stderr)
    layers(report, wide=options.wide)
    convolutions(report)
    growth(report)
    if options.out:
        options.out.write_text("\n".join(report.lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
