"""Every question of the cookbook on every store: its columns, and its answer against what plain Python finds.

A new file in ``queries/cookbook`` needs a line in ``ORACLES`` here (or in ``PICTURES``, with a test) and a place in
docs/cypher.md, which ``docs/make_cookbook.py`` fills in.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from tests.histories import Connection, History, sparse_history
from tests.stores import Target, wipe
from topostrata import queries
from topostrata.archive import Archive
from topostrata.distance.match import match
from topostrata.distance.nnstd import nnstd
from topostrata.lineage.inferred import infer
from topostrata.runs import Parent

QUERIES = {name.removeprefix("cookbook/"): queries.load(name) for name in queries.names("cookbook")}
WIDTHS = (64, 12, 12, 12, 10)
Rows = list[list[Any]]


@dataclass(frozen=True)
class Pushed:
    """What was pushed: histories by run, and the parents, tags and metrics beside them."""

    runs: dict[str, History]
    parents: dict[str, Parent]

    def accuracy(self, run: str, step: int) -> float:
        """A metric that rises, falls, and has equal values."""
        return (len(run) + step * 7 % 11) / 20

    def turnover(self, run: str, step: int) -> dict[str, dict[str, float]]:
        """What a job said of its updates: in one layer, of all snapshots but the first."""
        counts = {"dropped": step % 3 * 4.0, "grown": 9.0, "regrown_at_once": step % 3 * 1.0}
        return {"l1": counts} if run == "w0" and step else {}


def small_demo() -> Pushed:
    """Like the demo's archive, and small: w0 with a child and a grandchild, and w0's wiring without any rewiring."""
    runs: dict[str, History] = {}
    for k, run in enumerate(("w0", "w1", "w2")):
        history = sparse_history(55 + k, snapshots=7, widths=WIDTHS, density=0.25, churn=0.4)
        runs[run] = History(history.seed, tuple((5 * step, topology) for step, topology in history.snapshots))
    first = runs["w0"].snapshots[0][1]
    # w1 starts one layer away from w0, so that the two share masks.
    runs["w1"] = History(1, ((0, first), *runs["w1"].snapshots[1:]))
    runs["static"] = History(2, tuple((step, first) for step in runs["w0"].steps))
    return Pushed(runs, {"w1": Parent("w0", 0, "perturbation"), "w2": Parent("w1", 0, "perturbation")})


PUSHED = small_demo()


@pytest.fixture(scope="module")
def demo(target: Target) -> Iterator[Archive]:
    """The small demo on this store."""
    with target.open() as emptied:
        wipe(emptied)
    with target.open() as archive:
        for run, history in PUSHED.runs.items():
            archive.create_run(
                run,
                tags=["static" if run == "static" else "set"],
                config={"run": run},
                parents=[PUSHED.parents[run]] if run in PUSHED.parents else [],
            )
            for step, topology in history.snapshots:
                metrics, of_layers = {"accuracy": PUSHED.accuracy(run, step)}, PUSHED.turnover(run, step)
                archive.push(run, step, topology, metrics=metrics, layer_metrics=of_layers)
                archive.push_metrics(run, step, layer_metrics={"l1": {"flow_2": step / 8}, "l1.bias": {"flow_2": 9.0}})
        for step in PUSHED.runs["w0"].steps:
            archive.nnstd(f"w0@{step}", f"w1@{step}")
        archive.distances(["w*@0"])
        archive.infer(["w*@0"], name="guess", root="w0", alignment="canonical", samples=10)
        archive.match("w0@0", "w1@0", keep=True)
        yield archive


def ask(archive: Archive, name: str) -> Rows:
    return archive.cypher(QUERIES[name].text, QUERIES[name].example, limit=100_000).rows


def alive(run: str, layer: str, step: int) -> set[Connection]:
    return PUSHED.runs[run].alive(layer, step)


def leaving(run: str, space: str) -> list[str]:
    return [layer.name for layer in PUSHED.runs[run].layers if layer.source.name == space]


def turnover() -> Rows:
    rows: Rows = []
    for step in PUSHED.runs["w0"].steps:
        for layer, counts in PUSHED.turnover("w0", step).items():
            dropped, grown, both = counts.values()
            rows.append([step, layer, dropped, grown, both, both / dropped if dropped else None])
    return rows


def lives(run: str, layer: str) -> list[tuple[Connection, int, int | None]]:
    return sorted(PUSHED.runs[run].lifetimes(layer), key=lambda life: (life[0], life[1]))


def inputs_of(run: str, space: str, index: int, step: int) -> Rows:
    rows = []
    for layer in PUSHED.runs[run].layers:
        for (source, tap, target), born, died in lives(run, layer.name):
            if layer.target.name == space and target == index and born <= step and (died is None or died > step):
                rows.append([layer.source.name, source, layer.name, tap, born])
    return rows


def inputs() -> Rows:
    return [
        [f"w0/{space}/{unit}", layer, tap, born] for space, unit, layer, tap, born in inputs_of("w0", "hidden1", 5, 30)
    ]


def receptive_field() -> Rows:
    paths: Counter[int] = Counter()
    for space, unit, *_ in inputs_of("w0", "hidden2", 5, 30):
        paths.update(source for from_, source, *_ in inputs_of("w0", space, unit, 30) if from_ == "input")
    return [[unit, count] for unit, count in sorted(paths.items(), key=lambda item: (-item[1], item[0]))]


def reach(hops: int) -> Rows:
    reached = PUSHED.runs["w0"].reach(("input", 20), hops, 30)
    return [[neuron] for neuron in sorted(f"w0/{space}/{unit}" for space, unit in reached)]


def connection_lives() -> Rows:
    return [["l0", tap, born, died] for (a, tap, b), born, died in lives("w0", "l0") if (a, b) == (20, 5)]


def hubs() -> Rows:
    fan_in = PUSHED.runs["w0"].fan_in("hidden1", 30)
    return [list(item) for item in sorted(fan_in.items(), key=lambda item: (-item[1], item[0]))][:5]


def few_outputs() -> Rows:
    fan_out = PUSHED.runs["w0"].fan_out("input", 30)
    fewer = [[unit, fan_out.get(unit, 0)] for unit in range(64) if fan_out.get(unit, 0) < 15]
    assert any(count == 0 for _, count in fewer)
    return sorted(fewer, key=lambda row: (row[1], row[0]))


def dead_units() -> Rows:
    fan_in, fan_out = PUSHED.runs["w0"].fan_in("hidden1", 30), PUSHED.runs["w0"].fan_out("hidden1", 30)
    rows = [[unit, unit not in fan_in, unit not in fan_out] for unit in range(12)]
    return [row for row in rows if any(row[1:])]


def fan_in_distribution() -> Rows:
    fan_in = PUSHED.runs["w0"].fan_in("hidden1", 30)
    return [list(item) for item in sorted(Counter(fan_in.get(unit, 0) for unit in range(12)).items())]


def between() -> Rows:
    before, after = alive("w0", "l1", 0), alive("w0", "l1", 30)
    survived = PUSHED.runs["w0"].survivors("l1", 0, 30)
    return [[len(survived), len((before & after) - survived), len(before - after), len(after - before)]]


def survival() -> Rows:
    history = PUSHED.runs["w0"]
    return [[step, len(history.survivors("l1", 0, step))] for step in history.steps]


def ages() -> Rows:
    history = PUSHED.runs["w0"]
    return [[step, len(history.survivors("l1", step, 30))] for step in history.steps]


def births(layer: str) -> dict[Connection, list[int]]:
    steps: dict[Connection, list[int]] = {}
    for connection, born, _ in lives("w0", layer):
        steps.setdefault(connection, []).append(born)
    return steps


def regrown() -> Rows:
    rows: Rows = [[*connection, len(steps), steps] for connection, steps in births("l1").items() if len(steps) > 1]
    return sorted(rows, key=lambda row: (-row[3], row[:3]))[:5]


def explored() -> Rows:
    steps = births("l1").values()
    return [
        [step, sum(first <= step for first, *_ in steps), sum(step in again for _, *again in steps)]
        for step in PUSHED.runs["w0"].steps
    ]


def births_and_deaths() -> Rows:
    lifetimes = lives("w0", "l1")
    return [
        [
            step,
            len(alive("w0", "l1", step)),
            sum(born == step for _, born, _ in lifetimes),
            sum(died == step for _, _, died in lifetimes),
        ]
        for step in PUSHED.runs["w0"].steps
    ]


def short_lives() -> Rows:
    ages = Counter(died - born for _, born, died in lives("w0", "l1") if died is not None and died - born <= 5)
    return [list(item) for item in sorted(ages.items())]


def distinct_connections() -> Rows:
    lifetimes = lives("w0", "l1")
    return [["l1", len(births("l1")), sum(died is None for _, _, died in lifetimes), 144]]


def best_snapshots() -> Rows:
    rows = []
    for run, history in PUSHED.runs.items():
        step = max(history.steps, key=lambda step: (PUSHED.accuracy(run, step), -step))
        rows.append([run, step, PUSHED.accuracy(run, step)])
    return sorted(rows, key=lambda row: (-row[2], row[0]))


def same_topology() -> Rows:
    digest = PUSHED.runs["w0"].at(0).digest
    equal = {run: [step for step, t in history.snapshots if t.digest == digest] for run, history in PUSHED.runs.items()}
    return [[run, len(steps), min(steps), max(steps)] for run, steps in sorted(equal.items()) if steps]


def shared_masks() -> Rows:
    runs_with: dict[tuple[str, str], list[str]] = {}
    nnz: dict[str, int] = {}
    for run, history in PUSHED.runs.items():
        for _, topology in history.snapshots:
            for layer in topology.layers:
                runs_with.setdefault((layer.name, layer.mask.digest), []).append(run)
                nnz[layer.mask.digest] = layer.nnz
    rows = [
        [name, nnz[digest], sorted(set(runs)), len(runs)]
        for (name, digest), runs in runs_with.items()
        if len(set(runs)) > 1
    ]
    return sorted(rows, key=lambda row: (-row[3], row[0], row[1], row[2]))


def counterparts() -> Rows:
    """w1 begins as w0 does, so that a unit that is established is itself."""
    first = PUSHED.runs["w0"].snapshots[0][1]
    space = match(first, first)["hidden1"]
    return [["w1/hidden1/5", "w0@0", "w1@0", "overlap", 1.0, int(space.common[5])]] if space.established[5] else []


def nearest() -> Rows:
    first = PUSHED.runs["w0"].at(0)
    rows = [[f"{run}@0", nnstd(first, PUSHED.runs[run].at(0), alignment="overlap").nnstd] for run in ("w1", "w2")]
    return sorted(rows, key=lambda row: (row[1], row[0]))


def closest_step() -> Rows:
    rows = [
        [step, nnstd(topology, PUSHED.runs["w1"].at(step), alignment="overlap").nnstd]
        for step, topology in PUSHED.runs["w0"].snapshots
    ]
    return sorted(rows, key=lambda row: (row[1], row[0]))


def probable_parents() -> Rows:
    runs = ["w0", "w1", "w2"]
    inference = infer(
        [PUSHED.runs[run].at(0) for run in runs], runs, partial(nnstd, alignment="canonical"), root="w0", samples=10
    )
    return [
        ["guess", "canonical", edge.parent, edge.distance, edge.margin, edge.support, edge.direction]
        for edge in inference.edges
        if edge.child == "w1"
    ]


ORACLES: dict[str, Callable[[], Rows]] = {
    "ages": ages,
    "alive": lambda: [list(connection) for connection in sorted(alive("w0", "l1", 30))],
    "best_snapshots": best_snapshots,
    "between": between,
    "births_and_deaths": births_and_deaths,
    "closest_step": closest_step,
    "connection_lives": connection_lives,
    "counterparts": counterparts,
    "dead_units": dead_units,
    "descendants": lambda: [["w1", 1, ["w0@0"]], ["w2", 2, ["w0@0", "w1@0"]]],
    "distinct_connections": distinct_connections,
    "explored": explored,
    "fan_in": lambda: [list(item) for item in sorted(PUSHED.runs["w0"].fan_in("hidden1", 30).items())],
    "fan_in_distribution": fan_in_distribution,
    "fan_out": lambda: [list(item) for item in sorted(PUSHED.runs["w0"].fan_out("hidden1", 30).items())],
    "few_outputs": few_outputs,
    "gradient_flow": lambda: [[step, step / 8, *numbers] for step, *numbers in births_and_deaths()],
    "hubs": hubs,
    "inputs": inputs,
    "lives": lambda: [list(item) for item in sorted(Counter(len(steps) for steps in births("l0").values()).items())],
    "metric": lambda: [
        [step, PUSHED.accuracy("w0", step), topology.nnz] for step, topology in PUSHED.runs["w0"].snapshots
    ],
    "nearest": nearest,
    "not_projected": list,
    "probable_parents": probable_parents,
    "reach_in_2": lambda: reach(2),
    "reach_in_3": lambda: reach(3),
    "receptive_field": receptive_field,
    "regrown": regrown,
    "same_topology": same_topology,
    "shared_connections": lambda: [[len(alive("w0", "l1", 0) & alive("w1", "l1", 0))]],
    "shared_masks": shared_masks,
    "short_lives": short_lives,
    "survival": survival,
    "survivors": lambda: [list(connection) for connection in sorted(PUSHED.runs["w0"].survivors("l1", 0, 30))],
    "turnover": turnover,
    "tagged_runs": lambda: [[run, "open", f'{{"run": "{run}"}}'] for run in ("w0", "w1", "w2")],
}
PICTURES = {"family_tree", "inputs_picture", "paths"}  # nodes, relationships and paths, which have tests of their own
EMPTY = {"connection_lives", "dead_units", "not_projected"}  # on the small demo


def test_each_question_has_an_oracle() -> None:
    """No file of the cookbook goes without a comparison with what was pushed."""
    assert sorted({*ORACLES, *PICTURES}) == sorted(QUERIES)


@pytest.mark.parametrize("name", QUERIES)
def test_a_question_answers_with_the_columns_of_its_file(demo: Archive, target: Target, name: str) -> None:
    """Every query only reads, runs on the store with its example's values, and has its columns."""
    query = QUERIES[name]
    table = demo.cypher(query.text, query.example)
    if table.rows or target.name != "embedded":  # whose empty answers name no columns
        assert table.columns == query.columns
    assert table.rows or name in EMPTY


@pytest.mark.parametrize("name", ORACLES)
def test_an_answer_is_what_was_pushed(demo: Archive, name: str) -> None:
    """Plain Python over the pushed topologies comes to the same rows in the same order."""
    expected = ORACLES[name]()
    rows = ask(demo, name)
    assert len(rows) == len(expected)
    for row, other in zip(rows, expected, strict=True):
        assert row == pytest.approx(other) if any(isinstance(x, float) for x in other) else row == other


def test_paths_are_whole_and_alive(demo: Archive) -> None:
    """Each path goes from the pixel to the class over connections alive at the step; the first three of all."""
    values = QUERIES["paths"].example
    pixel, last = (int(values[end].rsplit("/", 1)[1]) for end in ("pixel", "class"))
    fed: list[list[int]] = [[pixel]]
    for k in range(4):
        after: dict[int, list[int]] = {}
        for a, _, b in alive("w0", f"l{k}", 30):
            after.setdefault(a, []).append(b)
        fed = [[*path, b] for path in fed for b in after.get(path[-1], [])]
    expected = sorted(path for path in fed if path[-1] == last)
    rows = ask(demo, "paths")
    assert [[node["index"] for node in neurons] for neurons, _ in rows] == expected[: values["limit"]]
    for neurons, joins in rows:
        assert [node["space"] for node in neurons] == ["input", "hidden1", "hidden2", "hidden3", "output"]
        assert [(join["type"], join["layer"]) for join in joins] == [("CONNECTS", f"l{k}") for k in range(4)]


def test_pictures_are_made_of_nodes_relationships_and_paths(demo: Archive) -> None:
    """What Neo4j Browser draws: nodes with their labels, relationships with their types, and paths of both."""
    for n, c, a in ask(demo, "inputs_picture"):
        assert (n["labels"], c["type"], a["labels"]) == (["Neuron"], "CONNECTS", ["Neuron"])
        assert (n["id"], c["run"]) == ("w0/hidden1/5", "w0")
    assert [row[0] for row in ask(demo, "inputs")] == [a["id"] for _, _, a in ask(demo, "inputs_picture")]
    for (path,), child, parent in zip(ask(demo, "family_tree"), ("w1", "w2"), ("w0", "w1"), strict=True):
        assert [node["id"] for node in path["nodes"]] == [child, f"{parent}@0", parent]
        assert [edge["type"] for edge in path["relationships"]] == ["DESCENDS_FROM", "HAS_SNAPSHOT"]


def test_no_question_scans_all_neurons(demo: Archive, target: Target) -> None:
    """Neo4j's plans begin at an index wherever neurons or connections are read; the embedded engine shows no plans."""
    if not target.name.startswith("neo4j"):
        return
    store = demo._store
    with store._driver.session(database=store._connection.database) as session:
        # Plans follow what indexes were counted to hold, and a busy server counts late.
        session.run("CALL db.prepareForReplanning(60)").consume()
        for query in QUERIES.values():
            plan = session.run("EXPLAIN " + query.text, dict(query.example)).consume().plan
            for kind, details in operators(plan):
                assert "AllNodesScan" not in kind, query.name
                assert "Scan" not in kind or not re.search("Neuron|CONNECTS", details), (query.name, kind, details)


def operators(plan: Any) -> Iterator[tuple[str, str]]:
    yield plan["operatorType"], str(plan.get("args", {}).get("Details", ""))
    for child in plan.get("children", []):
        yield from operators(child)


def test_a_removed_run_is_in_no_answer_but_those_that_name_it(demo: Archive) -> None:
    """Until it is brought back; whoever asks for it by its name is told of it."""
    removed = ["static", "w1", "w2"]
    asked = [name for name, query in QUERIES.items() if not any(run in str(query.example) for run in removed)]
    before = {name for name in asked if any(f"'{run}" in str(ask(demo, name)) for run in removed)}
    assert before >= {
        "best_snapshots",
        "counterparts",
        "descendants",
        "family_tree",
        "nearest",
        "same_topology",
        "shared_masks",
    }
    demo.remove_runs(removed)
    try:
        after = {name for name in asked if any(f"'{run}" in str(ask(demo, name)) for run in removed)}
    finally:
        demo.bring_back(removed)
    assert after == set()
