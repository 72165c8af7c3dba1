"""Wirings at full size: seconds of CPU and megabytes of a LLaMA of 7 billion parameters, and of a ResNet-50 at 10 %.

Each is built in a process of its own through the public calls. Run from the checkout: ``python bench/wiring.py``.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.wirings import Network, labelled, llama
from topostrata import Mask, Space, Topology
from topostrata.topology import Wiring

MIB = 2**20


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def llama_7b() -> dict[str, float]:
    """32 blocks, 4,096 wide, 32 heads of 128 dims without grouped queries, 11,008 gated units, 32,000 tokens."""
    before, start = peak(), time.process_time()
    wiring = llama(blocks=32, kv=32, groups=1, dims=128, mlp=11_008, vocabulary=32_000).wiring
    built = time.process_time()
    assert wiring.stages
    assert wiring.axis_ranks
    assert wiring.within
    assert wiring.normal_order
    known = time.process_time()
    assert Wiring.from_toml(wiring.to_toml()) == wiring
    return {
        "layers": len(wiring),
        "build s": built - start,
        "order and ranks s": known - built,
        "text and back s": time.process_time() - known,
        "MB": peak() - before,
    }


def resnet_50_network() -> Network:
    """Bottleneck blocks 3, 4, 6, 3 of widths 64 to 512, expansion 4."""
    net, stream = Network(), Space("stream0", 64)
    net.conv("conv1", labelled("image", 3), stream, 7)
    for k, (blocks, width) in enumerate([(3, 64), (4, 128), (6, 256), (3, 512)], start=1):
        for block in range(blocks):
            at, below = f"layer{k}.{block}", stream
            if block == 0:
                stream = Space(f"stream{k}", 4 * width)
            narrow, filtered = Space(f"{at}.1", width), Space(f"{at}.2", width)
            net.conv(f"{at}.conv1", below, narrow, 1)
            net.conv(f"{at}.conv2", narrow, filtered)
            net.conv(f"{at}.conv3", filtered, stream, 1)
            if below is not stream:
                net.conv(f"{at}.downsample", below, stream, 1)
    net.linear("fc", stream, labelled("classes", 1000))
    return net


def resnet_50() -> dict[str, float]:
    """All layers at 10 %, placed from dense arrays in torch's order and from masks."""
    net, random = resnet_50_network(), np.random.default_rng(0)
    arrays = {name: random.random(shape, dtype=np.float32) < 0.1 for name, shape in net.parameters.items()}
    before, start = peak(), time.process_time()
    topology = net.wiring.place(arrays, orientation="out-in")
    placed = time.process_time()
    assert topology.digest
    digested = time.process_time()
    masks = {name: Mask(m.n_source, m.n_target, m.cells, m.taps) for name, m in topology.to_masks().items()}
    again: Topology = topology.wiring.place(masks)
    return {
        "connections": again.nnz,
        "place s": placed - start,
        "digest s": digested - placed,
        "from masks s": time.process_time() - digested,
        "MB": peak() - before,
    }


def main() -> None:
    """Print a line for each network."""
    measures: dict[str, Callable[[], dict[str, float]]] = {"LLaMA 7B": llama_7b, "ResNet-50 at 10 %": resnet_50}
    for name, measure in measures.items():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            numbers = pool.apply(measure)
        print(
            f"{name}: "
            + ", ".join(
                f"{key} {value:,.3g}" if value < 1e4 else f"{key} {value:,.0f}" for key, value in numbers.items()
            )
        )


if __name__ == "__main__":
    main()
