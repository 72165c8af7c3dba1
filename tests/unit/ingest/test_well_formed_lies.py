"""Files whose containers are sound and whose numbers lie: refused by name, within bounded memory."""

from __future__ import annotations

import io
import json
import random
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from topostrata.errors import TopostrataError
from topostrata.ingest.formats import snapshot_file
from topostrata.ingest.formats.reading import read, read_snapshot_bytes
from topostrata.topology import Topology

NUMBERS = [0, 1, -1, 2, 3, 5, 255, 2**31 - 1, 2**31, 2**53, 2**62, 2**63 - 1, -(2**63), 10**7, 10**9]
VALUES: list[Any] = [*NUMBERS, 10**400, 1e308, None, "x", "\ud800", [], {}, True, "a" * 10_000]
MOST_MEMORY = 300 * 2**20
CASES = 100  # of each kind


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array), allow_pickle=False)
    return stream.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
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


def scipy_matrix(rng: random.Random) -> tuple[str, bytes]:
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


def own_snapshot(rng: random.Random) -> tuple[str, bytes]:
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


def state_dict(rng: random.Random) -> tuple[str, bytes]:
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


def dense(rng: random.Random) -> tuple[str, bytes]:
    arrays = {f"fc{k}.npy": bytearray(npy(np.eye(4, dtype=np.float32))) for k in range(3)}
    changed = arrays[rng.choice(list(arrays))]
    changed[rng.randrange(10, len(changed))] = rng.randrange(256)
    return "npz", zipped({name: bytes(data) for name, data in arrays.items()})


def matrix_market(rng: random.Random) -> tuple[str, bytes]:
    lines = ["%%MatrixMarket matrix coordinate real general", "4 4 3", "1 1 1.0", "2 3 2.0", "4 4 1"]
    changed = rng.randrange(len(lines))
    words = lines[changed].split()
    words[rng.randrange(len(words))] = str(rng.choice([*NUMBERS, 10**30, "x", "nan", "1e400"]))
    lines[changed] = " ".join(words)
    return "mtx", ("\n".join(lines) + "\n").encode()


@pytest.mark.parametrize("kind", [scipy_matrix, own_snapshot, state_dict, dense, matrix_market])
def test_a_lie_is_refused_or_harmless(tmp_path: Path, kind: Any) -> None:
    """500 files in all: no other exception, no message without an end, no memory beyond 300 MB."""
    rng = random.Random(kind.__name__)
    tracemalloc.start()
    try:
        for _ in range(CASES):
            suffix, data = kind(rng)
            path = tmp_path / f"file.{suffix}"
            path.write_bytes(data)
            for attempt in (
                lambda path=path: list(read(path, bias="none")),
                lambda data=data: read_snapshot_bytes(data),
            ):
                try:
                    attempt()
                except TopostrataError as error:
                    assert len(str(error).encode()) < 2000  # noqa: PT017 - most attempts raise, some must not
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()
