"""A matrix of distances goes out: files, graphs, clusters, neighbours, pictures."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from fastapi import Request
from matplotlib.image import imread
from scipy.cluster.hierarchy import leaves_list

from tests.unit.distance.networks import random_network, rewired
from topostrata.distance import jobs
from topostrata.distance import matrix as ours
from topostrata.distance.alignments import Alignment
from topostrata.distance.matrix import DistanceMatrix
from topostrata.distance.pairwise import distances
from topostrata.errors import InvalidInputError, LimitError, MissingExtraError
from topostrata.ingest.formats import snapshot_file
from topostrata.service import plots
from topostrata.service.answers import values
from topostrata.service.answers.distance import distances_answer
from topostrata.service.api.routes.distance import PICTURE, matrix_response
from topostrata.service.cli.main import app


@pytest.fixture(scope="module")
def sample() -> DistanceMatrix:
    """Two families of four, mixed."""
    rng = np.random.default_rng(3)
    families = [[random_network(rng, [10, 12, 4], 0.2)] for _ in range(2)]
    for family in families:
        while len(family) < 4:
            family.append(rewired(rng, family[-1], 0.1))
    mixed = [family[k] for k in range(4) for family in families]
    return distances(mixed, labels=[f"w{k % 2}@{k}" for k in range(8)], alignment="identity")


def directed(sample: DistanceMatrix) -> DistanceMatrix:
    """The same with other values below the diagonal."""
    layers = sample.layers + np.tril(np.full(sample.nnstd.shape, 0.01), -1)[:, :, None]
    return DistanceMatrix(sample.labels, "reference", layers.mean(axis=2), layers, sample.layer_names)


@pytest.mark.parametrize("alignment", ["identity", "reference"])
def test_a_parquet_file_holds_each_pair_once(
    sample: DistanceMatrix, alignment: Alignment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read by pandas: every value to the bit, both ways where they differ, in as many pieces as it takes."""
    monkeypatch.setattr(ours, "_ROWS", 20)
    matrix = sample if alignment == "identity" else directed(sample)
    matrix.to_parquet(tmp_path / "d.parquet")
    table = pd.read_parquet(tmp_path / "d.parquet")
    assert list(table.columns) == ["a", "b", "nnstd", "layer_l0", "layer_l1"]
    at = {label: k for k, label in enumerate(matrix.labels)}
    pairs = [(at[a], at[b]) for a, b in zip(table["a"], table["b"], strict=True)]
    assert sorted(pairs) == [(i, j) for i in range(8) for j in range(8) if i < j or (alignment != "identity" and i > j)]
    for (i, j), row in zip(pairs, table.itertuples(), strict=True):
        assert row.nnstd == matrix.nnstd[i, j]
        assert [row.layer_l0, row.layer_l1] == matrix.layers[i, j].tolist()
    about = pq.read_schema(tmp_path / "d.parquet").metadata[b"topostrata"]
    assert json.loads(about) == {"alignment": alignment, "version": 1, "layers": ["l0", "l1"]}


def test_a_graphml_file_holds_the_graph(sample: DistanceMatrix, tmp_path: Path) -> None:
    """As networkx reads it again."""
    sample.to_graphml(tmp_path / "d.graphml")
    read = nx.read_graphml(tmp_path / "d.graphml")
    assert sorted(read.nodes) == sorted(sample.labels)
    assert read.number_of_edges() == 28
    assert read["w0@0"]["w1@3"]["distance"] == sample.nnstd[0, 3]
    assert read["w0@0"]["w1@3"]["layer_l1"] == sample.layers[0, 3, 1]
    directed(sample).to_graphml(tmp_path / "d.graphml")
    assert nx.read_graphml(tmp_path / "d.graphml").number_of_edges() == 56


def test_the_clusters_and_their_order_go_together(sample: DistanceMatrix) -> None:
    """The order names the leaves of the linkage from left to right; families stand together; one network is a tree."""
    order = sample.dendrogram_order()
    assert order == leaves_list(sample.linkage()).tolist()
    assert {k % 2 for k in order[:4]} in ({0}, {1})
    answer = distances_answer(sample, nearest=2)
    assert answer["order"] == [sample.labels[k] for k in order]
    assert answer["linkage"] == sample.linkage().tolist()
    assert answer["nearest"] is not None
    assert [len(near) for near in answer["nearest"]] == [2] * 8
    assert answer["nearest"][0][0]["nnstd"] == sample.nnstd[0, 1:].min()
    alone = distances([random_network(np.random.default_rng(0), [3, 2], 0.5)], alignment="identity")
    assert distances_answer(alone)["order"] == ["0"]
    assert distances_answer(alone)["linkage"] == []
    assert distances_answer(alone, nearest=3)["nearest"] == [[]]


def test_a_map_stands_under_its_tree(sample: DistanceMatrix, tmp_path: Path) -> None:
    """One, two and eight networks are drawn; each branch ends above the columns that it joins."""
    for count in (1, 2, 8):
        part = DistanceMatrix(
            sample.labels[:count], "identity", sample.nnstd[:count, :count], sample.layers[:count, :count], ("l0", "l1")
        )
        plots.clustered_map(part, tmp_path / f"{count}.png")
        assert (tmp_path / f"{count}.png").read_bytes().startswith(b"\x89PNG")
    tree, order = sample.linkage(), sample.dendrogram_order()
    branches = list(plots._branches(tree, order))
    assert len(branches) == 7
    feet = [x for across, up in branches for x, y in zip(across, up, strict=True) if y == 0]
    assert sorted(feet) == list(range(8))
    assert max(max(up) for _, up in branches) == tree[-1, 2]
    assert ours.short(["a/b/w0", "a/b/w1/x", "a/b/w1/y"]) == ["w0", "w1/x", "w1/y"]
    assert ours.short(["w0@1", "w1@1"]) == ["w0@1", "w1@1"]


def test_nothing_of_a_picture_is_cut_off(sample: DistanceMatrix, tmp_path: Path) -> None:
    """Titles above and labels below: the outermost pixels are those of the background."""
    five = DistanceMatrix(sample.labels[:5], "identity", sample.nnstd[:5, :5], sample.layers[:5, :5], ("l0", "l1"))
    plots.heat_maps({"before training": five, "after": five}, tmp_path / "two.png")
    plots.clustered_map(five, tmp_path / "tree.png")
    for name in ("two.png", "tree.png"):
        pixels = imread(tmp_path / name)
        assert all((edge == 1).all() for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))


def test_a_file_that_cannot_be_finished_leaves_the_old_one(
    sample: DistanceMatrix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the format, an error on the way changes nothing and leaves nothing behind."""
    target = tmp_path / "d.parquet"
    target.write_text("before")

    def broken(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", broken)
    with pytest.raises(InvalidInputError, match=r"d\.parquet: expected a file that can be written: No space left"):
        sample.to_parquet(target)
    assert target.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["d.parquet"]


@pytest.mark.parametrize(
    ("option", "name", "message"),
    [
        ("--csv", "nowhere/d.csv", "found no directory nowhere"),
        ("--parquet", ".", "expected the name of a file, found a directory"),
        ("--png", "d.txt", r"expected the name of a picture \(.png, .svg, .pdf\)"),
    ],
)
def test_a_bad_place_is_told_before_anything_is_computed(
    option: str, name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of work do not end with a file that cannot be written."""
    monkeypatch.chdir(tmp_path)
    snapshot_file.write(tmp_path / "a.npz", random_network(np.random.default_rng(0), [3, 2], 0.5))
    monkeypatch.setattr(jobs, "compare", lambda *_, **__: pytest.fail("computed"))
    with pytest.raises(InvalidInputError, match=message):
        app(["distances", "./a.npz", "./a.npz", "--alignment", "identity", option, name], standalone_mode=False)


def test_the_answer_is_shown_whatever_becomes_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A disk that fills while the file is written costs the file, not the hours before it."""
    rng = np.random.default_rng(0)
    for name in "ab":
        snapshot_file.write(tmp_path / f"{name}.npz", random_network(rng, [3, 2], 0.5))

    def broken(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", broken)
    arguments = ["distances", f"{tmp_path}/a.npz", f"{tmp_path}/b.npz", "--parquet", f"{tmp_path}/d.parquet", "--json"]
    with pytest.raises(InvalidInputError, match="No space left"):
        app(arguments, standalone_mode=False)
    assert json.loads(capfd.readouterr().out)["refs"] == arguments[1:3]


def test_files_count_once_and_their_names_are_written_so_that_all_can_read_them(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Globs of a shell overlap; a file's name may hold a line break, or bytes that are no text."""
    rng = np.random.default_rng(0)
    named = [f"{tmp_path}/{name}.npz" for name in ("a", "line\nbreak", "line\\nbreak", "no\udcfftext", "Übung")]
    for name in named:
        snapshot_file.write(Path(name), random_network(rng, [3, 2], 0.5))
    files = ["--graphml", f"{tmp_path}/d.graphml", "--csv", f"{tmp_path}/d.csv", "--parquet", f"{tmp_path}/d.parquet"]
    app(["distances", *named, named[0], *files, "--json"], standalone_mode=False)
    refs = json.loads(capfd.readouterr().out)["refs"]
    assert refs == [
        f"{tmp_path}/{name}.npz" for name in ("a", "line\\nbreak", r"line\\nbreak", "no\\udcfftext", "Übung")
    ]
    assert list(nx.read_graphml(tmp_path / "d.graphml")) == refs
    assert pd.read_csv(tmp_path / "d.csv", index_col=0).columns.tolist() == refs
    app(["nnstd", named[1], named[3], "--json"], standalone_mode=False)
    assert json.loads(capfd.readouterr().out)["b"] == refs[3]


def test_without_pyarrow_the_extra_is_named(
    sample: DistanceMatrix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And how to install it."""
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=re.escape("pip install '.[parquet]'")):
        sample.to_parquet(tmp_path / "d.parquet")


def test_a_matrix_too_large_for_json_goes_out_in_another_form() -> None:
    """JSON of more than a million numbers is refused with the forms that are not; those, and smaller ones, are sent."""

    def answered(n: int, kind: str) -> bytes | memoryview:
        labels = tuple(f"w0@{k}" for k in range(n))
        large = DistanceMatrix(labels, "identity", np.zeros((n, n)), np.zeros((n, n, 2)), ("l0", "l1"))
        headers = [(b"accept", kind.encode())]
        request = Request({"type": "http", "method": "GET", "path": "/", "headers": headers, "query_string": b""})
        return matrix_response(request, large, kind, nearest=None).body

    with pytest.raises(LimitError, match="1048576 numbers, found 1080000: 600 snapshots") as error:
        answered(600, "application/json")
    assert "application/x-npz" in str(error.value.hint)
    assert len(answered(600, "application/octet-stream")) == 4 * 600**2
    assert 4 * 600**2 < len(answered(600, PICTURE)) < 5 * 600**2
    assert len(answered(600, values.MEDIA_TYPE)) > 8 * 600**2 * 3
    assert len(json.loads(bytes(answered(20, "application/json")))["nnstd"]) == 20
