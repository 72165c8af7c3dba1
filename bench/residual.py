"""NNSTD at full size: seconds of CPU and megabytes of two ResNet-50 at 10 %, and of other architectures.

Run from the checkout: ``python bench/residual.py``. The kernels are compiled before anything is measured.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from wiring import resnet_50_network

from tests.unit.distance.kinds import shuffled
from tests.unit.distance.networks import rewired
from tests.wirings import Network, gpt2, mobilenet_v2, resnet18
from topostrata.distance.nnstd import compare, nnstd
from topostrata.distance.prepared import prepare

NETWORKS: dict[str, tuple[Callable[[], Network], float]] = {
    "ResNet-50": (resnet_50_network, 0.1),
    "ResNet-18": (lambda: resnet18(width=64, classes=1000), 0.1),
    "MobileNetV2, narrow": (mobilenet_v2, 0.3),
    "GPT-2, small": (lambda: gpt2(blocks=12, heads=12, dims=64, vocabulary=1000), 0.1),
}


def measure(name: str) -> None:
    make, density = NETWORKS[name]
    rng = np.random.default_rng(0)
    net = make()
    a = net.topology(rng, density)
    pairs = {
        "independent": net.topology(rng, density),
        "30 % moved": rewired(rng, a, 0.3),
        "relabelled": shuffled(rng, a),
    }
    for kind, b in pairs.items():
        start = time.process_time()
        first, second = prepare(a), prepare(b)
        ready = time.process_time()
        distance = compare(first, second, alignment="canonical")
        end = time.process_time()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{name} at {density:.0%}, {a.nnz:,} connections, {kind}: {distance.nnstd:.4f}, "
            f"canonical {distance.canonical}, prepared in {ready - start:.2f} s, compared in {end - ready:.2f} s, "
            f"peak {memory:,.0f} MB"
        )


def main() -> None:
    """Print a line for each pair of networks; those that are named, or all."""
    for small in (gpt2(1, 2, 3, 5), resnet18(2)):
        nnstd(*(small.topology(np.random.default_rng(k), density) for k, density in enumerate((0.1, 0.7))))
    for name in sys.argv[1:] or NETWORKS:
        measure(name)


if __name__ == "__main__":
    main()
