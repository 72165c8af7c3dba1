"""Copies of a network in which each unit has the degrees that it had, and all else is chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from topostrata.sharing import tied_mask
from topostrata.topology import Layer, Mask, Topology

# A trade moves half of what can move. After 40 rounds each connection has moved about 20 times, and news has come from
# each target to each other in the widest of layers, since every round doubles the number that it has reached.
ROUNDS = 40


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
    streams = np.random.default_rng(seed).spawn(len(topology))
    masks: dict[str, Mask] = {}
    layers = []
    for layer, random in zip(topology.layers, streams, strict=True):
        owner = topology.wiring.shared_with.get(layer.name)
        if owner is None:
            masks[layer.name] = _traded(layer, random)
            layers.append(Layer.of(layer.shape, masks[layer.name]))
        else:
            layers.append(Layer.of(layer.shape, tied_mask(topology[owner].shape, layer.shape, masks[owner])))
    return Topology(tuple(layers))


def from_degrees(topology: Topology) -> Topology:
    """The one network that its degrees alone decide, whatever its connections are: its digest is theirs.

    The targets of each group, those of most connections first, take the sources that have most left (Gale and Ryser).
    """
    masks: dict[str, Mask] = {}
    layers = []
    for layer in topology.layers:
        owner = topology.wiring.shared_with.get(layer.name)
        if owner is None:
            masks[layer.name] = _greedy(layer)
            layers.append(Layer.of(layer.shape, masks[layer.name]))
        else:
            layers.append(Layer.of(layer.shape, tied_mask(topology[owner].shape, layer.shape, masks[owner])))
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


def _traded(layer: Layer, random: np.random.Generator) -> Mask:
    mask = layer.mask
    targets, keys = mask.targets, mask.keys
    for _ in range(ROUNDS if mask.nnz < mask.size else 0):
        targets = _trade(targets, keys, _partners(mask.n_target, layer.groups, random), mask.stride, random)
    return Mask(mask.n_source, mask.n_target, np.sort(targets * mask.stride + keys), mask.taps)


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
) -> NDArray[np.int64]:
    """The targets after each pair has dealt out anew, in their old numbers, the keys that only one of the two has."""
    lower = np.minimum(targets, partner[targets])
    cells = lower * stride + keys
    order = np.argsort(cells, kind="stable")
    repeats = cells[order][1:] == cells[order][:-1]
    shared = np.zeros(cells.size, dtype=bool)
    shared[order[1:][repeats]] = shared[order[:-1][repeats]] = True
    free = np.flatnonzero(~shared)
    # Within each pair the same targets in another order: sorted by pair, then by chance.
    dealt = np.lexsort((random.random(free.size), lower[free]))
    places = np.lexsort((free, lower[free]))
    traded = targets.copy()
    traded[free[places]] = targets[free[dealt]]
    return traded
