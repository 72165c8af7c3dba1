"""Inferred ancestry: which network probably descends from which, from the networks' distances alone.

A network is most like the one it was made from, so the shortest tree that joins all networks is a guess at their
descent: the minimum spanning tree, or, if it is known which came first, the arborescence (a tree of arrows away from
the root). It is a guess: each edge says how much nearer the parent is than the next best one (``margin``), in what
share of the resampled networks it is found again (``support``), and how its direction is known, if at all.

The caller passes the function that compares networks: ``nnstd`` with an alignment. docs/design/020-inferred-ancestry.md
has the reasons, docs/benchmarks-ancestry.md how often it is right.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from topostrata.distance.alignments import DEFAULT, Alignment, definition_of
from topostrata.distance.jobs import Loader
from topostrata.distance.nnstd import Distance
from topostrata.errors import InvalidInputError, MissingExtraError
from topostrata.frames import frame
from topostrata.lineage.unit_terms import PairTerms, Placement, Units, unit_terms
from topostrata.shown import Shown, Table
from topostrata.topology import Topology

try:
    import networkx as nx
except ImportError as error:
    raise MissingExtraError("lineage", "distance") from error

if TYPE_CHECKING:
    import pandas as pd

Method = Literal["tree", "arborescence"]
Direction = Literal["root", "time", "subset", "unknown"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SAMPLES = 200
_CELLS = 2**20  # pairs times units that are resampled together: 16 MB


# Gives the distance and the matching of two networks: ``nnstd`` with a chosen alignment.
Compare = Callable[[Topology, Topology], Distance]


@dataclass(frozen=True, slots=True)
class InferredEdge:
    """``child`` probably descends from ``parent``, or vice versa if ``direction`` is ``"unknown"``.

    ``distance`` is the distance of the two, 0 to 1. ``margin`` says how much longer the whole tree becomes when this
    edge is forbidden. Without ages, that is the length of the shortest other edge between the two parts of the tree
    that this edge joins, less the length of this edge; it does not depend on which of the two is called the child. If
    all ages differ, it is the distance of the next nearest older network, less that of the parent. None if there is no
    other tree. Never negative; near 0 the choice is arbitrary.

    ``support`` is the share of the resamples, 0 to 1, whose tree has this edge (for an arborescence with this
    direction); None where nothing was resampled. ``direction`` says how the direction is known: ``"time"`` (the parent
    is older), ``"root"`` (it lies on the root's side), ``"subset"`` (the child has a part of the parent's connections
    and no others: descent, if networks were only pruned) or ``"unknown"``.
    """

    parent: str
    child: str
    distance: float
    margin: float | None
    support: float | None
    direction: Direction


@dataclass(frozen=True, slots=True)
class Inference(Shown):
    """A tree over networks: n - 1 edges that join n networks, parents before their children where there is a root.

    ``alignment`` says how the networks were compared, ``depth`` in how many of their spaces (None: in all). ``samples``
    is the number of resamples; the support is a share of them. ``version`` is that of the alignment.

    ``units`` says whether hidden unit i is the same unit in all networks (``"in-place"``) or not (``"renamed"``), which
    decides the alignment where none is named; ``units_by`` how that is known: by their ``"connections"``, by their
    ``"shapes"``, which differ, or by the ``"caller"``. By connections, ``agreement`` is how many more connections a
    network shares with another one, index by index, than if units were shuffled, in standard deviations: the best of
    each network, and of these the least. ``out_of_place`` names the networks that do not get above 5. None where units
    were not looked at.
    """

    json_names: ClassVar = {"nodes": None}

    method: Method
    alignment: str
    root: str | None
    edges: tuple[InferredEdge, ...]
    samples: int = 0
    depth: int | None = None
    version: int = 1
    units: Units | None = None
    units_by: Literal["connections", "shapes", "caller"] | None = None
    agreement: float | None = None
    out_of_place: tuple[str, ...] = ()

    @property
    def nodes(self) -> tuple[str, ...]:
        """The networks, in the order in which the edges first name them."""
        return tuple(dict.fromkeys(label for edge in self.edges for label in (edge.parent, edge.child)))

    def to_pandas(self) -> pd.DataFrame:
        """A row for each edge: parent, child, distance, margin, support, direction."""
        return frame(asdict(edge) for edge in self.edges)

    def _shown(self) -> Table:
        heads = ("parent", "child", "distance", "margin", "support", "direction")
        rows = [[getattr(edge, name) for name in heads] for edge in self.edges]
        return Table(f"probable descent, {self.alignment} distances", heads, rows)

    def placed(self, placement: Placement, labels: Sequence[str]) -> Inference:
        """The same, saying whether units are in place; ``labels`` are those of the networks that were looked at."""
        apart = tuple(labels[k] for k in placement.out_of_place)
        return replace(
            self, units=placement.units, units_by=placement.by, agreement=placement.agreement, out_of_place=apart
        )

    def graph(self) -> nx.DiGraph[str]:
        """As a networkx graph: edges from parent to child with distance, margin, support and direction."""
        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_nodes_from(self.nodes)
        for e in self.edges:
            graph.add_edge(
                e.parent, e.child, distance=e.distance, margin=e.margin, support=e.support, direction=e.direction
            )
        return graph


def infer(
    topologies: Sequence[Topology | Loader],
    labels: Sequence[str],
    compare: Compare,
    *,
    root: str | None = None,
    times: Sequence[float] | None = None,
    depth: int | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Inference:
    """The probable ancestry of two or more networks.

    ``compare`` gives the distance of two networks and their matching: ``nnstd`` with a chosen alignment. It is called
    once per pair, or twice for the alignment that is not symmetric (``reference``): its ties depend on the order of the
    two, so the mean of both orders is taken. ``root`` names the ancestor of all. ``times`` (one per network, in any
    unit) says that no network descends from a younger one; where they differ and no root is named, the oldest is the
    root. Without either the tree has no direction, but for what pruning reveals.

    ``depth`` limits the distances to this number of spaces, from the inputs on. If hidden units do not keep their
    indices and training has rewired the networks, ``canonical`` may find more true edges at depth 1 than over all
    spaces, because an error in one matching spoils all that follow; ``overlap`` needs no depth.

    The support comes from ``samples`` resamples (0 for none): in every space, units are drawn with replacement, the
    same draw for all networks, and the distances are taken over the drawn units. A unit of a network bears the name of
    the unit it is matched with in the network that is nearest to all; a pair of units counts with the mean of the draws
    of its two names, a unit without a name once in every draw. With ``identity`` all names agree, and this is the plain
    bootstrap of units (Felsenstein 1985, with units for sites); otherwise the matching itself is not resampled, so
    the support says nothing of its uncertainty. ``seed`` fixes the draws. ``progress(done, all)`` counts pairs.

    Networks beyond a chain (``Wiring.beyond_format_1``) have distances, but no terms of single units yet: their tree
    has no support (``samples`` of the answer is 0), nothing in it is told from pruning, and a depth is refused.

    Memory: all networks, and 16 bytes per unit and pair where there are samples.

    Raises ``InvalidInputError`` for fewer than two networks, labels that are not one each and unique, an unknown root,
    a root younger than another network, several oldest networks and no root, or a depth below 1; what ``compare``
    raises passes through.
    """
    values = [t if isinstance(t, Topology) else t() for t in topologies]
    names = tuple(labels)
    if len(names) != len(values):
        raise InvalidInputError(f"labels: expected one for each of the {len(values)} networks, found {len(names)}")
    if depth is not None and depth < 1:
        raise InvalidInputError(f"depth: expected at least 1 space, found {depth}")
    beyond = next((kind for value in values if (kind := value.wiring.beyond_format_1) is not None), None)
    if beyond is not None and depth is not None:
        raise InvalidInputError(f"depth: expected networks of plain layers to compare in part, found {beyond}")
    samples = 0 if beyond is not None else samples
    start = _root(names, root, times)
    # Of single units only resamples, a depth, and a tree in want of a direction know.
    by_units = beyond is None and (samples > 0 or depth is not None or start is None)
    n = len(names)
    matrix, within = np.zeros((n, n)), np.zeros((n, n), dtype=bool)
    terms: dict[tuple[int, int], PairTerms] = {}
    alignment = DEFAULT
    for done, (i, j) in enumerate(combinations(range(n), 2), start=1):
        forth = compare(values[i], values[j])
        alignment = definition_of(forth.alignment).name
        pair = unit_terms(values[i], values[j], forth.matching) if by_units else None
        value = forth.nnstd if depth is None or pair is None else _shallow(pair, depth)
        if not definition_of(alignment).symmetric:
            back = compare(values[j], values[i])
            turned = back.nnstd if depth is None else _shallow(unit_terms(values[j], values[i], back.matching), depth)
            value = (value + turned) / 2
        matrix[i, j] = matrix[j, i] = value
        if pair is not None:
            within[i, j] = pair.common == values[i].nnz < values[j].nnz
            within[j, i] = pair.common == values[j].nnz < values[i].nnz
            if samples:
                terms[i, j] = pair
        if progress is not None:
            progress(done, n * (n - 1) // 2)
    resampled = _resampled(values, matrix, terms, depth, samples, seed) if samples else None
    tree = from_distances(
        names, matrix, alignment=alignment, root=start, times=times, within=within, resampled=resampled
    )
    return replace(tree, depth=depth)


def _shallow(pair: PairTerms, depth: int) -> float:
    return math.fsum(float(term.distance.mean()) for term in pair.spaces[:depth]) / len(pair.spaces[:depth])


def from_distances(
    labels: Sequence[str],
    matrix: Floats,
    *,
    alignment: Alignment,
    root: str | None = None,
    times: Sequence[float] | None = None,
    within: Bools | None = None,
    resampled: Floats | None = None,
) -> Inference:
    """The probable ancestry, from distances that are known: shape (n, n), symmetric.

    ``within[i, j]`` says that network i has a part of the connections of network j and no others; ``resampled`` holds
    further matrices, shape (samples, n, n), to draw the support from. Root, times and what is raised: see ``infer``;
    ``InvalidInputError`` for an unknown alignment, too.

    >>> chain = np.array([[0, 0.1, 0.2], [0.1, 0, 0.15], [0.2, 0.15, 0]])
    >>> for edge in from_distances(["a", "b", "c"], chain, alignment="identity", root="a").edges:
    ...     print(edge.parent, edge.child, edge.distance, round(edge.margin, 3), edge.direction)
    a b 0.1 0.1 root
    b c 0.15 0.05 root
    """
    version = definition_of(alignment).version
    names = tuple(labels)
    start = _root(names, root, times)
    # Ties are broken by label, so that the answer does not depend on the order in which networks were handed in.
    order = sorted(range(len(names)), key=lambda i: names[i])
    sorted_names = [names[i] for i in order]
    square = np.ix_(order, order)
    distances = np.asarray(matrix, dtype=np.float64)[square]
    ages = None if times is None or start is None else np.asarray(times, dtype=np.float64)[order]
    at = None if start is None else sorted_names.index(start)
    pairs = _pairs(distances, at, ages)
    counts = dict.fromkeys(pairs, 0)
    samples = 0 if resampled is None else len(resampled)
    for drawn in () if resampled is None else resampled:
        for pair in _pairs(drawn[square], at, ages):
            if pair in counts:
                counts[pair] += 1
    part = np.zeros(distances.shape, dtype=bool) if within is None else within[square]
    edges = []
    for pair in pairs:
        direction = _direction(pair, at, ages, part)
        parent, child = pair if direction != "subset" or part[pair[::-1]] else pair[::-1]
        edges.append(
            InferredEdge(
                sorted_names[parent],
                sorted_names[child],
                float(distances[pair]),
                _margin(distances, pairs, pair, at, ages),
                counts[pair] / samples if samples else None,
                direction,
            )
        )
    return Inference(
        "tree" if start is None else "arborescence", alignment, start, tuple(edges), samples, version=version
    )


def _root(labels: tuple[str, ...], root: str | None, times: Sequence[float] | None) -> str | None:
    """The root that was named or that follows from the times; checks all arguments first."""
    if len(labels) < 2:
        raise InvalidInputError(f"ancestry: expected two networks or more, found {len(labels)}")
    if len(set(labels)) != len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise InvalidInputError(f"labels: expected each once, found {twice!r} {labels.count(twice)} times")
    if root is not None and root not in labels:
        raise InvalidInputError(
            f"root: expected one of the networks, found {root!r}", hint=f"they are {', '.join(labels[:10])}"
        )
    if times is None:
        return root
    if len(times) != len(labels) or not all(math.isfinite(time) for time in times):
        raise InvalidInputError(f"times: expected one finite number for each of {len(labels)} networks, found {times}")
    oldest = [label for label, time in zip(labels, times, strict=True) if time == min(times)]
    if root is not None and root not in oldest:
        raise InvalidInputError(f"root: expected no network older than the root, found {oldest[0]!r} before {root!r}")
    if root is not None or len(oldest) == len(labels):
        return root
    if len(oldest) > 1:
        raise InvalidInputError(
            f"times: expected one oldest network, found {len(oldest)}: {', '.join(oldest[:10])}", hint="name the root"
        )
    return oldest[0]


def _pairs(distances: Floats, root: int | None, ages: Floats | None) -> list[tuple[int, int]]:
    """The edges of the shortest tree as (parent, child), from the root down; without a root in the order of the labels.

    An infinite distance forbids an edge. There are fewer edges than n - 1 if the others form no tree.
    """
    if root is None or ages is None:
        edges = _shortest_tree(distances)
        # All distances are symmetric, so the best arborescence is the best tree seen from its root.
        return sorted(edges) if root is None else _downward(edges, root)
    reach = np.where(ages[:, None] <= ages[None, :], distances, np.inf)
    np.fill_diagonal(reach, np.inf)
    reach[:, root] = np.inf
    arrows: nx.DiGraph[int] = nx.DiGraph()
    nearest = reach.argmin(axis=0)
    arrows.add_edges_from((int(nearest[c]), c) for c in range(len(reach)) if math.isfinite(reach[nearest[c], c]))
    if not nx.is_directed_acyclic_graph(arrows):  # networks of the same age that are each other's nearest
        arrows.add_weighted_edges_from((int(i), int(j), reach[i, j]) for i, j in np.argwhere(np.isfinite(reach)))
        try:
            arrows = nx.minimum_spanning_arborescence(arrows)
        except nx.NetworkXException:
            return []
    return list(nx.bfs_edges(arrows, root)) if root in arrows else []


def _downward(edges: Sequence[tuple[int, int]], root: int) -> list[tuple[int, int]]:
    """The edges of a tree as (parent, child), level by level from the root on, for hundreds of resamples."""
    near = defaultdict(list)
    for i, j in edges:
        near[i].append(j)
        near[j].append(i)
    pairs: list[tuple[int, int]] = []
    parents, level = {root: root}, [root]
    for node in level:  # which grows while it is walked
        below = [other for other in near[node] if other != parents[node]]
        parents |= dict.fromkeys(below, node)
        level += below
        pairs += [(node, other) for other in below]
    return pairs


@lru_cache(maxsize=8)
def _above(n: int) -> tuple[NDArray[np.intp], ...]:
    """The places of all pairs of n networks, once each."""
    return np.triu_indices(n, 1)


def _shortest_tree(distances: Floats) -> list[tuple[int, int]]:
    """The edges (i, j), i < j, of the tree of least length, from the shortest on; of equal ones the first counts.

    Kruskal's way, for few nodes and hundreds of resamples: libraries take ten times as long to build their graphs.
    """
    i, j = _above(len(distances))
    order = np.argsort(distances[i, j], kind="stable")
    part = list(range(len(distances)))  # nodes of one part are joined already
    edges = []
    for a, b in zip(i[order].tolist(), j[order].tolist(), strict=True):
        ours, theirs = part[a], part[b]
        if ours != theirs:
            edges.append((a, b))
            part = [ours if other == theirs else other for other in part]
            if len(edges) == len(part) - 1:
                break
    return edges


def _margin(
    distances: Floats, pairs: list[tuple[int, int]], edge: tuple[int, int], root: int | None, ages: Floats | None
) -> float | None:
    """How much longer the shortest tree is without this edge."""
    if root is None or ages is None:  # the shortest other edge between the two parts that the edge joins
        rest = nx.Graph([pair for pair in pairs if pair != edge])
        rest.add_nodes_from(edge)
        near, far = (sorted(nx.node_connected_component(rest, end)) for end in edge)
        crossing = distances[np.ix_(near, far)]
        crossing[near.index(edge[0]), far.index(edge[1])] = np.inf
        grown = float(crossing.min() - distances[edge])
    else:
        without = distances.copy()
        without[edge] = without[edge[::-1]] = np.inf
        other = _pairs(without, root, ages)
        if len(other) < len(pairs):
            return None
        grown = math.fsum(distances[pair] for pair in other) - math.fsum(distances[pair] for pair in pairs)
    return max(grown, 0.0) if math.isfinite(grown) else None


def _direction(pair: tuple[int, int], root: int | None, ages: Floats | None, within: Bools) -> Direction:
    if ages is not None and ages[pair[0]] < ages[pair[1]]:
        return "time"
    if root is not None:
        return "root"
    return "subset" if within[pair] or within[pair[::-1]] else "unknown"


def _resampled(
    values: Sequence[Topology],
    matrix: Floats,
    terms: Mapping[tuple[int, int], PairTerms],
    depth: int | None,
    samples: int,
    seed: int,
) -> Floats:
    """Distances over drawn units: shape (samples, n, n)."""
    n = len(values)
    centre = int(matrix.sum(axis=0).argmin())
    spaces = tuple(dict.fromkeys(layer.target.name for layer in values[centre].layers))
    sizes = {layer.target.name: layer.target.size for layer in values[centre].layers}
    rng = np.random.default_rng(seed)
    # One more column, always 1: the units that no unit of the centre is matched with.
    draws = [
        np.hstack([rng.multinomial(sizes[s], np.full(sizes[s], 1 / sizes[s]), samples), np.ones((samples, 1))])
        for s in spaces
    ]
    names = [_names(values, i, centre, terms) for i in range(n)]
    resampled = np.zeros((samples, n, n))
    every = list(terms)
    places = range(len(spaces[:depth]))
    for place in places:
        width = sizes[spaces[place]] + 1
        block = max(1, _CELLS // width)
        for start in range(0, len(terms), block):
            pairs = every[start : start + block]
            shares, counts = np.zeros((len(pairs), width)), np.zeros((len(pairs), width))
            for p, (i, j) in enumerate(pairs):
                term = terms[i, j].spaces[place]
                for network, units in ((i, term.ours), (j, term.theirs)):
                    there = units >= 0
                    named = names[network][place][units[there]]
                    shares[p] += np.bincount(named, term.distance[there], width)
                    counts[p] += np.bincount(named, minlength=width)
            weights = draws[place] @ counts.T  # whole numbers: exact in any order of adding, which shares are not
            for p, (i, j) in enumerate(pairs):
                weight = weights[:, p]
                mean = np.divide(draws[place] @ shares[p], weight, out=np.zeros(samples), where=weight > 0)
                resampled[:, i, j] += mean
    for i, j in terms:
        resampled[:, i, j] /= len(places)
        resampled[:, j, i] = resampled[:, i, j]
    return resampled


def _names(
    values: Sequence[Topology], network: int, centre: int, terms: Mapping[tuple[int, int], PairTerms]
) -> list[NDArray[np.intp]]:
    """Per space that layers enter, for each unit of a network the unit of the centre that it is matched with.

    A unit without one has the number after the centre's last.
    """
    # Names of spaces may differ between networks, their order does not.
    ours = dict.fromkeys((layer.target.name, layer.target.size) for layer in values[network].layers)
    theirs = dict.fromkeys((layer.target.name, layer.target.size) for layer in values[centre].layers)
    named = []
    for place, ((_, size), (_, width)) in enumerate(zip(ours, theirs, strict=True)):
        if network == centre:
            named.append(np.arange(size))
            continue
        term = terms[min(network, centre), max(network, centre)].spaces[place]
        mine, its = (term.ours, term.theirs) if network < centre else (term.theirs, term.ours)
        matched = (mine >= 0) & (its >= 0)
        units = np.full(size, width, dtype=np.intp)
        units[mine[matched]] = its[matched]
        named.append(units)
    return named
