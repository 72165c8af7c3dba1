"""The door to checkpoints: a file goes in, named arrays come out; their numbers stay in the file until they are read.

=================================  =====================================================================
``torch.save`` (zip, since 1.6)    a state dict, a Lightning ``.ckpt``, a Hugging Face ``.bin``, a whole model
``torch.jit.save``                 a TorchScript archive: parameters and buffers
``torch.save`` before 1.6          the legacy stream; before 0.1.10, a tar
``pickle.dump``                    state dicts, dictionaries of NumPy arrays, SciPy matrices
``numpy.save``                     one array, or a dictionary (RigL's ``mask_records.npy``)
=================================  =====================================================================
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topostrata.errors import InvalidInputError, LimitError, TopostrataError
from topostrata.ingest.formats.checkpoint.machine import Budget
from topostrata.ingest.formats.checkpoint.naming import LONE, Names, numbers_of
from topostrata.ingest.formats.checkpoint.torch_files import read_pickle, read_stream, read_tar, read_zip
from topostrata.ingest.formats.checkpoint.windows import Window
from topostrata.ingest.formats.limits import DEFAULT, Limits
from topostrata.ingest.formats.opened_file import OpenedFile, Source
from topostrata.ingest.formats.safe_npz import Header, read_npy_header
from topostrata.ingest.formats.stored import LeftOut, StoredArray, check_shape, native

# What else lies about under the names of checkpoints: how it begins, what it is, what to do.
_OTHERS = (
    (b"version https://git-lfs", "a pointer of Git LFS", "fetch the file itself: git lfs pull"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "Keras files are read by their own reader, under .h5 or .keras"),
    (b"\x1f\x8b", "a gzip file", "unpack it first: gunzip FILE"),
    (b"BZh", "a bzip2 file", "unpack it first: bunzip2 FILE"),
    (b"\x28\xb5\x2f\xfd", "a zstd file", "unpack it first: unzstd FILE"),
    (b"\xfd7zXZ", "an xz file", "unpack it first: unxz FILE"),
    (b"<", "HTML or XML", "was a page saved in place of the file?"),
    (b"GGUF", "a GGUF file", "this format is not read: save a state dict as .safetensors"),
)


class Checkpoint(OpenedFile):
    """An open checkpoint: ``arrays`` by name in the file's order, ``left_out`` with reasons.

    ``kind`` says which container it is. ``numbers`` are the plain numbers of the outermost dictionary (``epoch``,
    ``global_step``). Nested content is flattened as ``naming`` says. Arrays are read through one open file, by one
    thread at a time.

    >>> import io, pickle
    >>> data = pickle.dumps({"epoch": 3, "mask": {"fc1": np.eye(2, dtype=bool)}})
    >>> with Checkpoint(data, where="masks.pkl") as checkpoint:
    ...     checkpoint.numbers, [(a.name, a.shape, a.dtype) for a in checkpoint.arrays.values()]
    ({'epoch': 3}, [('mask.fc1', (2, 2), 'bool')])

    Raises ``InvalidInputError`` for what is damaged or something else, ``LimitError`` for what costs too much.
    """

    def __init__(self, source: Source, *, where: str, limits: Limits = DEFAULT) -> None:
        self.where = where
        try:
            with _as_invalid_input(where):
                whole = Window.whole(self._open_source(source), where=where)
                limits.check(where, total_bytes=whole.size)
                names = Names(where, limits, Budget())
                content, self.kind = _content(whole, names)
                names.collect(content)
                limits.check(where, members=len(names.arrays))
        except BaseException:
            self.close()
            raise
        self.arrays: dict[str, StoredArray] = names.arrays
        self.left_out: tuple[LeftOut, ...] = tuple(names.left_out)
        self.numbers = numbers_of(content)


def _content(whole: Window, names: Names) -> tuple[Any, str]:
    """What a file describes, and which container it is."""
    head = whole.read(0, min(whole.size, 512))
    if not head:
        raise InvalidInputError(f"{whole.where}: expected a checkpoint, found an empty file")
    if head.startswith(b"PK\x03\x04"):
        return read_zip(whole, names.budget)
    if head.startswith(b"\x93NUMPY"):
        return _read_npy(whole, names)
    if head[257:262] == b"ustar":
        return read_tar(whole, names.budget), "PyTorch tar checkpoint"
    for beginning, what, hint in _OTHERS:
        if head.startswith(beginning):
            raise InvalidInputError(f"{whole.where}: expected a checkpoint, found {what}", hint=hint)
    return read_stream(whole, names.budget)


def _read_npy(whole: Window, names: Names) -> tuple[Any, str]:
    """A dictionary (or whatever else) in an array of objects; a plain array is taken at once, nothing is left."""
    whole.stream.seek(0)
    header = read_npy_header(whole.stream, whole.size, where=whole.where, objects=True)
    rest = whole.window(header.length, whole.size - header.length)
    if header.dtype.hasobject:
        return read_pickle(rest, names.budget), "pickled NumPy array"
    check_shape(header.shape, header.dtype.itemsize, where=whole.where)
    if header.dtype.kind in "SU":
        raise InvalidInputError(f"{whole.where}: expected an array of numbers, found dtype {header.dtype}")
    read = partial(_plain_array, rest, header)
    names.add(StoredArray(LONE, header.shape, header.dtype.name, "dense", rest.place, read))
    return None, "NumPy array"


def _plain_array(window: Window, header: Header) -> NDArray[Any]:
    data = window.read(0, math.prod(header.shape) * header.dtype.itemsize)
    values = native(np.frombuffer(data, header.dtype))
    return values.reshape(header.shape, order="F" if header.fortran_order else "C")


@contextmanager
def _as_invalid_input(where: str) -> Iterator[None]:
    """What plain Python raises about contents that do not fit, as one error that names the file."""
    try:
        yield
    except TopostrataError:
        raise
    except OSError as error:
        raise InvalidInputError(f"{where}: expected a readable file, found: {error.strerror}") from error
    except MemoryError as error:
        raise LimitError(f"{where}: expected a checkpoint that fits into memory, found a larger one") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, struct.error) as error:
        raise InvalidInputError(
            f"{where}: expected a checkpoint as torch or NumPy writes it, found content that does not fit together",
            hint="is the file cut off or damaged?",
        ) from error
