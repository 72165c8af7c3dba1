"""Bodies that mean harm to whoever reads them as a snapshot: seeded, each with the name of what is wrong with it."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from topostrata.ingest.formats import snapshot_file
from topostrata.topology import Topology

Body = tuple[str, bytes]

DOCUMENT: dict[str, Any] = {
    "format": 1,
    "spaces": [{"name": "a", "size": 6, "labelled": True}, {"name": "b", "size": 4, "labelled": True}],
    "layers": [{"name": "l0", "source": "a", "target": "b", "taps": 1}],
}
INDPTR, INDICES = [0, 2, 3, 3, 5], [0, 5, 2, 1, 3]


def npy(array: Any) -> bytes:
    """An array as NumPy writes it."""
    stream = io.BytesIO()
    np.save(stream, np.asarray(array), allow_pickle=True)
    return stream.getvalue()


def forged(header: str, data: bytes = b"\0" * 40, *, version: bytes = b"\1\0", length: int | None = None) -> bytes:
    """What claims to be an array, with this header."""
    text = header.encode("latin-1", "replace")
    size = struct.pack("<H" if version == b"\1\0" else "<I", len(text) if length is None else length)
    return b"\x93NUMPY" + version + size + text + data


def npz(
    members: Mapping[str, bytes] | None = None, *, document: Any = DOCUMENT, method: int = 0, **arrays: Any
) -> bytes:
    """A snapshot as npz, with other arrays or members in the place of right ones."""
    text = document if isinstance(document, str) else json.dumps(document)
    parts = {"topology.npy": npy(text), "0.indptr.npy": npy(np.array(INDPTR)), "0.indices.npy": npy(np.array(INDICES))}
    parts |= {f"0.{name}.npy": npy(array) for name, array in (arrays or {}).items()}
    parts |= dict(members or {})
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return stream.getvalue()


def tensors(header: Any = None, data: bytes = b"", *, document: Any = DOCUMENT, length: int | None = None) -> bytes:
    """A snapshot as safetensors, with another header or data in the place of the right ones."""
    arrays = np.array(INDPTR, "<i8").tobytes() + np.array(INDICES, "<i4").tobytes()
    right = {
        "__metadata__": {"topology": document if isinstance(document, str) else json.dumps(document)},
        "0.indptr": {"dtype": "I64", "shape": [5], "data_offsets": [0, 40]},
        "0.indices": {"dtype": "I32", "shape": [5], "data_offsets": [40, 60]},
    }
    text = header if isinstance(header, bytes) else json.dumps({**right, **(header or {})}).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + (data or arrays)


def valid() -> dict[str, bytes]:
    """The same snapshot in each container, as it is right."""
    masks = np.zeros((6, 4))
    masks[[0, 5, 2, 1, 3], [0, 0, 1, 3, 3]] = 1
    topology = Topology.from_masks([masks])
    bodies: dict[str, bytes] = {}
    containers: tuple[snapshot_file.Container, ...] = ("npz", "safetensors", "bits")
    for container in containers:
        stream = io.BytesIO()
        snapshot_file.write(stream, topology, metrics={"loss": 0.5}, container=container)
        bodies[container] = stream.getvalue()
    return bodies


def truncated(rng: random.Random) -> Iterator[Body]:
    """Cut anywhere."""
    for kind, body in valid().items():
        for at in sorted(rng.sample(range(len(body)), 50)):
            yield f"{kind} cut at {at}", body[:at]


def arrays(_rng: random.Random) -> Iterator[Body]:
    """Numbers that are no indices."""
    for part, right in (("indptr", INDPTR), ("indices", INDICES)):
        for dtype in ("f4", "f8", "c8", "?", "M8[s]", "S3", "U3", "O", "V4", "f2"):
            yield f"{part} of {dtype}", npz(arrays={part: np.array(right).astype(dtype)})
        for value in (-1, 6, 2**31, 2**40, 2**63 - 1):
            numbers = np.array(right)
            for at in range(len(right)):
                changed = numbers.copy()
                changed[at] = value
                yield f"{part}[{at}] = {value}", npz(arrays={part: changed})
        for odd in (np.nan, np.inf, 0.5):
            yield f"{part} with {odd}", npz(arrays={part: np.array([*right[:-1], odd])})
        yield f"{part} empty", npz(arrays={part: np.zeros(0, int)})
        yield f"{part} twice", npz(arrays={part: np.array(right * 2)})
        yield f"{part} backwards", npz(arrays={part: np.array(right[::-1])})
        yield f"{part} of two axes", npz(arrays={part: np.array([right])})
        yield f"{part} of none", npz(arrays={part: np.array(3)})


def bits(_rng: random.Random) -> Iterator[Body]:
    """Bytes that are no bits of the layer."""

    def body(array: Any, **more: Any) -> bytes:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, value in {
                "topology": json.dumps(more.pop("document", DOCUMENT)),
                "0.bits": array,
                **more,
            }.items():
                archive.writestr(f"{name}.npy", value if isinstance(value, bytes) else npy(value))
        return stream.getvalue()

    right = np.zeros((4, 1), np.uint8)
    for dtype in ("?", "i1", "u2", "i8", "f4", "S1", "O", "M8[s]"):
        yield f"bits of {dtype}", body(right.astype(dtype))
    for shape in ((1, 4), (4,), (), (0, 1), (4, 0), (5, 1), (4, 2), (4, 1, 1), (2**24, 1)):
        yield f"bits of shape {shape}", body(np.zeros(shape, np.uint8))
    yield "bits beyond the last input", body(right + 1)
    yield "bits beside indices", body(right, **{"0.indptr": np.array(INDPTR), "0.indices": np.array(INDICES)})
    yield "bits of a layer that is not there", body(right, **{"1.bits": right})
    header = "{'descr': '|u1', 'fortran_order': False, 'shape': %s, }"
    for lie in ("(4, 2**40)", f"({2**40}, 1)", "(-4, 1)", "(4, 1.0)"):
        yield f"bits that say {lie}", body(forged(header % lie))
    wide = [{"name": name, "size": 2**20} for name in ("a", "b")]
    yield "a layer of 128 GiB of bits", body(right, document={**DOCUMENT, "spaces": wide})


def headers(_rng: random.Random) -> Iterator[Body]:
    """Headers of arrays that lie, or try to be more than a header."""
    shapes = ["(-1,)", "(2**62,)", f"({2**63},)", f"({2**64},)", "(5, 0)", "(" + "1, " * 40 + ")", "()", "(5.0,)", "5",
              "(True,)", "('5',)", "(1000000000,)", "((5,),)", f"({'9' * 5000},)"]  # fmt: skip
    texts = [f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}" for shape in shapes]
    texts += [f"{{'descr': {descr}, 'fortran_order': False, 'shape': (5,), }}" for descr in
              ("'|O'", "'<i99'", "'|V0'", "[('a', '<i8')]", "('<i8', (2**40,))", "'>c16'", "7", "None", "''")]  # fmt: skip
    texts += ["", "{}", "{" * 5000, "[" * 5000, "__import__('os').abort()", "{'descr': '<i8'}", "(" * 60_000,
              "{'descr': '<i8', 'fortran_order': 2, 'shape': (5,)}", "{'descr': '<i8', 'shape': (5,), 'x': 1}"]  # fmt: skip
    for text in texts:
        yield f"header {text[:60]}", npz({"0.indptr.npy": forged(text)})
    right = "{'descr': '<i8', 'fortran_order': False, 'shape': (5,), }"
    for version in (b"\0\0", b"\4\0", b"\xff\xff"):
        yield f"header of version {version!r}", npz({"0.indptr.npy": forged(right, version=version)})
    for length in (0, 1, 60_000):
        yield f"header of length {length}", npz({"0.indptr.npy": forged(right, length=length)})
    yield "header of 4 GB", npz({"0.indptr.npy": forged(right, version=b"\2\0", length=2**32 - 1)})
    yield "an array of 32 bytes that says 40", npz({"0.indptr.npy": forged(right, b"\0" * 32)})
    yield "an array of 48 bytes that says 40", npz({"0.indptr.npy": forged(right, b"\0" * 48)})


def archives(rng: random.Random) -> Iterator[Body]:
    """Zip files that are more or less than they say."""
    for size in (2**23, 2**25):
        yield f"{size} zeros", npz(arrays={"indices": np.zeros(size // 8, np.int64)}, method=8)
        yield f"{size} zeros in the document", npz(method=8, document=" " * (size // 4))
        yield f"{size} zeros beside", npz({"more.npy": b"\0" * size}, method=8)
    yield "a bomb of bombs", npz({f"{k}.npy": b"\0" * 2**20 for k in range(200)}, method=8)
    yield "ten thousand members", npz({f"{k}.npy": b"" for k in range(10_000)})
    for name in ("../0.npy", "/etc/passwd", "0.indptr.npy/../x", "a" * 60_000, " ", "x\\y", "CON", "0.weights.npy"):
        yield f"a member {name[:20]!r}", npz({name: b"x"})
    body = bytearray(npz())
    central = body.index(b"PK\1\2")
    for at, size, what in ((10, 2, "method"), (16, 4, "checksum"), (20, 4, "packed size"),
                           (24, 4, "size"), (28, 2, "length of a name"), (42, 4, "offset")):  # fmt: skip
        for value in (1, 2**15, 2**16 - 1, rng.randrange(2**16)):
            changed = body.copy()
            changed[central + at : central + at + size] = (value if size == 2 else value * 65_537).to_bytes(
                size, "little"
            )
            yield f"{what} {value}", bytes(changed)
    second = body.index(b"PK\1\2", central + 4)
    changed = body.copy()
    changed[second + 42 : second + 46] = changed[central + 42 : central + 46]
    yield "two members in one place", bytes(changed)
    end = body.rindex(b"PK\5\6")
    for at, value in ((10, 9999), (12, 2**31), (16, 2**31), (16, 0)):
        changed = body.copy()
        changed[end + at : end + at + 2] = (value & 0xFFFF).to_bytes(2, "little")
        yield f"directory at {at} says {value}", bytes(changed)
    for name, data in {
        "a pickle": pickle.dumps([1]), "a pickled call": b"cos\nabort\n(tR.", "nothing": b"", "a zip of nothing": b"PK\5\6" + b"\0" * 18,
        "a magic": b"PK\3\4", "gzip": zlib.compress(b"x" * 1000), "text": b"hello", "JSON": b"{}", "zeros": b"\0" * 1000,
        "ones": b"\xff" * 1000, "an array alone": npy(np.array(INDPTR)),
    }.items():  # fmt: skip
        yield name, data


def safetensors(rng: random.Random) -> Iterator[Body]:
    """Headers of safetensors that lie."""
    right = {"dtype": "I64", "shape": [5], "data_offsets": [0, 40]}
    claims: list[dict[str, Any]] = [
        {"data_offsets": [0, 41]}, {"data_offsets": [40, 0]}, {"data_offsets": [-8, 32]}, {"data_offsets": [20, 60]},
        {"data_offsets": [0, 2**63]}, {"data_offsets": [2**64, 2**64 + 40]}, {"data_offsets": [0]}, {"data_offsets": None},
        {"data_offsets": [0.0, 40.0]}, {"data_offsets": ["0", "40"]}, {"data_offsets": [True, 40]},
        {"shape": [2**63]}, {"shape": [2**32, 2**32]}, {"shape": [-5]}, {"shape": [5, 0]}, {"shape": [1] * 100}, {"shape": 5},
        {"shape": [5.0]}, {"shape": ["5"]}, {"shape": [0]}, {"shape": []}, {"dtype": "F64"}, {"dtype": "BF16"}, {"dtype": "I7"},
        {"dtype": None}, {"dtype": ["I64"]}, {"dtype": "BOOL"}, {"more": 1},
    ]  # fmt: skip
    for change in claims:
        yield f"0.indptr with {change}", tensors({"0.indptr": {**right, **change}})
    others: list[Any] = [None, 5, [], {}, "x", [right]]
    for value in others:
        yield f"0.indptr is {value}", tensors({"0.indptr": value})
    yield "two in one place", tensors({"0.indices": {"dtype": "I32", "shape": [5], "data_offsets": [0, 20]}})
    wrong: list[Any] = [None, 5, [], {}, {"topology": 5}, {"topology": None}, {"topology": "\ud800"}]
    for metadata in wrong:
        yield f"metadata {metadata!r}", tensors({"__metadata__": metadata})
    for text in (
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":1,"a":2}',
        b'{"\\ud800": 1}',
        b"NaN",
        b"1e999",
    ):
        yield f"header {text[:20]!r}", tensors(text)
    for length in (0, 1, 2**20, 2**31, 2**63, 2**64 - 1, rng.randrange(2**40)):
        yield f"a header of {length} bytes", tensors(length=length)
    yield "data that nobody names", tensors(data=b"\0" * 1000)
    yield "no data", tensors(data=b"\0")


def documents(_rng: random.Random) -> Iterator[Body]:
    """Wirings that are none."""
    space, layer = DOCUMENT["spaces"][0], DOCUMENT["layers"][0]
    changes: list[dict[str, Any]] = [{"format": value} for value in (0, 99, -1, None, "1", 1.5, True, [1], 10**400)]
    sizes: list[Any] = [-1, 0, 2**25, 2**63, 2**64, 1.5, True, None, "6", [6], 10**400]
    for value in sizes:
        changes.append({"spaces": [{**space, "size": value}, DOCUMENT["spaces"][1]]})
        changes.append({"layers": [{**layer, "taps": value}]})
    names: list[Any] = ["", "\ud800", "\0", "x" * 100_000, None, 5, "a/b", "b"]
    for value in names:
        changes.append({"spaces": [{**space, "name": value}, DOCUMENT["spaces"][1]]})
        changes.append({"layers": [{**layer, "source": value}]})
    lists: list[Any] = [None, 5, {}, [], [5], [[]], "x", [None]]
    changes += [{key: value} for key in ("spaces", "layers") for value in lists]
    changes += [{"layers": [{**layer, "name": f"l{k}"} for k in range(3000)]}, {"layers": [layer, layer]}]
    epochs: list[Any] = ["5", True, [1], 10**400]
    metrics: list[Any] = [[], 5, {"X": 1}, {"x": "1"}, {"x": None}, {f"m{k}": 1 for k in range(65)}]
    times: list[Any] = [5, "yesterday", "2026-01-01T00:00:00", "0001-01-01T00:00:00+14:00"]
    for key, wrong in (("epoch", epochs), ("metrics", metrics), ("recorded_at", times)):
        changes += [{key: value} for value in wrong]
    changes += [{"digest": "0" * 64}, {"more": 1}]
    makers: tuple[Callable[..., bytes], ...] = (npz, tensors)
    for k, change in enumerate(changes):
        yield f"document with {str(change)[:60]}", makers[k % 2](document={**DOCUMENT, **change})
    right = json.dumps(DOCUMENT)
    for text in (right.replace('"format": 1', '"format": 1, "epoch": NaN'), right.replace('"format": 1', '"epoch": 1e999, "format": 1'),
                 right[:-1], right + right, "[" * 100_000, right.replace('"a"', '"\\ud800"')):  # fmt: skip
        yield f"document {text[:40]}", npz(document=text)


def hostile(seed: int) -> list[Body]:
    """All of them."""
    rng = random.Random(seed)
    kinds = (truncated, arrays, bits, headers, archives, safetensors, documents)
    return [body for kind in kinds for body in kind(rng)]
