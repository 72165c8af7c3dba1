"""Every question of docs/cypher.md on every store: its columns, and its answer against what plain Python finds."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.histories import Connection, History, sparse_history
from tests.stores import Target, wipe
from topostrata.archive import Archive
from topostrata.distance.nnstd import nnstd
from topostrata.runs import Parent

DOCS = Path(__file__).resolve().parents[2] / "docs"
SPEC = importlib.util.spec_from_file_location("make_cookbook", DOCS / "make_cookbook.py")
assert SPEC is not None
assert SPEC.loader is not None
make_cookbook = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = make_cookbook  # where a dataclass looks its module up
SPEC.loader.exec_module(make_cookbook)

DOCUMENT = (DOCS / "cypher.md").read_text("utf-8")
RECIPES = {recipe.title: recipe for recipe in make_cookbook.recipes(DOCUMENT)}
WIDTHS = (64, 12, 12, 12, 10)
Rows = list[list[Any]]

pytestmark = pytest.mark.checkout


@dataclass(frozen=True)
class Told:
    """What was pushed: histories by run, and the parents, tags and metrics beside them."""

    runs: dict[str, History]
    parents: dict[str, Parent]

    def accuracy(self, run: str, step: int) -> float:
        """A metric that rises, falls, and has equal values."""
        return (len(run) + step * 7 % 11) / 20


def small_demo() -> Told:
    """Like the demo's archive, and small: w0 with a child and a grandchild, and w0's wiring without any rewiring."""
    runs: dict[str, History] = {}
    for k, run in enumerate(("w0", "w1", "w2")):
        made = sparse_history(55 + k, snapshots=7, widths=WIDTHS, density=0.25, churn=0.4)
        runs[run] = History(made.seed, tuple((5 * step, topology) for step, topology in made.snapshots))
    first = runs["w0"].snapshots[0][1]
    # w1 starts one layer away from w0, so that the two share masks.
    runs["w1"] = History(1, ((0, first), *runs["w1"].snapshots[1:]))
    runs["static"] = History(2, tuple((step, first) for step in runs["w0"].steps))
    return Told(runs, {"w1": Parent("w0", 0, "perturbation"), "w2": Parent("w1", 0, "perturbation")})


TOLD = small_demo()


@pytest.fixture(scope="module")
def demo(target: Target) -> Iterator[Archive]:
    """The small demo on this store."""
    with target.open() as emptied:
        wipe(emptied)
    with target.open() as archive:
        for run, history in TOLD.runs.items():
            archive.create_run(
                run,
                tags=["static" if run == "static" else "set"],
                config={"run": run},
                parents=[TOLD.parents[run]] if run in TOLD.parents else [],
            )
            for step, topology in history.snapshots:
                archive.push(run, step, topology, metrics={"accuracy": TOLD.accuracy(run, step)})
        for step in TOLD.runs["w0"].steps:
            archive.nnstd(f"w0@{step}", f"w1@{step}")
        archive.distances(["w*@0"], alignment="reference")
        yield archive


def ask(archive: Archive, title: str) -> Rows:
    return archive.cypher(RECIPES[title].text, RECIPES[title].values, limit=100_000).rows


def alive(run: str, layer: str, step: int) -> set[Connection]:
    return TOLD.runs[run].alive(layer, step)


def leaving(run: str, space: str) -> list[str]:
    return [layer.name for layer in TOLD.runs[run].layers if layer.source.name == space]


def lives(run: str, layer: str) -> list[tuple[Connection, int, int | None]]:
    return sorted(TOLD.runs[run].lifetimes(layer), key=lambda life: (life[0], life[1]))


def inputs_of(run: str, space: str, index: int, step: int) -> Rows:
    found = []
    for layer in TOLD.runs[run].layers:
        for (source, tap, target), born, died in lives(run, layer.name):
            if layer.target.name == space and target == index and born <= step and (died is None or died > step):
                found.append([layer.source.name, source, layer.name, tap, born])
    return found


def feeds() -> Rows:
    return [
        [f"w0/{space}/{unit}", layer, tap, born] for space, unit, layer, tap, born in inputs_of("w0", "hidden1", 5, 30)
    ]


def reaches() -> Rows:
    paths: Counter[int] = Counter()
    for space, unit, *_ in inputs_of("w0", "hidden2", 5, 30):
        paths.update(source for from_, source, *_ in inputs_of("w0", space, unit, 30) if from_ == "input")
    return [[unit, count] for unit, count in sorted(paths.items(), key=lambda one: (-one[1], one[0]))]


def born_and_died() -> Rows:
    return [["l0", tap, born, died] for (a, tap, b), born, died in lives("w0", "l0") if (a, b) == (20, 5)]


def hubs() -> Rows:
    fan_out = TOLD.runs["w0"].fan_out("input", 30)
    return [list(one) for one in sorted(fan_out.items(), key=lambda one: (-one[1], one[0]))][:5]


def dead() -> Rows:
    found = TOLD.runs["w0"].fan_out("input", 30)
    fewer = [[unit, found.get(unit, 0)] for unit in range(64) if found.get(unit, 0) < 15]
    assert any(fan_out == 0 for _, fan_out in fewer)
    return sorted(fewer, key=lambda row: (row[1], row[0]))


def fan_ins() -> Rows:
    found = TOLD.runs["w0"].fan_in("hidden1", 30)
    return [list(one) for one in sorted(Counter(found.get(unit, 0) for unit in range(12)).items())]


def survivors() -> Rows:
    return [list(one) for one in sorted(TOLD.runs["w0"].survivors("l1", 0, 30))]


def regrown() -> Rows:
    births: dict[Connection, list[int]] = {}
    for one, born, _ in lives("w0", "l1"):
        births.setdefault(one, []).append(born)
    found: Rows = [[*one, len(steps), steps] for one, steps in births.items() if len(steps) > 1]
    return sorted(found, key=lambda row: (-row[3], row[:3]))[:5]


def rewired() -> Rows:
    found = lives("w0", "l0")
    return [
        [step, sum(born == step for _, born, _ in found), sum(died == step for _, _, died in found)]
        for step in TOLD.runs["w0"].steps
    ]


def short_lives() -> Rows:
    ages = Counter(died - born for _, born, died in lives("w0", "l0") if died is not None and died - born <= 5)
    return [list(one) for one in sorted(ages.items())]


def explored() -> Rows:
    found = lives("w0", "l1")
    return [["l1", len({one for one, _, _ in found}), sum(died is None for _, _, died in found), 144]]


def shared() -> Rows:
    return [[len(alive("w0", "l1", 0) & alive("w1", "l1", 0))]]


def best() -> Rows:
    found = []
    for run, history in TOLD.runs.items():
        step = max(history.steps, key=lambda one: (TOLD.accuracy(run, one), -one))
        found.append([run, step, TOLD.accuracy(run, step)])
    return sorted(found, key=lambda row: (-row[2], row[0]))


def same_topology() -> Rows:
    digest = TOLD.runs["w0"].at(0).digest
    steps = {run: [step for step, t in held.snapshots if t.digest == digest] for run, held in TOLD.runs.items()}
    return [[run, len(found), min(found), max(found)] for run, found in sorted(steps.items()) if found]


def shared_masks() -> Rows:
    held: dict[tuple[str, str], list[str]] = {}
    nnz: dict[str, int] = {}
    for run, history in TOLD.runs.items():
        for _, topology in history.snapshots:
            for layer in topology.layers:
                held.setdefault((layer.name, layer.mask.digest), []).append(run)
                nnz[layer.mask.digest] = layer.nnz
    found = [
        [name, nnz[digest], sorted(set(runs)), len(runs)] for (name, digest), runs in held.items() if len(set(runs)) > 1
    ]
    return sorted(found, key=lambda row: (-row[3], row[0], row[1], row[2]))


def nearest() -> Rows:
    first = TOLD.runs["w0"].at(0)
    pairs = [(run, TOLD.runs[run].at(0)) for run in ("w1", "w2")]
    found = [
        [f"{run}@0", min(nnstd(a, b, alignment="reference").nnstd for a, b in ((first, t), (t, first)))]
        for run, t in pairs
    ]
    return sorted(found, key=lambda row: (row[1], row[0]))


def closest() -> Rows:
    found = [
        [step, nnstd(topology, TOLD.runs["w1"].at(step), alignment="canonical").nnstd]
        for step, topology in TOLD.runs["w0"].snapshots
    ]
    return sorted(found, key=lambda row: (row[1], row[0]))


ORACLES: dict[str, Callable[[], Rows]] = {
    "Who feeds this neuron at a step?": feeds,
    "Which units of a space reach this neuron over two connections?": reaches,
    "When was a connection born, and when did it die?": born_and_died,
    "Hubs": hubs,
    "Dead units": dead,
    "How is the fan-in distributed at a step?": fan_ins,
    "Which connections survived the whole run?": survivors,
    "Regrown connections": regrown,
    "Births and deaths, step by step": rewired,
    "Born and dead within k steps": short_lives,
    "Exploration: distinct connections ever": explored,
    "How many connections do two runs share at a step?": shared,
    "Runs that descend from a run": lambda: [["w1", 1, ["w0@0"]], ["w2", 2, ["w0@0", "w1@0"]]],
    "A metric along a run": lambda: [
        [step, TOLD.accuracy("w0", step), topology.nnz] for step, topology in TOLD.runs["w0"].snapshots
    ],
    "The best snapshot of each run": best,
    "Runs with a tag": lambda: [[run, "open", f'{{"run": "{run}"}}'] for run in ("w0", "w1", "w2")],
    "Snapshots with the same topology": same_topology,
    "Which masks are shared between runs?": shared_masks,
    "Layers that are not fully projected": list,
    "The ten nearest snapshots": nearest,
    "The step at which two runs were closest": closest,
}


def test_the_cookbook_is_read_whole() -> None:
    """Every block of Cypher is a numbered question with its values and its answer from the demo."""
    assert len(re.findall(r"^```cypher$", DOCUMENT, re.MULTILINE)) == len(RECIPES) >= 15
    assert [recipe.number for recipe in RECIPES.values()] == list(range(1, len(RECIPES) + 1))
    assert ORACLES.keys() <= RECIPES.keys()
    for recipe in RECIPES.values():
        assert set(re.findall(r"\$(\w+)", recipe.text)) == set(recipe.parameters) == recipe.values.keys(), recipe.title
        assert recipe.answer.startswith("| " + " | ".join(recipe.columns) + " |\n"), recipe.title


@pytest.mark.parametrize("title", RECIPES)
def test_each_question_answers_with_the_columns_that_the_document_says(
    demo: Archive, target: Target, title: str
) -> None:
    """Every query is read-only, runs on the store, and has its columns; all but two find something here."""
    recipe = RECIPES[title]
    table = demo.cypher(recipe.text, recipe.values)
    if table.rows or target.name != "embedded":  # whose empty answers name no columns
        assert table.columns == recipe.columns
    assert table.rows or title in {
        "Layers that are not fully projected",
        "When was a connection born, and when did it die?",
    }


@pytest.mark.parametrize("title", ORACLES)
def test_each_answer_is_what_was_pushed(demo: Archive, title: str) -> None:
    """Plain Python over the pushed topologies comes to the same rows in the same order."""
    expected = ORACLES[title]()
    found = ask(demo, title)
    assert len(found) == len(expected)
    for row, other in zip(found, expected, strict=True):
        assert row == pytest.approx(other) if any(isinstance(x, float) for x in other) else row == other


def test_paths_are_whole_and_alive(demo: Archive) -> None:
    """Each path goes from the pixel to the class over connections alive at the step; the first three of all."""
    values = RECIPES["Paths from an input pixel to a class"].values
    pixel, last = (int(values[end].rsplit("/", 1)[1]) for end in ("pixel", "class"))
    fed: list[list[int]] = [[pixel]]
    for k in range(4):
        after: dict[int, list[int]] = {}
        for a, _, b in alive("w0", f"l{k}", 30):
            after.setdefault(a, []).append(b)
        fed = [[*path, b] for path in fed for b in after.get(path[-1], [])]
    expected = sorted(path for path in fed if path[-1] == last)
    found = ask(demo, "Paths from an input pixel to a class")
    assert [[node["index"] for node in neurons] for neurons, _ in found] == expected[: values["limit"]]
    for neurons, joins in found:
        assert [node["space"] for node in neurons] == ["input", "hidden1", "hidden2", "hidden3", "output"]
        assert [(one["type"], one["layer"]) for one in joins] == [("CONNECTS", f"l{k}") for k in range(4)]


def test_pictures_are_made_of_nodes_relationships_and_paths(demo: Archive) -> None:
    """What Neo4j Browser draws: nodes with their labels, relationships with their types, and paths of both."""
    for n, c, a in ask(demo, "The same as a picture"):
        assert (n["labels"], c["type"], a["labels"]) == (["Neuron"], "CONNECTS", ["Neuron"])
        assert (n["id"], c["run"]) == ("w0/hidden1/5", "w0")
    assert [row[0] for row in ask(demo, "Who feeds this neuron at a step?")] == [
        a["id"] for _, _, a in ask(demo, "The same as a picture")
    ]
    for (path,), child, parent in zip(
        ask(demo, "The family tree as a picture"), ("w1", "w2"), ("w0", "w1"), strict=True
    ):
        assert [node["id"] for node in path["nodes"]] == [child, f"{parent}@0", parent]
        assert [one["type"] for one in path["relationships"]] == ["DESCENDS_FROM", "HAS_SNAPSHOT"]


def test_no_question_scans_all_neurons(demo: Archive, target: Target) -> None:
    """Neo4j's plans begin at an index wherever neurons or connections are read; the embedded engine shows no plans."""
    if not target.name.startswith("neo4j"):
        return
    store = demo._store
    with store._driver.session(database=store._connection.database) as session:
        for recipe in RECIPES.values():
            plan = session.run("EXPLAIN " + recipe.text, recipe.values).consume().plan
            for kind, details in operators(plan):
                assert "AllNodesScan" not in kind, recipe.title
                assert "Scan" not in kind or not re.search("Neuron|CONNECTS", details), (recipe.title, kind, details)


def operators(plan: Any) -> Iterator[tuple[str, str]]:
    yield plan["operatorType"], str(plan.get("args", {}).get("Details", ""))
    for child in plan.get("children", []):
        yield from operators(child)
