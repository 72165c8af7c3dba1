"""A file that a reader opens for itself and closes, and what plain Python raises about a damaged zip."""

from __future__ import annotations

import struct
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

Source = Path | bytes | BinaryIO

DAMAGED_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    OverflowError,
    IndexError,
    RuntimeError,  # encrypted members; NotImplementedError: zip features beyond Python's
)


class OpenedFile:
    """Closes at the end of a ``with`` what it opened, and leaves a stream that it was given open."""

    _owned: BinaryIO | None = None

    def _open_source(self, source: Source) -> BinaryIO:
        if isinstance(source, Path):
            self._owned = source.open("rb")
            return self._owned
        return BytesIO(source) if isinstance(source, bytes) else source

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, where this object opened it."""
        if self._owned is not None:
            self._owned.close()
