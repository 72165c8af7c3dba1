"""Matrix Market and MATLAB files read as SciPy reads them; what their headers claim is checked before."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
from numpy.typing import NDArray

from topostrata.errors import InvalidInputError, LimitError, TopostrataError
from topostrata.ingest.formats.limits import Limits
from topostrata.ingest.formats.mat_file import MatFile
from topostrata.ingest.formats.matrix_files import matrix_market
from topostrata.ingest.formats.stored import Entries, StoredArray

WEIGHT = np.array([[0.0, 1.5, 0.0], [-2.0, 0.0, 0.5]])
MATRICES: dict[str, Any] = {
    "doubles": WEIGHT,
    "whole": np.trunc(WEIGHT),
    "int8": WEIGHT.astype(np.int8),
    "uint64": np.abs(WEIGHT).astype(np.uint64) + np.uint64(2**63),
    "float32": WEIGHT.astype(np.float32),
    "mask": WEIGHT != 0,
    "complex": WEIGHT * (1 + 1j),
    "sparse": sp.csc_matrix(WEIGHT),
    "sparse_mask": sp.csc_matrix(WEIGHT != 0),
    "sparse_complex": sp.csc_matrix(WEIGHT * 1j),
    "kernel": np.arange(24.0).reshape(2, 3, 4),
    "empty": np.zeros((0, 3)),
}


def dense(array: StoredArray) -> NDArray[Any]:
    values = array.read()
    if isinstance(values, Entries):
        filled = np.zeros(array.shape, values.values.dtype)
        filled[tuple(values.positions.T)] = values.values
        return filled
    return values


def mat(content: dict[str, Any], *, packed: bool = True) -> bytes:
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, content, do_compression=packed)  # type: ignore[arg-type]  # the stubs know paths only
    return buffer.getvalue()


def mtx(matrix: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    scipy.io.mmwrite(buffer, matrix, **options)
    return buffer.getvalue()


def in_words(read: Callable[[bytes], Any], data: bytes) -> bool:
    """Whether reading gives an answer, or one line that begins with the file."""
    try:
        read(data)
    except TopostrataError as error:
        return str(error).startswith("x.m: ") and "\n" not in str(error)
    return True


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", MATRICES)
def test_a_matlab_variable_reads_as_it_was_saved(name: str, packed: bool) -> None:
    """Every class of numbers, dense, sparse, complex, logical, of more axes and empty."""
    matrix = MATRICES[name]
    expected = np.asarray(matrix.todense()) if hasattr(matrix, "todense") else matrix
    file = MatFile(mat({"before": np.eye(3), name: matrix}, packed=packed), where="x.mat")
    array = file.arrays[name]
    assert list(file.arrays) == ["before", name]
    assert (array.shape, array.layout) == (expected.shape, "csc" if sp.issparse(matrix) else "dense")
    assert dense(array).dtype == array.dtype == expected.dtype
    np.testing.assert_array_equal(dense(array), expected)


def test_what_is_no_matrix_of_numbers_is_left_out_by_name() -> None:
    """Structures, cells and text are never handed to SciPy."""
    content = {"w": WEIGHT, "text": "hello", "cell": np.array([WEIGHT, "a"], dtype=object), "settings": {"lr": 1.0}}
    file = MatFile(mat(content), where="x.mat")
    assert list(file.arrays) == ["w"]
    assert [(part.name, part.what) for part in file.left_out] == [
        ("text", "text"),
        ("cell", "a cell array"),
        ("settings", "a structure"),
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "found another file"),
        (b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(512), "version 7.3, which is HDF5.*-v7"),
        (b"x" * 200, "found another file"),
    ],
)
def test_another_file_is_called_by_its_name(data: bytes, message: str) -> None:
    """Version 7.3 and what is no MATLAB file."""
    with pytest.raises(InvalidInputError, match=f"^x.mat: expected a MATLAB file of version 5 to 7.2, .*{message}"):
        MatFile(data, where="x.mat")


def with_dimensions(rows: int, columns: int, *, packed: bool) -> bytes:
    """A variable whose shape is a lie, with everything else in place."""
    plain = mat({"w": WEIGHT}, packed=False)
    body = plain[128:160] + struct.pack("<2i", rows, columns) + plain[168:]
    if not packed:
        return plain[:128] + body
    squeezed = zlib.compress(body)
    return plain[:128] + struct.pack("<2I", 15, len(squeezed)) + squeezed


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("shape", [(2**31 - 1, 2**31 - 1), (2, 4), (1_000_000, 1_000_000), (0, 3), (-2, -3)])
def test_a_matlab_shape_that_is_a_lie_is_refused(shape: tuple[int, int], packed: bool) -> None:
    """The bytes that are there decide, before an array is made."""
    with pytest.raises((InvalidInputError, LimitError), match=r"^x\.mat: "):
        MatFile(with_dimensions(*shape, packed=packed), where="x.mat")


def test_a_matlab_bomb_is_refused_by_its_size() -> None:
    """A megabyte of zlib that claims a gigabyte of matrix."""
    data = mat({"w": np.zeros((1000, 1000))})
    assert len(data) < 10_000
    with pytest.raises(LimitError, match="at most 1,000,000 bytes unpacked"):
        MatFile(data, where="x.mat", limits=Limits(total_bytes=1_000_000))


@pytest.mark.parametrize("packed", [True, False])
def test_a_damaged_matlab_file_is_read_or_refused(packed: bool) -> None:
    """1,000 files with one byte changed: no traceback."""
    data, chance = mat(MATRICES, packed=packed), random.Random(3)
    for _ in range(1000):
        at = chance.randrange(128, len(data))
        damaged = data[:at] + chance.randbytes(1) + data[at + 1 :]
        assert in_words(lambda data: [a.read() for a in MatFile(data, where="x.m").arrays.values()], damaged)


def test_a_damaged_matrix_market_file_is_read_or_refused() -> None:
    """1,000 files with one byte changed."""
    data, chance = mtx(sp.coo_matrix(WEIGHT)), random.Random(4)
    for _ in range(1000):
        at = chance.randrange(len(data))
        damaged = data[:at] + chance.randbytes(1) + data[at + 1 :]
        assert in_words(lambda data: matrix_market(data, where="x.m").read(), damaged)


@pytest.mark.parametrize(
    "matrix",
    [
        WEIGHT,
        WEIGHT * 1j,
        np.trunc(WEIGHT).astype(int),
        np.eye(3),
        sp.coo_matrix(WEIGHT),
        sp.coo_matrix(WEIGHT * 1j),
        sp.coo_matrix(WEIGHT != 0),
        sp.csc_matrix(np.eye(3) + np.eye(3, k=1) + np.eye(3, k=-1)),
        sp.coo_matrix((np.array([1.0, 2.0, -1.0]), (np.array([0, 0, 1]), np.array([1, 1, 0]))), shape=(2, 2)),
    ],
)
def test_a_matrix_market_file_reads_as_scipy_reads_it(matrix: Any) -> None:
    """Dense and sparse, real, whole, complex; symmetric ones whole again; duplicates summed."""
    data = mtx(matrix, comment="two\nlines")
    expected: Any = scipy.io.mmread(io.BytesIO(data))
    expected = expected.toarray() if hasattr(expected, "toarray") else expected
    array = matrix_market(data, where="x.mtx")
    assert (array.shape, array.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(dense(array), expected)


def test_a_pattern_has_a_connection_per_line() -> None:
    """The format of graphs without weights: every entry is 1."""
    data = b"%%MatrixMarket matrix coordinate pattern general\n2 3 2\n1 2\n2 3\n"
    assert dense(matrix_market(data, where="x.mtx")).tolist() == [[0, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"hello", "expected a first line '%%MatrixMarket"),
        (b"%%MatrixMarket matrix coordinate real general\n% no sizes\n", "expected a line of 3 sizes"),
        (b"%%MatrixMarket matrix coordinate real general\n-2 3 1\n1 1 1\n", "expected a line of 3 sizes"),
        (b"%%MatrixMarket matrix coordinate real general\n2 3 99999999\n1 1 1\n", "found room for 1"),
        (
            b"%%MatrixMarket matrix coordinate real general\n2 3 999999999999\n1 1 1\n",
            "at most 200,000,000 connections",
        ),
        (b"%%MatrixMarket matrix array real general\n99999 99999\n1\n", "at most 4,294,967,296 bytes unpacked"),
        (b"%%MatrixMarket matrix array real general\n999 999\n1\n", "found room for 1"),
        (b"%%MatrixMarket matrix coordinate real general\n2 2 1\n3 1 1\n", "expected a position"),
        (b"%%MatrixMarket matrix coordinate real general\n2 2 1\n0 1 1\n", "expected a position"),
        (b"%%MatrixMarket matrix coordinate integer general\n2 2 1\n1 1 99999999999999999999\n", "expected an intact"),
        (b"%%MatrixMarket matrix coordinate pattern general\n99999999999999999 9999999999999999 0\n", "a shape under"),
    ],
)
def test_a_matrix_market_file_that_lies_is_refused(data: bytes, message: str) -> None:
    """Sizes without entries, positions outside, numbers beyond 64 bits."""
    with pytest.raises((InvalidInputError, LimitError), match=rf"^x\.mtx: .*{message}"):
        matrix_market(data, where="x.mtx").read()
