"""Runs and snapshots over REST."""

from __future__ import annotations

import json
import socket
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest

from tests.reference_runs import RUNS, Shell
from tests.wirings import gpt2
from topostrata.ingest.formats import snapshot_file
from topostrata.topology import Topology, Wiring


def test_runs_and_snapshots_are_those_of_the_command_line(shell: Shell, rest: httpx.Client) -> None:
    """Lists and single ones have the same JSON as `ls` and `show`."""
    assert rest.get("/v1/runs").json()["runs"] == shell.json("ls")["runs"]
    assert rest.get("/v1/runs/w0/snapshots").json()["snapshots"] == shell.json("ls", "w0")["snapshots"]
    assert rest.get("/v1/runs/w0").json() == shell.json("show", "w0")["run"]
    assert rest.get("/v1/runs/w0/snapshots/10").json() == shell.json("show", "w0@10")["snapshot"]


def test_lists_come_in_pages(rest: httpx.Client) -> None:
    """`next` leads through all runs, two at a time, each once; so does the Link header."""
    ids: list[str] = []
    url: str | None = "/v1/runs?limit=2"
    while url:
        answer = rest.get(url)
        ids += [run["run"] for run in answer.json()["runs"]]
        url = answer.json()["next"]
        assert answer.links.get("next", {}).get("url") == url
    assert ids == list(RUNS)
    steps = [s["step"] for s in rest.get("/v1/runs/w0/snapshots?limit=1").json()["snapshots"]]
    assert steps == [0]


def test_runs_are_chosen_as_by_the_command_line(shell: Shell, rest: httpx.Client) -> None:
    """The pages of a choice keep it; what bounds nothing is refused."""
    for query, options in (
        ({"step_from": "11", "step_to": "40"}, ("--from", "11", "--to", "40")),
        ({"metric": "accuracy", "at_least": "0.5"}, ("--metric", "accuracy", "--at-least", "0.5")),
        ({"tag": "nobody's"}, ("--tag", "nobody's")),
    ):
        assert rest.get("/v1/runs", params=query).json()["runs"] == shell.json("ls", *options)["runs"]
    first = rest.get("/v1/runs", params={"step_from": 50, "status": "open", "limit": 3}).json()
    ids = [run["run"] for run in (first["runs"] + rest.get(first["next"]).json()["runs"])]
    assert ids == list(RUNS)
    assert rest.get("/v1/runs", params={"step_from": 51}).json()["runs"] == []
    assert rest.get("/v1/runs", params={"at_most": 1}).status_code == 422
    assert rest.get("/v1/runs", params={"status": "lost"}).status_code == 422
    assert "found the one run 'w0'" in shell.fails("ls", "w0", "--status", "open", code=2)


def test_a_snapshot_is_put_once(rest_to_write: httpx.Client, reference_topologies: dict[str, Topology]) -> None:
    """201 for the first, 200 for the same again, 409 for another, with the digest of what was sent."""
    body = BytesIO()
    sent = reference_topologies["e5_s0_w3/epoch_010"]
    snapshot_file.write(body, sent, epoch=10, metrics={"accuracy": 0.5})
    url = "/v1/runs/put-once/snapshots/10"
    first = rest_to_write.put(url, content=body.getvalue())
    assert first.status_code == 201
    assert first.headers["location"] == url
    assert first.json()["digest"] == sent.digest
    assert first.json()["metrics"] == {"accuracy": 0.5}
    again = rest_to_write.put(url, content=body.getvalue())
    assert (again.status_code, again.json()) == (200, first.json())
    other = BytesIO()
    snapshot_file.write(other, reference_topologies["e5_s0_w3/epoch_050"])
    conflict = rest_to_write.put(url, content=other.getvalue())
    assert (conflict.status_code, conflict.json()["code"]) == (409, "conflict")
    earlier = rest_to_write.put("/v1/runs/put-once/snapshots/9", content=other.getvalue())
    assert (earlier.status_code, earlier.json()["code"]) == (409, "step-order")


def test_a_network_beyond_a_chain_is_put_with_metrics_of_its_layers(rest_to_write: httpx.Client) -> None:
    """A body of format 2 is stored and answered with all it says; its run gives the wiring as the text file."""
    topology = gpt2(1).topology(np.random.default_rng(0))
    body = BytesIO()
    snapshot_file.write(body, topology, metrics={"loss": 0.5}, layer_metrics={"wte": {"gradient_norm": 0.25}})
    url = "/v1/runs/attention/snapshots/3"
    first = rest_to_write.put(url, content=body.getvalue())
    assert first.status_code == 201
    assert first.json()["digest"] == topology.digest
    assert first.json()["metrics"] == {"loss": 0.5}
    assert first.json()["layer_metrics"] == {"wte": {"gradient_norm": 0.25}}
    assert rest_to_write.get(url).json() == first.json()
    wiring = rest_to_write.get("/v1/runs/attention/wiring")
    assert wiring.headers["content-type"] == "application/toml"
    assert Wiring.from_toml(wiring.text) == topology.wiring
    tag = {"If-None-Match": wiring.headers["etag"]}
    assert rest_to_write.get("/v1/runs/attention/wiring", headers=tag).status_code == 304
    assert rest_to_write.get("/v1/runs/nobody/wiring").json()["code"] == "not-found"
    other = BytesIO()
    snapshot_file.write(other, topology, layer_metrics={"wte": {"gradient_norm": 0.5}})
    assert rest_to_write.put(url, content=other.getvalue()).json()["code"] == "conflict"


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"\x93NUMPY", b"\x80\x04N."])
def test_a_body_that_is_no_snapshot_is_refused(rest_to_write: httpx.Client, damage: bytes) -> None:
    """Nothing is stored of it, not even the run."""
    answer = rest_to_write.put("/v1/runs/broken/snapshots/0", content=damage)
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid-input"
    assert rest_to_write.get("/v1/runs/broken").status_code == 404


def test_a_small_body_that_unpacks_to_gigabytes_is_refused(rest_to_write: httpx.Client) -> None:
    """By what its members say of themselves, before any of them is unpacked."""
    body = BytesIO()
    layer = {"name": "l0", "source": "a", "target": "b", "taps": 1}
    spaces = [{"name": name, "size": 20_000, "labelled": True} for name in ("a", "b")]
    document = json.dumps({"format": 1, "spaces": spaces, "layers": [layer]})
    indices = np.zeros(60_000_000, dtype=np.int64)
    arrays: dict[str, Any] = {"0.indptr": np.zeros(20_001, dtype=np.int64), "0.indices": indices}
    np.savez_compressed(body, topology=document, **arrays)
    answer = rest_to_write.put("/v1/runs/broken/snapshots/0", content=body.getvalue())
    assert (answer.status_code, answer.json()["code"]) == (413, "limit")


def test_a_body_of_another_kind_is_refused(rest_to_write: httpx.Client) -> None:
    """415 for JSON, with the kinds that are taken."""
    answer = rest_to_write.put("/v1/runs/broken/snapshots/0", json={})
    assert answer.status_code == 415
    assert "application/octet-stream" in answer.json()["detail"]


def test_a_body_that_is_too_large_is_refused_before_it_is_read(rest_to_write: httpx.Client) -> None:
    """413 as soon as the length is declared, although no byte of the body was sent."""
    url = rest_to_write.base_url
    with socket.create_connection((url.host, url.port or 80), timeout=60) as raw:
        raw.sendall(
            b"PUT /v1/runs/broken/snapshots/0 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1099511627776\r\n\r\n"
        )
        assert raw.recv(100).startswith(b"HTTP/1.1 413 ")
