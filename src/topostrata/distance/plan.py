"""In which order the units of a network are matched, by which layers, and which rows a distance has.

Everything that does not depend on single connections is decided here, once for a wiring, so that the alignments only
see numbers: spaces by their place in the order, layers by their position, free axes by their first use
(docs/design/010-nnstd.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from topostrata import order as layer_order
from topostrata import sharing, symmetries
from topostrata.axes import Axis, joined_axes
from topostrata.topology import LayerShape, Space, Wiring

# Units of a space of several axes beyond which it is compared by index: all its pairs of units are priced at once.
DEAREST = 16_384

Context = tuple[tuple[int, int], ...]

# As ``fused.compare_pairs`` sees a plan: the spaces that are matched, in order; which other spaces each looks ahead to;
# for each space the (space, taps) of its fan-in elements and of its fan-out elements, as ends and list; the spaces of
# the rows and their elements, likewise; and in which spaces units of one colour are equal.
Layout = tuple[NDArray[np.generic], ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One value of a distance: the layers of a stage that own their connections, and the space they enter.

    ``first`` says that the stage is the one by which the space's units are matched.
    """

    space: int
    layers: tuple[int, ...]
    first: bool


@dataclass(frozen=True, slots=True)
class Problem:
    """What is matched at once: the spaces, and the free axes that are new in them.

    ``inner`` are ordered anew at each index of the ``outer`` axis, where there is one, and all of them at each index of
    the axes ``around``, which were matched before. ``plain``: the units of one space, each by itself.
    """

    spaces: tuple[int, ...]
    outer: int | None
    inner: tuple[int, ...]
    around: tuple[int, ...]
    plain: bool


@dataclass(frozen=True)
class Plan:
    """How a wiring is compared, its layers taken in the order ``order`` of their positions.

    Spaces stand in matching order: first those that nothing tells the units of (no layer enters them before they are
    read), then the others by the last layer of their first stage. ``contexts`` are rows of axes, of each a pair of its
    number (-1: kept in place) and size: those of the spaces, then of sources with tap axes. ``layers`` are pairs of
    places, ``sources`` the context of each layer's elements, ``taps`` how many elements a unit of it has.
    ``entering`` are the layers that each space is matched by, ``incoming`` and ``outgoing`` all its layers; ``within``
    names for each axis the axes at each of whose indices it may be ordered differently.
    """

    order: tuple[int, ...]
    shapes: tuple[LayerShape, ...]
    spaces: tuple[Space, ...]
    layers: tuple[tuple[int, int], ...]
    contexts: tuple[Context, ...]
    sources: tuple[int, ...]
    taps: tuple[int, ...]
    entering: tuple[tuple[int, ...], ...]
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...]
    within: tuple[tuple[int, ...], ...]
    staying: tuple[int, ...]
    groups: tuple[bool, ...]
    plain: bool
    fix_output: bool

    @cached_property
    def incoming(self) -> tuple[tuple[int, ...], ...]:
        """All layers into each space."""
        return tuple(tuple(k for k, (_, t) in enumerate(self.layers) if t == s) for s in range(len(self.spaces)))

    @cached_property
    def outgoing(self) -> tuple[tuple[int, ...], ...]:
        """All layers out of each space."""
        return tuple(tuple(k for k, (f, _) in enumerate(self.layers) if f == s) for s in range(len(self.spaces)))

    @cached_property
    def ahead(self) -> tuple[tuple[int, ...], ...]:
        """The layers out of each space that its look-ahead sees: none that loops or has axes as taps."""
        seen = [f != t and self.sources[k] < len(self.spaces) for k, (f, t) in enumerate(self.layers)]
        return tuple(tuple(k for k in layers if seen[k]) for layers in self.outgoing)

    @cached_property
    def seen(self) -> tuple[tuple[int, ...], ...]:
        """The layers out of each space whose taps are no axes, self-loops too."""
        return tuple(tuple(k for k in layers if self.sources[k] < len(self.spaces)) for layers in self.outgoing)

    @cached_property
    def fixed(self) -> tuple[bool, ...]:
        """Which spaces are compared by index."""
        return tuple(all(self.stays(axis) for axis, _ in self.contexts[s]) for s in range(len(self.spaces)))

    @cached_property
    def problem_of(self) -> dict[int, Problem]:
        """The problem in which each space is matched that has one."""
        return {s: problem for problem in self.problems for s in problem.spaces}

    @cached_property
    def exchangeable(self) -> tuple[int, ...]:
        """For each space how many neighbouring units can change places alone, no unit of another space with them.

        All of a plain space; in a space of several free axes those that differ in the innermost one alone, where no
        other space has it; 0 where units cannot.
        """
        uses = [axis for context in self.contexts for axis, _ in context]
        return tuple(
            context[-1][1]
            if context
            and not any(self.stays(axis) for axis, _ in context)
            and uses.count(context[-1][0]) == 1
            and context[-1][0] in self.problem_of[s].inner
            else 0
            for s, context in enumerate(self.contexts[: len(self.spaces)])
        )

    @cached_property
    def layout(self) -> Layout | None:
        """How the network is wired, as arrays; None where units are not matched one by one, each space by itself."""
        n = len(self.spaces)
        if len(self.contexts) > n or not all(problem.plain for problem in self.problems):
            return None
        uses = [axis for context in self.contexts for axis, _ in context]
        if any(uses.count(axis) > 1 for problem in self.problems for axis in problem.inner):
            return None  # a match is that of other spaces, too
        fed = np.zeros((n, n), dtype=np.bool_)
        for s, ahead in enumerate(self.ahead):
            for target in {self.layers[k][1] for k in ahead}:
                fed[s, target] = any(self.layers[k][0] == s for k in self.entering[target])
        sources = [[(self.sources[k], self.taps[k]) for k in entering] for entering in self.entering]
        targets = [[(self.layers[k][1], self.shapes[k].taps) for k in ahead] for ahead in self.ahead]
        rows = [[(self.sources[k], self.taps[k]) for k in row.layers] for row in self.rows]
        return (
            np.array([problem.spaces[0] for problem in self.problems], dtype=np.int64),
            fed,
            *_listed(sources),
            *_listed(targets),
            np.array([row.space for row in self.rows], dtype=np.int64),
            *_listed(rows),
            np.array([units > 0 for units in self.exchangeable], dtype=np.bool_),
        )

    @cached_property
    def sides(self) -> Layout:
        """For ``beliefs``: the spaces not compared by index, and of each space the (context, taps) of its elements.

        Those of its inputs, then of its outputs, each as ends and list.
        """
        incoming = [[(self.sources[k], self.taps[k]) for k in layers] for layers in self.incoming]
        outgoing = [[(self.layers[k][1], self.shapes[k].taps) for k in layers] for layers in self.seen]
        hidden = [s for s, fixed in enumerate(self.fixed) if not fixed]
        return np.array(hidden, dtype=np.int64), *_listed(incoming), *_listed(outgoing)

    @property
    def held(self) -> tuple[str, ...]:
        """The spaces with interchangeable units that are compared by index all the same."""
        return tuple(
            space.name for s, space in enumerate(self.spaces) if any(a in self.staying for a, _ in self.contexts[s])
        )

    @cached_property
    def rounds(self) -> int:
        """Rounds of colours: enough for a unit to hear of every space and back."""
        return 2 * (len(self.spaces) - 1 if self.plain else self._breadth()) + 2

    @cached_property
    def form(self) -> tuple[object, ...]:
        """What two networks must have in common to be comparable: all but names and sizes."""
        patterns = tuple(tuple(axis for axis, _ in context) for context in self.contexts)
        taps = tuple(0 if source >= len(self.spaces) else n for source, n in zip(self.sources, self.taps, strict=True))
        return (
            self.layers,
            self.sources,
            taps,
            self.groups,
            patterns,
            self.rows,
            self.problems,
            self.within,
            self.staying,
        )

    def stays(self, axis: int) -> bool:
        """Whether an axis of a context is compared by index."""
        return axis < 0 or axis in self.staying

    def _breadth(self) -> int:
        """The most layers on the shortest way, in either direction, between two spaces that are joined."""
        near: list[set[int]] = [set() for _ in self.spaces]
        for f, t in self.layers:
            near[f].add(t)
            near[t].add(f)
        most = 0
        for start in range(len(self.spaces)):
            seen, edge, steps = {start}, {start}, 0
            while edge := {t for s in edge for t in near[s]} - seen:
                seen |= edge
                steps += 1
            most = max(most, steps)
        return most


def _listed(parts: Sequence[Sequence[tuple[int, int]]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lists of pairs in one array, and where each begins."""
    ends = np.cumsum([0, *(len(part) for part in parts)]).astype(np.int64)
    flat = [pair for part in parts for pair in part]
    return ends, np.array(flat, dtype=np.int64).reshape(-1, 2)


def standard_order(wiring: Wiring) -> tuple[int, ...]:
    """The order of layers that a network is compared in: as written where format 1 says all, else the normal order."""
    return tuple(range(len(wiring))) if wiring.beyond_format_1 is None else wiring.normal_order


@lru_cache(maxsize=256)
def plan_of(wiring: Wiring, order: tuple[int, ...] | None = None, *, fix_output: bool = True) -> Plan:
    """The plan of a wiring, its layers taken in the standard order where none is handed in.

    With ``fix_output=False`` a labelled space that no layer reads from, the network's output, is matched after all.
    """
    order = standard_order(wiring) if order is None else order
    return _Planner([wiring.layers[k] for k in order], order, fix_output, wiring.beyond_format_1 is None).plan()


class _Planner:
    def __init__(self, shapes: Sequence[LayerShape], order: tuple[int, ...], fix_output: bool, plain: bool) -> None:
        self.shapes, self.order, self.plain, self.fix_output = tuple(shapes), order, plain, fix_output
        self.stages = layer_order.stages(shapes)
        self.ranks = layer_order.ranks(shapes)
        read = {layer.source.name for layer in shapes}
        seen = {space.name: space for layer in shapes for space in (layer.source, layer.target)}
        last = {name: stages[0].entries[-1] for name, stages in self.stages.items() if stages[0].entries}
        entered = sorted((space for space in seen.values() if space.name in last), key=lambda space: last[space.name])
        self.spaces = (*(space for space in seen.values() if space.name not in last), *entered)
        self.place = {space.name: s for s, space in enumerate(self.spaces)}
        # The units of an output that is matched after all are one axis, whatever axes it has.
        self.outputs = {
            space.name
            for space in self.spaces
            if space.labelled and not fix_output and space.name in last and space.name not in read
        }
        self.numbers: dict[str, int] = {}
        for layer in shapes:
            for axis in (*self._axes(layer.source), *self._axes(layer.target), *layer.tap_axes):
                if not axis.fixed:
                    self.numbers.setdefault(axis.name, len(self.numbers))
        self.axis_ranks: dict[int, int] = {}
        for space in self.spaces:
            rank = self.ranks.get(space.name)
            for number, _ in self._context(self._axes(space)):
                if number >= 0 and rank is not None:
                    self.axis_ranks[number] = min(self.axis_ranks.get(number, rank), rank)
        outer = symmetries.within(shapes)
        self.within = tuple(tuple(self.numbers[a.name] for a in outer.get(name, ())) for name in self.numbers)

    def plan(self) -> Plan:
        contexts = [self._context(self._axes(space)) for space in self.spaces]
        sources, taps = [], []
        for layer in self.shapes:
            if all(axis.fixed for axis in layer.tap_axes):
                sources.append(self.place[layer.source.name])
                taps.append(layer.taps)
                continue
            context = self._context((*layer.source.axes, *layer.tap_axes))
            if context not in contexts[len(self.spaces) :]:
                contexts.append(context)
            sources.append(contexts.index(context, len(self.spaces)))
            taps.append(1)
        problems, staying = self._problems(contexts)
        return Plan(
            self.order,
            self.shapes,
            self.spaces,
            tuple((self.place[layer.source.name], self.place[layer.target.name]) for layer in self.shapes),
            tuple(contexts),
            tuple(sources),
            tuple(taps),
            tuple(self.stages[s.name][0].entries if s.name in self.stages else () for s in self.spaces),
            self._rows(),
            problems,
            tuple(() if axis in staying else outer for axis, outer in enumerate(self.within)),
            staying,
            tuple(layer.groups > 1 for layer in self.shapes),
            self.plain,
            self.fix_output,
        )

    def _axes(self, space: Space) -> tuple[Axis, ...]:
        return (Axis(f"{space.name} matched", space.size),) if space.name in self.outputs else space.axes

    def _context(self, axes: Sequence[Axis]) -> Context:
        return tuple((-1 if name is None else self.numbers[name], size) for name, size in joined_axes(axes))

    def _rows(self) -> tuple[Row, ...]:
        tied = sharing.owners(self.shapes)
        rows = []
        for name, stages in self.stages.items():
            for at, stage in enumerate(stages):
                layers = tuple(sorted(k for k in (*stage.entries, *stage.loops) if k not in tied))
                if layers:
                    end = stage.entries[-1] if stage.entries else layers[-1]
                    rows.append((end, Row(self.place[name], layers, at == 0)))
        return tuple(row for _, row in sorted(rows, key=lambda pair: pair[0]))

    def _problems(self, contexts: Sequence[Context]) -> tuple[tuple[Problem, ...], tuple[int, ...]]:
        """What is matched together, in order, and the free axes that are kept in place."""
        staying = {axis for axis in self.numbers.values() if axis not in self.axis_ranks}
        problems: list[Problem] = []
        for members in self._joint(contexts):
            problem = self._problem(contexts, members)
            if isinstance(problem, Problem):
                problems.append(problem)
            else:
                staying |= problem
        return tuple(problems), tuple(sorted(staying))

    def _joint(self, contexts: Sequence[Context]) -> list[list[int]]:
        """The spaces in groups that share an axis at the rank at which it is matched, by their first place."""
        groups: list[tuple[list[int], set[int]]] = []
        for s, space in enumerate(self.spaces):
            new = {axis for axis, _ in contexts[s] if axis >= 0 and self._new(axis, space)}
            if not new:
                continue
            joined = [group for group in groups if group[1] & new]
            merged = (sorted([*(m for group in joined for m in group[0]), s]), new.union(*(g[1] for g in joined)))
            at = groups.index(joined[0]) if joined else len(groups)
            groups = [group for group in groups if group not in joined]
            groups.insert(at, merged)
        return [members for members, _ in groups]

    def _new(self, axis: int, space: Space) -> bool:
        return space.name in self.ranks and self.axis_ranks[axis] == self.ranks[space.name]

    def _problem(self, contexts: Sequence[Context], members: list[int]) -> Problem | set[int]:
        """The problem of these spaces, or their new axes where no exact answer is affordable."""
        new = [[axis for axis, _ in contexts[s] if axis >= 0 and self._new(axis, self.spaces[s])] for s in members]
        axes = {axis for row in new for axis in row}
        spaces = tuple(members)
        if len(axes) == 1:
            (axis,) = axes
            if len(members) == 1 and len(contexts[members[0]]) == 1:
                return Problem(spaces, None, (axis,), (), plain=True)
            if all(self._affordable(contexts[s]) for s in members):
                return Problem(spaces, None, (axis,), self.within[axis], plain=False)
            return axes
        for outer in sorted(axes):
            inner = tuple(sorted(axes - {outer}))
            nested = all(
                outer in self.within[x] and {*self.within[x]} - {outer} == {*self.within[outer]} for x in inner
            )
            if nested and all(outer in row and len(row) <= 2 for row in new):
                if all(self._affordable(contexts[s]) for s in members):
                    return Problem(spaces, outer, inner, self.within[outer], plain=False)
                break
        return axes

    @staticmethod
    def _affordable(context: Context) -> bool:
        return math.prod(size for _, size in context) <= DEAREST
