"""How many units of a match are established, and how many of those are right: ``python bench/matches.py``.

Prints the table of docs/design/015-match-and-edits.md: networks with hidden units renamed, against relatives in which a
share of the connections has moved, and against independent ones. The published networks are those of
``TOPOSTRATA_REFERENCE_TOPOLOGIES`` (default ../shared/set-topologies).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import topostrata as ts

PUBLISHED = Path(os.environ.get("TOPOSTRATA_REFERENCE_TOPOLOGIES", "../shared/set-topologies"))
SIZES = (100, 200, 200, 10)
SEED = 0

Masks = list[NDArray[np.bool_]]


def published(run: int, epoch: int) -> ts.Topology:
    """One of the published networks."""
    (frame,) = ts.read(PUBLISHED / f"e5_s0_w{run}" / f"epoch_{epoch:03d}", bias="last-row")
    return frame.topology


def drawn(random: np.random.Generator, densities: tuple[float, ...]) -> Masks:
    """The masks of a network, each cell by itself."""
    return [random.random(shape) < density for *shape, density in zip(SIZES, SIZES[1:], densities, strict=False)]


def moved(random: np.random.Generator, masks: Masks, share: float) -> Masks:
    """The masks with a share of their connections elsewhere."""
    changed = []
    for mask in masks:
        cells, free = np.flatnonzero(mask), np.flatnonzero(~mask)
        count = min(round(share * len(cells)), len(free))
        flat = mask.reshape(-1).copy()
        flat[random.choice(cells, count, replace=False)] = False
        flat[random.choice(free, count, replace=False)] = True
        changed.append(flat.reshape(mask.shape))
    return changed


def pairs(random: np.random.Generator) -> Iterator[tuple[str, ts.Topology, ts.Topology]]:
    """What is compared: a name, a network, and another one with its units in place."""
    first, last = published(0, 50), published(4, 50)
    yield "published, w0@0 - w0@50", published(0, 0), first
    yield "published, w0@50 - w4@50", first, last
    yield "published, w0@50 - w4@50 with links swapped", first, ts.degree_kept(last, SEED)
    for densities in ((0.02, 0.02, 0.1), (0.05, 0.05, 0.2), (0.1, 0.1, 0.5), (0.3, 0.3, 0.5), (1.0, 0.05, 0.5)):
        masks = drawn(random, densities)
        network = ts.Topology.from_masks(masks)
        name = "-".join(f"{density:g}" for density in densities)
        for share in (0.1, 0.3, 0.5, 0.7):
            yield f"{name}, {share:.0%} moved", network, ts.Topology.from_masks(moved(random, masks, share))
        yield f"{name}, independent", network, ts.Topology.from_masks(drawn(random, densities))


def main() -> None:
    """Print the table."""
    random = np.random.default_rng(SEED)
    print("| networks | level | units with 2 or more in common | right of these | established | right of these |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for name, a, b in pairs(random):
        places = {space.name: random.permutation(space.size) for space in b.spaces if not space.labelled}
        match = ts.match(a, b.relabelled(places))
        right = np.concatenate([space.partner == places[space.name] for space in match.spaces])
        several = np.concatenate([space.common >= 2 for space in match.spaces])
        known = np.concatenate([space.established for space in match.spaces])
        levels = " ".join(str(space.level) if space.told else "-" for space in match.spaces)
        shares = [several.mean(), right[several].mean(), known.mean(), right[known].mean() if known.any() else None]
        cells = " | ".join("-" if share is None else f"{share:.3f}" for share in shares)
        print(f"| {name} | {levels} | {cells} |")


if __name__ == "__main__":
    main()
