"""A copy of an embedded archive that nobody may write: a snapshot of the file system, a mount, a colleague's directory."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from topostrata.archive import open_archive
from topostrata.settings import Settings
from topostrata.store.embedded import status, stop
from topostrata.topology import Topology

_READER = """
import json, sys
import topostrata as ts

store, folder = sys.argv[1:]
told = {}
with ts.open(store) as archive:
    told["runs"] = [run.id for run in archive.runs()]
    told["rows"] = archive.cypher("MATCH (:Neuron)-[c:CONNECTS]->() RETURN count(c)").rows
    told["nnstd"] = [archive.nnstd("w0@0", "w0@1").nnstd for _ in range(2)]
    told["exported"] = archive.export(f"{folder}/runs.zip").snapshots
    told["backed_up"] = archive.backup(f"{folder}/all.zip").snapshots
    told["sound"] = list(archive.verify()) == []
    try:
        archive.push("w0", 2, archive.topology("w0@0"))
    except ts.errors.EngineError as error:
        told["refused"] = str(error)
print(json.dumps(told))
"""


def network(seed: int) -> Topology:
    """A network of two layers."""
    random = np.random.default_rng(seed)
    return Topology.from_masks([random.random((6, 5)) < 0.5, random.random((5, 3)) < 0.5])


def sealed(directory: Path, *command: str) -> list[str]:
    """A command line that runs a command where nobody can write to the directory, root neither."""
    if os.geteuid() != 0:
        for path in (directory, *directory.rglob("*")):
            path.chmod(path.stat().st_mode & ~0o222)
        return list(command)
    place = shlex.quote(str(directory))
    mounted = f"mount --bind {place} {place} && mount -o remount,ro,bind {place}"
    tried = subprocess.run(["unshare", "--mount", "sh", "-c", mounted], check=False, capture_output=True)
    if shutil.which("unshare") is None or tried.returncode != 0:
        pytest.skip("expected to be allowed a mount namespace")
    return ["unshare", "--mount", "sh", "-c", f"{mounted} && exec {shlex.join(command)}"]


def test_a_copy_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    """Also that of an engine that was killed. Listed, asked, compared, exported, backed up; a push says why it is refused; nothing stays behind."""
    directory, temporary = tmp_path / "archive", tmp_path / "temporary"
    temporary.mkdir()
    with open_archive(directory, settings=Settings(engine_idle_seconds=0)) as archive:
        for step in range(2):
            archive.push("w0", step, network(step))
        lifetimes = archive.layers("w0")[0].lifetimes + archive.layers("w0")[1].lifetimes
        nnstd = archive.nnstd("w0@0", "w0@1", keep=False).nnstd
        running = status(directory)
        assert running is not None
        for name in ("supervisor_pid", "engine_pid"):
            os.kill(running[name], signal.SIGKILL)
    stop(directory, force=True)
    assert any(directory.rglob("*.wal"))  # what it did last stands in its log only
    done = subprocess.run(
        sealed(directory, sys.executable, "-c", _READER, str(directory), str(tmp_path)),
        env=os.environ | {"TMPDIR": str(temporary)}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert "expected an archive that can be written, found one that can only be read" in told.pop("refused")
    assert told == {
        "runs": ["w0"], "rows": [[lifetimes]], "nnstd": [nnstd] * 2, "exported": 2, "backed_up": 2, "sound": True,
    }  # fmt: skip
    assert list(temporary.glob("topostrata-*")) == []
