"""Hostile checkpoints: whatever is done to a stream or a file, it is read or refused, and nothing else happens."""

from __future__ import annotations

import json
import pickletools
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.unit.ingest.checkpoint import mutations
from topostrata.errors import TopostrataError
from topostrata.ingest.formats.checkpoint.described import ABSENT
from topostrata.ingest.formats.checkpoint.opcodes import OPERATIONS, REFUSED, Stream, operations
from topostrata.ingest.formats.checkpoint.reading import Checkpoint
from topostrata.ingest.formats.checkpoint.windows import Span, Window
from topostrata.ingest.formats.stored import Entries

ZIPS = ["state_dict.pt", "sparse.pt", "quantised.pt", "views.pt", "script.pt"]
OTHERS = [
    "legacy.pt",
    "before_0_1_10.pt",
    "state_dict.pkl",
    "mask_records.npy",
    "numpy_protocol_0.pkl",
    "numpy_protocol_5.pkl",
]


def guarded(seed: int, count: int) -> dict[str, object]:
    """What reading mutated streams in a process of their own set off."""
    script = Path(mutations.__file__)
    ran = subprocess.run(
        [sys.executable, str(script), str(seed), str(count)], capture_output=True, text=True, check=True, timeout=300
    )
    answer = json.loads(ran.stdout)
    assert isinstance(answer, dict)
    return answer


def numbers(data: bytes) -> dict[str, tuple[bytes, ...]]:
    """All arrays of a file, as bytes; a meta tensor has none."""
    with Checkpoint(data, where="upload") as checkpoint:
        content = {}
        for name, array in checkpoint.arrays.items():
            if array.place == ABSENT:
                continue
            values = array.read()
            parts = (values.positions, values.values) if isinstance(values, Entries) else (values,)
            content[name] = tuple(np.ascontiguousarray(part).tobytes() for part in parts)
        return content


def test_ten_thousand_mutated_streams_set_nothing_off() -> None:
    """No import, no call, no file, no process: the audit hook sees `id()` and nothing else; memory stays small."""
    answer = guarded(20261127, 10_000)
    assert answer["events"] == ["builtins.id"]
    assert int(str(answer["grown_kib"])) < 100 * 1024
    assert int(str(answer["read"])) > 500
    assert int(str(answer["read"])) + int(str(answer["refused"])) == 10_000


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_many_more_mutated_streams_set_nothing_off(seed: int) -> None:
    """The same for 100,000 streams of other seeds."""
    assert guarded(seed, 20_000)["events"] == ["builtins.id"]


@pytest.mark.parametrize("name", ZIPS)
def test_a_damaged_zip_file_has_the_same_arrays_or_is_refused(name: str) -> None:
    """Any one byte may change: the checksums leave no third way."""
    data = (mutations.DATA / name).read_bytes()
    expected, chance = numbers(data), random.Random(name)
    same = 0
    for _ in range(400):
        at = chance.randrange(len(data))
        damaged = data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
        try:
            assert numbers(damaged) == expected, at
            same += 1
        except TopostrataError as error:
            mutations.check(error)
    assert same > 0


@pytest.mark.parametrize("name", OTHERS)
def test_a_damaged_file_without_checksums_is_read_or_refused(name: str) -> None:
    """Formats without checksums cannot tell every change; none of them crashes the reader."""
    data = (mutations.DATA / name).read_bytes()
    chance = random.Random(name)
    for _ in range(400):
        at = chance.randrange(len(data))
        mutations.outcome(data[:at] + chance.randbytes(1) + data[at + 1 :])


# The end of a tar is empty blocks: without them nothing is missing.
@pytest.mark.parametrize("name", [*ZIPS, *(name for name in OTHERS if name != "before_0_1_10.pt")])
def test_a_file_cut_off_anywhere_is_refused(name: str) -> None:
    """A file still being written is no checkpoint yet."""
    data = (mutations.DATA / name).read_bytes()
    for size in range(0, len(data), max(1, len(data) // 150)):
        if len(data) - size > 22 or name not in ZIPS:
            assert mutations.outcome(data[:size]) == "refused", size


def test_operations_are_those_of_pickletools() -> None:
    """Every byte that Python's own table knows is known by the same name, or refused by it."""
    known = {code: name for code, (name, _) in OPERATIONS.items()} | REFUSED
    assert known == {ord(op.code): op.name for op in pickletools.opcodes}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_streams_are_taken_apart_as_pickletools_does() -> None:
    """Operations, positions and arguments of all golden pickles agree with another decoder."""
    import io

    for sample in mutations.samples():
        window = Window.whole(io.BytesIO(sample.stream), where="x")
        stream = Stream(window)
        for (name, argument), (op, theirs, _) in zip(
            operations(stream), pickletools.genops(sample.stream), strict=True
        ):
            assert name == op.name
            if name in {"GLOBAL", "INST"}:
                assert argument == str(theirs).replace(" ", ".", 1)
            elif name in {"STRING", "BINSTRING", "SHORT_BINSTRING"}:
                assert argument == str(theirs).encode("latin-1")
            elif not isinstance(argument, Span):
                assert argument == theirs
        assert stream.position == len(sample.stream)
