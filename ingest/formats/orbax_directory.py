"""Checkpoints of Orbax: a directory with a tree (``_METADATA``) whose arrays lie in Zarr, in OCDBT or in files.

A step of its ``CheckpointManager`` holds one or more such directories (``default``, ``params``). Arrays are read by
TensorStore, which knows their shapes from their headers; neither JAX nor Orbax is needed. Kernels are
``(sources, targets)`` and ``(height, width, sources, targets)``, as Flax has them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topostrata.errors import InvalidInputError, LimitError, MissingExtraError
from topostrata.ingest.formats.array_file import ArrayFile
from topostrata.ingest.formats.jax_trees import Keys, named_file
from topostrata.ingest.formats.limits import MIB, Limits
from topostrata.ingest.formats.matrix_files import one_error
from topostrata.ingest.formats.safe_tensors import parse_json
from topostrata.ingest.formats.small_floats import from_stored, stored_as
from topostrata.ingest.formats.stored import LeftOut, StoredArray, check_shape

_TREE = "_METADATA"
_MAX_TREE = 64 * MIB
_MAX_DEPTH = 64
_ARRAYS = {"jax.Array", "np.ndarray", "scalar"}


def tree_in(directory: Path) -> Path | None:
    """The directory with the tree: this one, or the only one in it that has one; None where there is none."""
    if (directory / _TREE).is_file():
        return directory
    items = sorted(path.parent for path in directory.glob(f"*/{_TREE}") if path.is_file())
    if len(items) > 1:
        raise InvalidInputError(
            f"{directory}: expected one tree of Orbax, found {', '.join(item.name for item in items[:8])}",
            hint=f"name one of them: {items[0]}",
        )
    return items[0] if items else None


@contextmanager
def read_orbax(directory: Path, limits: Limits) -> Iterator[ArrayFile]:
    """The arrays of a directory that ``tree_in`` gave."""
    where = str(directory)
    try:
        import tensorstore as ts  # noqa: PLC0415 - behind an extra
    except ImportError as error:
        raise MissingExtraError(f"{where}: an Orbax checkpoint", "orbax") from error
    with one_error(where):
        content, leaves, left_out = _tree(directory, where, limits)
        driver = "zarr3" if content.get("use_zarr3") else "zarr"
        opening = {
            keys: ts.open(
                {
                    "driver": driver,
                    "kvstore": _kvstore(directory, ".".join(keys), packed=_packed(content, directory)),
                    "fill_missing_data_reads": False,  # a chunk that is lost is no chunk of zeros
                },
                read=True,
                open=True,
            )
            for keys in leaves
        }
        arrays = {}
        for keys, future in opening.items():
            at = f"{where}: array {'.'.join(keys)!r}"
            with one_error(at), _whole(at):
                arrays[keys] = _stored(future.result(), keys, at, limits)
    yield named_file(where, arrays, left_out)


def _tree(directory: Path, where: str, limits: Limits) -> tuple[dict[str, Any], list[Keys], list[LeftOut]]:
    """What ``_METADATA`` says: itself, the keys of each array, and what is none."""
    file = directory / _TREE
    if file.stat().st_size > _MAX_TREE:
        raise LimitError(f"{where}: {_TREE}: expected at most {_MAX_TREE:,} bytes, found {file.stat().st_size:,}")
    content = parse_json(file.read_bytes(), where=f"{where}: {_TREE}")
    tree = content.get("tree_metadata") if isinstance(content, dict) else None
    if not isinstance(tree, dict):
        raise InvalidInputError(f"{where}: {_TREE}: expected the tree of an Orbax checkpoint, found none")
    limits.check(where, members=len(tree))
    leaves: list[Keys] = []
    left_out: list[LeftOut] = []
    for leaf in tree.values():
        listed = leaf.get("key_metadata") if isinstance(leaf, dict) else None
        value = leaf.get("value_metadata") if isinstance(leaf, dict) else None
        keys = tuple(str(key.get("key")) for key in listed or () if isinstance(key, dict))
        plain = all(key.isprintable() and 0 < len(key) <= 200 and not set(key) & set("/\\\0") for key in keys)
        if not keys or len(keys) > _MAX_DEPTH or not plain or ".." in ".".join(keys) or keys[0].startswith("."):
            raise InvalidInputError(f"{where}: {_TREE}: expected printable keys, found {str(keys)[:80]!a}")
        kind = value.get("value_type") if isinstance(value, dict) else None
        if kind in _ARRAYS:
            leaves.append(keys)
        elif kind not in {"None", "Dict", "List"}:
            left_out.append(LeftOut(".".join(keys), str(kind)[:40], "only arrays are read"))
    return content, leaves, left_out


@contextmanager
def _whole(where: str) -> Iterator[None]:
    """What TensorStore says of a file that is not there, in words."""
    try:
        yield
    except ValueError as error:
        if "NOT_FOUND" not in str(error):
            raise
        raise InvalidInputError(
            f"{where}: expected all of its files, found one missing: {str(error).split(' [')[0][:200]}",
            hint="is the checkpoint still being written, or was it copied in part?",
        ) from error


def _packed(content: dict[str, Any], directory: Path) -> bool:
    """Whether all arrays lie in one OCDBT; trees of before 2024 do not say so."""
    return bool(content.get("use_ocdbt", (directory / "manifest.ocdbt").is_file()))


def _kvstore(directory: Path, name: str, *, packed: bool) -> dict[str, Any]:
    path = str(directory.resolve())
    if packed:
        return {"driver": "ocdbt", "base": {"driver": "file", "path": f"{path}/"}, "path": f"{name}/"}
    return {"driver": "file", "path": f"{path}/{name}/"}


def _stored(store: Any, keys: Keys, where: str, limits: Limits) -> StoredArray:
    dtype = str(store.dtype.name)
    shape = tuple(int(length) for length in store.shape)
    stored = stored_as(dtype)
    if stored is None:
        raise InvalidInputError(f"{where}: expected numbers, found dtype {dtype}")
    check_shape(shape, stored.itemsize, where=where)
    size = math.prod(shape) * stored.itemsize
    chunk = math.prod(store.chunk_layout.read_chunk.shape or ()) * stored.itemsize
    limits.check(where, total_bytes=size)
    if chunk > max(2 * size, MIB):
        raise InvalidInputError(f"{where}: expected chunks of at most {size:,} bytes, found chunks of {chunk:,}")
    read = partial(_read, store, dtype, where)
    return StoredArray(".".join(keys), shape, dtype, "dense", f"chunks of {chunk:,} bytes", read)


def _read(store: Any, dtype: str, where: str) -> NDArray[Any]:
    with one_error(where), _whole(where):
        values = np.asarray(store.read().result())
        stored = stored_as(dtype)
        if stored is not None and values.dtype.kind == "V":
            values = values.view(stored)
        return from_stored(values, dtype)
