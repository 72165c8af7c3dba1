"""``ts.trace``: the wiring of a torch model, and of one in training from its first batch."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, Literal

from topostrata.errors import InvalidInputError, TopostrataError
from topostrata.ingest.hook.tracing import forward, reading
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

    def within(self, prefix: str, model: Any) -> TraceReport:
        """The same, for the model of which the traced module is a part, under names that begin with this prefix."""
        if not prefix:
            return self
        layers = tuple(
            replace(y, name=prefix + y.name, part=y.part and replace(y.part, parameter=prefix + y.part.parameter))
            for y in self.wiring
        )
        beside = (name for name, _ in model.named_parameters() if not name.startswith(prefix))
        return replace(
            self,
            wiring=Wiring(layers),
            unused=(*(prefix + name for name in self.unused), *beside),
            unplaced={prefix + name: why for name, why in self.unplaced.items()},
        )


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


def trace_first_batch(model: Any, callback: Callable[[TraceReport | TopostrataError], None]) -> FirstBatch:
    """Trace a model in training: its next forward pass gives the example, and ``callback`` gets the report.

    Where the trace fails, ``callback`` gets the error instead. Nothing is raised into the training, whose losses and
    weights stay the same to the bit. It is called off by ``remove()``.
    """
    return FirstBatch(model, callback)


class FirstBatch:
    """Waits for the next forward pass of a model, in this process, and traces it once.

    It waits at every way in: the model, what wraps it, what compiles it, and each part that holds all its weights,
    since a training may have its own way in (as Lightning's has). A model that is saved or copied meanwhile has a hook
    that does nothing and knows of nothing.
    """

    def __init__(self, model: Any, callback: Callable[[TraceReport | TopostrataError], None]) -> None:
        self._given, self._model, self._callback = model, forward.unwrap(model), callback
        weights = _weights(self._model)
        self._parts = {
            id(part): (f"{name}." if name else "", part)
            for name, part in self._model.named_modules()
            if weights and _weights(part) == weights
        } | {id(self._model): ("", self._model)}
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._undo: dict[int, Callable[[], None]] = {}
        self.look()

    def look(self) -> None:
        """Wait also at what has been compiled or wrapped since: a compiled graph calls no hook that is inside of it."""
        compiled = getattr(sys.modules.get("torch._dynamo.eval_frame"), "OptimizedModule", None)
        if compiled is not None:
            for other in gc.get_objects():
                if type(other) is compiled and id(forward.unwrap(other)) in self._parts:
                    self._wait_at(other)
        for module in (self._given, *(part for _, part in self._parts.values())):
            self._wait_at(module)

    def remove(self) -> None:
        """Wait no longer."""
        for undo in self._undo.values():
            undo()
        self._undo.clear()

    def take(self, module: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Trace the module, which is about to be called with these arguments. Raises nothing."""
        if _is_redirected(module):
            return
        if os.getpid() != self._process or not self._lock.acquire(blocking=False):
            return
        self.remove()
        try:
            prefix, _ = self._parts[id(forward.unwrap(module))]
            try:
                outcome: TraceReport | TopostrataError = trace_report(module, args, named).within(prefix, self._model)
            except TopostrataError as error:
                outcome = error
            except Exception as error:  # noqa: BLE001 - a training job is never harmed
                outcome = InvalidInputError(f"model {type(module).__name__}: expected a wiring, found {error!r}")
            self._callback(outcome)
        except Exception as error:  # noqa: BLE001 - nor by what its callback does
            warnings.warn(f"the callback of the trace raised {error!r}", stacklevel=1)

    def _wait_at(self, module: Any) -> None:
        if module._compiled_call_impl is not None and -id(module) not in self._undo:  # noqa: SLF001 - module.compile()
            call = module._compiled_call_impl  # noqa: SLF001

            def first_call(*args: Any, **named: Any) -> Any:
                self.take(module, args, named)
                return call(*args, **named)

            module._compiled_call_impl = first_call  # noqa: SLF001
            self._undo[-id(module)] = lambda: setattr(module, "_compiled_call_impl", call)
        if id(module) not in self._undo:
            hook = module.register_forward_pre_hook(_Hook(self, import_module("torch").compiler), with_kwargs=True)
            self._undo[id(module)] = hook.remove


def _is_redirected(module: Any) -> bool:
    """Whether what is called is no forward pass but another method, which Lightning sends through a wrapper as one.

    Traced, a training step would be taken twice, once with tensors that hold nothing; it calls the forward pass inside.
    """
    home = getattr(vars(module).get("forward"), "__module__", None) or ""
    return home.partition(".")[0] in {"lightning", "lightning_fabric", "pytorch_lightning"}


class _Hook:
    """What a model has while its first batch is waited for; in a copy of the model it does nothing."""

    def __init__(self, waiting: FirstBatch, compiler: Any) -> None:
        self._waiting, self._compiler = waiting, compiler

    def __call__(self, module: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        if not self._compiler.is_compiling():  # else no model runs: a graph is made, with no trace of this in it
            self._waiting.take(module, args, named)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (nullcontext(), "__exit__")  # takes any three arguments, and is there wherever Python is


def _weights(module: Any) -> set[int]:
    return {id(parameter) for parameter in module.parameters() if parameter.dim() > 1}


def _arguments(example: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    if isinstance(example, Mapping):
        return (), dict(example)
    return tuple(example) if isinstance(example, tuple | list) else (example,), {}
