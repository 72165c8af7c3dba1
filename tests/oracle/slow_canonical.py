"""The canonical alignment, slowly: written from its definition alone (docs/design/010-nnstd.md), in Python sets and lists.

Every matrix is dense, every assignment an exact integer Hungarian method; nothing is shared with the kernels. It knows
the extensions too: several layers into one space, taps, unequal widths, outputs that are not labelled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from scipy.sparse.csgraph import connected_components

from topostrata.topology import Topology

M64 = 2**64 - 1
S = 2329089562800
ABSENT = 0


def mix(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & M64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & M64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & M64
    return x ^ (x >> 31)


def salt(layer: int, tap: int) -> int:
    return 0 if layer == tap == 0 else mix((layer << 32) + tap)


@dataclass
class Net:
    """A network as sets: ``ins[s][u]`` holds (layer ordinal, tap, source space, source unit), ``outs`` likewise."""

    sizes: list[int]
    entered: list[bool]
    fixed: list[bool]
    ins: list[list[set[tuple[int, int, int, int]]]]
    outs: list[list[set[tuple[int, int, int, int]]]]


def net_of(topology: Topology, *, fix_output: bool) -> Net:
    last = {layer.target.name: k for k, layer in enumerate(topology.layers)}
    read = {layer.source.name for layer in topology.layers}
    spaces = [s for s in topology.spaces if s.name not in last]
    spaces += sorted((s for s in topology.spaces if s.name in last), key=lambda s: last[s.name])
    place = {s.name: i for i, s in enumerate(spaces)}
    ins: list[list[set[tuple[int, int, int, int]]]] = [[set() for _ in range(s.size)] for s in spaces]
    outs: list[list[set[tuple[int, int, int, int]]]] = [[set() for _ in range(s.size)] for s in spaces]
    n_in, n_out = [0] * len(spaces), [0] * len(spaces)
    for layer in topology.layers:
        f, t = place[layer.source.name], place[layer.target.name]
        mask = layer.mask
        for u, tap, v in zip(mask.sources.tolist(), mask.tap_indices.tolist(), mask.targets.tolist(), strict=True):
            ins[t][v].add((n_in[t], tap, f, u))
            outs[f][u].add((n_out[f], tap, t, v))
        n_in[t] += 1
        n_out[f] += 1
    fixed = [s.name not in last or (s.labelled and (fix_output or s.name in read)) for s in spaces]
    return Net([s.size for s in spaces], [s.name in last for s in spaces], fixed, ins, outs)


def colours(net: Net) -> list[list[int]]:
    c = [[((s + 1) << 32) + (u + 1 if net.fixed[s] else 0) for u in range(n)] for s, n in enumerate(net.sizes)]
    rounds = 2 * (len(net.sizes) - 1) + 2
    c = _refine(net, c, rounds)
    while (mixed := _not_twins(net, c)) is not None:
        space, twins = mixed
        for u in twins:
            c[space][u] ^= 0xA5A5A5A5A5A5A5A5
        c = _refine(net, c, rounds)
    return c


def _refine(net: Net, c: list[list[int]], rounds: int) -> list[list[int]]:
    for _ in range(rounds):
        c = [
            [
                mix(
                    (
                        mix(
                            mix(c[s][u])
                            ^ (sum(mix(c[f][v] ^ 0x1111 ^ salt(q, tap)) for q, tap, f, v in net.ins[s][u]) & M64)
                        )
                        + 3 * sum(mix(c[t][v] ^ 0x2222 ^ salt(q, tap)) for q, tap, t, v in net.outs[s][u])
                    )
                    & M64
                )
                for u in range(n)
            ]
            for s, n in enumerate(net.sizes)
        ]
    return c


def _not_twins(net: Net, c: list[list[int]]) -> tuple[int, list[int]] | None:
    for s, n in enumerate(net.sizes):
        if net.fixed[s]:
            continue
        classes: dict[int, dict[tuple[frozenset[object], frozenset[object]], list[int]]] = {}
        for u in range(n):
            twin = (frozenset(net.ins[s][u]), frozenset(net.outs[s][u]))
            classes.setdefault(c[s][u], {}).setdefault(twin, []).append(u)
        for colour in sorted(classes):
            if len(classes[colour]) > 1:
                return s, next(iter(classes[colour].values()))
    return None


def hungarian(cost: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exact minimum-cost perfect matching on the allowed pairs: column of each row, row duals, column duals."""
    n = len(cost)
    big = np.int64((int(cost.max()) + 1) * (n + 1))
    cost = np.where(allowed, cost, big).astype(np.int64)
    u, v = np.zeros(n + 1, dtype=np.int64), np.zeros(n + 1, dtype=np.int64)
    owner = np.full(n + 1, n)  # row of each column; column n is the virtual start
    for row in range(n):
        owner[n] = row
        column = n
        least = np.full(n, 2**62, dtype=np.int64)
        way = np.full(n, n)
        used = np.zeros(n + 1, dtype=bool)
        while True:
            used[column] = True
            i = owner[column]
            reduced = cost[i] - u[i] - v[:n]
            better = ~used[:n] & (reduced < least)
            least[better], way[better] = reduced[better], column
            free = np.flatnonzero(~used[:n])
            nxt = free[np.argmin(least[free])]
            delta = least[nxt]
            u[owner[used]] += delta
            v[used] -= delta
            least[free] -= delta
            column = nxt
            if owner[column] == n:
                break
        while column != n:
            owner[column] = owner[way[column]]
            column = way[column]
    columns = np.empty(n, dtype=int)
    columns[owner[:n]] = np.arange(n)
    assert not (cost[np.arange(n), columns] == big).any()
    return columns, u[:n], v[:n]


def lexicographic(criteria: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """The matching that is optimal for each criterion among the optima of those before, and the components after each.

    Components are numbers per row; a row's column is in its component.
    """
    n = len(criteria[0])
    allowed = np.ones((n, n), dtype=bool)
    component = np.zeros(n, dtype=int)
    columns = np.arange(n)
    history = []
    for cost in criteria:
        refined_component = component.copy()
        total = 0
        for k in range(component.max() + 1):
            rows = np.flatnonzero(component == k)
            cols = columns[rows]
            sub, edges = cost[np.ix_(rows, cols)], allowed[np.ix_(rows, cols)]
            match, u, v = hungarian(sub, edges)
            tight = edges & (sub - u[:, None] - v[None, :] == 0)
            owner = np.empty(len(rows), dtype=int)
            owner[match] = np.arange(len(rows))
            graph = np.zeros_like(tight)
            graph[:, owner] = tight
            count, labels = connected_components(graph, connection="strong")
            columns[rows] = cols[match]
            keep = tight & (labels[:, None] == labels[owner][None, :])
            allowed[np.ix_(rows, cols)] = keep
            refined_component[rows] = total + labels
            total += count
        component = refined_component
        history.append(component.copy())
    return columns, history


def jaccard(
    a: Sequence[AbstractSet[object]], b: Sequence[AbstractSet[object]], n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sizes of xor and or of every two sets; absent units beyond the end have the empty set."""
    empty: AbstractSet[object] = frozenset()
    num, den = np.zeros((n, n), dtype=np.int64), np.zeros((n, n), dtype=np.int64)
    for i in range(n):
        set_a = a[i] if i < len(a) else empty
        for j in range(n):
            set_b = b[j] if j < len(b) else empty
            common = len(set_a & set_b)
            den[i, j] = len(set_a) + len(set_b) - common
            num[i, j] = den[i, j] - common
    return num, den


def integer(num: np.ndarray, den: np.ndarray) -> np.ndarray:
    return np.where(den > 0, (2 * S * num + den) // np.maximum(2 * den, 1), 0).astype(np.int64)


def canonical(
    a: Topology, b: Topology, *, fix_output: bool = True
) -> tuple[list[float], list[int], dict[int, np.ndarray]]:
    """Per layer its distance and its ambiguous units; per space the partner in B of each unit of A (or -1)."""
    net_a, net_b = net_of(a, fix_output=fix_output), net_of(b, fix_output=fix_output)
    ca, cb = colours(net_a), colours(net_b)
    partner: dict[int, dict[int, int]] = {}  # space -> unit of B -> unit of A
    values, ambiguous, matches = [], [], {}
    for s, n_a in enumerate(net_a.sizes):
        n_b = net_b.sizes[s]
        n = max(n_a, n_b)
        if net_a.fixed[s]:
            columns = np.arange(n)
            partner[s] = {u: u for u in range(n_a)}
            if net_a.entered[s]:
                num, den = _fan_in(net_a, net_b, s, partner, n)
                ambiguous.append(0)
        else:
            num, den = _fan_in(net_a, net_b, s, partner, n)
            cost, colour = _padded(num, den, n_a, n_b), _colour_cost(ca[s], cb[s], n)
            columns, parts = lexicographic([cost, colour])
            tied = np.bincount(parts[0])[parts[0]] > 1
            trial = dict(partner)
            trial[s] = {
                int(j): i
                for i, j in enumerate(columns)
                if i < n_a and j < n_b and not (tied[i] and ca[s][i] != cb[s][j])
            }
            columns, parts = lexicographic([cost, _look_ahead(net_a, net_b, s, trial, ca, cb, n), colour])
            ambiguous.append(int((np.bincount(parts[0])[parts[0]] > 1).sum()))
            partner[s] = {int(j): i for i, j in enumerate(columns) if i < n_a and j < n_b}
        matches[s] = np.where(columns < n_b, columns, -1)[:n_a]
        if net_a.entered[s]:
            terms = []
            for i, j in enumerate(columns):
                lone = i >= n_a or j >= n_b
                terms.append(1.0 if lone else num[i, j] / den[i, j] if den[i, j] else 0.0)
            values.append(math.fsum(terms) / n)
    return values, ambiguous, matches


def _fan_in(
    net_a: Net, net_b: Net, s: int, partner: dict[int, dict[int, int]], n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of B under the names of their partners in A; those without one get names that A does not know."""
    moved = [
        {(q, tap, partner[f][u]) if f in partner and u in partner[f] else (q, tap, -1 - u) for q, tap, f, u in unit}
        for unit in net_b.ins[s]
    ]
    return jaccard([{(q, tap, u) for q, tap, _, u in unit} for unit in net_a.ins[s]], moved, n)


def _padded(num: np.ndarray, den: np.ndarray, n_a: int, n_b: int) -> np.ndarray:
    cost = integer(num, den)
    cost[n_a:] = S
    cost[:, n_b:] = S
    return cost


def _colour_cost(ca: list[int], cb: list[int], n: int) -> np.ndarray:
    cost = np.zeros((n, n), dtype=np.int64)
    for i in range(n):
        x = ca[i] if i < len(ca) else ABSENT
        for j in range(n):
            y = cb[j] if j < len(cb) else ABSENT
            if x != y:
                cost[i, j] = 1 + (mix(mix(min(x, y)) ^ ((5 * max(x, y)) & M64)) >> 16)
    return cost


def _look_ahead(
    net_a: Net, net_b: Net, s: int, trial: dict[int, dict[int, int]], ca: list[list[int]], cb: list[list[int]], n: int
) -> np.ndarray:
    ahead: dict[int, dict[int, int]] = {}
    for t in {t for net in (net_a, net_b) for unit in net.outs[s] for _, _, t, _ in unit}:
        n_a, n_b = net_a.sizes[t], net_b.sizes[t]
        if net_a.fixed[t]:
            ahead[t] = {u: u for u in range(n_a)}
            continue
        width = max(n_a, n_b)
        num, den = _fan_in(net_a, net_b, t, trial, width)
        columns, _ = lexicographic([_padded(num, den, n_a, n_b), _colour_cost(ca[t], cb[t], width)])
        ahead[t] = {int(j): i for i, j in enumerate(columns) if i < n_a and j < n_b}
    moved = [
        {(q, tap, ahead[t][u]) if u in ahead[t] else (q, tap, -1 - u) for q, tap, t, u in unit}
        for unit in net_b.outs[s]
    ]
    return integer(*jaccard([{(q, tap, u) for q, tap, _, u in unit} for unit in net_a.outs[s]], moved, n))
