"""``ts.init`` and what it gives: only a programmer's mistake raises, and nothing of a run is left anywhere."""

from __future__ import annotations

import copy
import fcntl
import gc
import logging
import os
import pickle
import sys
import threading
import weakref
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from topostrata.errors import InvalidInputError, InvalidRefError, SettingsError, TopostrataError
from topostrata.ingest.hook import run as module
from topostrata.ingest.hook.recorder import Recorder
from topostrata.ingest.hook.run import TrainingRun, init
from topostrata.ingest.hook.spool import RunEnd, RunHead, SpooledSnapshot, read
from topostrata.runs import Parent
from topostrata.topology import Topology

MASKS = [np.eye(4, 3), np.ones((3, 2))]


def wait_until_let_go(file: Path) -> None:
    """A recorder that was given no time goes on by itself."""
    with file.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)


def snapshots(directory: Path) -> list[SpooledSnapshot]:
    return [v.value for file in directory.glob("*.spool") for v in read(file) if isinstance(v.value, SpooledSnapshot)]


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux")
def test_the_recording_thread_leaves_the_processors_to_the_training(tmp_path: Path) -> None:
    """Ten steps of `nice`, where there are ten left; the training's own thread stays as it was."""
    before, others = os.getpriority(os.PRIO_PROCESS, 0), set(threading.enumerate())
    with init("w0", mode="offline", spool=tmp_path) as run:
        run.log(MASKS, step=0)
        assert run.flush()
        (thread,) = (thread for thread in set(threading.enumerate()) - others if thread.name == "topostrata-recorder")
        assert thread.native_id is not None
        assert os.getpriority(os.PRIO_PROCESS, thread.native_id) == min(19, before + 10)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"run": "no spaces please"}, InvalidRefError, "run id"),
        ({"mode": "sometimes"}, InvalidInputError, "mode: expected one of online, offline, disabled"),
        ({"resume": "maybe"}, InvalidInputError, "resume: expected one of allow, must, never"),
        ({"config": {"x": object()}}, InvalidInputError, "config: expected values that JSON can hold"),
        ({"config": [1]}, InvalidInputError, "config: expected names with values"),
        ({"tags": ["two tags"]}, InvalidInputError, "tag"),
        ({"tags": "set"}, InvalidInputError, "tags: expected several"),
        ({"fork_from": "w0@3"}, InvalidInputError, "expected another run than 'w0' itself"),
        ({"fork_from": "a@3", "parent": "a@3"}, InvalidInputError, "expected two snapshots, found a@3 twice"),
        ({"fork_from": 3}, InvalidInputError, "fork_from: expected run@STEP, found int"),
        ({"orientation": "sideways"}, InvalidInputError, "orientation: expected one of in-out, out-in"),
        ({"store": "http://[::1"}, SettingsError, "store: expected http://HOST:PORT, found a host that is none"),
        ({"store": "ftp://localhost"}, SettingsError, "store: expected a path or one of .*https, found ftp://"),
        ({"store": "https://localhost?token=word"}, SettingsError, "found more after it"),
        ({"store": "http://"}, SettingsError, "found no host"),
        ({"store": "bolt://localhost:99999"}, SettingsError, "found a port that is none"),
        ({"store": ""}, InvalidInputError, "store: expected a directory, found an empty name"),
        ({"spool": ""}, InvalidInputError, "spool: expected a directory, found an empty name"),
        ({"fork_from": "w0"}, InvalidInputError, "fork_from: expected run@STEP with a number"),
        ({"parent": "w0@first"}, InvalidInputError, "parent: expected run@STEP"),
        ({"wiring": 3}, InvalidInputError, "wiring: expected a Wiring, found int"),
        ({"every": 0}, InvalidInputError, "every: expected a number of steps from 1 on, found 0"),
        ({"every": 2.0}, InvalidInputError, "every: expected a number of steps from 1 on, found 2.0"),
        ({"store": "http://user:word@localhost"}, SettingsError, "password must not stand in the URI"),
        ({"store": "neo4j://neo4j:word@localhost"}, SettingsError, "password must not stand in the URI"),
        ({"token": "short", "mode": "online"}, SettingsError, "32 random characters"),
        ({"token": 3, "mode": "online"}, InvalidInputError, "token: expected text, found int"),
        ({"store": 3}, InvalidInputError, "store: expected a directory, found int"),
        ({"spool": 3}, InvalidInputError, "spool: expected a directory, found int"),
        ({"store": "~no_user_of_this_name"}, InvalidInputError, "store: expected a directory, found '~no_user"),
        ({"tags": [3]}, InvalidInputError, "tag: expected 1 to 100 characters"),
        ({"tags": 3}, InvalidInputError, "tags: expected several, found int"),
        ({"parent": Parent("a", 1, "guess")}, InvalidInputError, "parent: expected how as one of"),  # type: ignore[arg-type]
    ],
)
def test_mistakes_in_init_are_said_at_once(
    options: Any, error: type[TopostrataError], text: str, tmp_path: Path
) -> None:
    """Each with what was expected; nothing is on the disk then."""
    with pytest.raises(error, match=text) as raised:
        init(**{"run": "w0", "mode": "offline", "spool": tmp_path, **options})
    assert "word" not in str(raised.value).replace("password", "")
    assert list(tmp_path.iterdir()) == []


def test_arguments_beat_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Which beats the defaults; an unknown name in it is an error."""
    monkeypatch.setenv("TOPOSTRATA_MODE", "disabled")
    monkeypatch.setenv("TOPOSTRATA_SPOOL", str(tmp_path / "environment"))
    with init("w0") as run:
        run.log(MASKS)
    with init("w0", mode="offline") as run:
        run.log(MASKS)
    with init("w0", mode="offline", spool=tmp_path / "argument") as run:
        run.log(MASKS)
    assert len(snapshots(tmp_path / "environment")) == len(snapshots(tmp_path / "argument")) == 1
    monkeypatch.setenv("TOPOSTRATA_MOOD", "good")
    with pytest.raises(SettingsError, match="TOPOSTRATA_MOOD"):
        init("w0")


def test_a_spool_says_all_of_the_run(tmp_path: Path) -> None:
    """Config, tags, parents, and each snapshot with its step, epoch and metrics; steps count on by themselves."""
    options: Any = {"config": {"zeta": 0.3}, "tags": ["set"], "fork_from": "a@5", "parent": Parent("b", 7, "pruned")}
    with init("w0", mode="offline", spool=tmp_path, store=tmp_path / "archive", **options) as run:
        run.log(MASKS, step=3, epoch=1.5, metrics={"loss": np.float32(0.5)})
        run.log(MASKS)
    (file,) = tmp_path.glob("*.spool")
    values = [entry.value for entry in read(file)]
    head = values[0]
    assert isinstance(head, RunHead)
    assert (head.config, head.tags, head.store) == ({"zeta": 0.3}, ("set",), str(tmp_path / "archive"))
    assert head.parents == (Parent("a", 5, "fork"), Parent("b", 7, "pruned"))
    first, second = snapshots(tmp_path)
    assert (first.step, first.epoch, first.metrics, second.step) == (3, 1.5, {"loss": 0.5}, 4)
    assert first.topology == Topology.from_masks(MASKS)
    assert values[-1] == RunEnd("finished")


def test_a_loop_that_logs_each_step_records_each_so_many(tmp_path: Path) -> None:
    """Whether it states its steps or not; a function is called for the masks of those that are recorded."""
    calls: list[int] = []

    def masks(step: int) -> list[Any]:
        calls.append(step)
        return MASKS

    with init("w0", mode="offline", spool=tmp_path, every=3) as run:
        for step in range(8):
            run.log(partial(masks, step), step=step if step < 4 else None)
        counts = run.counts
    assert calls == [0, 3, 6] == [snapshot.step for snapshot in snapshots(tmp_path)]
    assert counts.logged == 3
    assert not counts.troubles


class Pruner:
    """It keeps masks, and is called for a step of its own, as the scheduler of rigl-torch is."""

    masks: ClassVar = {"l0": MASKS[0].T, "l1": MASKS[1].T}

    def __call__(self) -> None:
        raise AssertionError("log is no step of the pruner")


def test_a_function_that_raises_does_so_behind_the_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As what cannot be read: said, counted, and the next one is recorded. An object that can be called is none."""
    with caplog.at_level(logging.WARNING, "topostrata.hook"), init("w0", mode="offline", spool=tmp_path) as run:
        run.log(lambda: 1 / 0)
        run.log(partial(list, MASKS))
        run.log(Pruner())
        assert dict(run.counts.troubles) == {"ZeroDivisionError": 1}
    assert [snapshot.step for snapshot in snapshots(tmp_path)] == [1, 2]
    assert "step None is not recorded: division by zero" in caplog.text


def test_what_is_wrong_in_log_is_said_once_and_counted(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """By kind: steps, masks, other layers than before; what is right is recorded all the same."""
    wrong: list[dict[str, Any]] = [
        {"source": MASKS, "step": -1},
        {"source": MASKS, "step": "x"},
        {"source": MASKS, "epoch": float("inf")},
        {"source": None},
        {"source": [np.ones((4, 9)), np.ones((9, 2))]},
        {"source": [np.ones((2, 2)), np.ones((3, 3))]},
        {"source": SimpleNamespace(masks={"a": np.ones(3)})},
    ]
    with caplog.at_level(logging.INFO, "topostrata.hook"), init("w0", mode="offline", spool=tmp_path) as run:
        run.log(MASKS, step=0)
        for options in wrong:
            run.log(**options)
        run.log(MASKS, step=100)
        run.flush()
        troubles = dict(run.counts.troubles)
    assert [snapshot.step for snapshot in snapshots(tmp_path)] == [0, 100]
    assert sum(troubles.values()) == len(wrong)
    *warned, last = caplog.records
    assert len(warned) == len(troubles)
    assert last.levelno == logging.INFO, "offline, what waits is what was wanted"
    assert f"send them with: topostrata sync {run.spool}" in last.getMessage()


def test_a_run_with_an_exception_in_it_has_failed(tmp_path: Path) -> None:
    """The exception goes on as it was."""
    run = init("w0", mode="offline", spool=tmp_path)
    run.log(MASKS)
    with pytest.raises(ZeroDivisionError), run:
        raise ZeroDivisionError
    (file,) = tmp_path.glob("*.spool")
    assert [entry.value for entry in read(file)][-1] == RunEnd("failed")


def test_ctrl_c_in_finish_loses_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is queued then is written before the interpreter's exit, or by the next ``finish``."""
    for go_on in (module._at_exit, TrainingRun.finish):
        run = init("w0", mode="offline", spool=tmp_path / go_on.__name__)
        assert run._recorder is not None
        for _ in range(20):
            run.log(MASKS)

        def interrupted(_timeout: float) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(run._recorder._written, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.finish(status="failed")
        monkeypatch.undo()
        go_on(*[run] * (go_on is TrainingRun.finish))
        assert run.spool is not None
        values = [entry.value for entry in read(run.spool)]
        assert (len(values), values[-1]) == (2 + 20 + 1, RunEnd("failed"))


def test_what_is_logged_after_the_end_is_said_once(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """It is not recorded, and a second ``finish`` changes nothing."""
    with init("w0", mode="offline", spool=tmp_path) as run:
        run.log(MASKS)
    for _ in range(2):
        run.finish()
        run.log(MASKS)
        run.log_gradient_flow({"a": [[1.0]]}, {"a": [[1]]})
    assert dict(run.counts.troubles) == {"ended": 4}
    assert [record.getMessage()[:22] for record in caplog.records] == ["run w0: it has ended: "]
    assert len(snapshots(tmp_path)) == 1


def test_a_run_that_is_begun_twice_in_one_process_is_said(tmp_path: Path) -> None:
    """As where a notebook's cell is run again; both are written."""
    first, second = (init("w0", mode="offline", spool=tmp_path) for _ in range(2))
    for run in (first, second):
        run.log(MASKS)
        run.finish()
    third, other = (init("w0", mode="offline", spool=tmp_path, resume="never") for _ in range(2))
    assert [dict(run.counts.troubles) for run in (first, second, third, other)] == [{}, {"open": 1}, {}, {}]
    assert len(snapshots(tmp_path)) == 2
    third.finish()
    other.finish()


def test_only_rank_0_records(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By RANK, or by torch.distributed where it runs."""
    monkeypatch.setenv("RANK", "1")
    init("w0", mode="offline", spool=tmp_path).log(MASKS)
    group = SimpleNamespace(is_available=lambda: True, is_initialized=lambda: True, get_rank=lambda: 0)
    monkeypatch.setitem(sys.modules, "torch.distributed", group)
    with init("w0", mode="offline", spool=tmp_path) as run:
        run.log(MASKS)
        group.get_rank = lambda: 3
        run.log(MASKS)
    assert len(snapshots(tmp_path)) == 1


def test_a_run_sent_to_another_process_does_nothing_there(tmp_path: Path) -> None:
    """A data set that refers to it can be pickled; a copy in this process is the run itself."""
    with init("w0", mode="offline", spool=tmp_path) as run:
        run.log(MASKS)
        twin = pickle.loads(pickle.dumps(run))
        twin.log(MASKS)
        twin.finish()
        assert copy.deepcopy({"run": run})["run"] is run
        assert copy.copy(run) is run
        assert run.flush()
    assert len(snapshots(tmp_path)) == 1


def test_nothing_of_what_was_logged_is_kept(tmp_path: Path) -> None:
    """The arrays are gone when training lets go of them."""

    class Masking:
        def __init__(self) -> None:
            self.masks = {"a": np.ones((3, 4)), "b": np.ones((2, 3))}

    with init("w0", mode="offline", spool=tmp_path) as run:
        masking = Masking()
        gone = weakref.ref(masking)
        run.log(masking)
        del masking
        gc.collect()
        assert gone() is None
        assert run.flush()
    assert len(snapshots(tmp_path)) == 1


def test_a_queue_that_is_full_refuses_and_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Training does not wait for a slow disk, and what was queued is written."""
    monkeypatch.setenv("TOPOSTRATA_QUEUE_BYTES", str(2**20))
    large = [np.ones((4000, 1000), dtype=bool)]
    with init("w0", mode="offline", spool=tmp_path) as run:
        for _ in range(12):
            run.log(large)
        assert run.flush(None)
        refused = run.counts.troubles.get("queue-full", 0)
    assert refused > 0
    assert len(snapshots(tmp_path)) == 12 - refused


@pytest.mark.parametrize("timeout", [None, float("inf"), float("nan"), -1.0, "soon"])
def test_a_wait_of_any_length_ends_a_run_in_good_order(timeout: Any, tmp_path: Path) -> None:
    """``None`` and infinity are as long as it takes, what is no number is the default; nothing raises."""
    run = init("w0", mode="offline", spool=tmp_path)
    run.log(MASKS)
    run.flush(timeout)
    assert run.flush()
    run.finish(timeout=timeout)
    (file,) = tmp_path.glob("*.spool")
    wait_until_let_go(file)
    assert [entry.value for entry in read(file)][-1] == RunEnd("finished")


def test_an_unknown_status_is_said_and_counts_as_failed(tmp_path: Path) -> None:
    """No archive would take it, and the spool could never be sent."""
    run = init("w0", mode="offline", spool=tmp_path)
    run.log(MASKS)
    run.finish(status="crashed")  # type: ignore[arg-type]
    (file,) = tmp_path.glob("*.spool")
    assert [entry.value for entry in read(file)][-1] == RunEnd("failed")
    assert "status" in run.counts.troubles


def test_a_step_that_counts_on_past_the_last_is_refused(tmp_path: Path) -> None:
    """Else it were acknowledged, and no reader would take it."""
    with init("w0", mode="offline", spool=tmp_path) as run:
        run.log(MASKS, step=2**53 - 1)
        run.log(MASKS)
        run.flush()
        assert (run.counts.saved, run.counts.last_saved) == (1, 2**53 - 1)
    assert [snapshot.step for snapshot in snapshots(tmp_path)] == [2**53 - 1]


@pytest.mark.parametrize(
    ("code", "status"), [(None, "finished"), (0, "finished"), (1, "failed"), ("no data", "failed")]
)
def test_a_run_that_leaves_by_sys_exit_ends_as_its_process(code: Any, status: Any, tmp_path: Path) -> None:
    """Exit 0 is no failure."""
    run = init("w0", mode="offline", spool=tmp_path)
    run.log(MASKS)
    with pytest.raises(SystemExit), run:
        sys.exit(code)
    (file,) = tmp_path.glob("*.spool")
    assert [entry.value for entry in read(file)][-1] == RunEnd(status)


def test_runs_that_nobody_finished_share_the_time_at_the_exit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ten of them wait no longer than one; what each had queued is written, and it ends in good order."""
    runs = [init(f"w{k}", mode="offline", spool=tmp_path) for k in range(3)]
    for run in runs:
        run.log(MASKS)
        assert run.flush()
    waits: list[float] = []
    finish = Recorder.finish

    def heard(recorder: Recorder, status: Any, timeout: float) -> None:
        waits.append(timeout)
        finish(recorder, status, timeout)

    monkeypatch.setattr(Recorder, "finish", heard)
    clock = iter([100.0, 100.0, 107.0, 114.0])
    monkeypatch.setattr(module, "monotonic", lambda: next(clock), raising=False)
    monkeypatch.setattr(module, "_OPEN", set(runs))
    module._at_exit()
    assert waits == [10.0, 3.0, 0.0]
    for file in tmp_path.glob("*.spool"):
        wait_until_let_go(file)
        assert [entry.value for entry in read(file)][-1] == RunEnd("finished")


@pytest.mark.parametrize(
    "wrong",
    [
        {"loss": float("nan")},
        {"loss": float("inf")},
        {"loss": 10**400},
        {"loss": np.ones(3)},
        {"loss": None},
        {"train/loss": 1.0},
        {3: 1.0},
        {f"m{k}": 1.0 for k in range(64)},
    ],
    ids=lambda wrong: ",".join(map(str, wrong))[:20],
)
def test_a_metric_that_is_none_costs_itself_and_not_the_masks(wrong: Any, tmp_path: Path) -> None:
    """A loss that diverges is when the wiring is wanted most."""
    with init("w0", mode="offline", spool=tmp_path) as run:
        run.log(MASKS, step=5, metrics={"accuracy": 0.5, **wrong})
        run.flush()
        assert run.counts.troubles == {"metric": 1}
    (snapshot,) = snapshots(tmp_path)
    assert (snapshot.step, snapshot.metrics["accuracy"]) == (5, 0.5)
    assert len(snapshot.metrics) <= 64
    assert "loss" not in snapshot.metrics


def test_metrics_without_names_cost_themselves_and_not_the_masks(tmp_path: Path) -> None:
    """A list of numbers, or one."""
    with init("w0", mode="offline", spool=tmp_path) as run:
        run.log(MASKS, step=0, metrics=[0.5])  # type: ignore[arg-type]
        run.log(MASKS, step=1, metrics=0.5)  # type: ignore[arg-type]
        run.flush()
        assert run.counts.troubles == {"metric": 2}
    assert [snapshot.metrics for snapshot in snapshots(tmp_path)] == [{}, {}]


def test_a_run_beside_one_of_its_name_may_come_from_that(tmp_path: Path) -> None:
    """With ``resume="never"`` it gets another name where the archive has its own."""
    with init("w0", mode="offline", spool=tmp_path, resume="never", fork_from="w0@3") as run:
        run.log(MASKS)
    (file,) = tmp_path.glob("*.spool")
    head = next(iter(read(file))).value
    assert isinstance(head, RunHead)
    assert head.parents == (Parent("w0", 3, "fork"),)


def test_a_spool_that_is_deleted_while_it_trains_is_begun_anew(tmp_path: Path) -> None:
    """What goes to a file without a name is on no disk, and must not count as saved."""
    with init("w0", mode="offline", spool=tmp_path) as run:
        run.log(MASKS, step=0)
        assert run.flush()
        assert run.spool is not None
        run.spool.unlink()
        for step in (1, 2):
            run.log(MASKS, step=step)
            assert run.flush()
        assert run.counts.saved == 3
        assert run.counts.troubles == {"spool-deleted": 1}
    assert [snapshot.step for snapshot in snapshots(tmp_path)] == [1, 2]


def test_a_working_directory_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With what helps; whole paths need none."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(InvalidInputError, match=r"expected a working directory for '\.topostrata', found none"):
        init("w0", mode="offline", spool=tmp_path)
    with init("w0", mode="offline", spool=tmp_path, store=tmp_path / "archive") as run:
        run.log(MASKS)
    assert len(snapshots(tmp_path)) == 1


def test_a_step_that_cannot_be_recorded_keeps_its_number(tmp_path: Path) -> None:
    """What follows has the step that it would have had."""
    with init("w0", mode="offline", spool=tmp_path) as run:
        run.log(MASKS)
        run.log(None)
        run.log(MASKS)
    assert [snapshot.step for snapshot in snapshots(tmp_path)] == [0, 2]


def test_a_handler_of_a_signal_may_log_while_the_training_logs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It comes in the midst of anything: of what is said, and of what is counted."""
    with init("w0", mode="offline", spool=tmp_path) as run:
        inner: list[int] = []

        def interrupted(*_: object) -> None:
            if not inner:
                inner.append(1)
                with run._lock, run._troubles._lock:
                    run.log(None)

        monkeypatch.setattr(logging.getLogger("topostrata.hook"), "log", interrupted)
        with run._troubles._lock, run._lock:
            run.log(None)
        run.log(MASKS)
        monkeypatch.undo()
    assert run.counts.troubles["invalid-topology"] == 2
    assert [snapshot.step for snapshot in snapshots(tmp_path)] == [2]


def test_a_handler_of_logging_that_raises_harms_no_training(tmp_path: Path) -> None:
    """What is said is counted all the same."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError(record.getMessage())

    handler, logger = Broken(), logging.getLogger("topostrata.hook")
    logger.addHandler(handler)
    try:
        with init("w0", mode="offline", spool=tmp_path) as run:
            run.log(None)
            run.log(MASKS)
    finally:
        logger.removeHandler(handler)
    assert run.counts.troubles == {"invalid-topology": 1}
    assert len(snapshots(tmp_path)) == 1
