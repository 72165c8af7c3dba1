"""The main job, end to end, as its first user does it: real topologies in, answers out on the command line and over REST."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from topostrata.ingest.formats import snapshot_file
from topostrata.store.embedded import stop
from topostrata.topology import Topology

RUNS = ("w0", "w1", "w2", "w3", "w4")
STEPS = (0, 10, 50)


class Shell:
    """`topostrata` as a command, on one archive."""

    def __init__(self, store: Path) -> None:
        self.store = store

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "topostrata.service.cli.main", *arguments, "--store", str(self.store)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)

    def json(self, *arguments: str) -> Any:
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def fails(self, *arguments: str, code: int = 1) -> str:
        done = self.run(*arguments)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        return done.stderr


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory, reference_directory: Path) -> Iterator[Shell]:
    """An archive with the five reference runs, pushed as the README says, each descended from the one before."""
    made = Shell(tmp_path_factory.mktemp("main-job") / "archive")
    for k, run in enumerate(RUNS):
        descent = ["--parent", f"w{k - 1}@first", "--how", "perturbation"] if k else []
        pushed = made.json("push", str(reference_directory / f"e5_s0_{run}"), "--run", run, "--tag", "set", *descent)
        assert pushed["run"] == run
        assert pushed["added"] == list(STEPS)
        assert pushed["unchanged"] == []
        assert 50_000 < pushed["connections"] < 60_000
    yield made
    stop(made.store, force=True)


@contextmanager
def served(store: Path) -> Iterator[httpx.Client]:
    """A client of `topostrata serve` on an archive."""
    command = [sys.executable, "-m", "topostrata.service.cli.main", "serve", "--port", "0", "--store", str(store)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        said = server.stderr.readline()
        assert said.startswith("serving http://127.0.0.1:"), said
        try:
            with httpx.Client(base_url=said.split()[1].removesuffix("/v1/runs"), timeout=60) as client:
                yield client
        finally:
            server.terminate()
            server.wait(30)


@pytest.fixture(scope="module")
def rest(shell: Shell) -> Iterator[httpx.Client]:
    """REST on the archive of the shell; its tests only read."""
    with served(shell.store) as client:
        yield client


@pytest.fixture(scope="module")
def rest_to_write(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """REST on an archive of its own, for tests that write."""
    store = tmp_path_factory.mktemp("rest") / "archive"
    with served(store) as client:
        yield client
    stop(store, force=True)


def names(expected: dict[str, NDArray[Any]]) -> list[str]:
    """The names of expected.npz as our refs: e5_s0_w0/epoch_010 is w0@10."""
    return [f"{str(n).split('/')[0][-2:]}@{int(str(n)[-3:])}" for n in expected["names"]]


def test_pushing_again_adds_nothing(shell: Shell, reference_directory: Path) -> None:
    """The same directory again is a no-op, and says so."""
    again = shell.json("push", str(reference_directory / "e5_s0_w0"), "--run", "w0")
    assert again == {"run": "w0", "added": [], "unchanged": list(STEPS), "connections": 0}
    assert "nothing new" in shell.run("push", str(reference_directory / "e5_s0_w0"), "--run", "w0").stdout


def test_another_network_under_the_same_name_is_a_conflict(shell: Shell, reference_directory: Path) -> None:
    """What was recorded is never replaced."""
    before = shell.json("show", "w0@0")
    said = shell.fails("push", str(reference_directory / "e5_s0_w1"), "--run", "w0")
    assert "w0@0: expected the topology it was recorded with" in said
    assert "nothing was written" in said
    assert shell.json("show", "w0@0") == before


def test_a_step_before_the_last_is_refused_with_the_hint_to_fork(shell: Shell, reference_directory: Path) -> None:
    """To go back in time is to fork."""
    said = shell.fails("push", str(reference_directory / "e5_s0_w0/epoch_010"), "--run", "w0", "--step", "20")
    assert "w0@20: expected a step after the last one, 50" in said
    assert "--how fork" in said


def test_ls_and_show_say_what_was_pushed(shell: Shell) -> None:
    """Runs with their parents and tags, snapshots with their metric, layers with their connections."""
    runs = {run["run"]: run for run in shell.json("ls")["runs"]}
    assert sorted(runs) == list(RUNS)
    assert runs["w1"]["parents"] == [{"parent": "w0", "step": 0, "how": "perturbation"}]
    assert runs["w0"]["tags"] == ["set"]
    snapshots = shell.json("ls", "w0")["snapshots"]
    assert [one["step"] for one in snapshots] == list(STEPS)
    assert snapshots[0]["metrics"] == {"accuracy": pytest.approx(0.0983, abs=1e-4)}
    layers = shell.json("show", "w0@50")["layers"]
    assert [(y["name"], y["n_source"], y["n_target"]) for y in layers] == [
        ("l0", 784, 784),
        ("l1", 784, 784),
        ("l2", 784, 784),
        ("l3", 784, 10),
    ]
    assert layers[3]["connections"] == 7840
    assert sum(y["connections"] for y in layers) == snapshots[-1]["connections"]


def test_reference_distances_are_the_published_ones(shell: Shell, expected: dict[str, NDArray[Any]]) -> None:
    """All 225 ordered pairs equal an independent computation to 1e-9, layer by layer."""
    refs = names(expected)
    found = shell.json("distances", *refs, "--alignment", "reference")
    assert found["refs"] == refs
    layers = np.array(found["layers"])
    np.testing.assert_allclose(layers, expected["greedy_scipy_ties"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(layers[:, :, 0], expected["layer0"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(np.array(found["nnstd"]), layers.mean(axis=2), rtol=0, atol=1e-12)


def test_nnstd_of_refs_and_of_files_agree(
    shell: Shell, expected: dict[str, NDArray[Any]], reference_directory: Path
) -> None:
    """A pair asked by ref, by directory of epochs, and by epoch directory has one distance."""
    i, j = names(expected).index("w0@50"), names(expected).index("w1@50")
    folders = [str(reference_directory / f"e5_s0_{run}") for run in ("w0", "w1")]
    for a, b in (("w0@50", "w1@50"), ("w0", "w1@last"), (f"{folders[0]}@50", f"{folders[1]}/epoch_050")):
        found = shell.json("nnstd", a, b, "--alignment", "reference")
        distances = [layer["distance"] for layer in found["layers"]]
        np.testing.assert_allclose(distances, expected["greedy_scipy_ties"][i, j], rtol=0, atol=1e-9)
        assert found["nnstd"] == pytest.approx(np.mean(distances), abs=1e-12)
        assert [layer["width"] for layer in found["layers"]] == [784, 784, 784, 10]
    assert (found["a"], found["b"]) == (a, b)


def test_survival_is_the_published_one(shell: Shell) -> None:
    """Links of epoch 0 still alive in w0: 74.5/75.7/71.7 % at epoch 10, 65.2/70.7/67.6 % at epoch 50."""
    for step, published in ((10, (74.5, 75.7, 71.7)), (50, (65.2, 70.7, 67.6))):
        layers = shell.json("evolution", "w0", "--from", "0", "--to", str(step))["layers"]
        alive = [100 * (y["survived"] + y["regrown"]) / y["alive_from"] for y in layers[:3]]
        np.testing.assert_allclose(alive, published, rtol=0, atol=0.05)
        for y in layers:
            assert y["survived"] + y["regrown"] + y["died"] == y["alive_from"]
            assert y["survived"] + y["regrown"] + y["born"] == y["alive_to"]


def test_unit_distance_of_evolution_is_the_identity_distance(shell: Shell) -> None:
    """Evolution and NNSTD without matching are one measure."""
    evolution = shell.json("evolution", "w0", "--from", "0", "--to", "50")["layers"]
    distance = shell.json("nnstd", "w0@0", "w0@50", "--alignment", "identity")["layers"]
    for ours, other in zip(evolution, distance, strict=True):
        assert ours["unit_distance"] == pytest.approx(other["distance"], abs=1e-12)


def test_lineage_is_the_chain_that_was_declared(shell: Shell) -> None:
    """Each network descends from the one before, by a perturbation at step 0."""
    found = shell.json("lineage", "w2")
    assert found["nodes"] == list(RUNS)
    assert found["edges"] == [
        {"parent": f"w{k}", "step": 0, "child": f"w{k + 1}", "how": "perturbation"} for k in range(4)
    ]
    assert "perturbation of w1@0" in shell.run("lineage").stdout


@pytest.mark.parametrize("step", STEPS)
def test_the_chain_is_inferred_from_the_wirings_alone(shell: Shell, step: int) -> None:
    """All four true edges are found at steps 0, 10 and 50, each well supported."""
    found = shell.json("lineage", "--infer", f"w*@{step}", "--root", "w0")
    assert found["root"] == "w0"
    assert [(edge["parent"], edge["child"]) for edge in found["edges"]] == [(f"w{k}", f"w{k + 1}") for k in range(4)]
    for edge in found["edges"]:
        assert 0 < edge["margin"] < edge["distance"] < 1
        assert edge["support"] > 0.9


def test_canonical_distances_are_the_expected_ones(shell: Shell, expected: dict[str, NDArray[Any]]) -> None:
    """The default alignment, all 225 pairs, layer by layer; the refined one is never larger."""
    refs = names(expected)
    found = shell.json("distances", *refs)
    assert found["alignment"] == "canonical"
    np.testing.assert_allclose(np.array(found["layers"]), expected["canonical"], rtol=0, atol=1e-12)
    some = refs[:5]
    refined = np.array(shell.json("distances", *some, "--alignment", "refined")["nnstd"])
    identity = np.array(shell.json("distances", *some, "--alignment", "identity")["nnstd"])
    assert (refined <= np.minimum(np.array(found["nnstd"])[:5, :5], identity)).all()


def test_runs_are_followed_over_time(shell: Shell) -> None:
    """History, survival, structure, connections and timelines agree with what `evolution` counts."""
    layer = shell.json("evolution", "w0")["layers"][0]
    history = shell.json("history", "w0")
    assert history["refs"] == ["w0@0", "w0@10", "w0@50"]
    assert history["layers"][0]["alive"][0] == layer["alive_from"]
    curve = shell.json("survival", "w0")["layers"][0]
    assert (curve["survived"][0], curve["survived"][-1]) == (layer["alive_from"], layer["survived"])
    lost = shell.json("connections", "w0", "--layer", "l0", "--status", "died", "--limit", "5")
    assert lost["count"] == layer["died"]
    assert len(lost["connections"]) == 5
    structure = shell.json("structure", "w0@0")
    assert structure["layers"][0]["connections"] == layer["alive_from"]
    assert len(structure["spaces"][1]["fan_in"]["dead"]) == layer["dead_from"]
    line = shell.json("timeline", "w0", "w1", "--alignment", "identity")
    assert [point["step"] for point in line["points"]] == list(STEPS)
    assert line["closest"]["step"] == 0
    assert line["course"] == "diverging"


def test_a_cycle_in_the_descent_is_refused(shell: Shell, reference_directory: Path) -> None:
    """w0 cannot descend from its own great-grandchild."""
    said = shell.fails("push", str(reference_directory / "e5_s0_w0"), "--run", "w0", "--parent", "w3")
    assert "cannot descend from w3@50" in said


def test_cypher_lists_the_outputs_of_a_neuron_at_a_step(
    shell: Shell, reference_topologies: dict[str, Topology]
) -> None:
    """The connections in the graph are those of the mask."""
    mask = reference_topologies["e5_s0_w0/epoch_010"].layers[0].mask
    source = int(np.argmax(mask.fan_out))
    query = (
        "MATCH (:Neuron {id: $id})-[c:CONNECTS]->(n) "
        "WHERE c.born_step <= 10 AND (c.died_step IS NULL OR c.died_step > 10) RETURN n.index"
    )
    found = shell.json("cypher", query, "-p", f"id=w0/input/{source}")
    assert sorted(row[0] for row in found["rows"]) == sorted(mask.targets[mask.sources == source].tolist())
    assert found["truncated"] is False
    assert found["behind"] == []


def test_cypher_of_users_cannot_write(shell: Shell) -> None:
    """A writing query is refused, and nothing of it stays."""
    before = shell.json("doctor")
    assert "read" in shell.fails("cypher", "CREATE (n:Run {id: 'x'}) RETURN n")
    shell.fails("cypher", "MATCH (n:Neuron) DETACH DELETE n")
    assert shell.json("ls")["runs"][0]["run"] == "w0"
    assert [c["found"] for c in shell.json("doctor")["checks"]] == [c["found"] for c in before["checks"]]


def test_verify_and_doctor_find_nothing_wrong(shell: Shell) -> None:
    """Digests, order, projection and descent of the five runs add up."""
    assert shell.json("verify") == {"runs": 5, "violations": []}
    assert shell.json("doctor")["ok"] is True


def test_errors_say_what_was_expected_and_misuse_exits_with_2(shell: Shell) -> None:
    """A ref that is wrong, a run that is not there, a wrong option, a setting nobody knows."""
    assert "expected run, run@STEP" in shell.fails("nnstd", "w0@x", "w1", "--alignment", "identity", code=2)
    assert "it holds 5 runs: w0, w1" in shell.fails("show", "w9")
    assert "from step 0 to 50" in shell.fails("show", "w0@7")
    assert "expected at least one snapshot" in shell.fails("distances", "x*@last", code=2)
    shell.fails("nnstd", "w0", "w1", "--alignment", "none", code=2)
    failed = shell.run("show", "w9", "--json")
    assert failed.stdout == ""
    assert json.loads(failed.stderr)["error"]["code"] == "not-found"


def test_a_refused_push_leaves_nothing_behind(shell: Shell, reference_directory: Path) -> None:
    """Neither an empty run nor a tag: layers that are not there, another network under the name."""
    source = str(reference_directory / "e5_s0_w1")
    said = shell.fails("push", source, "--run", "never", "--tag", "x", "--project", "nosuch")
    assert "expected one of the layers l0, l1, l2, l3" in said
    shell.fails("show", "never")
    shell.fails("push", source, "--run", "w0", "--tag", "oops")
    assert shell.json("show", "w0")["run"]["tags"] == ["set"]


def test_odd_values_in_cypher_stay_json(shell: Shell) -> None:
    """What JSON has no word for comes as text; what cannot be sent is an error."""
    assert shell.json("cypher", "RETURN $x AS x", "-p", "x=NaN")["rows"] == [["nan"]]
    assert "nan" in shell.run("cypher", "RETURN $x AS x", "-p", "x=NaN").stdout
    assert "cannot be sent" in shell.fails("cypher", "RETURN $x AS x", "-p", "x=99999999999999999999999")
    assert "expected limit and timeout above 0" in shell.fails("cypher", "RETURN 1", "--timeout", "inf")


def test_options_that_would_be_ignored_are_refused(shell: Shell) -> None:
    """A lag with another run, a root without --infer, refs among paths."""
    assert "a lag or another run" in shell.fails("timeline", "w0", "w1", "--lag", "1")
    shell.fails("lineage", "--root", "w0", code=2)
    shell.fails("distances", "w0@50", "./w1@50", code=2)


def test_kinship_is_the_nearest_common_ancestor(shell: Shell) -> None:
    """And the ways from there; a depth cuts and says how many it cut."""
    assert shell.json("lineage", "w4", "--with", "w2") == {
        "a": "w4",
        "b": "w2",
        "ancestors": ["w2"],
        "to_a": ["w2", "w3", "w4"],
        "to_b": ["w2"],
    }
    near = shell.json("lineage", "w2", "--depth", "1")
    assert near["nodes"] == ["w1", "w2", "w3"]
    assert near["cut"] == 2


def test_an_archive_that_is_not_there_is_not_made_by_a_question(tmp_path: Path) -> None:
    """Only writing verbs make an archive."""
    said = Shell(tmp_path / "none").fails("ls")
    assert "expected an archive, found none" in said
    assert not (tmp_path / "none").exists()


def test_distances_are_drawn_and_written(shell: Shell, tmp_path: Path) -> None:
    """A PNG and a CSV whose numbers read back to the last bit."""
    png, csv = tmp_path / "map.png", tmp_path / "map.csv"
    found = shell.json("distances", "w*@last", "--alignment", "identity", "--png", str(png), "--csv", str(csv))
    assert png.read_bytes().startswith(b"\x89PNG")
    lines = [line.split(",") for line in csv.read_text().splitlines()]
    assert lines[0][1:] == found["refs"]
    assert [[float(x) for x in line[1:]] for line in lines[1:]] == found["nnstd"]
    said = shell.fails("distances", "w*@last", "--csv", str(tmp_path / "no" / "such" / "map.csv"))
    assert "expected a file in a directory that is there" in said


def test_rest_gives_the_same_values_as_the_command_line(shell: Shell, rest: httpx.Client) -> None:
    """One contract, one set of functions, two faces."""
    pair = {"a": "w0@50", "b": "w1@50", "alignment": "reference"}
    assert rest.get("/v1/distances", params=pair).json() == shell.json(
        "nnstd", "w0@50", "w1@50", "--alignment", "reference"
    )
    assert rest.get("/v1/runs/w0/evolution", params={"from": 0, "to": 50}).json() == shell.json(
        "evolution", "w0", "--from", "0", "--to", "50"
    )
    matrix = rest.get("/v1/distances/matrix", params={"refs": ["w*@50", "w0@0"], "nearest": 2}).json()
    assert matrix == shell.json("distances", "w*@50", "w0@0", "--nearest", "2")
    assert sorted(matrix["order"]) == sorted(matrix["refs"])
    assert matrix["nearest"][-1][0]["ref"] in matrix["refs"]
    assert rest.get("/v1/runs/w2/lineage").json() == shell.json("lineage", "w2")
    assert rest.get("/v1/lineage").json() == shell.json("lineage")
    for noun in ("history", "survival", "timeline"):
        assert rest.get(f"/v1/runs/w0/{noun}").json() == shell.json(noun, "w0")
    assert rest.get("/v1/runs/w0/snapshots/10/structure").json() == shell.json("structure", "w0@10")
    inferred = rest.get("/v1/lineage/inferred", params={"refs": "w*@0", "root": "w0"}).json()
    assert inferred["edges"] == shell.json("lineage", "--infer", "w*@0", "--root", "w0")["edges"]
    asked: dict[str, str | int] = {"layer": "l1", "status": "born", "limit": 3}
    page = rest.get("/v1/runs/w0/connections", params=asked).json()
    more = rest.get(page["next"]).json()
    listed = shell.json("connections", "w0", "--layer", "l1", "--status", "born", "--limit", "6")
    assert page["connections"] + more["connections"] == listed["connections"]
    assert rest.get("/v1/runs").json()["runs"] == shell.json("ls")["runs"]
    assert rest.get("/v1/runs/w0/snapshots").json()["snapshots"] == shell.json("ls", "w0")["snapshots"]
    assert rest.get("/v1/runs/w0").json() == shell.json("show", "w0")["run"]
    assert rest.get("/v1/runs/w0/snapshots/10").json() == shell.json("show", "w0@10")["snapshot"]


def test_lists_come_in_pages(rest: httpx.Client) -> None:
    """`next` leads through all runs, two at a time, each once; so does the Link header."""
    found: list[str] = []
    url: str | None = "/v1/runs?limit=2"
    while url:
        answer = rest.get(url)
        found += [run["run"] for run in answer.json()["runs"]]
        url = answer.json()["next"]
        assert answer.links.get("next", {}).get("url") == url
    assert found == list(RUNS)
    steps = [s["step"] for s in rest.get("/v1/runs/w0/snapshots?limit=1").json()["snapshots"]]
    assert steps == [0]


def test_head_is_get_without_the_body(rest: httpx.Client) -> None:
    """The same headers, no body."""
    head, get = rest.head("/v1/runs/w0"), rest.get("/v1/runs/w0")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == get.headers["etag"]
    assert head.headers["content-length"] == str(len(get.content))


def test_a_question_changes_nothing(shell: Shell, rest: httpx.Client) -> None:
    """A distance asked over REST leaves no relationship behind; one asked in the shell does, for Cypher to walk."""
    # Refined, since the matrices of other tests leave their nearest pairs in the other alignments.
    count = "MATCH (:Snapshot {id: 'w3@10'})-[d:DISTANCE {alignment: 'refined'}]-(:Snapshot {id: 'w1@50'}) "
    count += "RETURN count(d)"
    rest.get("/v1/distances", params={"a": "w3@10", "b": "w1@50", "alignment": "refined"}).raise_for_status()
    refs = {"refs": ["w3@10", "w1@50"], "alignment": "refined"}
    assert rest.get("/v1/distances/matrix", params=refs).raise_for_status().json()["nearest"] is None
    assert shell.json("cypher", count)["rows"] == [[0]]
    shell.json("nnstd", "w3@10", "w1@50", "--alignment", "refined")
    assert shell.json("cypher", count)["rows"] == [[1]]


def test_what_has_not_changed_is_not_sent_again(rest: httpx.Client) -> None:
    """A known entity tag gets 304 and no body."""
    first = rest.get("/v1/runs/w0/evolution")
    again = rest.get("/v1/runs/w0/evolution", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert rest.get("/v1/runs/w0/evolution", headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/runs/nobody", 404, "not-found"),
        ("/v1/runs/w0/snapshots/7", 404, "not-found"),
        ("/v1/nowhere", 404, "not-found"),
        ("/v1/runs?limit=0", 422, "invalid-input"),
        ("/v1/runs?limit=100000", 422, "invalid-input"),
        ("/v1/runs?cursor=%ff", 422, "invalid-input"),
        ("/v1/runs/w0/snapshots?cursor=eA", 422, "invalid-input"),
        ("/v1/distances?a=w0", 422, "invalid-input"),
        ("/v1/distances?a=w0&b=w1&alignment=none", 422, "invalid-input"),
        ("/v1/runs/w0/connections?layer=l9&status=born", 404, "not-found"),
        ("/v1/lineage/inferred?refs=w0", 422, "invalid-input"),
        ("/v1/distances/matrix", 422, "invalid-input"),
        ("/v1/distances/matrix?refs=x*@last", 422, "invalid-ref"),
        ("/v1/distances/matrix?refs=w0&nearest=0", 422, "invalid-input"),
        ("/v1/distances?a=w0@x&b=w1&alignment=identity", 422, "invalid-ref"),
        ("/v1/runs/w0/evolution?from=50&to=0", 422, "invalid-input"),
    ],
)
def test_errors_are_problem_documents(rest: httpx.Client, path: str, status: int, code: str) -> None:
    """Each error has its status, our stable code and a sentence, and nothing of the server's insides."""
    answer = rest.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == code
    assert answer.json()["status"] == status
    assert answer.json()["detail"]
    assert "Error" not in answer.text
    assert "/site-packages" not in answer.text


def test_a_method_that_is_not_there_is_a_problem_too(rest: httpx.Client) -> None:
    """405 with the methods that are."""
    answer = rest.delete("/v1/runs")
    assert answer.status_code == 405
    assert answer.json()["code"] == "method-not-allowed"
    assert "GET" in answer.headers["allow"]


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


def test_only_names_of_this_machine_are_answered(rest: httpx.Client) -> None:
    """A page elsewhere that points its own name at this server gets nothing (DNS rebinding)."""
    answer = rest.get("/v1/runs", headers={"Host": "elsewhere.example"})
    assert (answer.status_code, answer.json()["code"]) == (400, "unknown-host")
    assert rest.get("/v1/runs", headers={"Host": "localhost:1"}).status_code == 200
    assert rest.get("/v1/runs", headers={"Host": "[::1]:8321"}).status_code == 200


def test_health_and_readiness(rest: httpx.Client) -> None:
    """`/healthz` depends on nothing, `/readyz` says each part."""
    assert rest.get("/healthz").json() == {"status": "ok"}
    assert rest.get("/readyz").json() == {"status": "ok", "archive": "ok"}


def test_serving_beyond_loopback_is_refused(shell: Shell) -> None:
    """Without tokens the API is for this machine alone."""
    assert "expected a loopback address" in shell.fails("serve", "--host", "0.0.0.0", code=2)
