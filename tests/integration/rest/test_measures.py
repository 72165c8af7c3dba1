"""Measures of one snapshot over REST."""

from __future__ import annotations

import httpx

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
