"""Lineage as JSON, GraphML and PROV-JSON."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import networkx as nx
import pytest

from topostrata.lineage.declared import Lineage
from topostrata.lineage.exports import to_graphml, to_prov
from topostrata.lineage.inferred import Inference, InferredEdge
from topostrata.lineage.stored import StoredInference
from topostrata.runs import Descent
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
