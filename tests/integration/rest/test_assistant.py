"""The tools for assistants, as a client of the Model Context Protocol calls them: `topostrata mcp`, a real process."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import httpx
import mcp
from mcp.client import stdio

from tests.reference_runs import Shell


def test_an_assistant_gets_the_answers_of_rest(shell: Shell, rest: httpx.Client) -> None:
    """Every tool is called: the JSON is that of REST, an error says what to do, and nothing was written."""
    count = {"query": "MATCH ()-[r:DISTANCE|INFERRED_FROM|MATCHES]->() RETURN count(r)"}
    before = rest.post("/v1/cypher", json=count).json()["rows"]
    hello, tools, answers, errors = asyncio.run(conversation(shell))
    assert rest.post("/v1/cypher", json=count).json()["rows"] == before
    assert "z counts deviations" in hello.instructions
    assert {tool.name for tool in tools} == answers.keys()
    for tool in tools:
        assert tool.annotations.read_only_hint
        assert tool.description
    pair = {"a": "w0@50", "b": "w3@50", "alignment": "identity"}
    assert answers["distance"] == rest.get("/v1/distances", params=pair).json()
    assert answers["evolution"] == rest.get("/v1/runs/w0/evolution").json()
    assert answers["survival"] == rest.get("/v1/runs/w0/survival").json()
    assert answers["measures"] == rest.get("/v1/runs/w0/snapshots/50/measures").json()
    assert answers["lineage"] == rest.get("/v1/runs/w2/lineage").json()
    assert answers["related"] == rest.get("/v1/related", params={"a": "w0@0", "b": "w4@0"}).json()
    assert answers["cookbook"]["queries"] == rest.get("/v1/cypher/cookbook").json()
    counts = rest.get("/v1/stats").json()
    assert {**answers["stats"], "disk": None} == {**counts, "disk": None}, "but for the log, which grows"
    assert [run["run"] for run in answers["runs"]["runs"]] == ["w0", "w1", "w2", "w3", "w4"]
    assert [entry["step"] for entry in answers["run"]["snapshots"]] == [0, 10, 50]
    assert answers["run"]["more"] is False
    assert len(answers["distances"]["nnstd"]) == 5
    assert {edge["child"] for edge in answers["infer_lineage"]["edges"]} == {"w1", "w2", "w3", "w4"}
    assert answers["cypher"]["rows"] == [[15]]
    assert answers["metrics"]["metrics"] == rest.get("/v1/runs/w0/metrics").json()["metrics"]
    for error, words in zip(errors, ("'nobody'", "CREATE", "x*@0"), strict=True):
        assert words in error
        assert "expected" in error


CALLS: dict[str, dict[str, Any]] = {
    "runs": {},
    "run": {"run": "w0"},
    "metrics": {"run": "w0"},
    "distance": {"a": "w0@50", "b": "w3@50", "alignment": "identity"},
    "distances": {"refs": ["w*@10"], "alignment": "identity"},
    "evolution": {"run": "w0"},
    "survival": {"run": "w0"},
    "measures": {"ref": "w0@50"},
    "lineage": {"run": "w2"},
    "infer_lineage": {"refs": ["w*@0"]},
    "related": {"a": "w0@0", "b": "w4@0"},
    "cypher": {"query": "MATCH (s:Snapshot) RETURN count(s) AS n"},
    "cookbook": {},
    "stats": {},
}
WRONG: list[tuple[str, dict[str, Any]]] = [
    ("run", {"run": "nobody"}),
    ("cypher", {"query": "CREATE (:Run)"}),
    ("distances", {"refs": ["x*@0"]}),
]


async def conversation(shell: Shell) -> tuple[Any, list[Any], dict[str, Any], list[str]]:
    """What the server says of itself, its tools, what each of them answers, and what errors say."""
    command = ["-m", "topostrata.service.cli.main", "mcp", "--store", str(shell.store)]
    server = mcp.StdioServerParameters(command=sys.executable, args=command, env=dict(os.environ))
    async with (
        stdio.stdio_client(server) as (read, write),
        mcp.ClientSession(read, write) as session,
    ):
        hello = await session.initialize()
        told = await session.list_tools()
        answers = {}
        for name, arguments in CALLS.items():
            result = await session.call_tool(name, arguments)
            assert not result.is_error, (name, result.content)
            answers[name] = result.structured_content
        errors = [await session.call_tool(name, arguments) for name, arguments in WRONG]
    assert all(error.is_error for error in errors)
    return hello, told.tools, answers, [str(error.content[0]) for error in errors]
