"""Pairs that are independent by construction, and the z that ``nnstd(chance="degrees")`` gives each of their layers.

``python bench/chance.py DIR EPOCH ALIGNMENT [PAIRS]``: DIR holds the networks e5_s0_w0 to e5_s0_w4. PAIRS (100)
degree-kept copies of neighbours (w0 and w1, .., w4 and w0) are compared, of each neighbours equally many. All pairs of
two neighbours have the same degrees and so the same 12 draws of chance. Prints a row of the table in
docs/benchmarks-distance.md.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

import topostrata as ts
from topostrata.distance.alignments import definition_of
from topostrata.ingest.formats.reading import read_one
from topostrata.refs import parse_path_ref

SEED = 20261127


def main(folder: Path, epoch: int, alignment: str, pairs: int) -> None:
    """Compare ``pairs`` independent pairs and print how far their layers lie from chance."""
    definition = definition_of(alignment)
    networks = [read_one(parse_path_ref(f"{folder}/e5_s0_w{k}@{epoch}")).topology for k in range(5)]
    begin = time.perf_counter()
    rows = []
    for pair in range(pairs):
        sides = [networks[(pair + side) % 5] for side in (0, 1)]
        a, b = (ts.degree_kept(network, [SEED, pair, side]) for side, network in enumerate(sides))
        distance = ts.nnstd(a, b, alignment=definition.name, chance="degrees")
        rows.append([row.z for row in distance.layers])
        if pair % 10 == 9:
            print(f"{pair + 1} pairs, {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
    z = np.array([[value for value in row if value is not None] for row in rows])
    within = int((np.abs(z) < 3).all(axis=1).sum())
    layers = ", ".join(f"{mean:+.2f} / {spread:.2f}" for mean, spread in zip(z.mean(0), z.std(0, ddof=1), strict=True))
    print(
        f"| {epoch} | {alignment} | {pairs} | {within} ({within / pairs:.1%}) | {(np.abs(z) < 3).mean():.1%} | {layers}"
        f" | {np.abs(z).max():.2f} |"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else 100)
