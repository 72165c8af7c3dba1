"""How long each question of the Cypher cookbook takes on a larger archive, on the embedded engine and on a real Neo4j.

    python bench/cypher.py [--small] [--runs 5] [--snapshots 50] [--connections 100000] [--only embedded]

Runs of 784-1000-1000-1000-10 that begin as one network, each a child of the one before, 20 % of whose connections are
replaced at every snapshot. Printed: seconds of each question as a user waits for it, the first time and the second, and
its rows; what takes longer than 2 s the second time is marked. ``--small`` (2 runs of 10 snapshots of 10,000
connections) is a quick look.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from store import NEO4J, embedded, next_mask, server
from surroundings import surroundings

from topostrata import queries
from topostrata.archive import Archive
from topostrata.errors import TopostrataError
from topostrata.runs import Parent
from topostrata.topology import Mask, Topology

WIDTHS = (784, 1000, 1000, 1000, 10)
LAST = 2_000  # connections of the last layer, a fifth of all that it can have
GOAL_S = 2.0
MOST_S = 60.0


def snapshots(count: int, connections: int, seed: int) -> Iterator[Topology]:
    """All runs begin as the same network, and are rewired each in its own way."""
    rng = np.random.default_rng(0)
    each = [(connections - LAST) // 3] * 3 + [LAST]
    masks = [
        Mask(a, b, np.sort(rng.choice(a * b, nnz, replace=False)))
        for a, b, nnz in zip(WIDTHS, WIDTHS[1:], each, strict=False)
    ]
    rng = np.random.default_rng([0, seed])
    for _ in range(count):
        yield Topology.from_masks(masks)
        masks = [next_mask(mask, rng) for mask in masks]


def fill(archive: Archive, runs: int, count: int, connections: int) -> None:
    archive._store.relationship_limit = 10**9  # noqa: SLF001 - else a long projection would stop
    loader = archive._loader  # noqa: SLF001 - connections are written a few snapshots at a time
    for k in range(runs):
        parents = [Parent(f"w{k - 1}", 0, "perturbation")] if k else []
        archive.create_run(f"w{k}", tags=["set"], parents=parents)
        for step, topology in enumerate(snapshots(count, connections, seed=k)):
            loader.acknowledge(f"w{k}", step, topology, metrics={"accuracy": 0.5 + step / 1000})
            if step % 10 == 9 or step == count - 1:
                loader.drawer.project(f"w{k}")


def parameters(example: Mapping[str, Any], count: int) -> dict[str, Any]:
    """A question's own example, with steps that the runs here have."""
    steps = {"step": count // 2, "at": count // 2, "to": count - 1}
    return {name: steps.get(name, value) if isinstance(value, int) else value for name, value in example.items()}


def ask(archive: Archive, text: str, given: dict[str, Any]) -> tuple[float, str]:
    began = time.perf_counter()
    try:
        rows = str(len(archive.cypher(text, given, limit=100_000, timeout_s=MOST_S).rows))
    except TopostrataError as error:
        rows = f"{error.code}: {error.message}"
    return time.perf_counter() - began, rows


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--small", action="store_true", help="2 runs of 10 snapshots of 10,000 connections")
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--snapshots", type=int, default=50)
    options.add_argument("--connections", type=int, default=100_000)
    options.add_argument("--only", choices=["embedded", NEO4J], help="only this store")
    options.add_argument("--queries", nargs="*", metavar="NAME", help="only these questions")
    chosen = options.parse_args()
    size = (2, 10, 10_000) if chosen.small else (chosen.runs, chosen.snapshots, chosen.connections)
    print(surroundings("neo4j", "arcadedb-embedded", "numpy"), f"; Neo4j {NEO4J}")
    print("{:,} runs of {:,} snapshots of {:,} connections\n".format(*size))
    print("| store | question | first, s | second, s | rows | |\n| --- | --- | ---: | ---: | ---: | --- |", flush=True)
    for name, opened in (("embedded", embedded), (NEO4J, server)):
        if chosen.only not in {None, name}:
            continue
        with opened() as (archive, _):
            fill(archive, *size)
            for path in queries.names("cookbook"):
                question = path.removeprefix("cookbook/")
                if chosen.queries and question not in chosen.queries:
                    continue
                query = queries.load(path)
                given = parameters(query.example, size[1])
                first, _rows = ask(archive, query.text, given)
                second, rows = ask(archive, query.text, given)
                mark = "slow" if second > GOAL_S else ""
                print(f"| {name} | {question} | {first:.2f} | {second:.2f} | {rows} | {mark} |", flush=True)


if __name__ == "__main__":
    main()
