"""Evolution over REST."""

from __future__ import annotations

import httpx
import numpy as np
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


def test_packed_changes_are_the_connections(rest: httpx.Client) -> None:
    """The numbers for a picture say what the lists of connections say, status by status."""
    query: dict[str, str | int] = {"layer": "l1", "from": 0, "to": 50}
    numbers = np.frombuffer(rest.get("/v1/runs/w0/changes", params=query).content, dtype="<u4")
    assert numbers[:2].tolist() == [784, 784]
    at = 2
    for status in ("survived", "regrown", "died", "born"):
        count = int(numbers[at])
        sources, targets = numbers[at + 1 : at + 1 + 2 * count].reshape(2, count).tolist()
        page = rest.get("/v1/runs/w0/connections", params={**query, "status": status, "limit": 1000}).json()
        shown = [(entry["source"], entry["target"]) for entry in page["connections"]]
        assert list(zip(sources, targets, strict=True))[: len(shown)] == shown
        assert (len(shown) == count) is (page["next"] is None)
        at += 1 + 2 * count
    assert at == numbers.size


def test_a_neuron_has_the_connections_that_the_graph_says(shell: Shell, rest: httpx.Client) -> None:
    """Those alive at a step are the answer of the cookbook's question, with the step each was born at."""
    neuron = rest.get("/v1/runs/w0/neuron", params={"space": "hidden1", "unit": 5}).json()
    alive = {
        (f"w0/{entry['space']}/{entry['unit']}", entry["layer"], entry["tap"], life["born"])
        for entry in neuron["inputs"]
        for life in entry["lives"]
        if life["born"] <= 50 and (life["died"] is None or life["died"] > 50)
    }
    answer = shell.json("cypher", "--cookbook", "inputs", "-p", "id=w0/hidden1/5", "-p", "step=50")
    assert alive == {tuple(row) for row in answer["rows"]} != set()
    assert neuron["steps"] == [0, 10, 50]


@pytest.mark.parametrize("query", [{"space": "nowhere", "unit": 0}, {"space": "hidden1", "unit": 784}])
def test_a_neuron_that_is_not_there_is_not_found(rest: httpx.Client, query: dict[str, str | int]) -> None:
    """An unknown space, or an index beyond its units, is 404 and says which there are."""
    answer = rest.get("/v1/runs/w0/neuron", params=query)
    assert answer.status_code == 404
    assert "hidden1" in answer.json()["detail"]
