"""What a training left in its spools, as values."""

from __future__ import annotations

from pathlib import Path

from topostrata.ingest.hook.spool import RunEnd, RunHead, SpooledMetrics, SpooledSnapshot, read
from topostrata.runs import Status


def head(folder: Path, run: str) -> RunHead:
    """How the run began."""
    (value,) = (entry.value for entry in read(_file(folder, run)) if isinstance(entry.value, RunHead))
    return value


def snapshots(folder: Path, run: str) -> list[SpooledSnapshot]:
    """The run's snapshots, in the order in which they were logged."""
    return [entry.value for entry in read(_file(folder, run)) if isinstance(entry.value, SpooledSnapshot)]


def measured(folder: Path, run: str) -> list[SpooledMetrics]:
    """The run's numbers without masks, in the order in which they were logged."""
    return [entry.value for entry in read(_file(folder, run)) if isinstance(entry.value, SpooledMetrics)]


def status(folder: Path, run: str) -> Status | None:
    """How the run ended."""
    (value,) = (entry.value for entry in read(_file(folder, run)) if isinstance(entry.value, RunEnd))
    return value.status


def _file(folder: Path, run: str) -> Path:
    (file,) = folder.glob(f"{run}.*.spool")
    return file
