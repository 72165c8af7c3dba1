"""`topostrata push --watch`: one process trains, another follows its files, and ends when it is interrupted."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.epochs import run_directory
from topostrata.archive import open_archive
from topostrata.store.embedded import stop

# Writes an epoch for each line that it reads, as a training job does: the files of its layers one after the other.
WRITER = """
import sys
from pathlib import Path
from tests.epochs import run_directory
for line in sys.stdin:
    run_directory(Path(sys.argv[1]), (int(line),))
    print("written", flush=True)
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "archive"
    stop(tmp_path / "archive", force=True)


def test_a_run_is_followed_until_it_is_interrupted(tmp_path: Path, store: Path) -> None:
    """Each epoch is stored and said as it appears, to a pipe too; Ctrl-C ends with 130, and nothing is lost."""
    run = tmp_path / "run"
    truth = run_directory(run, (0, 1))
    command = [sys.executable, "-m", "topostrata.service.cli.main", "push", str(run), "--run", "w0", "--watch"]
    with (
        subprocess.Popen(
            [*command, "--store", str(store)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as watching,
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(run)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        ) as writing,
    ):
        assert watching.stdout is not None
        assert writing.stdin is not None
        assert writing.stdout is not None
        assert watching.stdout.readline().startswith("w0: 2 snapshots added, ")
        for epoch in (2, 3):
            print(epoch, file=writing.stdin, flush=True)
            assert writing.stdout.readline() == "written\n"
            assert watching.stdout.readline() == f"w0: 1 snapshot added, {topology_text(run, epoch)}\n"
        watching.send_signal(signal.SIGINT)
        said, errors = watching.communicate(timeout=60)
        writing.stdin.close()
    assert (watching.returncode, said) == (130, ""), errors
    assert errors.rstrip().endswith(
        "interrupted; what was stored stays stored, and it is safe to run the command again"
    )
    assert "Traceback" not in errors
    with open_archive(store) as archive:
        assert [snapshot.step for snapshot in archive.snapshots("w0")] == [0, 1, 2, 3]
        assert archive.topology("w0@0") == truth[0]
        assert list(archive.verify()) == []


def topology_text(run: Path, epoch: int) -> str:
    """The number of connections of an epoch, as the verb says it."""
    from topostrata.ingest.formats.reading import read_one
    from topostrata.refs import PathRef

    return f"{read_one(PathRef(run, epoch)).topology.nnz:,} connections"
