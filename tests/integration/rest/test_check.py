"""What networks have in common, and the guard for pipelines, as they are asked for."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
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


def test_the_core_is_that_of_the_command_line(shell: Shell, rest: httpx.Client, tmp_path: Path) -> None:
    """The same JSON; a table from the core down; the mask of what three have can be read and checked."""
    query = {"refs": "w*@50", "alignment": "identity", "layers": "sparse", "draws": "1"}
    answer = rest.get("/v1/core", params=query).json()
    command = ("core", "w*@50", "--alignment", "identity", "--only", "sparse", "--draws", "1")
    assert answer == shell.json(*command)
    assert answer["layers"][0]["exactly"] == [6237, 252, 186, 297, 2003]
    assert answer["refs"] == [f"w{k}@50" for k in range(5)]
    out = tmp_path / "core.npz"
    shown = shell.run(*command, "--at-least", "5", "--out", str(out))
    assert shown.returncode == 0, shown.stderr
    assert "connections in exactly k of 5 networks, alignment identity, chance by 1 draws, seed 0" in shown.stdout
    for ref in ("w0@50", "w4@50"):
        assert shell.run("check", str(out), "--within", ref, "--only", "sparse").returncode == 0
    assert "together, found one" in shell.fails("core", "w*@50", "--at-least", "2", code=2)
    assert "expected 1 to 5 networks" in shell.fails("core", "w*@50", "--at-least", "6", "--out", str(out), code=2)
    assert rest.get("/v1/core", params=query | {"refs": "w0@50"}).status_code == 422
