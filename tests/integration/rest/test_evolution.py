"""Evolution over REST."""

from __future__ import annotations

import httpx
import pytest

from tests.reference_runs import Shell


def test_evolution_is_that_of_the_command_line(shell: Shell, rest: httpx.Client) -> None:
    """Between two steps, every layer has the same JSON."""
    assert rest.get("/v1/runs/w0/evolution", params={"from": 0, "to": 50}).json() == shell.json(
        "evolution", "w0", "--from", "0", "--to", "50"
    )


@pytest.mark.parametrize("noun", ["history", "survival"])
def test_what_goes_over_all_snapshots_is_that_of_the_command_line(shell: Shell, rest: httpx.Client, noun: str) -> None:
    """Histories and survival have the same JSON."""
    assert rest.get(f"/v1/runs/w0/{noun}").json() == shell.json(noun, "w0")


def test_connections_come_in_pages(shell: Shell, rest: httpx.Client) -> None:
    """Two pages of three hold the six connections that the command line lists."""
    query: dict[str, str | int] = {"layer": "l1", "status": "born", "limit": 3}
    page = rest.get("/v1/runs/w0/connections", params=query).json()
    following = rest.get(page["next"]).json()
    listed = shell.json("connections", "w0", "--layer", "l1", "--status", "born", "--limit", "6")
    assert page["connections"] + following["connections"] == listed["connections"]
