"""The alphabet of pickle: which byte is which operation, and what follows it in the stream.

Numbering and names are those of Python's ``pickletools`` (protocols 0 to 5; PEP 307, PEP 3154, PEP 574). An argument is
decoded to a plain value; a string longer than ``LONG`` bytes stays in the file as a ``Span``.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from typing import Any

from topostrata.errors import InvalidInputError, LimitError
from topostrata.ingest.formats.checkpoint.windows import Span, Window

LONG = 4096
_CHUNK = 1 << 16
_MAX_LINE = 1 << 24
_MAX_INTEGER = 16

_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPED = {b"\\": b"\\", b"'": b"'", b'"': b'"', b"n": b"\n", b"r": b"\r", b"t": b"\t"}


class TooLargeInteger:
    """Stands for an integer of a pickle that is beyond 128 bits: it is no size, step or key of anything."""


class Stream:
    """The bytes of a pickle, one after another, through a small buffer."""

    def __init__(self, window: Window, at: int = 0) -> None:
        self.window = window
        self._begin = at
        self._buffer = b""
        self._cursor = 0

    @property
    def position(self) -> int:
        """Bytes of the window that have been taken."""
        return self._begin + self._cursor

    def take(self, size: int) -> bytes:
        """The next bytes."""
        end = self._cursor + size
        if end > len(self._buffer):
            self._fill(size)
            end = size
        data = self._buffer[self._cursor : end]
        self._cursor = end
        return data

    def line(self) -> bytes:
        """The bytes before the next line end, which is taken too."""
        length = _CHUNK
        while True:
            end = self._buffer.find(b"\n", self._cursor)
            if end >= 0:
                data = self._buffer[self._cursor : end]
                self._cursor = end + 1
                return data
            rest = self.window.size - self.position
            if length > _MAX_LINE or len(self._buffer) - self._cursor >= rest:
                raise ValueError("a line without an end")
            self._fill(1, length)
            length *= 8

    def span(self, size: int) -> Span:
        """The next bytes, left where they are."""
        part = self.window.window(self.position, size)
        self._begin, self._buffer, self._cursor = self.position + size, b"", 0
        return Span(part)

    def _fill(self, size: int, chunk: int = _CHUNK) -> None:
        begin = self.position
        self._buffer = self.window.read(begin, max(size, min(chunk, self.window.size - begin)))
        self._begin, self._cursor = begin, 0


def operations(stream: Stream) -> Iterator[tuple[str, Any]]:
    """Name and argument of every operation, through ``STOP``."""
    while True:
        code = stream.take(1)[0]
        operation = OPERATIONS.get(code)
        if operation is None:
            raise InvalidInputError(
                f"{stream.window.where}: byte {stream.window.start + stream.position - 1:,}: expected an operation "
                f"of a checkpoint's pickle, found {REFUSED.get(code, f'byte {code:#04x}')}"
            )
        name, read = operation
        yield name, read(stream) if read else None
        if name == "STOP":
            return


def _number(form: str) -> Callable[[Stream], Any]:
    unpack, size = struct.Struct(form).unpack, struct.calcsize(form)

    def read(stream: Stream) -> Any:
        return unpack(stream.take(size))[0]

    return read


def _counted(form: str, *, text: bool = False) -> Callable[[Stream], str | bytes | Span]:
    count = _number(form)

    def read(stream: Stream) -> str | bytes | Span:
        size = count(stream)
        if size < 0:
            raise ValueError("a negative length")
        if size > LONG:
            span = stream.span(size)
            return Span(span.window, "text") if text else span
        data = stream.take(size)
        return data.decode("utf-8", "surrogatepass") if text else data

    return read


def _integer(form: str) -> Callable[[Stream], int | TooLargeInteger]:
    count = _number(form)

    def read(stream: Stream) -> int | TooLargeInteger:
        size = count(stream)
        if size < 0:
            raise ValueError("a negative length")
        if size > _MAX_INTEGER:
            stream.span(size)
            return TooLargeInteger()
        return int.from_bytes(stream.take(size), "little", signed=True)

    return read


def _decimal(stream: Stream) -> int | bool | TooLargeInteger:
    line = stream.line()
    if line in (b"00", b"01"):
        return line == b"01"
    line = line.removesuffix(b"L")
    return int(line) if len(line) <= 39 else TooLargeInteger()


def _index(stream: Stream) -> int:
    line = stream.line()
    if not line.isdigit() or len(line) > 10:
        raise ValueError("a place in the memo that is no number")
    return int(line)


def _float(stream: Stream) -> float:
    return float(stream.line()[:64])


def _quoted(stream: Stream) -> bytes:
    line = stream.line()
    if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
        raise ValueError("a string without quotes")
    return _ESCAPE.sub(_unescape, line[1:-1])


def _unescape(match: re.Match[bytes]) -> bytes:
    escape = match[1]
    return bytes([int(escape[1:], 16)]) if len(escape) == 3 else _ESCAPED[escape]


def _raw_text(stream: Stream) -> str:
    return str(stream.line(), "raw-unicode-escape")


def _name(stream: Stream) -> str:
    module, name = stream.line(), stream.line()
    if len(module) + len(name) > LONG:
        raise ValueError("a name that is too long")
    return f"{module.decode()}.{name.decode()}"


def _reference(stream: Stream) -> str:
    return stream.line()[:LONG].decode("ascii")


def _protocol(stream: Stream) -> int:
    protocol = stream.take(1)[0]
    if protocol > 5:
        raise LimitError(f"{stream.window.where}: expected pickle protocol 0 to 5, found {protocol}")
    return protocol


OPERATIONS: dict[int, tuple[str, Callable[[Stream], Any] | None]] = {
    ord("I"): ("INT", _decimal),
    ord("J"): ("BININT", _number("<i")),
    ord("K"): ("BININT1", _number("<B")),
    ord("M"): ("BININT2", _number("<H")),
    ord("L"): ("LONG", _decimal),
    0x8A: ("LONG1", _integer("<B")),
    0x8B: ("LONG4", _integer("<i")),
    ord("S"): ("STRING", _quoted),
    ord("T"): ("BINSTRING", _counted("<i")),
    ord("U"): ("SHORT_BINSTRING", _counted("<B")),
    ord("B"): ("BINBYTES", _counted("<I")),
    ord("C"): ("SHORT_BINBYTES", _counted("<B")),
    0x8E: ("BINBYTES8", _counted("<Q")),
    0x96: ("BYTEARRAY8", _counted("<Q")),
    ord("N"): ("NONE", None),
    0x88: ("NEWTRUE", None),
    0x89: ("NEWFALSE", None),
    ord("V"): ("UNICODE", _raw_text),
    0x8C: ("SHORT_BINUNICODE", _counted("<B", text=True)),
    ord("X"): ("BINUNICODE", _counted("<I", text=True)),
    0x8D: ("BINUNICODE8", _counted("<Q", text=True)),
    ord("F"): ("FLOAT", _float),
    ord("G"): ("BINFLOAT", _number(">d")),
    ord("]"): ("EMPTY_LIST", None),
    ord("a"): ("APPEND", None),
    ord("e"): ("APPENDS", None),
    ord("l"): ("LIST", None),
    ord(")"): ("EMPTY_TUPLE", None),
    ord("t"): ("TUPLE", None),
    0x85: ("TUPLE1", None),
    0x86: ("TUPLE2", None),
    0x87: ("TUPLE3", None),
    ord("}"): ("EMPTY_DICT", None),
    ord("d"): ("DICT", None),
    ord("s"): ("SETITEM", None),
    ord("u"): ("SETITEMS", None),
    0x8F: ("EMPTY_SET", None),
    0x90: ("ADDITEMS", None),
    0x91: ("FROZENSET", None),
    ord("0"): ("POP", None),
    ord("2"): ("DUP", None),
    ord("("): ("MARK", None),
    ord("1"): ("POP_MARK", None),
    ord("g"): ("GET", _index),
    ord("h"): ("BINGET", _number("<B")),
    ord("j"): ("LONG_BINGET", _number("<I")),
    ord("p"): ("PUT", _index),
    ord("q"): ("BINPUT", _number("<B")),
    ord("r"): ("LONG_BINPUT", _number("<I")),
    0x94: ("MEMOIZE", None),
    ord("c"): ("GLOBAL", _name),
    0x93: ("STACK_GLOBAL", None),
    ord("R"): ("REDUCE", None),
    ord("b"): ("BUILD", None),
    ord("i"): ("INST", _name),
    ord("o"): ("OBJ", None),
    0x81: ("NEWOBJ", None),
    0x92: ("NEWOBJ_EX", None),
    0x80: ("PROTO", _protocol),
    ord("."): ("STOP", None),
    0x95: ("FRAME", _number("<Q")),
    ord("P"): ("PERSID", _reference),
    ord("Q"): ("BINPERSID", None),
}

# Operations that reach outside the stream; no checkpoint has them.
REFUSED = {0x82: "EXT1", 0x83: "EXT2", 0x84: "EXT4", 0x97: "NEXT_BUFFER", 0x98: "READONLY_BUFFER"}
