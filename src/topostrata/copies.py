"""Copies of a network in which each unit has the degrees that it had, and all else is chance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from topostrata.sharing import tied_mask
from topostrata.topology import Layer, Mask, Topology

# A trade moves half of what can move. After 40 rounds each connection has moved about 20 times, and news has come from
# each target to each other in the widest of layers, since every round doubles the number that it has reached.
ROUNDS = 40
# Of what two draws of one chain have in common beyond chance each round leaves half: after 10 a thousandth.
BETWEEN = 10


def degree_kept(topology: Topology, seed: int | Sequence[int]) -> Topology:
    """A random network with the same wiring in which every unit of every layer has as many connections as before.

    Each layer is drawn alike from all masks with its two degree sequences: those of its target units, and those of its
    source units at each tap. Connections stay in their groups, and tied layers stay tied. Two target units trade those
    sources that only one of them has: many double-edge swaps at once. Targets are paired anew in each of ``ROUNDS``
    rounds. The same seed gives the same network.

    Source: Carstens, Berger and Strona, "A unifying framework for fast randomization of ecological networks with
    fixed (node) degrees" (2018), the global curveball algorithm.

    >>> t = Topology.from_masks([[[1, 1, 0], [0, 1, 1], [0, 0, 1]]])
    >>> copy = degree_kept(t, 0)
    >>> (copy["l0"].fan_in == t["l0"].fan_in).all() and (copy["l0"].fan_out == t["l0"].fan_out).all()
    np.True_
    """
    return next(degree_kept_chain(topology, seed))


def degree_kept_chain(topology: Topology, seed: int | Sequence[int]) -> Iterator[Topology]:
    """Copies like ``degree_kept``'s without end, from one chain: the first is its copy of the same seed.

    Each further copy is ``BETWEEN`` rounds from the one before: a quarter of the work of a chain of its own.

    >>> t = Topology.from_masks([[[1, 1, 0], [0, 1, 1], [0, 0, 1]]])
    >>> next(degree_kept_chain(t, 0)) == degree_kept(t, 0)
    True
    """
    streams = np.random.default_rng(seed).spawn(len(topology))
    chains = {
        layer.name: _masks(layer, random)
        for layer, random in zip(topology.layers, streams, strict=True)
        if layer.name not in topology.wiring.shared_with
    }
    while True:
        yield _with_masks(topology, {name: next(chain) for name, chain in chains.items()})


def from_degrees(topology: Topology) -> Topology:
    """The one network that its degrees alone decide, whatever its connections are: its digest is theirs.

    The targets of each group, those of most connections first, take the sources that have most left (Gale and Ryser).
    """
    free = [layer for layer in topology.layers if layer.name not in topology.wiring.shared_with]
    return _with_masks(topology, {layer.name: _greedy(layer) for layer in free})


def _with_masks(topology: Topology, masks: Mapping[str, Mask]) -> Topology:
    """The network with other masks, those of tied layers made of their owners'."""
    layers = []
    for layer in topology.layers:
        owner = topology.wiring.shared_with.get(layer.name)
        mask = masks[layer.name] if owner is None else tied_mask(topology[owner].shape, layer.shape, masks[owner])
        layers.append(Layer.of(layer.shape, mask))
    return Topology(tuple(layers))


def _key_degrees(layer: Layer) -> NDArray[np.int64]:
    """How many targets of each group read each source at each tap: shape (groups, sources times taps)."""
    mask = layer.mask
    group = mask.targets // (mask.n_target // layer.groups)
    counts = np.bincount(group * mask.stride + mask.keys, minlength=layer.groups * mask.stride)
    return counts.reshape(layer.groups, mask.stride)


def _greedy(layer: Layer) -> Mask:
    mask = layer.mask
    if mask.nnz == mask.size:
        return mask
    left, fan_in = _key_degrees(layer), layer.fan_in
    width = mask.n_target // layer.groups
    cells = []
    for target in np.argsort(-fan_in, kind="stable"):
        row = left[target // width]
        chosen = np.argsort(-row, kind="stable")[: fan_in[target]]
        row[chosen] -= 1
        cells.append(target * mask.stride + chosen)
    return Mask(mask.n_source, mask.n_target, np.sort(np.concatenate(cells)), mask.taps)


def _masks(layer: Layer, random: np.random.Generator) -> Iterator[Mask]:
    mask = layer.mask
    if mask.nnz == mask.size:
        yield from repeat(mask)
    targets, keys = mask.targets, mask.keys
    rounds = ROUNDS
    while True:
        for _ in range(rounds):
            targets, keys = _trade(targets, keys, _partners(mask.n_target, layer.groups, random), mask.stride, random)
        yield Mask(mask.n_source, mask.n_target, np.sort(targets * mask.stride + keys), mask.taps)
        rounds = BETWEEN


def _partners(n_target: int, groups: int, random: np.random.Generator) -> NDArray[np.int64]:
    """For each target the other one of its pair, drawn at random within its group; itself where one is left over."""
    width = n_target // groups
    order = random.permuted(np.arange(n_target).reshape(groups, width), axis=1)
    even = order[:, : width - width % 2]
    partner = np.arange(n_target)
    partner[even[:, ::2]], partner[even[:, 1::2]] = even[:, 1::2], even[:, ::2]
    return partner


def _trade(
    targets: NDArray[np.int64],
    keys: NDArray[np.int64],
    partner: NDArray[np.int64],
    stride: int,
    random: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Targets and keys after each pair has dealt out anew, in their old numbers, the keys that only one of it has.

    Nothing but numbers is sorted: a pair, a key and a side (which of the two) are one number, and so are a pair, a
    chance and a side.
    """
    lower = np.minimum(targets, partner[targets])
    connections = np.sort((lower * stride + keys) << 1 | (targets != lower))
    cells, sides = connections >> 1, connections & 1
    lower, keys = np.divmod(cells, stride)
    again = cells[1:] == cells[:-1]
    free = np.ones(cells.size, dtype=bool)
    free[1:] &= ~again
    free[:-1] &= ~again
    bits = 62 - partner.size.bit_length()
    chances = random.integers(0, 1 << bits, int(free.sum()))
    sides[free] = np.sort((lower[free] << bits | chances) << 1 | sides[free]) & 1
    return np.where(sides == 1, partner[lower], lower), keys
