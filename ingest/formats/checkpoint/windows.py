"""Bytes of a file by position: what is read was bounded before, and nothing beyond the file's end is believed."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import BinaryIO, Literal

from topostrata.errors import InvalidInputError

_CHUNK = 1 << 20


def printable(text: str, most: int = 200) -> str:
    """A text out of a file as it may stand in a message: escaped where it could not be shown, and not too long."""
    shown = text[:most]
    return shown if shown.isprintable() else ascii(shown)[1:-1]


class Window:
    """A part of an open file. ``where`` begins every error, ``label`` names the part."""

    def __init__(self, stream: BinaryIO, start: int, size: int, *, where: str, label: str = "") -> None:
        self.stream = stream
        self.start = start
        self.size = size
        self.where = where
        self.label = label

    @classmethod
    def whole(cls, stream: BinaryIO, *, where: str) -> Window:
        """The whole of a file."""
        return cls(stream, 0, stream.seek(0, 2), where=where)

    @property
    def place(self) -> str:
        """Where the part lies, for people."""
        at = f"byte {self.start:,}"
        return f"{self.label}, {at}" if self.label else at

    def window(self, at: int, size: int, label: str = "") -> Window:
        """A part of this part; one that reaches over the end is refused."""
        if at < 0 or size < 0 or at + size > self.size:
            raise InvalidInputError(
                f"{self.where}: {label or self.label or 'data'}: expected {max(size, 0):,} bytes at byte "
                f"{self.start + max(at, 0):,}, found the end after {max(self.size - max(at, 0), 0):,}",
                hint="is the file cut off?",
            )
        return Window(self.stream, self.start + at, size, where=self.where, label=label or self.label)

    def read(self, at: int, size: int) -> bytes:
        """Exactly ``size`` bytes."""
        part = self.window(at, size)
        self.stream.seek(part.start)
        data = self.stream.read(size)
        if len(data) != size:
            raise InvalidInputError(
                f"{self.where}: expected {size:,} bytes at byte {part.start:,}, found {len(data):,}",
                hint="is the file still being written?",
            )
        return data


class Record(Window):
    """A member of a zip file; its checksum, where it has one, must hold before a byte of it is believed."""

    def __init__(self, whole: Window, start: int, size: int, *, name: str, crc: int | None) -> None:
        part = whole.window(start, size, printable(name))
        super().__init__(part.stream, part.start, part.size, where=part.where, label=part.label)
        self._crc = crc

    def read(self, at: int, size: int) -> bytes:
        """Exactly ``size`` bytes, of a member whose checksum holds."""
        if self._crc is not None:
            crc = 0
            for begin in range(0, self.size, _CHUNK):
                crc = zlib.crc32(super().read(begin, min(_CHUNK, self.size - begin)), crc)
            if crc != self._crc:
                raise InvalidInputError(
                    f"{self.where}: member {self.label!r}: expected checksum {self._crc:08x}, found {crc:08x}",
                    hint="the file was damaged after it was written",
                )
            self._crc = None
        return super().read(at, size)


@dataclass(frozen=True, slots=True)
class Span:
    """A long string of a pickle, left in the file: raw bytes, or text in UTF-8 that stands for bytes in latin-1."""

    window: Window
    kind: Literal["bytes", "text"] = "bytes"

    def read(self) -> bytes:
        """The bytes."""
        data = self.window.read(0, self.window.size)
        if self.kind == "bytes":
            return data
        try:
            return data.decode("utf-8").encode("latin-1")
        except UnicodeError as error:
            raise InvalidInputError(
                f"{self.window.where}: {self.window.place}: expected bytes written as latin-1 text, found other text"
            ) from error
