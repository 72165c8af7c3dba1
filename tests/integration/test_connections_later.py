"""Snapshots that a service acknowledges before it draws their connections: what becomes of them when it is killed."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import numpy as np
from typer.testing import CliRunner, Result

from tests.histories import History, sparse_history
from tests.pushed import assert_projected, assert_snapshots
from tests.reference_runs import service
from tests.stores import tell
from topostrata.archive import open_archive
from topostrata.errors import NotFoundError
from topostrata.ingest.formats import snapshot_file
from topostrata.service.cli.main import app
from topostrata.service.client import Client
from topostrata.topology import Topology

HISTORY = sparse_history(3, snapshots=4, widths=(200, 200, 10), density=0.05, churn=0.3)
FOLLOW = "topostrata-connections"
DRAWN_ELSEWHERE = "MATCH (r:Run {id: 'w1'}) SET r.drawn_until = timestamp() + 3600000 * $hours RETURN r.id AS id"


def put(client: httpx.Client, run: str, step: int, topology: Topology, when: str = "later") -> httpx.Response:
    """Send one snapshot whose connections follow."""
    body = BytesIO()
    snapshot_file.write(body, topology)
    path = f"/v1/runs/{run}/snapshots/{step}?connections={when}"
    return client.put(path, content=body.getvalue(), headers={"Content-Type": "application/x-npz"})


def wait_until(is_so: Callable[[], bool], patience_s: float = 120) -> None:
    deadline = monotonic() + patience_s
    while not is_so():
        assert monotonic() < deadline
        sleep(0.1)


def test_what_was_acknowledged_is_drawn_after_the_service_was_killed(engine_directory: Path) -> None:
    """With kill -9 right after the answer; the next draws what waits without being asked, as a normal push would have.

    Pushes of the same run while it is drawn are drawn too, beside a job. Whoever asks too early is told.
    """
    count = {"query": "MATCH ()-[c:CONNECTS]->() RETURN count(c) AS connections"}
    with service(engine_directory) as (client, process):
        refused = put(client, "w0", 0, HISTORY.at(0), "soon")
        assert (refused.status_code, "connections" in refused.json()["detail"]) == (422, True)
        answer = put(client, "w0", 0, HISTORY.at(0))
        assert (answer.status_code, answer.headers[FOLLOW]) == (201, "follow")
        assert put(client, "w0", 1, HISTORY.at(1)).status_code == 201
        process.kill()
        process.wait(30)
    with open_archive(engine_directory) as archive, service(engine_directory) as (client, _):
        with Client(str(client.base_url)) as remote:
            assert remote.push("w0", 2, HISTORY.at(2), connections="later") == "added"
        job = client.post("/v1/jobs", json={"kind": "export", "runs": ["w0"]}).raise_for_status().headers["location"]
        archive.create_run("w1")
        tell(archive, DRAWN_ELSEWHERE, hours=1)
        assert put(client, "w1", 0, HISTORY.at(0)).headers[FOLLOW] == "follow"
        assert put(client, "w0", 3, HISTORY.at(3)).status_code == 201
        early = client.post("/v1/cypher", json=count)
        assert "w1" in {layer["run"] for layer in early.json()["unprojected"]}
        assert int(early.headers["topostrata-unprojected"]) == len(early.json()["unprojected"])
        tell(archive, DRAWN_ELSEWHERE, hours=-1)
        wait_until(lambda: not client.get("/v1/unprojected").raise_for_status().json()["layers"])
        again = put(client, "w0", 3, HISTORY.at(3))
        assert (again.status_code, FOLLOW in again.headers) == (200, False)
        whole = client.post("/v1/cypher", json=count)
        assert (whole.json()["unprojected"], whole.headers["topostrata-unprojected"]) == ([], "0")
        wait_until(lambda: client.get(job).json()["status"] == "finished")
        assert_snapshots(archive, "w0", HISTORY, HISTORY.steps)
        assert_projected(archive, "w0", HISTORY)
        assert_projected(archive, "w1", History(HISTORY.seed, HISTORY.snapshots[:1]))
        assert (archive.drawer.waiting(), list(archive.verify())) == ([], [])


def test_without_a_service_they_are_drawn_by_hand(engine_directory: Path, tmp_path: Path) -> None:
    """`push --connections later` says that they wait, `project` draws them once, and says what stays away."""

    def topostrata(*arguments: str, code: int = 0) -> Result:
        done = CliRunner().invoke(app, [*arguments, "--store", str(engine_directory)])
        assert done.exit_code == code, done.output
        return done

    def told(*arguments: str) -> Any:
        return json.loads(topostrata(*arguments, "--json").stdout)

    snapshot_file.write(file := tmp_path / "net.npz", Topology.from_masks([np.eye(3)]))
    push = ("push", str(file), "--step", "0", "--run")
    assert "'soon' is not one of" in topostrata(*push, "w0", "--connections", "soon", code=2).stderr
    topostrata(*push, "w1", "--project", "none")
    assert (
        "a service draws them, or, where the archive is, `topostrata project w0`"
        in topostrata(*push, "w0", "--connections", "later").stderr
    )
    assert [layer["run"] for layer in told("cypher", "RETURN 1 AS x")["unprojected"]] == ["w0", "w1"]
    drawn = topostrata("project")
    assert drawn.stdout == "w0: its connections were drawn\n"
    assert drawn.stderr == "note: run w1, layer l0: none of its connections are in the graph\n"
    assert told("project", "w0") == {"drawn": [], "unprojected": []}
    assert isinstance(topostrata("project", "w9", code=1).exception, NotFoundError)
