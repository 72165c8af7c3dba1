"""The file of many runs: what ``export`` and ``backup`` write, ``import`` and ``restore`` read (docs/export-file.md).

A zip that is read with nothing but a zip and a JSON library, and NumPy for the masks::

    runs.jsonl                 one run a line, each after all runs that it descends from
    snapshots.jsonl            one snapshot a line, run by run in the same order, by their steps
    metrics.jsonl              the metrics of a run at a step a line, beside those of snapshots; from format 3 on
    kept.jsonl                 what was computed and kept, a line each (kept_lines); of format 4, a backup
    topologies/<digest>.npz    each wiring once, in the layout of docs/snapshot-file.md
    archive.json               {"format": 1, EXPORT_VERSION: "0.1.0", "runs": 7, "snapshots": 217, "topologies": 190}

Format 2 has more words in a run's line, for wirings that format 1 cannot say, and metrics of layers in a snapshot's.
Format 3 has one more member, and so has format 4, in which runs may also say when they were removed. Each is only
written where it is needed, and those before are read for ever.

A digest holds no names: those of a run's layers and spaces stand in its line. Equal runs give equal bytes.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, get_args

from topostrata import __version__, format_1, wiring_text
from topostrata.errors import InvalidInputError, LimitError, TopostrataError, UnsupportedFormatError
from topostrata.ingest.formats import kept_lines, snapshot_file
from topostrata.ingest.formats.kept_lines import Kept
from topostrata.ingest.formats.limits import DEFAULT, MIB, Limits
from topostrata.ingest.formats.opened_file import DAMAGED_ZIP, OpenedFile
from topostrata.ingest.formats.safe_tensors import parse_json
from topostrata.projections import last_of
from topostrata.refs import check_run_id, check_step
from topostrata.runs import (
    HOWS,
    Parent,
    Run,
    Snapshot,
    Status,
    StepMetrics,
    check_layer_metrics,
    check_metrics,
    check_step_layer_metrics,
    check_tag,
)
from topostrata.topology import Topology, Wiring

Entry = TypeVar("Entry", Snapshot, StepMetrics)

FORMAT = 4  # the newest; what an earlier one can say is written in that
_WITH_METRICS = 3

_ARCHIVE, _RUNS, _SNAPSHOTS, _METRICS = "archive.json", "runs.jsonl", "snapshots.jsonl", "metrics.jsonl"
_KEPT = "kept.jsonl"
_NAMED = (_ARCHIVE, _RUNS, _SNAPSHOTS, _METRICS, _KEPT)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TOPOLOGY = re.compile(r"topologies/([0-9a-f]{64})\.npz")
_MAX_LINE = 16 * MIB
_MAX_TOPOLOGIES = 1_000_000
_LEVEL = 6
_ENCRYPTED = 0x1 | 0x40
_RUN_KEYS = {
    "id", "name", "status", "created_at", "tags", "parents", "config", "spaces", "layers", "projected",
}  # fmt: skip
_SNAPSHOT_KEYS = {"run", "step", "epoch", "recorded_at", "digest", "connections", "metrics"}
_METRICS_KEYS = {"run", "step", "epoch", "recorded_at", "metrics", "layer_metrics"}


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as it moves: itself, its wiring (none before its first snapshot), and the layers that Cypher sees.

    ``projected`` has the names of those layers, or is ``"last N"``.
    ``removed_at``: since when it is hidden.
    """

    run: Run
    wiring: Wiring | None = None
    projected: tuple[str, ...] | str = ()
    removed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """How much a file holds."""

    runs: int
    snapshots: int
    topologies: int


def write(
    stream: BinaryIO,
    records: Sequence[RunRecord],
    snapshots: Callable[[RunRecord], Iterable[Snapshot]],
    topology: Callable[[Snapshot], Topology],
    step_metrics: Callable[[str], Iterable[StepMetrics]],
    *,
    kept: Callable[[Container[str]], Iterable[Kept]] | None = None,
    earlier: ExportFile | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[Counts, int]:
    """Write these runs, parents before children. Memory holds one topology at a time, and the digests.

    ``kept``, told which digests the file has, gives what makes it a backup. Topologies that an ``earlier`` file has are
    taken from there; gives the counts, and how many topologies were not.
    """
    first: dict[str, Snapshot] = {}
    added = 0
    count = 0
    newest = max((record.wiring.format for record in records if record.wiring is not None), default=1)
    newest = max(newest, 2) if any(isinstance(record.projected, str) for record in records) else newest
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as packed_file:
        with packed_file.open(_RUNS, "w", force_zip64=True) as member:
            for record in records:
                member.write(_line(_run_document(record)))
        with packed_file.open(_SNAPSHOTS, "w", force_zip64=True) as member:
            for record in records:
                for snapshot in snapshots(record):
                    member.write(_line(_snapshot_document(snapshot)))
                    first.setdefault(snapshot.digest, snapshot)
                    newest = max(newest, 2) if snapshot.layer_metrics else newest
                    count += 1
        lines = (_line(_metrics_document(entry)) for record in records for entry in step_metrics(record.run.id))
        if (line := next(lines, None)) is not None:
            newest = _WITH_METRICS
            with packed_file.open(_METRICS, "w", force_zip64=True) as member:
                member.write(line)
                member.writelines(lines)
        if kept is not None:
            newest = FORMAT
            with packed_file.open(_KEPT, "w", force_zip64=True) as member:
                for line in map(_line, map(kept_lines.document, kept(first.keys()))):
                    if len(line) <= _MAX_LINE:  # a tile of a thousand layers and more is computed again
                        member.write(line)
        for done, (digest, snapshot) in enumerate(first.items(), start=1):
            packed = None if earlier is None else earlier.packed(digest)
            if packed is None:
                buffer = io.BytesIO()
                snapshot_file.write(buffer, topology(snapshot))
                packed = buffer.getvalue()
                added += 1
            packed_file.writestr(zipfile.ZipInfo(_topology_member(digest)), packed)  # packed already: stored
            progress(done, len(first))
        counts = Counts(len(records), count, len(first))
        head = {"format": newest, format_1.EXPORT_VERSION: __version__, **_counted(counts)}
        packed_file.writestr(zipfile.ZipInfo(_ARCHIVE), _line(head))
    return counts, added


class ExportFile(OpenedFile):
    """An open file. What the zip claims is checked at once, lines and topologies as they are read."""

    def __init__(self, path: Path, *, limits: Limits = DEFAULT) -> None:
        self.where = str(path)
        self._limits = limits
        self._last: tuple[str, Wiring | None, Topology] | None = None
        with _as_invalid_input(self.where):
            stream = self._open_source(path)
            try:
                self._zip = zipfile.ZipFile(stream)
                self._members = _members(self._zip, stream.seek(0, 2), self.where, limits)
                self.counts = self._counts()
                self.records = tuple(self._records())
            except BaseException:
                self.close()
                raise
        self._by_id = {record.run.id: record for record in self.records}

    def histories(self) -> Iterator[tuple[RunRecord, Iterator[Snapshot]]]:
        """Each run with its snapshots, in the file's order; those of one are gone when the next is asked for."""
        left = iter(self.records)
        for run, group in groupby(self._snapshots(), lambda snapshot: snapshot.run):
            for record in left:
                if record.run.id == run:
                    yield record, group  # noqa: B031 - each is handed out once, then the loop ends
                    break
                yield record, iter(())
        yield from ((record, iter(())) for record in left)

    def step_metrics(self) -> Iterator[tuple[RunRecord, Iterator[StepMetrics]]]:
        """Each run that has metrics beside its snapshots, with these, as ``histories`` gives snapshots."""
        if _METRICS in self._members:
            for run, group in groupby(self._step_metrics(), lambda entry: entry.run):
                yield self._by_id[run], group

    def kept(self) -> Iterator[Kept]:
        """What a backup has beside the runs."""
        if _KEPT in self._members:
            for number, line in enumerate(self._lines(_KEPT), start=1):
                yield kept_lines.parse(line, f"{self.where}: {_KEPT}: line {number}")

    def packed(self, digest: str) -> bytes | None:
        """The bytes of a topology as they stand in the file; none where it has none, or where they are damaged."""
        member = self._members.get(_topology_member(digest))
        try:
            return None if member is None else self._zip.read(member)
        except DAMAGED_ZIP:
            return None

    def topology(self, record: RunRecord, snapshot: Snapshot) -> Topology:
        """The wiring of a snapshot with the names of its run; its digest, computed anew, is the claimed one."""
        if self._last is not None and self._last[:2] == (snapshot.digest, record.wiring):
            return self._last[2]
        member = _topology_member(snapshot.digest)
        at = f"{self.where}: {member}"
        if member not in self._members:
            raise InvalidInputError(f"{self.where}: expected the topology of {snapshot.id}, {member}, found none")
        self._limits.check_memory(at, 2 * self._members[member].file_size)
        with _as_invalid_input(self.where):
            data = self._zip.read(self._members[member])
        unnamed = snapshot_file.read(data, where=at, limits=self._limits).topology
        with _as_invalid_input(at):
            named = _named(unnamed, record)
        if named.digest != snapshot.digest:
            raise InvalidInputError(
                f"{at}: expected the digest of its name, found {named.digest}", hint="the file is damaged"
            )
        if named.nnz != snapshot.nnz:
            raise InvalidInputError(f"{at}: expected {snapshot.nnz} connections ({snapshot.id}), found {named.nnz}")
        self._last = (snapshot.digest, record.wiring, named)
        return named

    def check(self, *, progress: Callable[[int, int], None] = lambda _done, _total: None) -> None:
        """Read everything once, so that of a file damaged anywhere nothing is imported."""
        wanted = {(p.run, p.step) for record in self.records for p in record.run.parents}
        checked: set[tuple[str, Wiring | None]] = set()
        count = 0
        for record, snapshots in self.histories():
            for snapshot in snapshots:
                if (snapshot.digest, record.wiring) not in checked:
                    self.topology(record, snapshot)
                    checked.add((snapshot.digest, record.wiring))
                wanted.discard((snapshot.run, snapshot.step))
                count += 1
                progress(count, self.counts.snapshots)
        for _, entries in self.step_metrics():
            for _ in entries:
                pass
        for _ in self.kept():
            pass
        if wanted:
            run, step = min(wanted)
            raise InvalidInputError(f"{self.where}: expected snapshot {run}@{step}, a parent, found none")
        counts = Counts(len(self.records), count, len({digest for digest, _ in checked}))
        topologies = sum(name.endswith(".npz") for name in self._members)
        if counts != self.counts or topologies != counts.topologies:
            raise InvalidInputError(
                f"{self.where}: expected {_counted(self.counts)} ({_ARCHIVE}), found {_counted(counts)} and "
                f"{topologies} files of topologies",
                hint="the file is damaged",
            )

    def _counts(self) -> Counts:
        at = f"{self.where}: {_ARCHIVE}"
        lines = list(self._lines(_ARCHIVE))
        claim = lines[0] if len(lines) == 1 else None
        if not isinstance(claim, dict) or "format" not in claim:
            raise InvalidInputError(f"{at}: expected an object with a format number, found {str(claim)[:80]}")
        if type(claim["format"]) is not int or not 1 <= claim["format"] <= FORMAT:
            raise UnsupportedFormatError(
                f"{at}: expected format 1 to {FORMAT}, found {str(claim['format'])[:80]}",
                hint="a newer Topostrata may read it",
            )
        self.format: int = claim["format"]
        if (self.format == FORMAT) != (_KEPT in self._members):
            raise InvalidInputError(f"{at}: expected {_KEPT} in format {FORMAT} and in no other, found {self.format}")
        if (self.format == _WITH_METRICS) != (_METRICS in self._members) and self.format != FORMAT:
            raise InvalidInputError(
                f"{at}: expected {_METRICS} from format {_WITH_METRICS} on, found format {self.format}"
            )
        _fields(claim, "format", format_1.EXPORT_VERSION, *_counted(Counts(0, 0, 0)), at=at)
        return Counts(*(_whole(claim, name, at) for name in _counted(Counts(0, 0, 0))))

    def _records(self) -> Iterator[RunRecord]:
        before: set[str] = set()
        for number, line in enumerate(self._lines(_RUNS), start=1):
            at = f"{self.where}: {_RUNS}: line {number}"
            with _as_invalid_input(at):
                record = _run_record(line, at, format_=self.format)
            if record.run.id in before:
                raise InvalidInputError(f"{at}: expected every run once, found {record.run.id!r} twice")
            for parent in record.run.parents:
                if parent.run not in before:
                    raise InvalidInputError(f"{at}: expected parent {parent.run!r} on a line before, found it on none")
            before.add(record.run.id)
            yield record

    def _snapshots(self) -> Iterator[Snapshot]:
        yield from self._in_order(_SNAPSHOTS, lambda line, at: _snapshot(line, at, plain=self.format == 1))

    def _step_metrics(self) -> Iterator[StepMetrics]:
        yield from self._in_order(_METRICS, _metrics)

    def _in_order(self, member: str, read: Callable[[Any, str], Entry]) -> Iterator[Entry]:
        """The lines of a member, which go run by run and by their steps."""
        place = {record.run.id: k for k, record in enumerate(self.records)}
        last = (-1, -1)
        for number, line in enumerate(self._lines(member), start=1):
            at = f"{self.where}: {member}: line {number}"
            with _as_invalid_input(at):
                entry = read(line, at)
            if entry.run not in place:
                raise InvalidInputError(f"{at}: expected a run of {_RUNS}, found {entry.run!r}")
            here = (place[entry.run], entry.step)
            if here <= last:
                raise InvalidInputError(
                    f"{at}: expected the runs in the order of {_RUNS} and steps that grow, found {entry.id} after "
                    f"{self.records[last[0]].run.id}@{last[1]}"
                )
            last = here
            yield entry

    def _lines(self, member: str) -> Iterator[Any]:
        at = f"{self.where}: {member}"
        with _as_invalid_input(self.where), self._zip.open(self._members[member]) as packed:
            lines = io.BufferedReader(packed)  # type: ignore[type-var]  # typeshed: wants a RawIOBase, reads like one
            number = 0
            while line := lines.readline(_MAX_LINE + 1):
                number += 1
                if len(line) > _MAX_LINE:
                    raise LimitError(f"{at}: line {number}: expected at most {_MAX_LINE:,} bytes, found more")
                yield parse_json(line, where=f"{at}: line {number}")


def _members(opened: zipfile.ZipFile, size: int, where: str, limits: Limits) -> dict[str, zipfile.ZipInfo]:
    """The members by name; the claims of the zip's table of contents are checked before anything is unpacked."""
    infos = opened.infolist()
    if len(infos) > _MAX_TOPOLOGIES + len(_NAMED):
        raise LimitError(f"{where}: expected at most {_MAX_TOPOLOGIES:,} topologies, found {len(infos):,} members")
    members: dict[str, zipfile.ZipInfo] = {}
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        name = info.orig_filename  # ZipFile cuts names at a NUL byte and turns some separators around
        packed = _TOPOLOGY.fullmatch(name)
        if packed is None and name not in _NAMED:
            raise InvalidInputError(
                f"{where}: expected {', '.join(_NAMED)} and topologies/<digest>.npz, found {name[:80]!r}"
            )
        if name in members:
            raise InvalidInputError(f"{where}: expected every member once, found {name!r} twice")
        _check_size(info, f"{where}: {name}", limits, packed=packed is not None)
        if info.header_offset < end:
            raise InvalidInputError(f"{where}: {name}: expected bytes of its own, found others' in its place")
        end = info.header_offset + 30 + len(name) + info.compress_size
        members[name] = info
    if end > size:
        raise InvalidInputError(f"{where}: expected {end:,} bytes or more, found {size:,}")
    missing = sorted({_ARCHIVE, _RUNS, _SNAPSHOTS} - members.keys())
    if missing:
        raise InvalidInputError(f"{where}: expected a member {missing[0]}, found none", hint="docs/export-file.md")
    return members


def _check_size(info: zipfile.ZipInfo, at: str, limits: Limits, *, packed: bool) -> None:
    methods = (zipfile.ZIP_STORED,) if packed else (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    if info.flag_bits & _ENCRYPTED or info.compress_type not in methods:
        raise InvalidInputError(
            f"{at}: expected it {'stored' if packed else 'stored or deflated'} and not encrypted, "
            f"found method {info.compress_type}"
        )
    if packed:
        limits.check(at, total_bytes=info.file_size)
    elif info.file_size > MIB:
        limits.check(at, ratio=round(info.file_size / max(1, info.compress_size), 1))


def _run_document(record: RunRecord) -> dict[str, Any]:
    run = record.run
    wiring = {"spaces": [], "layers": []} if record.wiring is None else wiring_text.document(record.wiring.layers)
    return {
        "id": run.id,
        "name": run.name,
        "status": run.status,
        "created_at": _time_text(run.created_at),
        "tags": list(run.tags),
        "parents": [{"run": parent.run, "step": parent.step, "how": parent.how} for parent in run.parents],
        "config": dict(run.config),
        **wiring,
        "projected": record.projected if isinstance(record.projected, str) else list(record.projected),
        **({} if record.removed_at is None else {"removed_at": _time_text(record.removed_at)}),
    }


def _snapshot_document(snapshot: Snapshot) -> dict[str, Any]:
    document = {
        "run": snapshot.run,
        "step": snapshot.step,
        "epoch": None if snapshot.epoch is None else float(snapshot.epoch),
        "recorded_at": _time_text(snapshot.recorded_at),
        "digest": snapshot.digest,
        "connections": snapshot.nnz,
        "metrics": _numbers(snapshot.metrics),
    }
    if snapshot.layer_metrics:
        document["layer_metrics"] = {y: _numbers(metrics) for y, metrics in sorted(snapshot.layer_metrics.items())}
    return document


def _metrics_document(entry: StepMetrics) -> dict[str, Any]:
    return {
        "run": entry.run,
        "step": entry.step,
        "epoch": None if entry.epoch is None else float(entry.epoch),
        "recorded_at": _time_text(entry.recorded_at),
        "metrics": _numbers(entry.metrics),
        "layer_metrics": {y: _numbers(metrics) for y, metrics in sorted(entry.layer_metrics.items())},
    }


def _numbers(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in sorted(metrics.items())}


def _run_record(line: Any, at: str, *, format_: int) -> RunRecord:
    plain = format_ == 1
    more = set() if plain else {"axes", "removed_at"} if format_ == FORMAT else {"axes"}
    wiring_text.check_keys(line, _RUN_KEYS, more, at)
    parents = []
    for claim in _list(line, "parents", at):
        _fields(claim, "run", "step", "how", at=f"{at}: parents")
        parents.append(
            Parent(check_run_id(_text(claim, "run", at)), check_step(claim["step"]), _one_of(claim, "how", HOWS, at))
        )
    wiring = Wiring(wiring_text.from_document(line, at, plain=plain)) if line["layers"] or line["spaces"] else None
    names = () if wiring is None else tuple(layer.name for layer in wiring if layer.name not in wiring.shared_with)
    if not isinstance(line["config"], dict):
        raise InvalidInputError(f"{at}: config: expected an object, found {str(line['config'])[:80]}")
    run = Run(
        check_run_id(_text(line, "id", at)),
        _text(line, "name", at),
        _one_of(line, "status", get_args(Status), at),
        _time(line, "created_at", at),
        config=line["config"],
        tags=tuple(check_tag(_text({"tag": tag}, "tag", at)) for tag in _list(line, "tags", at)),
        parents=tuple(parents),
    )
    projected: tuple[str, ...] | str
    if not plain and isinstance(line["projected"], str) and last_of(line["projected"]) is not None:
        projected = line["projected"]
    else:
        projected = tuple(_one_of({"projected": name}, "projected", names, at) for name in _list(line, "projected", at))
    return RunRecord(run, wiring, projected, _time(line, "removed_at", at) if "removed_at" in line else None)


def _snapshot(line: Any, at: str, *, plain: bool) -> Snapshot:
    wiring_text.check_keys(line, _SNAPSHOT_KEYS, set() if plain else {"layer_metrics"}, at)
    digest = _text(line, "digest", at)
    if not _DIGEST.fullmatch(digest):
        raise InvalidInputError(f"{at}: digest: expected 64 hexadecimal digits, found {digest[:80]!r}")
    if not isinstance(line["metrics"], dict):
        raise InvalidInputError(f"{at}: metrics: expected an object of numbers, found {str(line['metrics'])[:80]}")
    epoch = line["epoch"]
    return Snapshot(
        check_run_id(_text(line, "run", at)),
        check_step(line["step"]),
        digest,
        _whole(line, "connections", at),
        _time(line, "recorded_at", at),
        epoch=None if epoch is None else check_metrics({"epoch": epoch})["epoch"],
        metrics=check_metrics(line["metrics"]),
        layer_metrics=check_layer_metrics(line.get("layer_metrics")),
    )


def _metrics(line: Any, at: str) -> StepMetrics:
    wiring_text.check_keys(line, _METRICS_KEYS, set(), at)
    epoch = line["epoch"]
    return StepMetrics(
        check_run_id(_text(line, "run", at)),
        check_step(line["step"]),
        _time(line, "recorded_at", at),
        epoch=None if epoch is None else check_metrics({"epoch": epoch})["epoch"],
        metrics=check_metrics(line["metrics"]),
        layer_metrics=check_step_layer_metrics(line["layer_metrics"]),
    )


def _named(topology: Topology, record: RunRecord) -> Topology:
    """The same wiring under the names of a run's layers and spaces.

    Topologies of one digest have the same layers: in the order written, or beyond format 1 in the normal order.
    """
    wiring = record.wiring
    if wiring is None or len(topology) != len(wiring):
        expected = 0 if wiring is None else len(wiring)
        raise InvalidInputError(f"expected the {expected} layers of run {record.run.id!r}, found {len(topology)}")
    if topology.wiring == wiring:
        return topology
    pairs: Iterable[tuple[int, int]] = enumerate(range(len(wiring)))
    if wiring.beyond_format_1 is not None:
        pairs = zip(topology.wiring.normal_order, wiring.normal_order, strict=True)
    masks = {wiring.layers[mine].name: topology.layers[theirs].mask for theirs, mine in pairs}
    return wiring.place({name: mask for name, mask in masks.items() if name not in wiring.shared_with})


def _topology_member(digest: str) -> str:
    return f"topologies/{digest}.npz"


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document, allow_nan=False).encode("ascii") + b"\n"


def _counted(counts: Counts) -> dict[str, int]:
    return {"runs": counts.runs, "snapshots": counts.snapshots, "topologies": counts.topologies}


def _time_text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def _fields(claim: Any, *names: str, at: str) -> None:
    if not isinstance(claim, dict) or claim.keys() != set(names):
        text = ", ".join(sorted(claim))[:200] if isinstance(claim, dict) else str(claim)[:80]
        raise InvalidInputError(f"{at}: expected an object with {', '.join(names)}, found {text}")


def _text(claim: dict[str, Any], name: str, at: str) -> str:
    if not isinstance(claim[name], str):
        raise InvalidInputError(f"{at}: {name}: expected a text, found {str(claim[name])[:80]}")
    return str(claim[name])


def _list(claim: dict[str, Any], name: str, at: str) -> list[Any]:
    if not isinstance(claim[name], list):
        raise InvalidInputError(f"{at}: {name}: expected a list, found {str(claim[name])[:80]}")
    return list(claim[name])


def _whole(claim: dict[str, Any], name: str, at: str) -> int:
    if type(claim[name]) is not int or claim[name] < 0:
        raise InvalidInputError(f"{at}: {name}: expected a whole number, found {str(claim[name])[:80]}")
    return int(claim[name])


def _one_of(claim: dict[str, Any], name: str, known: Sequence[str], at: str) -> Any:
    if claim[name] not in known:
        raise InvalidInputError(f"{at}: {name}: expected one of {', '.join(known)}, found {str(claim[name])[:80]!r}")
    return claim[name]


def _time(claim: dict[str, Any], name: str, at: str) -> datetime:
    try:
        moment = datetime.fromisoformat(_text(claim, name, at))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidInputError(
            f"{at}: {name}: expected a time with its zone in ISO 8601, found {str(claim[name])[:80]!r}"
        )
    return moment.astimezone(UTC)


@contextmanager
def _as_invalid_input(where: str) -> Iterator[None]:
    """All that a damaged zip or a rule of our values raises, as one error that names the place in the file."""
    try:
        yield
    except TopostrataError as error:
        if error.message.startswith(where):
            raise
        kind = type(error) if isinstance(error, LimitError | UnsupportedFormatError) else InvalidInputError
        raise kind(f"{where}: {error.message}", hint=error.hint) from error
    except FileNotFoundError as error:
        raise InvalidInputError(f"{where}: expected a file, found none") from error
    except DAMAGED_ZIP as error:
        raise InvalidInputError(
            f"{where}: expected an intact export file, found: {error or type(error).__name__}",
            hint="was it cut off or changed on its way?",
        ) from error
