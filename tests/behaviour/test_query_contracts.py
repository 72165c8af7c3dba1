"""Each query of ours on each store: it runs with what it declares and answers with the columns that it declares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.statements import WRITING
from tests.stores import Target, contents, reading, tell, wipe
from topostrata import queries
from topostrata.archive import Archive
from topostrata.ingest.transform import alive_keys
from topostrata.runs import Parent
from topostrata.store.past import CLOCK
from topostrata.topology import Topology

# Those of the cookbook have a suite of their own.
QUERIES = [name for name in queries.names() if not name.startswith(("schema/", "cookbook/", "ending/"))]
READING = [name for name in QUERIES if not WRITING.search(queries.load(name).text)]

# A value for every parameter; one that means something else in a query has its own below.
SAMPLES: dict[str, Any] = {
    "after": "", "alignment": "canonical", "at": 1, "batch": 1, "before": "w0@0", "begin": 5, "bytes": 10, "column": 0, "config": "{}", "attempts": 0,
    "created_at": "2026-01-01T00:00:00.000+00:00", "data": b"\x00\x01", "depth": None, "details": b"\x00", "digest": "d0", "dropped": 1, "trimming": True, "digests": ["d0"],
    "edges": 1, "epoch": 1.5, "family": "f", "first": 0, "format": 1, "from": 1, "groups": [], "half": False, "how": "fork", "id": "w0@0",
    "forget": False, "ids": ["w0@0"], "last": 1, "layer": "l0", "layers": ["l0"], "lifetimes": 3, "limit": 10, "masks": [], "method": "m", "modulus": 2**31,
    "metrics": {"metric_x": 1.0}, "name": "w0", "neurons": [], "nodes": [], "numbers": [7], "prefix": "w0/", "nnz": 3, "options": "{}", "parent": "w0@1", "part": 1,
    "other_digest": "d1", "other_snapshot": "w1@0", "pair": "w0@0 w1@0 overlap", "snapshot": "w0@0",
    "projection": "follow", "recorded_at": "2026-01-01T00:00:00.000+00:00", "removed": True, "root": None, "row": 0, "rows": [],
    "run": "w0", "runs": ["w1"], "samples": 1, "sources": 3, "stride": 3, "targets": [], "space": "input", "status": "open", "step": 1, "steps": [1],
    "done": 1, "error": None, "error_code": None, "finished_at": None, "kind": "export", "lease_until": 1, "media_type": None, "owner": "o",
    "parts": None, "request": "{}", "started_at": None, "total": None,
    "place": -1, "since": 0, "until": 99, "without": [], "tags": ["a"], "taps": 1, "to": 2, "token": "t", "version": 1, "wiring": "{}",
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {
    "projection/let_wait": {"run": "w3"},
    "projection/leave_projection": {"run": "w3", "epoch": 0},
    "lineage/inference": {"id": "i0"},
    "moments/clock": {"name": CLOCK},
    "moments/start_clock": {"name": CLOCK},
    "moments/acknowledge": {"name": CLOCK, "rows": [["snapshot", "w0", 9, "{}"], ["removed", "w0", None, "{}"]]},
    "moments/drop_changes": {"run": "w1"},
    "lineage/inferred_edges": {"id": "i0"},
    "lineage/drop_inference": {"id": "i0"},
    "lineage/drop_inferred_edges": {"id": "i0"},
    "lineage/put_inference": {
        "id": "i9",
        "units": "renamed",
        "units_by": "connections",
        "agreement": 1.5,
        "out_of_place": ["w0"],
    },
    "lineage/put_inferred_edges": {"id": "i0", "rows": [["w0", 0, "w1", 0, 0, 0.5, None, None, "forward"]]},
    "jobs/jobs": {"before": 9},
    "jobs/job": {"id": "j0"},
    "jobs/lock_job": {"id": "j0"},
    "jobs/create_job": {"id": "j9"},
    "jobs/set_job": {"id": "j0"},
    "jobs/set_job_runs": {"id": "j0", "runs": ["w0"]},
    "jobs/put_job_part": {"id": "j0", "part": "j0/1"},
    "jobs/job_part": {"id": "j0/1", "job": "j0"},
    "jobs/job_parts": {"id": "j0"},
    "jobs/drop_job": {"id": "j0"},
    "jobs/drop_job_parts": {"ids": ["j0/1"]},
    "jobs/jobs_of_runs": {"runs": ["w0"]},
    "jobs/finished_before": {"at": "2026-01-01T00:00:00.000+00:00"},
    "distance/distance_blocks": {"ids": ["b0"]},
    "distance/space_matches": {"space": "hidden1"},
    "distance/distance_between": {"other_snapshot": "w0@1"},
    "masks/mask_part": {"id": "d0/1"},
    "runs/runs": {"status": "", "tags": [], "step_from": -1, "step_to": -1},
    "runs/runs_by_id": {"ids": ["w0"]},
    "runs/snapshots": {"after": -1},
    "distance/lock_distance_block": {"id": "b9"},
    "distance/put_distance_block": {"id": "b0"},
    "distance/put_chance": {"id": "chance/1/abc"},
    "runs/create_snapshot": {"step": 9, "before": "w0@1"},
    "runs/create_step_metrics": {"step": 9},
    "runs/add_step_metrics": {"id": "w0@7"},
    "runs/add_step_layer_metrics": {"id": "w0@7", "rows": [["l0.bias", {"metric_x": 1.0}]]},
    "runs/step_metrics_by_id": {"id": "w0@7"},
    "runs/step_metrics": {"after": -1},
    "runs/set_wiring": {"rows": [["l0", None, None]]},
    "runs/add_layer_metrics": {"rows": [["l0", {"metric_x": 1.0}]]},
    "projection/create_indexed_neurons": {"rows": [[0, {"heads": 0}]]},
    "runs/set_removed": {"at": None},
    "lineage/children": {"runs": ["w0"]},
    "lineage/drop_parent": {"run": "w1", "parent": "w0@0"},
    "upkeep/run_inferences": {"runs": ["w0"]},
    "upkeep/forget_topologies": {"digests": ["d0"]},
    "upkeep/put_packing": {"rows": [["d0", 3, "c", 10, 1, b"\x00"]]},
    "upkeep/put_order": {"rows": [["w0@0", "w0@1"]]},
    "upkeep/renumber": {"rows": [["w0@0", 0]]},
    "upkeep/join_masks": {"rows": [["l0", "d0", {}]]},
    "projection/give_keys": {"layer": "l1", "neurons": ["w0/hidden1/0"]},
    "projection/move_projected": {"rows": [["w0/l0", 1, 3]]},
    "projection/set_projection": {"id": "w0/l0"},
    "projection/window": {"first": "w0@0", "last": "w0@2"},
    "projection/set_window": {"ids": ["w0/l0"]},
    "projection/drop_dead": {"neurons": ["w0/input/0"]},
    "projection/count_dropped": {"id": "w0/l0"},
    "projection/create_births": {"targets": ["w0/hidden1/0"], "groups": [["w0/input/0", "l0", [[0, 0, 7]]]]},
    "projection/set_deaths": {"layer": "l0", "keys": [int(alive_keys("w0/l0", np.array([0]))[0])], "turn": None},
    "masks/masks_after": {"id": "w0@1"},
    "runs/create_layers": {"rows": [["l9", 9, "a", "b", 1, 1, 1, True, False, "follow"]]},
    "masks/put_masks": {"rows": [["d9", 3, "full", None, 0, "c", 10, 1, b"\x00"]]},
    "distance/number_topologies": {"rows": [["d9", 9]]},
    "distance/put_tiles": {"rows": [["b9", {"family": "f", "data": b"\x00"}]]},
    "distance/put_matches": {"rows": [["w0/hidden1/0", "w0/hidden1/1", 0.5, 3]]},
    "distance/put_distances": {"rows": [["w0@0", "w0@1", 0.5, [0.5], 0]]},
}
# Written first, so that every question has an answer: some engines name the columns of rows only.
PREPARED: dict[str, dict[str, Any]] = {
    "masks/put_masks": {"rows": [["d0", 3, "full", None, 0, "c", 10, 2, b"\x00"]]},
    "masks/put_mask_part": {},
    "distance/number_topologies": {"rows": [["d0", 0]]},
    "distance/lock_distance_block": {"id": "b0"},
    "distance/put_distances": {"rows": [["w0@0", "w0@1", 0.5, [0.5], 0]]},
    "distance/put_matches": {"rows": [["w0/hidden1/0", "w0/hidden1/1", 0.5, 3]]},
    "lineage/put_inference": {
        "id": "i0",
        "units": "renamed",
        "units_by": "connections",
        "agreement": 1.5,
        "out_of_place": ["w0"],
    },
    "lineage/put_inferred_edges": {},
    "jobs/create_job": {"id": "j0", "runs": ["w0"]},
    "jobs/set_job": {"id": "j0", "status": "queued", "finished_at": "2025-01-01T00:00:00.000+00:00"},
    "jobs/put_job_part": {"id": "j0", "part": "j0/1"},
}


def sample(name: str) -> dict[str, Any]:
    """Parameters to run a query with."""
    values = SAMPLES | OWN.get(name, {})
    unknown = [p for p in queries.load(name).parameters if p not in values]
    assert not unknown, f"{name}: add values for {unknown} to SAMPLES in {__file__}"
    return {p: values[p] for p in queries.load(name).parameters}


@pytest.fixture(scope="module")
def small(target: Target) -> Iterator[Archive]:
    """Three steps of one run, one that descends from it, and a thing of every other kind."""
    with target.open() as opened:
        wipe(opened)
        for step, churn in enumerate((np.eye(3), np.ones((3, 3)) - np.eye(3), np.ones((3, 3)))):
            opened.push("w0", step, Topology.from_masks([churn, np.ones((3, 3)), np.ones((3, 2))]))
        opened.push("w1", 0, Topology.from_masks([np.eye(3)]), projection="none")
        opened.update_run("w1", parents=[Parent("w0", 0, "fork")])
        opened.push_metrics("w0", 7, {"egf_2": 0.5}, layer_metrics={"l0.bias": {"flow_2": 0.5}})
        tell(opened, "CREATE (:Layer {id: 'gone/l0', run: 'gone'})")  # what hangs on no run
        opened.push("w3", 0, Topology.from_masks([np.eye(3)]), connections="later")
        tell(opened, "MATCH (r:Run {id: 'w3'}) SET r.writer_epoch = 0")  # which is counted from the time on
        opened.create_run("w2")
        tell(opened, "MATCH (r:Run {id: 'w2'}) SET r.removed_at = '2026-01-01T00:00:00.000+00:00'")
        for name, values in PREPARED.items():
            opened._store.write(lambda tx, n=name, v=values: tx.run(n, **(sample(n) | v)))  # type: ignore[misc]
        yield opened


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_answers_with_its_declared_columns(small: Archive, name: str) -> None:
    """The engine takes the query with exactly the declared parameters and names the declared columns, in order."""
    query, store = queries.load(name), small._store
    with (
        store._driver.session(database=store._connection.database) as session,
        session.begin_transaction() as tx,
    ):
        result = tx.run(query.text, sample(name))
        columns = tuple(result.keys())
        rows = list(result)
        tx.rollback()
    assert columns == query.columns, f"{len(rows)} rows"
    assert rows or not query.columns, f"nothing was answered: add a better sample to OWN in {__file__}"


@pytest.mark.parametrize("name", READING)
def test_a_reading_query_runs_where_writing_is_refused(small: Archive, name: str) -> None:
    """A question can be asked by whoever may only read, and changes nothing."""
    before = contents(small)
    with reading(small) as session:
        session.execute_read(lambda tx: list(tx.run(queries.load(name).text, sample(name))))
    assert contents(small) == before


def test_a_query_is_sent_with_exactly_its_parameters(small: Archive) -> None:
    """One too few or too many is an error of the caller, before anything is sent."""
    for wrong in ({}, {"run": "w0", "more": 1}, {"ran": "w0"}):
        with pytest.raises(TypeError, match="expected parameters"):
            small._store.read("runs/next_edges", **wrong)
