"""Runs that are made and changed over REST: what is known of them besides their snapshots."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest

from topostrata.ingest.formats import snapshot_file
from topostrata.topology import Topology


def put_snapshot(rest: httpx.Client, run: str, step: int) -> None:
    body = BytesIO()
    snapshot_file.write(body, Topology.from_masks([np.eye(3), np.ones((3, 2))]))
    assert rest.put(f"/v1/runs/{run}/snapshots/{step}", content=body.getvalue()).is_success


def test_a_run_is_put_once(rest_to_write: httpx.Client) -> None:
    """201 for the first, 200 for the same again, 409 for another, with what differs; nothing of it is written then."""
    put_snapshot(rest_to_write, "ancestor", 5)
    body: dict[str, Any] = {
        "name": "the first",
        "config": {"zeta": 0.3, "layers": [1, 2]},
        "tags": ["set"],
        "parents": [{"parent": "ancestor", "step": 5, "how": "fork"}],
        "created_at": "2026-11-27T09:00:00.123456+01:00",
    }
    first = rest_to_write.put("/v1/runs/made", json=body)
    assert first.status_code == 201
    assert first.headers["location"] == "/v1/runs/made"
    stored = body | {"run": "made", "status": "open", "created_at": "2026-11-27T08:00:00.123000+00:00"}
    assert {name: first.json()[name] for name in stored} == stored
    again = rest_to_write.put("/v1/runs/made", json=body)
    assert (again.status_code, again.json()) == (200, first.json())
    assert rest_to_write.put("/v1/runs/made", json={}).status_code == 200, "nothing that is stated differs"
    others = {"name": "x", "config": {}, "tags": ["b"], "created_at": "2026-11-27T08:00:00Z", "status": "failed"}
    for name, value in others.items():
        conflict = rest_to_write.put("/v1/runs/made", json={name: value})
        assert (conflict.status_code, conflict.json()["code"]) == (409, "conflict")
        assert f"found another {name}" in conflict.json()["detail"]
    assert rest_to_write.get("/v1/runs/made").json() == first.json()


def test_a_run_gains_tags_and_parents_and_a_status(rest_to_write: httpx.Client) -> None:
    """What it has stays; the same change again changes nothing."""
    put_snapshot(rest_to_write, "before", 1)
    rest_to_write.put("/v1/runs/changed", json={"tags": ["a"]})
    change = {"tags": ["b"], "parents": [{"parent": "before", "step": 1, "how": "pruned"}], "status": "finished"}
    answers = [rest_to_write.patch("/v1/runs/changed", json=change) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json() == rest_to_write.get("/v1/runs/changed").json()
    run = answers[0].json()
    assert (run["tags"], run["parents"], run["status"]) == (["a", "b"], change["parents"], "finished")


def test_a_change_of_what_was_not_seen_is_refused(rest_to_write: httpx.Client) -> None:
    """412 where the run is not what its entity tag says, as soon as anything of it has changed."""
    rest_to_write.put("/v1/runs/seen", json={})
    seen = {"If-Match": rest_to_write.get("/v1/runs/seen").headers["etag"]}
    changed = rest_to_write.patch("/v1/runs/seen", json={"tags": ["a"]}, headers=seen)
    assert changed.status_code == 200
    stale = rest_to_write.patch("/v1/runs/seen", json={"tags": ["b"]}, headers=seen)
    assert (stale.status_code, stale.json()["code"]) == (412, "changed")
    assert stale.headers["content-type"] == "application/problem+json"
    assert rest_to_write.get("/v1/runs/seen").json()["tags"] == ["a"]
    for tag in (changed.headers["etag"], f'"other", {changed.headers["etag"]}', "*"):
        assert rest_to_write.patch("/v1/runs/seen", json={}, headers={"If-Match": tag}).status_code == 200, tag
    weak = f"W/{changed.headers['etag']}"
    assert rest_to_write.patch("/v1/runs/seen", json={}, headers={"If-Match": weak}).status_code == 412
    put_snapshot(rest_to_write, "seen", 0)
    late = rest_to_write.patch("/v1/runs/seen", json={}, headers={"If-Match": changed.headers["etag"]})
    assert late.status_code == 412, "it has a snapshot more"


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"nickname": "x"}, "found nickname"),
        ({"status": "crashed"}, "body/status"),
        ({"tags": "set"}, "body/tags"),
        ({"tags": ["two tags"]}, "tag: expected"),
        ({"parents": [{"parent": "a", "step": -1, "how": "fork"}]}, "body/parents/0/step"),
        ({"parents": [{"parent": "a b", "step": 1, "how": "fork"}]}, "run id"),
        ([], "body"),
    ],
)
def test_a_body_that_tells_of_no_run_is_refused(rest_to_write: httpx.Client, body: Any, where: str) -> None:
    """422 with the place in it, of both; no run is made."""
    rest_to_write.put("/v1/runs/plain", json={})
    for answer in (rest_to_write.put("/v1/runs/refused", json=body), rest_to_write.patch("/v1/runs/plain", json=body)):
        assert answer.status_code == 422
        assert where in answer.json()["detail"]
    assert rest_to_write.get("/v1/runs/refused").status_code == 404


def test_what_cannot_be_of_a_run_is_told_by_its_status(rest_to_write: httpx.Client) -> None:
    """404 for a parent or a run that is not there, 409 for a circle, 413 and 415 before anything is read."""
    nobody = {"parents": [{"parent": "nobody", "step": 3, "how": "fork"}]}
    orphan = rest_to_write.put("/v1/runs/orphan", json=nobody)
    assert (orphan.status_code, orphan.json()["code"]) == (404, "not-found")
    assert rest_to_write.get("/v1/runs/orphan").status_code == 404
    assert rest_to_write.patch("/v1/runs/orphan", json={}).status_code == 404
    put_snapshot(rest_to_write, "circle", 0)
    circle = rest_to_write.patch("/v1/runs/circle", json={"parents": [{"parent": "circle", "step": 0, "how": "fork"}]})
    assert (circle.status_code, circle.json()["code"]) == (409, "lineage-cycle")
    assert rest_to_write.put("/v1/runs/plain", content=b"{}").status_code == 415
    large = {"config": {"x": "x" * 2**20}}
    assert rest_to_write.put("/v1/runs/large", json=large).status_code == 413
    assert rest_to_write.put("/v1/runs/no%20id", json={}).status_code == 422


def test_a_run_loses_tags_and_parents_and_is_named(rest_to_write: httpx.Client) -> None:
    """In one change; what it does not have is no fault."""
    put_snapshot(rest_to_write, "elder", 1)
    parents = [{"parent": "elder", "step": 1, "how": "fork"}]
    rest_to_write.put("/v1/runs/loses", json={"tags": ["a", "b"], "parents": parents})
    change = {"name": "the heir", "tags": ["c"], "without_tags": ["a", "z"]}
    run = rest_to_write.patch("/v1/runs/loses", json=change).json()
    assert (run["name"], run["tags"], run["parents"]) == ("the heir", ["b", "c"], parents)
    run = rest_to_write.patch("/v1/runs/loses", json={"without_parents": [{"parent": "elder", "step": 1}]}).json()
    assert run["parents"] == []
    assert rest_to_write.put("/v1/runs/new-one", json={"without_tags": ["a"]}).status_code == 422


def test_a_run_is_removed_and_brought_back_and_gone_for_good(rest_to_write: httpx.Client) -> None:
    """Removed it is nowhere but in its list; only from there it can be purged; one that others descend from stays."""
    put_snapshot(rest_to_write, "leaves", 3)
    before = rest_to_write.get("/v1/runs/leaves")
    stale = rest_to_write.delete("/v1/runs/leaves", headers={"If-Match": '"of-another-state"'})
    assert (stale.status_code, stale.json()["code"]) == (412, "changed")
    assert rest_to_write.delete("/v1/removed/leaves").status_code == 404
    gone = rest_to_write.delete("/v1/runs/leaves", headers={"If-Match": before.headers["etag"]})
    assert (gone.status_code, gone.content) == (204, b"")
    assert rest_to_write.get("/v1/runs/leaves").status_code == 404
    assert rest_to_write.delete("/v1/runs/leaves").status_code == 404
    (removed,) = (run for run in rest_to_write.get("/v1/removed").json()["runs"] if run["run"] == "leaves")
    assert removed["snapshots"] == 1
    back = rest_to_write.post("/v1/removed/leaves")
    assert (back.status_code, back.json()) == (200, before.json())
    assert rest_to_write.post("/v1/removed/leaves").status_code == 404
    rest_to_write.put("/v1/runs/heir", json={"parents": [{"parent": "leaves", "step": 3, "how": "fork"}]})
    kept = rest_to_write.delete("/v1/runs/leaves")
    assert (kept.status_code, kept.json()["code"]) == (409, "conflict")
    for run in ("heir", "leaves"):
        assert rest_to_write.delete(f"/v1/runs/{run}").status_code == 204
    for run, snapshots in (("heir", 0), ("leaves", 1)):
        purged = rest_to_write.delete(f"/v1/removed/{run}").json()
        assert (purged["runs"], purged["snapshots"], purged["dry_run"]) == ([run], snapshots, False)
    assert not {"heir", "leaves"} & {run["run"] for run in rest_to_write.get("/v1/removed").json()["runs"]}
