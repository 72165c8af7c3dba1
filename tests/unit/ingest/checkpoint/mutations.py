"""Pickle streams, mutated by their operations, in sound containers; and a guard that sees what reading them sets off."""

from __future__ import annotations

import io
import json
import pickletools
import random
import resource
import struct
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

from topostrata.errors import TopostrataError
from topostrata.ingest.formats.checkpoint.reading import Checkpoint
from topostrata.ingest.formats.stored import StoredArray

DATA = Path(__file__).resolve().parents[3] / "data" / "checkpoints" / "torch-2.15.0"
CODES = [op.code.encode("latin-1") for op in pickletools.opcodes]
# What a hostile pickle would like to have called.
LURES = [
    b"cos\nsystem\n(S'touch /tmp/owned'\ntR",
    b"\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R",
    b"cbuiltins\nexec\n(V import os\ntR",
    b"cbuiltins\n__import__\n(Vantigravity\ntR",
    b"c__builtin__\neval\n(S'1'\ntR",
    b"(S'x'\nisubprocess\nPopen\n",
    b"(cio\nopen\nS'/etc/passwd'\no",
    b"cnumpy\nload\n(S'/etc/passwd'\ntR",
    b"ctorch.storage\n_load_from_bytes\nC\x04\x80\x02N.\x85R",
    b"ccollections\nOrderedDict\n)\x81",
    b"cbuiltins\ngetattr\n(cos\nS'system'\ntR",
    b"\x82\x01",
    b"\x97",
]
LENGTHS = [0, 1, 255, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]


class Sample:
    """A pickle stream, where its operations begin, and the zip records that belong to it."""

    def __init__(self, stream: bytes, records: dict[str, bytes]) -> None:
        self.stream = stream
        self.records = records
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # pickletools about odd strings of protocol 0
            self.starts = [at for _, _, at in pickletools.genops(stream) if at is not None]

    def around(self, stream: bytes) -> bytes:
        """A container whose pickle is another."""
        if not self.records:
            return stream
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name, data in self.records.items():
                archive.writestr(name, stream if name.endswith("/data.pkl") else data)
        return packed.getvalue()


def samples() -> list[Sample]:
    """The pickle of every golden file."""
    pickles = []
    for path in sorted(DATA.iterdir()):
        if path.suffix == ".pt" and path.stem != "no_checksums" and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                records = {name: archive.read(name) for name in archive.namelist() if "/code/" not in name}
            root = next(iter(records)).split("/", 1)[0]
            pickles.append(Sample(records[f"{root}/data.pkl"], records))
        elif path.suffix == ".pkl":
            pickles.append(Sample(path.read_bytes(), {}))
    return pickles


def mutated(sample: Sample, others: list[Sample], chance: random.Random) -> bytes:
    """The stream after one, two or four changes, each at the border of an operation."""
    stream = sample.stream
    for _ in range(chance.choice([1, 1, 2, 4])):
        at = min(chance.choice(sample.starts), len(stream) - 1)
        end = min(chance.choice(sample.starts), len(stream))
        bit = chance.randrange(8 * len(stream))
        flipped = bytes([stream[bit // 8] ^ 1 << bit % 8])
        number = struct.pack("<Q", chance.choice(LENGTHS))[: chance.choice([1, 2, 4, 8])]
        changes = (
            stream[:at] + chance.choice(CODES) + stream[at + 1 :],
            stream[:at] + stream[end:],
            stream[:at] + stream[at:end] * chance.randint(1, 8) + stream[max(at, end) :],
            stream[:at] + part_of(chance.choice(others), chance) + stream[at:],
            stream[:at] + chance.choice(LURES) + stream[at:],
            stream[: at + 1] + number + stream[at + 1 + len(number) :],
            stream[:at],
            stream[: bit // 8] + flipped + stream[bit // 8 + 1 :],
            stream[:at] + chance.randbytes(chance.randint(1, 6)) + stream[at:],
        )
        stream = chance.choice(changes) or b"."
    return stream


def part_of(other: Sample, chance: random.Random) -> bytes:
    """Some operations of another stream."""
    begin = chance.choice(other.starts)
    return other.stream[begin : begin + chance.randint(1, 80)]


def streams(seed: int, count: int) -> Iterator[bytes]:
    """Containers around mutated streams; the same seed gives the same ones."""
    chance, pool = random.Random(seed), samples()
    for _ in range(count):
        sample = chance.choice(pool)
        yield sample.around(mutated(sample, pool, chance))


def outcome(data: bytes) -> str:
    """``read`` or ``refused``, after every array was asked for; anything but our own error is a crash."""
    try:
        with Checkpoint(data, where="upload") as checkpoint:
            assert all(part.isprintable() for left in checkpoint.left_out for part in (left.name, left.what, left.why))
            return "read" if all(is_read(array) for array in checkpoint.arrays.values()) else "refused"
    except TopostrataError as error:
        check(error)
        return "refused"


def is_read(array: StoredArray) -> bool:
    """Whether an array's numbers come, or one error in words."""
    try:
        array.read()
    except TopostrataError as error:
        check(error)
        return False
    return True


def check(error: TopostrataError) -> None:
    """An error is one line that begins with the file."""
    assert str(error).startswith("upload: "), error
    assert str(error).isprintable(), error


def guarded(seed: int, count: int) -> dict[str, object]:
    """Read the streams of a seed under an audit hook: which events they set off, and the memory they took."""
    for path in sorted(DATA.iterdir()):  # what NumPy and codecs import at first use is imported here
        outcome(path.read_bytes())
    pool = list(streams(seed, count))
    events: set[str] = set()
    watching = False

    def hook(event: str, _arguments: tuple[object, ...]) -> None:
        if watching:
            events.add(event)

    sys.addaudithook(hook)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = {"read": 0, "refused": 0}
    for data in pool:
        watching = True
        result = outcome(data)
        watching = False
        outcomes[result] += 1
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {**outcomes, "events": sorted(events), "grown_kib": grown // (1024 if sys.platform == "darwin" else 1)}


if __name__ == "__main__":
    print(json.dumps(guarded(int(sys.argv[1]), int(sys.argv[2]))))  # noqa: T201  # the answer to the test
