"""`topostrata inspect`: what is in a file, and how it would be read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from topostrata.topology import Wiring


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "topostrata.service.cli.main", "inspect", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Masks and weights of two layers."""
    arrays: dict[str, Any] = {
        "fc1.weight": np.ones((4, 3)),
        "fc1.weight_mask": np.eye(4, 3),
        "fc2.weight": np.eye(2, 4),
        "fc2.bias": np.ones(2),
    }
    np.savez(tmp_path / "step_5.npz", **arrays)
    return tmp_path / "step_5.npz"


def test_arrays_roles_and_the_wiring_are_shown_and_written(path: Path) -> None:
    """As tables, and as a text file that reads the network again."""
    ran = run(str(path), "--write", str(path.parent / "net.toml"))
    assert ran.returncode == 0, ran.stderr
    for words in ("fc1.weight_mask", "original", "would be read as", "rows are targets (out-in): only so", "left out"):
        assert words in ran.stdout
    assert [layer.name for layer in Wiring.from_toml((path.parent / "net.toml").read_text())] == ["fc1", "fc2"]


def test_the_same_as_json(path: Path) -> None:
    """Every array with its role, and the layers with their widths."""
    document = json.loads(run(str(path), "--json").stdout)
    assert {array["name"]: array["role"] for array in document["arrays"]} == {
        "fc1.weight": "original", "fc1.weight_mask": "mask", "fc2.weight": "weight", "fc2.bias": "bias",
    }  # fmt: skip
    assert [(layer["n_source"], layer["n_target"]) for layer in document["read"]["layers"]] == [(3, 4), (4, 2)]
    assert document["question"] is None


def test_a_question_is_an_answer(tmp_path: Path) -> None:
    """Two readings: the exit is 0, since inspect only looks; the option that decides is named."""
    arrays: dict[str, Any] = {"a.weight": np.eye(4), "b.weight": np.eye(4)}
    np.savez(tmp_path / "net.npz", **arrays)
    ran = run(str(tmp_path / "net.npz"), "--write", str(tmp_path / "net.toml"))
    assert ran.returncode == 0
    assert "nothing would be read" in ran.stdout
    assert "--orientation" in ran.stdout
    assert "a draft to edit" in ran.stderr
    assert (tmp_path / "net.toml").read_text().startswith("# A draft")
    assert "would be read as" in run(str(tmp_path / "net.npz"), "--orientation", "out-in", "--layers", "a,b").stdout


def test_what_is_no_file_is_an_error(tmp_path: Path) -> None:
    """Nothing to look at: exit 1 and the path."""
    ran = run(str(tmp_path / "gone.npz"))
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "gone.npz: expected a file or directory, found none" in ran.stderr
