"""``ts.init``, ``run.log``, ``run.finish``: a run as the training job sees it."""

from __future__ import annotations

import atexit
import json
import logging
import os
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import monotonic
from types import FunctionType, MethodType, TracebackType
from typing import Any, Literal, Self, SupportsFloat, get_args

import topostrata
from topostrata.errors import InvalidInputError, TopostrataError
from topostrata.ingest.hook import sources, turnover
from topostrata.ingest.hook.recorder import Logged, Plan, Recorder, Troubles
from topostrata.ingest.hook.spool import Resume, RunHead
from topostrata.ingest.hook.traced import TracedWiring
from topostrata.ingest.hook.tracing.reading import plain_name
from topostrata.ingest.hook.tracing.trace import FirstBatch, TraceReport, trace_first_batch
from topostrata.locations import SERVER_SCHEMES, SERVICE_SCHEMES, split_uri
from topostrata.matrices import check_words
from topostrata.measures.gradients import GradientFlow, gradient_flow
from topostrata.refs import check_run_id, check_step, parse_ref
from topostrata.runs import (
    HOWS,
    How,
    Parent,
    Status,
    check_epoch,
    check_metrics,
    check_step_layer_metrics,
    check_tags,
)
from topostrata.settings import PREFIX, Settings, load_settings
from topostrata.topology import Orientation, Topology, Wiring

Mode = Literal["online", "offline", "disabled"]

FINISH_S = 60.0
_LONGEST_S = 365 * 86400.0  # a lock takes no infinity
_EXIT_S = 10.0  # what the end of the process waits at most for a run that was not finished

logger = logging.getLogger("topostrata.hook")


@dataclass(frozen=True, slots=True)
class RecordedCounts:
    """How far a run is: calls of ``log``, snapshots on the job's disk, and what went wrong, by kind."""

    logged: int
    saved: int
    last_saved: int | None
    troubles: Mapping[str, int]


class TrainingRun:
    """A run while it trains. ``ts.init`` makes one; it is a context manager, and ``finish`` ends it.

    No method raises or waits for a disk, an archive or a network, but ``finish`` and ``flush`` for the time that they
    are told. What goes wrong is said once for each kind by the logger ``topostrata.hook``, then counted in ``counts``.

    >>> import tempfile, topostrata as ts
    >>> with tempfile.TemporaryDirectory() as folder, ts.init("digits", mode="offline", spool=folder) as run:
    ...     run.log({"l0": [[1, 0], [0, 1]], "l1": [[1], [1]]}, step=0)
    ...     run.flush(), run.counts.saved
    (True, 1)
    """

    def __init__(
        self,
        recorder: Recorder | None,
        troubles: Troubles,
        orientation: Orientation | None,
        *,
        from_weights: bool,
        every: int = 1,
    ) -> None:
        self._recorder, self._troubles = recorder, troubles
        self._every = every
        self._orientation, self._from_weights = orientation, from_weights
        self._process = os.getpid()
        self._calls = self._logged = 0
        self._ended = False
        self._step = -1
        self._lock = threading.RLock()  # a signal's handler may log in the midst of a log
        self._first_batch: FirstBatch | None = None
        if recorder is not None:
            _OPEN.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, type_: type[BaseException] | None, error: BaseException | None, _at: TracebackType | None
    ) -> None:
        left = isinstance(error, SystemExit) and error.code in {None, 0}
        self._finish(FINISH_S, "finished" if type_ is None or left else "failed")

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process, to which it was sent beside a data set, it does nothing."""
        return _disabled, ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self

    @property
    def counts(self) -> RecordedCounts:
        """How far it is.

        >>> import topostrata as ts
        >>> ts.init("digits", mode="disabled").counts.logged
        0
        """
        recorder = self._recorder
        saved, last = (0, None) if recorder is None else (recorder.saved, recorder.last_saved)
        return RecordedCounts(self._logged, saved, last, dict(self._troubles.counts))

    @property
    def spool(self) -> Path | None:
        """The file in which the run's snapshots wait until they are sent; None before the first.

        >>> import topostrata as ts
        >>> ts.init("digits", mode="disabled").spool is None
        True
        """
        return None if self._recorder is None else self._recorder.spool

    def log(
        self,
        source: Any = None,
        *,
        step: int | None = None,
        epoch: float | None = None,
        metrics: Mapping[str, SupportsFloat] | None = None,
        masks: Mapping[str, Any] | None = None,
        dropped: Any = None,
        grown: Any = None,
        before: Any = None,
        after_removal: Any = None,
    ) -> None:
        """Record the wiring as it is now. The masks are copied before this returns, all else happens elsewhere.

        ``source`` is a ``Topology``, a list or dictionary of arrays (NumPy, SciPy, torch), a torch module, a
        ``Masking`` object or a list of them, or a scheduler with ``backward_masks``; docs/hook.md lists what is read
        where. A function of no arguments is called for one of these, at steps that are recorded. ``masks`` states the
        masks beside a model, by the names of its parameters. ``step`` is one more than the last by default; of a run
        with ``every=n``, each n-th is recorded. A smaller step than the last one of the run starts a fork,
        ``<run>-fork-<step>``. Without ``source`` and ``masks`` the metrics are recorded
        at a step without a snapshot.

        Snapshots do not show a link that an update dropped and grew again at once. ``dropped`` and ``grown`` say what
        it did, as masks by the names that ``source`` has; or ``after_removal`` says what was left when it had dropped.
        The update began with the snapshot of the call before, or with the masks ``before``. Counts of each layer go
        with the snapshot: ``dropped``, ``grown``, ``regrown_at_once``. What is not after = (before minus dropped) plus
        grown is said, and not counted.

        >>> import topostrata as ts
        >>> ts.init("digits", mode="disabled").log([[[1, 0]]], step=0)
        """
        if not self._records():
            return
        update = {"dropped": dropped, "grown": grown, "before": before, "after_removal": after_removal}
        self._calls += 1
        try:
            self._log(source, step, epoch, metrics, masks, update)
        except Exception as error:  # noqa: BLE001 - never a harm to training
            kind = str(getattr(error, "code", type(error).__name__))
            self._troubles.say(kind, f"step {step} is not recorded: {error}")

    def watch(self, model: Any) -> None:
        """Take the wiring from the next forward pass of a torch module.

        ``log(model)`` does this by itself where the order of the masks does not tell it. It is for those who log
        something else (a dictionary, a ``Masking``), or whose training calls another object than the one that they log.
        Until then what is logged waits. Nothing stays in the model, and it computes what it would have computed. Where
        ``init`` was given a wiring nothing is traced.

        >>> import topostrata as ts
        >>> ts.init("digits", mode="disabled").watch(None)
        """
        if not self._records():
            return
        try:
            self._watch(sources.module(model))
        except Exception as error:  # noqa: BLE001 - never a harm to training
            self._troubles.say("watch", f"the wiring is not traced: {error}")

    def log_gradient_flow(
        self,
        gradients: Any,
        masks: Any = None,
        *,
        step: int | None = None,
        epoch: float | None = None,
        biases: bool = False,
        scale: Any = 1.0,
    ) -> None:
        """Record how the gradients flow now: call it after ``backward``, before the optimizer's step.

        ``gradients``, ``masks``, ``biases`` and ``scale`` are those of ``topostrata.gradient_flow``; or a
        ``GradientFlow`` that was measured before. ``egf_1``, ``egf_2`` and so on are metrics of the run at the step,
        ``flow_1``, ``flow_2``, ``active``, ``gradient_norm_1`` and ``gradient_norm_2`` of each parameter by its name.
        They are kept whether there is a snapshot at the step or not. ``step`` is one more than the last by default.
        One pass over the gradients, 3 to 5 ns an entry on a CPU (docs/benchmarks.md).

        >>> import topostrata as ts
        >>> ts.init("digits", mode="disabled").log_gradient_flow({"fc1": [[0.5, 0.0]]}, {"fc1": [[1, 0]]}, step=0)
        """
        if not self._records():
            return
        try:
            flow = gradients
            if not isinstance(flow, GradientFlow):
                flow = gradient_flow(gradients, masks, biases=biases, scale=scale)
            self._log_flow(flow, step, epoch)
        except Exception as error:  # noqa: BLE001 - never a harm to training
            kind = str(getattr(error, "code", type(error).__name__))
            self._troubles.say(f"flow-{kind}", f"step {step}: the gradient flow is not recorded: {error}")

    def flush(self, timeout: float | None = FINISH_S) -> bool:
        """Wait, so many seconds at most, until what was logged is on the job's disk; gives whether it is.

        None is as long as it takes.

        >>> import topostrata as ts
        >>> ts.init("digits", mode="disabled").flush()
        True
        """
        return not self._is_mine() or (self._recorder is not None and self._recorder.flush(_seconds(timeout)))

    def finish(self, *, status: Status = "finished", timeout: float | None = FINISH_S) -> None:
        """End the run: write what is queued and let it be sent, for so many seconds at most.

        None is as long as it takes.
        What the archive has not taken by then stays in the spool, and the command that sends it is said.

        >>> import topostrata as ts
        >>> ts.init("digits", mode="disabled").finish()
        """
        self._finish(timeout, status)

    def _log(
        self,
        source: Any,
        step: int | None,
        epoch: float | None,
        metrics: Mapping[str, SupportsFloat] | None,
        masks: Mapping[str, Any] | None,
        update: Mapping[str, Any],
    ) -> None:
        with self._lock:  # a step that cannot be recorded has had its number all the same
            self._step = checked = check_step(self._step + 1 if step is None else step)
        if checked % self._every:
            return
        if isinstance(source, FunctionType | MethodType | partial):
            source = source()
        numbers, wrong = _numbers(metrics)
        reading: sources.Reading | Topology | None = None
        if source is not None or masks is not None or not numbers:
            reading = sources.read(source, masks, orientation=self._orientation, from_weights=self._from_weights)
        if isinstance(reading, sources.Reading):
            if reading.from_weights:
                what = "there are no masks: every weight that is not 0 counts as a connection"
                self._troubles.say("from-weights", what)
            model = sources.model_of(source)
            if model is not None and sources.needs_wiring(reading):
                self._watch(model)
        changed = None
        if reading is None:
            self._calls -= 1  # no update of the wiring is missed by it
        else:
            orientation = self._orientation if isinstance(reading, Topology) else reading.orientation
            try:
                changed = turnover.read(update, orientation)
            except Exception as error:  # noqa: BLE001 - never a harm to training
                self._troubles.say("turnover", f"step {checked} is recorded without its turnover: {error}")
        recorded_at = datetime.now(UTC)
        self._put(Logged(checked, reading, recorded_at, check_epoch(epoch), numbers, self._calls, changed), wrong)

    def _log_flow(self, flow: GradientFlow, step: int | None, epoch: float | None) -> None:
        with self._lock:
            self._step = checked = check_step(self._step + 1 if step is None else step)
        of_run, of_layers = flow.as_metrics()
        numbers, wrong = _numbers(of_run)
        for parameter, measured in of_layers.items():
            of_layers[parameter], more = _numbers(measured)
            wrong += [f"{parameter}: {reason}" for reason in more]
        of_layers = check_step_layer_metrics(of_layers)
        if numbers or of_layers:
            moment = datetime.now(UTC)
            self._put(Logged(checked, None, moment, check_epoch(epoch), numbers, layer_metrics=of_layers), wrong)
        else:
            self._troubles.say("metric", f"step {checked}: the gradient flow is not recorded: {wrong[0]}")

    def _put(self, logged: Logged, wrong: list[str]) -> None:
        for reason in wrong:
            self._troubles.say("metric", f"step {logged.step} is recorded without it: {reason}")
        with self._lock:
            self._logged += 1
        assert self._recorder is not None  # noqa: S101 - what _is_mine says
        self._recorder.put(logged)

    def _watch(self, model: Any) -> None:
        assert self._recorder is not None  # noqa: S101 - what _is_mine says
        if self._first_batch is not None:
            self._first_batch.look()
        elif self._recorder.await_wiring():
            self._first_batch = trace_first_batch(model, self._wire)

    def _wire(self, outcome: TraceReport | TopostrataError) -> None:
        """The first batch came."""
        assert self._recorder is not None  # noqa: S101 - what _is_mine says
        self._first_batch = None
        if isinstance(outcome, TopostrataError):
            self._troubles.say("trace", f"the wiring is not traced: {outcome}; init(wiring=...) states it")
            self._recorder.wire(None)
            return
        if outcome.left_out:
            self._troubles.say("traced", f"the traced wiring: {outcome.left_out}")
        left_out = dict.fromkeys(plain_name(name) for name in (*outcome.unused, *outcome.unplaced))
        self._recorder.wire(TracedWiring(outcome.wiring, tuple(left_out)))

    def _finish(self, timeout: float | None, status: Status) -> None:
        """Where Ctrl-C broke into it, it goes on the next time, at the exit at the latest."""
        if self not in _OPEN or os.getpid() != self._process:
            return
        self._ended = True
        try:
            if self._first_batch is not None:
                self._first_batch.remove()
            assert self._recorder is not None  # noqa: S101 - what _is_mine says
            if status not in get_args(Status):
                known = ", ".join(get_args(Status))
                self._troubles.say("status", f"finish: expected a status of {known}, found {status!r}; it is failed")
                status = "failed"
            self._recorder.finish(status, _seconds(timeout))
            _OPEN.discard(self)
        except Exception as error:  # noqa: BLE001 - never a harm to training
            self._troubles.say(type(error).__name__, f"the run did not end in good order: {error}")

    def _is_mine(self) -> bool:
        return self._recorder is not None and not self._ended and os.getpid() == self._process

    def _is_of(self, plan: Plan) -> bool:
        """Whether it records the run of this plan, in the same place."""
        return self._recorder is not None and self._recorder.is_of(plan)

    def _records(self) -> bool:
        """Whether what is logged now is to be recorded; after the end of the run it is said that it is not."""
        if self._ended and os.getpid() == self._process and self._recorder is not None:
            self._troubles.say("ended", "it has ended: what is logged after finish() is not recorded; init() goes on")
        return self._is_mine() and _is_first_rank()

    def _end(self, status: Status) -> None:
        if self._recorder is not None:
            self._recorder.end(status)

    def _abandon(self) -> None:
        if self._recorder is not None:
            self._recorder.abandon()
        self._recorder = None


def init(
    run: str,
    *,
    config: Mapping[str, Any] | None = None,
    tags: Iterable[str] = (),
    store: str | os.PathLike[str] | None = None,
    token: str | None = None,
    mode: Mode | None = None,
    resume: Resume = "allow",
    fork_from: str | None = None,
    parent: str | Parent | None = None,
    wiring: Wiring | None = None,
    orientation: Orientation | None = None,
    from_weights: bool = False,
    every: int = 1,
    spool: str | os.PathLike[str] | None = None,
) -> TrainingRun:
    """Begin to record a training run; its id is ``run``.

    ``store`` is the directory of an archive, the URI of a Neo4j server or the URL of a Topostrata service, whose
    ``token`` it may need. ``mode="online"`` sends while the job runs, ``"offline"`` leaves that to ``topostrata sync``,
    ``"disabled"`` does nothing at all. Arguments beat the environment (``TOPOSTRATA_STORE``, ``TOPOSTRATA_API_TOKEN``,
    ``TOPOSTRATA_MODE``, ``TOPOSTRATA_SPOOL``), which beats the defaults. ``spool`` is the directory in which snapshots
    wait (``.topostrata-spool``).

    ``resume`` says what is to be done where the archive has a run of this id: ``"allow"`` goes on with it, ``"must"``
    says so where there is none, ``"never"`` makes another, ``<run>-2``. ``fork_from="w0@50"`` and ``parent="w0@50"``
    are the snapshot that it started from (how: fork; declared, or what a ``Parent`` says).

    ``wiring`` states what else is traced, from the first forward pass of the model, where the masks alone do not tell
    it. ``orientation`` is that of the arrays that are logged, ``from_weights`` the last resort where code keeps no
    masks. ``every`` is for a loop that logs each step: those that it divides are recorded.

    Raises ``InvalidRefError``, ``InvalidInputError`` and ``SettingsError`` for an argument or setting that is none;
    after that nothing raises.

    >>> import topostrata as ts
    >>> run = ts.init("digits-seed-3", config={"zeta": 0.3}, tags=["set"], mode="disabled")
    >>> run.log([[[1, 0], [0, 1]]], step=0, metrics={"loss": 2.3})
    >>> run.finish()
    """
    settings = load_settings()
    chosen = settings.mode if mode is None else mode
    if chosen not in get_args(Mode):
        raise InvalidInputError(f"mode: expected one of {', '.join(get_args(Mode))}, found {chosen!r}")
    if wiring is not None and not isinstance(wiring, Wiring):
        raise InvalidInputError(f"wiring: expected a Wiring, found {type(wiring).__name__}")
    check_words(orientation=orientation or "in-out", kernels=True)
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise InvalidInputError(f"every: expected a number of steps from 1 on, found {every!r}")
    place = _place(settings.store if store is None else store)
    head = RunHead(
        check_run_id(run),
        datetime.now(UTC),
        config=_config(config),
        tags=tuple(check_tags(tags)),
        parents=tuple(_parents(run, fork_from, parent, resume)),
        resume=_resume(resume),
        store=place,
    )
    troubles = Troubles(run)
    if chosen == "disabled" or not _is_first_rank():
        return TrainingRun(None, troubles, orientation, from_weights=from_weights, every=every)
    plan = Plan(
        head,
        _directory("spool", settings.spool if spool is None else spool),
        settings.spool_bytes,
        settings.queue_bytes,
        wiring,
        _environment(settings, token) if chosen == "online" else None,
    )
    if resume != "never" and any(other._is_of(plan) for other in list(_OPEN)):  # noqa: SLF001
        what = "another run of this id is not finished in this process: what both log at a step differently is a fork"
        troubles.say("open", f"{what}; finish() ends it")
    return TrainingRun(Recorder(plan, troubles), troubles, orientation, from_weights=from_weights, every=every)


_OPEN: set[TrainingRun] = set()  # also those that nobody refers to any more: their ends are written at the exit


def _disabled() -> TrainingRun:
    return TrainingRun(None, Troubles(""), None, from_weights=False)


def _at_exit() -> None:
    """Who forgot ``finish`` loses nothing: what waits is written, and the sender has a moment."""
    status: Status = "failed" if hasattr(sys, "last_value") else "finished"
    runs, end = list(_OPEN), monotonic() + _EXIT_S
    for run in runs:  # they write at the same time
        run._end(status)  # noqa: SLF001 - its own module
    for run in runs:
        run.finish(status=status, timeout=end - monotonic())


def _after_fork() -> None:
    for run in list(_OPEN):
        run._abandon()  # noqa: SLF001 - its own module
    _OPEN.clear()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork)


def _is_first_rank() -> bool:
    """Whether this is the process that records: the only one, or rank 0 of several."""
    distributed = sys.modules.get("torch.distributed")
    try:
        if distributed is not None and distributed.is_available() and distributed.is_initialized():
            return bool(distributed.get_rank() == 0)
    except Exception:
        logger.debug("torch.distributed does not tell its rank", exc_info=True)
    return os.environ.get("RANK", "0").strip() in {"", "0"}


def _directory(name: str, place: str | os.PathLike[str]) -> Path:
    """The directory by its full path: the job and its sender may go elsewhere."""
    try:
        if not os.fspath(place):
            raise InvalidInputError(f"{name}: expected a directory, found an empty name")
        return Path(place).expanduser().absolute()
    except TypeError:
        raise InvalidInputError(f"{name}: expected a directory, found {type(place).__name__}") from None
    except RuntimeError as error:
        raise InvalidInputError(f"{name}: expected a directory, found {str(place)!r}: {error}") from None
    except OSError as error:
        raise InvalidInputError(
            f"{name}: expected a working directory for {str(place)!r}, found none: {error.strerror}",
            hint="the process stands in a directory that was deleted; give the whole path",
        ) from None


def _place(store: str | os.PathLike[str]) -> str:
    """The store as the sender is to open it, wherever that runs."""
    if isinstance(store, str) and "://" in store:
        split_uri(store, (*SERVER_SCHEMES, *SERVICE_SCHEMES))
        return store
    return str(_directory("store", store))


def _resume(resume: Resume) -> Resume:
    if resume not in get_args(Resume):
        raise InvalidInputError(f"resume: expected one of {', '.join(get_args(Resume))}, found {resume!r}")
    return resume


def _config(config: Mapping[str, Any] | None) -> dict[str, Any]:
    if config is not None and not isinstance(config, Mapping):
        raise InvalidInputError(f"config: expected names with values, found {type(config).__name__}")
    try:
        copied: dict[str, Any] = json.loads(json.dumps(dict(config or {}), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"config: expected values that JSON can hold: {error}") from error
    return copied


def _parents(run: str, fork_from: str | None, parent: str | Parent | None, resume: Resume) -> list[Parent]:
    parents: list[Parent] = []
    claims: list[tuple[str, How, Any]] = [
        ("fork_from", "fork", fork_from),
        ("parent", "declared", parent),
    ]
    for name, how, claim in claims:
        if isinstance(claim, Parent):
            if claim.how not in HOWS:
                raise InvalidInputError(f"{name}: expected how as one of {', '.join(HOWS)}, found {claim.how!r}")
            parents.append(Parent(check_run_id(claim.run), check_step(claim.step), claim.how))
        elif claim is not None:
            if not isinstance(claim, str):
                raise InvalidInputError(f"{name}: expected run@STEP, found {type(claim).__name__}")
            ref = parse_ref(claim)
            if not isinstance(ref.step, int):
                raise InvalidInputError(
                    f"{name}: expected run@STEP with a number, found {claim!r}",
                    hint="which snapshot is the last is not known where the archive may be out of reach",
                )
            parents.append(Parent(ref.run, ref.step, how))
    if resume != "never" and any(before.run == run for before in parents):
        raise InvalidInputError(
            f"fork_from, parent: expected another run than {run!r} itself",
            hint="give this run an id of its own; or resume='never' does",
        )
    places = [f"{before.run}@{before.step}" for before in parents]
    if len(set(places)) < len(places):
        raise InvalidInputError(f"fork_from, parent: expected two snapshots, found {places[0]} twice")
    return parents


def _environment(settings: Settings, token: str | None) -> dict[str, str]:
    """The sender's environment: this process's, with the token that was given."""
    environment = dict(os.environ)
    if token is not None:
        if not isinstance(token, str):
            raise InvalidInputError(f"token: expected text, found {type(token).__name__}")
        secret = Settings(**{**settings.model_dump(exclude={"api_token", "api_token_file"}), "api_token": token})
        environment.pop(f"{PREFIX}API_TOKEN_FILE", None)
        environment[f"{PREFIX}API_TOKEN"] = secret.api_secret() or ""
    # Where this process has the package from, should that be no place that every process knows.
    home = str(Path(topostrata.__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (home, environment.get("PYTHONPATH"))))
    return environment


def _seconds(timeout: float | None) -> float:
    """A time to wait as locks take it."""
    try:
        number = _LONGEST_S if timeout is None else float(timeout)
    except (TypeError, ValueError, OverflowError):
        number = FINISH_S
    return min(max(0.0, number), _LONGEST_S)


def _numbers(metrics: Any) -> tuple[dict[str, float], list[str]]:
    """The metrics that are numbers (a tensor or array of one entry is one), and why others are none."""
    numbers: dict[str, float] = {}
    if metrics is not None and not isinstance(metrics, Mapping):
        return numbers, [f"metrics: expected names with numbers, found {type(metrics).__name__}"]
    wrong = []
    for name, value in (metrics or {}).items():
        try:
            number = check_metrics({name: value.item() if hasattr(value, "item") else value})
            numbers = check_metrics({**numbers, **number})
        except Exception as error:  # noqa: BLE001 - never a harm to training
            wrong.append(str(error))
    return numbers, wrong
