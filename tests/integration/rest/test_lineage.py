"""Lineage over REST."""

from __future__ import annotations

import json
from pathlib import Path

import httpx

from tests.reference_runs import Shell


def test_lineage_is_that_of_the_command_line(shell: Shell, rest: httpx.Client) -> None:
    """Of one run and of all, kinship, inferred ancestry and timelines have the same JSON."""
    assert rest.get("/v1/runs/w2/lineage").json() == shell.json("lineage", "w2")
    assert rest.get("/v1/lineage").json() == shell.json("lineage")
    kinship = rest.get("/v1/lineage/common", params={"a": "w4", "b": "w2"}).json()
    assert kinship == shell.json("lineage", "w4", "--with", "w2")
    inferred = rest.get("/v1/lineage/inferred", params={"refs": "w*@0", "root": "w0"}).json()
    assert inferred == shell.json("lineage", "--infer", "w*@0", "--root", "w0") | {"name": ""}
    assert inferred["units"] == "in-place"
    stated = rest.get("/v1/lineage/inferred", params={"refs": "w*@0", "units": "renamed"}).json()
    assert stated == shell.json("lineage", "--infer", "w*@0", "--units", "renamed") | {"name": ""}
    assert (stated["units_by"], stated["alignment"]) == ("caller", "overlap")
    assert rest.get("/v1/runs/w0/timeline").json() == shell.json("timeline", "w0")
    beside = rest.get("/v1/runs/w0/timeline", params={"chance": "degrees"}).json()
    assert beside == shell.json("timeline", "w0", "--chance", "degrees")
    assert [(point["step"], point["z"] < -50) for point in beside["points"]] == [(10, True), (50, True)]
    assert rest.get("/v1/runs/w0/timeline", params={"chance": "true"}).status_code == 422


def test_relatedness_is_that_of_the_command_line(shell: Shell, rest: httpx.Client) -> None:
    """The same JSON, with the smallest possible p for two networks of a family; a sentence for a reader."""
    query = {"a": "w0@0", "b": "w4@0", "tests": "19", "seed": "3"}
    answer = rest.get("/v1/related", params=query).json()
    assert answer == shell.json("related", "w0@0", "w4@0", "--tests", "19", "--seed", "3")
    assert [layer["p"] for layer in answer["layers"]] == [0.05, 0.05, None]
    assert rest.get("/v1/related", params=query | {"tests": "0"}).status_code == 422
    shown = shell.run("related", "w0@0", "w4@0", "--tests", "99").stdout
    assert "w0@0 and w4@0: related in l1, l2; p = 0.02 of 99 tests a layer, seed 0" in shown
    assert "no p where no exchange changes anything: l3" in shown


def test_lineage_comes_in_the_forms_of_others(shell: Shell, rest: httpx.Client, tmp_path: Path) -> None:
    """Events of OpenLineage, one a line, and PROV-JSON: those that the command line writes; a guess is no event."""
    events, prov = tmp_path / "events.ndjson", tmp_path / "prov.json"
    shell.json("lineage", "w2", "--openlineage", str(events), "--prov", str(prov))
    answer = rest.get("/v1/lineage/openlineage", params={"run": "w2"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.text == events.read_text(encoding="utf-8")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    (start,) = [line for line in lines if line["job"]["name"] == "w1" and line["eventType"] == "START"]
    digest = rest.get("/v1/runs/w0/snapshots/0").json()["digest"]
    assert [(entry["name"], entry["facets"]["version"]["datasetVersion"]) for entry in start["inputs"]] == [
        ("w0@0", digest)
    ]
    assert rest.get("/v1/lineage/prov", params={"run": "w2"}).json() == json.loads(prov.read_text(encoding="utf-8"))
    assert rest.get("/v1/lineage/prov", params={"run": "nobody"}).status_code == 404
    said = shell.fails("lineage", "--infer", "w*@0", "--openlineage", str(events), code=2)
    assert "no mark for a guess" in said
