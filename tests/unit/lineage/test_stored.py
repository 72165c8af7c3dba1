"""Inferred ancestry in the graph, on every real store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
import pytest

from tests.stores import STORES, tell, wipe
from topostrata import queries
from topostrata.archive import Archive
from topostrata.distance.nnstd import nnstd
from topostrata.errors import InvalidInputError, NotFoundError
from topostrata.lineage import stored
from topostrata.lineage.inferred import Inference, InferredEdge, infer
from topostrata.lineage.unit_terms import Placement
from topostrata.store.graph import GraphStore
from topostrata.topology import Topology

pytestmark = pytest.mark.slow  # starts engines

RUNS = ["w0", "w1", "w2", "w3"]
AT_0 = dict.fromkeys(RUNS, 0)


@pytest.fixture(scope="module", params=STORES)
def archive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """Four runs of one snapshot each, on every store."""
    rng = np.random.default_rng(1)
    with STORES[request.param](tmp_path_factory.mktemp(request.param)) as target, target.open() as opened:
        wipe(opened)
        for run in RUNS:
            opened.push(run, 0, Topology.from_masks([rng.random((6, 5)) < 0.4]))
        yield opened
        wipe(opened)


@pytest.fixture
def store(archive: Archive) -> Iterator[GraphStore]:
    """The database behind the archive; no inference is left in it."""
    yield archive._store
    tell(archive, "MATCH (:Run)-[e:INFERRED_FROM]->(:Run) DELETE e")
    tell(archive, "MATCH (i:Inference) DETACH DELETE i")
    left = archive.cypher("MATCH ()-[e:INFERRED_FROM]->() RETURN count(e) AS edges").rows
    assert left == [[0]]


def guess(archive: Archive, root: str | None = "w0") -> Inference:
    return infer(
        [archive.topology(f"{run}@0") for run in RUNS],
        RUNS,
        partial(nnstd, alignment="identity"),
        root=root,
        samples=20,
    )


def test_an_archive_without_inferences_says_so(store: GraphStore) -> None:
    """Asking for one is an error."""
    with pytest.raises(NotFoundError, match=r"inference 'none': expected it in .*, found none \(it holds no inf"):
        stored.get(store, "none")


def test_a_name_that_is_not_there_meets_those_that_are(archive: Archive, store: GraphStore) -> None:
    """In their order, the first five of them."""
    for name in ("f", "a", "c", "b", "e", "d"):
        stored.put(store, name, guess(archive), AT_0)
    with pytest.raises(NotFoundError, match=r"\(it holds a, b, c, d, e\)"):
        stored.get(store, "none")


def test_what_was_stored_comes_back_equal(archive: Archive, store: GraphStore) -> None:
    """Every edge with its numbers, in the same order; numbers that were not known stay unknown."""
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    rooted, tree = guess(archive), guess(archive, root=None)
    bare = Inference("tree", "canonical", None, (InferredEdge("w0", "w1", 0.25, None, None, "subset"),), depth=1)
    bare = bare.placed(Placement("renamed", "connections", 1.5, (1,)), ["w0", "w1"])
    assert stored.put(store, "rooted", rooted, AT_0, created_at=moment) is False
    assert stored.put(store, "tree", tree, AT_0) is False
    assert stored.put(store, "bare", bare, AT_0) is False
    stored_tree = stored.get(store, "rooted")
    assert stored_tree == stored.StoredInference("rooted", moment, AT_0, rooted)
    assert stored.get(store, "tree").inference == tree
    assert stored.get(store, "bare").inference == bare
    assert bare.out_of_place == ("w1",)
    assert stored.get(store, "bare").steps == {"w0": 0, "w1": 0}


def test_the_same_id_is_replaced_as_a_whole(archive: Archive, store: GraphStore) -> None:
    """No edge of the former inference stays, and no other inference loses one."""
    first = guess(archive)
    second = replace(first, edges=first.edges[:1], alignment="canonical")
    assert stored.put(store, "one", first, AT_0) is False
    assert stored.put(store, "other", first, AT_0) is False
    assert stored.put(store, "one", second, AT_0) is True
    assert stored.get(store, "one").inference == second
    assert stored.get(store, "other").inference == first
    assert archive.cypher("MATCH (i:Inference) RETURN count(i) AS n").rows == [[2]]
    assert archive.cypher("MATCH ()-[e:INFERRED_FROM]->() RETURN count(e) AS n").rows == [[4]]


def test_a_snapshot_that_is_not_there_leaves_everything_as_it_was(archive: Archive, store: GraphStore) -> None:
    """The refusal names the snapshots; what had the id before is still there."""
    first = guess(archive)
    stored.put(store, "one", first, AT_0)
    with pytest.raises(NotFoundError, match="expected these snapshots, found none: w1@5"):
        stored.put(store, "one", guess(archive, root=None), {**AT_0, "w1": 5})
    assert stored.get(store, "one").inference == first


def test_what_cannot_be_stored_is_refused(archive: Archive, store: GraphStore) -> None:
    """An id that is none, a run without a step."""
    with pytest.raises(InvalidInputError, match="expected an id of letters"):
        stored.put(store, "a/b", guess(archive), AT_0)
    with pytest.raises(InvalidInputError, match="a step for each run, found none for w0, w1"):
        stored.put(store, "one", guess(archive), {"w2": 0, "w3": 0})
    assert archive.cypher("MATCH (i:Inference) RETURN count(i) AS n").rows == [[0]]


def test_whether_units_are_in_place_can_be_stated(archive: Archive, store: GraphStore) -> None:
    """Stated units choose the alignment, detected ones too; beside an alignment they would say it twice."""
    inferred = {units: archive.infer("w*", units=units, name=None).inference for units in (None, "in-place", "renamed")}
    assert [(i.alignment, i.units, i.units_by) for i in inferred.values()] == [
        ("overlap", "renamed", "connections"),
        ("identity", "in-place", "caller"),
        ("overlap", "renamed", "caller"),
    ]
    assert inferred[None].out_of_place == tuple(RUNS)
    with pytest.raises(
        InvalidInputError, match="units or an alignment, found units 'renamed' and alignment 'identity'"
    ):
        archive.infer("w*", units="renamed", alignment="identity", name=None)
    with pytest.raises(InvalidInputError, match="units: expected 'in-place' or 'renamed', found 'moved'"):
        archive.infer("w*", units="moved", name=None)  # type: ignore[arg-type]


def test_cypher_walks_the_inferred_tree(archive: Archive, store: GraphStore) -> None:
    """From every run the edges lead to the root, beside whatever was declared."""
    stored.put(store, "one", guess(archive), AT_0)
    rows = archive.cypher(
        "MATCH (r:Run)-[e:INFERRED_FROM*1..4]->(w:Run {id: 'w0'}) RETURN r.id AS run ORDER BY run"
    ).rows
    assert rows == [["w1"], ["w2"], ["w3"]]
    edges = store.read("cookbook/probable_parents", run="w1")
    assert [(row["inference"], row["alignment"], row["direction"]) for row in edges] == [("one", "identity", "root")]


def test_a_tree_that_lost_a_run_is_no_answer(archive: Archive, store: GraphStore) -> None:
    """Where a run of it was deleted the inference is not read back in part."""
    first = guess(archive)
    stored.put(store, "one", first, AT_0)
    lost = first.edges[0].child
    store.write(
        lambda tx: [tx._inner.run("MATCH (:Run {id: $run})-[e:INFERRED_FROM]->() DELETE e", run=lost).consume()]
    )
    with pytest.raises(NotFoundError, match="expected 3 edges, found 2: a run of it has been deleted"):
        stored.get(store, "one")


def test_each_query_answers_with_the_columns_of_its_header(archive: Archive, store: GraphStore) -> None:
    """The header of every reading query of inferences is what the engine returns."""
    stored.put(store, "one", guess(archive), AT_0)
    parameters_of: dict[str, dict[str, Any]] = {
        "lineage/inference_names": {"after": "", "limit": 5},
        "lineage/inference": {"id": "one"},
        "lineage/inferred_edges": {"id": "one"},
        "cookbook/probable_parents": {"run": "w1"},
        "lineage/known_snapshots": {"ids": ["w0@0"]},
    }
    for name, parameters in parameters_of.items():
        rows = store.read(name, **parameters)
        assert tuple(rows[0]) == queries.load(name).columns, name
