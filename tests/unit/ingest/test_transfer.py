"""Runs that grow while a move reads them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.held_runs import HeldRuns, family
from topostrata.errors import CorruptError
from topostrata.ingest import transfer
from topostrata.ingest.formats.export_file import ExportFile
from topostrata.runs import Run


@dataclass
class Growing(HeldRuns):
    """Runs of which one is not seen at the first looks, though a child of it is."""

    unseen: int = 0

    def runs(self) -> list[Run]:
        self.unseen -= 1
        return [run for run in super().runs() if self.unseen < 0 or run.id != "root"]


def growing(unseen: int) -> Growing:
    """A family whose root appears late."""
    runs = family(1)
    return Growing(runs.records, runs.histories, runs.topologies, unseen=unseen)


def test_a_parent_that_was_made_meanwhile_moves_too(tmp_path: Path) -> None:
    """Runs are read before their descent: what was declared in between is found by another look."""
    done = transfer.export(growing(1), tmp_path / "runs.zip")
    assert set(done.runs) == {"root", "a-child", "both", "empty"}
    with ExportFile(tmp_path / "runs.zip") as file:
        file.check()


def test_a_parent_that_never_appears_is_named(tmp_path: Path) -> None:
    """A run without its ancestors is not moved, and nothing is written."""
    with pytest.raises(CorruptError, match="run 'a-child': expected its parent root@"):
        transfer.export(growing(1000), tmp_path / "runs.zip")
    assert list(tmp_path.iterdir()) == []
