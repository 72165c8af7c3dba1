"""Measures of one snapshot over REST."""

from __future__ import annotations

import httpx

from tests.reference_runs import Shell


def test_structure_is_that_of_the_command_line(shell: Shell, rest: httpx.Client) -> None:
    """Fan-in, fan-out, hubs and dead units have the same JSON."""
    assert rest.get("/v1/runs/w0/snapshots/10/structure").json() == shell.json("structure", "w0@10")
