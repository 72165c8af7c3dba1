"""Matrix Market files (``.mtx``): one matrix, sparse or dense, line by line.

The format is that of Boisvert, Pozo and Remington, "The Matrix Market Exchange Formats" (NISTIR 5935, 1996). The sizes
that a file claims are compared with the bytes that are there before anything is allocated. SciPy's reader is no choice
here: SciPy 1.17 dies where one byte of a file is wrong.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from topostrata.errors import InvalidInputError, LimitError, TopostrataError
from topostrata.ingest.formats.limits import DEFAULT, Limits
from topostrata.ingest.formats.stored import Entries, StoredArray, check_shape, summed

LONE = "matrix"
_LINE = 4096
_BANNER = re.compile(
    rb"%%MatrixMarket\s+matrix\s+(?P<layout>coordinate|array)\s+(?P<field>real|double|integer|unsigned-integer|complex"
    rb"|pattern)\s+(?P<symmetry>general|symmetric|skew-symmetric|hermitian)\s*",
    re.IGNORECASE,
)
_DTYPES = {"complex": "complex128", "integer": "int64", "unsigned-integer": "uint64"}


@dataclass(frozen=True, slots=True)
class _Claims:
    """What the first lines of a file say; the entries begin at byte ``at``."""

    sparse: bool
    field: str
    symmetry: str
    shape: tuple[int, int]
    count: int
    at: int

    @property
    def dtype(self) -> str:
        return _DTYPES.get(self.field, "float64")

    @property
    def columns(self) -> list[tuple[str, str]]:
        """The numbers of a line."""
        places = [("row", "i8"), ("column", "i8")] if self.sparse else []
        part = {"integer": "i8", "unsigned-integer": "u8"}.get(self.field, "f8")
        values = [] if self.field == "pattern" else [("value", part)]
        return places + values + ([("imaginary", "f8")] if self.field == "complex" else [])


def matrix_market(source: Path | bytes, *, where: str, limits: Limits = DEFAULT) -> StoredArray:
    """The one matrix of an ``.mtx`` file: sparse (``coo``) or dense, as its first line says."""
    with opened(source, where) as stream:
        claims = _claims(stream, where)
        rest = stream.seek(0, 2) - claims.at
    rows, columns = claims.shape
    if claims.sparse:
        limits.check_entries(where, claims.count if claims.symmetry == "general" else 2 * claims.count)
    else:
        limits.check(where, total_bytes=rows * columns * np.dtype(claims.dtype).itemsize)
    shortest = 2 * len(claims.columns)  # a digit and what parts it from the next
    if claims.count * shortest > rest + 1:
        raise InvalidInputError(
            f"{where}: expected {claims.count:,} entries in {rest:,} bytes, found room for {(rest + 1) // shortest:,}",
            hint="is the file cut off?",
        )
    check_shape(claims.shape, 1, where=where)
    layout = "coo" if claims.sparse else "dense"
    read = partial(_read, source, claims, where)
    return StoredArray(LONE, claims.shape, claims.dtype, layout, f"byte {claims.at:,}", read)


@contextmanager
def opened(source: Path | bytes, where: str) -> Iterator[BinaryIO]:
    """The bytes of a source; whatever a parser raises about them becomes one error that names the file."""
    with one_error(where), BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
        yield stream


@contextmanager
def one_error(where: str) -> Iterator[None]:
    """Whatever a parser raises about a damaged file becomes one error that names it."""
    try:
        yield
    except TopostrataError:
        raise
    except OSError as error:
        raise InvalidInputError(f"{where}: expected a readable file, found: {error.strerror or error}") from error
    except MemoryError as error:
        raise LimitError(f"{where}: expected a matrix that fits into memory, found a larger one") from error
    except Exception as error:  # zlib.error, struct.error, and what the parsers of libraries raise and warn of
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InvalidInputError(f"{where}: expected an intact file, found: {reason}") from error


def _claims(stream: BinaryIO, where: str) -> _Claims:
    banner = _BANNER.fullmatch(stream.readline(_LINE).rstrip())
    if banner is None:
        raise InvalidInputError(
            f"{where}: expected a first line '%%MatrixMarket matrix coordinate real general' or the like, found another"
        )
    line = stream.readline(_LINE)
    while line.startswith(b"%") or (line and not line.strip()):
        line = stream.readline(_LINE)
    layout, field, symmetry = (banner[part].lower().decode() for part in ("layout", "field", "symmetry"))
    sparse = layout == "coordinate"
    numbers = line.split()
    if len(numbers) != (3 if sparse else 2) or not all(n.isdigit() and len(n) < 19 for n in numbers):
        raise InvalidInputError(f"{where}: expected a line of {3 if sparse else 2} sizes, found {line[:60]!r}")
    rows, columns = int(numbers[0]), int(numbers[1])
    if (symmetry != "general" and rows != columns) or (field == "pattern" and not sparse):
        raise InvalidInputError(f"{where}: expected a matrix as its first line says, found {rows} x {columns}")
    if sparse:
        count = int(numbers[2])
    elif symmetry == "general":
        count = rows * columns
    else:
        count = rows * (rows - 1 if symmetry == "skew-symmetric" else rows + 1) // 2
    return _Claims(sparse, field, symmetry, (rows, columns), count, stream.tell())


def _read(source: Path | bytes, claims: _Claims, where: str) -> NDArray[Any] | Entries:
    with opened(source, where) as stream:
        table = _table(stream, claims, where)
        if claims.field == "pattern":
            values: NDArray[Any] = np.ones(claims.count)
        elif claims.field == "complex":
            values = table["value"] + 1j * table["imaginary"]
        else:
            values = table["value"]
        if claims.sparse:
            positions = np.stack([table["row"] - 1, table["column"] - 1], axis=1)
            beside = positions[:, 0] != positions[:, 1]
        elif claims.symmetry == "general":
            return values.reshape(claims.shape, order="F")
        else:  # the lower triangle, column by column
            column, row = np.triu_indices(claims.shape[0], k=int(claims.symmetry == "skew-symmetric"))
            positions, beside = np.stack([row, column], axis=1), row != column
        if claims.symmetry != "general":
            positions = np.concatenate([positions, positions[beside][:, ::-1]])
            values = np.concatenate([values, _mirrored(values[beside], claims.symmetry)])
        entries = summed(positions, values, claims.shape, where=where)
    if claims.sparse:
        return entries
    matrix = np.zeros(claims.shape, values.dtype)
    matrix[tuple(entries.positions.T)] = entries.values
    return matrix


def _table(stream: BinaryIO, claims: _Claims, where: str) -> NDArray[Any]:
    """The numbers of all lines, as many as were promised."""
    if claims.count == 0:
        return np.zeros(0, claims.columns)
    stream.seek(claims.at)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # NumPy only warns of whole numbers that are none
        table: NDArray[Any] = np.loadtxt(stream, dtype=claims.columns, comments="%", encoding="latin-1", ndmin=1)
    if len(table) != claims.count:
        raise InvalidInputError(f"{where}: expected {claims.count:,} entries, found {len(table):,}")
    return table


def _mirrored(values: NDArray[Any], symmetry: str) -> NDArray[Any]:
    if symmetry == "symmetric":
        return values
    mirrored: NDArray[Any] = -values if symmetry == "skew-symmetric" else values.conj()
    return mirrored
