"""Wirings at full size: seconds of CPU and megabytes of a LLaMA of 7 billion parameters, and of a ResNet-50 at 10 %.

Each is built in a process of its own through the public calls. Run from the checkout: ``python bench/wiring.py``.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import topostrata
from tests.wirings import Network, labelled, llama, resnet18
from topostrata import Mask, Space, Topology
from topostrata.store.embedded import stop
from topostrata.store.engine_files import EngineFiles
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


def resnet_50_archived() -> dict[str, float]:
    """Two snapshots 1 % apart into an embedded archive, masks alone; a client with empty caches reads and compares.

    The kernels are compiled before.
    """
    net, random = resnet_50_network(), np.random.default_rng(0)
    arrays = {name: random.random(shape, dtype=np.float32) < 0.1 for name, shape in net.parameters.items()}
    small = resnet18(2)
    topologies = [net.wiring.place(arrays, orientation="out-in")]
    moved = {name: array ^ (random.random(array.shape, dtype=np.float32) < 0.002) for name, array in arrays.items()}
    topologies.append(net.wiring.place(moved, orientation="out-in"))
    with tempfile.TemporaryDirectory() as folder, topostrata.open(Path(folder) / "archive") as archive:
        directory = Path(archive.location)
        archive.push("warm", 0, small.topology(random))
        archive.push("warm", 1, small.topology(random))
        archive.nnstd("warm@0", "warm@1", alignment="canonical", keep=False)
        before, engine, start = peak(), engine_seconds(directory), time.process_time()
        archive.push("r", 0, topologies[0], projection="none")
        first = time.process_time()
        archive.push("r", 1, topologies[1], projection="none")
        pushed = time.process_time()
        again = archive.reopened()
        assert [again.topology(f"r@{step}") for step in (0, 1)] == topologies
        read = time.process_time()
        distance = again.nnstd("r@0", "r@1", alignment="canonical", keep=False)
        compared = time.process_time()
        numbers = {
            "distance": distance.nnstd,
            "first push s": first - start,
            "second push s": pushed - first,
            "both read s": read - pushed,
            "both read and compared s": compared - read,
            "engine s": engine_seconds(directory) - engine,
            "mask bytes": archive.counts().mask_bytes,
            "MB": peak() - before,
        }
        stop(directory, force=True)
    return numbers


def engine_seconds(directory: Path) -> float:
    """CPU that the engine of an archive has taken."""
    status = Path(f"/proc/{EngineFiles(directory).read_engine_pid()}/stat").read_text("utf-8")
    user, system = status.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print a line for each network."""
    measures: dict[str, Callable[[], dict[str, float]]] = {
        "LLaMA 7B": llama_7b,
        "ResNet-50 at 10 %": resnet_50,
        "ResNet-50 at 10 % in an archive": resnet_50_archived,
    }
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
