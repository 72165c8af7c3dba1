"""Whether two networks are related at all, layer by layer, with an exact p-value, however their units are named.

Hidden units of both networks are matched by what lies below them: by the inputs of their layers, back to the labelled
ones, never by their outputs. If the networks are independent, a layer that reads those units knows nothing of the
match: its rows could as well belong to any other units that look alike from below. So the layer is compared as it is,
and again with the rows of units of equal fan-in exchanged at random; the share of the latter that agree as well is the
p-value. Docs: docs/design/022-relatedness.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from topostrata.distance.comparable import plans
from topostrata.distance.nnstd import check_topology, nnstd
from topostrata.errors import InvalidInputError, NotComparableError
from topostrata.layers import Layer
from topostrata.masks import Mask
from topostrata.topology import Space, Topology

TESTS = 999
_MOST_TESTS = 1_000_000
# Pairs of keys that are counted in a table; beyond, they are looked up in a sorted list.
_TABLE = 2**25

Ints = NDArray[np.int64]
Statistic = Callable[[Ints], int]


@dataclass(frozen=True, slots=True)
class LayerRelatedness:
    """What one layer says: ``p`` is the chance that independent networks agree in it as well as these, or better.

    ``agreement`` is the sum over pairs of target units, one of each network, of the square of the number of inputs that
    they have in common under the match; labelled targets pair with themselves only. ``expected`` is its mean over the
    tests, ``z`` how many of their standard deviations it lies above that. ``matched_by`` names the layers that the
    layer's sources were matched by, ``exchangeable`` counts the units of equal fan-in that others can stand for. ``p``
    and all that is computed from tests are None where nothing can be exchanged or no exchange changes anything, as in a
    layer that is full.
    """

    name: str
    p: float | None
    agreement: int | None
    expected: float | None
    z: float | None
    matched_by: tuple[str, ...]
    exchangeable: int


@dataclass(frozen=True, slots=True)
class Relatedness:
    """Whether two networks are related, and in which layers.

    ``p`` is the least p-value of the layers times the number of layers that were tested (Bonferroni), 1 at most: the
    chance that any layer of independent networks says as much. It is never below ``layers tested / (tests + 1)``.
    ``tests`` is the number of random exchanges a layer, ``seed`` that of their choice.
    """

    p: float
    tests: int
    seed: int
    layers: tuple[LayerRelatedness, ...]

    def related(self, level: float = 0.05) -> tuple[str, ...]:
        """The layers that are related at this level, the number of tested layers allowed for."""
        tested = [layer for layer in self.layers if layer.p is not None]
        return tuple(layer.name for layer in tested if (layer.p or 0.0) * len(tested) <= level)


def related(a: Topology, b: Topology, *, tests: int = TESTS, seed: int = 0) -> Relatedness:
    """Whether two networks are related: an exact test for each layer that reads hidden units.

    Units of A and B are matched by the layers below a hidden space (alignment ``canonical``), then each layer out of
    it is tested against ``tests`` exchanges of B's units of equal fan-in. p = (1 + those that agree as well) / (tests +
    1), which is exact for any number of tests, if the layer of one network is independent of the other network, and
    units that look alike from below are alike by chance: as in networks drawn with any degrees. Networks that were
    trained by themselves on the same data may share more than degrees. Ties of the match are broken at random, before
    the layer is looked at; the two networks are taken in the order of their digests, so that it does not matter which
    is named first.

    Layers out of labelled spaces are not tested: the match is made of them. Tied layers, groups, self-loops, residual
    streams and spaces of several axes are refused, and so are networks in which nothing is left to test.

    Raises ``NotComparableError`` for these and for networks that are wired differently, ``InvalidInputError`` for less
    than 1 test, ``MissingExtraError`` where numba is not installed.

    >>> rng = np.random.default_rng(0)
    >>> masks = [rng.random(shape) < 0.2 for shape in ((30, 40), (40, 40), (40, 5))]
    >>> a = Topology.from_masks(masks)
    >>> turned = a.relabelled({"hidden1": rng.permutation(40), "hidden2": rng.permutation(40)})
    >>> related(a, turned, tests=99).p
    0.02
    """
    for network in (a, b):
        check_topology(network, "related")
        beyond = network.wiring.beyond_format_1
        if beyond is not None:
            raise NotComparableError(f"related: expected a network of plain layers, found {beyond}")
    if not 1 <= tests <= _MOST_TESTS:
        raise InvalidInputError(f"related: expected 1 to {_MOST_TESTS} tests, found {tests}")
    if seed < 0:
        raise InvalidInputError(f"related: expected a seed of 0 or more, found {seed}")
    plans(a, b)  # refuses networks that are wired differently
    rng = np.random.default_rng(seed)
    a, b = (_shuffled(network, rng) for network in sorted((a, b), key=lambda network: network.digest))
    places: dict[str, tuple[Ints, tuple[str, ...]]] = {}
    rows = []
    for layer, twin in zip(a.layers, b.layers, strict=True):
        if layer.source.labelled:
            continue
        if layer.source.name not in places:
            places[layer.source.name] = _places(a, b, layer.source)
        rows.append(_tested(layer, twin, *places[layer.source.name], _classes(b, twin.source), tests, rng))
    values = [row.p for row in rows if row.p is not None]
    if not values:
        raise NotComparableError(
            "related: expected a layer that reads hidden units and is not full, found none: all that could be compared "
            "is what the units are matched by"
        )
    return Relatedness(min(1.0, min(values) * len(values)), tests, seed, tuple(rows))


def _shuffled(network: Topology, rng: np.random.Generator) -> Topology:
    """The network with its hidden units in random order: no tie is broken by what unit i of another network is."""
    hidden = {space.name: space.size for space in network.spaces if not space.labelled}
    return network.relabelled({name: rng.permutation(size) for name, size in hidden.items()})


def _below(network: Topology, space: Space) -> list[int]:
    """The positions of the layers that a space is computed from."""
    spaces = {space.name}
    positions: list[int] = []
    for k in reversed(range(len(network.layers))):
        if network.layers[k].target.name in spaces:
            positions.insert(0, k)
            spaces.add(network.layers[k].source.name)
    return positions


def _places(a: Topology, b: Topology, space: Space) -> tuple[Ints, tuple[str, ...]]:
    """For each unit of B the unit of A that it is matched with by the layers below, -1 for none; and those layers."""
    below = _below(a, space)
    if not below:
        raise NotComparableError(f"related: expected layers into the hidden space {space.name!r}, found none")
    ours, theirs = (Topology(tuple(network.layers[k] for k in below)) for network in (a, b))
    partner = nnstd(ours, theirs, alignment="canonical").matching[space.name]
    target = b.layers[below[-1]].target
    places = np.full(target.size, -1, dtype=np.int64)
    matched = np.flatnonzero(partner >= 0)
    places[partner[matched]] = matched
    return places, tuple(ours.layers[k].name for k in range(len(below)))


def _classes(b: Topology, space: Space) -> Ints:
    """A number for each unit of a space of B, the same for units of equal fan-in by every layer."""
    fan_in = np.array([layer.fan_in for layer in b.layers if layer.target.name == space.name])
    numbers: Ints = np.unique(fan_in, axis=1, return_inverse=True)[1].reshape(-1)
    return numbers


def _tested(
    layer: Layer,
    twin: Layer,
    places: Ints,
    matched_by: tuple[str, ...],
    classes: Ints,
    tests: int,
    rng: np.random.Generator,
) -> LayerRelatedness:
    movable = int((np.bincount(classes)[classes] > 1).sum())
    nothing = LayerRelatedness(layer.name, None, None, None, None, matched_by, movable)
    if not movable or layer.mask.nnz == layer.mask.size or twin.mask.nnz == twin.mask.size:
        return nothing
    statistic = _of_labelled(layer, twin) if layer.target.labelled else _of_hidden(layer, twin)
    agreement = statistic(places)
    by_class = np.argsort(classes, kind="stable")
    values = np.empty(tests, dtype=np.int64)
    for k in range(tests):
        exchanged = np.empty_like(places)
        exchanged[by_class] = places[np.lexsort((rng.random(len(places)), classes))]
        values[k] = statistic(exchanged)
    if (values == agreement).all():
        return nothing
    spread = float(values.std(ddof=1)) if tests > 1 else 0.0
    return LayerRelatedness(
        layer.name,
        (1 + int((values >= agreement).sum())) / (tests + 1),
        agreement,
        float(values.mean()),
        float((agreement - values.mean()) / spread) if spread else None,
        matched_by,
        movable,
    )


def _keys(places: Ints, taps: int) -> Ints:
    """The key of A for each key of B: its unit's place, at the same tap; -1 for none."""
    keys = places[:, None] * taps + np.arange(taps)
    return np.where(places[:, None] < 0, -1, keys).reshape(-1)


def _of_hidden(layer: Layer, twin: Layer) -> Statistic:
    """The sum over all pairs of target units of (common inputs)^2, as a function of the places of B's source units.

    It equals the sum over pairs of keys of (targets in A that have both) * (targets in B that have both).
    """
    keys, counts = _pairs(twin.mask)
    first, second = np.divmod(keys, twin.mask.stride)
    weights = np.where(first == second, counts, 2 * counts)
    width, taps = layer.mask.stride + 1, layer.taps  # one more key, which no target has, for units without a place
    look_up = _look_up(layer.mask, width)

    def statistic(places: Ints) -> int:
        at = _keys(places, taps)
        at[at < 0] = width - 1
        low, high = at[first], at[second]
        return int(look_up(np.minimum(low, high) * width + np.maximum(low, high)) @ weights)

    return statistic


def _pairs(mask: Mask) -> tuple[Ints, Ints]:
    """Pairs of keys (first * stride + second, first <= second) with the number of targets that have both, sorted."""
    matrix = sp.csr_array(mask.to_csc().astype(np.int64))
    both = sp.triu(matrix @ matrix.T, format="coo")
    numbers = both.row.astype(np.int64) * mask.stride + both.col
    order = np.argsort(numbers)
    return numbers[order], both.data[order]


def _look_up(mask: Mask, width: int) -> Callable[[Ints], Ints]:
    """How many targets have both keys of pairs that are numbered first * width + second; 0 for pairs without any."""
    numbers, counts = _pairs(mask)
    numbers = numbers // mask.stride * width + numbers % mask.stride
    if width * width <= _TABLE:
        table = np.zeros(width * width, dtype=np.int64)
        table[numbers] = counts
        return lambda wanted: table[wanted]

    def searched(wanted: Ints) -> Ints:
        at = np.minimum(np.searchsorted(numbers, wanted), len(numbers) - 1)
        return np.where(numbers[at] == wanted, counts[at], 0)

    return searched


def _of_labelled(layer: Layer, twin: Layer) -> Statistic:
    """The sum over labelled target units of (common inputs)^2."""
    mask, taps = layer.mask, layer.taps
    keys, targets = twin.mask.keys, twin.mask.targets

    def statistic(places: Ints) -> int:
        at = _keys(places, taps)[keys]
        cells = np.sort((targets * mask.stride + at)[at >= 0])
        common = np.intersect1d(mask.cells, cells, assume_unique=True) // mask.stride
        return int((np.bincount(common, minlength=mask.n_target) ** 2).sum())

    return statistic
