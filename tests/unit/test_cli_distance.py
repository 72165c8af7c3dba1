"""`topostrata nnstd` and `topostrata distances` on files: what they say to a name that is not quite right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from topostrata.distance.nnstd import nnstd
from topostrata.ingest.formats import snapshot_file
from topostrata.ingest.formats.reading import read
from topostrata.topology import LayerShape, Space, Topology, Wiring


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve small networks in files."""
    rng = np.random.default_rng(0)
    directory = tmp_path_factory.mktemp("networks")
    for k in range(12):
        masks = [rng.random((6, 5)) < 0.5, rng.random((5, 3)) < 0.5]
        snapshot_file.write(directory / f"net{k}.npz", Topology.from_masks(masks))
    return directory


def run(folder: Path, *arguments: str, width: int | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "topostrata.service.cli.main", *arguments]
    environment = os.environ | ({} if width is None else {"COLUMNS": str(width)})
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)


@pytest.mark.parametrize("verb", ["nnstd", "distances"])
def test_a_file_named_as_a_ref_is_suggested(folder: Path, verb: str) -> None:
    """`nnstd net0.npz net1.npz` looks for refs; the error says how the files of these names are named."""
    ran = run(folder, verb, "net0.npz", "net1.npz")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "did you mean ./net0.npz ./net1.npz? A path contains a / or begins with a dot" in ran.stderr


def test_an_answer_that_ties_decided_says_so(tmp_path: Path) -> None:
    """Behind a full first layer `canonical` goes by colours; `overlap`, the default, by what follows."""
    rng = np.random.default_rng(0)
    masks = [np.ones((6, 20)), *(rng.random((20, n)) < 0.3 for n in (20, 4))]
    snapshot_file.write(tmp_path / "a.npz", Topology.from_masks(masks))
    masks[1] = masks[1][:, ::-1].copy()
    masks[1][0, 0] = not masks[1][0, 0]
    snapshot_file.write(tmp_path / "b.npz", Topology.from_masks(masks))
    ask = ("nnstd", "./a.npz", "./b.npz")
    assert "not informed" in run(tmp_path, *ask, "--alignment", "canonical", width=200).stdout
    assert "not informed" not in run(tmp_path, *ask, width=200).stdout
    answers = [json.loads(run(tmp_path, *ask, *more, "--json").stdout) for more in ((), ("--alignment", "canonical"))]
    assert [(answer["alignment"], answer["informed"], answer["version"]) for answer in answers] == [
        ("overlap", True, 1),
        ("canonical", False, 1),
    ]


def test_what_is_no_file_either_is_not_suggested(folder: Path) -> None:
    """Where no file has the name, the hint stays that of the archive."""
    ran = run(folder, "nnstd", "w0", "w1")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "did you mean" not in ran.stderr
    assert "topostrata push" in ran.stderr


def test_a_step_of_a_file_is_suggested_with_it(folder: Path) -> None:
    """`net0.npz@3` is the file `./net0.npz` at step 3."""
    assert "did you mean ./net0.npz@3?" in run(folder, "nnstd", "net0.npz@3", "w1").stderr


@pytest.mark.parametrize(
    ("refs", "word"),
    [(["w*@last", "w0"], "the glob 'w*@last'"), (["./net0.npz", "./net1.npz", "./net2.npz"], "3 topologies")],
)
def test_nnstd_of_a_set_is_told_about_distances(folder: Path, refs: list[str], word: str) -> None:
    """A glob, or more than two topologies, is misuse of `nnstd`, and the error names the verb for it."""
    ran = run(folder, "nnstd", *refs)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert f"expected two topologies, found {word}; `topostrata distances` compares all of a set" in ran.stderr


@pytest.mark.parametrize(("count", "width"), [(4, 80), (8, 80), (12, 120)])
def test_a_matrix_that_fits_is_shown_whole(folder: Path, count: int, width: int) -> None:
    """Each distance once, no line longer than the terminal."""
    ran = run(folder, "distances", *(f"./net{k}.npz" for k in range(count)), "--alignment", "identity", width=width)
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert max(map(len, lines)) <= width
    assert [len(line.split()) for line in lines if len(line.split()) > count] == [count + 1] * count


def test_a_matrix_that_is_too_wide_is_summarised(folder: Path, tmp_path: Path) -> None:
    """Each network with its nearest and its farthest, and a note that names the file of the whole, or the option that writes it."""
    target = tmp_path / "all.csv"
    files = [f"./net{k}.npz" for k in range(12)]
    ran = run(folder, "distances", *files, "--alignment", "identity", "--csv", str(target), width=80)
    assert ran.returncode == 0, ran.stderr
    assert f"12 x 12 distances are too wide for the terminal; {target} has them all" in ran.stderr
    lines = [line.split() for line in ran.stdout.splitlines()]
    unwritten = run(folder, "distances", *files, "--alignment", "identity", width=80)
    assert "12 x 12 distances are too wide for the terminal; --csv FILE writes them all" in unwritten.stderr
    assert unwritten.stdout == ran.stdout
    names, *rows = [row.split(",") for row in target.read_text(encoding="utf-8").splitlines()]
    for k, row in enumerate(rows):
        others = {name: float(value) for j, (name, value) in enumerate(zip(names[1:], row[1:], strict=True)) if j != k}
        near, far = min(others, key=lambda name: others[name]), max(others, key=lambda name: others[name])
        shown = next(line for line in lines if line and line[0] == f"net{k}.npz")
        mean = sum(others.values()) / len(others)
        assert shown[1::2] == [Path(near).name, Path(far).name, f"{mean:.4f}"]
        assert shown[2::2] == [f"{others[near]:.4f}", f"{others[far]:.4f}"]


def test_a_stream_that_nothing_enters_first_is_said_to_be_held(tmp_path: Path) -> None:
    """`nnstd` and `distances` name the space that is compared by index, as text and as JSON; identity holds nothing."""
    stream, inner = Space("stream", 4), Space("inner", 3)
    wiring = Wiring((LayerShape("up", stream, inner), LayerShape("down", inner, stream)))
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        masks = {"up": rng.random((4, 3)) < 0.5, "down": rng.random((3, 4)) < 0.5}
        snapshot_file.write(tmp_path / f"{name}.npz", wiring.place(masks))
    for verb in ("nnstd", "distances"):
        assert (
            "held in place, so that the distance may be too large: stream"
            in run(tmp_path, verb, "./a.npz", "./b.npz").stdout
        )
        assert json.loads(run(tmp_path, verb, "./a.npz", "./b.npz", "--json").stdout)["held"] == ["stream"]
        assert "held" not in run(tmp_path, verb, "./a.npz", "./b.npz", "--alignment", "identity").stdout


def test_files_are_read_with_the_options_of_push(tmp_path: Path) -> None:
    """What a file does not tell is said to `nnstd` and `distances` as to `push`; without it both refuse."""
    rng = np.random.default_rng(3)
    for name in "ab":
        fc1, fc2 = rng.random((6, 4)) < 0.5, rng.random((4, 2)) < 0.5
        np.savez(tmp_path / f"{name}.npz", w_in=fc1.T, a_out=fc2.T)  # targets by sources, named against the order
    said = ["--layers", "w_in,a_out", "--orientation", "out-in", "--alignment", "identity"]
    for verb in ("nnstd", "distances"):
        unsaid = run(tmp_path, verb, "./a.npz", "./b.npz", "--layers", "w_in,a_out", "--orientation", "in-out")
        assert (unsaid.returncode, unsaid.stdout) == (1, "")
        assert run(tmp_path, verb, "./a.npz", "./b.npz", *said).returncode == 0
    ran = json.loads(run(tmp_path, "nnstd", "./a.npz", "./b.npz", *said, "--json").stdout)
    topologies = [
        next(read(tmp_path / f"{n}.npz", layers=["w_in", "a_out"], orientation="out-in")).topology for n in "ab"
    ]
    assert ran["nnstd"] == nnstd(*topologies, alignment="identity").nnstd
    assert [layer["name"] for layer in ran["layers"]] == ["w_in", "a_out"]


@pytest.mark.parametrize("verb", ["nnstd", "distances"])
def test_reading_options_without_a_file_are_misuse(tmp_path: Path, verb: str) -> None:
    """They say how files are read, so nothing is left of them where only refs are named."""
    ran = run(tmp_path, verb, "w0", "w1", "--zeros", "present", width=200)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "expected a file, which reading options are for, found only refs: w0, w1" in ran.stderr
