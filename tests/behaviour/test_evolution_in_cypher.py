"""The same questions asked inside the database and of the masks have the same answers, on every store."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.histories import random_history, sparse_history
from tests.pushed import push
from topostrata.archive import Archive
from topostrata.errors import ConflictError, NotFoundError
from topostrata.evolution.survival import ages, lifetimes, survival
from topostrata.runs import Parent


def rows_of(archive: Archive, name: str, **parameters: Any) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in archive._store.read(name, **parameters)]


@pytest.mark.parametrize("seed", range(300, 308))
def test_cypher_and_masks_agree(archive: Archive, seed: int) -> None:
    """Births, deaths, survival, ages, lifetimes, exploration and the counts between two steps, layer by layer."""
    history = random_history(seed)
    push(archive, "r", history)
    followed = archive.history("r")
    first, last = history.steps[0], history.steps[-1]
    middle = history.steps[len(history.steps) // 2]
    spaces = {layer.name: layer.source.name for layer in archive.layers("r")}
    counted = {layer.name: layer for layer in archive.evolution("r", middle, last).layers}
    for layer in followed.layers:
        where = {"run": "r", "layer": layer.name, "space": spaces[layer.name]}
        columns = (layer.steps, layer.alive.tolist(), layer.born.tolist(), layer.died.tolist())
        assert rows_of(archive, "cookbook/births_and_deaths", **where) == list(zip(*columns, strict=True))
        explored = (layer.steps, layer.explored.tolist(), layer.regrown.tolist())
        if layer.explored[-1]:
            # Regrown: born again. At the first snapshot nothing is.
            assert rows_of(archive, "cookbook/explored", **where) == list(zip(*explored, strict=True))
        curve = survival(layer, middle)
        survived = rows_of(archive, "cookbook/survival", **where, **{"from": middle})
        assert survived == list(zip(curve.steps, curve.survived.tolist(), strict=True))
        back = ages(layer, middle)
        older = rows_of(archive, "cookbook/ages", **where, at=middle)
        assert older == list(zip(back.steps, back.older.tolist(), strict=True))
        ended = lifetimes(layer)
        short_lives = rows_of(archive, "cookbook/short_lives", **where, k=10**9)
        assert short_lives == list(zip(ended.age.tolist(), ended.count.tolist(), strict=True))
        (change,) = rows_of(archive, "cookbook/between", **where, **{"from": middle, "to": last})
        count = counted[layer.name]
        assert change == (count.survived, count.regrown, count.died, count.born)
    assert first == followed.moments[0].step


@pytest.mark.parametrize("seed", range(310, 314))
def test_dead_units_and_hubs_agree(archive: Archive, seed: int) -> None:
    """Units without inputs or outputs, and those with the most, by Cypher and by the structure of the snapshot."""
    history = random_history(seed)
    push(archive, "r", history)
    step = history.steps[-1]
    for space in archive.structure("r").spaces:
        no_inputs = set(space.fan_in.dead) if space.fan_in else set(range(space.size))
        no_outputs = set(space.fan_out.dead) if space.fan_out else set(range(space.size))
        dead = rows_of(archive, "cookbook/dead_units", run="r", space=space.name, step=step)
        assert {unit for unit, no_in, _ in dead if no_in} == no_inputs
        assert {unit for unit, _, no_out in dead if no_out} == no_outputs
        if space.fan_in is not None:
            hubs = rows_of(archive, "cookbook/hubs", run="r", space=space.name, step=step, limit=10)
            assert hubs == [(hub.unit, hub.connections) for hub in space.fan_in.hubs]


def test_a_fork_goes_on_where_its_parent_stood(archive: Archive) -> None:
    """The stitched history of a fork is that of one run: a connection's birth may lie in the parent."""
    whole = sparse_history(320, snapshots=8, widths=(12, 10, 6), density=0.3, churn=0.3)
    push(archive, "whole", whole)
    for step, topology in whole.snapshots[:6]:  # goes on after the fork, on its own way
        archive.push("parent", step, topology)
    archive.create_run("child", parents=[Parent("parent", 3, "fork")])
    for step, topology in whole.snapshots[4:]:
        archive.push("child", step, topology)
    stitched, straight = archive.history("child", through_parents=True), archive.history("whole")
    assert [str(m) for m in stitched.moments] == [f"parent@{k}" for k in range(4)] + [f"child@{k}" for k in range(4, 8)]
    for layer, other in zip(stitched.layers, straight.layers, strict=True):
        for name in ("alive", "born", "died", "regrown", "explored", "lives"):
            np.testing.assert_array_equal(getattr(layer, name), getattr(other, name))
    joint = archive.evolution("child", 1, 7, through_parents=True)
    assert joint.from_run == "parent"
    assert joint.layers == archive.evolution("whole", 1, 7).layers
    assert archive.history("child").moments[0].step == 4
    with pytest.raises(NotFoundError, match="child@1"):
        archive.evolution("child", 1, 7)


def test_a_child_that_counts_its_steps_anew_goes_on_in_time(archive: Archive) -> None:
    """Ages are then counted along the joint history."""
    whole = sparse_history(321, snapshots=6, widths=(8, 8), density=0.3, churn=0.2)
    for step, topology in whole.snapshots[:3]:
        archive.push("parent", step, topology)
    archive.create_run("child", parents=[Parent("parent", 2, "resume")])
    for step, topology in whole.snapshots[3:]:
        archive.push("child", step - 3, topology)
    stitched = archive.history("child", through_parents=True)
    assert [moment.time for moment in stitched.moments] == list(range(6))
    assert [str(moment) for moment in stitched.moments][3:] == ["child@0", "child@1", "child@2"]


def test_a_perturbed_network_has_its_own_history(archive: Archive) -> None:
    """Only resumed and forked runs are stitched; two parents to go on from are refused."""
    history = sparse_history(322, snapshots=3, widths=(6, 6), density=0.4, churn=0.2)
    for run in ("a", "b"):
        push(archive, run, history)
    archive.create_run("c", parents=[Parent("a", 1, "perturbation")])
    push(archive, "c", history)
    assert [moment.run for moment in archive.history("c", through_parents=True).moments] == ["c", "c", "c"]
    archive.update_run("c", parents=[Parent("a", 2, "fork"), Parent("b", 2, "fork")])
    with pytest.raises(ConflictError, match="one parent that it continues, found 2"):
        archive.history("c", through_parents=True)
