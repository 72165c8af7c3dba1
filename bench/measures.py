"""How long the structure panel of a snapshot takes: without spectra, with them, and a degree-kept copy.

CPU time, so that what else the machine does counts little; with OMP_NUM_THREADS=1 it is that of a quiet machine. The
networks are of the sizes that papers publish, with random masks. Run from the checkout: ``python bench/measures.py``.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from surroundings import surroundings

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.wirings import resnet18
from topostrata.copies import degree_kept
from topostrata.measures.panel import measure
from topostrata.topology import Mask, Topology, Wiring

REPEATS = 7


def random_chain(widths: list[int], connections: int) -> Topology:
    """A chain of layers of so many connections each, the last one full."""
    rng = np.random.default_rng(0)
    wiring = Wiring.chain(widths)
    masks = {
        layer.name: Mask(
            layer.local_sources,
            layer.target.size,
            np.sort(rng.choice(layer.possible, min(connections, layer.possible), replace=False)),
        )
        for layer in wiring
    }
    return wiring.place(masks)


def milliseconds(work: Callable[[], object]) -> str:
    work()
    times = []
    for _ in range(REPEATS):
        began = time.process_time()
        work()
        times.append(1000 * (time.process_time() - began))
    return f"{statistics.median(times):.0f} ({min(times):.0f} to {max(times):.0f})"


def main() -> None:
    networks = {
        "784-784-784-784-10": random_chain([784, 784, 784, 784, 10], 3_700),
        "3072-4000-1000-4000-10": random_chain([3072, 4000, 1000, 4000, 10], 80_000),
        "ResNet-18 of a quarter of its width, 5 %": resnet18(16).topology(np.random.default_rng(0), 0.05),
    }
    print(surroundings("numpy", "scipy"))
    print(f"Median (least to most) of {REPEATS}, in milliseconds of CPU.\n")
    print("| network | connections | panel without spectra | with spectra | a degree-kept copy |")
    print("| --- | --- | --- | --- | --- |")
    for name, topology in networks.items():
        cells = [
            milliseconds(lambda topology=topology: measure(topology, spectra=False)),  # type: ignore[misc]
            milliseconds(lambda topology=topology: measure(topology)),  # type: ignore[misc]
            milliseconds(lambda topology=topology: degree_kept(topology, 0)),  # type: ignore[misc]
        ]
        print(f"| {name} | {topology.nnz:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
