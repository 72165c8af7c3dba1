"""The canonical alignment, slowly: written from its definition alone (docs/design/010-nnstd.md), in Python sets and lists.

Every matrix is dense, every assignment an exact integer Hungarian method; nothing is shared with the kernels. It knows
every kind of wiring, but takes two networks whose layers and axes have the same names.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tests.oracle.slow_assignment import S, integer, jaccard, lexicographic
from topostrata.topology import Axis, Layer, Space, Topology

M64 = 2**64 - 1
ABSENT = 0
DEAREST = 16_384

Coordinates = tuple[int, ...]


def mix(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & M64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & M64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & M64
    return x ^ (x >> 31)


def salt(layer: int, tap: int) -> int:
    return 0 if layer == tap == 0 else mix((layer << 32) + tap)


@dataclass
class Problem:
    """Spaces matched at once; ``outer`` is None or an axis, ``inner`` the other new axes, ``around`` those before."""

    spaces: list[int]
    outer: str | None
    inner: list[str]
    around: list[str]


@dataclass
class Net:
    """A network with its layers and spaces in order, and what is matched when."""

    layers: list[Layer]
    spaces: list[Space]
    axes: list[list[Axis]]
    place: dict[str, int]
    entering: list[list[int]]
    rows: list[tuple[int, list[int], bool]]
    staying: set[str]
    problems: list[Problem]
    within: dict[str, list[str]]
    rounds: int

    @property
    def sizes(self) -> list[int]:
        return [space.size for space in self.spaces]

    def still(self, axis: Axis) -> bool:
        return axis.fixed or axis.name in self.staying


def net_of(topology: Topology, *, fix_output: bool) -> Net:
    plain = topology.wiring.beyond_format_1 is None
    order = range(len(topology)) if plain else topology.wiring.normal_order
    ordered = Topology(tuple(topology.layers[k] for k in order))
    wiring, layers = ordered.wiring, list(ordered.layers)
    first = {name: list(stages[0].entries) for name, stages in wiring.stages.items()}
    spaces = [s for s in ordered.spaces if not first.get(s.name)]
    spaces += sorted((s for s in ordered.spaces if first.get(s.name)), key=lambda s: first[s.name][-1])
    place = {s.name: i for i, s in enumerate(spaces)}
    read = {layer.source.name for layer in layers}
    axes, ranks, within = [], dict(wiring.axis_ranks), {x: [a.name for a in y] for x, y in wiring.within.items()}
    for space in spaces:
        if space.labelled and not fix_output and first.get(space.name) and space.name not in read:
            whole = Axis(f"all of {space.name}", space.size)
            axes.append([whole])
            ranks[whole.name], within[whole.name] = wiring.ranks[space.name], []
        else:
            axes.append(list(space.axes))
    free = {a.name for row in axes for a in row if not a.fixed}
    free |= {a.name for layer in layers for a in layer.tap_axes if not a.fixed}
    net = Net(
        layers,
        spaces,
        axes,
        place,
        [first.get(s.name, []) for s in spaces],
        rows_of(ordered, place),
        {x for x in free if x not in ranks},
        [],
        within,
        2 * (len(spaces) - 1 if plain else breadth(layers, place)) + 2,
    )
    find_problems(net, dict(wiring.ranks), ranks)
    return net


def rows_of(topology: Topology, place: dict[str, int]) -> list[tuple[int, list[int], bool]]:
    """A row for each stage that owns connections, by the last of its entries."""
    rows = []
    names = [layer.name for layer in topology.layers]
    for name, stages in topology.wiring.stages.items():
        for at, stage in enumerate(stages):
            mine = sorted(k for k in stage.entries + stage.loops if names[k] not in topology.wiring.shared_with)
            if mine:
                rows.append((stage.entries[-1] if stage.entries else mine[-1], (place[name], mine, at == 0)))
    return [row for _, row in sorted(rows, key=lambda pair: pair[0])]


def breadth(layers: list[Layer], place: dict[str, int]) -> int:
    far = np.full((len(place), len(place)), 10**6)
    np.fill_diagonal(far, 0)
    for layer in layers:
        f, t = place[layer.source.name], place[layer.target.name]
        if f != t:
            far[f, t] = far[t, f] = 1
    for k in range(len(place)):
        far = np.minimum(far, far[:, k : k + 1] + far[k : k + 1, :])
    return int(far[far < 10**6].max())


def find_problems(net: Net, ranks: dict[str, int], axis_ranks: dict[str, int]) -> None:
    new = [
        [a.name for a in row if not a.fixed and space.name in ranks and axis_ranks[a.name] == ranks[space.name]]
        for space, row in zip(net.spaces, net.axes, strict=True)
    ]
    left = [s for s in range(len(net.spaces)) if new[s]]
    while left:
        group, names = [left[0]], set(new[left[0]])
        while more := [s for s in left if s not in group and names & {*new[s]}]:
            group += more
            names |= {name for s in more for name in new[s]}
        left = [s for s in left if s not in group]
        group.sort()
        problem = shape_of(net, group, names, new)
        if problem is None:
            net.staying |= names
        else:
            net.problems.append(problem)


def shape_of(net: Net, group: list[int], names: set[str], new: list[list[str]]) -> Problem | None:
    if len(names) == 1:
        (axis,) = names
        if len(group) == 1 and all(a.name == axis for a in net.axes[group[0]]):
            return Problem(group, None, [axis], [])
    if any(net.spaces[s].size > DEAREST for s in group):
        return None
    if len(names) == 1:
        return Problem(group, None, [axis], net.within[axis])
    for y in names:
        inner = sorted(names - {y})
        nested = all({*net.within[x]} == {*net.within[y], y} for x in inner)
        if nested and all(y in new[s] and len(new[s]) <= 2 for s in group):
            return Problem(group, y, inner, net.within[y])
    return None


def tap_seen(layer: Layer, tap: int) -> int:
    """A tap as colours see it: its free axes do not count."""
    if all(axis.fixed for axis in layer.tap_axes):
        return tap
    seen = 0
    for axis, index in zip(layer.tap_axes, split(tap, layer.tap_axes), strict=True):
        seen = seen * axis.size + index if axis.fixed else seen
    return seen


def connections(layer: Layer) -> list[tuple[int, int, int]]:
    """(source, target, tap) with the source a unit of its space: group g of a layer reads the g-th part of it."""
    mask = layer.mask
    wires = []
    for cell in mask.cells.tolist():
        target, key = divmod(cell, mask.n_source * mask.taps)
        source, tap = divmod(key, mask.taps)
        group = target // (layer.target.size // layer.groups)
        wires.append((group * (layer.source.size // layer.groups) + source, target, tap))
    return wires


def split(number: int, axes: Sequence[Axis]) -> Coordinates:
    return tuple(int(c) for c in np.unravel_index(number, [a.size for a in axes])) if axes else ()


def colours(net: Net) -> list[list[int]]:
    c = []
    for s, row in enumerate(net.axes):
        still = [k for k, axis in enumerate(row) if net.still(axis)]
        start = []
        for u in range(net.sizes[s]):
            index = 0
            for k in still:
                index = index * row[k].size + split(u, row)[k]
            start.append(((s + 1) << 32) + (index + 1 if still or not row else 0))
        c.append(start)
    c = _refine(net, c, net.rounds)
    while (mixed := _not_twins(net, c)) is not None:
        space, twins = mixed
        for u in twins:
            c[space][u] ^= 0xA5A5A5A5A5A5A5A5
        c = _refine(net, c, net.rounds)
    return c


def _refine(net: Net, c: list[list[int]], rounds: int) -> list[list[int]]:
    ends = [(net.place[layer.source.name], net.place[layer.target.name]) for layer in net.layers]
    lists = [(q, f, t, connections(layer)) for q, ((f, t), layer) in enumerate(zip(ends, net.layers, strict=True))]
    into = {t: [q for q, _, other, _ in lists if other == t] for _, _, t, _ in lists}
    out = {f: [q for q, other, _, _ in lists if other == f] for _, f, _, _ in lists}
    for _ in range(rounds):
        sums_in, sums_out = ([[0] * n for n in net.sizes] for _ in range(2))
        for q, f, t, wires in lists:
            layer = net.layers[q]
            for u, v, tap in wires:
                seen = tap_seen(layer, tap)
                sums_in[t][v] += mix(c[f][u] ^ 0x1111 ^ salt(into[t].index(q), seen))
                sums_out[f][u] += mix(c[t][v] ^ 0x2222 ^ salt(out[f].index(q), seen))
        c = [
            [mix((mix(mix(c[s][u]) ^ (sums_in[s][u] & M64)) + 3 * sums_out[s][u]) & M64) for u in range(n)]
            for s, n in enumerate(net.sizes)
        ]
    return c


def _not_twins(net: Net, c: list[list[int]]) -> tuple[int, list[int]] | None:
    for s in range(len(net.spaces)):
        block = block_of(net, s)
        if not block:
            continue
        groups: dict[tuple[int, int], list[int]] = {}
        for u in range(net.sizes[s]):
            groups.setdefault((c[s][u], u // block), []).append(u)
        for group in sorted(groups):
            classes: list[list[int]] = []
            for u in groups[group]:
                alike = [members for members in classes if twins(net, s, members[0], u)]
                if alike:
                    alike[0].append(u)
                else:
                    classes.append([u])
            if len(classes) > 1:
                return s, classes[0]
    return None


def block_of(net: Net, s: int) -> int:
    """How many neighbouring units of a space can change places one by one."""
    row = net.axes[s]
    if not row or any(net.still(axis) for axis in row):
        return 0
    uses = [a.name for other in net.axes for a in other]
    uses += [a.name for a in contexts_of_taps(net)]
    return row[-1].size if uses.count(row[-1].name) == 1 else 0


def contexts_of_taps(net: Net) -> list[Axis]:
    rows = {
        (*layer.source.axes, *layer.tap_axes) for layer in net.layers if not all(axis.fixed for axis in layer.tap_axes)
    }
    return [axis for row in rows for axis in row]


def twins(net: Net, s: int, u: int, v: int) -> bool:
    """Whether two units of a space can change places: every connection is still there, at both."""
    turned = {u: v, v: u}
    for layer in net.layers:
        f, t = net.place[layer.source.name], net.place[layer.target.name]
        if s not in {f, t}:
            continue
        wires = set(connections(layer))
        moved = {(turned.get(a, a) if f == s else a, turned.get(b, b) if t == s else b, tap) for a, b, tap in wires}
        if wires != moved:
            return False
    return True


class Partners:
    """The indices in B of A's indices on each axis, given A's indices on the axes around it."""

    def __init__(self, a: Net, b: Net) -> None:
        self.a, self.b = a, b
        self.axes: dict[str, dict[tuple[Coordinates, int], int]] = {}

    def knows(self, axes: Sequence[Axis]) -> bool:
        return all(self.a.still(axis) or axis.name in self.axes for axis in axes)

    def index(self, axis: Axis, at: dict[str, int]) -> int | None:
        if self.a.still(axis):
            return at[axis.name]
        around = tuple(at[name] for name in self.a.within[axis.name])
        return self.axes[axis.name].get((around, at[axis.name]))

    def coordinates(self, axes: Sequence[Axis], unit: int) -> Coordinates | None:
        """Where a unit of a product of axes in A is found in B; None: nowhere, or not known yet."""
        if not self.knows(axes):
            return None
        at = dict(zip((a.name for a in axes), split(unit, axes), strict=True))
        images = [self.index(axis, at) for axis in axes]
        return None if any(image is None for image in images) else tuple(images)  # type: ignore[arg-type]

    def unit(self, s: int, unit: int) -> int | None:
        image = self.coordinates(self.a.axes[s], unit)
        if image is None:
            return None
        shape = [axis.size for axis in self.b.axes[s]]
        return int(np.ravel_multi_index(image, shape)) if shape else 0


def elements(net: Net, layers: Sequence[int], size: int, partners: Partners | None) -> list[set[object]]:
    """Fan-in sets by some layers; those of A under the names that B has for them."""
    sets: list[set[object]] = [set() for _ in range(size)]
    for q in layers:
        layer = net.layers[q]
        f = net.place[layer.source.name]
        axes = [*net.axes[f]]
        joint = not all(axis.fixed for axis in layer.tap_axes)
        if joint:
            axes += layer.tap_axes
        for u, v, tap in connections(layer):
            unit, rest = (u * layer.mask.taps + tap, 0) if joint else (u, tap)
            name = split(unit, axes) if partners is None else partners.coordinates(axes, unit)
            sets[v].add((q, rest, name) if name is not None else ("of A", q, rest, unit))
    return sets


def canonical(
    a: Topology, b: Topology, *, fix_output: bool = True
) -> tuple[list[float], list[int], dict[int, np.ndarray]]:
    """Per row its distance and its ambiguous units; per space the partner in B of each unit of A (or -1)."""
    net_a, net_b = net_of(a, fix_output=fix_output), net_of(b, fix_output=fix_output)
    ca, cb = colours(net_a), colours(net_b)
    partners = Partners(net_a, net_b)
    ambiguous: dict[int, int] = {}
    for problem in net_a.problems:
        if problem.outer is None and len(problem.spaces) == 1 and len(net_a.axes[problem.spaces[0]]) == 1:
            match_units(net_a, net_b, problem, partners, ca, cb, ambiguous)
        else:
            Joint(net_a, net_b, problem, partners, ca, cb, ambiguous).solve()
    values, counts = [], []
    for s, layers, first in net_a.rows:
        ins_a = elements(net_a, layers, net_a.sizes[s], partners)
        ins_b = elements(net_b, layers, net_b.sizes[s], None)
        terms, matched = [], 0
        for u in range(net_a.sizes[s]):
            v = partners.unit(s, u)
            if v is not None:
                matched += 1
                union = ins_a[u] | ins_b[v]
                terms.append(len(ins_a[u] ^ ins_b[v]) / len(union) if union else 0.0)
        terms += [1.0] * (net_a.sizes[s] + net_b.sizes[s] - 2 * matched)
        values.append(math.fsum(terms) / len(terms))
        counts.append(ambiguous.get(s, 0) if first else 0)
    matches = {}
    for s, n in enumerate(net_a.sizes):
        units = [partners.unit(s, u) for u in range(n)]
        matches[s] = np.array([-1 if v is None else v for v in units])
    return values, counts, matches


def match_units(
    net_a: Net,
    net_b: Net,
    problem: Problem,
    partners: Partners,
    ca: list[list[int]],
    cb: list[list[int]],
    ambiguous: dict[int, int],
) -> None:
    """A space of one axis: fan-in cost, then look-ahead, then colours."""
    (s,), (axis,) = problem.spaces, problem.inner
    n_a, n_b = net_a.sizes[s], net_b.sizes[s]
    cost, colour = _fan_in(net_a, net_b, s, partners), _colour_cost(ca[s], cb[s])
    columns, parts = lexicographic([cost, colour])
    tied = np.bincount(parts[0])[parts[0]] > 1
    trial = Partners(net_a, net_b)
    trial.axes = dict(partners.axes)
    trial.axes[axis] = {
        ((), i): int(j) for i, j in enumerate(columns) if i < n_a and j < n_b and not (tied[i] and ca[s][i] != cb[s][j])
    }
    columns, parts = lexicographic([cost, _look_ahead(net_a, net_b, s, partners, trial, ca, cb), colour])
    ambiguous[s] = int((np.bincount(parts[0])[parts[0]] > 1).sum())
    partners.axes[axis] = {((), i): int(j) for i, j in enumerate(columns) if i < n_a and j < n_b}


def _fan_in(net_a: Net, net_b: Net, s: int, partners: Partners) -> np.ndarray:
    n_a, n_b = net_a.sizes[s], net_b.sizes[s]
    n = max(n_a, n_b)
    ins_a = elements(net_a, net_a.entering[s], n_a, partners)
    ins_b = elements(net_b, net_b.entering[s], n_b, None)
    cost = integer(*jaccard(ins_a, ins_b, n))
    cost[n_a:] = S
    cost[:, n_b:] = S
    return cost


def _colour_cost(ca: list[int], cb: list[int]) -> np.ndarray:
    n = max(len(ca), len(cb))
    cost = np.zeros((n, n), dtype=np.int64)
    for i in range(n):
        x = ca[i] if i < len(ca) else ABSENT
        for j in range(n):
            y = cb[j] if j < len(cb) else ABSENT
            if x != y:
                cost[i, j] = 1 + (mix(mix(min(x, y)) ^ ((5 * max(x, y)) & M64)) >> 16)
    return cost


def _look_ahead(
    net_a: Net,
    net_b: Net,
    s: int,
    partners: Partners,
    trial: Partners,
    ca: list[list[int]],
    cb: list[list[int]],
) -> np.ndarray:
    seen = [
        q
        for q, layer in enumerate(net_a.layers)
        if net_a.place[layer.source.name] == s
        and layer.source.name != layer.target.name
        and all(axis.fixed for axis in layer.tap_axes)
    ]
    ahead: dict[int, dict[int, int]] = {}
    for t in {net_a.place[net_a.layers[q].target.name] for q in seen}:
        n_a, n_b = net_a.sizes[t], net_b.sizes[t]
        if partners.knows(net_a.axes[t]):
            units = {u: partners.unit(t, u) for u in range(n_a)}
            ahead[t] = {u: v for u, v in units.items() if v is not None}
        elif any(net_a.layers[q].source.name == net_a.spaces[s].name for q in net_a.entering[t]):
            columns, _ = lexicographic([_fan_in(net_a, net_b, t, trial), _colour_cost(ca[t], cb[t])])
            ahead[t] = {i: int(j) for i, j in enumerate(columns) if i < n_a and j < n_b}
        else:
            ahead[t] = {}
    outs: list[list[set[object]]] = []
    for net, mine in ((net_a, True), (net_b, False)):
        sets: list[set[object]] = [set() for _ in range(net.sizes[s])]
        for q in seen:
            t = net.place[net.layers[q].target.name]
            for u, v, tap in connections(net.layers[q]):
                image = ahead[t].get(v) if mine else v
                sets[u].add((q, tap, image) if image is not None else ("of A", q, tap, v))
        outs.append(sets)
    return integer(*jaccard(outs[0], outs[1], max(net_a.sizes[s], net_b.sizes[s])))


@dataclass
class Joint:
    """New axes in several spaces, or in spaces of several axes."""

    a: Net
    b: Net
    problem: Problem
    partners: Partners
    ca: list[list[int]]
    cb: list[list[int]]
    ambiguous: dict[int, int]

    def __post_init__(self) -> None:
        spaces = self.problem.spaces
        self.cost = {s: _fan_in(self.a, self.b, s, self.partners) for s in spaces}
        self.colour = {s: _colour_cost(self.ca[s], self.cb[s]) for s in spaces}
        self.size = [{x.name: x.size for s in spaces for x in net.axes[s]} for net in (self.a, self.b)]
        self.has = {x: [s for s in spaces if any(y.name == x for y in self.a.axes[s])] for x in self.problem.inner}
        self.bare = [s for s in spaces if not any(s in members for members in self.has.values())]

    def solve(self) -> None:
        problem = self.problem
        for s in problem.spaces:
            self.ambiguous[s] = 0
        new = [*problem.inner, *([problem.outer] if problem.outer else [])]
        for x in new:
            self.partners.axes.setdefault(x, {})
        matches: dict[str, dict[tuple[Coordinates, int], int]] = {x: {} for x in new}
        for w in itertools.product(*(range(self.size[0][x]) for x in problem.around)):
            at = dict(zip(problem.around, w, strict=True))
            other: dict[str, int] = {}
            for x in problem.around:
                axis = next(y for y in self.a.axes[problem.spaces[0]] if y.name == x)
                image = self.partners.index(axis, at)
                if image is not None:
                    other[x] = image
            if len(other) == len(at):
                self.solve_at(at, other, matches)
        self.partners.axes.update(matches)

    def solve_at(
        self, at: dict[str, int], other: dict[str, int], matches: dict[str, dict[tuple[Coordinates, int], int]]
    ) -> None:
        y = self.problem.outer
        if y is None:
            self.inside(at, other, matches, count=True)
            return
        n_a, n_b = self.size[0][y], self.size[1][y]
        n = max(n_a, n_b)
        fan_in, colour = np.zeros((n, n), dtype=np.int64), np.zeros((n, n), dtype=np.int64)
        for h in range(n):
            for g in range(n):
                mine, theirs = {**at, y: h}, {**other, y: g}
                for x in self.problem.inner:
                    costs = [self.matrix(kind, self.has[x], x, mine, theirs) for kind in (self.cost, self.colour)]
                    columns, _ = lexicographic(costs)
                    fan_in[h, g] += int(costs[0][np.arange(len(columns)), columns].sum())
                    colour[h, g] += int(costs[1][np.arange(len(columns)), columns].sum())
                for s in self.bare:
                    fan_in[h, g] += self.between(self.cost, s, mine, theirs)
                    colour[h, g] += self.between(self.colour, s, mine, theirs)
        columns, parts = lexicographic([fan_in, colour])
        tied = np.bincount(parts[0])[parts[0]] > 1
        for s in self.problem.spaces:
            per_index = max(net.sizes[s] // self.whole(k, s, [*at, y]) for k, net in enumerate((self.a, self.b)))
            self.ambiguous[s] += int(tied.sum()) * per_index
        around = tuple(at[x] for x in self.a.within[y])
        for h, g in enumerate(columns.tolist()):
            if h < n_a and g < n_b:
                matches[y][around, h] = g
                self.inside({**at, y: h}, {**other, y: g}, matches, count=not tied[h])

    def inside(
        self,
        at: dict[str, int],
        other: dict[str, int],
        matches: dict[str, dict[tuple[Coordinates, int], int]],
        *,
        count: bool,
    ) -> None:
        for x in self.problem.inner:
            costs = [self.matrix(kind, self.has[x], x, at, other) for kind in (self.cost, self.colour)]
            columns, parts = lexicographic(costs)
            if count:
                tied = int((np.bincount(parts[0])[parts[0]] > 1).sum())
                for s in self.has[x]:
                    nets = enumerate((self.a, self.b))
                    self.ambiguous[s] += tied * max(net.sizes[s] // self.whole(k, s, [*at, x]) for k, net in nets)
            around = tuple(at[z] for z in self.a.within[x])
            for i, j in enumerate(columns.tolist()):
                if i < self.size[0][x] and j < self.size[1][x]:
                    matches[x][around, i] = j

    def whole(self, k: int, s: int, names: list[str]) -> int:
        return math.prod(axis.size for axis in (self.a, self.b)[k].axes[s] if axis.name in names)

    def matrix(
        self, kind: dict[int, np.ndarray], spaces: list[int], x: str, at: dict[str, int], other: dict[str, int]
    ) -> np.ndarray:
        n = max(self.size[0][x], self.size[1][x])
        costs = np.zeros((n, n), dtype=np.int64)
        for i in range(n):
            for j in range(n):
                costs[i, j] = sum(self.between(kind, s, {**at, x: i}, {**other, x: j}) for s in spaces)
        return costs

    def between(self, kind: dict[int, np.ndarray], s: int, at: dict[str, int], other: dict[str, int]) -> int:
        """The cost of A's units at some indices against B's at others; a unit that has no partner costs S."""
        mine = self.units(self.a, s, at)
        theirs = self.units(self.b, s, other)
        n_a, n_b = self.a.sizes[s], self.b.sizes[s]
        total, used = 0, set()
        for u in mine:
            named = dict(zip((x.name for x in self.a.axes[s]), split(u, self.a.axes[s]), strict=True))
            image = [
                other[axis.name] if axis.name in at else self.partners.index(axis, named) for axis in self.a.axes[s]
            ]
            partner = [v for v in theirs if list(split(v, self.b.axes[s])) == image]
            used |= {*partner}
            total += self.one(kind, s, u, partner[0] if partner else n_b)
        return total + sum(self.one(kind, s, n_a, v) for v in theirs if v not in used)

    def one(self, kind: dict[int, np.ndarray], s: int, u: int, v: int) -> int:
        n_a, n_b = self.a.sizes[s], self.b.sizes[s]
        if u < n_a and v < n_b:
            return int(kind[s][u, v])
        if kind is self.cost:
            return S
        ca, cb = ([self.ca[s][u]], [ABSENT]) if u < n_a else ([ABSENT], [self.cb[s][v]])
        return int(_colour_cost(ca, cb)[0, 0])

    @staticmethod
    def units(net: Net, s: int, at: dict[str, int]) -> list[int]:
        names = [axis.name for axis in net.axes[s]]
        return [
            u
            for u in range(net.sizes[s])
            if all(at.get(name, c) == c for name, c in zip(names, split(u, net.axes[s]), strict=True))
        ]
