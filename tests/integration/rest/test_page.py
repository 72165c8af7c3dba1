"""The page at ``/``: its files, their headers, and the answers made for it."""

from __future__ import annotations

import httpx
import pytest

from topostrata import queries


@pytest.mark.parametrize("path", ["/", "/page/main.js", "/page/vendor/d3.min.js"])
def test_files_of_the_page_come_with_a_strict_policy(rest: httpx.Client, path: str) -> None:
    """No script or style but the package's own, in no frame, and checked anew on every visit."""
    answer = rest.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"].startswith("default-src 'self';")
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-cache"
    assert rest.get(path, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304


@pytest.mark.parametrize("path", ["/page/nothing.js", "/page/..%2f..%2fpyproject.toml", "/page/views/"])
def test_nothing_else_is_served(rest: httpx.Client, path: str) -> None:
    """What is no file of the page is a 404 that is a problem document."""
    answer = rest.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_an_overview_says_how_a_run_stands(rest: httpx.Client) -> None:
    """The last snapshot's connections and density; no course of a metric that was never recorded."""
    overview = rest.get("/v1/runs/w0/overview", params={"metric": "loss"}).json()
    snapshot = rest.get("/v1/runs/w0/snapshots/50").json()
    layers = rest.get("/v1/runs/w0/history").json()["total"]
    assert overview == {
        "run": "w0",
        "step": 50,
        "connections": snapshot["connections"],
        "density": layers["density"][-1],
        "metrics": sorted(snapshot["metrics"]),
        "steps": [],
        "values": [],
    }


def test_an_overview_of_a_run_without_snapshots_is_empty(rest_to_write: httpx.Client) -> None:
    """Nothing is known of it yet, and that is no error."""
    rest_to_write.put("/v1/runs/awaited", json={}).raise_for_status()
    overview = rest_to_write.get("/v1/runs/awaited/overview").json()
    assert overview["step"] is None
    assert overview["values"] == []


def test_the_cookbook_is_that_of_the_command_line(rest: httpx.Client) -> None:
    """Every question is there, with its text and an example."""
    recipes = rest.get("/v1/cypher/cookbook").json()
    assert [f"cookbook/{recipe['name']}" for recipe in recipes] == list(queries.names("cookbook"))
    assert all(recipe["text"] and recipe["title"] for recipe in recipes)
