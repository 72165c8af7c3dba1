"""What the documents show works as they show it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from topostrata.archive import open_archive
from topostrata.ingest.formats import snapshot_file
from topostrata.store.embedded import stop
from topostrata.topology import Topology

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.checkout


def blocks(document: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_commands_of_the_readme_work(tmp_path: Path, reference_directory: Path) -> None:
    """Each `topostrata` line of README.md, in order, in an empty directory with two real runs."""
    for run in ("w0", "w1"):
        (tmp_path / "my-runs").mkdir(exist_ok=True)
        (tmp_path / "my-runs" / run).symlink_to(reference_directory / f"e5_s0_{run}")
    lines = [
        line
        for block in blocks(ROOT / "README.md", "sh")
        for line in block.splitlines()
        if line.startswith("topostrata ") and not line.startswith(("topostrata serve", "topostrata copy"))
    ]
    assert len(lines) >= 8
    binary = Path(sys.executable).parent
    try:
        for line in lines:
            command = f'PATH="{binary}:$PATH"; {line}'
            done = subprocess.run(
                ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
            )
            assert done.returncode == 0, (line, done.stderr)
            assert done.stdout.strip(), line
        assert (tmp_path / "distances.png").read_bytes().startswith(b"\x89PNG")
    finally:
        stop(tmp_path / ".topostrata", force=True)


def test_the_quickstart_runs(tmp_path: Path) -> None:
    """examples/quickstart.py ends well and says what survived."""
    script = ROOT / "examples" / "quickstart.py"
    store = tmp_path / "archive"
    done = subprocess.run([sys.executable, script, store], capture_output=True, text=True, check=False, timeout=300)
    stop(store, force=True)
    assert done.returncode == 0, done.stderr
    assert "connections survived" in done.stdout


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training job records itself and the archive answers; the block that traces a model runs in tests/torch."""
    recording, asking, tracing = blocks(ROOT / "README.md", "python")
    assert "ts.trace" in tracing
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    masks = [random.random((6, 6)) < 0.4 for _ in range(3)]
    names: dict[str, Any] = {f"mask{k}": mask for k, mask in enumerate(masks, 1)}
    try:
        with open_archive(".topostrata") as archive:
            archive.push("w0", 0, Topology.from_masks(masks))
            exec(recording, names := {**names, "step": 3, "accuracy": 0.5})
            assert archive.snapshot("w5@last").metrics == {"accuracy": 0.5}
            exec(asking, names)
            assert names["distance"].nnstd == 0
            assert archive.topology("w6@0") == archive.topology("w0@0")
    finally:
        stop(tmp_path / ".topostrata", force=True)


def test_the_snapshot_file_of_the_documents_can_be_read(tmp_path: Path) -> None:
    """A snapshot file written with NumPy alone, as docs/snapshot-file.md shows, is one of ours."""
    (code,) = blocks(ROOT / "docs" / "snapshot-file.md", "python")
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=120)
    snapshot = snapshot_file.read(tmp_path / "snapshot.npz")
    assert snapshot.topology.nnz == 3
    assert [space.name for space in snapshot.topology.spaces] == ["in", "out"]


def test_the_demo_tells_its_story(tmp_path: Path) -> None:
    """`topostrata demo` in short: trained, archived, shown, drawn; a second time in the same place works too."""
    out = tmp_path / "demo"
    command = [sys.executable, "-m", "topostrata.service.cli.main", "demo", "--no-serve", "--epochs", "2"]
    for _ in range(2):
        done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
    stop(out / "archive", force=True)
    for name in ("distances", "survival", "descent"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "w3 -> w4" in done.stdout
    assert "standard deviations more: they are still relatives." in done.stdout
    assert "7 runs, 21 snapshots" in done.stdout
    assert "w4 is a perturbation of w3@0" in done.stdout


def test_the_demo_touches_no_directory_of_others(tmp_path: Path) -> None:
    """A directory with other files in it is refused and left as it is."""
    (tmp_path / "thesis.tex").write_text("mine")
    done = subprocess.run(
        [sys.executable, "-m", "topostrata.service.cli.main", "demo", "--no-serve", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 1
    assert "expected an empty directory or an earlier demo" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
