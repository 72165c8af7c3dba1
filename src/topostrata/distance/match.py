"""Which neuron of one network is which of another, how sure that is, and the other network in the first one's order.

docs/design/015-match-and-edits.md has the rule and how it was measured.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from topostrata.axes import joined_axes
from topostrata.distance import null_model
from topostrata.distance.alignments import DEFAULT, Alignment
from topostrata.distance.common import CommonNetwork, axes, common_network
from topostrata.distance.comparable import plans
from topostrata.distance.nnstd import Distance, check_topology, nnstd
from topostrata.distance.partners import Partners
from topostrata.distance.plan import Plan
from topostrata.errors import NotComparableError, NotFoundError
from topostrata.files import whole
from topostrata.frames import frame
from topostrata.shown import Shown, Table
from topostrata.topology import Layer, Topology

if TYPE_CHECKING:
    import pandas as pd

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Matrix: TypeAlias = "sp.csr_array[Any, Any]"

LEAST = 2  # common connections of an established unit, and more where independent networks have more
_SAMPLE = 200  # units of independent networks that are counted for each space, at least
_COLUMNS = (
    "space", "unit", "partner", "common_in", "common_out", "runner_up", "margin", "score", "established"
)  # fmt: skip
_AT_ONCE = 2**24  # pairs of units whose common connections are in memory at once


@dataclass(frozen=True, slots=True, eq=False)
class SpaceMatch:
    """Which unit of B each unit of a space of A is, and how sure that is.

    Of A's n units ``partner`` is the unit of B, -1 where it has none. ``common_in`` and ``common_out`` count the inputs
    and outputs that the two share, ``runner_up`` how many, of both kinds, either of the two shares with the next best
    unit; ``score`` is what is common of all connections that either has, 0 to 1. Connections that all units of the
    space have (a dense stem, a full layer) tell no units apart and are not counted.

    ``established`` says that the two are surely the same unit: they share ``level`` connections or more, and the space
    is ``told``; all others are unknown. Both come from independent networks of the same degrees. The level is 2, or
    what three quarters of their units share with their partners, if that is more. A space is told where fewer than half
    as many units share less than ``typical`` (their median, 2 or more) as of theirs: ``below`` and ``chance_below``,
    two shares.
    """

    name: str
    name_b: str
    width_a: int
    width_b: int
    partner: Ints
    common_in: Ints
    common_out: Ints
    runner_up: Ints
    score: Floats
    level: int
    typical: int
    below: float
    chance_below: float

    @property
    def common(self) -> Ints:
        """Inputs and outputs that each unit shares with its partner."""
        return self.common_in + self.common_out

    @property
    def margin(self) -> Ints:
        """How many more connections each unit shares with its partner than either has in common with another unit."""
        return self.common - self.runner_up

    @property
    def told(self) -> bool:
        """Whether units share more than those of independent networks of the same degrees."""
        return 2 * self.below < self.chance_below

    @property
    def established(self) -> Bools:
        """Which units are surely the same."""
        return (self.partner >= 0) & (self.common >= self.level) & self.told


@dataclass(frozen=True, slots=True, eq=False)
class Match(Shown):
    """Which neuron of network A is which of B, for every space whose units are interchangeable.

    ``alignment`` made the match (``"given"``: it came from elsewhere), in this ``version``; ``nnstd`` is the distance
    under it. ``digest_a`` and ``digest_b`` say which two networks it is of.
    """

    json_names: ClassVar = {"distance": None}

    alignment: str
    version: int
    digest_a: str
    digest_b: str
    spaces: tuple[SpaceMatch, ...]
    distance: Distance

    @property
    def nnstd(self) -> float:
        """The distance of the two networks under this match."""
        return self.distance.nnstd

    @property
    def units(self) -> int:
        """The units of A that are matched."""
        return sum(space.width_a for space in self.spaces)

    @property
    def established(self) -> int:
        """How many of them are surely known."""
        return sum(int(space.established.sum()) for space in self.spaces)

    def __getitem__(self, space: str) -> SpaceMatch:
        """The match of one space, by A's name; ``NotFoundError`` where none of that name is matched."""
        spaces = {entry.name: entry for entry in self.spaces}
        if space not in spaces:
            raise NotFoundError(f"space {space!r}: expected one of {', '.join(spaces) or 'none'}")
        return spaces[space]

    def partners(self) -> dict[str, Ints]:
        """For each space the unit of B that each unit of A is: what ``nnstd(..., partners=)`` takes."""
        return {space.name: space.partner for space in self.spaces}

    def to_pandas(self) -> pd.DataFrame:
        """A row for each unit of A: its space and number, its partner, and what ``SpaceMatch`` says of the two."""
        return frame(dict(zip(_COLUMNS, row, strict=True)) for row in self._rows())

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """The rows of ``to_pandas`` as a file."""
        with whole(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(_COLUMNS)
            writer.writerows(self._rows())

    def _shown(self) -> Table:
        heads = ("space", "units", "established", "unknown", "in common, mean", "margin, mean")
        rows = []
        for space in self.spaces:
            known = int(space.established.sum())
            means = float(space.common.mean()), float(space.margin.mean())
            rows.append([space.name, space.width_a, known, space.width_a - known, *means])
        title = f"{self.established:,} of {self.units:,} units are established, alignment {self.alignment}"
        return Table(f"{title}, NNSTD {self.nnstd:.4f}", heads, rows)

    def _rows(self) -> Iterator[list[Any]]:
        for space in self.spaces:
            columns = [getattr(space, name).tolist() for name in _COLUMNS[2:]]
            yield from ([space.name, unit, *row] for unit, row in enumerate(zip(*columns, strict=True)))


def match(
    a: Topology, b: Topology, *, alignment: Alignment = DEFAULT, partners: Mapping[str, Any] | None = None
) -> Match:
    """Which neuron of ``a`` is which of ``b``, with what speaks for it.

    ``alignment`` and ``partners`` are those of ``nnstd``, whose errors it raises too. Beside the two networks it
    compares independent ones of the same degrees, as many as make 200 units of each space: without them nobody knows
    what a common connection is worth.

    >>> import numpy as np
    >>> random = np.random.default_rng(0)
    >>> a = Topology.from_masks([random.random((60, 90)) < 0.05, random.random((90, 60)) < 0.05])
    >>> b = a.relabelled({"hidden1": random.permutation(90)})
    >>> answer = match(a, b)
    >>> answer.nnstd, answer.units, answer.established
    (0.0, 90, 89)
    """
    for network in (a, b):
        check_topology(network, "match")
    distance = nnstd(a, b, alignment=alignment, partners=partners)
    both = plans(a, b)
    counts = _counted(common_network(a, b, both, distance.matching))
    by_chance = _of_chance(a, b, alignment, partners)
    spaces = []
    for s, count in counts.items():
        level, typical = (max(LEAST, math.ceil(np.quantile(by_chance[s], q))) for q in (0.25, 0.5))
        total = count.common_in + count.common_out
        spaces.append(
            SpaceMatch(
                both[0].spaces[s].name,
                both[1].spaces[s].name,
                len(count.partner),
                both[1].spaces[s].size,
                count.partner,
                count.common_in,
                count.common_out,
                count.runner_up,
                count.score,
                level,
                typical,
                float((total < typical).mean()),
                float((by_chance[s] < typical).mean()),
            )
        )
    return Match(distance.alignment, distance.version, a.digest, b.digest, tuple(spaces), distance)


def align(
    b: Topology, *, to: Topology, alignment: Alignment = DEFAULT, partners: Mapping[str, Any] | None = None
) -> Topology:
    """``b`` with its units in the order of their partners in ``to``: unit i of the answer is unit i of ``to``.

    So its distance by ``identity`` is that of the alignment. ``alignment`` and ``partners`` are those of ``nnstd(to,
    b)``, whose errors it raises too. Spaces of ``b`` may be wider: what is left over stands behind. Raises
    ``NotComparableError`` where ``b`` is narrower, and where labelled units would change places, as the reference
    alignment lets them.

    >>> a = Topology.from_masks([[[1, 0], [1, 1], [0, 1]], [[1], [0]]])
    >>> b = a.relabelled({"hidden1": np.array([1, 0])})
    >>> align(b, to=a) == a
    True
    """
    matching = nnstd(to, b, alignment=alignment, partners=partners).matching
    plan_a, plan_b = plans(to, b)
    for s, space in enumerate(plan_a.spaces):
        if plan_b.spaces[s].size < space.size:
            raise NotComparableError(
                f"align: expected a network at least as wide as the other, found {plan_b.spaces[s].size} units in "
                f"space {plan_b.spaces[s].name!r} where the other has {space.size}",
                hint="align the wider one to the narrower one",
            )
        if plan_a.fixed[s] and not np.array_equal(matching[space.name], np.arange(space.size)):
            raise NotComparableError(
                f"align: expected a match that leaves space {space.name!r} in place, whose units have an order of "
                "their own, found another",
                hint="use the overlap alignment",
            )
    by_axes = Partners(plan_a, plan_b)
    by_axes.put(axes(plan_a, plan_b, {s: matching[space.name] for s, space in enumerate(plan_a.spaces)}))
    sizes = _axes_by_name(plan_b)
    return b.relabelled({sizes[axis][0]: _moves(by_axes, plan_a, axis, sizes) for axis in by_axes.axes})


def _axes_by_name(plan: Plan) -> dict[int, tuple[str, int]]:
    """The name and the size of each free axis of a plan."""
    return {
        axis: (str(name), size)
        for space, context in zip(plan.spaces, plan.contexts, strict=False)
        for (axis, size), (name, _) in zip(context, joined_axes(space.axes), strict=True)
        if axis >= 0
    }


def _moves(partners: Partners, plan: Plan, axis: int, sizes: Mapping[int, tuple[str, int]]) -> Ints:
    """Where each index of an axis of B goes, at each index of those around it; what has no partner fills the gaps."""
    images, outer = partners.axes[axis], plan.within[axis]
    moves = np.tile(np.arange(sizes[axis][1]), (*(sizes[x][1] for x in outer), 1))
    around = images.shape[:-1]
    grid = np.unravel_index(np.arange(math.prod(around)), around) if around else ()
    at = dict(zip(outer, grid, strict=True))
    there = [partners.image(x, at[x], at) for x in outer]
    for k, row in enumerate(images.reshape(-1, images.shape[-1])):
        place = tuple(int(index[k]) for index in there)
        if -1 in place:
            continue
        matched = np.flatnonzero(row >= 0)
        order = np.full(sizes[axis][1], -1)
        order[row[matched]] = matched
        order[order < 0] = np.setdiff1d(np.arange(len(order)), matched)
        moves[place] = order
    return moves


@dataclass(frozen=True, slots=True, eq=False)
class _Counts:
    """What the units of a space of A share with their partners, as in ``SpaceMatch``."""

    partner: Ints
    common_in: Ints
    common_out: Ints
    runner_up: Ints
    score: Floats


def _of_chance(a: Topology, b: Topology, alignment: Alignment, partners: Mapping[str, Any] | None) -> dict[int, Ints]:
    """For each space what units share with their partners in independent networks of the same degrees."""
    both = plans(a, b)
    widths = [space.size for s, space in enumerate(both[0].spaces) if not both[0].fixed[s]]
    draws = min(null_model.DRAWS, -(-_SAMPLE // min(widths, default=_SAMPLE)))
    pooled: dict[int, list[Ints]] = {}
    for x, y in null_model.independent(a, b, draws):
        matching = nnstd(x, y, alignment=alignment, partners=partners).matching
        for s, count in _counted(common_network(x, y, both, matching), rivals=False).items():
            pooled.setdefault(s, []).append(count.common_in + count.common_out)
    return {s: np.concatenate(rows) for s, rows in pooled.items()}


def _counted(common: CommonNetwork, *, rivals: bool = True) -> dict[int, _Counts]:
    """The counts of each space whose units are interchangeable; ``rivals``: those of runners-up too."""
    counts = {}
    for s in range(len(common.a.spaces)):
        if common.a.fixed[s]:
            continue
        sides = [_elements(common, s, layers, inputs=inputs) for inputs, layers in _layers(common.a, s)]
        partner = common.partners[s]
        shared = [_shared(mine, other, partner) for mine, other in sides]
        mine, other = (sp.hstack(pair, format="csr") for pair in zip(*sides, strict=True))
        runner_up = _runner_up(mine, other, partner) if rivals else np.zeros(len(partner), dtype=np.int64)
        total = np.diff(mine.indptr) + np.where(partner >= 0, np.diff(other.indptr)[partner], 0)
        either = total - shared[0] - shared[1]
        score = (shared[0] + shared[1]) / np.maximum(either, 1)
        counts[s] = _Counts(partner, shared[0], shared[1], runner_up, score)
    return counts


def _layers(plan: Plan, s: int) -> tuple[tuple[bool, tuple[int, ...]], ...]:
    """The layers into a space, and those out of it whose taps are no axes."""
    return (True, plan.incoming[s]), (False, plan.seen[s])


def _elements(common: CommonNetwork, s: int, layers: Sequence[int], *, inputs: bool) -> tuple[Matrix, Matrix]:
    """Which units of A and of B hold which elements (inputs, or outputs), both numbered as in B.

    Elements that all units hold which could hold them, in one of the two networks, are left out; those of A whose unit
    has no partner are columns of their own.
    """
    held: list[list[Ints]] = [[], [], [], []]  # units and elements of A, units and elements of B
    offset = 0
    for k in layers:
        layer = common.layers[k]
        joint = inputs and common.a.sources[k] >= len(common.a.spaces)
        context = common.a.sources[k] if inputs else common.a.layers[k][1]
        (units_a, mine, size_a), (units_b, theirs, size_b) = (_held(x, inputs=inputs) for x in (layer.a, layer.b))
        taps = 1 if joint else layer.b.taps
        images = common.partners[context]
        named = np.arange(size_a) if joint else np.arange(size_a) // layer.a.taps
        there = images[named] if joint else images[named] * taps + np.arange(size_a) % layer.a.taps
        there = np.where(images[named] < 0, size_b + np.arange(size_a), there)
        full = np.zeros(size_a + size_b, dtype=np.bool_)
        full[there[_full(layer.a, mine, size_a, inputs=inputs)]] = True
        full[:size_b] |= _full(layer.b, theirs, size_b, inputs=inputs)
        for at, units, elements in ((0, units_a, there[mine]), (2, units_b, theirs)):
            telling = ~full[elements]
            held[at].append(units[telling])
            held[at + 1].append(elements[telling] + offset)
        offset += size_a + size_b
    widths = len(common.partners[s]), common.b.spaces[s].size
    return _matrix(held[0], held[1], widths[0], offset), _matrix(held[2], held[3], widths[1], offset)


def _held(layer: Layer, *, inputs: bool) -> tuple[Ints, Ints, int]:
    """The unit at this end of each connection, the element that it holds, and how many elements there could be."""
    sources, targets, taps = layer.shape.units_of(layer.mask.cells)
    near, far, size = (targets, sources, layer.source.size) if inputs else (sources, targets, layer.target.size)
    return near, far * layer.taps + taps, size * layer.taps


def _full(layer: Layer, elements: Ints, size: int, *, inputs: bool) -> Bools:
    """Which elements are held by all units that could hold them: those of one group."""
    could = (layer.target.size if inputs else layer.source.size) // layer.groups
    full: Bools = np.bincount(elements, minlength=size) == could
    return full


def _matrix(units: list[Ints], elements: list[Ints], n: int, width: int) -> Matrix:
    rows, columns = (np.concatenate([np.zeros(0, dtype=np.int64), *parts]) for parts in (units, elements))
    return sp.csr_array((np.ones(len(rows), dtype=np.int32), (rows, columns)), shape=(n, max(width, 1)))


def _shared(mine: Matrix, other: Matrix, partner: Ints) -> Ints:
    """How many elements each unit shares with its partner."""
    shared = np.zeros(len(partner), dtype=np.int64)
    matched = np.flatnonzero(partner >= 0)
    shared[matched] = mine[matched].multiply(other[partner[matched]]).sum(axis=1)
    return shared


def _runner_up(mine: Matrix, other: Matrix, partner: Ints) -> Ints:
    """The most elements that a unit, or its partner, shares with any but the other."""
    most, most_b = np.zeros(mine.shape[0], dtype=np.int64), np.zeros(other.shape[0], dtype=np.int64)
    turned = other.T.tocsr()
    rows = max(1, _AT_ONCE // other.shape[0])
    for begin in range(0, mine.shape[0], rows):
        counts = (mine[begin : begin + rows] @ turned).tocoo()
        units, others = counts.row + begin, counts.col
        rival = partner[units] != others
        np.maximum.at(most, units[rival], counts.data[rival])
        np.maximum.at(most_b, others[rival], counts.data[rival])
    matched = partner >= 0
    most[matched] = np.maximum(most[matched], most_b[partner[matched]])
    return most
