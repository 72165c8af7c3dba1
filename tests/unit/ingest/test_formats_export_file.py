"""The file of many runs: what is written is read, equal runs give equal bytes, damage is an error or changes nothing."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.held_runs import BEGIN, HeldRuns, family
from topostrata.errors import InvalidInputError, LimitError, TopostrataError, UnsupportedFormatError
from topostrata.ingest.formats import export_file, snapshot_file
from topostrata.ingest.formats.export_file import ExportFile, RunRecord
from topostrata.ingest.formats.limits import Limits
from topostrata.runs import Snapshot, StepMetrics
from topostrata.topology import Topology

Whole = list[tuple[RunRecord, list[tuple[Snapshot, Topology]]]]


def written(runs: HeldRuns) -> bytes:
    stream = io.BytesIO()
    export_file.write(
        stream, runs.records, lambda record: runs.snapshots(record.run.id), runs.topology, runs.step_metrics
    )
    return stream.getvalue()


def read(path: Path) -> Whole:
    with ExportFile(path) as file:
        file.check()
        return [
            (record, [(snapshot, file.topology(record, snapshot)) for snapshot in snapshots])
            for record, snapshots in file.histories()
        ]


def as_written(runs: HeldRuns) -> Whole:
    bare = [
        replace(record, run=replace(record.run, snapshots=0, first_step=None, last_step=None))
        for record in runs.records
    ]
    return [(record, [(s, runs.topology(s)) for s in runs.snapshots(record.run.id)]) for record in bare]


def rewritten(data: bytes, change: Callable[[dict[str, bytes]], object]) -> bytes:
    """The same zip with other members."""
    with zipfile.ZipFile(io.BytesIO(data)) as old:
        members = {info.filename: old.read(info) for info in old.infolist()}
    change(members)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as new:
        for name, content in members.items():
            new.writestr(name, content)
    return stream.getvalue()


def edit(member: str, line: int, **fields: Any) -> Callable[[dict[str, bytes]], None]:
    """Other values in one line of a member; None takes the field away."""

    def change(members: dict[str, bytes]) -> None:
        lines = members[member].splitlines()
        document = json.loads(lines[line]) | fields
        lines[line] = json.dumps({k: v for k, v in document.items() if v is not ...}).encode()
        members[member] = b"\n".join(lines) + b"\n"

    return change


@pytest.mark.parametrize("seed", range(0, 60, 3))
def test_what_is_written_is_read(tmp_path: Path, seed: int) -> None:
    """Runs, snapshots and topologies of random histories, names, taps and several layers into one space included."""
    runs = family(seed)
    path = tmp_path / "runs.zip"
    path.write_bytes(written(runs))
    assert read(path) == as_written(runs)
    assert written(family(seed)) == path.read_bytes()


def test_a_wiring_is_stored_once_whatever_its_names(tmp_path: Path) -> None:
    """Two runs of the same wiring share its file; each gets its own names back."""
    masks = [np.eye(3), np.ones((3, 2))]
    runs = HeldRuns()
    run = family(0).records[0].run
    runs.add(replace(run, id="a"), (0, Topology.from_masks(masks, names=["first", "second"])))
    runs.add(
        replace(run, id="b"),
        (0, Topology.from_masks(masks, names=["eins", "zwei"])),
        (1, Topology.from_masks(masks, names=["eins", "zwei"])),
    )
    path = tmp_path / "runs.zip"
    path.write_bytes(written(runs))
    with ExportFile(path) as file:
        assert (file.counts.snapshots, file.counts.topologies) == (3, 1)
    assert read(path) == as_written(runs)


def test_each_topology_is_a_snapshot_file(tmp_path: Path) -> None:
    """A member of ``topologies/`` is what docs/snapshot-file.md describes: taken out, it can be pushed by itself."""
    runs = family(7)
    with zipfile.ZipFile(io.BytesIO(written(runs))) as opened:
        for name in [name for name in opened.namelist() if name.endswith(".npz")]:
            topology = snapshot_file.read(opened.read(name)).topology
            assert name == f"topologies/{topology.digest}.npz"


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    """Every length but the whole one is an error that names the file."""
    data = written(family(1))
    path = tmp_path / "cut.zip"
    for length in [*range(0, len(data), 97), *range(len(data) - 60, len(data))]:
        path.write_bytes(data[:length])
        with pytest.raises(TopostrataError, match=r"cut\.zip"):
            read(path)


@pytest.mark.parametrize("seed", range(4))
def test_a_flipped_byte_is_an_error_or_changes_nothing(tmp_path: Path, seed: int) -> None:
    """Wherever it lies; what is read is never other than what was written."""
    runs = family(seed)
    data, expected = written(runs), as_written(runs)
    path = tmp_path / "flipped.zip"
    random = np.random.default_rng(seed)
    refused = 0
    for at in random.choice(len(data), size=150, replace=False).tolist():
        path.write_bytes(data[:at] + bytes([data[at] ^ int(random.integers(1, 256))]) + data[at + 1 :])
        try:
            content = read(path)
        except TopostrataError as error:
            refused += "flipped.zip" in error.message
        else:
            assert content == expected, at
    assert refused > 75


def other_digest(members: dict[str, bytes]) -> None:
    """A topology under the digest of another, in the members and in every line that names it."""
    name = next(name for name in members if name.endswith(".npz"))
    lie = "0" * 64
    members[f"topologies/{lie}.npz"] = members.pop(name)
    members["snapshots.jsonl"] = members["snapshots.jsonl"].replace(name[11:75].encode(), lie.encode())


def swapped(members: dict[str, bytes]) -> None:
    """Two topologies of one run under each other's names."""
    a, b = [name for name in members if name.endswith(".npz")][:2]
    members[a], members[b] = members[b], members[a]


PARENT = {"run": "root", "step": 10**6, "how": "fork"}
CHANGES: dict[str, tuple[Callable[[dict[str, bytes]], object], str]] = {
    "a lying digest": (other_digest, "expected the digest of its name"),
    "topologies under each other's names": (swapped, "expected"),
    "a topology that is not there": (lambda m: m.pop(next(n for n in m if n.endswith(".npz"))), "expected the topology of root@"),
    "a topology too many": (lambda m: m.update({f"topologies/{'0' * 64}.npz": b""}), "files of topologies"),
    "no runs": (lambda m: m.pop("runs.jsonl"), r"expected a member runs\.jsonl"),
    "another member": (lambda m: m.update({"evil.pickle": b""}), "found 'evil.pickle'"),
    "a path out of it": (lambda m: m.update({"topologies/../../etc/passwd": b""}), "passwd"),
    "a run less": (lambda m: m.update({"runs.jsonl": m["runs.jsonl"].split(b"\n", 1)[1]}), "expected parent 'root'"),
    "a snapshot less": (lambda m: m.update({"snapshots.jsonl": m["snapshots.jsonl"].rsplit(b"\n", 2)[0]}), "expected"),
    "snapshots out of order": (lambda m: m.update({"snapshots.jsonl": m["snapshots.jsonl"] * 2}), "in the order of"),
    "no JSON": (lambda m: m.update({"runs.jsonl": b"{"}), "line 1: expected JSON"),
    "a run twice": (lambda m: m.update({"runs.jsonl": m["runs.jsonl"] * 2}), "'root' twice"),
    "a bad run id": (edit("runs.jsonl", 0, id="a/b"), r"runs\.jsonl: line 1: run id"),
    "a status of its own": (edit("runs.jsonl", 0, status="gone"), "expected one of open, finished, failed"),
    "a time without zone": (edit("runs.jsonl", 0, created_at="2026-01-01T00:00:00"), "zone"),
    "a tag with a space": (edit("runs.jsonl", 0, tags=["a b"]), "tag"),
    "config no object": (edit("runs.jsonl", 0, config=[]), "config: expected an object"),
    "a field too many": (edit("runs.jsonl", 0, more=1), "expected config, created_at.*; found unknown more"),
    "a field less": (edit("runs.jsonl", 0, name=...), "expected .*, name, .*; found no name"),
    "a parent's step that is not there": (edit("runs.jsonl", 1, parents=[PARENT]), "expected snapshot root@1000000"),
    "a space of no size": (edit("runs.jsonl", 0, spaces=[{"name": "x", "size": 0, "labelled": True}]), "number from 1 on"),
    "a step before the first": (edit("snapshots.jsonl", 0, step=-1), "step"),
    "no layers": (edit("runs.jsonl", 0, layers=[], projected=[]), "layers: expected a list with at least one"),
    "a digest that is none": (edit("snapshots.jsonl", 0, digest="../x"), "64 hexadecimal"),
    "other connections": (edit("snapshots.jsonl", 0, connections=10**6), "expected 1000000 connections"),
    "a metric that is no number": (edit("snapshots.jsonl", 0, metrics={"loss": "x"}), "finite number"),
    "a run that is not there": (edit("snapshots.jsonl", 0, run="nobody"), r"a run of runs\.jsonl"),
    "another count": (edit("archive.json", 0, snapshots=10**6), "1000000"),
    "no format": (edit("archive.json", 0, format=...), "format number"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_does_not_add_up_is_refused(tmp_path: Path, change: str) -> None:
    """Each lie is an error that says where and what was expected."""
    path = tmp_path / "runs.zip"
    path.write_bytes(rewritten(written(family(4)), CHANGES[change][0]))
    with pytest.raises(InvalidInputError, match=CHANGES[change][1]) as caught:
        read(path)
    assert caught.value.message.startswith(str(path))


def test_an_unknown_format_number_is_refused(tmp_path: Path) -> None:
    """A file of a later version is told from a damaged one."""
    path = tmp_path / "runs.zip"
    path.write_bytes(rewritten(written(family(4)), edit("archive.json", 0, format=5, later=True)))
    with pytest.raises(UnsupportedFormatError, match="expected format 1 to 4, found 5"):
        read(path)


def test_what_is_no_export_file_is_refused(tmp_path: Path) -> None:
    """Nothing there, a folder, an empty file, another zip."""
    with pytest.raises(InvalidInputError, match="expected a file, found none"):
        read(tmp_path / "nothing.zip")
    with pytest.raises(InvalidInputError, match="found"):
        read(tmp_path)
    (tmp_path / "empty.zip").touch()
    with pytest.raises(InvalidInputError, match="expected an intact export file"):
        read(tmp_path / "empty.zip")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as other:
        other.writestr("README", "hello")
    with pytest.raises(InvalidInputError, match="found 'README'"):
        read(tmp_path / "other.zip")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """Packed topologies, and texts that unpack to far more than they are, are refused by what the zip claims."""
    data = written(family(2))
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, bytes(2**22) if info.filename.endswith(".npz") else old.read(info))
    with pytest.raises(InvalidInputError, match="expected it stored"):
        read(path)
    path.write_bytes(data)
    with pytest.raises(LimitError, match="bytes unpacked"), ExportFile(path, limits=Limits(total_bytes=100)):
        pass


def test_a_line_that_does_not_end_is_refused(tmp_path: Path) -> None:
    """A line is at most 16 MiB: one without an end fills no memory."""
    path = tmp_path / "runs.zip"
    with zipfile.ZipFile(io.BytesIO(written(family(2)))) as old, zipfile.ZipFile(path, "w") as new:
        for info in old.infolist():
            content = b" " * (16 * 2**20 + 1) if info.filename == "snapshots.jsonl" else old.read(info)
            new.writestr(info.filename, content)
    with pytest.raises(LimitError, match="line 1: expected at most 16,777,216 bytes"):
        read(path)


def measured(seed: int) -> HeldRuns:
    """A family of which two runs have metrics beside their snapshots."""
    runs = family(seed)
    first, last = runs.records[0].run.id, runs.records[-1].run.id
    runs.beside[first] = [
        StepMetrics(first, 0, BEGIN, metrics={"egf_2": 0.25}),
        StepMetrics(first, 7, BEGIN, epoch=0.5, layer_metrics={"fc1.bias": {"flow_1": 1.0, "flow_2": 2.0}}),
    ]
    runs.beside[last] = [StepMetrics(last, 3, BEGIN, metrics={"loss": 0.1})]
    return runs


def test_metrics_beside_snapshots_are_read_as_written(tmp_path: Path) -> None:
    """They make a file of format 3, and equal runs give equal bytes still; without them no member is written."""
    runs = measured(3)
    (tmp_path / "runs.zip").write_bytes(written(runs))
    with ExportFile(tmp_path / "runs.zip") as file:
        file.check()
        assert file.format == 3
        assert {record.run.id: list(entries) for record, entries in file.step_metrics()} == runs.beside
    assert written(measured(3)) == written(runs)
    with zipfile.ZipFile(io.BytesIO(written(family(3)))) as plain:
        assert "metrics.jsonl" not in plain.namelist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda members: members.pop("metrics.jsonl"), "expected metrics.jsonl from format 3 on, found format 3"),
        (lambda m: m.update({"archive.json": m["archive.json"].replace(b": 3,", b": 2,", 1)}), "from format 3 on, found format 2"),
        (lambda m: m.update({"metrics.jsonl": m["metrics.jsonl"].replace(b"0.25", b'"a"')}), "line 1: metric 'egf_2'"),
        (lambda m: m.update({"metrics.jsonl": m["metrics.jsonl"].replace(b'"step": 7', b'"step": 0')}), "line 2: expected the runs in"),
        (lambda m: m.update({"metrics.jsonl": m["metrics.jsonl"] + m["metrics.jsonl"]}), "line 4: expected the runs in"),
        (lambda m: m.update({"metrics.jsonl": b'{"run": "w0"}'}), "metrics.jsonl: line 1: expected"),
    ],
)  # fmt: skip
def test_damaged_metrics_are_named(tmp_path: Path, change: Callable[[dict[str, bytes]], object], message: str) -> None:
    """A missing member, one in another format, numbers that are none, runs and steps out of order."""
    path = tmp_path / "runs.zip"
    path.write_bytes(rewritten(written(measured(3)), change))
    with pytest.raises(InvalidInputError, match=message), ExportFile(path) as file:
        file.check()


def backed_up() -> bytes:
    """A backup of a family, with a run that was removed and a line of each kind of two."""
    runs = family(3)
    runs.records[-1] = replace(runs.records[-1], removed_at=BEGIN)
    tile = dict.fromkeys(["id", "alignment", "options", "family"], "x") | {"kind": "tile", "version": 1, "row": 0}
    lines: list[dict[str, Any]] = [
        tile | {"column": 0, "data": b"\x00\x01" * 9, "details": None},
        {"kind": "number", "digest": None, "family": "3", "number": 7},
    ]
    stream = io.BytesIO()
    export_file.write(
        stream,
        runs.records,
        lambda record: runs.snapshots(record.run.id),
        runs.topology,
        runs.step_metrics,
        kept=lambda _digests: lines,
    )
    return stream.getvalue()


def test_a_backup_is_read_as_written(tmp_path: Path) -> None:
    """Bytes come back as bytes, and a removed run says since when."""
    path = tmp_path / "all.zip"
    path.write_bytes(backed_up())
    with ExportFile(path) as file:
        file.check()
        assert (file.format, file.records[-1].removed_at) == (4, BEGIN)
        tile, number = file.kept()
    assert (tile["data"], tile["details"]) == (b"\x00\x01" * 9, None)
    assert number == {"kind": "number", "digest": None, "family": "3", "number": 7}


def change_kept(before: bytes, after: bytes) -> Callable[[dict[str, bytes]], object]:
    """The line that has one thing has another in its place."""
    return lambda members: members.update({"kept.jsonl": members["kept.jsonl"].replace(before, after)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda members: members.pop("kept.jsonl"), "expected kept.jsonl in format 4 and in no other, found 4"),
        (edit("archive.json", 0, format=3), "expected kept.jsonl in format 4 and in no other, found 3"),
        (change_kept(b'"number": 7', b'"number": true'), "line 2: number: expected that of a number, found 'True'"),
        (change_kept(b'"kind": "number"', b'"kind": "score"'), "line 2: kind: expected one of tile, .*, found 'score'"),
        (change_kept(b'"family": "3"', b'"other": "3"'), "line 2: expected an object with kind, digest, family, number"),
        (change_kept(b'"data": "', b'"data": "!'), "line 1: data: expected deflated bytes in base64"),
        (change_kept(b'"data": "', b'"data": "AAAA'), "line 1: data: expected deflated bytes in base64"),
        (change_kept(b'"data": "', b'"data": null, "was": "'), "line 1: expected an object with kind"),
    ],
)  # fmt: skip
def test_a_damaged_backup_is_named(tmp_path: Path, change: Callable[[dict[str, bytes]], object], message: str) -> None:
    """A missing member, one in another format, a line that is none of its kind, bytes that are none."""
    path = tmp_path / "all.zip"
    path.write_bytes(rewritten(backed_up(), change))
    with pytest.raises(InvalidInputError, match=message), ExportFile(path) as file:
        file.check()
