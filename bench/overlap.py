"""How many renamed units the alignments find again, and what they take. ``python bench/overlap.py [--out FILE]``.

The networks: the published ones (``TOPOSTRATA_REFERENCE_TOPOLOGIES``, default ../shared/set-topologies), and families
of the demo's trainer, whose units have become hubs by the last epoch: three networks each, of 200, 400 and 800 hidden
units a layer, 2 % of the connections moved from one to the next, trained by SET. Units of both networks of a pair are
renamed in three ways; the value must be one. CPU seconds of one thread, compiled before. The families take some minutes
(``--epochs`` shortens them); exit 1 where a floor is missed. Needs the extra ``demo``.
"""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numba
import numpy as np
import scipy.sparse as sp

from topostrata.distance.alignments import ALIGNMENTS, Alignment
from topostrata.distance.nnstd import compare, nnstd
from topostrata.distance.pairwise import distances
from topostrata.distance.prepared import prepare
from topostrata.service.demo.training import Network, family, load_digits, train
from topostrata.topology import Mask, Topology

NETWORKS = Path(
    os.environ.get("TOPOSTRATA_REFERENCE_TOPOLOGIES")
    or Path(__file__).resolve().parents[1] / ".." / "shared" / "set-topologies"
)
SHOWN: tuple[Alignment, ...] = ("canonical", "overlap", "refined")
# Shares of the units that overlap must find, of published networks and of the families at their last epoch.
PUBLISHED_FLOOR, FAMILY_FLOOR = 0.96, 0.95
MOST_TIMES_CANONICAL = 10


def published() -> dict[str, Topology]:
    """The published networks, without their biases."""
    networks = {}
    for folder in sorted(NETWORKS.glob("*/epoch_*")):
        masks = [sp.csr_array(sp.load_npz(file))[:-1] for file in sorted(folder.glob("weight_l*.npz"))]
        networks[f"{folder.parent.name[-2:]}@{int(folder.name[-3:])}"] = Topology.from_masks(masks, zeros="absent")
    return networks


def members(width: int) -> list[Network]:
    """A family of three before training."""
    return family(seed=width, networks=3, perturb=0.02, epsilon=4.0, hidden=(width, width, width))


def trained(width: int, epochs: int) -> list[Topology]:
    """A family of three at its last epoch."""
    data = load_digits()
    last = []
    for member in members(width):
        *_, recorded = train(member, data, epochs=epochs)
        last.append(recorded.topology)
    return last


def renamed(topology: Topology, seed: int) -> tuple[Topology, dict[str, np.ndarray]]:
    """The network with its hidden units in other places, and where each is."""
    rng = np.random.default_rng(seed)
    places = {space.name: rng.permutation(space.size) for space in topology.spaces if not space.labelled}
    return topology.relabelled(places), places


def measured(a: Topology, b: Topology, alignment: Alignment) -> tuple[list[float], list[float], float]:
    """The values over three ways to rename both, the share of units found by space, and CPU milliseconds."""
    values, found, cpu = [], [], []
    for seed in range(3):
        (first, at_a), (second, at_b) = renamed(a, seed), renamed(b, seed + 100)
        ready = prepare(first), prepare(second)
        compare(*ready, alignment=alignment)
        begin = time.thread_time()
        distance = compare(*ready, alignment=alignment)
        cpu.append(1000 * (time.thread_time() - begin))
        values.append(distance.nnstd)
        found.append([float(np.mean(distance.matching[name][at_a[name]] == at_b[name])) for name in at_a])
    return values, np.mean(found, axis=0).tolist(), statistics.median(cpu)


def pairs(epochs: int) -> Iterator[tuple[str, Topology, Topology, float]]:
    """The pairs by name, with the share of units that overlap must find."""
    networks = published()
    for a, b in (("w0@0", "w0@10"), ("w0@0", "w4@50"), ("w0@50", "w4@50"), ("w1@50", "w3@50")):
        if a in networks:
            yield f"{a} {b}", networks[a], networks[b], PUBLISHED_FLOOR
    for width in (200, 400, 800):
        last = trained(width, epochs)
        for i, j in ((0, 1), (0, 2)):
            yield f"{width} wide, w{i} w{j}", last[i], last[j], FAMILY_FLOOR


def moved(rng: np.random.Generator, topology: Topology, count: int) -> Topology:
    """The network with so many connections of its second layer elsewhere."""
    masks = topology.to_masks()
    mask = masks["l1"]
    stay, free = rng.permutation(mask.cells)[count:], np.setdiff1d(np.arange(mask.size), mask.cells)
    cells = np.sort(np.concatenate([stay, rng.choice(free, count, replace=False)]))
    masks["l1"] = Mask(mask.n_source, mask.n_target, cells, mask.taps)
    return topology.wiring.place(masks)


def dense_rows() -> Iterator[str]:
    """What few changes of a network with a dense first layer cost, on average over four seeds."""
    for density, count in itertools.product((0.3, 1.0), (1, 5, 20, 60)):
        values: dict[str, list[float]] = {"identity": [], **{name: [] for name in SHOWN}}
        for seed in range(4):
            rng = np.random.default_rng(seed)
            masks = [rng.random((20, 64)) < density, *(rng.random((64, n)) < 0.2 for n in (64, 64, 10))]
            network = Topology.from_masks(masks)
            other = moved(rng, network, count)
            values["identity"].append(nnstd(network, other, alignment="identity").nnstd)
            for name in SHOWN:
                values[name].append(nnstd(network, renamed(other, seed)[0], alignment=name).nnstd)
        means = (f"{np.mean(column):.4f}" for column in values.values())
        yield f"| {'dense' if density == 1 else density} | {count} | " + " | ".join(means) + " |"


def matrix_row() -> str:
    """All pairs of 90 networks: the published ones, and others made of them by moving 3 % of the connections."""
    networks = list(published().values())
    rng = np.random.default_rng(0)
    while networks and len(networks) < 90:
        networks.append(moved(rng, networks[len(networks) % 15], 150))
    wall, cpu = time.perf_counter(), time.process_time()
    distances(networks, alignment="overlap", workers=2)
    took = time.perf_counter() - wall, time.process_time() - cpu
    return f"{len(networks)} networks, 2 threads: {took[0]:.1f} s, {took[1]:.1f} s of CPU."


def main() -> None:
    """Print the tables, or write them too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--matrix", action="store_true", help="all pairs of 90 networks as well")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    versions = ", ".join(f"{name} {ALIGNMENTS[name].version}" for name in SHOWN)
    machine = f"{dt.datetime.now(dt.UTC):%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} cores, load {load:.1f}"
    software = f"Python {platform.python_version()}, NumPy {np.__version__}, numba {numba.__version__}"
    lines = [
        f"{machine}; {software}; alignments: {versions}; families after {arguments.epochs} epochs.",
        "",
        "| pair | alignment | NNSTD | found, by space | CPU ms |",
        "| --- | --- | ---: | --- | ---: |",
    ]
    missed = []
    for name, a, b, floor in pairs(arguments.epochs):
        took = {}
        for alignment in SHOWN:
            values, found, took[alignment] = measured(a, b, alignment)
            one = f"{values[0]:.4f}" if len(set(values)) == 1 else f"{min(values):.4f} to {max(values):.4f}"
            shares = " ".join(f"{share:.3f}" for share in found)
            lines.append(f"| {name} | {alignment} | {one} | {shares} | {took[alignment]:.1f} |")
            print(lines[-1], flush=True)
            if alignment != "canonical" and len(set(values)) > 1:
                missed.append(f"{name}, {alignment}: several values")
            if alignment == "overlap" and np.mean(found) < floor:
                missed.append(f"{name}: {np.mean(found):.3f} of the units, expected {floor}")
        if took["overlap"] > MOST_TIMES_CANONICAL * took["canonical"]:
            missed.append(f"{name}: {took['overlap'] / took['canonical']:.1f} times canonical's time")
    lines += ["", "Connections moved in the second layer of 20-64-64-64-10, NNSTD:", ""]
    lines += [
        "| first layer | moved | in place | canonical | overlap | refined |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += dense_rows()
    if arguments.matrix:
        lines += ["", matrix_row()]
    print("\n".join(lines))
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if missed:
        sys.exit("\n".join(missed))


if __name__ == "__main__":
    main()
