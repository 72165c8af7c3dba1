"""The compilation of the kernels is said where it happens, and happens where nothing can be kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Two kernels, since all of them take long. The command line's handler, in a process of its own.
USE = """
import numpy as np
from topostrata.service.cli.output import tell_of_compiling
tell_of_compiling()
from topostrata.distance import kernels
some = np.arange(3, dtype=np.uint64)
assert kernels.mixed(some)[0] != kernels.grown(some, 1, 2)[0]
"""
# As where neither the installation nor the home directory can be written. Root may write everywhere, so it is played.
READ_ONLY = """
import tempfile
honest = tempfile.TemporaryFile
def refuse(*rest, dir=None, **more):
    if dir is not None and not str(dir).startswith(tempfile.gettempdir()):
        raise OSError("read-only")
    return honest(*rest, dir=dir, **more)
tempfile.TemporaryFile = refuse
"""
NOWHERE = """
import tempfile
def refuse(*_, **__):
    raise OSError("read-only")
tempfile.TemporaryFile = tempfile.mkdtemp = refuse
"""


def stderr_of(code: str, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=clean | environment
    )
    return ran.stderr


def test_the_first_use_says_once_that_it_compiles(tmp_path: Path) -> None:
    """And the second use, which finds what was compiled, says nothing."""
    first = stderr_of(USE, NUMBA_CACHE_DIR=str(tmp_path))
    assert first == "compiling the kernels of the distance (about 25 s; only the first time) ...\n"
    assert stderr_of(USE, NUMBA_CACHE_DIR=str(tmp_path)) == ""


def test_what_was_compiled_of_other_sources_is_not_used(tmp_path: Path) -> None:
    """Numba sees a change in a function's own file, not in the file of what it calls: then all is compiled anew."""
    stderr_of(USE, NUMBA_CACHE_DIR=str(tmp_path))
    (stamp,) = tmp_path.rglob("topostrata-kernels.sha256")
    old = sorted(path.name for path in stamp.parent.iterdir())
    stamp.write_text("of another release", "ascii")
    assert stderr_of(USE, NUMBA_CACHE_DIR=str(tmp_path)).startswith("compiling the kernels")
    assert sorted(path.name for path in stamp.parent.iterdir()) == old
    assert stderr_of(USE, NUMBA_CACHE_DIR=str(tmp_path)) == ""


def test_an_installation_that_cannot_be_written_compiles_each_time(tmp_path: Path) -> None:
    """It works, says why it takes so long, and leaves nothing behind."""
    for _ in range(2):
        output = stderr_of(READ_ONLY + USE, TMPDIR=str(tmp_path))
        assert "each time, since no directory to keep them in can be written: NUMBA_CACHE_DIR may name one" in output
        assert list(tmp_path.iterdir()) == []


def test_without_any_place_to_write_the_error_says_what_to_do() -> None:
    """Not numba's own, which names a file of ours."""
    with pytest.raises(subprocess.CalledProcessError) as caught:
        stderr_of(NOWHERE + USE)
    assert "let NUMBA_CACHE_DIR or TMPDIR name one" in caught.value.stderr
