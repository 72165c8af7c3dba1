"""How fast NNSTD is, as people call it, against the best scripts that they could write. Options: ``--help``.

CPU seconds of one thread unless said otherwise, so that other work on the machine blurs the ratios less than wall time
would; the versions take turns, and every number is the median of several turns. *Plain* is what one would write: CSR
masks prepared once, a sparse product, one dense float64 matrix, SciPy's ``linear_sum_assignment``. *Tuned* is the same
with float32 products and lapx's ``lapjvr`` (``uv sync --group bench``): twenty lines, another order of ties, so values
of ``reference`` differ from its. Ours are the public functions: *warm* what has been asked before of the same
``Topology``, *cold* of topologies that were made anew from masks in memory, of which nothing is known.
"""

from __future__ import annotations

import argparse
import ctypes
import http.client
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import scipy.sparse as sp
from rest import getting, milliseconds
from scipy.optimize import linear_sum_assignment
from surroundings import surroundings

import topostrata as ts
from topostrata.archive import Archive, open_archive
from topostrata.distance.alignments import Alignment
from topostrata.lineage.inferred import infer
from topostrata.store.embedded import stop
from topostrata.topology import Layer, Mask, Topology

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.reference_runs import service

try:
    import lap
except ImportError:  # the table then has plain SciPy alone
    lap = None

NETWORKS = Path(
    os.environ.get("TOPOSTRATA_REFERENCE_TOPOLOGIES")
    or Path(__file__).resolve().parents[1] / ".." / "shared" / "set-topologies"
)
Script = list[tuple[Any, ...]]

WIDE = (((3072, 4000), 0.01), ((3072, 4000), 0.05), ((2048, 2048, 2048), 0.1))
WIDEST = (((4096, 4096, 4096), 0.1), ((4096, 11008), 0.1))


def cpu(work: Callable[..., Any], *arguments: Any) -> float:
    begin = time.process_time()
    work(*arguments)
    return time.process_time() - begin


# What people would write


def plain_masks(topology: Topology) -> Script:
    masks = [layer.mask.to_csc().astype(np.float64).tocsr() for layer in topology.layers]
    return [(mask, np.asarray(mask.sum(axis=0)).ravel()) for mask in masks]


def plain(a: Script, b: Script) -> list[float]:
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


def tuned_masks(topology: Topology) -> Script:
    masks = [layer.mask.to_csc().astype(np.float32) for layer in topology.layers]
    return [(m.T.tocsr(), m.tocsr(), np.asarray(m.sum(axis=0), dtype=np.float32).ravel()) for m in masks]


def tuned(a: Script, b: Script) -> list[float]:
    """The same by a user who looked for what is fastest."""
    values, order = [], None
    for (turned_a, _, size_a), (_, mask_b, size_b) in zip(a, b, strict=True):
        moved = mask_b if order is None else mask_b[order]
        common = (turned_a @ moved).toarray()
        costs = size_a[:, None] + size_b
        union = np.maximum(costs - common, 1)
        costs -= 2 * common
        costs /= union
        order = lap.lapjvr(costs)[1]
        values.append(float(costs[np.arange(len(costs)), order].sum()) / len(costs))
    return values


# Networks


def rewired(rng: np.random.Generator, mask: Mask, share: float) -> Mask:
    remaining = mask.cells[rng.random(mask.nnz) >= share]
    fresh = np.setdiff1d(rng.integers(0, mask.size, 2 * (mask.nnz - len(remaining)) + 16), mask.cells)
    fresh = rng.permutation(fresh)[: mask.nnz - len(remaining)]
    return Mask(mask.n_source, mask.n_target, np.sort(np.concatenate([remaining, fresh])), mask.taps)


def random_mask(rng: np.random.Generator, n_source: int, n_target: int, density: float) -> Mask:
    size = n_source * n_target
    return Mask(n_source, n_target, np.unique(rng.integers(0, size, round(size * -np.log1p(-density)))))


def changed(rng: np.random.Generator, topology: Topology, share: float) -> Topology:
    """The network with a share of the connections of all layers that are not full moved."""
    masks = [x.mask if x.density == 1 else rewired(rng, x.mask, share) for x in topology.layers]
    return Topology(
        tuple(Layer(x.name, x.source, x.target, mask) for x, mask in zip(topology.layers, masks, strict=True))
    )


def fresh(topology: Topology) -> Topology:
    """The network made anew of its masks."""
    masks = [Mask(x.mask.n_source, x.mask.n_target, x.mask.cells, x.mask.taps) for x in topology.layers]
    return Topology(
        tuple(Layer(x.name, x.source, x.target, mask) for x, mask in zip(topology.layers, masks, strict=True))
    )


def real_networks() -> list[Topology]:
    networks = []
    for folder in sorted(NETWORKS.glob("*/epoch_*")):
        masks = [sp.csr_array(sp.load_npz(file))[:-1] for file in sorted(folder.glob("weight_l*.npz"))]
        networks.append(Topology.from_masks(masks, zeros="absent"))
    return networks


# Tables


def table(times: dict[str, list[float]], unit: str = "ms") -> None:
    """The median time of each way, and the medians of its ratios to the scripts in the same turn."""
    scale = 1e3 if unit == "ms" else 1.0
    print(f"| | {unit} a pair | plain takes | tuned takes |\n| --- | ---: | ---: | ---: |")
    for name, turns in times.items():
        ratios = []
        for base in ("plain SciPy", "tuned, lapx"):
            same = zip(times.get(base, []), turns, strict=False)
            values = [theirs / ours for theirs, ours in same]
            ratios.append(f"{statistics.median(values):.2f} x" if values else "-")
        print(f"| {name} | {statistics.median(turns) * scale:.2f} | {' | '.join(ratios)} |", flush=True)
    print()


def one_pair(networks: Sequence[Topology], turns: int) -> None:
    pairs = [(i, j) for i in range(15) for j in range(i + 1, 15)][::9]
    scripts: dict[str, tuple[list[Script], Callable[[Script, Script], Any]]] = {
        "plain SciPy": ([plain_masks(t) for t in networks], plain)
    }
    if lap is not None:
        scripts["tuned, lapx"] = ([tuned_masks(t) for t in networks], tuned)
    alignments: tuple[Alignment, ...] = ("overlap", "canonical", "reference", "identity", "refined")
    times: dict[str, list[float]] = {name: [] for name in scripts}
    times |= {f"`{x}`, {how}": [] for x in alignments for how in ("warm", "cold")}
    for turn in range(turns + 1):  # in turns, so that a machine that is slower for a while is so for all
        for name, (masks, script) in scripts.items():
            spent = sum(cpu(script, masks[i], masks[j]) for i, j in pairs)
            times[name].append(spent / len(pairs))
        for alignment in alignments:
            call = partial(ts.nnstd, alignment=alignment)
            for i, j in pairs:
                call(networks[i], networks[j])
            spent = sum(cpu(call, networks[i], networks[j]) for i, j in pairs)
            times[f"`{alignment}`, warm"].append(spent / len(pairs))
            new = [(fresh(networks[i]), fresh(networks[j])) for i, j in pairs]
            spent = sum(itertools.starmap(partial(cpu, call), new))
            times[f"`{alignment}`, cold"].append(spent / len(pairs))
        if not turn:  # what is compiled, and what caches need, is not counted
            for values in times.values():
                values.clear()
    print("### One real pair: `ts.nnstd`, one thread\n")
    print(f"784-784-784-784-10 at 0.6 %, {len(pairs)} pairs of the 15 networks, {turns} turns.\n")
    table(times)


def many_pairs(networks: Sequence[Topology], alignments: Sequence[Alignment]) -> None:
    rng = np.random.default_rng(1)
    # As far apart as the 90 published networks are: 0.18 to 0.42.
    ninety = [*networks, *(changed(rng, networks[k % len(networks)], 0.03) for k in range(len(networks), 90))]
    base = Topology.from_masks([random_mask(rng, *shape, 0.05) for shape in ((60, 60), (60, 60), (60, 10))])
    small = [changed(rng, base, 0.3) for _ in range(300)]
    print("### Many pairs: `ts.distances`, preparing included\n")
    print(
        "4,005 pairs of 90 networks (the 15 real ones, 75 made of them by moving 3 % of the connections); 44,850 pairs"
    )
    print("of 300 networks of 190 units, 60-60-60-10 at 5 %, 30 % moved. Tuned: by CPU of 90 of the pairs. The gain is")
    print("what two threads save of wall time: to be read of an idle machine of two cores.\n")
    print("| networks | alignment | CPU s, one thread | tuned takes | CPU s, two | wall s, one | wall s, two | gain |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, group in (("90", ninety), ("300 small", small)):
        pairs = list(itertools.combinations(range(len(group)), 2))
        sample = pairs[:: len(pairs) // 89]
        for alignment in alignments:
            walls, used = [], []
            for workers in (1, 2):
                new = [fresh(t) for t in group]
                begin = time.perf_counter()
                used.append(cpu(partial(ts.distances, new, alignment=alignment, workers=workers)))
                walls.append(time.perf_counter() - begin)
            theirs = "-"
            if lap is not None:
                scripts = [tuned_masks(t) for t in group]
                spent = sum(cpu(tuned, scripts[i], scripts[j]) for i, j in sample) / len(sample)
                theirs = f"{spent * len(pairs) / used[0]:.1f} x"
            print(
                f"| {name} | {alignment} | {used[0]:.1f} | {theirs} | {used[1]:.1f} | {walls[0]:.1f} | {walls[1]:.1f} "
                f"| {walls[0] / walls[1]:.2f} x |",
                flush=True,
            )
    print()


def wide(shapes: Sequence[tuple[tuple[int, ...], float]], *, scripts: bool, alignments: Sequence[Alignment]) -> None:
    """Whole calls of wide networks, with the share that comparing has of them, and their memory."""
    rng = np.random.default_rng(2)
    print("### Wide layers: the whole call, 30 % rewired\n")
    print("Comparing: a second call's share of the first. Bytes: by which the peak of resident memory rises.\n")
    print(
        "| network | alignment | plain s | tuned s | ours cold s | comparing | plain takes | tuned takes "
        "| bytes a pair of units | bytes a connection |"
    )
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for widths, density in shapes:
        masks = [random_mask(rng, *shape, density) for shape in itertools.pairwise(widths)]
        a = Topology.from_masks(masks)
        b = changed(rng, a, 0.3)
        slow = quick = float("nan")
        if scripts:
            slow = cpu(lambda x, y: plain(plain_masks(x), plain_masks(y)), a, b)
        if scripts and lap is not None:
            quick = cpu(lambda x, y: tuned(tuned_masks(x), tuned_masks(y)), a, b)
        for alignment in alignments:
            call = partial(ts.nnstd, alignment=alignment, fix_output=False)
            turns, shares = [], []
            for _ in range(3):
                x, y = fresh(a), fresh(b)
                turns.append(cpu(call, x, y))
                shares.append(cpu(call, x, y) / turns[-1])
            x, y = fresh(a), fresh(b)
            peak = _peak(call, x, y)
            ours = statistics.median(turns)
            pairs = max(n * n for n in widths[1:])
            name = "-".join(map(str, widths))
            theirs = [f"{slow:.2f}", f"{quick:.2f}", f"{slow / ours:.1f} x", f"{quick / ours:.1f} x"]
            theirs = ["-" if "nan" in text else text for text in theirs]
            print(
                f"| {name} at {density:.0%} | {alignment} | {theirs[0]} | {theirs[1]} "
                f"| {ours:.3f} | {statistics.median(shares):.0%} | {theirs[2]} | {theirs[3]} "
                f"| {peak / pairs:.2f} | {peak / (a.nnz + b.nnz):.0f} |",
                flush=True,
            )
    print()


def inferring(networks: Sequence[Topology]) -> None:
    """The ancestry of ten networks of which nothing is prepared."""
    labels = [f"w{k}" for k in range(10)]
    call = partial(infer, labels=labels, compare=partial(ts.nnstd, alignment="canonical"), root="w0")
    taken = [cpu(call, [fresh(network) for network in networks[:10]]) for _ in range(8)][1:]
    print(
        f"`infer` of 10 networks, cold, `canonical`: {statistics.median(taken) * 1e3:.0f} ms of CPU in the median of 7"
    )
    print(f"({min(taken) * 1e3:.0f} to {max(taken) * 1e3:.0f}), resampling included.\n", flush=True)


def growth() -> None:
    rng = np.random.default_rng(4)
    print("### How the cost grows: independent square layers, `canonical`, cold / warm ms\n")
    print("| width | 0.5 % | 1 % | 2 % | 5 % | 10 % |\n| ---: | ---: | ---: | ---: | ---: | ---: |")
    for width in (250, 500, 1000, 2000):
        cells = []
        for density in (0.005, 0.01, 0.02, 0.05, 0.1):
            a, b = (Topology.from_masks([random_mask(rng, width, width, density)]) for _ in range(2))
            call = partial(ts.nnstd, alignment="canonical", fix_output=False)
            cold, warm = [], []
            for _ in range(3):
                x, y = fresh(a), fresh(b)
                cold.append(cpu(call, x, y))
                warm.append(cpu(call, x, y))
            cells.append(f"{min(cold) * 1e3:.1f} / {min(warm) * 1e3:.1f}")
        print(f"| {width} | {' | '.join(cells)} |", flush=True)
    print()


def kept(networks: Sequence[Topology], alignment: Alignment) -> None:
    """What an archive answers, embedded and over REST: the first time, and what it knows."""
    questions: dict[str, Callable[[Archive], Any]] = {
        "`infer` of 10": lambda archive: archive.infer("w*", alignment=alignment, root="w0"),
        "`distances` of 10": lambda archive: archive.distances("w*", alignment=alignment),
        "`timeline` of 10 steps": lambda archive: archive.timeline("line", alignment=alignment),
        "`nnstd` of two": lambda archive: archive.nnstd("w3", "line@5", alignment=alignment),
    }
    print(f"### What the archive keeps: `{alignment}`, embedded\n")
    print("CPU of the client, median of 9 where it is asked again; the engine's is not in it. Each question knows what")
    print("those above it kept: the matrix computes the diagonal alone, the timeline and the pair nothing.\n")
    print("| question | first: CPU ms | visits | again: CPU ms | wall ms | visits |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "archive"
        try:
            with open_archive(store) as archive:
                for k, topology in enumerate(networks[:10]):
                    archive.push(f"w{k}", 0, topology, projection="none")
                    archive.push("line", k, topology, projection="none")
            for name, ask in questions.items():
                with open_archive(store) as archive:  # with no mask and no tile in memory
                    first, _, many = _asked(archive, ask)
                    turns = [_asked(archive, ask) for _ in range(9)]
                again, wall, few = (statistics.median(values) for values in zip(*turns, strict=True))
                print(f"| {name} | {first:.1f} | {many} | {again:.1f} | {wall:.1f} | {few} |", flush=True)
            with service(store) as (client, _):
                connection = http.client.HTTPConnection(client.base_url.host, client.base_url.port or 80, timeout=60)
                pair = f"/v1/distances?a=w3@0&b=line@5&alignment={alignment}"
                taken = milliseconds(connection, getting(pair), 200)
                connection.close()
            print(f"\nThat of two over REST, on a kept connection: p50 {statistics.median(taken):.1f} ms, ", end="")
            print(f"p99 {taken[197]:.1f} ms of wall time.\n")
        finally:
            stop(store, force=True)


def _asked(archive: Archive, ask: Callable[[Archive], Any]) -> tuple[float, float, int]:
    """CPU and wall milliseconds of a question, and how often it goes to the store."""
    store: Any = archive._store  # noqa: SLF001 - no question says what it asked
    count = itertools.count()

    def counted(visit: Callable[..., Any], *arguments: Any) -> Any:
        next(count)
        return visit(*arguments)

    visits = {name: getattr(store, name) for name in ("read_with", "write")}
    for name, visit in visits.items():
        setattr(store, name, partial(counted, visit))
    begin, used = time.perf_counter(), time.process_time()
    ask(archive)
    spent, wall = time.process_time() - used, time.perf_counter() - begin
    for name in visits:
        delattr(store, name)
    return spent * 1e3, wall * 1e3, next(count)


def _peak(work: Callable[..., Any], *arguments: Any) -> float:
    """The bytes by which the peak of the resident memory rises while something runs; NaN where Linux is not there."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
        before = _status("VmRSS")
        work(*arguments)
        return _status("VmHWM") - before
    except (OSError, AttributeError):
        return float("nan")


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parts = ("pair", "many", "wide", "widest", "growth", "kept")
    parser.add_argument(
        "--only",
        choices=parts,
        action="append",
        help="these tables alone, each of less than 8 minutes on an idle machine",
    )
    parser.add_argument("--turns", type=int, default=9, help="of the table of one pair")
    parser.add_argument("--scripts", action="store_true", help="the widest layers by SciPy, too: it takes minutes")
    parser.add_argument("--alignment", action="append", help="of many pairs and wide layers: canonical and overlap")
    options = parser.parse_args()
    chosen, alignments = options.only or parts, options.alignment or ["canonical", "overlap"]
    print(f"`python bench/distance.py`, {surroundings('numpy', 'scipy', 'numba', *(['lapx'] if lap else []))}\n")
    tiny = Topology.from_masks([random_mask(np.random.default_rng(0), 100, 100, 0.3), np.ones((100, 3))])
    for alignment in alignments:  # nothing is to be compiled while time is taken
        ts.nnstd(tiny, changed(np.random.default_rng(1), tiny, 0.3), alignment=alignment)
    if NETWORKS.is_dir():
        networks = real_networks()
        if "pair" in chosen:
            one_pair(networks, options.turns)
        if "many" in chosen:
            many_pairs(networks, alignments)
        if "kept" in chosen:
            inferring(networks)
            for alignment in alignments:
                kept(networks, alignment)
    else:
        print(f"no reference networks at {NETWORKS}: those tables are left out", file=sys.stderr)
    if "wide" in chosen:
        wide(WIDE, scripts=True, alignments=alignments)
    if "widest" in chosen:
        wide(WIDEST, scripts=options.scripts, alignments=alignments)
    if "growth" in chosen:
        growth()


if __name__ == "__main__":
    main()
