"""Pushing snapshots: what is added, what changes nothing, what is refused with nothing written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from tests.histories import random_history
from tests.pushed import assert_projected, assert_snapshots, push
from tests.stores import Target, contents
from topostrata.archive import Archive
from topostrata.errors import (
    ConflictError,
    InvalidInputError,
    InvalidRefError,
    LineageCycleError,
    NotFoundError,
    StepOrderError,
    TopostrataError,
)
from topostrata.runs import Parent
from topostrata.topology import Layer, Mask, Space, Topology

A = Topology.from_masks([np.eye(3), np.ones((3, 2))])
B = Topology.from_masks([np.ones((3, 3)), np.eye(3, 2)])


def refused(archive: Archive, error: type[TopostrataError], match: str, act: Callable[[], object]) -> None:
    """The act raises that error, and the database is afterwards what it was before."""
    before = unguarded(archive)
    with pytest.raises(error, match=match):
        act()
    assert unguarded(archive) == before


def unguarded(archive: Archive) -> list[object]:
    """The contents without what only says who wrote last."""
    quiet = {"guard", "writer_epoch", "writer_batch", "half_written"}
    return [
        (kind, [p for p in properties if p[0] not in quiet], *ends) for kind, properties, *ends in contents(archive)
    ]


def test_a_pushed_snapshot_is_there_for_everybody(archive: Archive, target: Target) -> None:
    """After ``push`` a client that knows nothing reads the same topology, step, epoch, metrics and time."""
    moment = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=timezone(timedelta(hours=5)))
    assert archive.push("w0", 7, A, epoch=1.5, metrics={"accuracy": 0.5, "loss": 2}, recorded_at=moment) == "added"
    with target.open() as other:
        snapshot = other.snapshot("w0@7")
        assert (snapshot.run, snapshot.step, snapshot.digest, snapshot.nnz) == ("w0", 7, A.digest, 9)
        assert (snapshot.epoch, snapshot.metrics) == (1.5, {"accuracy": 0.5, "loss": 2.0})
        assert snapshot.recorded_at == moment
        assert snapshot.recorded_at.utcoffset() == timedelta(0)
        assert other.topology("w0") == A
        assert list(other.verify()) == []


def test_a_first_push_makes_the_run(archive: Archive) -> None:
    """A run needs no declaration: it is open, named by its id, without config, tags or parents."""
    archive.push("w0", 3, A)
    run = archive.run("w0")
    assert (run.name, run.status, run.config, run.tags, run.parents) == ("w0", "open", {}, (), ())
    assert (run.snapshots, run.first_step, run.last_step) == (1, 3, 3)
    assert abs(datetime.now(UTC) - run.created_at) < timedelta(minutes=10)


def test_the_same_snapshot_again_changes_nothing(archive: Archive, target: Target) -> None:
    """Same run, step and topology: ``unchanged``, from this client and from any other, at any recorded step."""
    archive.push("w0", 0, A, metrics={"loss": 1.0})
    archive.push("w0", 5, B)
    before = unguarded(archive)
    with target.open() as other:
        for client in (archive, other):
            assert client.push("w0", 0, A, metrics={"loss": 1.0}, epoch=3) == "unchanged"
            assert client.push("w0", 5, B) == "unchanged"
            assert client.push("w0", 0, A) == "unchanged"
    assert unguarded(archive) == before


def test_another_topology_at_a_recorded_step_is_a_conflict(archive: Archive) -> None:
    """The error shows both digests; nothing is written."""
    archive.push("w0", 0, A)
    archive.push("w0", 5, B)
    for step, other in ((0, B), (5, A)):
        refused(
            archive,
            ConflictError,
            rf"w0@{step}.*{other.digest[:12]}",
            lambda s=step, t=other: archive.push("w0", s, t),  # type: ignore[misc]
        )


def test_a_step_before_the_last_is_refused_with_the_way_out(archive: Archive, target: Target) -> None:
    """Steps only grow: a smaller one, also between two recorded ones, is refused with the hint to fork."""
    archive.push("w0", 5, A)
    archive.push("w0", 9, B)
    for step in (0, 4, 6, 8):
        refused(archive, StepOrderError, r"last one, 9.*fork", lambda s=step: archive.push("w0", s, A))  # type: ignore[misc]
    with target.open() as other:
        refused(other, StepOrderError, "last one, 9", lambda: other.push("w0", 6, A))
    assert issubclass(StepOrderError, ConflictError)


def test_metrics_can_be_added_later_and_never_changed(archive: Archive) -> None:
    """New names are added to a recorded snapshot; another value of a recorded one is a conflict, nothing is written."""
    archive.push("w0", 0, A, metrics={"loss": 1.0})
    assert archive.push("w0", 0, A, metrics={"accuracy": 0.25}) == "unchanged"
    assert archive.push("w0", 0, A, metrics={"accuracy": 0.25, "loss": 1.0}) == "unchanged"
    refused(
        archive, ConflictError, r"'loss'.*1\.0.*2\.0",
        lambda: archive.push("w0", 0, A, metrics={"other": 3.0, "loss": 2.0}),
    )  # fmt: skip
    assert archive.snapshot("w0@0").metrics == {"accuracy": 0.25, "loss": 1.0}


def test_a_snapshot_never_has_more_than_64_metrics(archive: Archive) -> None:
    """Neither at once nor by adding to those that are there."""
    archive.push("w0", 0, A, metrics={f"m{k}": float(k) for k in range(63)})
    assert archive.push("w0", 0, A, metrics={"m0": 0.0, "last": 1.0}) == "unchanged"
    refused(archive, InvalidInputError, "at most 64", lambda: archive.push("w0", 0, A, metrics={"more": 1.0}))
    refused(
        archive,
        InvalidInputError,
        "at most 64",
        lambda: archive.push("w0", 1, A, metrics={f"m{k}": 0.0 for k in range(65)}),
    )
    assert len(archive.snapshot("w0@0").metrics) == 64


@pytest.mark.parametrize(
    ("run", "step", "metrics", "error"),
    [
        ("", 0, {}, InvalidRefError),
        ("a/b", 0, {}, InvalidRefError),
        ("w@1", 0, {}, InvalidRefError),
        ("w" * 129, 0, {}, InvalidRefError),
        ("w", -1, {}, InvalidRefError),
        ("w", 2**53, {}, InvalidRefError),
        ("w", True, {}, InvalidRefError),
        ("w", 0, {"loss": float("nan")}, InvalidInputError),
        ("w", 0, {"Loss": 1.0}, InvalidInputError),
    ],
)
def test_what_cannot_be_named_or_counted_is_refused(
    archive: Archive, run: str, step: int, metrics: dict[str, float], error: type[TopostrataError]
) -> None:
    """Ids, steps and metrics that break a rule reach no database."""
    refused(archive, error, "expected", lambda: archive.push(run, step, A, metrics=metrics))


def test_the_largest_step_and_the_oddest_names_come_back(archive: Archive) -> None:
    """2**53 - 1, a run of 128 characters, and names of layers and spaces that look like code."""
    run = "w." + "-" * 126
    spaces = [Space("a/b", 2, labelled=True), Space("`c`'\"{$x}", 3), Space("\N{GREEK SMALL LETTER ALPHA}\\n;//", 2)]
    layers = [
        Layer("it's `odd`", spaces[0], spaces[1], Mask(2, 3, np.array([0, 5]))),
        Layer("$run \N{SNOWMAN}", spaces[1], spaces[2], Mask(3, 2, np.array([1, 2, 7, 11]), 2)),
    ]
    topology = Topology(tuple(layers))
    archive.push(run, 0, topology)
    archive.push(run, 2**53 - 1, topology)
    assert archive.topology(f"{run}@{2**53 - 1}") == topology
    assert list(archive.verify()) == []


def other_wirings() -> dict[str, Topology]:
    """A as another network would have it."""
    first, second = A.layers
    x, h, y = first.source, first.target, second.target
    wide = Space("hidden1", 4)
    return {
        "one layer less": Topology((first,)),
        "one more": Topology((first, second, dataclasses.replace(second, name="l2"))),
        "another name": Topology((dataclasses.replace(first, name="first"), second)),
        "another width": Topology.from_masks([np.eye(3, 4), np.ones((4, 2))]),
        "more taps": Topology((dataclasses.replace(first, mask=Mask(3, 3, np.array([0]), 2)), second)),
        "not labelled": Topology((dataclasses.replace(first, source=Space(x.name, 3)), second)),
        "another space": Topology((first, Layer("l1", h, Space("out", y.size, labelled=True), second.mask))),
        "another source": Topology((Layer("l0", x, wide, Mask(3, 4, np.array([0]))), Layer("l1", x, y, second.mask))),
    }


@pytest.mark.parametrize("change", other_wirings())
def test_a_runs_layers_never_change(archive: Archive, target: Target, change: str) -> None:
    """Other layers than the run's first snapshot had are a conflict that names what differs and the way out."""
    archive.push("w0", 0, A)
    topology = other_wirings()[change]
    match = r"(expected its 2 layers, found|expected layer 'l[01]').*another run"
    refused(archive, ConflictError, match, lambda: archive.push("w0", 1, topology))
    with target.open() as other:
        refused(other, ConflictError, match, lambda: other.push("w0", 1, topology))
        assert other.push("w0", 1, B) == "added"


def test_a_run_is_declared_with_name_config_tags_and_parents(archive: Archive, target: Target) -> None:
    """All of it reads back, config as it was in JSON, tags in their order, parents with step and how."""
    config = {"lr": 0.1, "layers": [3, 2], "nested": {"\N{SNOWMAN}": None, "yes": True}, "text": "it's"}
    archive.push("w0", 0, A)
    archive.push("w0", 4, B)
    parents = [Parent("w0", 4, "fork"), Parent("w0", 0, "perturbation")]
    archive.create_run("w1", name="second", config=config, tags=["b", "a:1"], parents=parents)
    with target.open() as other:
        run = other.run("w1")
        assert (run.name, run.config, run.tags) == ("second", config, ("b", "a:1"))
        assert set(run.parents) == set(parents)
        assert (run.snapshots, run.first_step, run.last_step, run.status) == (0, None, None, "open")


def test_an_update_adds_tags_and_parents_and_says_whether_it_did(archive: Archive) -> None:
    """Tags are joined, parents added, the status set; what is there already changes nothing, a conflict neither."""
    archive.push("w0", 0, A)
    archive.create_run("w1", name="n", config={"a": 1}, tags=["x"])
    assert archive.update_run("w1", tags=["y", "x"]) is True
    assert archive.update_run("w1", parents=[Parent("w0", 0, "fork")]) is True
    assert archive.update_run("w1", parents=[Parent("w0", 0, "fork")], tags=["x"], status="open") is False
    assert archive.update_run("w1", status="finished") is True
    run = archive.run("w1")
    assert (run.name, run.config, run.tags, run.status) == ("n", {"a": 1}, ("x", "y"), "finished")
    assert run.parents == (Parent("w0", 0, "fork"),)
    refused(
        archive, ConflictError, "'fork' already, not by 'pruned'",
        lambda: archive.update_run("w1", parents=[Parent("w0", 0, "pruned")], tags=["z"]),
    )  # fmt: skip
    refused(archive, NotFoundError, "'w2'", lambda: archive.update_run("w2", tags=["z"]))
    refused(
        archive, InvalidInputError, "status of 'w1'",
        lambda: archive.update_run("w1", status="over"),  # type: ignore[arg-type]
    )  # fmt: skip


def test_a_run_is_made_once(archive: Archive) -> None:
    """A second run of an id is refused, whether the first was made or pushed to, and nothing is added to it."""
    archive.create_run("w1", tags=["x"])
    archive.push("w0", 0, A)
    for run in ("w0", "w1"):
        refused(archive, ConflictError, f"'{run}'.*update_run", lambda r=run: archive.create_run(r, tags=["z"]))  # type: ignore[misc]


def test_a_run_that_cannot_be_declared_is_not_made(archive: Archive) -> None:
    """An unknown parent, a bad tag, a config that JSON cannot hold, an unknown how: an error, and no run."""
    archive.push("w0", 0, A)
    refused(archive, NotFoundError, "w0@3", lambda: archive.create_run("w1", parents=[Parent("w0", 3, "fork")]))
    refused(archive, NotFoundError, "v@0", lambda: archive.create_run("w1", parents=[Parent("v", 0, "fork")]))
    refused(archive, InvalidInputError, "tag", lambda: archive.create_run("w1", tags=["a b"]))
    refused(archive, InvalidInputError, "config", lambda: archive.create_run("w1", config={"a": {1, 2}}))
    refused(archive, InvalidInputError, "config", lambda: archive.create_run("w1", config={"a": float("nan")}))
    refused(archive, InvalidRefError, "run id", lambda: archive.create_run("w 1"))
    refused(
        archive, InvalidInputError, "expected one of resume",
        lambda: archive.create_run("w1", parents=[Parent("w0", 0, "stolen")]),  # type: ignore[arg-type]
    )  # fmt: skip


def test_no_run_becomes_its_own_ancestor(archive: Archive) -> None:
    """A parent that descends from the run, near or far, or that is the run itself, is refused."""
    for k in range(4):
        archive.push(f"w{k}", 0, A)
        if k:
            archive.update_run(f"w{k}", parents=[Parent(f"w{k - 1}", 0, "fork")])
    for child in range(4):
        for parent in range(child, 4):
            refused(
                archive, LineageCycleError, rf"'w{child}'.*w{parent}@0",
                lambda c=child, p=parent: archive.update_run(f"w{c}", parents=[Parent(f"w{p}", 0, "declared")]),  # type: ignore[misc]
            )  # fmt: skip
    archive.update_run("w3", parents=[Parent("w0", 0, "declared")])
    assert list(archive.verify()) == []


def test_many_runs_stand_beside_each_other(archive: Archive, target: Target) -> None:
    """Runs that share names of layers and spaces, and masks, keep their snapshots and connections apart."""
    histories = {f"w{k}": random_history(k % 3) for k in range(5)}
    for run, history in histories.items():
        assert push(archive, run, history) == ["added"] * len(history.steps)
    with target.open() as other:
        for run, history in histories.items():
            assert_snapshots(other, run, history, history.steps)
            assert_projected(other, run, history)
        assert list(other.verify()) == []
