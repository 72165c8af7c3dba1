"""What is told of failures of a database."""

from __future__ import annotations

from pathlib import Path

from neo4j.exceptions import ClientError

from topostrata.store.failures import told_of_full_disk


def test_a_directory_that_is_gone_is_not_full(tmp_path: Path) -> None:
    """Nobody can say how much room it has: the failure is told as what the database says of it."""
    assert told_of_full_disk(ClientError("refused"), str(tmp_path / "gone")) is None
