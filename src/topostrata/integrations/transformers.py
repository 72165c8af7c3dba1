"""``TopostrataCallback`` for a Hugging Face ``Trainer``: the wiring after each epoch, or after so many steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from transformers import TrainerCallback

from topostrata.integrations.recording import Recording

_STATE = "topostrata"
_MEASURED_TIMES = ("_runtime", "_per_second")


class TopostrataCallback(TrainerCallback):
    """Records a run of a Hugging Face ``Trainer``.

    ``run`` and ``options`` are those of ``ts.init``. A snapshot is taken before the first step, where the network has
    masks by then, and at the end of each epoch, or after ``every`` optimizer steps and at the end of the training. Its
    step is the trainer's ``global_step``, its epoch the trainer's ``epoch``; its metrics are what the trainer logs and
    evaluates at that step (of several evaluation sets, on the first), but for measured times. ``source`` gives what is
    logged where it is not the model itself: a network inside it, a ``Masking``, a list of masks. ``update`` gives what
    the last update of the wiring did, by those names of ``dropped``, ``grown``, ``before`` and ``after_removal`` that
    ``run.log`` is to have.

    ``gradient_flow=n`` records how the gradients flow at each n-th optimizer step, before it is taken: as the trainer
    has summed them over accumulated batches and processes, divided the scale of mixed precision out, and clipped them
    to ``max_grad_norm``.

    Masks are read after the optimizer step and the gradients' reset, where those that change them at the optimizer step
    are done. It reads nothing at the end of the training, where other callbacks make masks permanent. A training that
    goes on from a checkpoint of another run descends from it.

    Raises what ``ts.init`` does; nothing raises once the training runs.
    """

    def __init__(
        self,
        run: str,
        *,
        every: int | None = None,
        gradient_flow: int | None = None,
        source: Callable[[Any], Any] | None = None,
        update: Callable[[Any], Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> None:
        self._recording = Recording(run, every, gradient_flow, source, update, options)
        self._metrics: dict[str, Any] = {}
        self._is_due = False

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Begin to record."""
        every = self._recording.every
        moment = "after each epoch" if every is None else f"after every {every} optimizer steps"
        stored = state.stateful_callbacks
        self._recording.restore(stored.get(_STATE) if isinstance(stored, dict) else None)
        self._metrics, self._is_due = {}, False
        self._recording.begin(model, step=state.global_step, moment=moment, records=state.is_world_process_zero)

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Forget the metrics of the step before."""
        self._record_due(state, model)
        self._metrics = {}

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **_: Any
    ) -> None:
        """Record the gradient flow, where it is due."""
        scaler = getattr(optimizer, "scaler", None)
        scale = 1.0 if scaler is None else scaler
        self._recording.measure(model, step=state.global_step, epoch=state.epoch, scale=scale)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Record, after so many optimizer steps."""
        self._expect(args, state, control, model, due=self._recording.is_due(state.global_step))

    def on_epoch_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Record the epoch, or the last step where it is no multiple of ``every``."""
        is_last = control.should_training_stop or state.global_step >= state.max_steps
        self._expect(args, state, control, model, due=self._recording.every is None or is_last)

    def on_log(self, args: Any, state: Any, control: Any, model: Any = None, logs: Any = None, **_: Any) -> None:
        """Take the loss along."""
        self._metrics |= {
            name: value
            for name, value in (logs or {}).items()
            if name not in {"epoch", "total_flos"} and not name.endswith(_MEASURED_TIMES)
        }
        if not control.should_evaluate:
            self._record_due(state, model)
            self._remember(args, state, control)

    def on_evaluate(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Record with what the evaluation has logged."""
        self._record_due(state, model)
        self._remember(args, state, control)

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """End the run; whatever happens to the masks now is no part of the training."""
        self._recording.end("finished")

    def _expect(self, args: Any, state: Any, control: Any, model: Any, *, due: bool) -> None:
        """Record what is due, once the trainer has logged and evaluated: no weight changes until then."""
        self._is_due = due
        logged = bool(state.log_history) and state.log_history[-1].get("step") == state.global_step
        if not control.should_evaluate and (logged or not control.should_log):
            self._record_due(state, model)
            self._remember(args, state, control)

    def _record_due(self, state: Any, model: Any) -> None:
        if self._is_due:
            self._is_due = False
            self._recording.log(model, step=state.global_step, epoch=state.epoch, metrics=self._metrics)

    def _remember(self, args: Any, state: Any, control: Any) -> None:
        """Leave in a checkpoint that is about to be written what a training that goes on from it is to know.

        Not by ``ExportableState``: the trainer would make this callback anew, from what JSON can hold.
        """
        if (control.should_save or args.save_strategy == "best") and isinstance(state.stateful_callbacks, dict):
            state.stateful_callbacks[_STATE] = self._recording.state
