"""Cypher over REST: read-only, bounded, and ended with its client."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import httpx
import pytest

from tests.behaviour.test_hostile_queries import RUNAWAYS, WRITES
from tests.reference_runs import Shell


def ask(rest: httpx.Client, query: str, **more: Any) -> httpx.Response:
    """The answer to a query."""
    return rest.post("/v1/cypher", json={"query": query, **more})


def test_the_answer_is_that_of_the_command_line(shell: Shell, rest: httpx.Client) -> None:
    """Columns, rows, whether there are more, and what is not projected."""
    query = "MATCH (s:Snapshot {run: $run}) RETURN s.step AS step, s.nnz AS connections ORDER BY step"
    answer = ask(rest, query, parameters={"run": "w0"})
    assert answer.status_code == 200
    assert answer.json() == shell.json("cypher", query, "-p", "run=w0")
    assert answer.json()["columns"] == ["step", "connections"]
    assert [row[0] for row in answer.json()["rows"]] == [0, 10, 50]
    assert ask(rest, query, parameters={"run": "w0"}, limit=2).json()["truncated"] is True


def test_nodes_and_odd_values_come_as_json(rest: httpx.Client) -> None:
    """Whatever a query may return."""
    rows = ask(
        rest, "MATCH (r:Run {id: 'w0'}) RETURN r, [1, 'a', null] AS l, 0.0 / 0.0 AS nan, {a: {b: 1}} AS m"
    ).json()
    node, listed, nan, mapping = rows["rows"][0]
    assert (node["labels"], node["id"]) == (["Run"], "w0")
    assert (listed, nan, mapping) == ([1, "a", None], "nan", {"a": {"b": 1}})


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"query": WRITES[0]}, 403, "query-refused"),
        ({"query": "MATCH (r:Run) RETURN r.id AS x, $absent AS y"}, 422, "invalid-query"),
        ({"query": "RETURN 'x"}, 422, "invalid-query"),
        ({"query": "RETURN any(x IN range(1, 9) WHERE any(y IN range(1, 9) WHERE x = y)) AS z"}, 413, "limit"),
        ({"query": RUNAWAYS[1], "timeout_s": 0.5}, 413, "limit"),
        ({"query": "RETURN 1 AS x", "limit": 0}, 422, "invalid-input"),
        ({"query": "RETURN 1 AS x", "timeout_s": 1e9}, 422, "invalid-input"),
        ({"query": ""}, 422, "invalid-input"),
        ({"query": 5}, 422, "invalid-input"),
        ({"quer": "RETURN 1 AS x"}, 422, "invalid-input"),
        ({"query": "RETURN $x AS x", "parameters": {"x": 2**70}}, 422, "invalid-query"),
        ([], 422, "invalid-input"),
    ],
)
def test_what_is_wrong_with_a_query_is_told(rest: httpx.Client, body: Any, status: int, code: str) -> None:
    """Each as a problem with its own code."""
    answer = rest.post("/v1/cypher", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_whoever_goes_away_ends_the_query(rest: httpx.Client) -> None:
    """Both places are free again long before the queries would have ended by themselves."""
    body = json.dumps({"query": RUNAWAYS[1] + " // gone", "timeout_s": 600}).encode()
    head = (
        f"POST /v1/cypher HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    )
    for _ in range(4):
        with socket.create_connection((rest.base_url.host, rest.base_url.port or 80), timeout=60) as connection:
            connection.sendall(head.encode() + b"\r\n\r\n" + body)
    for _ in range(600):
        answer = ask(rest, "RETURN 1 AS x")
        if answer.status_code == 200:
            break
        assert answer.json()["code"] == "busy"
        time.sleep(0.1)
    assert answer.json()["rows"] == [[1]]
