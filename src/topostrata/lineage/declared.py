"""Declared descent: the directed acyclic graph of runs, as its writers stated it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from topostrata.errors import MissingExtraError
from topostrata.frames import frame
from topostrata.runs import Descent
from topostrata.shown import Shown, Table

try:
    import networkx as nx
except ImportError as error:
    raise MissingExtraError("lineage", "distance") from error

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Lineage(Shown):
    """A part of the descent of runs: ``nodes`` are run ids, parents before their children; ``cut`` more lie beyond."""

    nodes: tuple[str, ...]
    edges: tuple[Descent, ...]
    cut: int = 0

    def to_pandas(self) -> pd.DataFrame:
        """A row for each descent: child, parent, step, how."""
        _, heads, rows = self._shown()
        return frame((dict(zip(heads, row, strict=True)) for row in rows), heads)

    def _shown(self) -> Table:
        rows = [[edge.child, edge.parent, edge.step, edge.how] for edge in self.edges]
        cut = f", {self.cut} more beyond" if self.cut else ""
        return Table(f"descent of {len(self.nodes)} runs{cut}", ("child", "parent", "step", "how"), rows)

    def graph(self) -> nx.MultiDiGraph[str]:
        """As a networkx graph: edges from parent to child with ``step`` and ``how``."""
        graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
        graph.add_nodes_from(self.nodes)
        for edge in self.edges:
            graph.add_edge(edge.parent, edge.child, step=edge.step, how=edge.how)
        return graph


def family(
    edges: Iterable[Descent], runs: Iterable[str], of: str | None = None, *, depth: int | None = None
) -> Lineage:
    """The ancestors and descendants of a run, and the run itself; without ``of`` all runs.

    ``depth`` is how many generations up and down are shown; ``cut`` counts the runs that lie beyond.

    >>> chain = [Descent("w0", 0, "w1", "fork"), Descent("w1", 5, "w2", "fork"), Descent("w0", 0, "x", "fork")]
    >>> family(chain, ["w0", "w1", "w2", "x", "y"], of="w1").nodes
    ('w0', 'w1', 'w2')
    >>> family(chain, ["w0", "w1", "w2", "x", "y"], of="w2", depth=1).cut
    1
    """
    every = Lineage(tuple(runs), tuple(edges))
    graph = every.graph()
    members = set(graph)
    if of is not None:
        members = _within(graph, of, None)
        shown = _within(graph, of, depth)
        cut, members = len(members - shown), shown
    else:
        cut = 0
    return Lineage(
        tuple(nx.lexicographical_topological_sort(graph.subgraph(members))),
        tuple(sorted(e for e in every.edges if e.parent in members and e.child in members)),
        cut,
    )


@dataclass(frozen=True, slots=True)
class Kinship:
    """How two runs are related: their nearest common ancestors, and the way from one of these to each of them.

    An ancestor is nearest where no descendant of it is a common ancestor too; several parents may give several of them.
    ``ancestors`` is empty for runs that are not related. The ways are runs, the first of ``ancestors`` to the run.
    """

    a: str
    b: str
    ancestors: tuple[str, ...]
    to_a: tuple[str, ...]
    to_b: tuple[str, ...]


def kinship(edges: Iterable[Descent], a: str, b: str) -> Kinship:
    """The nearest common ancestors of two runs and the shortest ways down from the first of them.

    A run counts as its own ancestor here: the nearest common ancestor of a run and its grandchild is the run.

    >>> kinship([Descent("w0", 0, "w1", "fork"), Descent("w0", 3, "x", "fork")], "w1", "x")
    Kinship(a='w1', b='x', ancestors=('w0',), to_a=('w0', 'w1'), to_b=('w0', 'x'))
    """
    graph = Lineage((a, b), tuple(edges)).graph()
    common = (nx.ancestors(graph, a) | {a}) & (nx.ancestors(graph, b) | {b})
    nearest = sorted(run for run in common if not common & nx.descendants(graph, run))
    if not nearest:
        return Kinship(a, b, (), (), ())
    ways = [tuple(nx.shortest_path(graph, nearest[0], run)) for run in (a, b)]
    return Kinship(a, b, tuple(nearest), ways[0], ways[1])


def _within(graph: nx.MultiDiGraph[str], run: str, depth: int | None) -> set[str]:
    """A run, its ancestors and its descendants, so many generations up and down."""
    up = nx.single_source_shortest_path_length(graph.reverse(copy=False), run, cutoff=depth)
    down = nx.single_source_shortest_path_length(graph, run, cutoff=depth)
    return set(up) | set(down)
