"""The guard for pipelines, as a pipeline calls it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.reference_runs import Shell


def test_the_exit_status_says_what_became_of_a_mask(shell: Shell, tmp_path: Path) -> None:
    """0 where it is still the mask, 1 where it is not, in words and in JSON; 2 where that cannot be told."""
    kept = shell.run("check", "w0@50", "--as", "w0@50", "--no-collapse", "--density", "0.02", "--only", "sparse")
    assert (kept.returncode, kept.stderr) == (0, "")
    assert "w0@50: same as, density 0.02, no collapse: kept in 3 layers" in kept.stdout
    broken = shell.run("check", "w0@50", "w1@50", "--as", "w0@50", "--json")
    assert broken.returncode == 1
    answer = json.loads(broken.stdout)
    assert (answer["passed"], [network["passed"] for network in answer["networks"]]) == (False, [True, False])
    fault = answer["networks"][1]["broken"][0]
    assert (fault["rule"], fault["tap"]) == ("same as", 0)
    assert fault["count"] > 1000
    assert fault["found"].endswith("missing")
    shown = shell.run("check", "w1@50", "--as", "w0@50", "--pattern", "2:4")
    assert shown.returncode == 1
    assert "pattern 2:4" in shown.stdout
    mask = np.zeros((4, 3), dtype=bool)
    mask[:2] = True
    np.savez(tmp_path / "other.npz", l0=mask)
    assert shell.run("check", str(tmp_path / "other.npz"), "--pattern", "2:4", "--bias", "none").returncode == 0
    for arguments, words in (
        (("w0@50",), "expected a rule"),
        (("w0@51", "--no-collapse"), "w0@51"),
        (("w0@50", "--as", str(tmp_path / "other.npz"), "--bias", "none"), "expected a network of the same layers"),
        (("w0@50", "--no-collapse", "--bias", "none"), "found only refs"),
        (("w0@50", "--as", "w*@50"), "expected one network to compare with, found 5"),
    ):
        unclear = shell.run("check", *arguments)
        assert (unclear.returncode, unclear.stdout) == (2, ""), arguments
        assert words in unclear.stderr
