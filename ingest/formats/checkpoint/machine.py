"""The stack machine that a pickle is a program for, without the two things that make pickle dangerous.

It imports nothing and calls nothing of what the program names. Names with a meaning (``meanings``) become descriptions
of arrays; every other name becomes an ``Opaque`` that holds what it was given. What a program may cost is bounded
before it is paid: operations and bytes are counted, and copies are charged like anything else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from topostrata.errors import InvalidInputError, LimitError, TopostrataError
from topostrata.ingest.formats.checkpoint.described import Global, Opaque, text
from topostrata.ingest.formats.checkpoint.meanings import build, reduce
from topostrata.ingest.formats.checkpoint.opcodes import LONG, Stream, operations
from topostrata.ingest.formats.checkpoint.windows import Window

_MIB = 1 << 20
# Bytes that CPython takes, at the least, for a value, a container, and a member of a dictionary.
_VALUE, _CONTAINER, _ITEM, _SLOT = 40, 80, 110, 10
_MAX_NESTING = 4


@dataclass(slots=True)
class Budget:
    """What all pickles of one file together may cost; an honest state dict of 50,000 tensors stays below."""

    operations: int = 2_000_000
    memory: int = 192 * _MIB

    def charge(self, size: int, where: str) -> None:
        """Pay for ``size`` bytes of memory before they are taken."""
        self.memory -= size
        if self.memory < 0:
            raise LimitError(
                f"{where}: expected a pickle of arrays, found one whose other content takes too much memory",
                hint="save the arrays alone: torch.save(model.state_dict(), FILE)",
            )


class Machine:
    """One pickle program at a time: ``run`` gives what it describes, ``position`` is where it ended.

    The container answers what a stream itself cannot: ``persistent`` knows the references to data outside it, ``load``
    reads a checkpoint that is a string of the stream.
    """

    def __init__(self, window: Window, budget: Budget, load: Callable[[Machine], Any], nesting: int = 0) -> None:
        self.window = window
        self.where = window.where
        self.budget = budget
        self.nesting = nesting
        self.position = 0
        self.persistent: Callable[[Any], Any] = self._no_persistent
        self._load = load
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self, at: int = 0) -> Any:
        """What the program that begins at a byte of the window describes."""
        self._stack, self._below, self._memo = [], [], {}
        stream = Stream(self.window, at)
        budget = self.budget
        try:
            for name, argument in operations(stream):
                budget.operations -= 1
                if budget.operations < 0:
                    raise LimitError(
                        f"{self.where}: expected at most 2,000,000 operations of pickle, found more",
                        hint="save the arrays alone: torch.save(model.state_dict(), FILE)",
                    )
                step = self._STEPS.get(name)
                if step is None:
                    self.push(argument)
                else:
                    step(self, argument)
        except TopostrataError:
            raise
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, AttributeError) as error:
            raise self.damaged(f"damage before byte {self.window.start + stream.position:,}") from error
        self.position = stream.position
        self._memo = {}
        if len(self._stack) != 1 or self._below:
            raise self.damaged(f"{len(self._stack)} values left over")
        return self._stack.pop()

    def damaged(self, finding: str) -> InvalidInputError:
        """The one error of a program that is no sound pickle."""
        label = f"{self.window.label}: " if self.window.label else ""
        return InvalidInputError(
            f"{self.where}: {label}expected a sound pickle, found {finding}", hint="is the file cut off or damaged?"
        )

    def charge(self, size: int) -> None:
        """Pay for memory."""
        self.budget.charge(size, self.where)

    def push(self, value: Any) -> None:
        """Put a plain value on the stack."""
        self.charge(value.__sizeof__() if type(value) in (str, bytes) else _VALUE)
        self._stack.append(value)

    def set_items(self, into: Any, flat: list[Any]) -> None:
        """Put keys and values, one after another, into a dictionary or into an object that is like one."""
        target = into.items if isinstance(into, Opaque) else into
        if type(target) is not dict or len(flat) % 2:
            raise ValueError("items of something that is no dictionary")
        self.charge(_ITEM * (len(flat) // 2))
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            target[self._key(key, len(target))] = value

    def nested(self, window: Window) -> Any:
        """What a checkpoint inside this one describes, on the same budget."""
        if self.nesting >= _MAX_NESTING:
            raise LimitError(f"{self.where}: expected at most {_MAX_NESTING} pickles in each other, found more")
        return self._load(Machine(window, self.budget, self._load, self.nesting + 1))

    def _key(self, key: Any, position: int) -> str | int | bool | None:
        # Only keys whose hash and comparison cost nothing to speak of reach a dictionary: texts are of LONG bytes at
        # most, and floats can share a hash by the thousand.
        if key is None or isinstance(key, bool):
            return key
        if type(key) is int and -(2**63) <= key < 2**63:
            return key
        if type(key) is float:
            return str(key)
        if isinstance(key, Global):
            key = key.name
        elif type(key) is tuple and len(key) <= 8 and all(type(part) in (str, int, bool) for part in key):
            parts = [part if type(part) is str else hex(part) if abs(part) >= 2**63 else str(part) for part in key]
            key = f"({', '.join(part[:LONG] for part in parts)})"
        name = text(key)
        if name is None:
            return f"<key {position}>"
        return name

    def _no_persistent(self, _reference: Any) -> Any:
        raise InvalidInputError(
            f"{self.where}: expected all data inside the pickle, found a reference to data outside it",
            hint="is this the data.pkl of an unpacked checkpoint? read the checkpoint itself",
        )

    def _above_mark(self) -> list[Any]:
        values = self._stack
        self._stack = self._below.pop()
        return values

    def _nothing(self, _argument: Any) -> None:
        pass

    def _mark(self, _argument: Any) -> None:
        self.charge(_CONTAINER)
        self._below.append(self._stack)
        self._stack = []

    def _pop(self, _argument: Any) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._above_mark()

    def _pop_mark(self, _argument: Any) -> None:
        self._above_mark()

    def _duplicate(self, _argument: Any) -> None:
        self.charge(_SLOT)
        self._stack.append(self._stack[-1])

    def _put(self, index: int) -> None:
        self.charge(_ITEM)
        self._memo[index] = self._stack[-1]

    def _memoize(self, _argument: Any) -> None:
        self._put(len(self._memo))

    def _get(self, index: int) -> None:
        self.charge(_SLOT)
        self._stack.append(self._memo[index])

    def _container(self, value: Any) -> None:
        self.charge(_CONTAINER)
        self._stack.append(value)

    def _none(self, _argument: Any) -> None:
        self.push(None)

    def _true(self, _argument: Any) -> None:
        self.push(True)

    def _false(self, _argument: Any) -> None:
        self.push(False)

    def _empty_tuple(self, _argument: Any) -> None:
        self._container(())

    def _empty_list(self, _argument: Any) -> None:
        self._container([])

    def _empty_dict(self, _argument: Any) -> None:
        self._container({})

    def _empty_set(self, _argument: Any) -> None:
        self._object(Opaque("builtins.set"))

    def _object(self, value: Any) -> None:
        self.charge(4 * _CONTAINER)
        self._stack.append(value)

    def _tuple(self, _argument: Any) -> None:
        self._container(tuple(self._above_mark()))

    def _list(self, _argument: Any) -> None:
        self._container(self._above_mark())

    def _dict(self, _argument: Any) -> None:
        items: dict[Any, Any] = {}
        self.set_items(items, self._above_mark())
        self._container(items)

    def _frozenset(self, _argument: Any) -> None:
        self._object(Opaque("builtins.frozenset", elements=self._above_mark()))

    def _short_tuple(self, length: int) -> None:
        if len(self._stack) < length:
            raise IndexError("a tuple longer than the stack")
        values = tuple(self._stack[-length:])
        del self._stack[-length:]
        self._container(values)

    def _tuple_1(self, _argument: Any) -> None:
        self._short_tuple(1)

    def _tuple_2(self, _argument: Any) -> None:
        self._short_tuple(2)

    def _tuple_3(self, _argument: Any) -> None:
        self._short_tuple(3)

    def _append(self, _argument: Any) -> None:
        self._extend([self._stack.pop()])

    def _appends(self, _argument: Any) -> None:
        self._extend(self._above_mark())

    def _extend(self, values: list[Any]) -> None:
        self.charge(_SLOT * len(values))
        target = self._stack[-1]
        elements = target.elements if isinstance(target, Opaque) else target
        if type(elements) is not list:
            raise TypeError("elements of something that is no list")
        elements.extend(values)

    def _set_item(self, _argument: Any) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self.set_items(self._stack[-1], [key, value])

    def _set_items(self, _argument: Any) -> None:
        flat = self._above_mark()
        self.set_items(self._stack[-1], flat)

    def _global(self, name: str) -> None:
        self.charge(2 * _CONTAINER + len(name))
        self._stack.append(Global(name))

    def _stack_global(self, _argument: Any) -> None:
        name, module = text(self._stack.pop()), text(self._stack.pop())
        if name is None or module is None:
            raise TypeError("a name that is no text")
        self._global(f"{module}.{name}")

    def _reduce(self, _argument: Any) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        self._object(reduce(self, function, arguments))

    def _new_with_keywords(self, _argument: Any) -> None:
        keywords, arguments, kind = self._stack.pop(), self._stack.pop(), self._stack.pop()
        self._object(Opaque(kind.name if isinstance(kind, Global) else "?", arguments, keywords))

    def _instance(self, name: str) -> None:
        self._object(reduce(self, Global(name), tuple(self._above_mark())))

    def _object_of_class(self, _argument: Any) -> None:
        kind, *arguments = self._above_mark()
        self._object(reduce(self, kind, tuple(arguments)))

    def _build(self, _argument: Any) -> None:
        state = self._stack.pop()
        build(self, self._stack[-1], state)

    def _refer(self, reference: str) -> None:
        self._object(self.persistent(reference))

    def _refer_to_top(self, _argument: Any) -> None:
        self._object(self.persistent(self._stack.pop()))

    _STEPS: ClassVar[dict[str, Callable[[Machine, Any], None]]] = {
        "PROTO": _nothing,
        "FRAME": _nothing,
        "STOP": _nothing,
        "MARK": _mark,
        "POP": _pop,
        "POP_MARK": _pop_mark,
        "DUP": _duplicate,
        "PUT": _put,
        "BINPUT": _put,
        "LONG_BINPUT": _put,
        "MEMOIZE": _memoize,
        "GET": _get,
        "BINGET": _get,
        "LONG_BINGET": _get,
        "NONE": _none,
        "NEWTRUE": _true,
        "NEWFALSE": _false,
        "EMPTY_TUPLE": _empty_tuple,
        "EMPTY_LIST": _empty_list,
        "EMPTY_DICT": _empty_dict,
        "EMPTY_SET": _empty_set,
        "TUPLE": _tuple,
        "TUPLE1": _tuple_1,
        "TUPLE2": _tuple_2,
        "TUPLE3": _tuple_3,
        "LIST": _list,
        "DICT": _dict,
        "FROZENSET": _frozenset,
        "APPEND": _append,
        "APPENDS": _appends,
        "ADDITEMS": _appends,
        "SETITEM": _set_item,
        "SETITEMS": _set_items,
        "GLOBAL": _global,
        "STACK_GLOBAL": _stack_global,
        "REDUCE": _reduce,
        "NEWOBJ": _reduce,
        "NEWOBJ_EX": _new_with_keywords,
        "INST": _instance,
        "OBJ": _object_of_class,
        "BUILD": _build,
        "PERSID": _refer,
        "BINPERSID": _refer_to_top,
    }
