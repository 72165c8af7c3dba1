"""`topostrata engine`, and what a verb loads to ask an archive."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from topostrata.ingest.formats import snapshot_file
from topostrata.store.embedded import stop
from topostrata.topology import Topology

# The loaded modules among those that no question about runs needs, after `topostrata ls`.
LOADED = """
import sys
from topostrata.service.cli import main
heavy = "numpy scipy pandas pyarrow networkx matplotlib numba fastapi uvicorn dask distributed httpx safetensors"
try:
    main.main()
finally:
    print([name for name in heavy.split() if name in sys.modules])
"""

# A process that has a use for data frames of its own, and asks with a value of NumPy.
LIBRARY = """
import sys
import topostrata as ts
with ts.open(sys.argv[1], create=False) as archive:
    import numpy, pandas, pyarrow
    print(archive.cypher("RETURN $x AS x", {"x": numpy.int64(3)}).rows)
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An archive with one run of one snapshot, pushed from a file."""
    folder = tmp_path_factory.mktemp("operation")
    snapshot_file.write(folder / "net.npz", Topology.from_masks([[[1, 0], [0, 1]], [[1], [1]]]))
    pushed = run(folder / "archive", "push", str(folder / "net.npz"), "--run", "w0", "--step", "0")
    assert pushed.returncode == 0, pushed.stderr
    yield folder / "archive"
    stop(folder / "archive", force=True)


def run(store: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "topostrata.service.cli.main", *arguments, "--store", str(store)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_status_says_whether_the_engine_is_running(store: Path, tmp_path: Path) -> None:
    """The first word is `running` or `stopped`; `stop` says on stdout what it did."""
    assert run(tmp_path / "none", "engine", "status").stdout.startswith("stopped: ")
    assert run(store, "ls").returncode == 0
    running = run(store, "engine", "status")
    assert running.stdout.splitlines()[0] == "running"
    assert "engine pid" in running.stdout
    assert run(store, "engine", "stop").stdout == "stopped\n"
    stopped = run(store, "engine", "status")
    assert stopped.stdout.splitlines()[0] == "stopped"
    assert "pid" not in stopped.stdout
    assert run(store, "engine", "stop").stdout == "it was not running\n"


def test_a_list_of_runs_loads_nothing_heavy(store: Path) -> None:
    """`topostrata ls` loads the driver, but no arrays, data frames, graphs, pictures or web framework."""
    command = [sys.executable, "-c", LOADED, "ls", "--store", str(store)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert ran.returncode == 0, ran.stderr
    listing, loaded = ran.stdout.splitlines()[:-1], ran.stdout.splitlines()[-1]
    assert any(line.split()[:2] == ["w0", "1"] for line in listing)
    assert loaded == "[]"


def test_the_driver_of_a_library_takes_what_numpy_has(store: Path) -> None:
    """Only the command's own process leaves NumPy and pandas out; whoever imports the package can send their values."""
    ran = subprocess.run(
        [sys.executable, "-c", LIBRARY, str(store)], capture_output=True, text=True, check=False, timeout=300
    )
    assert (ran.stdout, ran.returncode) == ("[[3]]\n", 0), ran.stderr


def test_push_says_what_it_did(store: Path) -> None:
    """Snapshots that are new, a tag or a parent that the run gained, or nothing."""
    file = str(store.parent / "net.npz")

    def push(*options: str) -> str:
        ran = run(store, "push", file, "--run", "w1", *options)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    assert (
        push("--step", "0", "--parent", "w0@0") == "w1: 1 snapshot added, 4 connections; the run now has parent w0@0\n"
    )
    assert push("--step", "0") == "w1: nothing new (1 snapshot there already)\n"
    assert push("--step", "0", "--tag", "set") == "w1: the run now has tag set (1 snapshot there already)\n"
    assert push("--step", "0", "--tag", "set") == "w1: nothing new (1 snapshot there already)\n"
