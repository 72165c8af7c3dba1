"""A copy of an archive that nobody may write."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from topostrata.errors import EngineError
from topostrata.store import sealed
from topostrata.store.engine_files import DATABASE, EngineFiles


def test_no_engine_starts_while_an_archive_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files would be of different moments; one that runs is refused."""
    lock = EngineFiles(tmp_path).lock("engine")
    database = tmp_path / "engine" / "databases" / DATABASE
    database.mkdir(parents=True)
    (database / "pages").write_bytes(b"1")
    assert lock.try_exclusive()
    with pytest.raises(EngineError, match="found one that an engine has open"):
        sealed.copied(tmp_path)
    lock.release()
    copy = shutil.copyfile
    free: list[bool] = []

    def meanwhile(*arguments: Any) -> Any:
        free.append(lock.try_exclusive())
        return copy(*arguments)

    monkeypatch.setattr(shutil, "copyfile", meanwhile)
    scratch = sealed.copied(tmp_path)
    assert (free, lock.try_exclusive()) == ([False], True)
    lock.release()
    shutil.rmtree(scratch)
