"""NNSTD, the distance between the wirings of two sparse networks (Liu et al. 2020, section 3).

Two units are as far apart as their fan-in sets: ``|xor| / |or|``. A layer's distance is the cost of the best one-to-one
matching of its units, divided by its width; the next layer is compared with its inputs named by that match. NNSTD is
the mean over the layers: 0 = the same wiring up to the matching, 1 = nothing in common. Which of several equally good
matches is used is left open by the paper and changes the value; ``alignment`` names the choice
(docs/design/010-nnstd.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from topostrata.distance import null_model
from topostrata.distance.alignments import DEFAULT, Alignment, Given, definition_of
from topostrata.distance.chosen import Choice, Layers, common_layers, cut
from topostrata.distance.common import common_network, row_values
from topostrata.distance.comparable import plans
from topostrata.distance.comparison import Comparison, Described, Planned, Ready
from topostrata.distance.given import checked
from topostrata.distance.null_model import Chance, Kept, Levels, Memory
from topostrata.distance.plan import Plan, Row, plan_of
from topostrata.errors import InvalidInputError, NotComparableError
from topostrata.frames import frame
from topostrata.shown import Shown, Table
from topostrata.topology import Topology, Wiring

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class LayerDistance:
    """One row of a distance: the layer (or the layers of one stage, joined by ``+``) and what it contributes.

    ``distance`` is 0 to 1, ``width`` the units of the larger network's space, the densities shares of the possible
    connections, 0 to 1. ``ambiguous`` counts the units that had more than one optimal partner before
    colours decided: by their fan-in sets alone (``canonical``), or by all their connections (``overlap``, ``refined``:
    those that have some); None where nothing was counted (``reference``). ``chance`` is the level of independent layers
    of the same degrees or densities; None where it was not asked.
    """

    name: str
    distance: float
    width: int
    density_a: float
    density_b: float
    ambiguous: int | None = None
    chance: Chance | None = None

    @property
    def z(self) -> float | None:
        """How many deviations the distance lies from chance: far below 0 = far more alike than independent layers.

        None where chance was not asked, keeps densities only, or leaves no choice (``Chance.z``).
        """
        return None if self.chance is None else self.chance.z(self.distance)


@dataclass(frozen=True, slots=True)
class Distance(Shown):
    """How far apart two networks are: ``nnstd`` is the mean of the layers' distances, 0 to 1.

    ``matching`` holds for every space (by A's name) the unit of B that each unit of A was matched with, -1 where none.
    ``canonical`` is True where the value does not depend on how hidden units are stored. ``held`` names the spaces
    whose units are interchangeable and were compared by index all the same, because nothing tells them apart or an
    exact match would be too dear: the distance is too large there, never too small; none with ``identity``, which
    compares all units so. ``informed`` is False where in some space colours, not connections, decided the partners of
    more than half of the units, as where all of them read all inputs: then one changed connection may change all of
    them; None where that was not counted (``reference``). ``version`` is that of the alignment, which is ``"given"``
    where the match came from elsewhere. ``chance`` is the level of ``nnstd`` for independent networks; None where it
    was not asked. ``left_out`` names the layers of either network that do not count, where layers were chosen.
    ``float(distance)`` is ``nnstd``.
    """

    json_names: ClassVar = {"matching": None, "ambiguous": None, "chance": None}

    alignment: Alignment | Given
    nnstd: float
    layers: tuple[LayerDistance, ...]
    matching: Mapping[str, NDArray[np.int64]] = field(default_factory=dict, compare=False, repr=False)
    canonical: bool = False
    held: tuple[str, ...] = ()
    informed: bool | None = True
    version: int = 1
    chance: Chance | None = None
    left_out: tuple[str, ...] = ()

    def __float__(self) -> float:
        return self.nnstd

    @property
    def z(self) -> float | None:
        """How many deviations ``nnstd`` lies from chance, as ``LayerDistance.z``."""
        return None if self.chance is None else self.chance.z(self.nnstd)

    def to_pandas(self) -> pd.DataFrame:
        """A row for each layer: its distance, width, densities, ambiguous units, and what chance has."""
        _, heads, rows = self._shown()
        return frame(dict(zip(heads, row, strict=True)) for row in rows)

    def _shown(self) -> Table:
        rows = [
            [
                *(y.name, y.distance, y.width, y.density_a, y.density_b, y.ambiguous),
                *((None, None) if y.chance is None else (y.chance.level, y.z)),
            ]
            for y in self.layers
        ]
        heads = ("layer", "distance", "width", "density_a", "density_b", "ambiguous", "chance", "z")
        out = f"; left out: {', '.join(self.left_out)}" if self.left_out else ""
        return Table(f"NNSTD {self.nnstd:.4f}, alignment {self.alignment}{out}", heads, rows)

    @property
    def ambiguous(self) -> int | None:
        """Units of all layers that had more than one optimal partner; None where nothing was counted."""
        counts = [row.ambiguous for row in self.layers if row.ambiguous is not None]
        return sum(counts) if len(counts) == len(self.layers) else None


def matched_later(distance: Distance, match: Callable[[], Mapping[str, NDArray[np.int64]]]) -> Distance:
    """The distance with a match that is asked for when somebody looks at it."""
    return replace(distance, matching=_Later(match))


class _Later(Mapping[str, NDArray[np.int64]]):
    def __init__(self, match: Callable[[], Mapping[str, NDArray[np.int64]]]) -> None:
        self._match = match

    @cached_property
    def _matching(self) -> Mapping[str, NDArray[np.int64]]:
        return self._match()

    def __getitem__(self, space: str) -> NDArray[np.int64]:
        return self._matching[space]

    def __iter__(self) -> Iterator[str]:
        return iter(self._matching)

    def __len__(self) -> int:
        return len(self._matching)


def nnstd(
    a: Topology,
    b: Topology,
    *,
    alignment: Alignment = DEFAULT,
    fix_output: bool = True,
    chance: Kept | None = None,
    partners: Mapping[str, Any] | None = None,
    layers: Layers = None,
    memory: Memory | None = None,
) -> Distance:
    """How different the wirings of two networks are, 0 (the same) to 1 (nothing in common).

    ``alignment`` says how hidden units are matched: ``"overlap"`` (most common connections: which unit is which),
    ``"canonical"`` (the published procedure, well defined), ``"refined"`` (the smallest value a local search finds),
    ``"reference"`` (as published; not symmetric) or ``"identity"`` (unit i is unit i: for snapshots of one run).
    Labelled output units stay in place unless ``fix_output=False``; the reference matches them always, as published.
    ``chance`` adds the level that independent networks would have, of every layer and of the whole (``null_model``).
    With ``"degrees"`` these have the degrees of every unit of both networks, and there is a ``z``: 12 pairs are drawn
    and compared, once for each two networks. With ``"density"`` they have the shape and the densities, without hubs, so
    that there is no ``z``: a fraction of a second for each new shape and density. ``partners`` is a match from
    elsewhere, found by weights or activations: for each hidden space of ``a``, by its name or that of the layer that
    enters it, the unit of ``b`` that each of its units is. It takes the place of an alignment, and the answer says
    ``"given"``. Levels by degrees that ``memory`` has, as archives do, are not drawn again.

    ``layers`` chooses what the distance is of, as a text or several: names and globs of layers (the networks are
    matched whole), ``"sparse"`` (rows that are not full in both), ``"common"`` (the layers of the same names between
    spaces of the same names, as networks of different depth have; nothing else of the two is looked at). ``left_out``
    of the answer names the layers that do not count.

    Raises ``NotComparableError`` where the networks are wired differently, ``InvalidInputError`` where something else
    than two topologies, an unknown alignment or partners that are no permutations are handed in, ``MissingExtraError``
    where the alignment needs numba (``overlap``, ``canonical``, ``refined``) and numba is not installed, ``LimitError``
    where fan-in sets exceed 1.9 million elements.

    Two outputs with the inputs {0, 1}, {1, 2} and {0}, {1, 2}: the first differ by 1 of 2, the second by nothing.

    >>> import numpy as np
    >>> a = Topology.from_masks([np.array([[1, 0], [1, 1], [0, 1]])])
    >>> b = Topology.from_masks([np.array([[1, 0], [0, 1], [0, 1]])])
    >>> float(nnstd(a, b, alignment="identity"))
    0.25

    Hidden units are matched: here B's are A's in the other order, and its output reads them in the other order.

    >>> a = Topology.from_masks([np.array([[1, 0], [1, 1], [0, 1]]), np.array([[1], [0]])])
    >>> b = Topology.from_masks([np.array([[0, 1], [1, 1], [1, 0]]), np.array([[0], [1]])])
    >>> nnstd(a, b, alignment="identity").nnstd, nnstd(a, b).nnstd
    (0.8333333333333333, 0.0)
    >>> nnstd(a, b, partners={"hidden1": [1, 0]}).nnstd
    0.0
    """
    definition = definition_of(alignment)
    null_model.check_kept(chance)
    for network in (a, b):
        check_topology(network, "nnstd")
    choice = Choice.of(layers)
    lost: tuple[str, ...] = ()
    if choice.common:
        names, lost = common_layers([a.wiring, b.wiring])
        a, b = cut(a, names), cut(b, names)
    if partners is not None:
        if chance is not None:
            raise InvalidInputError("nnstd: expected partners or chance, found both: chance is matched by an alignment")
        return _chosen(by_partners(a, b, partners, fix_output=fix_output), choice, lost)
    plan_a, plan_b = plans(a, b, fix_output=fix_output)
    definition.check_installed()
    first, second = (
        definition.ready(network, fix_output=fix_output, order=plan.order)
        for network, plan in ((a, plan_a), (b, plan_b))
    )
    distance = _chosen(compare(first, second, alignment=alignment), choice, lost)
    if chance is None:
        return distance
    return with_chance(distance, a, b, kept=chance, fix_output=fix_output, memory=memory)


def _chosen(distance: Distance, choice: Choice, lost: tuple[str, ...]) -> Distance:
    """The distance of the rows that count, with the names of the layers that do not."""
    if choice.all:
        return replace(distance, left_out=lost)
    rows = distance.layers
    chosen = choice.rows([row.name for row in rows], [row.density_a == row.density_b == 1 for row in rows])
    layers = tuple(rows[k] for k in chosen)
    nnstd = math.fsum(row.distance for row in layers) / len(layers)
    out = (*(row.name for k, row in enumerate(rows) if k not in chosen), *lost)
    return replace(distance, nnstd=nnstd, layers=layers, left_out=out)


def by_partners(a: Topology, b: Topology, partners: Mapping[str, Any], *, fix_output: bool = True) -> Distance:
    """The distance of two networks whose match is known: see ``nnstd``."""
    both = plans(a, b, fix_output=fix_output)
    units = checked(*both, partners)
    spaces = {space.name: units[s] for s, space in enumerate(both[0].spaces)}
    comparison = Comparison(row_values(common_network(a, b, both, spaces)), dict(enumerate(spaces.values())))
    return replace(describe(Planned(a, both[0]), Planned(b, both[1]), "identity", comparison), alignment="given")


def check_topology(network: object, where: str) -> None:
    """Refuse what is no topology, and say how it becomes one."""
    if isinstance(network, Topology):
        return
    hint = "Topology.from_masks([...]) makes a topology of the masks of its layers"
    if isinstance(network, str):
        hint = "an archive takes refs: topostrata.open() gives one"
    raise InvalidInputError(f"{where}: expected a Topology, found {type(network).__name__}", hint=hint)


def with_chance(
    distance: Distance,
    a: Topology,
    b: Topology,
    *,
    kept: Kept = "degrees",
    fix_output: bool = True,
    exact: bool = False,
    memory: Memory | None = None,
) -> Distance:
    """The distance of ``a`` and ``b`` with the chance level of every layer and of their mean.

    ``kept`` is what independent networks have in common with the two (``nnstd``). ``exact``, for densities: simulated
    however wide. Degrees are kept in every kind of wiring (groups stay groups, tied layers stay tied); densities only
    where units are matched one by one, and ``NotComparableError`` names the layer where they are not. Levels by degrees
    that ``memory`` has are not drawn again.
    """
    null_model.check_kept(kept)
    levels = partial(_degree_levels, memory=memory) if kept == "degrees" else partial(_density_levels, exact=exact)
    of_rows, whole = levels(distance, a, b, fix_output=fix_output)
    rows = zip(distance.layers, of_rows, strict=True)
    return replace(distance, layers=tuple(replace(row, chance=level) for row, level in rows), chance=whole)


def _degree_levels(distance: Distance, a: Topology, b: Topology, *, fix_output: bool, memory: Memory | None) -> Levels:
    definition = definition_of(distance.alignment)

    names = [row.name for row in distance.layers]

    def compared(x: Topology, y: Topology) -> list[float]:
        rows = nnstd(x, y, alignment=definition.name, fix_output=fix_output).layers
        return [row.distance for row in rows if row.name in names]

    key = definition.key(fix_output=fix_output)
    return null_model.degree_levels(a, b, compared, key, names, symmetric=definition.symmetric, memory=memory)


def _density_levels(distance: Distance, a: Topology, b: Topology, *, fix_output: bool, exact: bool) -> Levels:
    both = plans(a, b, fix_output=fix_output)
    matched = definition_of(distance.alignment).matched
    levels = []
    places = dict(zip(_row_names(both[0]), both[0].rows, strict=True))
    for row in distance.layers:
        place = places[row.name]
        free = place.first and place.space in both[0].problem_of
        if free and matched != "none":
            _check_chance(both[0], place, row.name)
        width_a, width_b = (plan.spaces[place.space].size for plan in both)
        level = null_model.chance(
            max(sum(plan.shapes[k].local_sources * plan.shapes[k].taps for k in place.layers) for plan in both),
            (width_a, width_b),
            (row.density_a, row.density_b),
            matched=matched == "all" or (matched == "hidden" and free),
            exact=exact,
        )
        levels.append(level)
    return levels, null_model.mean_of_independent(levels)


def compare(a: Ready, b: Ready, *, alignment: Alignment = DEFAULT) -> Distance:
    """``nnstd`` of two comparable networks that were made ready once for many comparisons (``Definition.ready``)."""
    definition = definition_of(alignment)
    both = plans(a, b, fix_output=a.plan.fix_output)
    a, b = (
        network if network.plan.order == plan.order else network.ordered(plan)
        for network, plan in zip((a, b), both, strict=True)
    )
    return describe(a, b, definition.name, definition.compare(a, b))


def describe(a: Described, b: Described, alignment: Alignment, comparison: Comparison) -> Distance:
    """A comparison with the names, widths and densities of the layers, and the mean of their distances."""
    plan = a.plan
    values, counts = comparison.values, comparison.ambiguous  # noqa: PD011 - no data frame
    rows = []
    for k, (row, value, name) in enumerate(zip(plan.rows, values, _row_names(plan), strict=True)):
        rows.append(
            LayerDistance(
                name=name,
                distance=value,
                width=max(network.plan.spaces[row.space].size for network in (a, b)),
                density_a=_density(a, row.layers),
                density_b=_density(b, row.layers),
                ambiguous=None if counts is None else counts[k],
            )
        )
    return Distance(
        alignment,
        math.fsum(values) / len(values),
        tuple(rows),
        {plan.spaces[s].name: partner for s, partner in comparison.partners.items()},
        comparison.canonical,
        held_spaces(plan, alignment),
        comparison.informed,
        definition_of(alignment).version,
    )


def held_spaces(plan: Plan, alignment: Alignment) -> tuple[str, ...]:
    """The spaces that an alignment would match but has to compare by index: see ``Distance.held``."""
    return plan.held if definition_of(alignment).matched != "none" else ()


def layer_names(wiring: Wiring) -> tuple[str, ...]:
    """What the rows of a distance are called: the layers of a stage of a space, joined by ``+``."""
    return _row_names(plan_of(wiring))


def _row_names(plan: Plan) -> tuple[str, ...]:
    return tuple("+".join(plan.shapes[k].name for k in row.layers) for row in plan.rows)


def _check_chance(plan: Plan, row: Row, name: str) -> None:
    """Refuse rows whose units are matched in another way than those that the null model simulates."""
    layers = plan.incoming[row.space]
    grouped = [plan.shapes[k].name for k in row.layers if plan.shapes[k].loops or plan.groups[k]]
    if grouped or not plan.problem_of[row.space].plain or {*row.layers} - {*layers}:
        reason = f"layer {grouped[0]!r}, a self-loop or one with groups" if grouped else "a space of several axes"
        raise NotComparableError(
            f"chance level of {name!r}: expected units that are matched one by one by plain layers, found {reason}",
            hint="keep degrees instead (chance='degrees', --chance degrees), which every kind of wiring has",
        )


def _density(network: Described, layers: tuple[int, ...]) -> float:
    shapes = network.plan.shapes
    return sum(network.connections[k] for k in layers) / sum(shapes[k].possible for k in layers)
