"""How many bytes a packed mask takes, and how fast it is packed: full, and against the one before it at 20 % churn.

python bench/codec.py
"""

from __future__ import annotations

import time

import numpy as np

from topostrata import codec
from topostrata.topology import Mask

SHAPES = ((784, 0.006), (784, 0.013), (784, 0.05), (4000, 0.01), (4472, 0.05))
CHURN = 0.2
SNAPSHOTS = 25


def next_mask(mask: Mask, rng: np.random.Generator) -> Mask:
    moved = round(CHURN * mask.nnz)
    survivors = np.delete(mask.cells, rng.choice(mask.nnz, moved, replace=False))
    born = np.setdiff1d(rng.integers(0, mask.size, 2 * moved), mask.cells)
    return Mask(mask.n_source, mask.n_target, np.sort(np.append(survivors, rng.choice(born, moved, replace=False))))


def main() -> None:
    rng = np.random.default_rng(0)
    print(f"{SNAPSHOTS} snapshots, {CHURN:.0%} of the connections replaced each time")
    print("| width | density | connections | bytes a connection: full | delta | mean | packed, M/s | read, M/s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for width, density in SHAPES:
        size = width * width
        mask = Mask(width, width, np.sort(rng.choice(size, round(density * size), replace=False)))
        base: Mask | None = None
        sizes: list[int] = []
        packing = reading = 0.0
        for _ in range(SNAPSHOTS):
            began = time.perf_counter()
            packed = codec.encode(mask, base)
            middle = time.perf_counter()
            assert codec.decode(packed.data, base).digest == mask.digest
            packing += middle - began
            reading += time.perf_counter() - middle
            sizes.append(len(packed.data))
            base, mask = mask, next_mask(mask, rng)
        nnz = mask.nnz
        total = SNAPSHOTS * nnz / 1e6
        print(
            f"| {width} | {density:.1%} | {nnz:,} | {sizes[0] / nnz:.2f} | {np.mean(sizes[1:]) / nnz:.2f} "
            f"| {sum(sizes) / SNAPSHOTS / nnz:.2f} | {total / packing:.0f} | {total / reading:.0f} |"
        )


if __name__ == "__main__":
    main()
