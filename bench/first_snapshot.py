"""What the engine itself takes to make the graph of a first snapshot: 20,000 connections of 784-1000-1000-10.

    python bench/first_snapshot.py [--times 10]

Processor time of the embedded engine for what a push does, for masks alone, and for the quickest text that makes the
same neurons and relationships: one statement that looks nothing up, and another whose relationships have neither
properties nor an entry in an index. The ways take turns; the first of each, while the engine compiles, do not count.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import neo4j
import numpy as np
import scipy.sparse as sp
from store import processor_s
from surroundings import surroundings

from topostrata.archive import Archive, open_archive
from topostrata.ingest.transform import alive_keys
from topostrata.store.embedded import status, stop
from topostrata.topology import Topology

WIDTHS = (784, 1000, 1000, 10)
DENSITY = 0.0112
WARMING = 6

_MAKE = """
UNWIND $spaces AS s
UNWIND range(0, s[1] - 1) AS i
CREATE (n:Neuron {id: $run + '/' + s[0] + '/' + toString(i), run: $run, space: s[0], index: i})
WITH collect(n) AS neurons
UNWIND $groups AS g
UNWIND g[2] AS row
WITH g[1] AS layer, row, neurons[g[0]] AS a, neurons[row[0]] AS b
CREATE (a)-[c:CONNECTS PROPERTIES]->(b)
RETURN count(c) AS born
"""
WHOLE = _MAKE.replace("PROPERTIES", "{run: $run, layer: layer, tap: 0, born_step: 0, alive: row[1]}")
BARE = _MAKE.replace("PROPERTIES", "")


def network() -> Topology:
    rng = np.random.default_rng(5)
    return Topology.from_masks(
        [sp.random_array(shape, density=DENSITY, rng=rng, format="csr") for shape in pairwise(WIDTHS)]
    )


def groups(run: str, topology: Topology) -> list[list[object]]:
    """Rows of a source, its layer, and its targets with their keys; units are numbered through all spaces."""
    rows: list[list[object]] = []
    first = 0
    for layer in topology.layers:
        sources, targets, _ = layer.shape.units_of(layer.mask.cells)
        keys = alive_keys(f"{run}/{layer.name}", layer.mask.cells)
        for source in np.unique(sources).tolist():
            theirs = sources == source
            numbers = targets[theirs] + first + layer.shape.source.size
            rows.append([first + source, layer.name, np.stack([numbers, keys[theirs]], axis=1).tolist()])
        first += layer.shape.source.size
    return rows


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--times", type=int, default=10)
    times = options.parse_args().times
    topology = network()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "archive"
        with open_archive(store) as archive:
            archive.push("first", 0, topology)  # so that all labels and indexes are there
            print(f"`python bench/first_snapshot.py`, {surroundings('arcadedb-embedded')}\n")
            for name, spent in measured(archive, store, topology, times).items():
                print(f"| {name} | {1000 * min(spent):.0f} | {1000 * statistics.median(spent):.0f} |")
        stop(store, force=True)


def measured(archive: Archive, store: Path, topology: Topology, times: int) -> dict[str, list[float]]:
    """Processor seconds of the engine, by way."""
    known = archive._store.connection  # noqa: SLF001 - the bench asks past the product
    driver = neo4j.GraphDatabase.driver(known.uri, auth=(known.user, known.password))

    def said(text: str) -> Callable[[str], object]:
        layers = [layer.shape for layer in topology.layers]
        spaces = [[space.name, space.size] for space in [layers[0].source, *(layer.target for layer in layers)]]

        def make(run: str) -> object:
            rows = groups(run, topology)
            return driver.execute_query(text, run=run, spaces=spaces, groups=rows, database_=known.database)

        return make

    ways: dict[str, Callable[[str], object]] = {
        "a push": lambda run: archive.push(run, 0, topology),
        "a push, masks alone": lambda run: archive.push(run, 0, topology, projection="none"),
        "one statement, all properties and the index": said(WHOLE),
        "one statement, bare relationships": said(BARE),
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    pid = (status(store) or {})["engine_pid"]
    with driver:
        for at in range(WARMING + times):
            for number, (name, make) in enumerate(ways.items()):
                before = processor_s(pid)
                make(f"r{number}-{at}")
                if at >= WARMING:
                    spent[name].append(processor_s(pid) - before)
    return spent


if __name__ == "__main__":
    main()
