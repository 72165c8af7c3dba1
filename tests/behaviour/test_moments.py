"""An archive is asked about an earlier moment: the answers are those of then, whatever came since."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.histories import sparse_history
from tests.stores import Target, tell
from topostrata.archive import Archive
from topostrata.errors import ConflictError, InvalidInputError, QueryRefusedError, TopostrataError
from topostrata.ingest.transfer import ArchiveRuns
from topostrata.refs import Ref
from topostrata.runs import Parent, RunFilter
from topostrata.service.cli.main import app
from topostrata.store.past import Past

HISTORY = sparse_history(3, snapshots=12, widths=[6, 5, 3], density=0.4, churn=0.2)
NETWORKS = [topology for _, topology in HISTORY.snapshots]
RUNS = ["w0", "w1", "w2"]


def outcome(ask: Callable[[], Any]) -> str:
    """An answer, or the error that stands for it."""
    try:
        return repr(ask())
    except TopostrataError as error:
        return f"{type(error).__name__}: {error}"


def answers(archive: Archive) -> dict[str, str]:
    """What an archive says to questions of each kind that an earlier moment can answer."""
    questions: dict[str, Callable[[], Any]] = {
        "runs": archive.runs,
        "tagged": lambda: archive.runs(RunFilter(tags=("a",))),
        "finished": lambda: archive.runs(RunFilter(status="finished")),
        "from step 3": lambda: archive.runs(RunFilter(step_from=3)),
        "with loss": lambda: archive.runs(RunFilter(metric="loss", at_least=0.0)),
        "two runs": lambda: archive.runs_page(limit=2, after="w0"),
        "lineage": archive.lineage,
        "last": lambda: archive.expand(["w*@last"]),
        "every": lambda: archive.expand(["*@*"]),
        "distances": lambda: repr(archive.distances("*@last", alignment="identity", keep=False).nnstd),
        "kinship": lambda: archive.kinship("w0", "w1"),
        "nnstd": lambda: archive.nnstd("w0", "w1@first", alignment="identity", keep=False),
    }
    for run in RUNS:
        questions |= {
            f"{run}": lambda r=run: archive.run(r),  # type: ignore[misc]
            f"{run} there": lambda r=run: archive.has_run(r),  # type: ignore[misc]
            f"{run} snapshots": lambda r=run: archive.snapshots(r),  # type: ignore[misc]
            f"{run} page": lambda r=run: archive.snapshots_page(r, limit=2, after=0),  # type: ignore[misc]
            f"{run} metrics": lambda r=run: archive.metrics(r),  # type: ignore[misc]
            f"{run} one metric": lambda r=run: archive.metrics_page(r, metric="loss", limit=1, after=0),  # type: ignore[misc]
            f"{run} beside": lambda r=run: list(archive.step_metrics(r)),  # type: ignore[misc]
            f"{run} layers": lambda r=run: [layer.shape for layer in archive.layers(r)],  # type: ignore[misc]
            f"{run} evolution": lambda r=run: archive.evolution(r, through_parents=True),  # type: ignore[misc]
            f"{run} last": lambda r=run: archive.topology(r).digest,  # type: ignore[misc]
            f"{run}@2": lambda r=run: archive.snapshot(f"{r}@2"),  # type: ignore[misc]
        }
    return {name: outcome(ask) for name, ask in questions.items()}


def change(archive: Archive, rng: random.Random, losses: dict[tuple[str, int], float]) -> None:
    """Something that a user does to an archive; what is refused changes nothing."""
    run, other = rng.sample(RUNS, 2)
    step, name = rng.randrange(12), rng.choice(["loss", "accuracy", "flow"])
    value = losses.setdefault((name, step), rng.random())  # a metric keeps its value
    of_layer = {rng.choice(["l0", "l1"]): {name: value}}
    deeds: list[Callable[[], Any]] = [
        lambda: archive.push(run, step, NETWORKS[step], metrics={name: value}, layer_metrics=of_layer),
        lambda: archive.push(run, step, NETWORKS[step], layer_metrics=of_layer),
        lambda: archive.push_metrics(run, step, {name: value}, layer_metrics={"bias": {name: value}}),
        lambda: archive.update_run(run, tags=[rng.choice("abc")], without_tags=[rng.choice("abc")]),
        lambda: archive.update_run(run, name=rng.choice("xyz"), status=rng.choice(["open", "finished", "failed"])),
        lambda: archive.update_run(
            run, parents=[Parent(other, archive.run(other).first_step or 0, rng.choice(["fork", "resume"]))]
        ),
        lambda: archive.update_run(run, without_parents=[Ref(p.run, p.step) for p in archive.run(run).parents]),
        lambda: archive.create_run(run, tags=["a"]),
        lambda: archive.remove_runs([run]),
        lambda: archive.bring_back([run]),
    ]
    with suppress(TopostrataError):
        rng.choices(deeds, weights=[8, 2, 4, 2, 2, 3, 1, 1, 1, 3])[0]()


def test_a_moment_is_answered_as_it_was_then(archive: Archive) -> None:
    """Seeded changes of every kind; each answer about a moment is the one that was given at that moment, to the bit."""
    rng, losses = random.Random(1), dict[tuple[str, int], float]()
    then: dict[int, dict[str, str]] = {}
    views: dict[int, Archive] = {}
    for k in range(60):
        change(archive, rng, losses)
        if k in {2, 15, 30, 45, 59}:
            moment = archive.moment()
            then[moment], views[moment] = answers(archive), archive.at(moment)
    kinds = {entry.kind for entry in archive.changes()}
    assert kinds == {"run", "snapshot", "metrics", "step-metrics", "name", "status", "tags", "parent", "removed"}
    assert len({repr(answer) for answer in then.values()}) == len(then) == 5
    for moment, answer in then.items():
        assert answers(views[moment]) == answer
    assert answers(archive.at(min(then))) == then[min(then)]  # by who looked at nothing before


def test_changes_are_listed_in_the_order_of_their_acknowledgement(archive: Archive) -> None:
    """What changes nothing has no moment; what one transaction changed has one, whole, beyond a limit too."""
    assert (archive.moment(), archive.changes()) == (0, [])
    archive.push("w0", 0, NETWORKS[0])
    archive.push("w0", 0, NETWORKS[0])
    archive.update_run("w0", tags=["a"], status="finished", name="zero")
    archive.update_run("w0", tags=["a"])
    with pytest.raises(ConflictError):
        archive.create_run("w0")
    archive.push("w0", 0, NETWORKS[0], metrics={"loss": 0.5})
    archive.remove_runs(["w0"])
    archive.bring_back(["w0"])
    listed = [(entry.moment, entry.kind, entry.ref) for entry in archive.changes()]
    assert listed == [
        (1, "run", "w0"), (1, "snapshot", "w0@0"), (2, "name", "w0"), (2, "tags", "w0"), (2, "status", "w0"),
        (3, "metrics", "w0@0"), (4, "removed", "w0"), (5, "removed", "w0"),
    ]  # fmt: skip
    assert [entry.moment for entry in archive.changes(1, limit=1)] == [2, 2, 2]
    assert [entry.moment for entry in archive.changes(3, limit=9)] == [4, 5]
    assert archive.at(3).changes(2) == archive.changes(2)[:1]
    assert (archive.at(3).moment(), archive.moment()) == (3, 5)
    with pytest.raises(InvalidInputError, match="expected a moment from 0"):
        archive.changes(-1)


def test_later_changes_are_read_once_and_passed_over(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run took metrics at 2,500 steps since: a page of one is what follows them, also of who asks anew."""
    archive.push("w0", 0, NETWORKS[0])
    archive.push_metrics("w0", 4000, {"loss": 0.5})
    then = archive.moment()
    tell(
        archive,
        "MATCH (r:Run {id: 'w0'}) UNWIND range(1, 2500) AS step CREATE (r)-[:HAS_METRICS]->(:StepMetrics "
        "{id: 'w0@' + toString(step), run: 'w0', step: step, recorded_at: '2026-01-01T00:00:00.000+00:00', "
        "metric_loss: 0.5}) CREATE (:Change {moment: $moment, place: step, at: '2026-01-01T00:00:00.000+00:00', "
        "kind: 'step-metrics', run: 'w0', step: step, details: $details})",
        moment=then + 1,
        details=json.dumps({"new": True, "names": ["loss"], "layers": {}}),
    )
    tell(archive, "MATCH (k:Clock) SET k.last = $moment", moment=then + 1)
    view = archive.at(then)
    assert [entry.step for entry in view.metrics_page("w0", limit=1, after=0)] == [4000]
    monkeypatch.setattr(Past, "_note", None)
    assert archive.at(then).metrics_page("w0", limit=1, after=4000) == []
    assert len(archive.at(then + 1).metrics("w0", metric="loss")) == 2501


def test_writers_at_once_share_one_order(archive: Archive, target: Target) -> None:
    """Three clients push at once: every moment from 1 on is given, each once; a view of the middle stays as it was."""
    pushes = 6
    with ExitStack() as stack:
        clients = [stack.enter_context(target.open()) for _ in RUNS]

        def work(client: Archive, run: str) -> None:
            for step in range(pushes):
                client.push(run, step, NETWORKS[step], projection="none")

        with ThreadPoolExecutor(len(RUNS)) as pool:
            for job in [pool.submit(work, client, run) for client, run in zip(clients, RUNS, strict=True)]:
                job.result()
    listed = [entry for entry in archive.changes() if entry.kind == "snapshot"]
    assert [entry.moment for entry in listed] == list(range(1, len(RUNS) * pushes + 1))
    middle = len(listed) // 2
    there = {snapshot.id for run in archive.at(middle).runs() for snapshot in archive.at(middle).snapshots(run.id)}
    assert there == {entry.ref for entry in listed[:middle]}


def test_what_cannot_be_asked_of_a_moment_is_refused(archive: Archive) -> None:
    """Cypher, what only now can answer, what would write, a moment to come: each with the reason."""
    archive.push("w0", 0, NETWORKS[0])
    view = archive.at(1)
    with pytest.raises(QueryRefusedError, match="sees the graph as it is now"):
        view.cypher("RETURN 1 AS x")
    for ask in (view.counts, view.states, view.unprojected, view.inference, view.removed_runs, view.py2neo):
        with pytest.raises((InvalidInputError, QueryRefusedError), match="moment 1"):
            ask()
    for write in (
        lambda: view.push("w0", 1, NETWORKS[1]),
        lambda: view.update_run("w0", tags=["a"]),
        lambda: view.remove_runs(["w0"]),
        lambda: view.match("w0", "w0", keep=True),
    ):
        with pytest.raises(InvalidInputError, match="moment 1: expected a question"):
            write()
    for moment in (2, -1):
        with pytest.raises(InvalidInputError, match=f"expected 0 to 1, found {moment}: "):
            archive.at(moment)
    with pytest.raises(InvalidInputError, match="expected a whole number, found True"):
        archive.at(True)
    assert archive.at(1).at(0).runs() == []
    assert archive.moment() == 1


def test_verbs_answer_as_of_a_moment(archive: Archive, target: Target) -> None:
    """With --as-of each verb says what it said before the changes, and with --json which moment it was."""

    def typed(*words: str) -> str:
        command = [*words, "--store", target.uri]
        result = CliRunner().invoke(app, command, env=target.environment)
        return result.stdout + repr(result.exception)

    for run in ("w0", "w1"):
        for step in range(3):
            archive.push(run, step, NETWORKS[step], metrics={"loss": step / 4})
    verbs = [
        ["ls"], ["lineage"], ["ls", "w0"], ["evolution", "w0"], ["metrics", "w0"],
        ["nnstd", "w0", "w1", "--alignment", "identity"], ["check", "w0", "--as", "w0@2"],
    ]  # fmt: skip
    before, exported = [typed(*verb) for verb in verbs], ArchiveRuns(archive, None).records
    assert not any("Error" in said for said in before)
    archive.push("w0", 9, NETWORKS[5])
    archive.update_run("w1", tags=["late"], parents=[Parent("w0", 1, "fork")])
    assert [typed(*verb, "--as-of", "6") for verb in verbs] == before
    assert ArchiveRuns(archive.at(6), None).records == exported
    assert all(typed(*verb) != said for verb, said in zip(verbs[:4], before[:4], strict=True))
    assert json.loads(typed("ls", "--as-of", "6", "--json").removesuffix("None"))["as_of"] == 6
    listed = json.loads(typed("changes", "--since", "6", "--json").removesuffix("None"))
    assert (listed["moment"], [entry["kind"] for entry in listed["changes"]]) == (8, ["snapshot", "tags", "parent"])
    assert "late" not in typed("changes", "--since", "6")
    assert "before: -" in typed("changes", "--since", "6")
    assert "sees the graph as it is now" in typed("cypher", "RETURN 1 AS x", "--as-of", "6")


def test_a_purge_ends_what_can_be_asked(archive: Archive) -> None:
    """What is purged is gone from the past as well: moments before are refused with the earliest that is left."""
    for run in ("w0", "w1"):
        archive.push(run, 0, NETWORKS[0])
    view = archive.at(2)
    archive.purge_runs(["w1"])
    for ask in (view.runs, lambda: archive.at(2)):
        with pytest.raises(InvalidInputError, match="expected 4 to 4, found 2: what was purged since"):
            ask()
    assert [(entry.moment, entry.kind, entry.run) for entry in archive.changes()] == [
        (1, "run", "w0"), (1, "snapshot", "w0"), (4, "purged", "w1"),
    ]  # fmt: skip
    archive.push("w1", 3, NETWORKS[1])
    assert [run.id for run in archive.at(4).runs()] == ["w0"]
    assert archive.at(5).snapshot("w1").step == 3


def test_an_archive_of_before_counts_from_its_next_change_on(archive: Archive) -> None:
    """What it held before counts as having been there always."""
    archive.push("w0", 0, NETWORKS[0])
    tell(archive, "MATCH (n:Change) DETACH DELETE n")
    tell(archive, "MATCH (n:Clock) DETACH DELETE n")
    assert (archive.moment(), archive.at(0).snapshot("w0").step) == (0, 0)
    archive.push("w0", 1, NETWORKS[1])
    assert [(entry.moment, entry.ref) for entry in archive.changes()] == [(1, "w0@1")]
    assert (archive.at(0).snapshot("w0").step, archive.at(1).snapshot("w0").step) == (0, 1)
