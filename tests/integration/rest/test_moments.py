"""REST about earlier moments: the same answers whatever came later, and what was changed when."""

from __future__ import annotations

from io import BytesIO

import httpx
import numpy as np

from topostrata.ingest.formats import snapshot_file
from topostrata.topology import Topology


def put_snapshot(rest: httpx.Client, run: str, step: int) -> None:
    body = BytesIO()
    snapshot_file.write(body, Topology.from_masks([np.eye(3), np.ones((3, 2))]))
    assert rest.put(f"/v1/runs/{run}/snapshots/{step}", content=body.getvalue()).is_success


def test_reads_answer_as_of_a_moment(rest_to_write: httpx.Client) -> None:
    """Runs, snapshots, files and distances are as they were; the header says which moment, pages lead on in it."""
    for step in (1, 2):
        put_snapshot(rest_to_write, "pinned", step)
    moment = rest_to_write.get("/v1/changes").json()["moment"]
    paths = [
        "/v1/runs/pinned", "/v1/runs/pinned/snapshots", "/v1/runs/pinned/lineage", "/v1/runs/pinned/evolution",
        "/v1/runs/pinned/wiring", "/v1/runs/pinned/snapshots/2/topology", "/v1/runs?tag=late",
        "/v1/distances?a=pinned@1&b=pinned&alignment=identity", "/v1/runs/pinned/overview",
    ]  # fmt: skip
    before = [rest_to_write.get(path) for path in paths]
    put_snapshot(rest_to_write, "pinned", 3)
    assert rest_to_write.patch("/v1/runs/pinned", json={"tags": ["late"], "status": "finished"}).is_success
    for path, then in zip(paths, before, strict=True):
        now = rest_to_write.get(f"{path}{'&' if '?' in path else '?'}as_of={moment}")
        assert (now.status_code, now.content) == (then.status_code, then.content) == (200, then.content), path
        assert (now.headers["as-of"], "as-of" in then.headers) == (str(moment), False)
    page = rest_to_write.get("/v1/runs/pinned/snapshots", params={"as_of": moment, "limit": 1}).json()
    following = rest_to_write.get(page["next"])
    assert (following.headers["as-of"], following.json()["snapshots"][0]["step"]) == (str(moment), 2)
    assert rest_to_write.get("/v1/runs/pinned").json()["last_step"] == 3


def test_changes_are_listed_by_pages(rest_to_write: httpx.Client) -> None:
    """Those after a moment, in the order of acknowledgement; what has one moment stays together."""
    since = rest_to_write.get("/v1/changes").json()["moment"]
    put_snapshot(rest_to_write, "listed", 1)
    assert rest_to_write.patch("/v1/runs/listed", json={"tags": ["a"], "name": "x"}).is_success
    first = rest_to_write.get("/v1/changes", params={"since": since, "limit": 1}).json()
    assert [(entry["moment"] - since, entry["kind"]) for entry in first["changes"]] == [(1, "run"), (1, "snapshot")]
    second = rest_to_write.get(first["next"]).json()
    assert [(entry["kind"], entry["details"]) for entry in second["changes"]] == [
        ("name", {"before": "listed"}),
        ("tags", {"before": []}),
    ]
    assert (second["next"], second["moment"]) == (None, since + 2)
    pinned = {"since": since - 1, "limit": 1, "as_of": since + 1}
    following = rest_to_write.get(rest_to_write.get("/v1/changes", params=pinned).json()["next"]).json()
    assert (following["moment"], following["next"]) == (since + 1, None)


def test_what_a_moment_cannot_answer_is_refused(rest_to_write: httpx.Client) -> None:
    """Cypher and counts of now, a moment to come, a parameter that is none; what writes has no such parameter."""
    put_snapshot(rest_to_write, "of-now", 1)
    at = {"as_of": rest_to_write.get("/v1/changes").json()["moment"]}
    cypher = rest_to_write.post("/v1/cypher", params=at, json={"query": "RETURN 1 AS x"})
    assert (cypher.status_code, cypher.json()["code"]) == (403, "query-refused")
    assert "sees the graph as it is now" in cypher.json()["detail"]
    for path, words in (("/v1/stats", "How much the archive holds"), ("/v1/removed", "The runs that were removed")):
        refused = rest_to_write.get(path, params=at)
        assert (refused.status_code, words in refused.json()["detail"]) == (422, True)
    later = rest_to_write.get("/v1/runs", params={"as_of": 10**9})
    assert (later.status_code, "later ones have not come yet" in later.json()["detail"]) == (422, True)
    for text in ("-1", "soon", "01"):
        assert rest_to_write.get("/v1/runs", params={"as_of": text}).status_code == 422
    written = rest_to_write.patch("/v1/runs/of-now", params=at, json={"tags": ["a"]})
    assert (written.status_code, "found 'as_of'" in written.json()["detail"]) == (422, True)
