"""One snapshot as a directory of layers, as the SET scripts leave it: ``weight_l0.npz``, ``weight_l1.npz``, ...

Each file is a matrix of SciPy, rows = sources.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from topostrata.errors import InvalidInputError
from topostrata.ingest.formats.again import or_again
from topostrata.ingest.formats.array_file import ArrayFile
from topostrata.ingest.formats.limits import Limits
from topostrata.ingest.formats.safe_npz import SafeNpz
from topostrata.ingest.formats.scipy_parts import PARTS, scipy_array
from topostrata.ingest.formats.stored import Entries, LeftOut, StoredArray

_WRITER = "scipy.sparse.save_npz"
_LAYER = re.compile(r"weights?_l(\d+)\.npz", re.ASCII | re.IGNORECASE)


def has_layer_files(directory: Path) -> bool:
    """Whether a directory holds layers, one in a file."""
    return any(_LAYER.fullmatch(path.name) for path in children(directory))


def read_layer_files(directory: Path, limits: Limits) -> ArrayFile:
    """The layers of a directory by name (``l0``, ``l1``, ...); each file is opened again when its layer is read."""
    arrays: dict[str, StoredArray] = {}
    files = _files(directory)
    for name, path in files.items():
        with or_again(path, _WRITER), _opened(path, limits) as npz:
            stored = scipy_array(npz, name, "", limits)
        read = _reader(name, path, stored.shape, limits)
        arrays[name] = StoredArray(name, stored.shape, stored.dtype, stored.layout, path.name, read)
    others = sorted(path.name for path in children(directory) if path.suffix == ".npz" and path not in files.values())
    left_out = tuple(LeftOut(name, "a file", "its name is not weight_l<k>.npz") for name in others)
    at = {name: str(path) for name, path in files.items()}
    return ArrayFile(str(directory), arrays, "in-out", sure=True, in_order=True, left_out=left_out, files=at)


def children(directory: Path) -> list[Path]:
    """What lies in a directory, by name."""
    try:
        return sorted(directory.iterdir())
    except OSError as error:
        raise InvalidInputError(f"{directory}: expected a readable directory, found: {error.strerror}") from error


def _files(directory: Path) -> dict[str, Path]:
    numbered: dict[int, Path] = {}
    for path in children(directory):
        match = _LAYER.fullmatch(path.name)
        if match is None:
            continue
        number = int(match[1][:18])
        if number in numbered:
            raise InvalidInputError(
                f"{directory}: expected every layer once, found {numbered[number].name} and {path.name}"
            )
        numbered[number] = path
    if not numbered:
        raise InvalidInputError(f"{directory}: expected layer files weight_l0.npz, weight_l1.npz, ..., found none")
    numbers = sorted(numbered)
    start = 1 if numbers[0] else 0
    expected = list(range(start, start + len(numbers)))
    if numbers != expected:
        missing = next(number for number in expected if number not in numbered)
        raise InvalidInputError(
            f"{directory}: expected weight_l0.npz (or weight_l1.npz) and on without gaps, "
            f"found no weight_l{missing}.npz "
            f"beside {', '.join(numbered[number].name for number in numbers[:8])}"
        )
    return {f"l{number}": numbered[number] for number in numbers}


def _opened(path: Path, limits: Limits) -> SafeNpz:
    npz = SafeNpz(path, where=str(path), limits=limits)
    unknown = set(npz.names) - PARTS
    if unknown or not {"shape", "data"} <= set(npz.names):
        npz.close()
        raise InvalidInputError(
            f"{path}: expected a matrix as scipy.sparse.save_npz writes it (format, shape, data, indices, indptr), "
            f"found {', '.join(npz.names[:8])}"
        )
    return npz


def _reader(name: str, path: Path, shape: tuple[int, ...], limits: Limits) -> Callable[[], Entries]:
    return partial(_read, name, path, shape, limits)


def _read(name: str, path: Path, shape: tuple[int, ...], limits: Limits) -> Entries:
    with or_again(path, _WRITER), _opened(path, limits) as npz:
        stored = scipy_array(npz, name, "", limits)
        if stored.shape != shape:
            raise InvalidInputError(
                f"{path}: layer {name!r}: expected {shape[0]} x {shape[1]}, "
                f"found {stored.shape[0]} x {stored.shape[1]}",
                hint="the file changed while it was read",
            )
        entries = stored.read()
    assert isinstance(entries, Entries)  # noqa: S101 - SciPy's matrices are sparse
    return entries
