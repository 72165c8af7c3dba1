"""Jobs over REST: asked for once, followed, resumed after the service was killed, fetched in any form, cancelled."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from tests.histories import sparse_history
from tests.reference_runs import Shell, service
from tests.stores import tell
from topostrata.archive import Archive, open_archive
from topostrata.distance.matrix import DistanceMatrix
from topostrata.distance.nnstd import nnstd
from topostrata.ingest.formats.export_file import ExportFile
from topostrata.service.cli.main import app
from topostrata.service.client import Client
from topostrata.store.embedded import stop

HISTORY = sparse_history(1, snapshots=66, widths=(64, 64, 64, 10), density=0.1, churn=0.3)
MATRIX = {"kind": "distances", "refs": ["w0@*"], "alignment": "canonical"}
TILES = "MATCH (b:DistanceBlock) WHERE b.data IS NOT NULL RETURN b.id AS id, b.guard AS guard"


@pytest.fixture
def many(tmp_path: Path) -> Iterator[Archive]:
    """An archive of one run with many snapshots."""
    with open_archive(str(tmp_path / "archive")) as archive:
        for step, topology in HISTORY.snapshots:
            archive.push("w0", step, topology, projection="none")
        yield archive
    stop(tmp_path / "archive", force=True)


def follow(client: httpx.Client, path: str, until: Callable[[dict[str, Any]], Any], patience_s: float = 120) -> Any:
    """What ``until`` says of an answer, once it says something."""
    deadline = monotonic() + patience_s
    while not (told := until(answer := client.get(path).raise_for_status().json())):
        assert monotonic() < deadline, answer
        sleep(0.2)
    return told


def is_done(job: dict[str, Any]) -> dict[str, Any] | None:
    return job if job["status"] in {"finished", "failed"} else None


def tiles(archive: Archive) -> dict[str, str]:
    """The tiles of distances that are kept, each with what its last writer left."""
    return {row["id"]: row["guard"] for row in tell(archive, TILES)}


def test_a_matrix_goes_on_after_the_service_was_killed(many: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for twice it is one job; after kill -9 the next service finishes it, and computes no tile again.

    The result has the distances of ``ts.nnstd``, in each form of the direct route, which refuses as many snapshots.
    """
    store = Path(many.location)
    with service(store) as (client, process):
        os.sched_setaffinity(
            process.pid, {min(os.sched_getaffinity(0))}
        )  # the worker's core, too: there is time to kill
        refused = client.get("/v1/distances/matrix", params={"refs": "w0@*", "alignment": "canonical"})
        assert (refused.status_code, "POST /v1/jobs" in refused.json()["hint"]) == (413, True)
        asked = client.post("/v1/jobs", json=MATRIX)
        path = asked.headers["location"]
        assert (asked.status_code, path) == (202, f"/v1/jobs/{asked.json()['id']}")
        exact = {**MATRIX, "refs": [f"w0@{k}" for k in range(66)], "layers": None}
        assert client.post("/v1/jobs", json=exact).json()["id"] == asked.json()["id"]
        assert client.get(f"{path}/result").status_code == 409
        deadline = monotonic() + 120
        while not (before := tiles(many)):
            assert monotonic() < deadline
            sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    with service(store) as (client, _):
        job = follow(client, path, is_done)
        assert (job["status"], job["done"], job["total"]) == ("finished", 66 * 67 // 2, 66 * 67 // 2)
        after = tiles(many)
        assert 0 < len(before) < len(after)
        assert {tile: after[tile] for tile in before} == before, "a tile was computed again"
        answer = client.get(f"{path}/result", params={"nearest": 1}).raise_for_status()
        matrix, networks = answer.json()["nnstd"], [topology for _, topology in HISTORY.snapshots]
        for i, j in ((0, 1), (3, 40), (65, 7), (64, 65)):
            assert matrix[i][j] == matrix[j][i] == nnstd(networks[i], networks[j], alignment="canonical").nnstd
        assert len(answer.json()["nearest"]) == 66
        packed = client.get(f"{path}/result", headers={"Accept": "application/x-npz"}).content
        assert DistanceMatrix.from_npz(BytesIO(packed)).labels[-1] == "w0@65"
        assert client.get(f"{path}/result", headers={"Accept": "text/csv"}).text.count("\n") == 67
        drawn = client.get(f"{path}/result", headers={"Accept": "application/vnd.topostrata.matrix"}).content
        assert np.frombuffer(drawn[-66 * 66 * 4 :], "<f4")[1] == np.float32(matrix[0][1])
        known = client.get(f"{path}/result", params={"nearest": 1}, headers={"If-None-Match": answer.headers["etag"]})
        assert known.status_code == 304
        again = client.post("/v1/jobs", json=MATRIX)
        assert (again.status_code, again.json()["id"]) == (200, asked.json()["id"])
        with Client(str(client.base_url)) as remote:  # too many for a request: it takes the job's
            assert remote.distances("w0@*", alignment="canonical").nnstd.tolist() == matrix
            assert client.delete(path).status_code == 204
            monkeypatch.setattr("topostrata.service.remote._LOOK_S", 0.01)
            seen: list[tuple[int, int]] = []
            done = remote.distances("w0@*", alignment="canonical", progress=lambda *so_far: seen.append(so_far))
        assert (done.nnstd.tolist(), seen[-1]) == (matrix, (66 * 67 // 2, 66 * 67 // 2))
        assert client.delete(path).status_code == 204
        assert [client.get(path).status_code, client.delete(path).status_code] == [404, 404]


def test_other_kinds_are_what_their_routes_answer(shell: Shell, rest: httpx.Client, tmp_path: Path) -> None:
    """An inference, a test of relatedness and an export; one that fails says why, one that is cancelled makes room.

    The command line lists the same jobs, waits for one and writes its result, beside the archive and from elsewhere.
    """
    endless = {"kind": "relatedness", "a": "w0@0", "b": "w0@10", "tests": 999_999}
    asked = rest.post("/v1/jobs", json=endless).raise_for_status().headers["location"]
    follow(rest, asked, lambda job: job["status"] == "running")
    how: dict[str, Any] = {"by_time": True, "depth": 1, "samples": 7}
    jobs: list[dict[str, Any]] = [
        {"kind": "inference", "refs": ["w*@0"], "root": "w0", "alignment": "identity", **how},
        {"kind": "inference", "refs": ["w0@0", "w0@10"]},
        {"kind": "relatedness", "a": "w0@0", "b": "w1@0", "tests": 9},
        {"kind": "export", "runs": ["w1"]},
    ]
    paths = [rest.post("/v1/jobs", json=job).raise_for_status().headers["location"] for job in jobs]
    assert rest.delete(asked).status_code == 204
    inferred, failed, related, export = (follow(rest, path, is_done) for path in paths)
    for query in ("layer=l1", "nearest=2"):
        refused = rest.get(f"{paths[0]}/result?{query}")
        assert (refused.status_code, "found one of kind inference" in refused.json()["detail"]) == (422, True)
    listed = rest.get("/v1/jobs", params={"limit": 3}).json()
    assert [job["kind"] for job in listed["jobs"]] == ["export", "relatedness", "inference"]
    assert rest.get(listed["next"]).json() == {"jobs": [inferred], "next": None}
    direct = {
        paths[0]: rest.get(
            "/v1/lineage/inferred", params={"refs": "w*@0", "root": "w0", "alignment": "identity", **how}
        ),
        paths[2]: rest.get("/v1/related", params={"a": "w0@0", "b": "w1@0", "tests": 9}),
    }
    for path, answer in direct.items():
        assert rest.get(f"{path}/result").json() == answer.raise_for_status().json()
    assert (inferred["media_type"], related["media_type"]) == ("application/json", "application/json")
    assert (failed["status"], failed["error_code"]) == ("failed", "invalid-input")
    assert rest.get(f"{paths[1]}/result").json()["hint"] == failed["error"]
    answer = rest.get(f"{paths[3]}/result")
    assert (answer.headers["content-type"], len(answer.content)) == ("application/zip", export["bytes"])
    (file := tmp_path / "runs.zip").write_bytes(answer.content)
    with ExportFile(file) as exported:
        assert exported.counts.snapshots == 6  # w1 and w0, from which it descends

    def topostrata(*arguments: str, store: object = shell.store) -> str:
        done = CliRunner().invoke(app, ["jobs", *arguments, "--store", str(store)])
        assert done.exit_code == 0, done.output
        return done.stdout

    for store in (shell.store, rest.base_url):
        assert json.loads(topostrata("ls", "--json", store=store)) == [*listed["jobs"], inferred]
        out = ("--out", str(tmp_path / "related.json"))
        assert json.loads(topostrata("wait", related["id"][:12], *out, "--json", store=store)) == related
        assert (tmp_path / "related.json").read_bytes() == rest.get(f"{paths[2]}/result").content
        assert f"error: {failed['error']}" in topostrata("show", failed["id"], store=store)
    assert topostrata("ls").count("finished") == 3
    assert rest.post("/v1/jobs", json=jobs[3]).status_code == 202  # what it wrote was of another moment
    follow(rest, paths[3], is_done)
    anew = rest.get(f"{paths[3]}/result", headers={"If-None-Match": answer.headers["etag"]})
    assert (anew.status_code, anew.headers["etag"] != answer.headers["etag"]) == (200, True)
    for path in paths[1:]:
        assert rest.delete(path).status_code == 204
    assert topostrata("cancel", inferred["id"], store=rest.base_url) == f"{inferred['id']}: forgotten\n"
    assert rest.get("/v1/jobs").json()["jobs"] == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"kind": "everything"}, "one of distances, inference, relatedness, export"),
        ({"refs": ["w0"]}, "expected the member kind"),
        ([], "expected the member kind"),
        ({"kind": "distances"}, "refs"),
        ({"kind": "distances", "refs": ["w0@x"]}, "run@STEP"),
        ({"kind": "distances", "refs": ["w0"], "root": "w0"}, "found root"),
        ({"kind": "relatedness", "a": "w0", "b": "w1", "tests": 0}, "tests"),
        ({"kind": "inference", "refs": ["w*"], "depth": 0}, "depth"),
        ({"kind": "export", "runs": []}, "runs"),
    ],
)
def test_what_is_no_job_is_refused(rest: httpx.Client, body: Any, words: str) -> None:
    """With what is expected; and nothing is queued."""
    answer = rest.post("/v1/jobs", json=body)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]
    assert rest.get("/v1/jobs").json() == {"jobs": [], "next": None}
