"""Lineage for other programs: GraphML (Gephi, yEd, networkx), PROV-JSON (the W3C's model), OpenLineage (catalogs).

Declared descent and inferred ancestry are written in the same way, and a guess is marked as one; but OpenLineage has no
mark for a guess: only what is declared is written as its events.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from topostrata.lineage.declared import Lineage
from topostrata.lineage.inferred import Inference
from topostrata.runs import Run, Snapshot, Status

# A name for what an archive holds, not a place: the prefix stands for names that are unique within one archive.
NAMESPACE = "urn:topostrata:"

_OPENLINEAGE = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
_PARENT = "https://openlineage.io/spec/facets/1-2-0/ParentRunFacet.json#/$defs/ParentRunFacet"
_VERSION = "https://openlineage.io/spec/facets/1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet"
_ENDS: dict[Status, str] = {"finished": "COMPLETE", "failed": "FAIL"}


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


def to_openlineage(
    runs: Iterable[Run], snapshots: Mapping[str, Sequence[Snapshot]], *, namespace: str = "topostrata"
) -> list[dict[str, Any]]:
    """Events of OpenLineage 2-0-2, in the order of their times: a run as its writers declared it, none inferred.

    A run is a run of a job of the same name, its id made from namespace and run, so that it is the same each time.
    ``START`` is when the run was made, its inputs the snapshots that it started from; each of its ``snapshots`` is a
    ``RUNNING`` event with that snapshot (``w0@5``) as output dataset, its digest as version. ``COMPLETE`` or ``FAIL``
    follows where the run has ended, at the time of what was last recorded, as no other is known. A run that started
    from one other run has that as its parent; where there were several, which the facet cannot hold, the inputs say so.
    ``snapshots`` holds those of the parents too, for their digests; an input whose digest is not known has no version.

    >>> from datetime import UTC, datetime
    >>> run = Run("w0", "w0", "finished", datetime(2026, 1, 1, tzinfo=UTC))
    >>> [event["eventType"] for event in to_openlineage([run], {"w0": []})]
    ['START', 'COMPLETE']
    """
    digests = {snapshot.id: snapshot.digest for entries in snapshots.values() for snapshot in entries}
    events = [event for run in runs for event in _events(run, snapshots[run.id], digests, namespace)]
    return sorted(events, key=lambda event: event["eventTime"])


def _events(
    run: Run, snapshots: Sequence[Snapshot], digests: Mapping[str, str], namespace: str
) -> Iterator[dict[str, Any]]:
    from topostrata import __version__  # noqa: PLC0415 - the package imports this module

    producer = f"{NAMESPACE}{__version__}"

    def facet(schema: str, **fields: Any) -> dict[str, Any]:
        return {"_producer": producer, "_schemaURL": schema, **fields}

    def run_of(name: str) -> dict[str, Any]:
        return {"runId": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{NAMESPACE}{namespace}/{name}"))}

    def job_of(name: str) -> dict[str, Any]:
        return {"namespace": namespace, "name": name}

    def dataset(ref: str) -> dict[str, Any]:
        version = {"version": facet(_VERSION, datasetVersion=digests[ref])} if ref in digests else {}
        return {"namespace": namespace, "name": ref, "facets": version}

    parents = {parent.run for parent in run.parents}
    facets = {"parent": facet(_PARENT, run=run_of(*parents), job=job_of(*parents))} if len(parents) == 1 else {}
    inputs = [dataset(f"{parent.run}@{parent.step}") for parent in run.parents]
    entries = [("START", run.created_at, None), *(("RUNNING", entry.recorded_at, entry.id) for entry in snapshots)]
    if run.status in _ENDS:
        entries.append((_ENDS[run.status], max(time for _, time, _ in entries), None))
    for kind, time, ref in entries:
        yield {
            "eventType": kind,
            "eventTime": time.isoformat(),
            "producer": producer,
            "schemaURL": _OPENLINEAGE,
            "run": run_of(run.id) | {"facets": facets},
            "job": job_of(run.id),
            "inputs": inputs if kind == "START" else [],
            "outputs": [] if ref is None else [dataset(ref)],
        }


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
