"""Lineage for other programs: GraphML (Gephi, yEd, igraph, networkx) and PROV-JSON (the W3C's provenance model).

Declared descent and inferred ancestry are written in the same way; a guess is marked as one in every format.
"""

from __future__ import annotations

from typing import Any

from topostrata.lineage.declared import Lineage
from topostrata.lineage.inferred import Inference

# A name for what an archive holds, not a place: the prefix stands for names that are unique within one archive.
NAMESPACE = "urn:topostrata:"


def to_graphml(lineage: Lineage | Inference) -> str:
    """A GraphML document: arrows from parent to child with their attributes; unknown attributes are left out.

    A directed graph in GraphML has no undirected edges: read the attribute ``direction`` of an edge.

    >>> to_graphml(Lineage(("w0",), ())).count("<node")
    1
    """
    import networkx as nx  # noqa: PLC0415 - its own lack is told by the modules of what goes out

    graph = lineage.graph()
    for *_, data in graph.edges(data=True):
        for key in [key for key, value in data.items() if value is None]:
            del data[key]
    if isinstance(lineage, Inference):
        graph.graph.update({"method": lineage.method, "alignment": lineage.alignment, "samples": lineage.samples})
        graph.graph.update({k: v for k, v in (("root", lineage.root), ("depth", lineage.depth)) if v is not None})
    return "\n".join(nx.generate_graphml(graph)) + "\n"


def to_prov(lineage: Lineage | Inference) -> dict[str, Any]:
    """A PROV-JSON document (W3C member submission, 2013): runs and snapshots are entities, descent is a derivation.

    A snapshot is a specialization of its run. A run that was declared to descend from a snapshot was derived from it
    (``ts:how`` says how). An inferred edge is a derivation of the child from the parent, of type ``ts:Inferred``, with
    its distance, margin and support; where its direction is unknown, the two runs are called alternates of each other,
    the one relation of PROV that has no direction.

    >>> to_prov(Lineage(("w0",), ()))["entity"]
    {'ts:run/w0': {'prov:type': {'$': 'ts:Run', 'type': 'prov:QUALIFIED_NAME'}}}
    """
    document: dict[str, Any] = {
        "prefix": {"ts": NAMESPACE},
        "entity": {_run(run): {"prov:type": _name("ts:Run")} for run in lineage.nodes},
    }
    if isinstance(lineage, Lineage):
        _declared(lineage, document)
    else:
        _inferred(lineage, document)
    return document


def _declared(lineage: Lineage, document: dict[str, Any]) -> None:
    for k, edge in enumerate(lineage.edges, start=1):
        snapshot = f"ts:snapshot/{edge.parent}@{edge.step}"
        if snapshot not in document["entity"]:
            document["entity"][snapshot] = {"prov:type": _name("ts:Snapshot"), "ts:step": edge.step}
            special = document.setdefault("specializationOf", {})
            special[f"_:s{len(special) + 1}"] = {
                "prov:specificEntity": snapshot,
                "prov:generalEntity": _run(edge.parent),
            }
        document.setdefault("wasDerivedFrom", {})[f"_:d{k}"] = {
            "prov:generatedEntity": _run(edge.child),
            "prov:usedEntity": snapshot,
            "ts:how": edge.how,
        }


def _inferred(inference: Inference, document: dict[str, Any]) -> None:
    for k, edge in enumerate(inference.edges, start=1):
        known = {"distance": edge.distance, "margin": edge.margin, "support": edge.support, "direction": edge.direction}
        attributes: dict[str, Any] = {f"ts:{key}": value for key, value in known.items() if value is not None}
        attributes["ts:alignment"] = inference.alignment
        if edge.direction == "unknown":
            ends = {"prov:alternate1": _run(edge.parent), "prov:alternate2": _run(edge.child)}
            document.setdefault("alternateOf", {})[f"_:a{k}"] = {**ends, **attributes}
        else:
            ends = {"prov:generatedEntity": _run(edge.child), "prov:usedEntity": _run(edge.parent)}
            document.setdefault("wasDerivedFrom", {})[f"_:d{k}"] = {
                **ends,
                "prov:type": _name("ts:Inferred"),
                **attributes,
            }


def _run(run: str) -> str:
    return f"ts:run/{run}"


def _name(name: str) -> dict[str, str]:
    return {"$": name, "type": "prov:QUALIFIED_NAME"}
