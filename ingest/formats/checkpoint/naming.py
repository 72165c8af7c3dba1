"""A name for every array of a checkpoint: what is nested is flattened by one rule.

* A dictionary gives its keys, a list or tuple the positions from 0, an object the names of its attributes; they are
  joined by dots: ``{"net": {"fc1": [w, m]}}`` holds ``net.fc1.0`` and ``net.fc1.1``. Keys are not changed: ``a/b:0`` is
  a name. A number as a key is written in decimal, a tuple as ``(a, 1)``, a key that is none of these as ``<key 3>`` by
  its position.
* A module saved whole gives the names of its ``state_dict()``, and beside them the arrays among its attributes.
  Buffers that ``state_dict()`` leaves out are left out.
* An object's arguments are ``args.0``, ``args.1``; an array of objects is a list.
* A file that is one array calls it ``array``.

Where two arrays would have one name, the first has it and the other is left out. The walk has a bounded length: a
dictionary that contains itself, or another a million times, ends it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from topostrata.errors import InvalidInputError, LimitError, TopostrataError
from topostrata.ingest.formats.checkpoint.described import (
    NumpyArray,
    Opaque,
    SparseTensor,
    Storage,
    Tensor,
    Unread,
    text,
)
from topostrata.ingest.formats.checkpoint.machine import Budget
from topostrata.ingest.formats.checkpoint.scipy_matrices import scipy_matrix
from topostrata.ingest.formats.checkpoint.tensors import read_array, read_sparse, read_tensor
from topostrata.ingest.formats.checkpoint.windows import Span, printable
from topostrata.ingest.formats.limits import Limits
from topostrata.ingest.formats.stored import LeftOut, StoredArray

LONE = "array"
_ARGUMENTS = ("model_args", "hyper_parameters", "hparams", "config", "model_config")
_MAX_DEPTH = 200
_MAX_STEPS = 2_000_000
_MAX_NAME = 1000
_PLAIN = (str, int, float, bytes, type(None), Span)
_MAX_LEFT_OUT = 200
_ARRAY_COST = 1000
_ROOT = "(the whole)"
# TorchScript's own classes only hold its parameters; the others are values that many files have.
_UNREMARKABLE = re.compile(r"builtins\.set|builtins\.frozenset|torch\.device|__torch__\..*", re.DOTALL)


@dataclass(slots=True)
class Names:
    """The arrays of a file by name, in the file's order, and what was left out."""

    where: str
    limits: Limits
    budget: Budget
    arrays: dict[str, StoredArray] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    _not_listed: int = 0

    def collect(self, root: Any) -> None:
        """Walk through all that a checkpoint describes."""
        todo: list[tuple[str, int, Iterator[tuple[str, Any]]]] = [("", 0, iter([("", root)]))]
        above: set[int] = set()
        met: set[int] = set()
        for _ in range(_MAX_STEPS):
            name, identity, rest = todo[-1]
            key, value = next(rest, (None, None))
            if key is None:
                todo.pop()
                above.discard(identity)
                if not todo:
                    self._close()
                    return
                continue
            if isinstance(value, _PLAIN):
                continue
            label = f"{name}.{key}" if name and key else name or key
            if self._leaf(label, value):
                continue
            parts = self._parts(label, value, met)
            if parts is None:
                continue
            if id(value) in above:
                self._leave_out(label, "a container", "it contains itself")
                continue
            if len(todo) > _MAX_DEPTH:
                raise LimitError(f"{self.where}: expected at most {_MAX_DEPTH} containers in each other, found more")
            above.add(id(value))
            todo.append((label[: _MAX_NAME + 1], id(value), parts))
        raise LimitError(
            f"{self.where}: expected at most {_MAX_STEPS:,} values, counting shared ones each time, found more",
            hint="save the arrays alone: torch.save(model.state_dict(), FILE)",
        )

    def add(self, array: StoredArray) -> None:
        """Take an array under its name, unless another has it."""
        if not array.name.isprintable():
            raise InvalidInputError(
                f"{self.where}: expected printable names of arrays, found {array.name[:80]!a}",
                hint="rename it where the file is written",
            )
        self.budget.charge(_ARRAY_COST + len(array.name), self.where)
        if array.name in self.arrays:
            self._leave_out(array.name, f"an array of shape {array.shape}", "another array has this name")
        elif len(array.name) > _MAX_NAME:
            self._leave_out(array.name, f"an array of shape {array.shape}", f"its name is over {_MAX_NAME} characters")
        else:
            self.arrays[array.name] = array

    def _leave_out(self, name: str, what: str, why: str) -> None:
        if len(self.left_out) < _MAX_LEFT_OUT:
            shown = printable(name, _MAX_NAME) or _ROOT
            self.left_out.append(LeftOut(shown, printable(what, _MAX_NAME), why))
        else:
            self._not_listed += 1

    def _close(self) -> None:
        if self._not_listed:
            self.left_out.append(LeftOut("", f"{self._not_listed:,} more", "the list ends here"))

    def _leaf(self, name: str, value: Any) -> bool:
        """Whether the value is no container; an array is taken on the way."""
        name = name or LONE
        at = f"{self.where}: array {name[:200]!r}"
        if isinstance(value, Tensor):
            read = partial(_read, read_tensor, value, where=at, limits=self.limits)
            self.add(StoredArray(name, value.shape, value.dtype, "dense", value.place, read))
        elif isinstance(value, SparseTensor):
            sparse = partial(_read, read_sparse, value, where=at, limits=self.limits)
            place = value.values.place
            self.add(StoredArray(name, value.shape, value.values.dtype, value.layout, place, sparse, pattern=True))
        elif isinstance(value, NumpyArray) and type(value.data) is not list:
            self._numpy_array(name, value, at)
        elif isinstance(value, Opaque):
            matrix = scipy_matrix(value, name, where=at, limits=self.limits)
            if matrix is None:
                return False
            if isinstance(matrix, LeftOut):
                self._leave_out(matrix.name, matrix.what, matrix.why)
            else:
                self.add(matrix)
        elif isinstance(value, Unread):
            self._leave_out(name, value.what, value.why)
        elif isinstance(value, Storage):
            self._leave_out(name, f"a storage of {value.length:,} entries", "it has no shape")
        else:
            return not isinstance(value, (dict, list, tuple, NumpyArray))  # a class's name, a dtype
        return True

    def _numpy_array(self, name: str, array: NumpyArray, at: str) -> None:
        dtype = array.dtype.dtype if array.dtype else None
        if array.dtype is None:
            self._leave_out(name, "an array", "it was never filled")
        elif dtype is None or dtype.kind not in "biufc" or dtype.itemsize > (16 if dtype.kind == "c" else 8):
            self._leave_out(name, f"an array of dtype {array.dtype.name}, shape {array.shape}", "it holds no numbers")
        else:
            place = array.data.window.place if isinstance(array.data, Span) else "in the pickle itself"
            read = partial(_read, read_array, array, where=at, limits=self.limits)
            self.add(StoredArray(name, array.shape, dtype.name, "dense", place, read))

    def _parts(self, name: str, value: Any, met: set[int]) -> Iterator[tuple[str, Any]] | None:
        if isinstance(value, dict):
            return ((key if type(key) is str else str(key), part) for key, part in value.items())
        if isinstance(value, NumpyArray):
            return _numbered(value.data) if value.shape else iter([("", value.data[0])])  # type: ignore[index,arg-type]  # a list, as _leaf saw
        if not isinstance(value, Opaque):
            return _numbered(value)
        if isinstance(value.state, dict) and isinstance(value.state.get("_parameters"), dict):
            return self._module(name, value.state)
        if id(value) in met:
            return None  # Objects of unknown classes often know each other; each is looked at once.
        met.add(id(value))
        if not _UNREMARKABLE.fullmatch(value.name):
            self._leave_out(name, f"an object of {value.name}", "objects are not made; arrays inside it are read")
        return _attributes(value)

    def _module(self, name: str, state: dict[Any, Any]) -> Iterator[tuple[str, Any]]:
        passing = state.get("_non_persistent_buffers_set")
        passing_names = {text(part) for part in passing.elements} if isinstance(passing, Opaque) else set()
        for part in ("_parameters", "_buffers", "_modules"):
            members = state.get(part)
            for key, value in members.items() if isinstance(members, dict) else ():
                if part == "_buffers" and key in passing_names:
                    self._leave_out(f"{name}.{key}" if name else str(key), "a buffer", "state_dict() leaves it out too")
                else:
                    yield str(key), value
        for key, value in state.items():
            if isinstance(value, (Tensor, SparseTensor, NumpyArray)):
                yield str(key), value


def numbers_of(root: Any) -> dict[str, int | float]:
    """The plain numbers beside the arrays of a checkpoint (epoch, step), from its outermost dictionary.

    So are those of the arguments that the network was made with, as ``model_args.n_head``.
    """
    if not isinstance(root, dict):
        return {}
    every = dict(root)
    for name in _ARGUMENTS:
        if isinstance(arguments := root.get(name), dict):
            every |= {f"{name}.{key}": value for key, value in arguments.items() if type(key) is str}
    return {
        key: value
        for key, value in every.items()
        if type(key) is str and key.isprintable()
        if (type(value) is int and abs(value) < 2**63) or (type(value) is float and math.isfinite(value))
    }


def _read(function: Callable[..., Any], described: Any, *, where: str, limits: Limits) -> Any:
    """An array's numbers; what NumPy refuses to build from parts that do not fit is one error that names the array."""
    try:
        return function(described, where=where, limits=limits)
    except TopostrataError:
        raise
    except MemoryError as error:
        raise LimitError(f"{where}: expected an array that fits into memory, found a larger one") from error
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise InvalidInputError(f"{where}: expected parts that fit together, found others") from error


def _numbered(values: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    return ((str(k), value) for k, value in enumerate(values))


def _attributes(value: Opaque) -> Iterator[tuple[str, Any]]:
    # Objects with slots have a pair: the attributes in the dictionary, those in the slots.
    states = value.state if type(value.state) is tuple and len(value.state) == 2 else (value.state,)
    for state in states:
        if isinstance(state, dict):
            yield from ((str(key), part) for key, part in state.items())
        elif state is not None:
            yield "state", state
    yield from ((str(key), part) for key, part in value.items.items())
    yield from _numbered(value.elements)
    if value.args != ():
        yield "args", value.args
