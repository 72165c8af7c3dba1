"""Lineage for other programs: GraphML (Gephi, yEd, igraph, networkx) and PROV-JSON (the W3C's provenance model).

Declared descent and inferred ancestry go out the same way; what is only a guess says so in every format.
"""

from __future__ import annotations

from typing import Any

import networkx as nx

from topostrata.lineage.declared import Lineage
from topostrata.lineage.inferred import Inference

# A name for what an archive holds, not a place: the prefix stands for names that are unique within one archive.
NAMESPACE = "urn:topostrata:"


def to_graphml(found: Lineage | Inference) -> str:
    """A GraphML document: arrows from parent to child with what is known of each; what is unknown is left out.

    GraphML has no word for an edge whose direction is not known in a graph of arrows: read ``direction`` of the edge.
    """
    graph = found.graph()
    for *_, data in graph.edges(data=True):
        for key in [key for key, value in data.items() if value is None]:
            del data[key]
    if isinstance(found, Inference):
        graph.graph.update({"method": found.method, "alignment": found.alignment, "samples": found.samples})
        graph.graph.update({k: v for k, v in (("root", found.root), ("depth", found.depth)) if v is not None})
    return "\n".join(nx.generate_graphml(graph)) + "\n"


def to_prov(found: Lineage | Inference) -> dict[str, Any]:
    """A PROV-JSON document (W3C member submission, 2013): runs and snapshots are entities, descent is a derivation.

    A snapshot is a specialization of its run. A run that was declared to descend from a snapshot was derived from it
    (``sg:how`` says how). An inferred edge is a derivation of the child from the parent, of type ``sg:Inferred``, with
    its distance, margin and support; where its direction is unknown, the two runs are called alternates of each other,
    the one relation of PROV that has no direction.

    >>> to_prov(Lineage(("w0",), ()))["entity"]
    {'sg:run/w0': {'prov:type': {'$': 'sg:Run', 'type': 'prov:QUALIFIED_NAME'}}}
    """
    document: dict[str, Any] = {
        "prefix": {"sg": NAMESPACE},
        "entity": {_run(run): {"prov:type": _name("sg:Run")} for run in found.nodes},
    }
    if isinstance(found, Lineage):
        _declared(found, document)
    else:
        _inferred(found, document)
    return document


def _declared(found: Lineage, document: dict[str, Any]) -> None:
    for k, edge in enumerate(found.edges, start=1):
        snapshot = f"sg:snapshot/{edge.parent}@{edge.step}"
        if snapshot not in document["entity"]:
            document["entity"][snapshot] = {"prov:type": _name("sg:Snapshot"), "sg:step": edge.step}
            special = document.setdefault("specializationOf", {})
            special[f"_:s{len(special) + 1}"] = {
                "prov:specificEntity": snapshot,
                "prov:generalEntity": _run(edge.parent),
            }
        document.setdefault("wasDerivedFrom", {})[f"_:d{k}"] = {
            "prov:generatedEntity": _run(edge.child),
            "prov:usedEntity": snapshot,
            "sg:how": edge.how,
        }


def _inferred(found: Inference, document: dict[str, Any]) -> None:
    for k, edge in enumerate(found.edges, start=1):
        known = {"distance": edge.distance, "margin": edge.margin, "support": edge.support, "direction": edge.direction}
        said: dict[str, Any] = {f"sg:{key}": value for key, value in known.items() if value is not None}
        said["sg:alignment"] = found.alignment
        if edge.direction == "unknown":
            ends = {"prov:alternate1": _run(edge.parent), "prov:alternate2": _run(edge.child)}
            document.setdefault("alternateOf", {})[f"_:a{k}"] = {**ends, **said}
        else:
            ends = {"prov:generatedEntity": _run(edge.child), "prov:usedEntity": _run(edge.parent)}
            document.setdefault("wasDerivedFrom", {})[f"_:d{k}"] = {**ends, "prov:type": _name("sg:Inferred"), **said}


def _run(run: str) -> str:
    return f"sg:run/{run}"


def _name(name: str) -> dict[str, str]:
    return {"$": name, "type": "prov:QUALIFIED_NAME"}
