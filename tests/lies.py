"""Files whose containers are sound and whose numbers lie, and a process of its own in which they are read.

``python -m tests.lies KIND COUNT SEED`` reads that many files of a kind through every door for files, and prints as JSON
what came of it: how many were refused, what else was raised, and how much the process grew.
"""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import random
import resource
import sys
import tempfile
import traceback
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.sparse as sp

from tests.held_runs import HeldRuns, family
from topostrata.errors import TopostrataError
from topostrata.ingest.formats import export_file, snapshot_file
from topostrata.ingest.formats.export_file import ExportFile
from topostrata.ingest.formats.reading import read, read_snapshot_bytes
from topostrata.ingest.inspection import inspect
from topostrata.topology import Topology

NUMBERS = [0, 1, -1, 2, 3, 5, 255, 2**31 - 1, 2**31, 2**53, 2**62, 2**63 - 1, -(2**63), 10**7, 10**9]
VALUES: list[Any] = [*NUMBERS, 10**400, 1e308, None, "x", "\ud800", [], {}, True, "a" * 10_000]
GOLDEN = Path(__file__).parent / "data" / "checkpoints" / "torch-2.15.0"

_WIDTHS = {"BININT": 4, "BININT1": 1, "BININT2": 2}  # bytes of the numbers that these operations of a pickle bring

File = tuple[str, bytes]  # the suffix of a name, and the contents


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array), allow_pickle=False)
    return stream.getvalue()


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return packed.getvalue()


def lying(rng: random.Random, array: Any) -> Any:
    """An array of which one thing is not as it was."""
    numbers = np.array(array, dtype=np.int64)
    choice = rng.randrange(10)
    if choice < 5 and numbers.size:
        numbers.reshape(-1)[rng.randrange(numbers.size)] = rng.choice(NUMBERS)
        return numbers
    long = np.zeros(rng.choice([0, 1_000_000]), np.int64)
    return [
        numbers.reshape(-1)[:-1],
        long,
        numbers.astype(np.float32),
        numbers.reshape(1, -1),
        numbers.reshape(-1)[::-1],
    ][choice % 5]


def scipy_matrix(rng: random.Random) -> File:
    form: Any = rng.choice(["csr", "csc", "coo", "bsr", "dia"])
    filled = np.random.default_rng(rng.randrange(1000)).random((8, 6)) < 0.4
    matrix: Any = sp.csr_array(filled.astype(np.float64)).asformat(form)
    parts: dict[str, Any] = {"shape": np.array(matrix.shape), "data": matrix.data}
    for part in ("indices", "indptr", "row", "col", "offsets"):
        if hasattr(matrix, part):
            parts[part] = getattr(matrix, part)
    changed = rng.choice(list(parts))
    parts[changed] = lying(rng, parts[changed])
    return "npz", zipped(
        {f"{name}.npy": npy(part) for name, part in {**parts, "format": np.bytes_(form.encode())}.items()}
    )


def own_snapshot(rng: random.Random) -> File:
    packed = io.BytesIO()
    snapshot_file.write(packed, Topology.from_masks([np.eye(4), np.ones((4, 3))]))
    with zipfile.ZipFile(packed) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    changed = rng.choice(list(members))
    if changed.endswith(".npy"):
        members[changed] = npy(lying(rng, np.load(io.BytesIO(members[changed]))))
        return "npz", zipped(members)
    document, value = json.loads(members[changed]), rng.choice(VALUES)
    place = rng.choice(["size", "space", "layer", "epoch", "metrics"])
    if place in {"size", "space"}:
        rng.choice(document["spaces"])["size" if place == "size" else "name"] = value
    elif place == "layer":
        rng.choice(document["layers"])[rng.choice(["taps", "name", "source"])] = value
    else:
        document[place] = {"loss": value} if place == "metrics" else value
    return "npz", zipped({**members, changed: json.dumps(document).encode()})


def state_dict(rng: random.Random) -> File:
    header: dict[str, Any] = {}
    for k in range(3):
        dtype = rng.choice(["F32", "F32", "BOOL", "I64", "F8_E4M3", "F4", "BF16"])
        header[f"fc{k}.weight"] = {"dtype": dtype, "shape": [4, 4], "data_offsets": [64 * k, 64 * k + 64]}
    lies: list[Any] = [[0, 2**61, 2**61], [0], [-1, 4], "F32", [2**63, 0], None, [[1]], [1.5, 2], "\ud800", {}]
    header[rng.choice(list(header))][rng.choice(["dtype", "shape", "data_offsets"])] = rng.choice(lies)
    if rng.random() < 0.1:
        header["\ud800"] = header.pop("fc0.weight")
    text = json.dumps(header).encode()
    return "safetensors", len(text).to_bytes(8, "little") + text + bytes(rng.randrange(2) for _ in range(192))


def dense(rng: random.Random) -> File:
    arrays = {f"fc{k}.npy": bytearray(npy(np.eye(4, dtype=np.float32))) for k in range(3)}
    changed = arrays[rng.choice(list(arrays))]
    changed[rng.randrange(10, len(changed))] = rng.randrange(256)
    return "npz", zipped({name: bytes(data) for name, data in arrays.items()})


def matrix_market(rng: random.Random) -> File:
    lines = ["%%MatrixMarket matrix coordinate real general", "4 4 3", "1 1 1.0", "2 3 2.0", "4 4 1"]
    changed = rng.randrange(len(lines))
    words = lines[changed].split()
    words[rng.randrange(len(words))] = str(rng.choice([*NUMBERS, 10**30, "x", "nan", "1e400"]))
    lines[changed] = " ".join(words)
    return "mtx", ("\n".join(lines) + "\n").encode()


def checkpoint(rng: random.Random) -> File:
    """A checkpoint as real torch writes it, in whose pickle one to three numbers are others: sizes, offsets, strides."""
    path = rng.choice([p for p in sorted(GOLDEN.glob("*.pt")) if p.stem != "no_checksums" and zipfile.is_zipfile(p)])
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    pickled = next(name for name in members if name.endswith("/data.pkl"))
    stream = members[pickled]
    numbers = [(at, _WIDTHS[op.name]) for op, _, at in pickletools.genops(stream) if op.name in _WIDTHS and at]
    for at, width in sorted(rng.sample(numbers, min(len(numbers), rng.choice([1, 1, 2, 3]))), reverse=True):
        stream = stream[:at] + pickle.dumps(rng.choice(NUMBERS), 2)[2:-1] + stream[at + 1 + width :]
    return "pt", zipped({**members, pickled: stream}, zipfile.ZIP_STORED)


def matlab(rng: random.Random) -> File:
    """A MATLAB file, in whose unpacked elements one word of 32 bits is another."""
    stream: Any = io.BytesIO()
    filled = np.random.default_rng(rng.randrange(1000)).random((8, 6)) < 0.4
    value: Any = sp.csc_matrix(filled.astype(float)) if rng.random() < 0.5 else filled.astype(float)
    scipy.io.savemat(stream, {"fc1": value}, do_compression=rng.random() < 0.5)
    data = bytearray(stream.getvalue())
    packed = int.from_bytes(data[128:132], "little") == 15  # miCOMPRESSED
    element = bytearray(zlib.decompress(bytes(data[136:]))) if packed else data[128:]
    at = 4 * rng.randrange(len(element) // 4)
    element[at : at + 4] = (rng.choice(NUMBERS) & 0xFFFFFFFF).to_bytes(4, "little")
    if not packed:
        return "mat", bytes(data[:128] + element)
    again = zlib.compress(bytes(element))
    return "mat", bytes(data[:132]) + len(again).to_bytes(4, "little") + again


def exported(rng: random.Random) -> File:
    """An export, in which one value of a line or one array of a topology is another."""
    runs: HeldRuns = family(3)
    stream = io.BytesIO()
    export_file.write(
        stream, runs.records, lambda record: runs.snapshots(record.run.id), runs.topology, runs.step_metrics
    )
    with zipfile.ZipFile(stream) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    changed = rng.choice(sorted(members))
    if changed.endswith(".npz"):
        with zipfile.ZipFile(io.BytesIO(members[changed])) as inner:
            parts = {info.filename: inner.read(info) for info in inner.infolist()}
        part = rng.choice([name for name in sorted(parts) if name.endswith(".npy")])
        parts[part] = npy(lying(rng, np.load(io.BytesIO(parts[part]))))
        return "export", zipped({**members, changed: zipped(parts)})
    lines = [json.loads(line) for line in members[changed].splitlines()]
    line = rng.choice(lines)
    line[rng.choice(sorted(line))] = rng.choice(VALUES)
    return "export", zipped({**members, changed: b"".join(json.dumps(each).encode() + b"\n" for each in lines)})


KINDS: dict[str, Callable[[random.Random], File]] = {
    kind.__name__: kind
    for kind in (scipy_matrix, own_snapshot, state_dict, dense, matrix_market, checkpoint, matlab, exported)
}


def _read_export(path: Path) -> None:
    with ExportFile(path) as file:
        file.check()
        for record, snapshots in file.histories():
            for snapshot in snapshots:
                file.topology(record, snapshot)


def _doors(path: Path, data: bytes) -> list[Callable[[], object]]:
    if path.suffix == ".export":
        return [lambda: _read_export(path)]
    return [
        lambda: list(read(path, bias="none")),
        lambda: inspect(path, bias="none"),
        lambda: read_snapshot_bytes(data),
    ]


def _peak() -> int:
    """The most bytes that this process had in memory; what ``getrusage`` says counts its parent's too on Linux."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def main(kind: str, count: int, seed: int) -> dict[str, Any]:
    """Read the files; what was raised besides an error of ours, and a message without an end, is told."""
    refused, wrong, largest = 0, list[str](), 0
    before = 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            suffix, data = KINDS[kind](random.Random(f"{kind} {seed} {number}"))
            path = Path(folder) / f"file.{suffix}"
            path.write_bytes(data)
            largest = max(largest, len(data))
            for door in _doors(path, data):
                try:
                    door()
                except TopostrataError as error:
                    refused += 1
                    if len(str(error).encode(errors="replace")) > 2000:
                        wrong.append(f"{number}: a message of {len(str(error))} characters")
                except Exception:  # noqa: BLE001 - this is what is looked for
                    wrong.append(f"{number}: {traceback.format_exc()[-1500:]}")
            before = before or _peak()  # after the first file, when everything is loaded
    return {"refused": refused, "wrong": wrong, "grown": _peak() - before, "largest": largest}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
