"""The spool of a run: a file on the job's own disk that outlives the job, the network and the archive.

A file begins with a magic word. Records follow, each with a head (its number, kind and length, and a checksum of those)
and a body with a checksum of its own. The first record says which run this is; the wiring stands before the first
snapshot, numbers of the run at its steps anywhere; the last, where the run ended in good order, says how. Every record
stands alone: what is lost with one that was damaged is that one. A file that ends within a record was being written
when its job died: that record was never acknowledged.

The writer holds a lock on its file, which the kernel drops when the process ends, however it ends. Some file systems
keep locks to the machine that took them, so that a spool says where it is written, too.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import struct
import uuid
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self, get_args

from topostrata import codec, wiring_text
from topostrata.errors import CorruptError, LimitError, TopostrataError
from topostrata.refs import check_run_id, check_step
from topostrata.runs import (
    HOWS,
    LayerMetrics,
    Parent,
    Status,
    check_epoch,
    check_layer_metrics,
    check_metrics,
    check_step_layer_metrics,
    check_tag,
)
from topostrata.topology import Topology, Wiring

Resume = Literal["allow", "must", "never"]
Kind = Literal["run", "wiring", "snapshot", "end", "metrics"]

SUFFIX = ".spool"
DRAFT = ".new"
_MAGIC = b"TSSPOOL1"
_HEAD = struct.Struct("<IBQI")  # number, kind, length of the body, CRC of the body
_CHECK = struct.Struct("<I")  # CRC of the head
_LENGTH = struct.Struct("<I")
_KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Node:
    """A machine, by its name, and the start of it, by the kernel's id: containers of one machine share the second."""

    host: str
    boot: str

    @staticmethod
    @cache
    def here() -> Node:
        """This one."""
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        except OSError:
            boot = ""
        return Node(socket.gethostname(), boot)

    @property
    def is_elsewhere(self) -> bool:
        """Whether it is another machine; this one before it was started anew is none."""
        here = Node.here()
        return self.host != here.host and self.boot != here.boot


@dataclass(frozen=True, slots=True)
class RunHead:
    """What a spool says of its run: all that the archive needs to make it. ``store`` is where it was to go.

    ``node`` is where the spool is written, as its writer says.
    """

    run: str
    created_at: datetime
    name: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    parents: tuple[Parent, ...] = ()
    resume: Resume = "allow"
    store: str | None = None
    node: Node | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        check_run_id(self.run)
        for tag in self.tags:
            check_tag(tag)
        if self.resume not in get_args(Resume):
            known = ", ".join(get_args(Resume))
            raise CorruptError(f"resume: expected one of {known}, found {self.resume!r}")
        for parent in self.parents:
            check_run_id(parent.run)
            check_step(parent.step)
            if parent.how not in HOWS:
                raise CorruptError(f"parent: expected one of {', '.join(HOWS)}, found {parent.how!r}")


@dataclass(frozen=True, slots=True)
class SpooledSnapshot:
    """One snapshot as it was logged."""

    step: int
    topology: Topology
    recorded_at: datetime
    epoch: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    layer_metrics: LayerMetrics = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SpooledMetrics:
    """Numbers of the run at a step, of itself and of layers and parameters, as they were logged without masks."""

    step: int
    recorded_at: datetime
    epoch: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    layer_metrics: LayerMetrics = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunEnd:
    """The run ended in good order."""

    status: Status


Record = RunHead | Wiring | SpooledSnapshot | SpooledMetrics | RunEnd


@dataclass(frozen=True, slots=True)
class Damage:
    """A record that is not what was written; ``rest`` says whether nothing after it can be read either."""

    number: int
    message: str
    rest: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """A record, and the place by which it is told from any other: where it ends, and the checksum of its head."""

    value: Record | Damage
    end: int
    check: int


@dataclass(frozen=True, slots=True)
class Outline:
    """A record that was not looked into."""

    kind: Kind
    end: int
    check: int


class SpoolWriter:
    """Appends records to a new spool. A record is acknowledged when ``append`` returns: it is on the disk.

    Raises ``OSError`` where the file cannot be written (then the file is as it was before), ``LimitError`` for a record
    that would make it larger than ``most_bytes``.
    """

    def __init__(self, directory: Path, head: RunHead, *, most_bytes: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        name = f"{head.run}.{uuid.uuid4().hex[:8]}"
        self.path, draft = directory / f"{name}{SUFFIX}", directory / f".{name}{DRAFT}"
        self._file = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._most_bytes, self._number, self._end = most_bytes, 0, 0
        self._broken = False
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._write(_MAGIC)
            self._append("run", _head_document(replace(head, node=Node.here())))
            # A sender deletes a spool that nobody locks and that holds nothing to send: none may be seen before.
            draft.rename(self.path)
            _flush_directory(directory)
        except BaseException:
            self.close()
            draft.unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)
            raise

    @property
    def size(self) -> int:
        """The bytes of all whole records."""
        return self._end

    def wiring(self, wiring: Wiring) -> None:
        """The layers of all snapshots that follow."""
        self._append("wiring", {"format": wiring.format, **wiring_text.document(wiring.layers)})

    def snapshot(self, snapshot: SpooledSnapshot) -> None:
        """One snapshot, of the wiring that was written last."""
        masks = [codec.encode(mask).data for mask in snapshot.topology.to_masks().values()]
        document: dict[str, Any] = {
            "step": snapshot.step,
            "epoch": snapshot.epoch,
            "metrics": dict(snapshot.metrics),
            "recorded_at": snapshot.recorded_at.isoformat(),
            "digest": snapshot.topology.digest,
            "masks": [len(mask) for mask in masks],
        }
        if snapshot.layer_metrics:
            document["layer_metrics"] = {name: dict(numbers) for name, numbers in snapshot.layer_metrics.items()}
        self._append("snapshot", document, b"".join(masks))

    def metrics(self, metrics: SpooledMetrics) -> None:
        """Numbers of the run at a step."""
        document = {
            "step": metrics.step,
            "epoch": metrics.epoch,
            "metrics": dict(metrics.metrics),
            "layer_metrics": {layer: dict(numbers) for layer, numbers in metrics.layer_metrics.items()},
            "recorded_at": metrics.recorded_at.isoformat(),
        }
        self._append("metrics", document)

    def end(self, status: Status) -> None:
        """The run ended."""
        self._append("end", {"status": status})

    def close(self) -> None:
        """Let go of the file and of its lock."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _append(self, kind: Kind, document: Mapping[str, Any], data: bytes = b"") -> None:
        text = json.dumps(document, allow_nan=False).encode()
        body = _LENGTH.pack(len(text)) + text + data
        head = _HEAD.pack(self._number, _KINDS.index(kind), len(body), zlib.crc32(body))
        record = head + _CHECK.pack(zlib.crc32(head)) + body
        if self._end + len(record) > self._most_bytes and kind in {"snapshot", "metrics"}:
            raise LimitError(f"{self.path}: expected at most {self._most_bytes} bytes, found it full")
        self._write(record)
        self._number += 1

    def _write(self, data: bytes) -> None:
        if self._broken:
            os.ftruncate(self._file, self._end)
            self._broken = False
        at = self._end
        try:
            rest = memoryview(data)
            while rest:
                written = os.pwrite(self._file, rest, at)
                at, rest = at + written, rest[written:]
            os.fsync(self._file)
        except BaseException:
            self._broken = True
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._end)
                self._broken = False
            raise
        self._end = at


def run_of(path: Path) -> str:
    """The run of a spool by its name, where it cannot be read.

    >>> run_of(Path("density-0.1.3f2a90cd.spool"))
    'density-0.1'
    """
    name = path.name.removesuffix(SUFFIX)
    return name.rpartition(".")[0] or name


def is_live(path: Path) -> bool:
    """Whether a job has the spool open for writing."""
    with path.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def drafts(directory: Path) -> list[Path]:
    """What jobs left that were killed while they began a spool: nothing of it was acknowledged."""
    return [file for file in sorted(directory.glob(f".*{DRAFT}")) if not is_live(file)]


def outline(path: Path) -> list[Outline]:
    """The records of a spool by their heads alone, as far as these are whole. Raises as ``SpoolReader`` does."""
    with SpoolReader(path) as reader:
        return list(reader.outline())


def read(path: Path) -> Iterator[Entry]:
    """The records of a spool as far as it is written now; see ``SpoolReader``."""
    with SpoolReader(path) as reader:
        yield from reader.new()


class SpoolReader:
    """Reads a spool, also while it is written: damaged records as ``Damage``, one that is cut off not (yet) at all.

    A record that the writer took back, because the disk did not take it, may have been read meanwhile; the one that is
    written in its place is given, too.

    Raises ``CorruptError`` where the file is no spool or does not say which run it is of, ``OSError`` where it cannot
    be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream = path.open("rb")
        self._number, self._at, self._lost = 0, 0, False
        self._start, self._last = 0, b""  # where the last record begins, and its head
        self._wiring: Wiring | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._stream.close()

    def new(self) -> Iterator[Entry]:
        """The records since the last time."""
        if self._last and self._bytes(len(self._last), self._start) != self._last:
            self._number, self._at, self._last = self._number - 1, self._start, b""
        for number, kind, check, body in self._records():
            value: Record | Damage
            if isinstance(body, Damage):
                value = body
            elif (number == 0) != (kind == "run"):
                value = Damage(number, f"record {number}: expected another kind than {kind}", rest=False)
            else:
                value = self._decoded(number, kind, body)
            if number == 0 and not isinstance(value, RunHead):
                message = value.message if isinstance(value, Damage) else "it is another"
                raise CorruptError(f"{self._path}: expected a first record that says which run it is of: {message}")
            yield Entry(value, self._at, check)

    def outline(self) -> Iterator[Outline]:
        """The records by their heads, as far as these are whole."""
        for _, kind, check, body in self._records(bodies=False):
            if not (isinstance(body, Damage) and body.rest):
                yield Outline(kind, self._at, check)

    def _decoded(self, number: int, kind: Kind, body: bytes) -> Record | Damage:
        try:
            value = _decode(kind, body, self._wiring)
        except (TopostrataError, ValueError, TypeError, KeyError, struct.error) as error:
            return Damage(number, f"record {number} ({kind}): {error}", rest=False)
        if isinstance(value, Wiring):
            self._wiring = value
        return value

    def _bytes(self, length: int, at: int) -> bytes:
        """So many bytes, fewer only at the end of the file; the kernel gives 2 GiB at a time."""
        pieces: list[bytes] = []
        while length and (piece := os.pread(self._stream.fileno(), length, at)):
            pieces.append(piece)
            at, length = at + len(piece), length - len(piece)
        return b"".join(pieces)

    def _records(self, *, bodies: bool = True) -> Iterator[tuple[int, Kind, int, bytes | Damage]]:
        """Number, kind, checksum of the head, and body (where that is wanted) of each whole record."""
        size = os.fstat(self._stream.fileno()).st_size
        if self._at == 0:
            magic = self._bytes(len(_MAGIC), 0)
            if not _MAGIC.startswith(magic):
                raise CorruptError(f"{self._path}: expected a spool, which begins with {_MAGIC!r}, found {magic!r}")
            if len(magic) < len(_MAGIC):
                return
            self._at = len(_MAGIC)
        while not self._lost and self._at + _HEAD.size + _CHECK.size <= size:
            both = self._bytes(_HEAD.size + _CHECK.size, self._at)
            if len(both) < _HEAD.size + _CHECK.size:
                return
            head = both[: _HEAD.size]
            counted, kind, length, check = _HEAD.unpack(head)
            number = self._number
            if _CHECK.pack(zlib.crc32(head)) != both[_HEAD.size :] or kind >= len(_KINDS) or counted != number:
                self._lost = True
                message = f"record {number}: its head is damaged, so that what follows cannot be told apart"
                yield number, "end", 0, Damage(number, message, rest=True)
                return
            end = self._at + len(both) + length
            if end > size:
                return
            body = self._bytes(length, self._at + len(both)) if bodies else b""
            if bodies and len(body) < length:
                return
            self._number, self._start, self._at, self._last = number + 1, self._at, end, both
            damaged = bodies and zlib.crc32(body) != check
            message = f"record {number} ({_KINDS[kind]}): its bytes are not those that were written"
            identity = zlib.crc32(head)
            yield number, _KINDS[kind], identity, Damage(number, message, rest=False) if damaged else body


def _decode(kind: Kind, body: bytes, wiring: Wiring | None) -> Record:
    (length,) = _LENGTH.unpack_from(body)
    at = _LENGTH.size + length
    document = json.loads(body[_LENGTH.size : at])
    if kind == "run":
        return _read_head(document)
    if kind == "wiring":
        return Wiring(wiring_text.from_document(document, "wiring", plain=document["format"] == 1))
    if kind == "end":
        return RunEnd(document["status"])
    if kind == "metrics":
        return SpooledMetrics(
            check_step(document["step"]),
            datetime.fromisoformat(document["recorded_at"]),
            check_epoch(document["epoch"]),
            check_metrics(document["metrics"]),
            check_step_layer_metrics(document["layer_metrics"]),
        )
    if wiring is None:
        raise CorruptError("expected the wiring before it, which is damaged")
    tied = wiring.shared_with
    masks = {}
    for layer, size in zip((y for y in wiring if y.name not in tied), document["masks"], strict=True):
        masks[layer.name] = codec.decode(body[at : at + size])
        at += size
    topology = wiring.place(masks)
    if topology.digest != document["digest"]:
        raise CorruptError(f"expected the digest {document['digest'][:12]}, found {topology.digest[:12]}")
    return SpooledSnapshot(
        check_step(document["step"]),
        topology,
        datetime.fromisoformat(document["recorded_at"]),
        check_epoch(document["epoch"]),
        check_metrics(document["metrics"]),
        check_layer_metrics(document.get("layer_metrics")),
    )


def _head_document(head: RunHead) -> dict[str, Any]:
    return {**asdict(head), "created_at": head.created_at.astimezone(UTC).isoformat(timespec="milliseconds")}


def _read_head(document: dict[str, Any]) -> RunHead:
    parents = tuple(Parent(**parent) for parent in document.pop("parents"))
    created_at = datetime.fromisoformat(document.pop("created_at"))
    node = document.pop("node", None)  # spools of before 2026-11-28 do not say it
    return RunHead(
        created_at=created_at,
        parents=parents,
        tags=tuple(document.pop("tags")),
        node=None if node is None else Node(**node),
        **document,
    )


def _flush_directory(directory: Path) -> None:
    """A new name is on the disk only once its directory is."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
