"""A service as the store of a training job: its token, and everything that a server and a network can do wrong."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from tests.faulty_service import WRONGS, faulty, one_after_the_other
from tests.training_job import expected, left, masks, turnover
from topostrata.ingest.hook.run import TrainingRun, init
from topostrata.ingest.hook.spool import RunHead, SpooledSnapshot, SpoolWriter
from topostrata.service import transport
from topostrata.service.sync import Sender, spools
from topostrata.settings import Settings
from topostrata.store.embedded import stop

TOKEN = "0123456789abcdef0123456789abcdef"


@dataclass(frozen=True)
class Real:
    """``topostrata serve`` with a token, and the archive behind it."""

    url: str
    store: Path


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    """One service for all, on an archive of its own."""
    store = tmp_path_factory.mktemp("service") / "archive"
    command = [sys.executable, "-m", "topostrata.service.cli.main", "serve", "--port", "0", "--store", str(store)]
    environment = {**os.environ, "TOPOSTRATA_API_TOKEN": TOKEN}
    try:
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as server:
            assert server.stderr is not None
            yield Real(server.stderr.readline().split()[1].removesuffix("/v1/runs"), store)
            server.terminate()
            server.wait(30)
    finally:
        stop(store, force=True)


def record(directory: Path, store: str, run: str, steps: int = 3, **options: Any) -> Path:
    with init(run, store=store, spool=directory, mode="offline", **options) as training:
        for step in range(steps):
            training.log(masks(run, step), step=step, after_removal=left(run, step) if step else None)
    (file,) = spools(directory)
    return file


def ask(real: Real, path: str) -> Any:
    request = urllib.request.Request(f"{real.url}/v1/runs/{path}", headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def digests(real: Real, run: str) -> dict[int, str]:
    return {snapshot["step"]: snapshot["digest"] for snapshot in ask(real, f"{run}/snapshots")["snapshots"]}


def digests_of(run: str, steps: int = 3) -> dict[int, str]:
    return {step: expected(run, step).digest for step in range(steps)}


def silent(_kind: str, _message: str) -> None:
    """Nobody listens."""


@pytest.mark.parametrize("wrong", [wrong for wrong in WRONGS if wrong != "slow"])
def test_what_a_service_does_wrong_costs_nothing_but_time(real: Real, wrong: str, tmp_path: Path) -> None:
    """The next try goes on where the last one ended; every snapshot is there in the end, whole, and was sent once."""
    run = f"wrong-{wrong.replace(' ', '-')}"
    with faulty(real.url, one_after_the_other("", wrong)) as service:
        file = record(tmp_path, service.url, run)
        said: list[str] = []
        with Sender(Settings(api_token=TOKEN), tell=lambda kind, message: said.append(kind)) as sender:
            (state,) = sender.send(file)
            assert (state.code, state.added, state.waiting) == ("store-unavailable", 1, 2)
            (state,) = sender.send(file)
        sent = [path for method, path, _ in service.requests if method == "PUT" and "/snapshots/" in path]
    assert state.is_sent
    assert said == ["store-unavailable"]
    assert digests(real, run) == digests_of(run)
    assert [ask(real, f"{run}/snapshots/{step}")["layer_metrics"] for step in (1, 2)] == [
        turnover(run, 1),
        turnover(run, 2),
    ]
    assert len(sent) == len(set(sent)) + (wrong in {"lost answer", "reset answer"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", ["429", "503"])
@pytest.mark.parametrize("moment", [False, True])
def test_a_service_that_asks_for_patience_is_left_alone(
    real: Real, status: str, moment: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Until the time of its Retry-After, seconds or a date; then sending goes on."""
    run = f"patience-{status}-{moment}"
    with faulty(real.url, one_after_the_other("", status)) as service:
        service.retry_after = formatdate(time.time() + 100, usegmt=True) if moment else "100"
        file = record(tmp_path, service.url, run)
        with Sender(Settings(api_token=TOKEN), tell=silent) as sender:
            (state,) = sender.send(file)
            asked = len(service.requests)
            for later in (0, 90):
                monkeypatch.setattr(transport, "monotonic", lambda later=later: time.monotonic() + later)
                (state,) = sender.send(file)
                assert (state.code, state.waiting) == ("store-unavailable", 2)
                assert "more of patience (Retry-After)" in str(state.error)
            assert len(service.requests) == asked
            monkeypatch.setattr(transport, "monotonic", lambda: time.monotonic() + 101)
            (state,) = sender.send(file)
    assert state.is_sent
    assert digests(real, run) == digests_of(run)


@pytest.mark.parametrize("token", [None, "f" * 8 + "0123456789abcdef01234567"])
def test_a_wrong_token_is_named_and_nothing_is_lost(real: Real, token: str | None, tmp_path: Path) -> None:
    """The spool waits for the right one."""
    run = f"token-{token}"
    file = record(tmp_path, real.url, run)
    with Sender(Settings(api_token=token), tell=silent) as sender:
        (state,) = sender.send(file)
    assert (state.code, state.waiting) == ("settings", 3)
    assert "refuses the token" in str(state.error)
    assert token is None or token not in str(state.error)
    with Sender(Settings(api_token=TOKEN), tell=silent) as sender:
        (state,) = sender.send(file)
    assert (state.added, state.is_sent) == (3, True)


def test_a_record_in_the_place_of_one_that_the_disk_did_not_take_is_sent(
    real: Real, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The sender that had it already sends the one that was acknowledged, and so does one that begins with the mark."""
    head = RunHead("torn", datetime.now(UTC), store=real.url)
    topology = [expected("torn", step) for step in range(6)]
    for fresh in (False, True):
        writer = SpoolWriter(tmp_path, head, most_bytes=2**20)
        writer.wiring(topology[0].wiring)
        senders = [Sender(Settings(api_token=TOKEN), tell=silent) for _ in range(2)]
        fsync = os.fsync

        def fail(_file: int) -> None:
            senders[0].send(tmp_path)  # noqa: B023 - this turn's
            raise OSError(5, "Input/output error")

        first = 3 if fresh else 0
        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="Input/output"):
            writer.snapshot(SpooledSnapshot(first, topology[first], datetime.now(UTC)))
        monkeypatch.setattr(os, "fsync", fsync)
        for step in (first + 1, first + 2):
            writer.snapshot(SpooledSnapshot(step, topology[step], datetime.now(UTC)))
        with senders[0], senders[1]:
            (state,) = senders[fresh].send(tmp_path)
        assert (state.added, state.damaged, state.error) == (2 + (not fresh), 0, None)
        writer.close()
        writer.path.unlink()
    assert digests(real, "torn") == {step: topology[step].digest for step in range(6)}


WITHOUT_SERVER = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"neo4j", "fastapi", "networkx", "numba", "arcadedb_embedded"}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Missing())
from topostrata.service.cli.main import app
app(["sync", *sys.argv[1:]], standalone_mode=False)
"""


def test_the_base_install_sends_to_a_service(real: Real, tmp_path: Path) -> None:
    """Without the server's packages; for an archive of its own it names the extra, and the spool stays."""
    file = record(tmp_path, real.url, "base")
    command = [sys.executable, "-c", WITHOUT_SERVER, str(file)]
    environment = {**os.environ, "TOPOSTRATA_API_TOKEN": TOKEN}
    refused = subprocess.run(
        [*command, "--store", str(tmp_path)], capture_output=True, text=True, check=False, env=environment
    )
    assert "needs the extra [server]" in refused.stderr
    assert file.exists()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert digests(real, "base") == digests_of("base")


def test_a_service_is_told_all_of_a_run(real: Real, tmp_path: Path) -> None:
    """Config, tags, parents and how it ended; a run that goes on gains tags and is open until it ends again."""
    record(tmp_path, real.url, "told-parent")
    record_child = {"config": {"zeta": 0.3}, "fork_from": "told-parent@2"}
    with init("told", store=real.url, spool=tmp_path, mode="offline", tags=["set"], **record_child) as run:  # type: ignore[arg-type]
        run.log(masks("told", 0), step=0, epoch=0.5, metrics={"loss": 0.25})
    with Sender(Settings(api_token=TOKEN), tell=silent) as sender:
        assert all(state.is_sent for state in sender.send(tmp_path))
    stored = ask(real, "told")
    assert (stored["config"], stored["tags"], stored["status"]) == ({"zeta": 0.3}, ["set"], "finished")
    assert stored["parents"] == [{"parent": "told-parent", "step": 2, "how": "fork"}]
    assert ask(real, "told/snapshots/0")["metrics"] == {"loss": 0.25}
    run = init("told", store=real.url, spool=tmp_path, mode="offline", tags=["more"])
    run.log(masks("told", 1), step=1)
    assert run.flush()
    with Sender(Settings(api_token=TOKEN), tell=silent) as sender:
        sender.send(tmp_path)
        assert (ask(real, "told")["tags"], ask(real, "told")["status"]) == (["set", "more"], "open")
        run.finish(status="failed")
        assert all(state.is_sent for state in sender.send(tmp_path))
    assert ask(real, "told")["status"] == "failed"
    assert list(tmp_path.iterdir()) == []


def test_a_child_waits_for_its_parent(real: Real, tmp_path: Path) -> None:
    """Also where a service is in between; its spool stays until then."""
    file = record(tmp_path / "child", real.url, "waits", fork_from="waited@2")
    with Sender(Settings(api_token=TOKEN), tell=silent) as sender:
        (state,) = sender.send(file)
        assert (state.code, state.waiting) == ("not-found", 3)
        assert sender.send(record(tmp_path / "parent", real.url, "waited"))[0].is_sent
        assert sender.send(file)[0].is_sent
    assert ask(real, "waits")["parents"] == [{"parent": "waited", "step": 2, "how": "fork"}]


def test_never_resume_makes_another_run_of_a_service(real: Real, tmp_path: Path) -> None:
    """However often it is sent; the run that was made from a spool is known by the moment of its init."""
    for k in range(2):
        file = record(tmp_path, real.url, "never", resume="never")
        copy = file.read_bytes()
        for _ in range(2):
            file.write_bytes(copy)
            with Sender(Settings(api_token=TOKEN), tell=silent) as sender:
                assert sender.send(file)[0].is_sent
        assert len(digests(real, "never-2" if k else "never")) == 3
    assert not [run for run in ask(real, "")["runs"] if run["run"] == "never-3"]


def test_a_job_sends_to_a_real_service(real: Real, tmp_path: Path) -> None:
    """Online, with a token: the run, its forks and their descent are there when it ends, and nothing is left here."""
    with init("online", store=real.url, token=TOKEN, spool=tmp_path / "spool", config={"lr": 0.1}) as run:
        for step in (0, 1, 2, 1, 5):
            run.log(masks("online", step), step=step)
        run.log(masks("online", 9), step=4)  # back once more: another fork
    assert dict(run.counts.troubles) == {"forked": 1}
    assert digests(real, "online") == {step: expected("online", step).digest for step in (0, 1, 2, 5)}
    assert digests(real, "online-fork-4") == {4: expected("online", 9).digest}
    fork = ask(real, "online-fork-4")
    assert (fork["config"], fork["status"]) == ({"lr": 0.1}, "finished")
    assert fork["parents"] == [{"parent": "online", "step": 2, "how": "fork"}]
    assert list((tmp_path / "spool").iterdir()) == []


def sender_of(run: TrainingRun) -> subprocess.Popen[bytes]:
    assert run._recorder is not None
    sender = run._recorder._sender
    assert sender is not None
    return sender


def wait_for_trouble(run: TrainingRun, kind: str) -> None:
    end = time.monotonic() + 120
    while kind not in run.counts.troubles:
        assert time.monotonic() < end, run.counts.troubles
        run.flush()


def test_a_sender_that_is_killed_is_started_again(real: Real, tmp_path: Path) -> None:
    """Which is said; the run is whole when it ends."""
    with init("murdered", store=real.url, token=TOKEN, spool=tmp_path) as run:
        run.log(masks("murdered", 0), step=0)
        assert run.flush()
        first = sender_of(run)
        first.kill()
        wait_for_trouble(run, "sender-restarted")
        assert sender_of(run).pid != first.pid
        run.log(masks("murdered", 1), step=1)
    assert digests(real, "murdered") == digests_of("murdered", 2)
    assert list(tmp_path.iterdir()) == []


def test_a_sender_that_ends_early_is_named_with_what_helps(
    real: Real, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """While the job runs, not when it ends; another would end as this one did."""
    with init("refused", store=real.url, token="fedcba9876543210" * 2, spool=tmp_path) as run:
        run.log(masks("refused", 0), step=0)
        wait_for_trouble(run, "sender-ended")
        assert "settings" in run.counts.troubles
        (message,) = [record.getMessage() for record in caplog.records if "the sender ended" in record.getMessage()]
        assert f"topostrata sync {run.spool} --store {real.url}" in message


def test_a_sender_that_outlives_finish_leaves_no_zombie(tmp_path: Path) -> None:
    """It ends after one last try, and its process is gone, while the job goes on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:  # which answers nobody
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        run = init("alone", store=url, spool=tmp_path)
        run.log(masks("alone", 0), step=0)
        assert run.flush()
        sender = sender_of(run)
        run.finish(timeout=0)
    assert sender.wait(120) == 1
    assert not Path(f"/proc/{sender.pid}").exists()
