"""What the graph takes and gives a second, on the embedded engine and on a real Neo4j, in one run.

    python bench/store.py [--large]
    python bench/store.py --flat 2000 [--last 50]
    python bench/store.py --disk

Random sparse layers, 20 % of whose connections are replaced at each snapshot: 20,000 connections in four layers, and
with ``--large`` 1,000,000. Printed: snapshots acknowledged (masks, flushed to disk) a second and connections a second,
bytes a connection, connections born and died in the graph a second, and connections read back a second. Rates come in
pairs: at the beginning, when the engine has compiled little of itself, and later on (the last third).

``--flat`` shows instead what a push costs as a run grows long: a SET run of 784-784-784-784-10 with 2,400 births and
as many deaths a step, up to that step. Printed: processor time of the engine and of the client a push, over 40 pushes.
The snapshots between are projected 200 at a time, which gives the same graph (``--each`` pushes them one by one).
With ``--last N`` the graph keeps the newest N snapshots only: all are pushed one by one, and
printed is also what the embedded engine's files of connections take then, and how many connections they hold.

``--disk`` shows what an embedded archive of 90 networks takes, by what its files hold, with all connections projected
and with none: five runs of the published networks, each with its three snapshots and 15 more, in each of which 3 % of
the connections of the layer before are moved. Printed: bytes for each connection of each snapshot, after the engine
stopped and while it runs.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import scipy.sparse as sp
from surroundings import surroundings

from topostrata.archive import Archive, open_archive
from topostrata.store.disk import disk_bytes
from topostrata.store.embedded import status, stop
from topostrata.topology import Mask, Topology

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests import neo4j_server

CHURN = 0.2
ROUNDS = 15
NEO4J = "neo4j-5.26"
PUBLISHED = Path(os.environ.get("TOPOSTRATA_REFERENCE_TOPOLOGIES", "../shared/set-topologies"))
DISK_KINDS = ("connections", "indexes", "neurons", "masks", "other")


def next_mask(mask: Mask, rng: np.random.Generator, churn: float = CHURN) -> Mask:
    if mask.nnz == mask.size:
        return mask
    moved = round(churn * mask.nnz)
    survivors = np.delete(mask.cells, rng.choice(mask.nnz, moved, replace=False))
    born = np.setdiff1d(rng.integers(0, mask.size, 2 * moved + 10), mask.cells)
    return Mask(mask.n_source, mask.n_target, np.sort(np.append(survivors, rng.choice(born, moved, replace=False))))


def history(connections: int, snapshots: int, *, width: int) -> list[Topology]:
    rng = np.random.default_rng(0)
    nnz = connections // 4
    masks = [Mask(width, width, np.sort(rng.choice(width * width, nnz, replace=False))) for _ in range(4)]
    topologies = []
    for _ in range(snapshots):
        topologies.append(Topology.from_masks(masks))
        masks = [next_mask(mask, rng) for mask in masks]
    return topologies


def end_by_the_way_out() -> None:
    """SIGTERM ends this process as an exit does: what a benchmark started is ended, and its folders go."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


@contextmanager
def embedded() -> Iterator[tuple[Archive, int]]:
    end_by_the_way_out()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "archive"
        with open_archive(str(store)) as archive:
            yield archive, (status(store) or {})["engine_pid"]
        stop(store, force=True)


@contextmanager
def server(**settings: str) -> Iterator[tuple[Archive, int]]:
    end_by_the_way_out()
    neo4j = neo4j_server.create_server(NEO4J)
    neo4j.configure(**settings)
    # As a server is run, not as tests start one quickly.
    neo4j.command = [part for part in neo4j.command if not part.startswith(("-XX:Tiered", "-XX:+UseSerial"))]
    try:
        neo4j.start()
        with open_archive(neo4j.uri, settings=neo4j.settings()) as archive:
            yield archive, neo4j.pid
    finally:
        neo4j.stop()


def measure(name: str, archive: Archive, topologies: list[Topology], *, project: bool) -> None:
    loader = archive._loader  # noqa: SLF001 - acknowledging and projecting are told apart
    for topology in topologies:  # what the client computes once is not the store's time
        _ = topology.digest, [layer.mask.digest for layer in topology.layers]
    warm = history(2_000, 20, width=200)
    for step, topology in enumerate(warm):
        archive.push("warm", step, topology)
    before = archive.counts().mask_bytes
    nnz = topologies[0].nnz
    times = []
    for step, topology in enumerate(topologies):
        began = time.perf_counter()
        loader.acknowledge("bench", step, topology)
        times.append(time.perf_counter() - began)
    third = -(-len(times) // 3)
    rates = [third / sum(part) for part in (times[:third], times[-third:])]
    size = (archive.counts().mask_bytes - before) / nnz / len(topologies)
    fresh = archive.reopened()
    began = time.perf_counter()
    for step in range(len(topologies)):
        assert fresh.topology(f"bench@{step}").nnz == nnz
    read = time.perf_counter() - began
    births = deaths = "-"
    if project:
        births, deaths = projected(archive, topologies)
    snapshots = " / ".join(f"{rate:.0f}" for rate in rates)
    connections = " / ".join(f"{rate * nnz / 1e6:.1f}" for rate in rates)
    print(
        f"| {name} | {nnz:,} | {snapshots} | {connections} M | {size:.2f} | {births} | {deaths} "
        f"| {len(topologies) * nnz / read / 1e6:.2f} M |",
        flush=True,
    )


def projected(archive: Archive, topologies: list[Topology]) -> tuple[str, str]:
    """A second: births of a snapshot and deaths of one that has nothing left, in turn; the first and the later ones."""
    loader, first = archive._loader, topologies[0]  # noqa: SLF001
    empty = Topology.from_masks(
        [Mask(y.mask.n_source, y.mask.n_target, np.empty(0, dtype=np.int64)) for y in first.layers]
    )
    loader.acknowledge("life", 0, empty)
    loader.drawer.project("life")  # the neurons
    rates: tuple[list[float], list[float]] = [], []
    for step, topology in enumerate([t for full in topologies[:ROUNDS] for t in (full, empty)], start=1):
        loader.acknowledge("life", step, topology)
        began = time.perf_counter()
        loader.drawer.project("life")
        rates[1 - step % 2].append(first.nnz / (time.perf_counter() - began))
    born, died = (f"{all_[0] / 1000:.0f} / {statistics.median(all_[-ROUNDS // 3 :]) / 1000:.0f} k" for all_ in rates)
    return born, died


def rewiring(steps: int) -> Iterator[Topology]:
    """A run of 784-784-784-784-10, in which 800 connections of each large layer are replaced at every step."""
    rng = np.random.default_rng(0)
    masks = [Mask(784, 784, np.sort(rng.choice(784 * 784, 4_000, replace=False))) for _ in range(3)]
    last = Mask(784, 10, np.sort(rng.choice(7_840, 800, replace=False)))
    for _ in range(steps):
        yield Topology.from_masks([*masks, last])
        masks = [next_mask(mask, rng) for mask in masks]


def processor_s(pid: int) -> float:
    """The processor time that a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def flat(name: str, archive: Archive, pid: int, steps: int, *, each: bool, last: int | None) -> None:
    """Rows of a table: the cost of a push in the first 40 steps after the warming up, and around later ones."""
    archive._store.relationship_limit = 2 * 2_400 * (steps + 100)  # noqa: SLF001 - else the projection would stop
    loader = archive._loader  # noqa: SLF001
    for step, topology in enumerate(rewiring(60)):
        archive.push("warm", step, topology)
    marks = [mark for mark in (20, 100, 200, 300, 1_000, 2_000, 5_000, 10_000) if mark + 40 <= steps + 40]
    began: tuple[float, float] = 0.0, 0.0
    for step, topology in enumerate(rewiring(marks[-1] + 40)):
        if step in marks:
            loader.drawer.project("flat")
            began = processor_s(pid), time.process_time()
        if each or any(mark <= step < mark + 40 for mark in marks):
            archive.push("flat", step, topology, projection="all" if last is None else f"last {last}")
        else:
            loader.acknowledge("flat", step, topology)
            if step % 200 == 199:
                loader.drawer.project("flat")
        if step - 39 in marks:
            engine, client = (1000 * (processor_s(pid) - began[0]) / 40, 1000 * (time.process_time() - began[1]) / 40)
            held = "" if last is None else f" {taken(archive)} |"
            print(f"| {name} | {step - 39:,} | {engine:.0f} | {client:.0f} |{held}", flush=True)


def taken(archive: Archive) -> str:
    """The bytes of the files of connections, and how many connections the run has in the graph."""
    lives = sum(layer.lifetimes for layer in archive.layers("flat"))
    return f"{archive.counts().disk.get('connections', 0):,} | {lives:,}"


def published(snapshots: int) -> Iterator[tuple[str, list[Topology]]]:
    """The published runs, each with as many snapshots: its own three, then ones made by moving 3 %."""
    rng = np.random.default_rng(0)
    for folder in sorted(path for path in PUBLISHED.iterdir() if path.is_dir()):
        networks = []
        for epoch in sorted(folder.glob("epoch_*")):
            masks = [sp.csr_array(sp.load_npz(file))[:-1] for file in sorted(epoch.glob("weight_l*.npz"))]
            networks.append(Topology.from_masks(masks, zeros="absent"))
        while len(networks) < snapshots:
            networks.append(Topology.from_masks([next_mask(y.mask, rng, 0.03) for y in networks[-1].layers]))
        yield folder.name, networks


def disk(projection: Literal["all", "none"]) -> None:
    """Rows of a table: bytes a connection and snapshot, of all files and by what they hold."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "archive"
        connections = 0
        with open_archive(str(store)) as archive:
            for run, networks in published(18):
                for step, topology in enumerate(networks):
                    archive.push(run, step, topology, projection=projection)
                    connections += topology.nnz
            lives = archive.cypher("MATCH ()-[c:CONNECTS]->() RETURN count(c) AS lives").rows[0][0]
            running = sum(archive.counts().disk.values())
        stop(store, force=True)
        kinds = disk_bytes(store)
    cells = (sum(kinds.values()), running, *(kinds[kind] for kind in DISK_KINDS))
    print(f"| {projection} | {lives:,} | {' | '.join(f'{size / connections:.2f}' for size in cells)} |", flush=True)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--flat", type=int, metavar="STEPS", help="show the cost of a push up to this step instead")
    options.add_argument("--each", action="store_true", help="with --flat: push every snapshot by itself")
    options.add_argument("--last", type=int, metavar="N", help="with --flat: keep the newest N snapshots in the graph")
    options.add_argument("--disk", action="store_true", help="show what an embedded archive takes on the disk instead")
    options.add_argument("--only", choices=["embedded", NEO4J], help="only this store")
    options.add_argument("--large", action="store_true", help="also 1,000,000 connections a snapshot")
    chosen = options.parse_args()
    stores = [
        (name, opened) for name, opened in (("embedded", embedded), (NEO4J, server)) if chosen.only in {None, name}
    ]
    print(surroundings("neo4j", "arcadedb-embedded", "numpy"), f"; Neo4j {NEO4J}\n")
    if chosen.disk:
        print(f"| projected | lives | stopped | running | {' | '.join(DISK_KINDS)} |")
        print(f"| --- {'| ---: ' * (3 + len(DISK_KINDS))}|", flush=True)
        disk("all")
        disk("none")
        return
    if chosen.flat:
        more = ("", "") if chosen.last is None else (" bytes of connections | connections |", " ---: | ---: |")
        print(f"| store | step | engine, CPU ms a push | client, CPU ms |{more[0]}", flush=True)
        print(f"| --- | ---: | ---: | ---: |{more[1]}", flush=True)
        for name, opened in stores:
            with opened() as (archive, pid):
                each = chosen.each or chosen.last is not None
                flat(name, archive, pid, chosen.flat, each=each, last=chosen.last)
        return
    print("A rate of the beginning, and one of later on.\n")
    print("| store | connections | snapshots/s | connections/s | bytes each | births/s | deaths/s | read back/s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    cases = [(history(20_000, 300, width=784), True)]
    if chosen.large:
        cases.append((history(1_000_000, 9, width=4000), False))
    for topologies, project in cases:
        for name, opened in stores:
            with opened() as (archive, _):
                measure(name, archive, topologies, project=project)


if __name__ == "__main__":
    main()
