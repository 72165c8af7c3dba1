"""What an alignment is stands in one table: every face reads it, and a name that is not in it is refused everywhere."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from tests.unit.distance.networks import random_network, rewired
from topostrata.distance import alignments, stored
from topostrata.distance.alignments import ALIGNMENTS, DEFAULT, Alignment, definition_of, descriptions
from topostrata.distance.matrix import DistanceMatrix
from topostrata.distance.nnstd import Distance, compare, nnstd, with_chance
from topostrata.distance.pairwise import distances
from topostrata.distance.prepared import prepare
from topostrata.errors import InvalidInputError
from topostrata.lineage.inferred import from_distances
from topostrata.service.api.app import create_app
from topostrata.service.cli.main import app
from topostrata.topology import Topology

ROOT = Path(__file__).resolve().parents[3]
# In a process of its own, in which the table of ``changed.py`` stands in the place of the real one.
EVERYWHERE = """
import importlib.util, json, sys
name = "topostrata.distance.alignments"
specification = importlib.util.spec_from_file_location(name, "changed.py")
sys.modules[name] = importlib.util.module_from_spec(specification)
specification.loader.exec_module(sys.modules[name])

from pathlib import Path
import numpy as np
from typer.testing import CliRunner
from topostrata.distance.alignments import definition_of
from topostrata.distance.nnstd import compare, nnstd
from topostrata.distance.pairwise import distances
from topostrata.distance.stored import StoredTiles
from topostrata.ingest.formats import snapshot_file
from topostrata.service.api.app import create_app
from topostrata.service.cli.main import app
from topostrata.topology import Topology

a, b = (Topology.from_masks([mask]) for mask in (np.eye(3), np.tri(3)))
truth = nnstd(a, b, alignment="identity").nnstd
ready = map(definition_of("nearest").ready, (a, b))
assert nnstd(a, b, alignment="nearest").nnstd == compare(*ready, alignment="nearest").nnstd == truth
matrix = distances([a, b], alignment="nearest")
assert matrix.nnstd[0, 1] == matrix.nnstd[1, 0] == truth and matrix.directed
assert StoredTiles(None, {}, alignment="nearest", layers=1)._id(0, 0) == "nearest/fix_output/7/1/0-0"

snapshot_file.write(Path("a.npz"), a)
snapshot_file.write(Path("b.npz"), b)
run = CliRunner().invoke
assert "nearest: another one" in " ".join(run(app, ["nnstd", "--help"], env={"COLUMNS": "999"}).stdout.split())
answer = json.loads(run(app, ["nnstd", "./a.npz", "./b.npz", "--alignment", "nearest", "--json"]).stdout)
assert (answer["alignment"], answer["nnstd"]) == ("nearest", truth)
parameters = create_app().openapi()["paths"]["/v1/distances"]["get"]["parameters"]
assert "nearest" in next(p for p in parameters if p["name"] == "alignment")["schema"]["enum"]
print("everywhere")
"""


@pytest.fixture(scope="module")
def pair() -> tuple[Topology, Topology]:
    """A network, and one with some connections elsewhere."""
    rng = np.random.default_rng(20)
    network = random_network(rng, [12, 14, 14, 4], 0.2)
    return network, rewired(rng, network, 0.3)


def test_the_type_names_the_alignments_of_the_table() -> None:
    """A name for type checkers without a row, or a row without a name, is a mistake."""
    assert get_args(Alignment) == tuple(ALIGNMENTS)
    assert DEFAULT in ALIGNMENTS


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_prepared_networks_have_the_same_distance(pair: tuple[Topology, Topology], name: Alignment) -> None:
    """Prepared for another alignment, for this one, or not at all: one number, that of the name."""
    alone = nnstd(*pair, alignment=name)
    definition = definition_of(name)
    ways: list[Callable[[Topology], Any]] = [prepare, definition.ready]
    for ready in ways:
        together = compare(*map(ready, pair), alignment=name)
        assert (together.alignment, together) == (name, alone)


def test_networks_that_are_not_prepared_are_refused_where_they_must_be(pair: tuple[Topology, Topology]) -> None:
    """`compare` says what to call, instead of failing inside."""
    with pytest.raises(InvalidInputError, match="expected prepared networks"):
        compare(*map(definition_of("identity").ready, pair), alignment="canonical")


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_the_table_says_which_alignments_are_symmetric(pair: tuple[Topology, Topology], name: Alignment) -> None:
    """A matrix is computed in one direction exactly where both have the same value."""
    definition = definition_of(name)
    assert distances(pair, alignment=name).directed is not definition.symmetric
    if definition.symmetric:
        assert nnstd(*pair, alignment=name).nnstd == nnstd(*pair[::-1], alignment=name).nnstd


def test_stored_distances_keep_their_keys() -> None:
    """The key of format 1, byte by byte: another one would lose what is stored."""
    keys = [definition.key(fix_output=fixed) for definition in ALIGNMENTS.values() for fixed in (True, False)]
    assert keys == [
        "overlap/fix_output/1", "overlap/match_output/1", "canonical/fix_output/1", "canonical/match_output/1",
        "reference/fix_output/1", "reference/match_output/1",
        "refined/fix_output/2", "refined/match_output/2", "identity/fix_output/1", "identity/match_output/1",
    ]  # fmt: skip


@pytest.mark.checkout
def test_the_readme_lists_the_alignments() -> None:
    """Name for name and word for word."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("- **Alignment**", 1)[1].split("\n- **", 1)[0]
    items = dict(re.findall(r"^  - `(\w+)`: (.*(?:\n    .*)*)", section, re.MULTILINE))
    assert {name: " ".join(item.split()) for name, item in items.items()} == descriptions()


def test_a_row_of_the_table_is_an_alignment_everywhere(tmp_path: Path) -> None:
    """A name in the type and a row, and help, command line, REST, matrix and keys have it; without numba, by its row."""
    source = Path(alignments.__file__).read_text(encoding="utf-8")
    names = ', "identity"]'
    row = '        Definition(\n            "identity",'
    assert source.count(names) == source.count(row) == 1
    source = source.replace(names, ', "identity", "nearest"]').replace(
        row,
        '        Definition("nearest", "another one", symmetric=False, matched="none", prepared="topology",\n'
        f"            needs_numba=False, version=7, compare=_identity),\n{row}",
    )
    (tmp_path / "changed.py").write_text(source, encoding="utf-8")
    ran = subprocess.run([sys.executable, "-c", EVERYWHERE], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.stdout.strip() == "everywhere", ran.stderr


def unknown_calls(pair: tuple[Topology, Topology], folder: Path) -> dict[str, Callable[[], object]]:
    """Every door of Python, with an alignment that does not exist."""
    name: Any = "best"
    values = np.zeros((2, 2))
    distance = Distance(name, 0.0, ())
    np.savez(
        folder / "d.npz", labels=["a", "b"], alignment=name, nnstd=values, layers=np.zeros((2, 2, 1)), layer_names=["l"]
    )
    return {
        "nnstd": lambda: nnstd(*pair, alignment=name),
        "compare": lambda: compare(*map(prepare, pair), alignment=name),
        "with_chance": lambda: with_chance(distance, *pair),
        "distances": lambda: distances(pair, alignment=name),
        "distances, on a cluster": lambda: distances(pair, alignment=name, scheduler="tcp://127.0.0.1:1"),
        "DistanceMatrix": lambda: DistanceMatrix(("a", "b"), name, values, np.zeros((2, 2, 1)), ("l",)),
        "from_npz": lambda: DistanceMatrix.from_npz(folder / "d.npz"),
        "from_distances": lambda: from_distances(["a", "b"], values, alignment=name),
        "StoredTiles": lambda: stored.StoredTiles(None, {}, alignment=name, layers=1),  # type: ignore[arg-type]
        "stored_distances": lambda: stored.stored_distances(None, [], layers=1, alignment=name),  # type: ignore[arg-type]
        "put_distance": lambda: stored.put_distance(None, "a@0", "b@0", distance),  # type: ignore[arg-type]
    }


def test_an_unknown_alignment_is_refused_by_every_function(pair: tuple[Topology, Topology], tmp_path: Path) -> None:
    """None answers with the number of another alignment; all say which ones there are."""
    for door, call in unknown_calls(pair, tmp_path).items():
        with pytest.raises(InvalidInputError) as caught:
            call()
        expected = f"alignment: expected one of {', '.join(ALIGNMENTS)}, found 'best'"
        assert caught.value.message == expected, door


@pytest.mark.parametrize(
    "words", [["nnstd", "a@0", "b@0"], ["distances", "a@0"], ["lineage", "--infer", "*"], ["timeline", "a"]]
)
def test_an_unknown_alignment_is_refused_by_the_command_line(words: list[str]) -> None:
    """As misuse, before anything is opened, with the names that exist."""
    ran = CliRunner().invoke(app, [*words, "--alignment", "best"], env={"COLUMNS": "500"})
    assert ran.exit_code == 2
    assert all(name in ran.output for name in ALIGNMENTS)


@pytest.mark.parametrize(
    "path", ["/distances?a=a&b=b", "/distances/matrix?refs=a", "/lineage/inferred?refs=a", "/runs/a/timeline?with=b"]
)
def test_an_unknown_alignment_is_refused_by_the_service(path: str) -> None:
    """With status 422, before the archive is asked."""
    service = create_app()
    service.state.archive = object()

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=service)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get(f"/v1{path}&alignment=best")

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-input")
    assert all(name in answer.json()["detail"] for name in ALIGNMENTS)
