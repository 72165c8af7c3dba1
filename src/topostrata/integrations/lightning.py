"""``TopostrataCallback`` for a Lightning ``Trainer``: the wiring after each epoch, or after so many optimizer steps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from topostrata.integrations.recording import Recording

try:
    from lightning.pytorch import Callback
except ModuleNotFoundError:  # the older of the two packages, whose trainer takes the callbacks of either
    from pytorch_lightning import Callback

logger = logging.getLogger("topostrata.hook")


class TopostrataCallback(Callback):
    """Records a run of a Lightning ``Trainer``.

    ``run`` and ``options`` are those of ``ts.init``. A snapshot is taken before the first step, where the network has
    masks by then, and at the end of each training epoch, or after ``every`` optimizer steps and at the end of the last
    epoch. Its step is the trainer's ``global_step``, its epoch the number of epochs done, its metrics are those that
    the module has logged by then. ``source`` gives what is logged where it is not the module itself: a network inside
    it, a ``Masking``, a list of masks. ``update`` gives what the last update of the wiring did, by those names of
    ``dropped``, ``grown``, ``before`` and ``after_removal`` that ``run.log`` is to have.

    ``gradient_flow=n`` records how the gradients flow at each n-th optimizer step, before it is taken: as the trainer
    has summed them over accumulated batches and processes and divided the scale of mixed precision out, not yet
    clipped.

    Masks are read after the optimizer step, in the order of the trainer's callbacks: place it after those that prune.
    It reads nothing at the end of the training, where ``ModelPruning`` and others make masks permanent. A training that
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
        super().__init__()
        self._recording = Recording(run, every, gradient_flow, source, update, options)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin to record."""
        every = self._recording.every
        moment = "after each training epoch" if every is None else f"after every {every} optimizer steps"
        self._recording.begin(pl_module, step=trainer.global_step, moment=moment, records=trainer.is_global_zero)
        names = [type(callback).__name__ for callback in trainer.callbacks]
        if "ModelPruning" in names[names.index(type(self).__name__) :] and trainer.is_global_zero:
            logger.warning(
                "TopostrataCallback stands before ModelPruning: what that prunes at the end of an epoch is recorded an "
                "epoch later, and after the last epoch not at all; place it after ModelPruning"
            )

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Record the gradient flow, where it is due."""
        self._recording.measure(pl_module, step=trainer.global_step, epoch=trainer.current_epoch)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Record, after so many optimizer steps."""
        if self._recording.is_due(trainer.global_step):
            batches = trainer.num_training_batches  # infinite where the data do not tell their number
            self._log(trainer, pl_module, trainer.current_epoch + (batch_idx + 1) / batches)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Record the epoch, or the last step where it is no multiple of ``every``."""
        epochs, steps = trainer.current_epoch + 1, trainer.global_step
        is_last = trainer.should_stop or trainer.max_epochs == epochs or trainer.max_steps == steps
        if self._recording.every is None or is_last:
            self._log(trainer, pl_module, epochs)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """End the run; whatever happens to the masks now is no part of the training."""
        self._recording.end("finished")

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """End the run as failed."""
        self._recording.end("failed")

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: the run, and its last snapshot before it."""
        return self._recording.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The run and the snapshot that this training goes on from."""
        self._recording.restore(state_dict)

    def _log(self, trainer: Any, module: Any, epoch: float) -> None:
        self._recording.log(module, step=trainer.global_step, epoch=epoch, metrics=trainer.callback_metrics)
