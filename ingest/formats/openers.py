"""One ``read`` per format that holds named arrays: a path goes in, the arrays of the open file come out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np

from topostrata.errors import InvalidInputError
from topostrata.ingest.formats import snapshot_file
from topostrata.ingest.formats.array_file import ArrayFile, AxisOrder
from topostrata.ingest.formats.checkpoint.reading import Checkpoint
from topostrata.ingest.formats.limits import Limits
from topostrata.ingest.formats.mat_file import MatFile
from topostrata.ingest.formats.matrix_files import matrix_market
from topostrata.ingest.formats.safe_npz import NoNumbersError, SafeNpz
from topostrata.ingest.formats.safe_tensors import SafeTensors
from topostrata.ingest.formats.scipy_parts import PARTS, scipy_array
from topostrata.ingest.formats.shards import Shards, index_of
from topostrata.ingest.formats.stored import StoredArray

LONE = "l0"  # what the layer of a file with one nameless matrix is called


@contextmanager
def read_npz(path: Path, limits: Limits) -> Iterator[ArrayFile]:
    """A ``.npz``: arrays and SciPy matrices in parts, one SciPy matrix, or Topostrata's own snapshot."""
    with SafeNpz(path, where=str(path), limits=limits) as npz:
        snapshot = partial(snapshot_file.read_npz, npz, limits=limits) if snapshot_file.MEMBER in npz else None
        arrays = {} if snapshot else npz_arrays(npz, limits)
        yield ArrayFile(str(path), arrays, "in-out", in_order=True, snapshot=snapshot)


def npz_arrays(npz: SafeNpz, limits: Limits) -> dict[str, StoredArray]:
    """The arrays of an archive that is open already; a SciPy matrix in parts is one array."""
    names = set(npz.names)
    if {"shape", "data"} <= names <= PARTS:
        return {LONE: scipy_array(npz, LONE, "", limits)}
    prefixes = {match[1] for name in npz.names if (match := re.fullmatch(r"(.+[._])(?:indptr|format)", name))}
    arrays: dict[str, StoredArray] = {}
    for name in npz.names:
        prefix = next((prefix for prefix in prefixes if name.removeprefix(prefix) in PARTS), None)
        if prefix is None:
            arrays[name] = _member(npz, name)
        elif prefix[:-1] not in arrays:
            arrays[prefix[:-1]] = scipy_array(npz, prefix[:-1], prefix, limits)
    return arrays


def _member(npz: SafeNpz, name: str) -> StoredArray:
    """An array of an archive; one that holds no numbers is there by name, so that it can be left out."""
    place = f"member {name!r}"
    try:
        header = npz.header(name)
    except NoNumbersError as error:
        dtype = next((kind for kind in ("object", "complex") if f"found {kind}" in error.message), "void")
        return StoredArray(name, (), dtype, "dense", place, partial(_refuse, error))
    return StoredArray(name, header.shape, header.dtype.name, "dense", place, partial(npz.array, name))


def _refuse(error: InvalidInputError) -> NoReturn:
    raise error


@contextmanager
def read_safetensors(path: Path, limits: Limits) -> Iterator[ArrayFile]:
    """A ``.safetensors`` file; where it is one shard of several, all of them."""
    if (index := index_of(path)) is not None:
        yield _shards(index, limits)
        return
    with SafeTensors(path, where=str(path), limits=limits) as tensors:
        own = snapshot_file.MEMBER in tensors.metadata
        snapshot = partial(snapshot_file.read_safetensors, tensors, limits=limits) if own else None
        arrays = {} if own else tensors.arrays
        # The library sorts; another order is that of the network.
        in_order = list(arrays) not in (_library_order(arrays), sorted(arrays))
        yield ArrayFile(str(path), arrays, "out-in", in_order=in_order, snapshot=snapshot)


@contextmanager
def read_shards(path: Path, limits: Limits) -> Iterator[ArrayFile]:
    """A state dict in several files, by its index."""
    yield _shards(path, limits)


@contextmanager
def read_checkpoint(path: Path, limits: Limits) -> Iterator[ArrayFile]:
    """What torch and pickle write."""
    if (index := index_of(path)) is not None:
        yield _shards(index, limits)
        return
    with Checkpoint(path, where=str(path), limits=limits) as checkpoint:
        sure = checkpoint.kind.startswith(("PyTorch", "TorchScript"))
        # Arrays of NumPy and SciPy are no rows of torch's, whether pickle.dump or np.save wrote them.
        of_torch = sure or any(array.place.startswith("storage") for array in checkpoint.arrays.values())
        yield _checkpoint(checkpoint, "out-in" if of_torch else "in-out", sure=sure)


@contextmanager
def read_npy(path: Path, limits: Limits) -> Iterator[ArrayFile]:
    """A ``.npy``: one array, or a pickled dictionary of arrays."""
    with Checkpoint(path, where=str(path), limits=limits) as checkpoint:
        yield _checkpoint(checkpoint, "in-out", sure=False)


@contextmanager
def read_matrix_market(path: Path, limits: Limits) -> Iterator[ArrayFile]:
    """A ``.mtx``: one matrix."""
    yield ArrayFile(str(path), {LONE: matrix_market(path, where=str(path), limits=limits)}, "in-out")


@contextmanager
def read_mat(path: Path, limits: Limits) -> Iterator[ArrayFile]:
    """A ``.mat``: matrices by name."""
    mat = MatFile(path, where=str(path), limits=limits)
    yield ArrayFile(str(path), mat.arrays, "in-out", in_order=True, left_out=mat.left_out)


def _shards(index: Path, limits: Limits) -> ArrayFile:
    shards = Shards(index, where=str(index), limits=limits)
    in_order = list(shards.arrays) != sorted(shards.arrays)
    return ArrayFile(str(index), shards.arrays, "out-in", in_order=in_order, left_out=shards.left_out)


def _checkpoint(checkpoint: Checkpoint, axes: AxisOrder, *, sure: bool) -> ArrayFile:
    return ArrayFile(
        checkpoint.where,
        checkpoint.arrays,
        axes,
        sure=sure,
        in_order=True,
        left_out=checkpoint.left_out,
        numbers=checkpoint.numbers,
    )


def _library_order(arrays: dict[str, StoredArray]) -> list[str]:
    """The order in which the safetensors library writes tensors: by the size of an entry, then by name."""

    def itemsize(name: str) -> int:
        dtype = arrays[name].dtype
        if dtype == "bfloat16":
            return 2
        return 1 if dtype.startswith(("float8", "F4", "F6")) or not hasattr(np, dtype) else np.dtype(dtype).itemsize

    return sorted(arrays, key=lambda name: (-itemsize(name), name))
