"""Declared descent: the directed acyclic graph of runs, as its writers stated it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import networkx as nx

from stratigraph.runs import How


@dataclass(frozen=True, slots=True, order=True)
class Descent:
    """``child`` started from the snapshot ``parent@step`` and departed from it by ``how``."""

    parent: str
    step: int
    child: str
    how: How


@dataclass(frozen=True, slots=True)
class Lineage:
    """A part of the descent of runs: ``nodes`` are run ids, parents before their children."""

    nodes: tuple[str, ...]
    edges: tuple[Descent, ...]

    def graph(self) -> nx.MultiDiGraph[str]:
        """As a networkx graph: edges from parent to child with ``step`` and ``how``."""
        graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
        graph.add_nodes_from(self.nodes)
        for edge in self.edges:
            graph.add_edge(edge.parent, edge.child, step=edge.step, how=edge.how)
        return graph


def family(edges: Iterable[Descent], runs: Iterable[str], of: str | None = None) -> Lineage:
    """The ancestors and descendants of a run, itself among them; without ``of`` all runs.

    >>> chain = [Descent("w0", 0, "w1", "fork"), Descent("w1", 5, "w2", "fork"), Descent("w0", 0, "x", "fork")]
    >>> family(chain, ["w0", "w1", "w2", "x", "y"], of="w1").nodes
    ('w0', 'w1', 'w2')
    """
    every = Lineage(tuple(runs), tuple(edges))
    graph = every.graph()
    members = set(graph) if of is None else nx.ancestors(graph, of) | nx.descendants(graph, of) | {of}
    return Lineage(
        tuple(nx.lexicographical_topological_sort(graph.subgraph(members))),
        tuple(sorted(e for e in every.edges if e.parent in members and e.child in members)),
    )
