"""``ts.trace``: the wiring of a torch model, and of one in training from its first batch."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from topostrata.errors import InvalidInputError, TopostrataError
from topostrata.topology import Wiring


@dataclass(frozen=True, slots=True)
class TraceReport:
    """A traced wiring, and what is not in it.

    ``unknown``: operations without a rule, and how often each was called; all that they touched is fixed. ``unused``:
    parameters that this forward pass did not touch (branches not taken, layers never used). ``unplaced``: parameters
    that were used and are no layer of the wiring, and why. ``fixed``: why each fixed axis of the wiring is.
    ``mode``: whether the pass ran on fake tensors or on real ones. ``seconds``: how long it took.
    """

    wiring: Wiring
    unknown: Mapping[str, int]
    unused: tuple[str, ...]
    unplaced: Mapping[str, str]
    fixed: Mapping[str, str]
    mode: Literal["fake", "real"]
    seconds: float

    @property
    def left_out(self) -> str:
        """What a user should know about the wiring, in words; empty where there is nothing."""
        sentences = []
        if self.unknown:
            names = ", ".join(f"{name} ({count})" for name, count in self.unknown.items())
            sentences.append(f"operations without a rule, which fix all that they touch: {names}")
        if self.unused:
            sentences.append(f"parameters that the forward pass did not use: {', '.join(self.unused)}")
        if self.unplaced:
            sentences.append(
                f"parameters that are no layer: {', '.join(f'{n} ({w})' for n, w in self.unplaced.items())}"
            )
        return "; ".join(sentences)


def trace(model: Any, example: Any, *, mode: Literal["fake", "real"] | None = None) -> Wiring:
    """The wiring of a torch module, from one forward pass without data.

    ``example`` is what the model is called with: a tensor, a tuple of arguments, or a mapping of named ones; only its
    shapes count. Layers have the names of their modules, parts those of the parameters as the module names them without
    pruning or parametrizations, so that ``wiring.place({"fc1.weight": mask, ...})`` takes the masks as they are.

    Every dimension of every tensor is followed through every operation. What is not known to be interchangeable is
    fixed: distances are then too large rather than wrong. What was left out is warned about; ``trace_report`` has it as
    values. ``mode="fake"`` runs on tensors without data, ``"real"`` on the example itself, for models in which the data
    decide what is computed; None tries the first, then the second. Neither changes the model or the random state.

    Raises ``InvalidTopologyError`` where no parameter meets the input, ``InvalidInputError`` where the model cannot be
    run or there is no torch.
    """
    args, named = _arguments(example)
    report = trace_report(model, args, named, mode=mode)
    if report.left_out:
        warnings.warn(f"the traced wiring: {report.left_out}", stacklevel=2)
    return report.wiring


def trace_report(
    model: Any,
    args: Sequence[Any] = (),
    named: Mapping[str, Any] | None = None,
    *,
    mode: Literal["fake", "real"] | None = None,
) -> TraceReport:
    """The wiring of a torch module called with these arguments, with what is not in it; see ``trace``."""
    begin = time.perf_counter()
    try:
        import_module("torch")
    except ImportError as error:
        raise InvalidInputError(
            f"model {type(model).__name__}: expected torch beside it, found none",
            hint="install torch, or write the wiring by hand: docs/wiring.md",
        ) from error
    from topostrata.ingest.hook.tracing import forward, reading

    model = forward.unwrap(model)
    seen = None
    reasons: list[str] = []
    modes: tuple[Literal["fake", "real"], ...] = ("fake", "real") if mode is None else (mode,)
    for attempt in modes:
        try:
            seen = forward.watch(model, args, named or {}, attempt)
        except Exception as error:  # noqa: BLE001 - whatever the model raises
            reasons.append(f"{attempt}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        else:
            break
    if seen is None:
        raise InvalidInputError(
            f"model {type(model).__name__}: expected a forward pass with the example, found {'; '.join(reasons)}",
            hint="check that model(*example) runs",
        )
    result = reading.read(seen)
    unused = tuple(name for name, labels in seen.parameters.items() if not labels.used)
    return TraceReport(
        result.wiring, dict(seen.unknown), unused, result.unplaced, result.fixed, seen.mode, time.perf_counter() - begin
    )


def trace_first_batch(model: Any, callback: Callable[[TraceReport | TopostrataError], None]) -> Any:
    """Trace a model in training: its next forward pass gives the example, and ``callback`` gets the report.

    Where the trace fails, ``callback`` gets the error instead. Nothing is raised into the training, whose losses and
    weights stay the same to the bit. Returns the handle of torch, whose ``remove()`` calls it off; the hook removes
    itself before it traces. Give it what the training calls: a hook inside of what ``torch.compile`` returned may
    break the first graph in two.
    """
    torch = import_module("torch")

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def first_batch(wrapped: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        handle.remove()
        try:
            try:
                outcome: TraceReport | TopostrataError = trace_report(wrapped, args, named)
            except TopostrataError as error:
                outcome = error
            except Exception as error:  # noqa: BLE001 - a training job is never harmed
                outcome = InvalidInputError(f"model {type(wrapped).__name__}: expected a wiring, found {error!r}")
            callback(outcome)
        except Exception as error:  # noqa: BLE001 - nor by what its callback does
            warnings.warn(f"the callback of the trace raised {error!r}", stacklevel=1)

    handle = model.register_forward_pre_hook(first_batch, with_kwargs=True)
    return handle


def _arguments(example: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    if isinstance(example, Mapping):
        return (), dict(example)
    return tuple(example) if isinstance(example, tuple | list) else (example,), {}
