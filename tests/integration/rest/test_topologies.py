"""Topologies, matrices and queries in the form that a program wants them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pytest

from topostrata.distance.matrix import DistanceMatrix
from topostrata.ingest.formats import snapshot_file
from topostrata.ingest.formats.reading import read_snapshot_bytes
from topostrata.topology import Layer, Mask, Space, Topology

URL = "/v1/runs/w0/snapshots/50/topology"
ARROW = "application/vnd.apache.arrow.stream"


def arrow(answer: httpx.Response) -> pa.Table:
    """The table of an Arrow stream."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == ARROW
    return pa.ipc.open_stream(answer.content).read_all()


@pytest.mark.parametrize(
    "kind", ["application/x-npz", "application/vnd.safetensors", "application/vnd.topostrata.bits"]
)
def test_a_topology_comes_as_the_file_that_put_takes(
    rest: httpx.Client, reference_topologies: dict[str, Topology], kind: str
) -> None:
    """In each container; read again it is what was pushed, and put again, as the kind that it is, it changes nothing."""
    answer = rest.get(URL, headers={"Accept": kind})
    assert answer.headers["content-type"] == kind
    assert read_snapshot_bytes(answer.content).topology.digest == reference_topologies["e5_s0_w0/epoch_050"].digest
    again = rest.put(URL.removesuffix("/topology"), content=answer.content, headers={"Content-Type": kind})
    assert again.status_code == 200, again.text


def test_bits_of_more_bytes_than_a_service_gives_are_refused(rest_to_write: httpx.Client) -> None:
    """Two wide spaces with a single connection: the answer says how many bytes, and what to ask for."""
    wide = Topology((Layer("l", Space("a", 2**16), Space("b", 2**15), Mask(2**16, 2**15, np.array([5]))),))
    stream = io.BytesIO()
    snapshot_file.write(stream, wide)
    url = "/v1/runs/wide/snapshots/0"
    assert rest_to_write.put(url, params={"projection": "none"}, content=stream.getvalue()).status_code == 201
    answer = rest_to_write.get(f"{url}/topology", headers={"Accept": "application/vnd.topostrata.bits"})
    assert answer.status_code == 413
    assert "found 268,435,456" in answer.json()["detail"]
    assert "application/x-npz" in answer.json()["hint"]


def test_connections_are_the_same_in_every_form(rest: httpx.Client, reference_topologies: dict[str, Topology]) -> None:
    """As lists in JSON and as the columns of an Arrow stream, layer by layer."""
    topology = reference_topologies["e5_s0_w0/epoch_050"]
    document = rest.get(URL, headers={"Accept": "application/json"}).json()
    table = arrow(rest.get(URL, headers={"Accept": ARROW}))
    assert table.num_rows == topology.nnz
    assert document["digest"] == topology.digest == table.schema.metadata[b"digest"].decode()
    for layer, listed in zip(topology, document["layers"], strict=True):
        rows = table.filter(pa.compute.equal(table["layer"].cast(pa.utf8()), layer.name))
        for column, numbers in (("source", layer.sources), ("target", layer.targets), ("tap", np.zeros(layer.nnz))):
            assert listed[column] == rows[column].to_pylist() == numbers.astype(int).tolist()


def test_a_topology_is_sent_once(rest: httpx.Client) -> None:
    """Its entity tag is the digest, it may be kept for ever, and each form has a tag of its own."""
    first = rest.get(URL)
    assert first.headers["content-type"] == "application/x-npz"
    assert rest.get("/v1/runs/w0/snapshots/50").json()["digest"] in first.headers["etag"]
    assert "immutable" in first.headers["cache-control"]
    known = {"If-None-Match": first.headers["etag"]}
    assert rest.get(URL, headers=known).status_code == 304
    assert rest.get(URL, headers={**known, "Accept": ARROW}).status_code == 200


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/x-npz"),
        ("application/*", "application/x-npz"),
        (f"text/html, {ARROW};q=0.5, */*;q=0.1", ARROW),
        ("application/json;q=0, application/vnd.safetensors", "application/vnd.safetensors"),
        ("text/html", None),
        ("application/json;q=x", None),
        ("", None),
    ],
)
def test_what_is_accepted_decides(rest: httpx.Client, accept: str, kind: str | None) -> None:
    """The form of the greatest weight; 406 where there is none that is wanted."""
    answer = rest.get(URL, headers={"Accept": accept})
    assert answer.headers["content-type"] == (kind or "application/problem+json")
    assert answer.status_code == (406 if kind is None else 200)


def test_a_matrix_comes_as_numbers(rest: httpx.Client) -> None:
    """As an Arrow stream and as bytes it has the numbers of the JSON."""
    url = "/v1/distances/matrix?refs=w*@last&alignment=identity"
    document = rest.get(url).json()
    table = arrow(rest.get(url, headers={"Accept": ARROW}))
    assert table["ref"].to_pylist() == document["refs"]
    assert [table[ref].to_pylist() for ref in document["refs"]] == document["nnstd"]
    raw = rest.get(url, headers={"Accept": "application/octet-stream"}).content
    assert np.frombuffer(raw, "<f4").reshape(5, 5) == pytest.approx(np.array(document["nnstd"]), abs=1e-7)


def test_a_matrix_comes_as_a_picture_takes_it(rest: httpx.Client) -> None:
    """What JSON says without its distances, then those of the mean or of one layer; a layer that is not there is 404."""
    url = "/v1/distances/matrix?refs=w*@last&alignment=identity"
    document = rest.get(url).json()
    headers = {"Accept": "application/vnd.topostrata.matrix"}
    name = document["layer_names"][1]
    for query, numbers in (
        ("", np.array(document["nnstd"])),
        (f"&layer={name}", np.array(document["layers"])[..., 1]),
    ):
        body = rest.get(url + query, headers=headers).raise_for_status().content
        size = int.from_bytes(body[:4], "little")
        about = json.loads(body[4 : 4 + size])
        assert about == {key: value for key, value in document.items() if key in about}
        assert document.keys() - about.keys() == {"nnstd", "layers", "nearest"}
        assert size % 4 == 0
        assert np.frombuffer(body[4 + size :], "<f4").reshape(5, 5) == pytest.approx(numbers, abs=1e-7)
    missing = rest.get(f"{url}&layer=nowhere", headers=headers)
    assert (missing.status_code, name in missing.json()["detail"]) == (404, True)
    assert rest.get(f"{url}&layer={name}").status_code == 422
    refined = url.replace("identity", "refined")
    count = {"query": "MATCH (b:DistanceBlock {alignment: 'refined'}) RETURN b.guard ORDER BY b.id"}
    before = rest.post("/v1/cypher", json=count).json()["rows"]
    for query, how, status in (("nowhere", headers, 404), (name, {}, 422)):
        assert rest.get(f"{refined}&layer={query}", headers=how).status_code == status
    assert rest.post("/v1/cypher", json=count).json()["rows"] == before, "it was computed first"


def test_a_query_comes_as_columns(rest: httpx.Client) -> None:
    """Typed where a column has values of one kind; as texts of JSON where it has not."""
    query = "UNWIND [1, 2, null] AS a RETURN a, a * 0.5 AS b, 'x' AS c, [a] AS d, a = 1 AS e"
    answer = rest.post("/v1/cypher", json={"query": query}, headers={"Accept": ARROW})
    assert arrow(answer).to_pydict() == {
        "a": [1, 2, None],
        "b": [0.5, 1.0, None],
        "c": ["x"] * 3,
        "d": ["[1]", "[2]", "[null]"],
        "e": [True, False, None],
    }


def test_the_service_says_how_much_it_holds(rest: httpx.Client) -> None:
    """Runs and snapshots, counted."""
    stats = rest.get("/v1/stats").json()
    assert (stats["runs"], stats["snapshots"]) == (5, 15)


def test_a_matrix_comes_as_the_files_of_the_command_line(rest: httpx.Client, tmp_path: Path) -> None:
    """CSV in full precision, and an npz with all that is known."""
    query = {"refs": "w*@50", "alignment": "canonical"}
    document = rest.get("/v1/distances/matrix", params=query).json()
    text = rest.get("/v1/distances/matrix", params=query, headers={"Accept": "text/csv"})
    assert text.headers["content-type"].partition(";")[0] == "text/csv"
    head, *rows = csv.reader(text.text.splitlines())
    assert head == ["", *document["refs"]]
    assert [[float(number) for number in row[1:]] for row in rows] == document["nnstd"]
    packed = rest.get("/v1/distances/matrix", params=query, headers={"Accept": "application/x-npz"})
    (tmp_path / "matrix.npz").write_bytes(packed.content)
    matrix = DistanceMatrix.from_npz(tmp_path / "matrix.npz")
    assert (list(matrix.labels), matrix.nnstd.tolist()) == (document["refs"], document["nnstd"])
    assert matrix.alignment == "canonical"


def test_connections_come_at_once_as_columns(rest: httpx.Client) -> None:
    """As many as all pages of JSON have, in their order."""
    url = "/v1/runs/w0/connections"
    query = {"layer": "l0", "status": "survived", "limit": "1000"}
    pages = [rest.get(url, params=query).json()]
    while pages[-1]["next"]:
        pages.append(rest.get(pages[-1]["next"]).json())
    table = arrow(rest.get(url, params=query, headers={"Accept": ARROW}))
    assert table.to_pylist() == [connection for page in pages for connection in page["connections"]]
    assert len(pages) > 1
    assert rest.get(url, params=query, headers={"Accept": "text/html"}).status_code == 406
