"""Small files that would cost much: each is refused, or costs little, in a process whose memory is watched."""

from __future__ import annotations

import io
import json
import pickle
import re
import resource
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from topostrata.errors import InvalidInputError, LimitError, TopostrataError
from topostrata.ingest.formats.checkpoint.reading import Checkpoint

HERE = Path(__file__).resolve()
FLOAT_STORAGE = b"ctorch\nFloatStorage\n"


def zipped(program: bytes, storage: bytes = bytes(4), method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip checkpoint with one storage."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        archive.writestr("a/data.pkl", program)
        archive.writestr("a/data/0", storage)
    return packed.getvalue()


def number(value: int) -> bytes:
    """The operation that pushes an integer."""
    data = value.to_bytes(9, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def tensor(shape: list[int], strides: list[int], length: int = 1, offset: int = 0) -> bytes:
    """The operations that describe a float32 tensor on storage 0."""
    storage = b"((S'storage'\n" + FLOAT_STORAGE + b"S'0'\nS'cpu'\n" + number(length) + b"tQ"
    sizes = b"(" + b"".join(map(number, shape)) + b"t("
    steps = b"".join(map(number, strides)) + b"t"
    return b"ctorch._utils\n_rebuild_tensor\n" + storage + number(offset) + sizes + steps + b"tR"


def sparse(layout: str, shape: list[int], *parts: bytes) -> bytes:
    """The operations that describe a sparse tensor by its parts."""
    name = b"ctorch.serialization\n_get_layout\n(S'torch.sparse_" + layout.encode() + b"'\ntR"
    size = b"(" + b"".join(map(number, shape)) + b"t"
    return b"ctorch._utils\n_rebuild_sparse_tensor\n(" + name + b"(" + b"".join(parts) + size + b"ttR"


def indices(shape: list[int], strides: list[int], length: int = 8) -> bytes:
    """An int64 tensor on storage 0, which holds zeros."""
    return tensor(shape, strides, length).replace(FLOAT_STORAGE, b"ctorch\nLongStorage\n")


def repeated(body: bytes, count: int, start: bytes = b"(", end: bytes = b"l.") -> bytes:
    return b"\x80\x02" + start + body * count + end


def shared_lists(levels: int) -> bytes:
    """A list that holds a list twice, and so on: 2**levels paths through a few bytes."""
    pairs = b"0".join(b"(h" + bytes([k]) + b"h" + bytes([k]) + b"lq" + bytes([k + 1]) for k in range(levels))
    return b"\x80\x02]q\x000" + pairs + b"."


def object_array_of(count: int) -> bytes:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|O", "fortran_order": False, "shape": (count,)})
    return head.getvalue() + repeated(b"}", 1_900_000)


BOMBS: dict[str, Callable[[], bytes]] = {
    "empty dictionaries": lambda: repeated(b"}", 1_900_000),
    "empty dictionaries in an array": lambda: object_array_of(3),
    "empty sets": lambda: repeated(b"\x8f", 1_900_000),
    "marks": lambda: b"\x80\x02" + b"(" * 1_900_000,
    "nested lists": lambda: b"\x80\x02" + b"]" * 900_000 + b"a" * 899_999 + b".",
    "nested tuples": lambda: b"\x80\x02)" + b"\x85" * 1_900_000 + b".",
    "endless program": lambda: repeated(b"N0", 2_000_000),
    "memo": lambda: b"\x80\x02N" + b"".join(b"r" + struct.pack("<I", k) for k in range(500_000)) + b".",
    "one list copied": lambda: (
        b"\x80\x02(" + b"(NNt" * 50_000 + b"lq\x000" + b"(" + b"ccollections\nOrderedDict\nh\x00\x85R" * 20_000 + b"l."
    ),
    "one string copied": lambda: (
        b"\x80\x02X\xa0\x0f\x00\x00"
        + b"x" * 4000
        + b"q\x000("
        + b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R" * 50_000
        + b"l."
    ),
    "objects": lambda: repeated(b"ca\nb\n)R", 150_000),
    "one name many times": lambda: repeated(b"c" + b"a" * 4000 + b"\nb\n", 20_000),
    "lists in lists": lambda: shared_lists(60),
    "tensors in lists": lambda: zipped(b"\x80\x02" + tensor([1], [1]) + b"q\x000(" + b"h\x00" * 900_000 + b"l."),
    "stride 0": lambda: zipped(b"\x80\x02" + tensor([2**30], [0]) + b"."),
    "stride 0 in two axes": lambda: zipped(b"\x80\x02" + tensor([2**31, 2**31], [0, 0]) + b"."),
    "a sparse tensor of no rows of 2**40 entries": lambda: zipped(
        b"\x80\x02" + sparse("coo", [5, 2**40], indices([1, 0], [1, 1]), tensor([0, 2**40], [1, 1], 16)) + b".",
        bytes(64),
    ),
    "a sparse tensor of a vast shape": lambda: zipped(
        b"\x80\x02" + sparse("coo", [2**40, 2**40], indices([2, 1], [0, 0]), tensor([1], [1], 16)) + b".", bytes(64)
    ),
    "a sparse tensor of vast rows": lambda: zipped(
        b"\x80\x02" + sparse("csr", [2**50, 4], indices([2], [0]), indices([0], [1]), tensor([0], [1], 16)) + b".",
        bytes(64),
    ),
    "blocks without entries": lambda: zipped(
        b"\x80\x02"
        + sparse("bsr", [2**31, 2**30], indices([2], [0]), indices([0], [1]), tensor([0, 2**31, 2**30], [1, 1, 1], 16))
        + b".",
        bytes(64),
    ),
    "pointers of one number": lambda: zipped(
        b"\x80\x02"
        + sparse("csr", [2**22 - 1, 4], indices([2**22], [0]), indices([2**22], [0]), tensor([2**22], [0], 16))
        + b".",
        bytes(64),
    ),
    "a claim of a terabyte": lambda: zipped(b"\x80\x02" + tensor([2**38], [1], 2**38) + b"."),
    "a long string that is not there": lambda: b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"abc.",
    "a longer string": lambda: b"\x80\x04\x8e" + struct.pack("<Q", 2**64 - 1) + b"abc.",
    "a vast integer": lambda: b"\x80\x02\x8b" + struct.pack("<i", 2**20) + b"\xff" * 2**20 + b".",
    "a long decimal": lambda: b"I" + b"9" * 2**21 + b"\n.",
    "a long line": lambda: b"S'" + b"a" * 2**24,
    "a deflated program": lambda: zipped(b"\x80\x02" + b"}" * 200_000_000, method=zipfile.ZIP_DEFLATED),
    "many members": lambda: claims_of_members(200_000),
    "pickles in pickles": lambda: pickles_in_pickles(40),
    "a vast NumPy claim": lambda: pickle.dumps(np.zeros(2)).replace(b"K\x02\x85", b"J\xff\xff\xff\x7f\x85"),
}


def claims_of_members(count: int) -> bytes:
    """A zip64 end that promises a directory of many members."""
    end = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, 4, 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 4, 1)
    return b"PK\x03\x04" + end + locator + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0, 0, 0, 0, 0)


def pickles_in_pickles(levels: int) -> bytes:
    program = b"\x80\x02N."
    for _ in range(levels):
        size = struct.pack("<I", len(program))
        program = b"\x80\x02ctorch.storage\n_load_from_bytes\nB" + size + program + b"\x85R."
    return program


def cost(name: str) -> dict[str, object]:
    """Read one bomb: the outcome, and the memory beyond what the file itself takes."""
    data = BOMBS[name]()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = "read"
    try:
        with Checkpoint(data, where="upload") as checkpoint:
            for array in list(checkpoint.arrays.values())[:20]:
                array.read()
    except TopostrataError as error:
        result = str(error)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"result": result, "mib": grown // (1024 if sys.platform != "darwin" else 1024**2)}


@pytest.fixture(scope="module")
def costs() -> dict[str, dict[str, str]]:
    """All bombs, one after another in a process of their own."""
    ran = subprocess.run([sys.executable, str(HERE)], capture_output=True, text=True, check=True, timeout=300)
    answer = json.loads(ran.stdout)
    assert isinstance(answer, dict)
    return answer


def test_all_bombs_together_cost_little(costs: dict[str, dict[str, str]]) -> None:
    """The peak grows by less than 300 MB, and none ends in anything but an answer or one line."""
    assert list(costs) == list(BOMBS)
    assert sum(int(answer["mib"]) for answer in costs.values()) < 300
    for name, answer in costs.items():
        assert answer["result"] == "read" or answer["result"].startswith("upload: "), (name, answer)
        assert answer["result"].isprintable(), name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty dictionaries", "at most 2,000,000 values"),
        ("nested lists", "at most 200 containers in each other"),
        ("endless program", "at most 2,000,000 operations"),
        ("lists in lists", "at most 2,000,000 values"),
        ("tensors in lists", "takes too much memory"),
        ("stride 0", r"at most as many entries as are stored \(1\), found a view of 1,073,741,824"),
        ("stride 0 in two axes", "a shape under"),
        ("a sparse tensor of no rows of 2**40 entries", "^read$"),
        ("a sparse tensor of a vast shape", r"a shape under 2\*\*62"),
        ("a sparse tensor of vast rows", "expected 1,125,899,906,842,625 pointers, found 2"),
        ("blocks without entries", r"a shape under 2\*\*62"),
        ("one list copied", "takes too much memory"),
        ("one string copied", "takes too much memory"),
        ("pickles in pickles", "at most 4 pickles in each other"),
        ("many members", "at most 131,072 members"),
    ],
)
def test_what_costs_too_much_is_refused_by_name(name: str, message: str, costs: dict[str, dict[str, str]]) -> None:
    """The error says which bound was met."""
    assert re.search(message, costs[name]["result"])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([2**61, 2**61], "bytes unpacked|2\\*\\*62"),
        ([0, 2**61, 2**61], "2\\*\\*62"),
        ([1] * 40, "at most 32 axes"),
        ([-1], "sound pickle"),
        ([2**63], "sound pickle"),
    ],
)
def test_a_shape_that_numpy_cannot_hold_is_one_error(shape: list[int], message: str) -> None:
    """Empty or not, too long, too many axes, negative, beyond 64 bits."""
    data = zipped(b"\x80\x02" + tensor(shape, [0] * len(shape)) + b".")
    with pytest.raises((InvalidInputError, LimitError), match=message), Checkpoint(data, where="x.pt") as checkpoint:
        checkpoint.arrays["array"].read()


def test_a_view_over_the_end_of_its_storage_is_refused() -> None:
    """Offset, shape and strides together stay inside the bytes that are there."""
    data = zipped(b"\x80\x02" + tensor([2, 2], [2, 1], length=3) + b".", bytes(12))
    with (
        pytest.raises(InvalidInputError, match=r"x\.pt: array 'array': expected a view inside its storage"),
        Checkpoint(data, where="x.pt") as checkpoint,
    ):
        checkpoint.arrays["array"].read()


@pytest.mark.parametrize("name", ["a\ud800b", "a\x1b[2J", "x\ny"])
def test_a_name_that_cannot_be_shown_is_one_error(name: str) -> None:
    """Lone surrogates and control characters: an array of such a name cannot be spoken of."""
    data = pickle.dumps({name: np.eye(2)})
    with pytest.raises(InvalidInputError, match=r"^x\.pkl: expected printable names of arrays, found"):
        Checkpoint(data, where="x.pkl")


def test_long_names_are_left_out() -> None:
    """Lightning writes a callback's settings as a key; however long it is, the rest of the file is read."""
    data = pickle.dumps(
        {"w" * 1001: np.eye(2), "x" * 5000: np.eye(3), "callbacks": {"y" * 900: {"z" * 200: np.eye(4)}}}
    )
    with Checkpoint(data, where="x.pkl") as checkpoint:
        assert [(array.name, array.shape) for array in checkpoint.arrays.values()] == [("<key 1>", (3, 3))]
        assert [part.why for part in checkpoint.left_out] == 2 * ["its name is over 1000 characters"]


def test_numbers_beyond_64_bits_are_no_steps() -> None:
    """They are in the file, and nobody stumbles over them."""
    data = pickle.dumps({"epoch": 2**70, "step": 2**62, "loss": float("nan"), "w": np.eye(2), "huge": 2**5000})
    with Checkpoint(data, where="x.pkl") as checkpoint:
        assert checkpoint.numbers == {"step": 2**62}
        assert list(checkpoint.arrays) == ["w"]


if __name__ == "__main__":
    print(json.dumps({name: cost(name) for name in BOMBS}))  # noqa: T201  # the answer to the test
