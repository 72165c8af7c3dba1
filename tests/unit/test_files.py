"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from topostrata.errors import InvalidInputError
from topostrata.files import check_target, whole


def test_a_file_is_replaced_when_all_is_written(tmp_path: Path) -> None:
    """Until then the old one stands; the draft has its suffix, and is gone in the end."""
    target = tmp_path / "a.csv"
    target.write_text("old")
    with whole(target) as draft:
        draft.write_text("new")
        assert (draft.parent, draft.suffix, target.read_text()) == (tmp_path, ".csv", "old")
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_is_not_finished_leaves_the_old_one(tmp_path: Path) -> None:
    """Whatever went wrong; and nothing else is left."""
    target = tmp_path / "a.csv"
    target.write_text("old")

    def fail() -> None:
        with whole(target) as draft:
            draft.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """What it leads to is replaced."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a").write_text("old")
    (tmp_path / "a").symlink_to("there/a")
    with whole(tmp_path / "a") as draft:
        draft.write_text("new")
    assert (tmp_path / "a").is_symlink()
    assert (tmp_path / "there" / "a").read_text() == "new"


def test_what_is_no_file_is_written_as_it_is(tmp_path: Path) -> None:
    """A pipe is not replaced, nor is /dev/stdout."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True) as reader:
        with whole(pipe) as draft:
            draft.write_text("through")
        assert reader.communicate()[0] == "through"
    assert pipe.is_fifo()
    code = "from topostrata.files import whole\nwith whole('/dev/stdout') as d: d.write_text('out')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "out"


def test_a_bad_place_is_an_error_that_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No such directory; a directory itself; one that cannot be written (which root always can, so it is played)."""
    with pytest.raises(InvalidInputError, match="found no directory") as caught:
        check_target(tmp_path / "no" / "a")
    assert caught.value.hint == f"mkdir -p '{tmp_path / 'no'}'"
    with pytest.raises(InvalidInputError, match="expected the name of a file, found a directory"):
        check_target(tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InvalidInputError, match="found it read-only"), whole(tmp_path / "a"):
        pass
