"""Numbers that a training job logs without masks, on their way into an archive: spools, forks, a service."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np

from tests.reference_runs import served
from tests.stores import Target, wipe
from tests.training_job import masks
from topostrata.ingest.hook.run import init
from topostrata.ingest.hook.spool import outline
from topostrata.service.sync import Sender, inspect, spools
from topostrata.settings import Settings
from topostrata.store.embedded import stop


def gradients(step: int, network: str = "a") -> dict[str, np.ndarray]:
    rng = np.random.default_rng([*network.encode(), step])
    return {"l0": rng.random((4, 3)), "l1": rng.random((3, 2)), "l1.bias": rng.random(2)}


def flow(step: int, network: str = "a") -> float:
    """The norm of the first layer's gradient."""
    return float(np.linalg.norm(gradients(step, network)["l0"]))


def record(directory: Path, steps: list[int], network: str = "a", store: str | None = None) -> None:
    """A job that measures at these steps, and logs its wiring at the even ones."""
    with init("w0", mode="offline", spool=directory, store=store) as run:
        for step in steps:
            run.log_gradient_flow(gradients(step, network), step=step)
            if step % 2 == 0:
                run.log(masks(network, step), step=step)


def sync(target: Target, directory: Path, *, keep: bool = False) -> list[str]:
    """Send all; the kinds of what was said."""
    copies = {file: file.read_bytes() for file in spools(directory)}
    kinds: list[str] = []
    with Sender(target.settings, store=target.uri, tell=lambda kind, _message: kinds.append(kind)) as sender:
        assert all(state.is_sent for state in sender.send(directory))
    for file, data in copies.items() if keep else ():
        file.write_bytes(data)
    return kinds


def flows(target: Target, run: str) -> dict[int, float]:
    with target.open() as archive:
        entries = archive.metrics(run, metric="flow_2", layer="l0")
        return {entry.step: entry.layer_metrics["l0"]["flow_2"] for entry in entries}


def test_a_spool_brings_them_however_often_it_is_sent(empty: Target, tmp_path: Path) -> None:
    """Beside snapshots and without them; the spool is gone when all is sent."""
    record(tmp_path, [0, 1, 2, 3])
    (file,) = spools(tmp_path)
    assert inspect(file).waiting == 6
    assert sync(empty, tmp_path, keep=True) == []
    assert sync(empty, tmp_path) == []
    assert spools(tmp_path) == []
    assert flows(empty, "w0") == {step: flow(step) for step in range(4)}
    with empty.open() as archive:
        assert [snapshot.step for snapshot in archive.snapshots("w0")] == [0, 2]
        assert list(archive.verify()) == []


def test_a_run_of_numbers_alone_is_sent_again_to_an_archive_that_lost_it(empty: Target, tmp_path: Path) -> None:
    """How far a spool is sent says nothing of an archive that was emptied."""
    with init("w0", mode="offline", spool=tmp_path) as run:
        run.log_gradient_flow(gradients(1), step=1)
    for _ in range(2):
        with empty.open() as archive:
            wipe(archive)
        (file,) = spools(tmp_path)
        mark = file.with_name(f"{file.name}.sent")
        sync(empty, tmp_path, keep=True)
        last = next(record for record in outline(file) if record.kind == "metrics")
        sent = {"store": empty.uri, "end": last.end, "check": last.check, "run": "w0", "step": -1, "measured": 1}
        mark.write_text(json.dumps(sent))
        assert inspect(file).waiting == 0
        assert flows(empty, "w0") == {1: flow(1)}


def test_other_numbers_at_a_recorded_step_start_a_fork(empty: Target, tmp_path: Path) -> None:
    """As other masks do, and the masks that follow go there too."""
    record(tmp_path, [0, 1, 2, 3, 4])
    record(tmp_path, [3, 4, 5], "b")
    for _ in range(2):
        assert sync(empty, tmp_path, keep=True) == ["forked"]
        assert flows(empty, "w0") == {step: flow(step) for step in range(5)}
        assert flows(empty, "w0-fork-3") == {step: flow(step, "b") for step in (3, 4, 5)}
        with empty.open() as archive:
            assert [(parent.run, parent.step) for parent in archive.run("w0-fork-3").parents] == [("w0", 2)]
            assert [snapshot.step for snapshot in archive.snapshots("w0-fork-3")] == [4]


def test_numbers_before_a_job_s_first_snapshot_go_where_that_goes(empty: Target, tmp_path: Path) -> None:
    """A job that went back measures first, at a step of which the run has no numbers: they are the fork's."""
    for directory, steps in (("a", (0, 2, 4)), ("b", (4,))):
        with init("w0", mode="offline", spool=tmp_path / directory) as run:
            if directory == "b":
                run.log_gradient_flow(gradients(3, "b"), step=3)
            for step in steps:
                run.log(masks(directory, step), step=step)
    assert sync(empty, tmp_path / "a") == []
    for _ in range(2):
        assert sync(empty, tmp_path / "b", keep=True) == ["forked"]
        assert flows(empty, "w0") == {}
        assert flows(empty, "w0-fork-3") == {3: flow(3, "b")}
    with empty.open() as archive:
        assert [snapshot.step for snapshot in archive.snapshots("w0-fork-3")] == [4]
        assert [(parent.run, parent.step) for parent in archive.run("w0-fork-3").parents] == [("w0", 2)]


def test_numbers_of_a_live_job_wait_for_its_first_snapshot_or_its_end(empty: Target, tmp_path: Path) -> None:
    """Where they may belong to a fork; those after the run's last snapshot are sent at once."""
    with init("w0", mode="offline", spool=tmp_path / "a") as run:
        run.log(masks("a", 4), step=4)
    assert sync(empty, tmp_path / "a") == []
    with Sender(empty.settings, store=empty.uri, tell=lambda _kind, _message: None) as sender:
        with init("w0", mode="offline", spool=tmp_path / "b") as run:
            run.log_gradient_flow(gradients(3), step=3)
            run.flush()
            (state,) = sender.send(tmp_path / "b")
            assert (state.waiting, state.added, state.is_sent, flows(empty, "w0")) == (1, 0, False, {})
        (state,) = sender.send(tmp_path / "b")
        assert (state.added, state.is_sent, flows(empty, "w0")) == (1, True, {3: flow(3)})
        with init("w0", mode="offline", spool=tmp_path / "c") as run:
            run.log_gradient_flow(gradients(5), step=5)
            run.flush()
            (state,) = sender.send(tmp_path / "c")
            assert (state.waiting, flows(empty, "w0")) == (0, {3: flow(3), 5: flow(5)})


def test_the_same_step_measured_again_by_one_job_is_refused(empty: Target, tmp_path: Path) -> None:
    """It is said, the first stays, and the spool with the second too."""
    with init("w0", mode="offline", spool=tmp_path) as run:
        run.log_gradient_flow(gradients(1), step=1)
        run.log_gradient_flow(gradients(2), step=1)
    kinds: list[str] = []
    with Sender(empty.settings, store=empty.uri, tell=lambda kind, _message: kinds.append(kind)) as sender:
        (state,) = sender.send(tmp_path)
    assert (kinds, state.added, state.refused) == (["refused"], 1, 1)
    assert flows(empty, "w0") == {1: flow(1)}
    assert len(spools(tmp_path)) == 1


def test_a_service_takes_and_gives_them(tmp_path: Path) -> None:
    """By PUT from a spool, again without a change; GET pages them, chosen by name; the command line says the same."""
    store = tmp_path / "archive"
    try:
        with served(store) as client:
            url = str(client.base_url).rstrip("/")
            record(tmp_path / "spool", [0, 1, 2, 3], store=url)
            (file,) = spools(tmp_path / "spool")
            data = file.read_bytes()
            for outcome in ((6, 0), (0, 6)):
                file.write_bytes(data)
                with Sender(Settings(), tell=lambda _kind, _message: None) as sender:
                    (state,) = sender.send(file)
                assert (state.added, state.unchanged) == outcome
            check(client)
            command = [sys.executable, "-m", "topostrata.service.cli.main", "metrics", "w0", "--store", str(store)]
            chosen = ["--metric", "flow_2", "--layer", "l1.bias"]
            told = subprocess.run([*command, *chosen, "--json"], capture_output=True, text=True, check=True).stdout
            answer = client.get("/v1/runs/w0/metrics", params={"metric": "flow_2", "layer": "l1.bias"})
            assert httpx.Response(200, text=told).json() == {"run": "w0", "metrics": answer.json()["metrics"]}
            picture = tmp_path / "flow.png"
            table = subprocess.run(
                [*command, *chosen, "--png", str(picture)], capture_output=True, text=True, check=True
            )
            assert "l1.bias" in table.stdout
            flow_of = [*command[:3], "flow", "w0", "--moments", "2", "--store", str(store)]
            told = subprocess.run([*flow_of, "--json"], capture_output=True, text=True, check=True).stdout
            answer = client.get("/v1/gradient-flow", params={"run": "w0", "moments": 2})
            assert httpx.Response(200, text=told).json() == answer.json()
            assert answer.json()["runs"][0]["steps"] == [0, 3]
            too_few = client.get("/v1/gradient-flow", params={"run": "w0", "moments": 2, "correlate": "egf_1"})
            assert (too_few.status_code, too_few.json()["code"]) == (422, "invalid-input")
            shown = subprocess.run(flow_of, capture_output=True, text=True, check=True).stdout
            assert "egf 2" in shown
            assert picture.read_bytes().startswith(b"\x89PNG")
    finally:
        stop(store, force=True)


def check(client: httpx.Client) -> None:
    """Pages, refusals and conflicts."""
    page = client.get("/v1/runs/w0/metrics", params={"metric": "flow_2", "layer": "l0", "limit": 3}).json()
    assert [(y["step"], y["layer_metrics"]["l0"]["flow_2"]) for y in page["metrics"]] == [(s, flow(s)) for s in (0, 1, 2)]  # fmt: skip
    rest = client.get(page["next"]).json()
    assert ([y["step"] for y in rest["metrics"]], rest["next"]) == ([3], None)
    assert client.get("/v1/runs/nowhere/metrics").status_code == 404
    at = "/v1/runs/w0/metrics/9"
    made = client.put(at, json={"metrics": {"loss": 0.5}, "layer_metrics": {"l0.bias": {"flow_2": 1}}, "epoch": 2})
    assert (made.status_code, made.json()["metrics"], made.json()["epoch"]) == (201, {"loss": 0.5}, 2)
    assert client.put(at, json={"metrics": {"loss": 0.5}}).status_code == 200
    conflict = client.put(at, json={"metrics": {"loss": 0.25}})
    assert (conflict.status_code, conflict.json()["code"]) == (409, "conflict")
    bodies: list[object] = [
        [],
        {"loss": 1},
        {},
        {"metrics": {"loss": "x"}},
        {"metrics": 1},
        {"metrics": {"a": 1}, "recorded_at": "now"},
    ]
    for body in bodies:
        answer = client.put("/v1/runs/w0/metrics/10", json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid-input"), body
    assert client.put(at, content=b"{", headers={"content-type": "application/json"}).status_code == 422
    assert client.put(at, content=b"{}", headers={"content-type": "text/plain"}).status_code == 415
