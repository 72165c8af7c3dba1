"""Pairs that are independent by construction, and the z that ``nnstd(chance="degrees")`` gives each of their layers.

``python bench/chance.py [ALIGNMENT] [PAIRS]``: degree-kept copies of neighbours (w0 and w1, w1 and w2, .., the last
and w0), of each equally many, PAIRS (200) in all, compared by ALIGNMENT (overlap). All pairs of two neighbours have the
same degrees and so the same 12 draws of chance. The networks: the published ones (``TOPOSTRATA_REFERENCE_TOPOLOGIES``,
default ../shared/set-topologies) at epochs 0 and 50, and the families of ``bench/overlap.py`` of 200 and 400 hidden
units a layer, before training and after 150 epochs. Then what chance costs for two published networks that were not met
before, in CPU seconds of one thread. Prints the tables of docs/benchmarks-distance.md. Needs the extra ``demo``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np
from overlap import members, published, trained
from surroundings import surroundings

import topostrata as ts
from topostrata.copies import degree_kept
from topostrata.distance.alignments import definition_of

SEED = 20261127
EPOCHS = 150


def sets() -> Iterator[tuple[str, list[ts.Topology]]]:
    """Networks of one kind by name."""
    networks = published()
    for epoch in (0, 50):
        if f"w0@{epoch}" in networks:
            yield f"published, epoch {epoch}", [networks[f"w{k}@{epoch}"] for k in range(5)]
    for width in (200, 400):
        yield f"{width} wide, epoch 0", [member.topology for member in members(width)]
        yield f"{width} wide, epoch {EPOCHS}", trained(width, EPOCHS)


def row(name: str, networks: Sequence[ts.Topology], alignment: str, pairs: int) -> tuple[str, int]:
    """A row of the table, and how many of the pairs have all layers within 3 deviations."""
    definition = definition_of(alignment)
    found = []
    for pair in range(pairs):
        sides = [networks[(pair + side) % len(networks)] for side in (0, 1)]
        a, b = (degree_kept(network, [SEED, pair, side]) for side, network in enumerate(sides))
        distance = ts.nnstd(a, b, alignment=definition.name, chance="degrees")
        found.append([layer.z for layer in distance.layers])
    z = np.array([[value for value in values if value is not None] for values in found])
    within = int((np.abs(z) < 3).all(axis=1).sum())
    layers = ", ".join(f"{mean:+.2f} / {spread:.2f}" for mean, spread in zip(z.mean(0), z.std(0, ddof=1), strict=True))
    shares = f"{within} ({within / pairs:.1%}) | {(np.abs(z) < 3).mean():.1%}"
    return f"| {name} | {pairs} | {shares} | {layers} | {np.abs(z).max():.2f} |", within


def cost(alignment: str) -> str:
    """What a new pair of degrees costs, and the same pair again."""
    networks, definition = published(), definition_of(alignment)
    ts.nnstd(networks["w2@0"], networks["w3@0"], alignment=definition.name, chance="degrees")  # compiles
    seconds = []
    for _ in range(2):
        begin = time.process_time()
        ts.nnstd(networks["w0@50"], networks["w4@50"], alignment=definition.name, chance="degrees")
        seconds.append(time.process_time() - begin)
    return f"w0@50 and w4@50, {alignment}: {seconds[0]:.2f} s of CPU for 12 draws, {seconds[1]:.3f} s again."


def main(alignment: str, pairs: int) -> None:
    """Print the table, row by row, and the cost."""
    print(f"{surroundings('numpy', 'numba')}.\n\n{cost(alignment)}\n")
    print("| networks | pairs | all layers within 3 | of all layers | mean / spread of z, layer by layer | largest |")
    print("| --- | ---: | --- | ---: | --- | ---: |")
    totals = []
    for name, networks in sets():
        line, within = row(name, networks, alignment, pairs)
        totals.append(within)
        print(line, flush=True)
    print(f"\n{sum(totals)} of {pairs * len(totals)} pairs: {sum(totals) / (pairs * len(totals)):.1%}.")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "overlap", int(sys.argv[2]) if len(sys.argv) > 2 else 200)
