"""What the callbacks have in common: one run, recorded when a training begins, every so many steps, and at its end."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, get_args

from topostrata.errors import InvalidInputError, TopostrataError
from topostrata.ingest.hook import sources
from topostrata.ingest.hook.run import Mode, TrainingRun, init
from topostrata.runs import Status
from topostrata.topology import Topology

logger = logging.getLogger("topostrata.hook")

_UPDATE = {"dropped", "grown", "before", "after_removal"}
_CHECKPOINT_S = 1.0  # what a checkpoint waits at most for the snapshot that it goes with


class Recording:
    """The run of a callback, from the moment at which the training begins.

    ``every`` is how many optimizer steps lie between two snapshots; None: an epoch. ``gradient_flow`` is how many lie
    between two measurements of the gradients; None: there are none. ``source`` gives what is logged, from the model
    that the loop hands to its callbacks; None: the model. ``update`` gives what the last update did, from the same
    model; None: nobody says it. The rest are the arguments of ``ts.init``, which are checked here: a mistake in them
    raises where the callback is made, not in the midst of training.
    """

    def __init__(
        self,
        run: str,
        every: int | None,
        gradient_flow: int | None,
        source: Callable[[Any], Any] | None,
        update: Callable[[Any], Mapping[str, Any]] | None,
        options: Mapping[str, Any],
    ) -> None:
        for name, steps in (("every", every), ("gradient_flow", gradient_flow)):
            if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
                raise InvalidInputError(
                    f"{name}: expected a number of optimizer steps from 1 on, or None, found {steps!r}"
                )
        for name, function in (("source", source), ("update", update)):
            if function is not None and not callable(function):
                raise InvalidInputError(f"{name}: expected a function of the model, found {type(function).__name__}")
        mode = options.get("mode")
        if mode is not None and mode not in get_args(Mode):
            raise InvalidInputError(f"mode: expected one of {', '.join(get_args(Mode))}, found {mode!r}")
        self.run: TrainingRun = init(run, **{**options, "mode": "disabled"})
        self.every = every
        self._flow_every, self._measured = gradient_flow, -1
        self._id, self._source, self._options = run, source or _itself, dict(options)
        self._update, self._failed = update, False
        self._last: int | None = None
        self._origin: tuple[str, int] | None = None

    def begin(self, model: Any, *, step: int, moment: str, records: bool) -> None:
        """The training begins, or goes on from a checkpoint of this step; one that did not end has failed.

        What a network begins with is recorded where it has masks already. ``moment`` says in the run's config when
        masks are read, ``records`` whether this process records.
        """
        self.end("failed")
        options = dict(self._options)
        options["config"] = {"recorded": moment, **(options.get("config") or {})}
        if self._origin is not None and self._origin[0] != self._id and not {"fork_from", "parent"} & set(options):
            options["fork_from"] = "{}@{}".format(*self._origin)
        if not records:
            options["mode"] = "disabled"
        try:
            self.run = init(self._id, **options)
        except TopostrataError as error:  # the environment is another than where the callback was made
            logger.warning("run %s is not recorded: %s", self._id, error)
        self._last, self._measured = step or None, -1
        reading = self._read(model)
        if isinstance(reading, sources.Reading) and sources.needs_wiring(reading):
            self.run.watch(model)  # the first batch comes before the first mask, where a network is pruned later
        if not step and (
            isinstance(reading, Topology)
            or (reading is not None and (not reading.from_weights or self._options.get("from_weights")))
        ):
            self.log(model, step=0, epoch=0)

    def is_due(self, step: int) -> bool:
        """Whether one of every so many steps was taken since the last snapshot."""
        return self.every is not None and step // self.every > (self._last or 0) // self.every

    def log(self, model: Any, *, step: int, epoch: float | None, metrics: Mapping[str, Any] | None = None) -> None:
        """Record a step, once."""
        if step != self._last:
            self._last = step
            said = self._said(model, step)
            self.run.log(partial(self._source, model), step=step, epoch=epoch, metrics=named(metrics or {}), **said)

    def measure(self, model: Any, *, step: int, epoch: float | None, scale: Any = 1.0) -> None:
        """Record the gradient flow where it is due, once a step: before the optimizer takes it."""
        if self._flow_every is None or step % self._flow_every or step == self._measured:
            return
        self._measured = step
        chosen = _guarded(self._source, model)
        if sources.is_module(chosen):
            self.run.log_gradient_flow(chosen, step=step, epoch=epoch, scale=scale)
        else:
            self.run.log_gradient_flow(model, chosen, step=step, epoch=epoch, scale=scale)

    def end(self, status: Status) -> None:
        """The training ends; a second time changes nothing."""
        self.run.finish(status=status)

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, so that a run that begins there descends from this one: its last snapshot.

        It waits a moment for the one that goes with the checkpoint to be on the disk.
        """
        self.run.flush(_CHECKPOINT_S)
        step = self.run.counts.last_saved
        run, step = (self._id, step) if step is not None else (self._origin or (self._id, None))
        return {"run": run, "step": step}

    def restore(self, state: Any) -> None:
        """What the checkpoint that the training goes on from has kept."""
        if isinstance(state, Mapping) and isinstance(state.get("run"), str) and isinstance(state.get("step"), int):
            self._origin = (state["run"], state["step"])

    def _said(self, model: Any, step: int) -> dict[str, Any]:
        """What the last update did; where that fails it is said once, and the step is recorded without."""
        if self._update is None or not step:  # nothing was updated before the first
            return {}
        try:
            return _checked(self._update(model))
        except Exception as error:  # noqa: BLE001 - never a harm to training
            if not self._failed:
                logger.warning("run %s: step %s is recorded without its turnover: %s", self._id, step, error)
            self._failed = True
            return {}

    def _read(self, model: Any) -> sources.Reading | Topology | None:
        """What would be logged now, by its weights where there are no masks; None where that fails, as ``log`` says."""
        try:
            return sources.read(self._source(model), orientation=self._options.get("orientation"), from_weights=True)
        except Exception:  # noqa: BLE001 - never a harm to training
            return None


def _checked(said: Mapping[str, Any]) -> dict[str, Any]:
    if not said.keys() <= _UPDATE:
        raise InvalidInputError(
            f"update: expected names among {', '.join(sorted(_UPDATE))}, found {', '.join(map(str, said))}"
        )
    return dict(said)


def _guarded(source: Callable[[Any], Any], model: Any) -> Any:
    """What the source gives; where it fails, something that the hook names as no masks."""
    try:
        return source(model)
    except Exception as error:  # noqa: BLE001 - never a harm to training
        return error


def _itself(model: Any) -> Any:
    return model


def named(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics by names that a snapshot can have: ``train/Loss`` becomes ``train_loss``.

    Where that makes two names alike, both stay as they are: which of them was meant is not guessed.

    >>> named({"train/Loss": 0.5, "val/acc": 0.9, "val_acc": 0.8})
    {'train_loss': 0.5, 'val/acc': 0.9, 'val_acc': 0.8}
    """
    plain = {name: re.sub(r"[^a-z0-9_]", "_", str(name).lower()) for name in metrics}
    often = Counter(plain.values())
    return {plain[name] if often[plain[name]] == 1 else name: value for name, value in metrics.items()}
