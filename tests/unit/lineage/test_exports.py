"""Lineage as JSON, GraphML, PROV-JSON and events of OpenLineage; the last two as their own packages read them."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import networkx as nx
import pytest

from topostrata.lineage.declared import Lineage
from topostrata.lineage.exports import to_graphml, to_openlineage, to_prov
from topostrata.lineage.inferred import Inference, InferredEdge
from topostrata.lineage.stored import StoredInference
from topostrata.runs import Descent, Parent, Run, Snapshot
from topostrata.service.answers.lineage import inference_answer
from topostrata.service.answers.shape import as_json

DECLARED = Lineage(
    ("w0", "w1", "w<2>", "x"),
    (
        Descent("w0", 0, "w1", "perturbation"),
        Descent("w0", 0, "w<2>", "fork"),
        Descent("w0", 5, "x", "pruned"),
        Descent("w1", 3, "x", "declared"),
    ),
)
INFERRED = Inference(
    "tree",
    "canonical",
    None,
    (
        InferredEdge("w0", "w1", 0.25, 0.125, 0.5, "unknown"),
        InferredEdge("w0", "w2", 0.5, None, None, "subset"),
        InferredEdge("w2", "w3", 0.75, 0.0, 1.0, "time"),
    ),
    samples=8,
    depth=1,
)


def test_json_holds_every_edge() -> None:
    """What goes out is plain JSON, unknown numbers as null."""
    assert json.loads(json.dumps(as_json(DECLARED)))["edges"][0] == {
        "parent": "w0",
        "step": 0,
        "child": "w1",
        "how": "perturbation",
    }
    stored = StoredInference("i", datetime(2026, 1, 1, tzinfo=UTC), {"w0": 0}, INFERRED)
    loaded = json.loads(json.dumps(inference_answer(stored), allow_nan=False))
    assert list(INFERRED.nodes) == ["w0", "w1", "w2", "w3"]
    assert (loaded["root"], loaded["alignment"], loaded["depth"], loaded["samples"]) == (None, "canonical", 1, 8)
    assert loaded["edges"][1] == {
        "parent": "w0",
        "child": "w2",
        "distance": 0.5,
        "margin": None,
        "support": None,
        "direction": "subset",
    }


def test_networkx_reads_the_declared_graphml_back() -> None:
    """Nodes, arrows, steps and ways of descent are all there, two parents of one run among them."""
    graph = nx.parse_graphml(to_graphml(DECLARED), force_multigraph=True)
    assert graph.is_directed()
    assert sorted(graph) == ["w0", "w1", "w<2>", "x"]
    assert sorted((p, c, d["step"], d["how"]) for p, c, d in graph.edges(data=True)) == [
        ("w0", "w1", 0, "perturbation"),
        ("w0", "w<2>", 0, "fork"),
        ("w0", "x", 5, "pruned"),
        ("w1", "x", 3, "declared"),
    ]


def test_networkx_reads_the_inferred_graphml_back() -> None:
    """Numbers come back as numbers; what was unknown is absent, not zero."""
    graph = nx.parse_graphml(to_graphml(INFERRED))
    assert graph.edges["w0", "w1"] == {"distance": 0.25, "margin": 0.125, "support": 0.5, "direction": "unknown"}
    assert graph.edges["w0", "w2"] == {"distance": 0.5, "direction": "subset"}
    assert graph.graph["method"] == "tree"
    assert graph.graph["depth"] == 1
    assert "root" not in graph.graph
    assert nx.parse_graphml(to_graphml(Lineage((), ()))).number_of_nodes() == 0


# Of PROV-JSON's relations, the ends that each must name; their values are entities of the document.
ENDS = {
    "wasDerivedFrom": {"prov:generatedEntity", "prov:usedEntity"},
    "specializationOf": {"prov:specificEntity", "prov:generalEntity"},
    "alternateOf": {"prov:alternate1", "prov:alternate2"},
}


@pytest.mark.parametrize("tree", [DECLARED, INFERRED, Lineage(("a",), ())], ids=["declared", "inferred", "single"])
def test_prov_json_is_well_formed(tree: Lineage | Inference) -> None:
    """Names have declared prefixes, relations name two entities of the document, values are literals or typed."""
    document: dict[str, Any] = json.loads(json.dumps(to_prov(tree), allow_nan=False))
    assert set(document) <= {"prefix", "entity", *ENDS}
    prefixes = {*document["prefix"], "prov"}
    assert all(re.match(r"[a-z]+:", uri) for uri in document["prefix"].values())
    for attributes in document["entity"].values():
        assert attributes["prov:type"]["type"] == "prov:QUALIFIED_NAME"
    for relation, ends in ENDS.items():
        for name, attributes in document.get(relation, {}).items():
            assert re.fullmatch(r"_:\w+", name)
            assert ends <= set(attributes)
            assert {attributes[end] for end in ends} <= set(document["entity"])
            assert all(key.split(":")[0] in prefixes for key in attributes)
            assert all(isinstance(value, str | int | float | dict) for value in attributes.values())
    assert all(name.split(":")[0] in prefixes for name in document["entity"])


def test_prov_says_what_was_derived_from_what() -> None:
    """Declared: a run from a snapshot, which is one of its run; each snapshot is said once."""
    document = to_prov(DECLARED)
    derived = [(d["prov:generatedEntity"], d["prov:usedEntity"]) for d in document["wasDerivedFrom"].values()]
    assert derived == [
        ("ts:run/w1", "ts:snapshot/w0@0"),
        ("ts:run/w<2>", "ts:snapshot/w0@0"),
        ("ts:run/x", "ts:snapshot/w0@5"),
        ("ts:run/x", "ts:snapshot/w1@3"),
    ]
    special = [(s["prov:specificEntity"], s["prov:generalEntity"]) for s in document["specializationOf"].values()]
    assert special == [
        ("ts:snapshot/w0@0", "ts:run/w0"),
        ("ts:snapshot/w0@5", "ts:run/w0"),
        ("ts:snapshot/w1@3", "ts:run/w1"),
    ]


def test_prov_claims_no_direction_that_is_not_known() -> None:
    """An edge without a direction is no derivation; a guess is marked as one and keeps its numbers."""
    document = to_prov(INFERRED)
    assert list(document["alternateOf"].values()) == [
        {
            "prov:alternate1": "ts:run/w0",
            "prov:alternate2": "ts:run/w1",
            "ts:distance": 0.25,
            "ts:margin": 0.125,
            "ts:support": 0.5,
            "ts:direction": "unknown",
            "ts:alignment": "canonical",
        }
    ]
    derived = document["wasDerivedFrom"].values()
    assert [(d["prov:generatedEntity"], d["prov:usedEntity"]) for d in derived] == [
        ("ts:run/w2", "ts:run/w0"),
        ("ts:run/w3", "ts:run/w2"),
    ]
    assert {d["prov:type"]["$"] for d in derived} == {"ts:Inferred"}


IDS = Lineage(("w0", "w1", "x"), tuple(edge for edge in DECLARED.edges if edge.child != "w<2>"))  # those that runs have


@pytest.mark.parametrize("tree", [IDS, INFERRED], ids=["declared", "inferred"])
def test_the_package_prov_reads_the_same(tree: Lineage | Inference) -> None:
    """Nothing is lost or added on the way through the reference implementation and back; it knows every relation."""
    prov = pytest.importorskip("prov.model")
    document = prov.ProvDocument.deserialize(content=json.dumps(to_prov(tree)), format="json")
    again = prov.ProvDocument.deserialize(content=document.serialize(format="json"), format="json")
    assert document == again
    relations = [record for record in document.get_records() if record.is_relation()]
    assert len(relations) == len(tree.edges) + (3 if tree is IDS else 0)
    assert len(list(document.get_records(prov.ProvEntity))) == len(to_prov(tree)["entity"])


def a_family() -> tuple[list[Run], dict[str, list[Snapshot]]]:
    """Two runs, one finished, and one that started from both of them and failed."""

    def at(hour: int) -> datetime:
        return datetime(2026, 1, 1, hour, tzinfo=UTC)

    runs = [
        Run("w0", "w0", "finished", at(1)),
        Run("w1", "w1", "open", at(3), parents=(Parent("w0", 5, "fork"),)),
        Run("w2", "w2", "failed", at(5), parents=(Parent("w0", 5, "pruned"), Parent("w1", 9, "declared"))),
    ]
    snapshots = {
        "w0": [Snapshot("w0", 0, "d0", 3, at(1)), Snapshot("w0", 5, "d5", 3, at(2))],
        "w1": [Snapshot("w1", 9, "d9", 3, at(4))],
        "w2": [],
    }
    return runs, snapshots


def test_openlineage_says_who_made_what_from_what() -> None:
    """Snapshots are outputs, those that a run started from are its inputs, digests are versions; a fork has a parent."""
    events = to_openlineage(*a_family(), namespace="lab")
    told = [
        (
            event["job"]["name"],
            event["eventType"],
            [(entry["name"], entry["facets"]["version"]["datasetVersion"]) for entry in event["inputs"]],
            [(entry["name"], entry["facets"]["version"]["datasetVersion"]) for entry in event["outputs"]],
        )
        for event in events
    ]
    assert told == [
        ("w0", "START", [], []),
        ("w0", "RUNNING", [], [("w0@0", "d0")]),
        ("w0", "RUNNING", [], [("w0@5", "d5")]),
        ("w0", "COMPLETE", [], []),
        ("w1", "START", [("w0@5", "d5")], []),
        ("w1", "RUNNING", [], [("w1@9", "d9")]),
        ("w2", "START", [("w0@5", "d5"), ("w1@9", "d9")], []),
        ("w2", "FAIL", [], []),
    ]
    ids = {event["job"]["name"]: event["run"]["runId"] for event in events}
    assert len(set(ids.values())) == 3
    parents = {event["job"]["name"]: event["run"]["facets"].get("parent") for event in events}
    assert parents["w1"]["run"]["runId"] == ids["w0"]
    assert parents["w1"]["job"] == {"namespace": "lab", "name": "w0"}
    assert (parents["w0"], parents["w2"]) == (None, None), "none, and two, of which the facet cannot hold both"
    again = to_openlineage(*a_family())
    assert {event["run"]["runId"] for event in again}.isdisjoint(ids.values()), "another namespace is another run"


def test_the_client_of_openlineage_would_send_the_same() -> None:
    """Each event, made anew of the classes of its own package, which check ids, times and addresses."""
    v2 = pytest.importorskip("openlineage.client.event_v2")
    serde = pytest.importorskip("openlineage.client.serde").Serde
    facets = pytest.importorskip("openlineage.client.facet_v2")

    def dataset(kind: Any, told: dict[str, Any], producer: str) -> Any:
        version = facets.dataset_version_dataset.DatasetVersionDatasetFacet(
            told["facets"]["version"]["datasetVersion"], producer=producer
        )
        return kind(told["namespace"], told["name"], facets={"version": version})

    for event in to_openlineage(*a_family()):
        told, producer = event["run"]["facets"].get("parent"), event["producer"]
        parent = told and facets.parent_run.ParentRunFacet(
            facets.parent_run.Run(told["run"]["runId"]), facets.parent_run.Job(**told["job"]), producer=producer
        )
        theirs = v2.RunEvent(
            eventType=v2.RunState[event["eventType"]],
            eventTime=event["eventTime"],
            producer=producer,
            run=v2.Run(event["run"]["runId"], facets={"parent": parent} if parent else {}),
            job=v2.Job(event["job"]["namespace"], event["job"]["name"]),
            inputs=[dataset(v2.InputDataset, entry, producer) for entry in event["inputs"]],
            outputs=[dataset(v2.OutputDataset, entry, producer) for entry in event["outputs"]],
        )
        assert without_empty(json.loads(serde.to_json(theirs))) == without_empty(event)


def without_empty(value: Any) -> Any:
    """A document without its empty members, of which that client writes some more; and without versions of facets."""
    if isinstance(value, dict):
        inner = {key: without_empty(entry) for key, entry in value.items()}
        return {
            key: re.sub(r"facets/[0-9-]+/", "", entry) if key == "_schemaURL" else entry
            for key, entry in inner.items()
            if entry
        }
    return [without_empty(entry) for entry in value] if isinstance(value, list) else value
