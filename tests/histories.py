"""Random histories of runs, and what the archive must answer about them, told by plain Python sets.

Everything is drawn from a ``numpy.random.Generator``, so that a history is repeated from its seed, in another process too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.random import Generator

from topostrata.topology import Layer, Mask, Space, Topology

Connection = tuple[int, int, int]  # source unit, tap, target unit
Neuron = tuple[str, int]  # space, index
Lifetime = tuple[Connection, int, int | None]  # born step, died step


@dataclass(frozen=True)
class History:
    """The snapshots of one run, in the order of their steps."""

    seed: int
    snapshots: tuple[tuple[int, Topology], ...]

    @property
    def steps(self) -> list[int]:
        """All steps in order."""
        return [step for step, _ in self.snapshots]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers as they are first; their names, spaces and taps never change."""
        return self.snapshots[0][1].layers

    def at(self, step: int) -> Topology:
        """The snapshot of a step."""
        return dict(self.snapshots)[step]

    def alive(self, layer: str, step: int) -> set[Connection]:
        """The connections of a layer at a step."""
        return connections(self.at(step)[layer].mask)

    def lifetimes(self, layer: str, upto: int | None = None) -> set[Lifetime]:
        """Every life of a layer's connections, as the snapshots up to a step tell it."""
        since: dict[Connection, int] = {}
        ended: set[Lifetime] = set()
        for step, topology in self.snapshots:
            if upto is not None and step > upto:
                break
            alive = connections(topology[layer].mask)
            for connection in [c for c in since if c not in alive]:
                ended.add((connection, since.pop(connection), step))
            for connection in alive:
                since.setdefault(connection, step)
        return ended | {(connection, born, None) for connection, born in since.items()}

    def survivors(self, layer: str, first: int, last: int) -> set[Connection]:
        """Alive at both steps and at every recorded step between."""
        between = [self.alive(layer, step) for step in self.steps if first <= step <= last]
        return set.intersection(*between)

    def fan_in(self, space: str, step: int) -> dict[int, int]:
        """Connections into each unit of a space that has any, over all layers that enter it."""
        return _counted(c[2] for y in self.at(step).layers if y.target.name == space for c in connections(y.mask))

    def fan_out(self, space: str, step: int) -> dict[int, int]:
        """Connections out of each unit of a space that has any."""
        return _counted(c[0] for y in self.at(step).layers if y.source.name == space for c in connections(y.mask))

    def reach(self, start: Neuron, hops: int, step: int) -> set[Neuron]:
        """The neurons at the end of paths of exactly so many connections."""
        out: dict[Neuron, set[Neuron]] = {}
        for layer in self.at(step).layers:
            for source, _, target in connections(layer.mask):
                out.setdefault((layer.source.name, source), set()).add((layer.target.name, target))
        here = {start}
        for _ in range(hops):
            here = {there for neuron in here for there in out.get(neuron, ())}
        return here


def connections(mask: Mask) -> set[Connection]:
    """The mask as a plain set, worked out from the definition of a cell."""
    stride = mask.n_source * mask.taps
    return {(c % stride // mask.taps, c % mask.taps, c // stride) for c in mask.cells.tolist()}


def random_mask(random: Generator, n_source: int, n_target: int, taps: int, density: float) -> Mask:
    cells = np.flatnonzero(random.random(n_source * n_target * taps) < density)
    return Mask(n_source, n_target, cells, taps)


def random_wiring(random: Generator, *, most: int = 9) -> list[tuple[str, Space, Space, int]]:
    """A chain of spaces with some extra layers over or beside it: several layers may enter one space."""
    depth = int(random.integers(2, 5))
    sizes = random.integers(1, most + 1, size=depth)
    names = ["input", *(f"hidden {k}" for k in range(1, depth - 1)), "output"]
    spaces = [
        Space(name, int(size), labelled=k in {0, depth - 1})
        for k, (name, size) in enumerate(zip(names, sizes, strict=True))
    ]
    joins: list[tuple[int, int]] = []
    for target in range(1, depth):
        joins.append((target - 1, target))
        joins += [(source, target) for source in range(target) if random.random() < 0.3]
    odd = ("", "/weight", '\'s "odd" \N{GREEK SMALL LETTER ALPHA}', "`{}$x;//", "\\")
    return [
        (f"l{k}{odd[int(random.integers(len(odd)))]}", spaces[a], spaces[b], int(random.integers(1, 4)))
        for k, (a, b) in enumerate(joins)
    ]


def random_topology(random: Generator, wiring: Sequence[tuple[str, Space, Space, int]]) -> Topology:
    """Masks of all densities, the empty and the full among them."""
    densities = random.choice([0.0, 0.05, 0.3, 0.7, 1.0], size=len(wiring), p=[0.1, 0.2, 0.4, 0.2, 0.1])
    return Topology(
        tuple(
            Layer(name, a, b, random_mask(random, a.size, b.size, taps, density))
            for (name, a, b, taps), density in zip(wiring, densities, strict=True)
        )
    )


def churned(random: Generator, topology: Topology, pool: Mapping[str, list[Mask]]) -> Topology:
    """The next snapshot: layers stay, lose and gain connections, empty, fill, or go back to how they once were."""
    layers = []
    for layer in topology.layers:
        mask, size = layer.mask, layer.mask.size
        how = random.random()
        if how < 0.15:
            after = mask
        elif how < 0.2:
            after = Mask(mask.n_source, mask.n_target, np.empty(0, dtype=np.int64), mask.taps)
        elif how < 0.25:
            after = Mask(mask.n_source, mask.n_target, np.arange(size), mask.taps)
        elif how < 0.35:
            after = pool[layer.name][int(random.integers(len(pool[layer.name])))]
        else:
            alive = np.zeros(size, dtype=bool)
            alive[mask.cells] = True
            alive ^= random.random(size) < random.choice([0.02, 0.2, 0.5])
            after = Mask(mask.n_source, mask.n_target, np.flatnonzero(alive), mask.taps)
        layers.append(Layer(layer.name, layer.source, layer.target, after))
    return Topology(tuple(layers))


def random_history(seed: int, *, snapshots: int | None = None, most: int = 9) -> History:
    """A run of random wiring, with random steps between snapshots."""
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 9)) if snapshots is None else snapshots
    wiring = random_wiring(random, most=most)
    step = int(random.integers(0, 3))
    topology = random_topology(random, wiring)
    pool = {layer.name: [layer.mask] for layer in topology.layers}
    wirings = [(step, topology)]
    while len(wirings) < count:
        step += int(random.integers(1, 20))
        topology = churned(random, topology, pool)
        for layer in topology.layers:
            pool[layer.name].append(layer.mask)
        wirings.append((step, topology))
    return History(seed, tuple(wirings))


def sparse_history(seed: int, *, snapshots: int, widths: Sequence[int], density: float, churn: float) -> History:
    """A run as training makes it: a plain chain of sparse layers, of which a share is replaced at every step."""
    random = np.random.default_rng(seed)
    masks = [
        Mask(a, b, np.sort(random.choice(a * b, size=int(a * b * density), replace=False))) for a, b in pairwise(widths)
    ]
    wirings = [(0, Topology.from_masks(masks))]
    for step in range(1, snapshots):
        masks = [replaced(random, mask, churn) for mask in masks]
        wirings.append((step, Topology.from_masks(masks)))
    return History(seed, tuple(wirings))


def replaced(random: Generator, mask: Mask, share: float) -> Mask:
    """As many connections as before, the given share of them others."""
    count = round(mask.nnz * share)
    survivors = random.choice(mask.cells, size=mask.nnz - count, replace=False)
    free = np.setdiff1d(np.arange(mask.size), mask.cells, assume_unique=True)
    born = random.choice(free, size=count, replace=False)
    return Mask(mask.n_source, mask.n_target, np.sort(np.concatenate([survivors, born])), mask.taps)


def neurons(topology: Topology) -> Iterator[Neuron]:
    for space in topology.spaces:
        yield from ((space.name, index) for index in range(space.size))


def _counted(units: Iterable[int]) -> dict[int, int]:
    return dict(Counter(units))
