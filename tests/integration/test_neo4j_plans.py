"""How Neo4j finds what our queries ask for: by an index, wherever one is meant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import neo4j
import pytest

from tests import neo4j_server
from tests.histories import sparse_history
from tests.neo4j_server import Neo4jServer
from tests.statements import WRITING
from tests.stores import wipe
from topostrata import queries
from topostrata.archive import open_archive

# Questions about everything of a kind read everything of that kind.
WHOLE = {
    "cookbook/best_snapshots": {"NodeByLabelScan"},
    "cookbook/family_tree": {"DirectedRelationshipTypeScan"},
    "cookbook/not_projected": {"NodeByLabelScan", "DirectedRelationshipTypeScan"},
    "cookbook/shared_masks": {"NodeByLabelScan"},
    "cookbook/tagged_runs": {"NodeByLabelScan"},
    "jobs/create_job": {"NodeByLabelScan"},
    "jobs/finished_before": {"NodeByLabelScan"},
    "jobs/jobs": {"NodeByLabelScan"},
    "jobs/jobs_of_runs": {"NodeByLabelScan"},
    "jobs/open_jobs": {"NodeByLabelScan"},
    "jobs/states": {"NodeByLabelScan"},
    "lineage/edges": {"DirectedRelationshipTypeScan"},
    # Asked only where the making of a run is tried again.
    "moments/made_before": {"NodeByLabelScan"},
    "archive/archive": {"NodeByLabelScan"},
    "archive/counts": {"NodeByLabelScan"},
    "projection/projection": {"NodeByLabelScan", "DirectedRelationshipTypeScan"},
    "projection/waiting": {"NodeByLabelScan"},
    "runs/steps": {"NodeByLabelScan", "DirectedRelationshipTypeScan"},
    "runs/removed_runs": {"NodeByLabelScan"},
    "archive/lock_archive": {"NodeByLabelScan"},
    "archive/set_format": {"NodeByLabelScan"},
    "runs/spaces": {"NodeByLabelScan", "DirectedRelationshipTypeScan"},
    "runs/states": {"NodeByLabelScan"},
    # Only where matches are fewer than the units of a space; with more of them it begins at the units.
    "distance/drop_matches": {"UndirectedRelationshipTypeScan"},
    "distance/space_matches": {"DirectedRelationshipTypeScan"},
    "distance/numbers": {"NodeByLabelScan"},
    "upkeep/loose_nodes": {"NodeByLabelScan"},
    "upkeep/mask_uses": {"NodeByLabelScan"},
    "upkeep/neuron_places": {"NodeByLabelScan"},
}
INFERENCE = {
    "method": "tree", "alignment": "canonical", "steps": [0], "root": None, "depth": None, "samples": 1, "edges": 1,
    "created_at": "2026-01-01T00:00:00.000+00:00", "units": "in-place", "units_by": "caller", "agreement": None,
    "out_of_place": [],
}  # fmt: skip
NAMES = [name for name in queries.names() if not name.startswith(("schema/", "ending/"))]


@pytest.fixture(scope="module", params=neo4j_server.RELEASES)
def emptied(request: pytest.FixtureRequest) -> Iterator[tuple[Neo4jServer, dict[str, set[str]]]]:
    """A server whose indexes were sampled when all had been purged, with one new snapshot: what each query scans there."""
    with neo4j_server.running(request.param) as running:
        history = sparse_history(0, snapshots=2, widths=(60, 60, 30), density=0.1, churn=0.3)
        (first, topology), _ = history.snapshots
        with open_archive(running.uri, settings=running.settings()) as archive:
            archive.push("gone", first, topology)
            wipe(archive)
            with running.driver() as driver, driver.session(database="neo4j") as session:
                session.run("CALL db.prepareForReplanning()").consume()
                archive.push("new", first, topology)
                scans = {name: scanned(session, name) for name in NAMES}
        yield running, scans


@pytest.fixture(scope="module")
def server(emptied: tuple[Neo4jServer, dict[str, set[str]]]) -> Neo4jServer:
    """A server that holds a few runs, so that the planner has something to count."""
    running, _ = emptied
    with open_archive(running.uri, settings=running.settings()) as archive:
        for number in range(3):
            history = sparse_history(number, snapshots=4, widths=(60, 60, 30), density=0.1, churn=0.3)
            for step, topology in history.snapshots:
                archive.push(f"run{number}", step, topology)
                archive.push_metrics(f"run{number}", step, {"egf_2": 0.5}, layer_metrics={"l0": {"flow_2": 0.5}})
    with running.driver() as driver, driver.session(database="neo4j") as session:
        for number in range(20):
            inference = INFERENCE | {"id": f"i{number}", "version": 1}
            session.run(queries.load("lineage/put_inference").text, inference).consume()
            edge = ["run0", 0, f"run{1 + number % 2}", 0, 0, 0.5, None, None, "forward"]
            session.run(queries.load("lineage/put_inferred_edges").text, id=f"i{number}", rows=[edge]).consume()
        # What the server does by itself after a while: look at its indexes, so that the planner knows how large.
        session.run("CALL db.prepareForReplanning()").consume()
    return running


def test_our_own_queries_look_up_in_an_archive_that_was_emptied(
    emptied: tuple[Neo4jServer, dict[str, set[str]]],
) -> None:
    """The planner believes that its indexes are empty, and that to read them whole costs nothing; ours say to seek.

    But for two that read all units of a space anyhow, once.
    """
    _, scans = emptied
    once = {key: {"NodeIndexScan"} for key in ("projection/lifetimes", "projection/projected_beyond")}
    ours = {name: kinds for name, kinds in scans.items() if not name.startswith("cookbook/")}
    assert {
        name: kinds for name, kinds in ours.items() if not kinds <= WHOLE.get(name, set()) | once.get(name, set())
    } == {}


@pytest.mark.parametrize("name", NAMES)
def test_a_query_starts_from_an_index(server: Neo4jServer, name: str) -> None:
    """No query scans what it could look up, and one that is to read is a read to the database as well."""
    with server.driver() as driver, driver.session(database="neo4j") as session:
        assert scanned(session, name) <= WHOLE.get(name, set())


def scanned(session: neo4j.Session, name: str) -> set[str]:
    """What the plan of a query, made anew, scans."""
    query = queries.load(name)
    summary = session.run(f"CYPHER replan=force EXPLAIN {query.text}").consume()
    assert summary.plan is not None
    assert (summary.query_type == "r") == (WRITING.search(query.text) is None)
    return {kind for kind in operators(summary.plan) if "Scan" in kind}


def operators(plan: dict[str, Any]) -> Iterator[str]:
    """The kinds of operator in a plan, without the database's name."""
    yield plan["operatorType"].partition("@")[0]
    for child in plan.get("children", ()):
        yield from operators(child)
