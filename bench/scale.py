"""How the cost of an archive grows, and what that says of sizes that nobody waited for: the tables of docs/scale.md.

    python bench/scale.py measure [--part runs] [--store embedded] [--projection none] [--seconds 60] --into FILE
    python bench/scale.py print FILE

Networks of 784-300-100-10 at 5 % (13,310 connections), a fifth of which is replaced at every snapshot. Four parts,
each on both stores, with masks only and projected:

- ``runs``: new runs of two snapshots, as many as the time allows; by how many runs there are already
- ``snapshots``: pushes to one run; by how many snapshots it has already
- ``connections``: first snapshots of 3,000 to 300,000 connections between 3 x 2,000 neurons (30,000 where projected)
- ``neurons``: first snapshots of 10,000 connections between 1,000 to 30,000 neurons

What is measured is processor time, of the engine and of the client, and bytes on the disk; a line is laid through the
second half of the points by least squares, and its errors are the standard errors of that. ``print`` extrapolates: as
if nothing grew, and "at most" as if all grew by its slope and two standard errors more. Each part
ends by itself within ``--seconds`` a store and projection, and is added to FILE, so that they can be run one by one.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy import stats
from store import CHURN, NEO4J, embedded, next_mask, processor_s, server
from surroundings import surroundings

from topostrata.archive import Archive
from topostrata.projections import Projection
from topostrata.topology import Mask, Topology

WIDTHS = (784, 300, 100, 10)
DENSITY = 0.05
SIZES = (3_000, 10_000, 30_000, 100_000, 300_000)  # connections
NEURONS = (1_000, 3_000, 10_000, 30_000)
# Sizes of files lag behind by what waits in memory: a server that writes often lags little.
STORES: dict[str, Callable[[], AbstractContextManager[tuple[Archive, int]]]] = {
    "embedded": embedded,
    NEO4J: partial(server, db__checkpoint__interval__time="1s"),
}
PARTS = ("runs", "snapshots", "connections", "neurons")
LIMIT = 1_900_000  # relationships, after which a part ends: the embedded engine projects no more than 2 million


@dataclass(slots=True)
class Series:
    """What one part cost: a point for each block of work."""

    part: str
    store: str
    projection: str
    at: list[float] = field(default_factory=list)  # items there already, or the size of the item
    engine_ms: list[float] = field(default_factory=list)  # an item
    client_ms: list[float] = field(default_factory=list)  # an item
    list_ms: list[float] = field(default_factory=list)  # engine and client, to list all runs
    kilobytes: list[float] = field(default_factory=list)  # of the store, after the block
    relationships: list[int] = field(default_factory=list)  # after the block


def network(widths: tuple[int, ...], connections: list[int], seed: int) -> Topology:
    rng = np.random.default_rng(seed)
    return Topology.from_masks(
        [
            Mask(a, b, np.sort(rng.choice(a * b, nnz, replace=False)))
            for (a, b), nnz in zip(pairwise(widths), connections, strict=True)
        ]
    )


def rewired(seed: int) -> Iterator[Topology]:
    """The snapshots of one run."""
    rng = np.random.default_rng(seed)
    topology = network(WIDTHS, [round(DENSITY * a * b) for a, b in pairwise(WIDTHS)], seed)
    while True:
        yield topology
        topology = Topology.from_masks([next_mask(layer.mask, rng) for layer in topology.layers])


def kilobytes(folder: Path) -> float:
    """What the files of a folder hold, logs of transactions aside, which are thrown away in time."""
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and f.suffix != ".wal") / 1e3


def place(pid: int) -> Path:
    """Where the database of the engine of that pid lies."""
    words = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").split("\0")
    home = next((word.partition("=")[2] for word in words if word.startswith("--home-dir=")), None)
    return Path(home) / "data" / "databases" if home else Path(f"/proc/{pid}/cwd").resolve() / "databases"


def measured(series: Series, archive: Archive, pid: int, seconds: float) -> None:
    """Blocks of work until the time is over."""
    projection: Projection = "none" if series.projection == "none" else "all"
    archive._store.relationship_limit = 10**9  # noqa: SLF001 - LIMIT is ours
    for k in range(10):  # what has never run is slow, and is not what grows
        for step, topology in zip(range(5), rewired(k), strict=False):
            archive.push(f"warm{k}", step, topology, projection="none" if k < 7 else projection)
    work = {"runs": runs, "snapshots": snapshots, "connections": connections, "neurons": neurons}[series.part]
    blocks = work(archive, projection)
    folder = place(pid)
    began = time.monotonic()
    while time.monotonic() - began < seconds and (series.relationships or [0])[-1] < LIMIT:
        at, items, push, born = next(blocks)
        engine, client = processor_s(pid), time.process_time()
        push()
        series.at.append(at)
        series.engine_ms.append(1000 * (processor_s(pid) - engine) / items)
        series.client_ms.append(1000 * (time.process_time() - client) / items)
        if series.part == "runs":
            engine, client = processor_s(pid), time.process_time()
            for _ in range(5):
                archive.runs()
            series.list_ms.append(200 * (processor_s(pid) - engine + time.process_time() - client))
        series.kilobytes.append(kilobytes(folder))
        series.relationships.append((series.relationships or [0])[-1] + (born if projection == "all" else 0))


Block = tuple[float, int, Callable[[], None], int]  # where, how many items, the work, connections that are born


def births(topology: Topology) -> int:
    """Of the next snapshot after this one."""
    return sum(round(CHURN * layer.mask.nnz) for layer in topology.layers)


def runs(archive: Archive, projection: Projection) -> Iterator[Block]:
    items = 20 if projection == "none" else 4
    for start in range(0, 10**9, items):
        made = [list(zip(range(2), rewired(1000 + start + k), strict=False)) for k in range(items)]

        def push(start: int = start, made: list[list[tuple[int, Topology]]] = made) -> None:
            for k, steps in enumerate(made):
                for step, topology in steps:
                    archive.push(f"r{start + k}", step, topology, projection=projection)

        yield start + items / 2, items, push, sum(t.nnz + births(t) for ((_, t), _) in made)


def snapshots(archive: Archive, projection: Projection) -> Iterator[Block]:
    items = 20 if projection == "none" else 5
    source = rewired(1)
    for start in range(0, 10**9, items):
        made = [next(source) for _ in range(items)]

        def push(start: int = start, made: list[Topology] = made) -> None:
            for k, topology in enumerate(made):
                archive.push("long", start + k, topology, projection=projection)

        born = items * births(made[0]) + (0 if start else made[0].nnz)
        yield start + items / 2, items, push, born


def by_size(
    archive: Archive, projection: Projection, sizes: tuple[int, ...], of: Callable[[int, int], Topology]
) -> Iterator[Block]:
    """First snapshots of all sizes in turn, each turn in another order, so that nothing else grows with the size."""
    rng = np.random.default_rng(0)
    for turn in range(10**9):
        for size in rng.permutation(sizes).tolist():
            topology = of(size, turn)

            def push(size: int = size, turn: int = turn, topology: Topology = topology) -> None:
                archive.push(f"s{size}-{turn}", 0, topology, projection=projection)

            yield size, 1, push, topology.nnz


def connections(archive: Archive, projection: Projection) -> Iterator[Block]:
    sizes = SIZES if projection == "none" else SIZES[:-2]
    return by_size(archive, projection, sizes, lambda size, seed: network((2000, 2000, 2000), [size // 2] * 2, seed))


def neurons(archive: Archive, projection: Projection) -> Iterator[Block]:
    return by_size(archive, projection, NEURONS, lambda size, seed: network((size // 2, size // 2), [10_000], seed))


@dataclass(frozen=True, slots=True)
class Line:
    """``y = level + slope * (x - middle)`` by least squares; the errors of the two are independent."""

    level: float
    slope: float
    level_error: float
    slope_error: float
    middle: float  # the mean of x

    def bound(self, x: float) -> float:
        """What y is at most at x, if it grows no faster than its slope and two standard errors more."""
        steepest = max(0.0, self.slope + 2 * self.slope_error)
        return self.level + 2 * self.level_error + steepest * max(0.0, x - self.middle)


def line(x: Iterable[float], y: Iterable[float]) -> Line:
    xs, ys = np.asarray([*x], dtype=float), np.asarray([*y], dtype=float)
    fit = stats.linregress(xs, ys)
    rest = ys - fit.intercept - fit.slope * xs
    level_error = float(np.sqrt((rest @ rest) / (len(xs) - 2) / len(xs)))
    return Line(float(ys.mean()), fit.slope, level_error, fit.stderr, float(xs.mean()))


def warm(series: Series, values: list[float]) -> Line:
    """Through the second half of the points: in the first half the engine compiles itself, and gets quicker by that."""
    half = len(values) // 2
    return line(series.at[half:], values[half:])


def shown(value: float, error: float) -> str:
    """A value with its standard error, to two digits of that."""
    digits = max(0, 1 - int(np.floor(np.log10(error)))) if error > 0 else 3
    return f"{value:,.{digits}f} ± {error:,.{digits}f}"


def table(*heads: str) -> None:
    print(f"\n| {' | '.join(heads)} |\n| --- | ---{' | ---:' * (len(heads) - 2)} |")


def row(series: Series, *cells: str) -> None:
    graph = "masks" if series.projection == "none" else "connections too"
    print(f"| {series.store} | {graph} | {' | '.join(cells)} |")


def print_slopes(all_: list[Series]) -> None:
    for part in PARTS:
        per = 1000 if part in {"connections", "neurons"} else 100
        print(f"\n{part}:")
        more = f"for {per:,} more"
        table("store", "graph has", "up to", "points", "engine, ms", more, "client, ms", more)
        for s in all_:
            if s.part == part:
                fits = [warm(s, s.engine_ms), warm(s, s.client_ms)]
                cells = [
                    cell
                    for fit in fits
                    for cell in (shown(fit.level, fit.level_error), shown(per * fit.slope, per * fit.slope_error))
                ]
                row(s, f"{max(s.at):,.0f}", str(len(s.at)), *cells)


def pairs(all_: list[Series]) -> Iterator[tuple[Series, Series]]:
    """The parts ``runs`` and ``snapshots`` of each store and projection."""
    by = {(s.store, s.projection, s.part): s for s in all_}
    for (store, projection, part), s in by.items():
        if part == "runs" and (store, projection, "snapshots") in by:
            yield s, by[store, projection, "snapshots"]


def print_sizes(all_: list[Series]) -> None:
    table("store", "graph has", "kB a snapshot", "bytes a relationship", "list of all runs, ms", "for 1,000 runs more")
    for many, long in pairs(all_):
        size = warm(long, long.kilobytes)
        each = "-"
        if many.projection == "all":
            growth = line(many.relationships, many.kilobytes)
            each = shown(1000 * growth.slope, 1000 * growth.slope_error)
        listing = warm(many, many.list_ms)
        row(
            many,
            shown(size.slope, size.slope_error),
            each,
            shown(listing.level, listing.level_error),
            shown(1000 * listing.slope, 1000 * listing.slope_error),
        )


def print_extrapolated(all_: list[Series], runs_: int = 10_000, snapshots_: int = 100) -> None:
    """A run's first two snapshots in an archive half full, and the others at the middle of the run's length."""
    print(f"\n{runs_:,} runs x {snapshots_} snapshots:")
    table("store", "graph has", "engine, hours", "at most", "client, hours", "at most", "GB")
    for many, long in pairs(all_):
        cells = []
        for name in ("engine_ms", "client_ms"):
            run, push = warm(many, getattr(many, name)), warm(long, getattr(long, name))
            rest = snapshots_ - 2
            hours = runs_ * (run.level + rest * push.level) / 3.6e6
            error = runs_ * float(np.hypot(run.level_error, rest * push.level_error)) / 3.6e6
            most = runs_ * (run.bound(runs_ / 2) + rest * push.bound(snapshots_ / 2)) / 3.6e6
            cells += [shown(hours, error), f"{most:,.1f}"]
        first, later = line(many.at, many.kilobytes), warm(long, long.kilobytes)
        size = runs_ * (first.slope + (snapshots_ - 2) * later.slope) / 1e6
        error = runs_ * float(np.hypot(first.slope_error, (snapshots_ - 2) * later.slope_error)) / 1e6
        row(many, *cells, shown(size, error))


def print_relationships(all_: list[Series], count: float = 1e8) -> None:
    print(f"\n{count / 1e6:,.0f} M relationships:")
    table("store", "graph has", "measured to", "ms for 1,000", "for 1 M more", "engine, hours", "at most", "GB")
    for s in all_:
        if s.part != "runs" or s.projection == "none":
            continue
        there = np.asarray([0, *s.relationships], dtype=float)
        thousands = np.diff(there) / 1000  # of each block, which has as many runs
        half = len(thousands) // 2
        runs_ = 2 * s.at[0]
        cost = line(((there[1:] + there[:-1]) / 2)[half:], (np.asarray(s.engine_ms) * runs_ / thousands)[half:])
        size = line(s.relationships, s.kilobytes)
        row(
            s,
            f"{there[-1] / 1e6:.1f} M",
            shown(cost.level, cost.level_error),
            shown(1e6 * cost.slope, 1e6 * cost.slope_error),
            shown(count / 1e3 * cost.level / 3.6e6, count / 1e3 * cost.level_error / 3.6e6),
            f"{count / 1e3 * cost.bound(count / 2) / 3.6e6:,.1f}",
            shown(count * size.slope / 1e6, count * size.slope_error / 1e6),
        )


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("do", choices=["measure", "print"])
    options.add_argument("file", nargs="?", type=Path, help="with print: what was measured")
    options.add_argument("--part", choices=PARTS, help="only this part")
    options.add_argument("--store", choices=STORES, help="only this store")
    options.add_argument("--projection", choices=["none", "all"], help="only masks, or connections too")
    options.add_argument("--seconds", type=float, default=60.0, help="for each part, store and projection")
    options.add_argument("--into", type=Path, metavar="FILE", default=Path("scale.json"))
    chosen = options.parse_args()
    if chosen.do == "print":
        everything = json.loads(Path(chosen.file).read_text(encoding="utf-8"))
        all_ = [Series(**record) for record in everything["series"]]
        print(everything["surroundings"], "\n")
        for show in (print_slopes, print_sizes, print_extrapolated, print_relationships):
            show(all_)
        return
    for part in PARTS:
        for store, opened in STORES.items():
            for projection in ("none", "all"):
                if any(
                    w not in {None, h}
                    for w, h in zip(
                        (chosen.part, chosen.store, chosen.projection), (part, store, projection), strict=True
                    )
                ):
                    continue
                series = Series(part, store, projection)
                with opened() as (archive, pid):
                    measured(series, archive, pid, chosen.seconds)
                keep(chosen.into, series)
                print(part, store, projection, len(series.at), "points, load", os.getloadavg()[0], flush=True)


def keep(file: Path, series: Series) -> None:
    """Add to the file, in the place of what it had of the same."""
    there = json.loads(file.read_text(encoding="utf-8"))["series"] if file.exists() else []
    key = ("part", "store", "projection")
    new = asdict(series)
    there = [*(old for old in there if any(old[k] != new[k] for k in key)), new]
    there.sort(key=lambda record: (PARTS.index(record["part"]), record["store"], record["projection"] != "none"))
    text = f"{surroundings('neo4j', 'arcadedb-embedded', 'numpy')}; Neo4j {NEO4J}"
    file.write_text(json.dumps({"surroundings": text, "series": there}), encoding="utf-8")


if __name__ == "__main__":
    main()
