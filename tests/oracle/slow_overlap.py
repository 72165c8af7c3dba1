"""Overlap and refined, slowly: written from their definition alone (docs/design/013-overlap.md), in sets and lists.

Every pair of units is looked at, every matching is an exact integer Hungarian method; nothing is shared with the
kernels. Two networks whose spaces have one axis each, that have the same names, the one of the smaller digest first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from tests.oracle import slow_canonical
from tests.oracle.slow_assignment import S, integer, lexicographic
from tests.oracle.slow_canonical import ABSENT, Net, connections, mix
from topostrata.topology import Topology

ONE = 2**16
Element = tuple[str, int, int, int]  # which way, layer, tap, unit at the other end
Match = dict[int, list[int]]
M64 = 2**64 - 1


def power(d: int) -> int:
    k = d >> 16
    return 0 if k > 30 else ((2 * ONE - (d & 0xFFFF)) << 14) >> (k + 15)


class Side:
    """One network: of each space's units the elements, which are the colours, and which space an element is in."""

    def __init__(self, topology: Topology, *, fix_output: bool) -> None:
        self.net: Net = slow_canonical.net_of(topology, fix_output=fix_output)
        self.colours = slow_canonical.colours(self.net)
        self.sizes = self.net.sizes
        self.elements: list[list[set[Element]]] = [[set() for _ in range(n)] for n in self.sizes]
        self.wires = [connections(layer) for layer in self.net.layers]
        self.ends = [
            (self.net.place[layer.source.name], self.net.place[layer.target.name]) for layer in self.net.layers
        ]
        for q, (f, t) in enumerate(self.ends):
            for u, v, tap in self.wires[q]:
                self.elements[t][v].add(("in", q, tap, u))
                self.elements[f][u].add(("out", q, tap, v))

    def space(self, element: Element) -> int:
        return self.ends[element[1]][0 if element[0] == "in" else 1]

    def holders(self, s: int, element: Element) -> int:
        return sum(element in held for held in self.elements[s])

    def fan_in(self, s: int, layers: list[int], unit: int) -> set[Element]:
        return {e for e in self.elements[s][unit] if e[0] == "in" and e[1] in layers}


class Slow:
    """Two networks, and the steps of the definition."""

    def __init__(self, a: Topology, b: Topology, *, fix_output: bool = True) -> None:
        self.a, self.b = Side(a, fix_output=fix_output), Side(b, fix_output=fix_output)
        self.problems = [problem.spaces[0] for problem in self.a.net.problems]
        self.kept = [s for s in range(len(self.a.sizes)) if s not in self.problems]
        self.topologies, self.fix_output = (a, b), fix_output
        self.plain = a.wiring.beyond_format_1 is None

    # A

    def sure(self) -> Match:
        beliefs: dict[int, dict[tuple[int, int], int]] = {s: {} for s in self.problems}
        beliefs |= {s: {(u, u): ONE for u in range(self.a.sizes[s])} for s in self.kept}
        sure: Match = {}
        for sweep in range(16):
            before = dict(sure)
            for s in self.problems if sweep % 2 == 0 else self.problems[::-1]:
                beliefs[s] = self.believe(s, beliefs)
                sure[s] = self.strict(s, beliefs[s])
            if before == sure:
                break
        return sure

    def believe(  # noqa: C901 - the definition, in its order
        self, s: int, beliefs: Mapping[int, dict[tuple[int, int], int]]
    ) -> dict[tuple[int, int], int]:
        n_a, n_b = self.a.sizes[s], self.b.sizes[s]
        all_a, all_b = (set().union(*side.elements[s]) for side in (self.a, self.b))
        hubs_a, hubs_b = (
            {e for e in elements if 2 * side.holders(s, e) > side.sizes[s]}
            for side, elements in ((self.a, all_a), (self.b, all_b))
        )
        of: dict[tuple[Element, Element], int] = {}
        mass_a, mass_b = dict.fromkeys(all_a, 0), dict.fromkeys(all_b, 0)
        # The mass of an element is over all elements of the other network, held or not.
        for element, mass, mine in [(e, mass_a, True) for e in all_a] + [(e, mass_b, False) for e in all_b]:
            space = self.a.space(element)
            for (u, v), belief in beliefs[space].items():
                if (u if mine else v) != element[3]:
                    continue
                x, y = (*element[:3], u), (*element[:3], v)
                if x in hubs_a and y in hubs_b:
                    continue
                mass[element] += belief
                of[x, y] = belief
        x_of: dict[tuple[int, int], int] = {}
        for i in range(n_a):
            for j in range(n_b):
                shared = [of.get((x, y), 0) for x in self.a.elements[s][i] for y in self.b.elements[s][j]]
                if sum(shared):
                    score = 8 * sum(shared)
                    score -= sum(mass_a[x] for x in self.a.elements[s][i])
                    score -= sum(mass_b[y] for y in self.b.elements[s][j])
                    x_of[i, j] = 2 * score
        null = ONE * max(n_a, n_b).bit_length()
        rows = [[x for (i, _), x in x_of.items() if i == k] for k in range(n_a)]
        columns = [[x for (_, j), x in x_of.items() if j == k] for k in range(n_b)]

        def share(x: int, rivals: list[int]) -> int:
            top = max([null, *rivals])
            return power(top - x) * ONE // (power(top - null) + sum(power(top - y) for y in rivals))

        answer = {}
        for (i, j), scored in x_of.items():
            r, c = share(scored, rows[i]), share(scored, columns[j])
            if r >= 64 and c >= 64:
                p = r * c // (r + c - (r * c >> 16))
                if p >= 64:
                    answer[i, j] = p
        return answer

    def strict(self, s: int, beliefs: dict[tuple[int, int], int]) -> list[int]:
        best = [-1] * self.a.sizes[s]
        for (i, j), p in beliefs.items():
            rivals = [q for (k, m), q in beliefs.items() if (k == i) != (m == j)]
            if all(q < p for q in rivals):
                best[i] = j
        return best

    # B, C, D

    def named(self, s: int, unit: int, match: Match) -> dict[Element, Element]:
        """The elements of a unit of A that have a name in B."""
        names = {}
        for e in self.a.elements[s][unit]:
            other = match.get(self.a.space(e), [-1] * (e[3] + 1))[e[3]]
            if other >= 0:
                names[e] = (*e[:3], other)
        return names

    def pairs(self, s: int, match: Match) -> list[list[dict[str, tuple[set[Element], int, int]]]]:
        """For each two units by way: the common elements (B's names), and the sizes of both sets, universal left out."""
        every_a = set.intersection(*self.a.elements[s]) if self.a.sizes[s] else set()
        every_b = set.intersection(*self.b.elements[s])
        universal = {y for x, y in self.named(s, 0, match).items() if x[0] == "out" and x in every_a and y in every_b}
        table = []
        for i in range(self.a.sizes[s]):
            names = {*self.named(s, i, match).values()} - universal
            row = []
            for j in range(self.b.sizes[s]):
                ways = {}
                for way in ("in", "out"):
                    mine = [e for e in self.a.elements[s][i] if e[0] == way]
                    theirs = {e for e in self.b.elements[s][j] if e[0] == way} - universal
                    less = len(universal) if way == "out" else 0
                    ways[way] = (names & theirs, len(mine) - less, len(theirs))
                row.append(ways)
            table.append(row)
        return table

    def propose(self, s: int, match: Match, kind: str) -> list[int]:
        n_a, n_b = self.a.sizes[s], self.b.sizes[s]
        n = max(n_a, n_b)
        table = self.pairs(s, match)
        common, likeness, cost = (np.zeros((n, n), dtype=np.int64) for _ in range(3))
        sides = [w for w in ("in", "out") if any(max(ways[w][1:]) for row in table for ways in row)]
        cost[:] = len(sides) * S if kind == "joint" else 0
        for i in range(n_a):
            for j in range(n_b):
                cost[i, j] = 0
                for way, (shared, size_a, size_b) in table[i][j].items():
                    c, union = len(shared), size_a + size_b - len(shared)
                    common[i, j] += c
                    if union:
                        likeness[i, j] += (2 * S * c + union) // (2 * union)
                    k = int(integer(np.array(union - c), np.array(union)))
                    if kind == "joint" and way in sides:
                        cost[i, j] += k
                    if kind == "slope" and way == "in":
                        cost[i, j] -= 2 * (S - k)
                    if kind == "slope" and way == "out":
                        cost[i, j] -= sum(self.gains(s, i, j, y, match) for y in shared)
        colour = self.colour_cost(s)
        overlap = common.max() - common
        criteria = [overlap, 2 * S - likeness, colour] if kind == "overlap" else [cost - cost.min(), overlap, colour]
        columns, _ = lexicographic(criteria)
        return [int(j) if j < n_b else -1 for j in columns[:n_a]]

    def gains(self, s: int, i: int, j: int, y: Element, match: Match) -> int:
        """What both see: g_i(x) of A's unit i, g_j(y) of B's unit j, x the element of A whose name is y."""
        t = self.a.space(y)
        x = (*y[:3], match[t].index(y[3]))
        # A list: several inputs may have no partner, and be called the same.
        ins_a = [(*e[:3], match[self.a.space(e)][e[3]]) for e in self.a.elements[t][x[3]] if e[0] == "in"]
        ins_b = {e for e in self.b.elements[t][y[3]] if e[0] == "in"}
        d, shared = len(ins_a) + len(ins_b), len({e for e in ins_a if e[3] >= 0} & ins_b)
        total = 0
        partner_i = match[s][i]
        partner_j = match[s].index(j) if j in match[s] else -1
        for mine, other in ((i, partner_i), (partner_j, j)):
            both = mine >= 0 and other >= 0 and x in self.a.elements[s][mine] and y in self.b.elements[s][other]
            c = shared - both
            q = (d - c - 1) * (d - c)
            total += (2 * S * d + q) // (2 * q) if q > 0 else 0
        return total

    def colour_cost(self, s: int) -> np.ndarray:
        n_a, n_b = self.a.sizes[s], self.b.sizes[s]
        n = max(n_a, n_b)
        cost = np.zeros((n, n), dtype=np.int64)
        for i in range(n):
            x = self.a.colours[s][i] if i < n_a else ABSENT
            for j in range(n):
                y = self.b.colours[s][j] if j < n_b else ABSENT
                if x != y:
                    cost[i, j] = 1 + (mix(mix(min(x, y)) ^ ((5 * max(x, y)) & M64)) >> 16)
        return cost

    def rows(self, match: Match) -> list[tuple[int, float]]:
        """Of each row the common connections and the distance."""
        answer = []
        for s, layers, _ in self.a.net.rows:
            shared, terms, matched = 0, [], 0
            for i, j in enumerate(match[s]):
                if j < 0:
                    continue
                matched += 1
                mine = {
                    (*e[:3], other) if (other := match[self.a.space(e)][e[3]]) >= 0 else ("alone", *e[1:])
                    for e in self.a.fan_in(s, layers, i)
                }
                theirs = self.b.fan_in(s, layers, j)
                shared += len(mine & theirs)
                terms.append(len(mine ^ theirs) / len(mine | theirs) if mine | theirs else 0.0)
            terms += [1.0] * (self.a.sizes[s] + self.b.sizes[s] - 2 * matched)
            answer.append((shared, math.fsum(terms) / len(terms)))
        return answer

    def objective(self, match: Match, *, overlap: bool) -> float:
        rows = self.rows(match)
        return -sum(shared for shared, _ in rows) if overlap else math.fsum(distance for _, distance in rows)

    def climb(self, match: Match, kinds: tuple[str, ...]) -> Match:
        overlap = kinds == ("overlap",)
        walk = self.problems + self.problems[-2:0:-1]
        idle = step = 0
        while idle < len(self.problems) and step < 100:
            s = walk[step % len(walk)]
            step, idle = step + 1, idle + 1
            for kind in kinds:
                other = {**match, s: self.propose(s, match, kind)}
                if self.objective(other, overlap=overlap) < self.objective(match, overlap=overlap):
                    match, idle = other, 1
                    break
        return match

    def overlap(self) -> Match:
        identity = {s: list(range(self.a.sizes[s])) for s in self.kept}
        match = {**self.sure(), **identity}
        for s in self.problems:
            match[s] = self.propose(s, match, "overlap")
        return self.climb(match, ("overlap",))

    def values(self) -> tuple[list[float], list[float]]:
        """The distances of the rows by overlap and by refined."""
        start = self.copies()
        if start is not None:
            distances = [distance for _, distance in self.rows(start)]
            return distances, distances
        start = self.overlap()
        kinds = ("joint", "slope") if self.plain else ("joint",)
        best = self.climb(start, kinds)
        _, _, canonical = slow_canonical.canonical(*self.topologies, fix_output=self.fix_output)
        first = {s: units.tolist() for s, units in canonical.items()}
        if self.objective(first, overlap=False) <= self.objective(start, overlap=False):
            other = self.climb(first, kinds)
            if self.objective(other, overlap=False) < self.objective(best, overlap=False):
                best = other
        return [distance for _, distance in self.rows(start)], [distance for _, distance in self.rows(best)]

    def copies(self) -> Match | None:
        if [sorted(part) for part in self.a.colours] != [sorted(part) for part in self.b.colours]:
            return None
        match = {s: list(range(self.a.sizes[s])) for s in self.kept}
        for s in self.problems:
            order_a, order_b = (
                sorted(range(len(c[s])), key=c[s].__getitem__) for c in (self.a.colours, self.b.colours)
            )
            match[s] = [order_b[order_a.index(i)] for i in range(len(order_a))]
        return None if any(distance for _, distance in self.rows(match)) else match
