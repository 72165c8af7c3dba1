"""Which neuron is which, over REST and on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import numpy as np

from tests.reference_runs import Shell


def test_a_match_is_that_of_the_command_line(shell: Shell, rest: httpx.Client) -> None:
    """Of all spaces or of one; a space that is none is named."""
    params = {"a": "w0@50", "b": "w4@50"}
    match = rest.get("/v1/match", params=params).raise_for_status().json()
    assert match == shell.json("match", "w0@50", "w4@50")
    assert [(space["name"], space["told"], space["level"]) for space in match["spaces"]] == [
        (f"hidden{k}", True, 2) for k in (1, 2, 3)
    ]
    assert match["established"] == sum(sum(space["established"]) for space in match["spaces"]) > 2000
    (alone,) = rest.get("/v1/match", params=params | {"space": "hidden2"}).json()["spaces"]
    assert alone == match["spaces"][1]
    assert rest.get("/v1/match", params=params | {"space": "hidden9"}).status_code == 404


def test_a_network_in_the_order_of_another_is_pushed_and_compared_by_index(shell: Shell, tmp_path: Path) -> None:
    """What `align` writes, `push` reads; its distance by index is the alignment's, and so is that of the match's file."""
    told = shell.json("align", "w4@50", "--to", "w0@50", "--out", str(tmp_path / "w4.npz"))
    distance = shell.json("nnstd", "w0@50", "w4@50")["nnstd"]
    assert told["nnstd"] == distance
    assert shell.json("push", str(tmp_path / "w4.npz"), "--run", "aligned")["added"] == [0]
    assert shell.json("nnstd", "w0@50", "aligned", "--alignment", "identity")["nnstd"] == distance
    spaces = shell.json("match", "w0@50", "w4@50")["spaces"]
    partners = {space["name"]: space["partner"] for space in spaces}
    (tmp_path / "found.json").write_text(json.dumps(partners), encoding="utf-8")
    first, second, third = (np.array(partners[f"hidden{k}"]) for k in (1, 2, 3))
    np.savez(tmp_path / "found.npz", hidden1=first, hidden2=second, hidden3=third)
    for name in ("found.json", "found.npz"):
        answer = shell.json("nnstd", "w0@50", "w4@50", "--alignment-file", str(tmp_path / name))
        assert (answer["alignment"], answer["nnstd"]) == ("given", distance)
    said = shell.fails(
        "match", "w0@50", "w4@50", "--alignment-file", str(tmp_path / "found.npz"), "--alignment", "refined", code=2
    )
    assert "found both" in said
    said = shell.fails("nnstd", "w4@50", "w0@50", "--alignment-file", str(tmp_path / "nowhere.npz"))
    assert "expected a file that can be read" in said
    assert shell.run("purge", "aligned", "--yes").returncode == 0  # the archive is shared


def test_a_table_says_what_is_known(shell: Shell, tmp_path: Path) -> None:
    """For each space how many units are established; the units of one; all of them as CSV; kept on request."""
    ran = shell.run(
        "match", "w0@50", "w4@50", "--space", "hidden3", "--limit", "5", "--csv", str(tmp_path / "m.csv"), "--keep"
    )
    assert ran.returncode == 0, ran.stderr
    assert "2,146 of 2,352 units are established" in ran.stdout
    assert ran.stdout.count("established") + ran.stdout.count("unknown") >= 5
    assert len((tmp_path / "m.csv").read_text(encoding="utf-8").splitlines()) == 2353
    count = "MATCH (:Neuron {run: 'w0', space: 'hidden1'})-[m:MATCHES]->(:Neuron {run: 'w4'}) RETURN count(m)"
    assert shell.json("cypher", count)["rows"] == [[776]]
    said = shell.fails("match", "w0@50", "./nowhere.npz", "--keep")
    assert "nowhere.npz" in said
    assert "NotFoundError" not in shell.fails("match", "w0@50", "w4@50", "--space", "hidden9")


def test_edits_are_those_of_the_command_line(shell: Shell, rest: httpx.Client, tmp_path: Path) -> None:
    """Counts by layer, a unit's inputs, a layer's edits up to a limit; their sum is the distance; a picture."""
    params = {"a": "w0@50", "b": "w4@50", "unit": "hidden1:3", "layer": "l2", "limit": "4"}
    edits = rest.get("/v1/edits", params=params).raise_for_status().json()
    options = ("--unit", "hidden1:3", "--layer", "l2", "--limit", "4")
    assert edits == shell.json("edits", "w0@50", "w4@50", *options)
    assert edits["nnstd"] == shell.json("nnstd", "w0@50", "w4@50")["nnstd"]
    assert edits["total"] == sum(layer["deleted"] + layer["inserted"] for layer in edits["layers"])
    assert [edit["edit"] for edit in edits["listed"]] == ["delete"] * 4
    assert {entry["layer"] for entry in edits["unit"]["delete"]} == {"l0"}
    assert rest.get("/v1/edits", params=params | {"unit": "hidden1"}).status_code == 422
    assert rest.get("/v1/edits", params=params | {"layer": "l9"}).status_code == 404
    picture, table = tmp_path / "edits.png", tmp_path / "edits.csv"
    ran = shell.run("edits", "w0@50", "w4@50", "--picture", str(picture), "--csv", str(table), *options)
    assert ran.returncode == 0, ran.stderr
    assert f"{edits['total']:,} edits" in ran.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert len(table.read_text(encoding="utf-8").splitlines()) == edits["total"] + 1
    assert "such as hidden1:3" in shell.fails("edits", "w0@50", "w4@50", "--unit", "hidden1")
