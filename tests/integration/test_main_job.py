"""The main job, end to end, as its first user does it: real topologies in, answers out on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.reference_runs import RUNS, STEPS, Shell, push_reference_runs
from topostrata.store.embedded import stop
from topostrata.topology import Topology


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory, reference_directory: Path) -> Iterator[Shell]:
    """The command line on an archive with the five reference runs."""
    store = tmp_path_factory.mktemp("main-job") / "archive"
    yield push_reference_runs(store, reference_directory)
    stop(store, force=True)


def names(expected: dict[str, NDArray[Any]]) -> list[str]:
    """The names of expected.npz as our refs: e5_s0_w0/epoch_010 is w0@10."""
    return [f"{str(n).split('/')[0][-2:]}@{int(str(n)[-3:])}" for n in expected["names"]]


def test_pushing_again_adds_nothing(shell: Shell, reference_directory: Path) -> None:
    """The same directory again is a no-op, and says so; how it was read is said too."""
    again = shell.json("push", str(reference_directory / "e5_s0_w0"), "--run", "w0")
    reading = again.pop("read")
    assert again == {"run": "w0", "added": [], "unchanged": list(STEPS), "connections": 0}
    assert [(layer["n_source"], layer["n_target"]) for layer in reading["layers"]] == [(784, 784)] * 3 + [(784, 10)]
    assert "the last row of each matrix is a bias and left out" in reading["evidence"]
    assert "nothing new" in shell.run("push", str(reference_directory / "e5_s0_w0"), "--run", "w0").stdout


def test_another_network_under_the_same_name_is_a_conflict(shell: Shell, reference_directory: Path) -> None:
    """What was recorded is never replaced."""
    before = shell.json("show", "w0@0")
    error = shell.fails("push", str(reference_directory / "e5_s0_w1"), "--run", "w0")
    assert "w0@0: expected the topology it was recorded with" in error
    assert "nothing was written" in error
    assert shell.json("show", "w0@0") == before


def test_a_step_before_the_last_is_refused_with_the_hint_to_fork(shell: Shell, reference_directory: Path) -> None:
    """To go back in time is to fork."""
    error = shell.fails("push", str(reference_directory / "e5_s0_w0/epoch_010"), "--run", "w0", "--step", "20")
    assert "w0@20: expected a step after the last one, 50" in error
    assert "--how fork" in error


def test_ls_and_show_say_what_was_pushed(shell: Shell) -> None:
    """Runs with their parents and tags, snapshots with their metric, layers with their connections."""
    runs = {run["run"]: run for run in shell.json("ls")["runs"]}
    assert sorted(runs) == list(RUNS)
    assert runs["w1"]["parents"] == [{"parent": "w0", "step": 0, "how": "perturbation"}]
    assert runs["w0"]["tags"] == ["set"]
    snapshots = shell.json("ls", "w0")["snapshots"]
    assert [snapshot["step"] for snapshot in snapshots] == list(STEPS)
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
    matrix = shell.json("distances", *refs, "--alignment", "reference")
    assert matrix["refs"] == refs
    layers = np.array(matrix["layers"])
    np.testing.assert_allclose(layers, expected["greedy_scipy_ties"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(layers[:, :, 0], expected["layer0"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(np.array(matrix["nnstd"]), layers.mean(axis=2), rtol=0, atol=1e-12)


def test_nnstd_of_refs_and_of_files_agree(
    shell: Shell, expected: dict[str, NDArray[Any]], reference_directory: Path
) -> None:
    """A pair asked by ref, by directory of epochs, and by epoch directory has one distance."""
    i, j = names(expected).index("w0@50"), names(expected).index("w1@50")
    folders = [str(reference_directory / f"e5_s0_{run}") for run in ("w0", "w1")]
    for a, b in (("w0@50", "w1@50"), ("w0", "w1@last"), (f"{folders[0]}@50", f"{folders[1]}/epoch_050")):
        answer = shell.json("nnstd", a, b, "--alignment", "reference")
        distances = [layer["distance"] for layer in answer["layers"]]
        np.testing.assert_allclose(distances, expected["greedy_scipy_ties"][i, j], rtol=0, atol=1e-9)
        assert answer["nnstd"] == pytest.approx(np.mean(distances), abs=1e-12)
        assert [layer["width"] for layer in answer["layers"]] == [784, 784, 784, 10]
    assert (answer["a"], answer["b"]) == (a, b)


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
    lineage = shell.json("lineage", "w2")
    assert lineage["nodes"] == list(RUNS)
    assert lineage["edges"] == [
        {"parent": f"w{k}", "step": 0, "child": f"w{k + 1}", "how": "perturbation"} for k in range(4)
    ]
    assert "perturbation of w1@0" in shell.run("lineage").stdout


@pytest.mark.parametrize("step", STEPS)
def test_the_chain_is_inferred_from_the_wirings_alone(shell: Shell, step: int) -> None:
    """All four true edges are found at steps 0, 10 and 50, each well supported."""
    tree = shell.json("lineage", "--infer", f"w*@{step}", "--root", "w0")
    assert tree["root"] == "w0"
    assert [(edge["parent"], edge["child"]) for edge in tree["edges"]] == [(f"w{k}", f"w{k + 1}") for k in range(4)]
    for edge in tree["edges"]:
        assert 0 < edge["margin"] < edge["distance"] < 1
        assert edge["support"] > 0.9


def test_canonical_distances_are_the_expected_ones(shell: Shell, expected: dict[str, NDArray[Any]]) -> None:
    """All 225 pairs, layer by layer; the refined ones are never larger."""
    refs = names(expected)
    matrix = shell.json("distances", *refs, "--alignment", "canonical")
    assert matrix["alignment"] == "canonical"
    np.testing.assert_allclose(np.array(matrix["layers"]), expected["canonical"], rtol=0, atol=1e-12)
    some = refs[:5]
    refined = np.array(shell.json("distances", *some, "--alignment", "refined")["nnstd"])
    assert (refined <= np.array(matrix["nnstd"])[:5, :5]).all()


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
    error = shell.fails("push", str(reference_directory / "e5_s0_w0"), "--run", "w0", "--parent", "w3")
    assert "cannot descend from w3@50" in error


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
    answer = shell.json("cypher", query, "-p", f"id=w0/input/{source}")
    assert sorted(row[0] for row in answer["rows"]) == sorted(mask.targets[mask.sources == source].tolist())
    assert answer["truncated"] is False
    assert answer["unprojected"] == []


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
    error = shell.fails("push", source, "--run", "never", "--tag", "x", "--project", "nosuch")
    assert "expected one of the layers l0, l1, l2, l3" in error
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
    error = Shell(tmp_path / "none").fails("ls")
    assert "expected an archive, found none" in error
    assert not (tmp_path / "none").exists()


def test_distances_are_drawn_and_written(shell: Shell, tmp_path: Path) -> None:
    """A PNG and a CSV whose numbers read back to the last bit."""
    png, csv = tmp_path / "map.png", tmp_path / "map.csv"
    matrix = shell.json("distances", "w*@last", "--alignment", "identity", "--png", str(png), "--csv", str(csv))
    assert png.read_bytes().startswith(b"\x89PNG")
    lines = [line.split(",") for line in csv.read_text().splitlines()]
    assert lines[0][1:] == matrix["refs"]
    assert [[float(x) for x in line[1:]] for line in lines[1:]] == matrix["nnstd"]
    error = shell.fails("distances", "w*@last", "--csv", str(tmp_path / "no" / "such" / "map.csv"))
    assert "expected a file in an existing directory" in error
