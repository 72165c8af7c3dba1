"""Distances over REST."""

from __future__ import annotations

import asyncio

import httpx

from tests.reference_runs import Shell
from topostrata.archive import open_archive
from topostrata.service.api.app import create_app
from topostrata.service.api.lanes import PLACES, Lane, Lanes, Places


def test_distances_are_those_of_the_command_line(shell: Shell, rest: httpx.Client) -> None:
    """Of a pair and of all pairs, with the nearest of each."""
    pair = {"a": "w0@50", "b": "w1@50", "alignment": "reference"}
    assert rest.get("/v1/distances", params=pair).json() == shell.json(
        "nnstd", "w0@50", "w1@50", "--alignment", "reference"
    )
    matrix = rest.get("/v1/distances/matrix", params={"refs": ["w*@50", "w0@0"], "nearest": 2}).json()
    assert matrix == shell.json("distances", "w*@50", "w0@0", "--nearest", "2")
    assert sorted(matrix["order"]) == sorted(matrix["refs"])
    assert matrix["nearest"][-1][0]["ref"] in matrix["refs"]


def test_what_is_computed_over_rest_is_kept(shell: Shell, rest: httpx.Client) -> None:
    """A distance asked over REST is there for Cypher to walk and for the next who asks, once."""
    # Refined, since the matrices of other tests leave their nearest pairs in the other alignments.
    count = "MATCH (:Snapshot {id: 'w3@10'})-[d:DISTANCE {alignment: 'refined'}]-(:Snapshot {id: 'w1@50'}) "
    count += "RETURN count(d)"
    assert shell.json("cypher", count)["rows"] == [[0]]
    told = rest.get("/v1/distances", params={"a": "w3@10", "b": "w1@50", "alignment": "refined"}).raise_for_status()
    assert shell.json("cypher", count)["rows"] == [[1]]
    refs = {"refs": ["w3@10", "w1@50"], "alignment": "refined"}
    matrix = rest.get("/v1/distances/matrix", params=refs).raise_for_status().json()
    assert matrix["nnstd"][0][1] == told.json()["nnstd"]
    shell.json("nnstd", "w3@10", "w1@50", "--alignment", "refined")
    assert shell.json("cypher", count)["rows"] == [[1]]


def test_a_matrix_has_its_chance_level(shell: Shell, rest: httpx.Client) -> None:
    """Of some of its pairs, each with the level and z that the pair has by itself; the same JSON; said below the table."""
    asked = {"refs": ["w*@50"], "alignment": "identity", "chance": "degrees", "layers": "sparse"}
    matrix = rest.get("/v1/distances/matrix", params=asked).raise_for_status().json()
    words = ("distances", "w*@50", "--alignment", "identity", "--chance", "degrees", "--only", "sparse")
    assert matrix == shell.json(*words)
    chance = matrix["chance"]
    assert (chance["kept"], chance["draws"], chance["of"], len(chance["pairs"])) == ("degrees", 12, 10, 10)
    first = chance["pairs"][0]
    pair = asked | {"a": first["a"], "b": first["b"]}
    alone = rest.get("/v1/distances", params={name: pair[name] for name in pair if name != "refs"}).json()
    assert {name: alone[name] for name in first} == first
    assert chance["low"] <= chance["level"] <= chance["high"]
    shown = shell.run("distances", "w0@0", "w0@50", "--alignment", "identity", "--chance", "density").stdout
    assert "density kept: 1 of 1 pairs" in shown


def test_some_layers_are_asked_as_on_the_command_line(shell: Shell, rest: httpx.Client) -> None:
    """Of a pair and of a matrix: by `--only`, of refs by `--layers` too; what does not count is said."""
    pair = rest.get("/v1/distances", params={"a": "w0@50", "b": "w1@50", "layers": "sparse"}).json()
    assert pair["left_out"] == ["l3"]
    for option in ("--only", "--layers"):
        assert shell.json("nnstd", "w0@50", "w1@50", option, "sparse") == pair
    assert "left out: l3" in shell.run("nnstd", "w0@50", "w1@50", "--only", "l[0-2]").stdout
    matrix = rest.get("/v1/distances/matrix", params={"refs": ["w*@50"], "layers": ["l0", "l1"]}).json()
    assert matrix == shell.json("distances", "w*@50", "--only", "l0,l1")
    assert (matrix["layer_names"], matrix["left_out"]) == (["l0", "l1"], ["l2", "l3"])
    assert rest.get("/v1/distances", params={"a": "w0@50", "b": "w1@50", "layers": "fc"}).status_code == 422


def test_a_stored_distance_waits_for_nobody_who_computes(shell: Shell) -> None:
    """Where no computation finds a place, a distance that is kept is answered all the same; what is to compute is not."""
    with open_archive(str(shell.store)) as archive:
        archive.nnstd("w0@50", "w1@50", alignment="identity")
        app = create_app(archive=archive)
        app.state.archive = archive
        app.state.lanes = Lanes(body_bytes=0, places={**PLACES, Lane.SLOW: Places(1, 0, 1.0)})

        async def ask(**more: str) -> httpx.Response:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                asked = {"a": "w0@50", "b": "w1@50", "alignment": "identity", **more}
                return await client.get("/v1/distances", params=asked)

        assert asyncio.run(ask()).json()["nnstd"] == archive.nnstd("w0@50", "w1@50", alignment="identity").nnstd
        for more in ({"chance": "density"}, {"layers": "sparse"}, {"a": "w0@0", "b": "w4@10", "alignment": "refined"}):
            refused = asyncio.run(ask(**more))
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
        assert asyncio.run(ask(a="nobody")).status_code == 404
