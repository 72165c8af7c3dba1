"""How long it takes to follow a run over all its snapshots: from masks, and from an archive.

python bench/evolution.py
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from store import next_mask
from surroundings import surroundings

from topostrata.archive import open_archive
from topostrata.evolution.history import follow, total
from topostrata.evolution.survival import ages, kaplan_meier, survival
from topostrata.store.embedded import stop
from topostrata.topology import Mask, Topology


def masks(width: int, connections: int, snapshots: int) -> Iterator[Mask]:
    rng = np.random.default_rng(0)
    mask = Mask(width, width, np.sort(rng.choice(width * width, connections, replace=False)))
    for _ in range(snapshots):
        yield mask
        mask = next_mask(mask, rng)


def timed(layers: list[list[Mask]]) -> float:
    began = time.perf_counter()
    followed = [follow(f"l{k}", enumerate(layer)) for k, layer in enumerate(layers)]
    for layer in (*followed, total(followed)):
        survival(layer), ages(layer), kaplan_meier(layer)
    return time.perf_counter() - began


def main() -> None:
    print(surroundings("numpy", "arcadedb-embedded"))
    print("\n| snapshots | connections each | from | seconds |\n| --- | --- | --- | --- |")
    small = [list(masks(784, 5_000, 1_000)) for _ in range(4)]
    print(f"| 1,000 | 20,000 in four layers | masks | {timed(small):.1f} |", flush=True)
    large = [list(masks(8_000, 3_200_000, 10))]
    print(f"| 10 | 3,200,000 in one layer | masks | {timed(large):.1f} |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "archive"
        with open_archive(str(store)) as archive:
            for step in range(300):
                topology = Topology.from_masks([layer[step] for layer in small])
                archive.push("run", step, topology, projection="none")
            fresh = archive.reopened()
            began = time.perf_counter()
            fresh.history("run")
            print(f"| 300 | 20,000 in four layers | archive | {time.perf_counter() - began:.1f} |")
        stop(store, force=True)


if __name__ == "__main__":
    main()
