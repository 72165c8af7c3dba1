"""Measures of one snapshot over REST."""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np

from tests.reference_runs import Shell


def test_structure_is_that_of_the_command_line(shell: Shell, rest: httpx.Client) -> None:
    """Fan-in, fan-out, hubs and dead units have the same JSON."""
    assert rest.get("/v1/runs/w0/snapshots/10/structure").json() == shell.json("structure", "w0@10")


def test_the_panel_is_that_of_the_command_line(shell: Shell, rest: httpx.Client) -> None:
    """All measures have the same JSON, with copies and without spectra too."""
    at = "/v1/runs/w0/snapshots/10/measures"
    assert rest.get(at).json() == shell.json("measures", "w0@10")
    answer = rest.get(at, params={"null": 2, "seed": 3, "spectra": False}).json()
    assert answer == shell.json("measures", "w0@10", "--null", "2", "--seed", "3", "--no-spectra")
    assert (answer["copies"], answer["seed"], answer["layers"][0]["ramanujan"]) == (2, 3, None)


def test_only_so_many_copies_are_measured_over_rest(rest: httpx.Client) -> None:
    """More than twenty would keep the server for minutes: a problem of the question."""
    assert rest.get("/v1/runs/w0/snapshots/10/measures", params={"null": 21}).status_code == 422


def test_the_table_says_all_that_is_asked_for(shell: Shell) -> None:
    """A column for every measure, the exact number of paths, and the level of copies."""
    shown = shell.run("measures", "w0@0", "--null", "2").stdout
    for text in (
        "assortativity",
        "Ramanujan gap",
        "effective paths: 797,490",
        "explored",
        "2 networks by chance",
        "+-",
    ):
        assert text in shown


def test_measures_are_kept_by_the_command_line(shell: Shell, tmp_path: Path) -> None:
    """`push --measures` stores all but those of spectra, `measures --keep` these too, once; not beside copies."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "measured.npz", l0=rng.random((12, 10)) < 0.4, l1=rng.random((10, 4)) < 0.5)
    shell.json("push", str(tmp_path / "measured.npz"), "--run", "measured", "--measures")
    panel = shell.json("measures", "measured")
    (pushed,) = shell.json("metrics", "measured")["metrics"]
    assert pushed["metrics"]["fan_in_cv"] == panel["fan_in_cv"]
    assert pushed["layer_metrics"]["l0"]["assortativity"] == panel["layers"][0]["assortativity"]
    assert not [name for name in pushed["layer_metrics"]["l0"] if name.startswith("ramanujan")]
    assert "snapshots with new metrics: 1 (" in shell.run("measures", "measured@*", "--keep").stdout
    (whole,) = shell.json("metrics", "measured")["metrics"]
    assert pushed["layer_metrics"]["l0"].items() < whole["layer_metrics"]["l0"].items()
    assert whole["layer_metrics"]["l0"]["ramanujan_gap"] == panel["layers"][0]["ramanujan"]["gap"]
    assert shell.json("measures", "measured@*", "--keep") == {"kept": []}
    assert "--null" in shell.fails("measures", "measured", "--keep", "--null", "2", code=2)
    assert shell.run("purge", "measured", "--yes").returncode == 0  # the archive is shared
