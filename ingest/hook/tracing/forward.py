"""One forward pass of a torch model under observation, that leaves the model and the random state as they were.

On *fake* tensors, which have shapes and no data: no memory, hardly any time, and as if on a CPU, whatever device the
model is on. Where the data decide what is computed, on the *real* ones. torch is imported here only, inside functions,
so that the package can be read without it.
"""

from __future__ import annotations

import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from topostrata.ingest.hook.tracing.axes_of_tensors import Dim, free
from topostrata.ingest.hook.tracing.calls import Call, Contraction
from topostrata.ingest.hook.tracing.contractions import ALL_RULES
from topostrata.ingest.hook.tracing.labels import Labels, Stored, fixed_labels
from topostrata.ingest.hook.tracing.rules import rule_of, unknown

Mode = Literal["fake", "real"]

_WRAPPERS = ("DistributedDataParallel", "DataParallel", "FullyShardedDataParallel")
_WAYS_OUT = ("numpy", "tolist", "__array__", "__dlpack__", "data_ptr")
_MAIN_OUTPUTS = ("logits", "last_hidden_state")


@dataclass(slots=True)
class Seen:
    """What a forward pass showed: layers, every tensor by its labels, and operations without a rule."""

    mode: Mode
    parameters: dict[str, Labels] = field(default_factory=dict)
    buffers: dict[str, Labels] = field(default_factory=dict)
    aliases: dict[str, list[str]] = field(default_factory=dict)
    contractions: list[Contraction] = field(default_factory=list)
    tensors: list[Labels] = field(default_factory=list)
    meetings: list[tuple[Dim, Dim]] = field(default_factory=list)
    multiplied: set[str] = field(default_factory=set)
    unknown: Counter[str] = field(default_factory=Counter)
    outputs: list[Labels] = field(default_factory=list)


def unwrap(model: Any) -> Any:
    """The module inside what torch.compile and the parallel wrappers put around it; anything else is what it is."""
    while True:
        if "_orig_mod" in (getattr(model, "_modules", None) or ()):
            model = model._orig_mod  # noqa: SLF001 - there is no public name
        elif type(model).__name__ in _WRAPPERS and hasattr(model, "module"):
            model = model.module
        else:
            return model


def watch(model: Any, args: Sequence[Any], named: Mapping[str, Any], mode: Mode) -> Seen:
    """Run an unwrapped model once on these arguments. Raises what the model raises."""
    import torch

    seen = Seen(mode)
    with ExitStack() as undo:
        undo.enter_context(_unchanged(model))
        undo.enter_context(_same_random_state(model))
        undo.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # the first real pass gives those of the model
        undo.enter_context(torch.inference_mode(mode=False))
        undo.enter_context(torch.no_grad())
        undo.enter_context(torch.backends.mkldnn.flags(enabled=False))  # else an LSTM is one operation
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # else an encoder layer is one operation
        undo.callback(torch.backends.mha.set_fastpath_enabled, fast)
        copy, around = _fakes() if mode == "fake" else (_real_copy, None)
        observer = _Observer(seen)
        state = _lifted_state(model, copy, observer)
        inputs = _lifted_inputs((tuple(args), dict(named)), copy, observer)
        if around is not None:
            undo.enter_context(around)
        else:
            undo.enter_context(_leaving_mode(observer))
        undo.enter_context(_dispatch_mode(observer))
        result = torch.func.functional_call(model, state, *inputs, tie_weights=True, strict=False)
        seen.outputs = [observer.labels(tensor) for tensor in _main_outputs(result)]
    for output in seen.outputs:
        output.fix("output")
    if mode == "real":
        _fix_what_came_back(seen)
    return seen


class _Observer:
    """Which tensor has which labels, and what operations do to them."""

    def __init__(self, seen: Seen) -> None:
        from torch.utils.weak import WeakTensorKeyDictionary

        self.seen = seen
        self.of_tensor: Any = WeakTensorKeyDictionary()
        self.blank: dict[int, list[Labels]] = {}

    def attach(self, tensor: Any, labels: Labels) -> None:
        self.of_tensor[tensor] = labels
        self.seen.tensors.append(labels)
        if labels.blank:
            self.blank.setdefault(_storage(tensor), []).append(labels)

    def labels(self, tensor: Any) -> Labels:
        """Those of a tensor; one that the code made outside of torch has a fixed order."""
        if tensor not in self.of_tensor:
            self.attach(tensor, fixed_labels(tensor.shape, "constant", "constant"))
        labels: Labels = self.of_tensor[tensor]
        labels.used = True
        return labels

    def observe(self, operation: Any, name: str, args: Sequence[Any], named: Mapping[str, Any], result: Any) -> None:
        import torch

        results = [value for value in _flat(result) if isinstance(value, torch.Tensor)]
        if not results:
            return
        call = Call(
            name,
            [self._labelled(value) for value in args],
            {key: self._labelled(value) for key, value in named.items()},
            [tuple(value.shape) for value in results],
        )
        sources = call.raw_tensors
        for labels, tensor in zip(self._apply(operation, call), results, strict=True):
            labels.made_of += sources
            written = operation._schema.is_mutable and tensor is args[0]  # noqa: SLF001
            self.attach(tensor, labels)
            if written and not labels.blank:
                self._write(tensor, labels)
        for contraction in call.contractions:
            contraction.result = self.of_tensor[results[0]]
        self.seen.contractions += call.contractions
        self.seen.meetings += call.meetings
        self.seen.multiplied |= call.multiplied

    def _apply(self, operation: Any, call: Call) -> Sequence[Labels]:
        import torch

        rule = rule_of(call.name, pointwise=torch.Tag.pointwise in operation.tags, rules=ALL_RULES)
        if rule is not None:
            try:
                return rule(call)
            except Exception:  # noqa: BLE001 - arguments that no rule foresaw: as sound as an operation without one
                call.contractions.clear()
                call.meetings.clear()
        if any(not labels.blank and labels.kind != "constant" for labels in call.raw_tensors):
            self.seen.unknown[call.name] += 1
        return unknown(call)

    def _write(self, tensor: Any, labels: Labels) -> None:
        """Tensors of which a part was written are blank no more."""
        for other in self.blank.pop(_storage(tensor), []):
            other.blank, other.kind, other.names = False, labels.kind, labels.names
            other.made_of.append(labels)

    def _labelled(self, value: Any) -> Any:
        import torch

        if isinstance(value, torch.Tensor):
            return self.labels(value)
        if isinstance(value, list | tuple):
            return [self._labelled(item) for item in value]
        return value


def _dispatch_mode(observer: _Observer) -> Any:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Observing(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = "alias" if _keeps_places(operation, args) else operation.overloadpacket.__name__
            result = operation(*args, **(kwargs or {}))
            observer.observe(operation, name, args, kwargs or {}, result)
            return result

    return Observing()


def _keeps_places(operation: Any, args: Sequence[Any]) -> bool:
    """Whether an operation says the shape and the strides of a tensor anew and changes neither (global pooling)."""
    if not operation.overloadpacket.__name__.startswith("as_strided"):
        return False
    tensor, shape, strides = args[:3]
    same = zip(tensor.shape, tensor.stride(), strides, strict=False)
    return tuple(shape) == tuple(tensor.shape) and all(size == 1 or old == new for size, old, new in same)


def _fakes() -> tuple[Callable[[Any], Any], Any]:
    """A function that makes a tensor a fake one, and the mode in which fake tensors live."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode(allow_non_fake_inputs=True)

    def fake(tensor: Any) -> Any:
        with mode:
            return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")

    return fake, mode


def _real_copy(tensor: Any) -> Any:
    return tensor.detach().clone()


def _lifted_state(model: Any, copy: Callable[[Any], Any], observer: _Observer) -> dict[str, Any]:
    """The parameters and buffers to run with, by all their names; what is shared stays shared."""
    lifted: dict[int, tuple[Any, str]] = {}
    state: dict[str, Any] = {}

    def lift(name: str, tensor: Any) -> bool:
        new = id(tensor) not in lifted
        if new:
            lifted[id(tensor)] = (copy(tensor), name)
        state[name], first = lifted[id(tensor)]
        observer.seen.aliases.setdefault(first, []).append(name)
        return new

    for name, tensor in model.named_parameters(remove_duplicate=False):
        if lift(name, tensor):
            shape = tuple(tensor.shape)
            dims, stored = [free(size) for size in shape], Stored.whole(name, shape)
            labels = Labels(shape, dims, "parameter", names=frozenset([name]), stored=stored)
            observer.seen.parameters[name] = labels
            observer.attach(state[name], labels)
    for name, tensor in model.named_buffers(remove_duplicate=False):
        if lift(name, tensor):
            labels = Labels(tensor.shape, [free(size) for size in tensor.shape], "constant")
            observer.seen.buffers[name] = labels
            observer.attach(state[name], labels)
    return state


def _lifted_inputs(value: Any, copy: Callable[[Any], Any], observer: _Observer) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        tensor = copy(value)
        observer.attach(tensor, fixed_labels(value.shape, "input"))
        return tensor
    if isinstance(value, Mapping):
        return {key: _lifted_inputs(item, copy, observer) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_lifted_inputs(item, copy, observer) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(_lifted_inputs(item, copy, observer) for item in value)
    return value


def _main_outputs(result: Any) -> Iterator[Any]:
    """The tensors that mean something outside: the logits where a result has them, never the cached keys and values."""
    import torch

    for name in _MAIN_OUTPUTS:
        if isinstance(getattr(result, name, None), torch.Tensor):
            yield getattr(result, name)
            return
    yield from (value for value in _flat(result) if isinstance(value, torch.Tensor))


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def _storage(tensor: Any) -> int:
    place: int = tensor.untyped_storage()._cdata  # noqa: SLF001 - fake storages have no other identity
    return place


def _leaving_mode(observer: _Observer) -> Any:
    """Nothing is said about the order of what goes on outside of torch."""
    from torch.overrides import TorchFunctionMode

    class Leaving(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if getattr(function, "__name__", "") in _WAYS_OUT:
                observer.labels(args[0]).fix("it leaves torch")
            return function(*args, **(kwargs or {}))

    return Leaving()


def _fix_what_came_back(seen: Seen) -> None:
    """Where a weight meets nothing but constants, they may have come from outside: then nothing is interchangeable."""
    placed = {contraction.weight.names for contraction in seen.contractions}
    if any(frozenset([name]) not in placed for name in seen.multiplied):
        for labels in seen.tensors:
            labels.fix("it may have left torch")


@contextmanager
def _unchanged(model: Any) -> Iterator[None]:
    """Hooks of users do not run, nothing is compiled, and attributes that the forward pass sets are put back.

    Those hooks stay by which torch itself computes a weight (pruning, weight norm). A wiring needs no others, and
    theirs would see one call too many.
    """
    from torch.nn.modules import module as registry

    globals_ = [registry._global_forward_hooks, registry._global_forward_pre_hooks]  # noqa: SLF001
    saved_globals = [dict(hooks) for hooks in globals_]
    attributes = [(m, dict(m.__dict__)) for m in model.modules()]
    containers = [
        (value, value.copy())
        for _, saved in attributes
        for key, value in saved.items()
        if type(value) in {list, dict} or key in {"_parameters", "_buffers", "_modules"}
    ]
    try:
        for hooks in globals_:
            hooks.clear()
        for module, saved in attributes:
            module.__dict__["_forward_hooks"] = type(saved["_forward_hooks"])()
            ours = [(key, hook) for key, hook in saved["_forward_pre_hooks"].items() if _of_torch(hook)]
            module.__dict__["_forward_pre_hooks"] = type(saved["_forward_pre_hooks"])(ours)
            if saved.get("_compiled_call_impl") is not None:
                module.__dict__["_compiled_call_impl"] = None
            if "_orig_mod" in saved["_modules"]:
                module.__dict__["forward"] = saved["_modules"]["_orig_mod"].__call__
        yield
    finally:
        for hooks, saved_hooks in zip(globals_, saved_globals, strict=True):
            hooks.update(saved_hooks)
        for container, content in containers:
            container.clear()
            container.extend(content) if isinstance(container, list) else container.update(content)
        for module, saved in attributes:
            module.__dict__.clear()
            module.__dict__.update(saved)


def _of_torch(hook: Any) -> bool:
    """Whether torch wrote it, or the class that it derives from."""
    homes = [getattr(hook, "__module__", None), *(base.__module__ for base in type(hook).__mro__)]
    return any(str(home).startswith("torch.nn.utils") for home in homes)


@contextmanager
def _same_random_state(model: Any) -> Iterator[None]:
    """What draws random numbers during the trace takes none from the training."""
    import torch

    devices = {tensor.device for tensor in model.parameters() if tensor.is_cuda}
    python, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 - models use the global one
    try:
        with torch.random.fork_rng([device.index for device in devices]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)  # noqa: NPY002
