"""Topostrata's own file: what is written is read, equal input gives equal bytes, damage never gives another wiring."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wirings import MODELS, random_network
from topostrata.errors import InvalidInputError, LimitError, TopostrataError, UnsupportedFormatError
from topostrata.ingest.formats import snapshot_file
from topostrata.ingest.formats.limits import Limits
from topostrata.ingest.formats.reading import read_snapshot_bytes
from topostrata.ingest.formats.snapshot_file import Container, SnapshotFile
from topostrata.settings import Settings
from topostrata.topology import Layer, Mask, Space, Topology

NAMES = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=12)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9)


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    """Networks of up to four layers, with taps, skips past a layer, any names, any wiring."""
    names = draw(st.lists(NAMES, min_size=2, max_size=5, unique=True))
    spaces = [Space(name, draw(st.integers(1, 6)), labelled=draw(st.booleans())) for name in names]
    layers = []
    for k, target in enumerate(spaces[1:]):
        sources = draw(st.sets(st.integers(0, k), max_size=2)) | {k}
        for source in sorted(sources):
            taps = draw(st.integers(1, 3))
            size = spaces[source].size * taps * target.size
            cells = sorted(draw(st.sets(st.integers(0, size - 1), max_size=20)))
            mask = Mask(spaces[source].size, target.size, np.array(cells, np.int64), taps)
            layers.append(Layer(f"{k}.{source}", spaces[source], target, mask))
    return Topology(tuple(layers))


def written(topology: Topology, container: Container = "npz", **more: Any) -> bytes:
    buffer = io.BytesIO()
    snapshot_file.write(buffer, topology, container=container, **more)
    return buffer.getvalue()


def small() -> Topology:
    return Topology.from_masks([np.eye(4), np.array([[1, 0], [0, 0], [1, 1], [0, 1]])])


@given(
    topology=topologies(),
    epoch=st.none() | NUMBERS,
    metrics=st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True), NUMBERS, max_size=4),
    recorded_at=st.none() | st.datetimes(timezones=st.just(UTC)),
    container=st.sampled_from(["npz", "safetensors", "bits"]),
)
@settings(max_examples=150, deadline=None)
def test_what_is_written_is_read(
    topology: Topology,
    epoch: float | None,
    metrics: dict[str, float],
    recorded_at: datetime | None,
    container: Container,
) -> None:
    """Any topology, epoch, metrics and time come back equal, and equal input gives equal bytes."""
    data = written(topology, container, epoch=epoch, metrics=metrics, recorded_at=recorded_at)
    assert read_snapshot_bytes(data) == SnapshotFile(topology, epoch, metrics, recorded_at)
    assert snapshot_file.read(io.BytesIO(data)).topology == topology
    assert data == written(
        topology, container, epoch=epoch, metrics=dict(reversed(metrics.items())), recorded_at=recorded_at
    )


@pytest.mark.parametrize("container", ["npz", "safetensors", "bits"])
def test_metrics_of_layers_are_written_and_read(container: Container) -> None:
    """They take format 2, stand in one order whatever theirs was, and are refused where they are no numbers."""
    flows = {"l1": {"flow": 0.5, "a": 1.0}, "l0": {"flow": 2.0}}
    data = written(small(), container, layer_metrics=flows)
    assert read_snapshot_bytes(data) == SnapshotFile(small(), layer_metrics=flows)
    turned = {layer: dict(reversed(flows[layer].items())) for layer in ("l0", "l1")}
    assert data == written(small(), container, layer_metrics=turned)
    with np.load(io.BytesIO(written(small(), layer_metrics=flows))) as file:
        assert json.loads(file["topology"])["format"] == 2
    assert written(small(), container, layer_metrics={"l0": {}}) == written(small(), container)
    with pytest.raises(InvalidInputError, match="layer 'l0': metric 'X'"):
        written(small(), container, layer_metrics={"l0": {"X": 1.0}})


@pytest.mark.parametrize("claim", [3, {"l0": 3}, {"l0": {"flow": "x"}}, {"l0": {"Flow": 1}}])
def test_metrics_of_layers_that_are_none_are_refused(claim: Any) -> None:
    """The error names the file, and the layer where it is one layer's."""
    names = {"format": 2, "layer_metrics": claim}
    with pytest.raises(InvalidInputError, match=r"snapshot: topology: layer(_metrics| 'l0'): .*expected"):
        read_snapshot_bytes(with_document(**names))
    with pytest.raises(InvalidInputError, match=r"expected format, layers, spaces"):
        read_snapshot_bytes(with_document(**{**names, "format": 1}))


def with_document(**changed: Any) -> bytes:
    """A small file whose document says something else."""
    buffer = io.BytesIO()
    with np.load(io.BytesIO(written(small()))) as file:
        document = json.loads(file["topology"]) | changed
        arrays = {name: file[name] for name in file.files if name != "topology"}
    np.savez(buffer, topology=json.dumps(document), **arrays)
    return buffer.getvalue()


def test_the_layout_is_the_documented_one() -> None:
    """Members, arrays and the JSON document are those of docs/snapshot-file.md."""
    data = written(small(), epoch=2, metrics={"loss": 0.5})
    with np.load(io.BytesIO(data)) as file:
        assert set(file.files) == {"topology", "0.indptr", "0.indices", "1.indptr", "1.indices"}
        assert file["1.indptr"].tolist() == [0, 2, 4]
        assert file["1.indices"].tolist() == [0, 2, 2, 3]
        document = json.loads(file["topology"])
    assert document == {
        "format": 1,
        "spaces": [
            {"name": "input", "size": 4, "labelled": True},
            {"name": "hidden1", "size": 4, "labelled": False},
            {"name": "output", "size": 2, "labelled": True},
        ],
        "layers": [
            {"name": "l0", "source": "input", "target": "hidden1", "taps": 1},
            {"name": "l1", "source": "hidden1", "target": "output", "taps": 1},
        ],
        "epoch": 2.0,
        "metrics": {"loss": 0.5},
        "digest": small().digest,
    }


def test_masks_as_bits_are_what_packbits_makes_of_them() -> None:
    """A row a target unit, the highest bit first: unpacked with the number of inputs it is the transposed mask."""
    random = np.random.default_rng(3)
    masks = [random.random((13, 8)) < 0.4, random.random((8, 5)) < 0.4]
    with np.load(io.BytesIO(written(Topology.from_masks(masks), "bits"))) as file:
        assert set(file.files) == {"topology", "0.bits", "1.bits"}
        for k, mask in enumerate(masks):
            assert np.array_equal(np.unpackbits(file[f"{k}.bits"], axis=1, count=len(mask)), mask.T)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"0.bits": np.zeros((4, 2), np.uint8)}, r"layer 'l0': 0\.bits: expected uint8 of shape \(4, 1\), found 8 num"),
        ({"0.bits": np.zeros((1, 4), np.uint8)}, r"0\.bits: expected uint8 of shape \(4, 1\), found uint8 of .*1, 4"),
        ({"0.bits": np.zeros((4, 1), bool)}, r"0\.bits: expected uint8 of shape \(4, 1\), found bool"),
        ({"1.bits": np.full((2, 1), 0xF8, np.uint8)}, r"1\.bits: expected zeros after the last bit of each row"),
        ({"1.bits": np.zeros((2, 1), np.uint8)}, "expected the digest"),
        ({"1.bits": None}, r"expected <k>\.bits for the 2 layers of topology, missing 1\.bits, found beyond that none"),
        ({"0.bits": None}, r"missing 0\.indices, .*found beyond that 1\.bits"),
        ({"1.indptr": np.zeros(3, int)}, r"missing none, found beyond that 1\.indptr"),
    ],
)
def test_bits_that_do_not_fit_are_refused(change: dict[str, Any], words: str) -> None:
    """Another shape or dtype, bits where nothing can be connected, and layers without them."""
    with np.load(io.BytesIO(written(small(), "bits"))) as file:
        arrays = {name: file[name] for name in file.files} | change
    stream = io.BytesIO()
    np.savez(stream, **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(InvalidInputError, match=words):
        read_snapshot_bytes(stream.getvalue())


def test_bits_are_counted_before_they_are_unpacked() -> None:
    """A dense layer of few bytes is refused by its connections, and by the memory that they would take."""
    dense = written(Topology.from_masks([np.ones((1000, 1000), bool)]), "bits")
    assert len(dense) < 2000
    with pytest.raises(LimitError, match="at most 1,000 connections, found 1,000,000"):
        read_snapshot_bytes(dense, limits=Limits(connections=1000))
    with pytest.raises(LimitError, match="memory"):
        read_snapshot_bytes(dense, limits=Limits(memory=30 * 2**20))
    assert read_snapshot_bytes(dense, limits=Limits(memory=100 * 2**20)).topology.nnz == 1_000_000


@pytest.mark.parametrize("container", ["npz", "safetensors", "bits"])
@pytest.mark.parametrize("name", list(MODELS))
def test_every_architecture_is_written_and_read(name: str, container: Container) -> None:
    """Plain networks in format 1, the others in format 2; tied layers have their arrays once."""
    topology = MODELS[name]().topology(np.random.default_rng(0))
    data = written(topology, container)
    assert snapshot_file.read(data).topology == topology
    assert data == written(snapshot_file.read(data).topology, container)
    if container != "safetensors":
        with np.load(io.BytesIO(data)) as file:
            assert json.loads(file["topology"])["format"] == topology.wiring.format
            assert len(file.files) == 1 + (2 if container == "npz" else 1) * len(topology.to_masks())


@given(seed=st.integers(0, 2**32 - 1), container=st.sampled_from(["npz", "safetensors", "bits"]))
@settings(deadline=None)
def test_random_networks_of_every_kind_are_written_and_read(seed: int, container: Container) -> None:
    """Residual streams, self-loops, groups, shared axes and taps come back whole."""
    random = np.random.default_rng(seed)
    topology = random_network(random).topology(random)
    assert snapshot_file.read(written(topology, container)).topology == topology


@pytest.mark.parametrize(
    ("version", "digest"),
    [
        (1, "8a978aa60b3fcea0a799b4755a288d466d225a340b41a3744fcc7c507a0e9f34"),
        (2, "9632ad82cf3c74f10bf98b780929a73d971a6eea541cdb6903ba99cb2cd4eabf"),
    ],
)
def test_files_of_every_format_open_for_ever(version: int, digest: str) -> None:
    """A file that an earlier version wrote is read, and written again to the same content."""
    path = Path(__file__).parents[2] / "data" / f"snapshot-format-{version}.npz"
    opened = snapshot_file.read(path)
    assert (opened.topology.digest, opened.epoch, opened.metrics) == (digest, 3, {"loss": 0.5})
    again = written(opened.topology, epoch=opened.epoch, metrics=opened.metrics)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(io.BytesIO(again)) as new:
        assert {name: old.read(name) for name in old.namelist()} == {name: new.read(name) for name in new.namelist()}


def test_a_client_with_numpy_alone_can_write_it() -> None:
    """A file with the required fields only, and with small integer types, is read."""
    document = {
        "format": 1,
        "spaces": [{"name": "x", "size": 3, "labelled": True}, {"name": "y", "size": 2, "labelled": True}],
        "layers": [{"name": "only", "source": "x", "target": "y"}],
    }
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {"0.indptr": [0, 1, 3], "0.indices": np.array([2, 0, 1], np.uint16)}
    np.savez(buffer, topology=json.dumps(document), **arrays)
    (layer,) = read_snapshot_bytes(buffer.getvalue()).topology.layers
    assert (layer.name, layer.mask.cells.tolist()) == ("only", [2, 3, 4])


def test_the_suffix_names_the_container_and_the_file_is_replaced_whole(tmp_path: Path) -> None:
    """``.safetensors`` gives safetensors, all else npz, and no temporary file stays."""
    for name, head in (("a.npz", b"PK"), ("a.safetensors", b"{"), ("b", b"PK")):
        (tmp_path / name).write_bytes(b"old")
        snapshot_file.write(tmp_path / name, small())
        assert head in (tmp_path / name).read_bytes()[:10]
        assert snapshot_file.read(tmp_path / name).topology == small()
    assert {path.name for path in tmp_path.iterdir()} == {"a.npz", "a.safetensors", "b"}


def test_a_time_is_kept_in_utc() -> None:
    """A time with a zone comes back in UTC; a time without a zone is refused."""
    there = datetime(2024, 5, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    recorded_at = read_snapshot_bytes(written(small(), recorded_at=there)).recorded_at
    assert recorded_at == there
    assert recorded_at is not None
    assert recorded_at.tzinfo == UTC
    with pytest.raises(InvalidInputError, match="recorded_at: expected a time with its zone"):
        written(small(), recorded_at=there.replace(tzinfo=None))


def test_wide_layers_keep_their_large_keys() -> None:
    """Keys beyond 32 bits are written and read."""
    mask = Mask(2**22, 2, np.array([2**31, 2**33 - 1], np.int64), taps=2**10)
    topology = Topology((Layer("l", Space("a", 2**22), Space("b", 2), mask),))
    assert read_snapshot_bytes(written(topology)).topology == topology


@pytest.mark.parametrize("container", ["npz", "safetensors", "bits"])
def test_a_damaged_byte_anywhere_is_an_error_or_the_same_wiring(container: Container) -> None:
    """A cut or flipped byte never gives another topology, and few flips go unnoticed."""
    data = written(small(), container, epoch=1, metrics={"loss": 0.5})
    damaged = [data[:k] for k in range(len(data))]
    damaged += [
        data[:k] + bytes([data[k] ^ flip]) + data[k + 1 :] for k in range(len(data)) for flip in (1, 0x20, 0xFF)
    ]
    same = 0
    for bytes_ in damaged:
        try:
            snapshot = read_snapshot_bytes(bytes_)
        except TopostrataError as error:
            assert isinstance(error, InvalidInputError | LimitError | UnsupportedFormatError)  # noqa: PT017  # others show
        else:
            assert snapshot.topology.digest == small().digest
            same += 1
    assert same < len(damaged) / 5


@given(data=st.binary(max_size=300), head=st.sampled_from([b"", b"PK\x03\x04", b"PK\x05\x06", b"\x02\0\0\0\0\0\0\0{}"]))
@settings(max_examples=300, deadline=None)
def test_noise_is_an_error(data: bytes, head: bytes) -> None:
    """Random bytes, with the head of a zip or of a safetensors file or without, are refused."""
    with pytest.raises((InvalidInputError, LimitError)):
        read_snapshot_bytes(head + data)


def repacked(container: Container = "npz", arrays: dict[str, Any] | None = None, **changed: Any) -> bytes:
    """The small network's file with some entries of its document or some arrays changed; None leaves them out."""
    with np.load(io.BytesIO(written(small()))) as file:
        document: dict[str, Any] = {**json.loads(file["topology"]), **changed}
        members: dict[str, Any] = {k: file[k] for k in file.files if k != "topology"} | (arrays or {})
    document = {key: value for key, value in document.items() if value is not ...}
    members = {key: np.asarray(value) for key, value in members.items() if value is not None}
    if container == "safetensors":
        return safetensors.numpy.save(members, metadata={"topology": json.dumps(document)})
    buffer = io.BytesIO()
    np.savez(buffer, topology=json.dumps(document), **members)
    return buffer.getvalue()


def spaces(**changed: Any) -> list[dict[str, Any]]:
    return [
        {"name": "input", "size": 4, "labelled": True} | changed,
        {"name": "hidden1", "size": 4, "labelled": False},
        {"name": "output", "size": 2, "labelled": True},
    ]


def layers(**changed: Any) -> list[dict[str, Any]]:
    return [
        {"name": "l0", "source": "input", "target": "hidden1", "taps": 1},
        {"name": "l1", "source": "hidden1", "target": "output", "taps": 1} | changed,
    ]


@pytest.mark.parametrize("container", ["npz", "safetensors"])
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"spaces": ...}, "expected format, layers, spaces, .*; found no spaces"),
        ({"color": "red"}, "expected format, layers, spaces, .*; found unknown color"),
        ({"spaces": []}, "spaces: expected a list with at least one entry"),
        ({"spaces": [5, 6, 7]}, r"spaces\[0\]: expected an object with labelled, name, size, found 5"),
        ({"spaces": spaces(size=0)}, r"spaces\[0\] \(input\): size: expected a whole number from 1 on, found 0"),
        ({"spaces": spaces(size=4.0)}, r"spaces\[0\] \(input\): size: expected a whole number from 1 on, found 4.0"),
        ({"spaces": spaces(size=True)}, r"spaces\[0\] \(input\): size: expected a whole number from 1 on, found True"),
        ({"spaces": spaces(size=5)}, "expected the digest"),
        ({"spaces": spaces(size=3)}, r"layer 'l0': 0.indices\[3\]: expected a key in \[0, 3\), found 3"),
        ({"spaces": spaces(labelled="yes")}, r"spaces\[0\] \(input\): labelled: expected true or false, found 'yes'"),
        ({"spaces": spaces(name="output")}, r"spaces\[2\] \(output\): expected every space once, found 'output' twice"),
        ({"spaces": spaces(name="\n")}, r"spaces\[0\]: space: expected a printable name"),
        ({"spaces": [*spaces(), {"name": "z", "size": 1}]}, "expected every space in some layer, found 'z' in none"),
        (
            {"layers": layers(source="nowhere")},
            r"layers\[1\] \(l1\): source: expected one of the spaces input, .*, found 'nowhere'",
        ),
        ({"layers": layers(source="output")}, "in a file of format 1, found a self-loop .layer 'l1'"),
        ({"layers": layers(name="l0")}, "layer 'l0': expected unique layer names"),
        ({"layers": layers(name=7)}, r"layers\[1\]: name: expected a text, found 7"),
        ({"layers": layers(taps=-1)}, r"layers\[1\] \(l1\): taps: expected a whole number from 1 on, found -1"),
        (
            {"layers": layers()[:1], "spaces": spaces()[:2]},
            r"for the 1 layers of topology, missing none, found .* 1\.ind",
        ),
        ({"layers": [*layers(), layers(name="l2")[1]]}, r"for the 3 layers of topology, missing 2\.indices, 2\.indptr"),
        ({"epoch": "one"}, "epoch: expected a finite number, found one"),
        ({"epoch": True}, "epoch: expected a finite number, found True"),
        ({"metrics": [1]}, "metrics: expected an object of numbers"),
        ({"metrics": {"Loss": 1}}, "metric 'Loss': expected a name"),
        ({"metrics": {"loss": None}}, "metric 'loss': expected a finite number, found None"),
        ({"metrics": {f"m{k}": k for k in range(65)}}, "metrics: expected at most 64, found 65"),
        ({"recorded_at": "yesterday"}, "recorded_at: expected ISO 8601, found yesterday"),
        ({"recorded_at": 5}, "recorded_at: expected ISO 8601, found 5"),
        ({"recorded_at": "2024-01-01T00:00:00"}, "recorded_at: expected a time with its zone"),
        ({"digest": "0" * 64}, "expected the digest 0000000000000000..., found"),
        ({"arrays": {"1.indptr": [0, 2]}}, "layer 'l1': 1.indptr: expected 3 increasing offsets"),
        ({"arrays": {"1.indptr": [0, 3, 2]}}, "layer 'l1': 1.indptr: expected 3 increasing offsets"),
        ({"arrays": {"1.indptr": [0, 2, 9]}}, "layer 'l1': 1.indices: expected 9 keys"),
        ({"arrays": {"1.indices": [2, 0, 2, 3]}}, r"layer 'l1': 1.indices\[1\] of target 0: expected sorted keys"),
        ({"arrays": {"1.indices": [0, 0, 2, 3]}}, r"layer 'l1': 1.indices\[1\] of target 0: expected sorted keys"),
        ({"arrays": {"1.indices": [0, 2, 2, 4]}}, r"layer 'l1': 1.indices\[3\]: expected a key in \[0, 4\), found 4"),
        ({"arrays": {"1.indices": [0, -2, 2, 3]}}, r"layer 'l1': 1.indices\[1\]: expected a key in \[0, 4\), found -2"),
        ({"arrays": {"1.indices": [0.0, 2, 2, 3]}}, "1.indices.*expected .*(int|integers).*found .*float64"),
        ({"arrays": {"1.indices": [[0, 2], [2, 3]]}}, r"layer 'l1': 1.indices: expected a flat array .*\(2, 2\)"),
        ({"arrays": {"1.indices": None}}, r"missing 1\.indices, found beyond that none"),
        ({"arrays": {"2.indptr": [0]}}, r"missing none, found beyond that 2\.indptr"),
    ],
)
def test_a_document_that_does_not_fit_is_refused(container: Container, changed: dict[str, Any], words: str) -> None:
    """Each field that is missing, unknown, of another type or contradicts the arrays is named in the error."""
    with pytest.raises(InvalidInputError, match=f"snapshot: .*{words}"):
        read_snapshot_bytes(repacked(container, **changed))


def test_a_newer_format_is_told_apart_from_a_wrong_one() -> None:
    """A format number that is too high says that a newer version may read it."""
    with pytest.raises(
        UnsupportedFormatError, match=r"expected format 1 or 2, found 3 \(a newer Topostrata may read it\)"
    ):
        read_snapshot_bytes(repacked(format=3))
    with pytest.raises(InvalidInputError, match="expected an object with format, spaces and layers"):
        read_snapshot_bytes(repacked(format=...))


def test_an_archive_without_its_document_is_refused() -> None:
    """A file without the member ``topology`` is no snapshot file."""
    buffer = io.BytesIO()
    np.savez(buffer, a=np.eye(3))
    with pytest.raises(InvalidInputError, match="snapshot: expected a member 'topology', found a"):
        read_snapshot_bytes(buffer.getvalue())
    with pytest.raises(InvalidInputError, match="snapshot: __metadata__: expected 'topology', found nothing"):
        read_snapshot_bytes(safetensors.numpy.save({"a": np.eye(3)}))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 1, "format": 1}', "[" * 100_000])
def test_a_document_that_is_no_object_is_refused(text: str) -> None:
    """Broken JSON, other JSON values and a key twice are refused."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("topology", text)
    with pytest.raises(InvalidInputError, match="snapshot: topology: expected"):
        read_snapshot_bytes(buffer.getvalue())


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(units=3), r"spaces\[0\]: expected at most 3 units in a space, found 4"),
        (Limits(layers=1), "expected at most 1 layers, found 2"),
        (Limits(connections=7), "expected at most 7 connections, found 8"),
        (Limits(members=4), "expected at most 4 members, found 5"),
        (Limits(total_bytes=500), "expected at most 500 bytes unpacked"),
    ],
)
def test_a_snapshot_beyond_the_limits_is_refused(limits: Limits, words: str) -> None:
    """Units, layers, taps, connections, members and bytes are each limited."""
    with pytest.raises(LimitError, match=f"snapshot: .*{words}"):
        read_snapshot_bytes(written(small()), limits=limits)
    taps = Topology((Layer("l", Space("a", 2), Space("b", 2), Mask(2, 2, np.array([0]), taps=5)),))
    with pytest.raises(LimitError, match="4 taps in a layer, found 5"):
        read_snapshot_bytes(written(taps), limits=Limits(taps=4))


def test_keys_that_would_overflow_are_refused() -> None:
    """A layer has at most 2**62 possible connections, so that keys fit 64 bits."""
    document = {
        "format": 1,
        "spaces": [{"name": "x", "size": 2**24}, {"name": "y", "size": 2**24}],
        "layers": [{"name": "l", "source": "x", "target": "y", "taps": 2**20}],
    }
    arrays: dict[str, Any] = {"0.indptr": np.zeros(3, int), "0.indices": np.zeros(0, int)}
    buffer = io.BytesIO()
    np.savez(buffer, topology=json.dumps(document), **arrays)
    with pytest.raises(
        InvalidInputError, match=r"layers\[0\] \(l\): layer 'l': expected at most 2\*\*62 possible connections"
    ):
        read_snapshot_bytes(buffer.getvalue())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A path that does not exist is an error that names it."""
    with pytest.raises(InvalidInputError, match=r"gone\.npz: expected a readable file"):
        snapshot_file.read(tmp_path / "gone.npz")


def test_metrics_are_checked_before_they_are_written() -> None:
    """NaN and infinity are refused before a byte is written."""
    with pytest.raises(InvalidInputError, match="metric 'loss': expected a finite number"):
        written(small(), metrics={"loss": float("nan")})
    with pytest.raises(InvalidInputError, match="epoch: expected a finite number"):
        written(small(), epoch=float("inf"))


@pytest.mark.parametrize("container", ["npz", "safetensors"])
def test_connections_are_bounded_before_they_are_unpacked(container: Container) -> None:
    """A short body of many zeros is refused by what its head says: by the layer, or by the limits."""
    packed = io.BytesIO()
    snapshot_file.write(packed, Topology.from_masks([np.eye(4)]), container=container)
    Settings()  # imported when a limit is first asked for, which is not what the lie costs
    keys = np.zeros(10_000_000, np.int32)
    if container == "npz":
        with zipfile.ZipFile(packed) as archive:
            members = {info.filename: archive.read(info) for info in archive.infolist()}
        member = io.BytesIO()
        np.save(member, keys)
        lie = io.BytesIO()
        with zipfile.ZipFile(lie, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in {**members, "0.indices.npy": member.getvalue()}.items():
                archive.writestr(name, data)
    else:
        from safetensors.numpy import load, save

        arrays = {**load(packed.getvalue()), "0.indices": keys}
        length = int.from_bytes(packed.getvalue()[:8], "little")
        text = json.loads(packed.getvalue()[8 : 8 + length])["__metadata__"]
        lie = io.BytesIO(save(arrays, metadata=text))
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInputError, match=r"layer 'l0': 0\.indices: expected at most 16 keys.*10,000,000"):
            read_snapshot_bytes(lie)
        with pytest.raises(LimitError, match="at most 1,000 connections, found 10,000,000"):
            read_snapshot_bytes(lie, limits=Limits(connections=1000))
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()
