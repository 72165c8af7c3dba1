"""The projection: connections with their lifetimes in the graph, as far as it says it goes and never silently less."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from tests.histories import History, random_history, sparse_history
from tests.pushed import (
    assert_projected,
    assert_readable_up_to_projected,
    assert_snapshots,
    lifetimes,
    push,
)
from tests.stores import Target, reading, tell
from topostrata import queries
from topostrata.archive import Archive
from topostrata.errors import CorruptError, NotFoundError
from topostrata.ingest import projection, transform
from topostrata.ingest.load import Loader
from topostrata.topology import Topology


def lags(archive: Archive) -> dict[tuple[str, str], tuple[str, int | None, int]]:
    """What ``unprojected`` says, by run and layer."""
    return {(lag.run, lag.layer): (lag.projection, lag.projected_step, lag.last_step) for lag in archive.unprojected()}


@pytest.mark.parametrize("seed", range(10))
def test_lifetimes_in_the_graph_are_those_of_plain_sets(archive: Archive, target: Target, seed: int) -> None:
    """After every push each connection's lives stand in the graph once, with birth and death, all layers up to date."""
    history = random_history(100 + seed)
    for at, (step, topology) in enumerate(history.snapshots, start=1):
        archive.push("w0", step, topology)
        assert_projected(archive, "w0", History(history.seed, history.snapshots[:at]))
    with target.open() as fresh:
        assert_readable_up_to_projected(fresh, "w0", history)
        assert list(fresh.verify()) == []


@pytest.mark.parametrize("batch", [1, 3, 50])
def test_batches_of_any_size_give_the_same_graph(archive: Archive, monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    """Where a batch ends does not matter."""
    monkeypatch.setattr(projection, "_BATCH", batch)
    monkeypatch.setattr(projection, "_NEURONS", batch)
    monkeypatch.setattr(projection, "_DEATHS", batch)
    history = random_history(7, snapshots=4, most=5)
    push(archive, "w0", history)
    assert_projected(archive, "w0", history)


def test_connections_that_share_a_key_die_one_by_one(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a layer of more possible connections than there are keys, the one that died is told apart by its turn."""
    monkeypatch.setattr(transform, "KEYS", 7)
    history = random_history(13, snapshots=5)
    assert max(layer.shape.possible for layer in history.layers) > 7
    push(archive, "w0", history)
    assert_projected(archive, "w0", history)
    assert list(archive.verify()) == []


def test_an_archive_without_the_index_of_the_living_gets_it_with_its_next_connections(
    archive: Archive, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embedded engine had none before; without it every death would read all connections of the archive.

    A server has had it from the beginning, and is asked for no change of its schema.
    """
    history = random_history(14, snapshots=3)
    push(archive, "w0", History(history.seed, history.snapshots[:2]))
    if archive._store.is_embedded:
        tell(archive, "DROP INDEX connects_alive IF EXISTS")
    with target.open() as other:
        if not archive._store.is_embedded:
            monkeypatch.delattr(other._store.__class__, "schema")
        push(other, "w0", history)
        assert_projected(other, "w0", history)
    if archive._store.is_embedded:
        text = queries.load("projection/set_deaths").text
        numbers: dict[str, Any] = dict.fromkeys(("step", "turn", "begin", "sources", "taps", "stride", "modulus"), 1)
        with reading(archive) as session:
            plan = session.run(f"EXPLAIN {text}", run="w0", layer="l0", keys=[1, 2], **numbers).consume().plan
        assert "MATCH EDGE BY INDEX" in str(plan)


def test_snapshots_acknowledged_together_are_projected_in_one_go(archive: Archive) -> None:
    """What was only acknowledged is truth already; a projection later brings every layer up over all steps."""
    history = random_history(11, snapshots=7)
    loader = Loader(archive._store, archive._masks)
    for step, topology in history.snapshots:
        assert loader.acknowledge("w0", step, topology) == "added"
    assert_snapshots(archive, "w0", history, history.steps)
    assert {lag[1:] for lag in lags(archive).values()} == {(None, history.steps[-1])}
    assert list(archive.verify()) == [], "a projection that is behind is no damage"
    assert archive.push("w0", history.steps[-1], history.at(history.steps[-1])) == "unchanged"
    assert_projected(archive, "w0", history)


def test_without_projection_nothing_but_masks_is_stored(archive: Archive, target: Target) -> None:
    """``none``: no neurons, no connections, every layer says that it is behind, and so for all later snapshots."""
    history = random_history(3, snapshots=4)
    for step, topology in history.snapshots:
        archive.push("w0", step, topology, projection="none")
        assert lags(archive) == {("w0", y.name): ("off", None, step) for y in history.layers}
    assert archive.counts().neurons == 0
    with target.open() as other:
        other.push("w0", history.steps[-1] + 1, history.at(history.steps[0]))
        assert {lag[0] for lag in lags(other).values()} == {"off"}
        assert_snapshots(other, "w0", History(0, (*history.snapshots, (history.steps[-1] + 1, history.snapshots[0][1]))),
                         [*history.steps, history.steps[-1] + 1])  # fmt: skip
        assert list(other.verify()) == []


def test_only_chosen_layers_are_projected(archive: Archive) -> None:
    """The others say that they are behind; the chosen ones are complete."""
    history = sparse_history(1, snapshots=4, widths=[6, 5, 4, 3], density=0.4, churn=0.3)
    for step, topology in history.snapshots:
        archive.push("w0", step, topology, projection=["l1"])
        assert lags(archive) == {("w0", "l0"): ("off", None, step), ("w0", "l2"): ("off", None, step)}
    assert set(lifetimes(archive, "w0", "l1")) == history.lifetimes("l1")
    assert [lifetimes(archive, "w0", name) for name in ("l0", "l2")] == [[], []]
    assert archive.counts().neurons == 5 + 4
    assert list(archive.verify()) == []


def test_a_layer_that_is_not_there_cannot_be_chosen(archive: Archive) -> None:
    """The error names the layers that are; nothing is written."""
    with pytest.raises(NotFoundError, match=r"'nowhere'.*l0"):
        archive.push("w0", 0, Topology.from_masks([np.eye(2)]), projection=["l0", "nowhere"])
    assert archive.runs() == []


def limited(archive: Archive, history: History, limit: int) -> dict[str, list[tuple[int | None, int]]]:
    """Push under a limit of relationships; gives per layer the (step, connections in the graph) after each push."""
    archive._store.relationship_limit = limit
    told: dict[str, list[tuple[int | None, int]]] = {y.name: [] for y in history.layers}
    for step, topology in history.snapshots:
        archive.push("w0", step, topology)
        for layer in archive.layers("w0"):
            told[layer.name].append((layer.projected_step, layer.lifetimes))
        assert tell(archive, "MATCH ()-[c:CONNECTS]->() RETURN count(c) AS n")[0]["n"] <= limit
    return told


@pytest.mark.parametrize("limit", [0, 60, 100, 130])
def test_at_its_limit_a_layer_stops_and_says_where(archive: Archive, target: Target, limit: int) -> None:
    """Never more relationships than the limit; each layer is whole up to its projected step, and ``unprojected`` lists it."""
    history = sparse_history(4, snapshots=5, widths=[10, 8, 6], density=0.5, churn=0.4)
    told = limited(archive, history, limit)
    stopped = {name for name, steps in told.items() if steps[-1][0] != history.steps[-1]}
    assert stopped
    assert lags(archive) == {("w0", n): ("limit", told[n][-1][0], history.steps[-1]) for n in stopped}
    for name, steps in told.items():
        upto = steps[-1][0]
        early = {(c, born, None if died is None or died > upto else died)
                 for c, born, died in lifetimes(archive, "w0", name) if upto is not None and born <= upto}  # fmt: skip
        assert early == (set() if upto is None else history.lifetimes(name, upto))
        for (before, _), (after, _) in pairwise(steps):
            assert before is None or (after is not None and after >= before)
    with target.open() as fresh:
        assert_snapshots(fresh, "w0", history, history.steps)
        assert_readable_up_to_projected(fresh, "w0", history)
        assert list(fresh.verify()) == []


def test_a_layer_that_stopped_stays_where_it_is(archive: Archive, target: Target) -> None:
    """A client with a higher limit does not go on in the middle of a run."""
    history = sparse_history(4, snapshots=5, widths=[10, 8], density=0.5, churn=0.4)
    archive._store.relationship_limit = 60
    for step, topology in history.snapshots[:4]:
        archive.push("w0", step, topology)
    before = lags(archive)
    assert before[("w0", "l0")][:2] == ("limit", 1)
    with target.open() as other:
        other.push("w0", 4, history.at(4))
        assert lags(other) == {("w0", "l0"): ("limit", 1, 4)}


def test_the_limit_stands_after_the_steps_before_it(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer is marked as stopped in the same batch as, or after, the last step it took, and by its projector alone."""
    history = sparse_history(4, snapshots=5, widths=[10, 8], density=0.5, churn=0.4)
    loader = Loader(archive._store, archive._masks)
    for step, topology in history.snapshots:
        loader.acknowledge("w0", step, topology)
    archive._store.relationship_limit = 60

    def die(*_: object) -> None:
        raise RuntimeError("killed before the first batch")

    with monkeypatch.context() as patch:
        patch.setattr(projection.Projector, "_write", die)
        with pytest.raises(RuntimeError, match="killed"):
            loader.drawer.project("w0")
    assert lags(archive) == {("w0", "l0"): ("follow", None, 4)}
    loader.drawer.project("w0")
    assert lags(archive) == {("w0", "l0"): ("limit", 1, 4)}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("batch", [2, 7])
def test_a_projection_that_was_cut_anywhere_is_completed(
    archive: Archive, target: Target, monkeypatch: pytest.MonkeyPatch, seed: int, batch: int
) -> None:
    """Cut before every batch in turn: readers are never wrong meanwhile, and the next projector leaves nothing out."""
    monkeypatch.setattr(projection, "_BATCH", batch)
    history = random_history(40 + seed, snapshots=3, most=4)
    loader = Loader(archive._store, archive._masks)
    for step, topology in history.snapshots:
        loader.acknowledge("w0", step, topology)
    write = projection.Projector._write
    left = 0

    def cut(self: Any, work: Any) -> None:
        nonlocal left
        if not left:
            raise RuntimeError("cut")
        left -= 1
        write(self, work)

    with monkeypatch.context() as patch:
        patch.setattr(projection.Projector, "_write", cut)
        for tries in range(1, 200):
            left = 1 + tries % 2
            try:
                loader.drawer.project("w0")
            except RuntimeError:
                with target.open() as fresh:
                    assert_readable_up_to_projected(fresh, "w0", history)
                    assert list(fresh.verify()) == []
            else:
                break
    assert_projected(archive, "w0", history)
    assert list(archive.verify()) == []


def test_a_projector_that_finds_another_graph_than_the_masks_say_stops(archive: Archive, target: Target) -> None:
    """A connection that should die and is not there is a CorruptError that names the place, not a silent skip."""
    archive.push("w0", 0, Topology.from_masks([np.eye(2)]))
    tell(archive, "MATCH (:Neuron {id: 'w0/input/0'})-[c:CONNECTS]->() DELETE c")
    with target.open() as other:
        with pytest.raises(CorruptError, match=r"'w0', layer 'l0', step 1: expected 2 .*died, found 1"):
            other.push("w0", 1, Topology.from_masks([1 - np.eye(2)]))
        assert other.snapshot("w0").step == 1, "acknowledged all the same"
        assert lags(other) == {("w0", "l0"): ("follow", 0, 1)}


def test_a_neuron_that_is_not_there_gets_no_connections_and_none_gets_its(archive: Archive, target: Target) -> None:
    """The targets of a step are looked up by their places in a list: a gap may not shift the others into it."""
    archive.push("w0", 0, Topology.from_masks([np.eye(3)]))
    tell(archive, "MATCH (n:Neuron {id: 'w0/output/0'}) DETACH DELETE n")
    with target.open() as other:
        with pytest.raises(CorruptError, match=r"'w0', layer 'l0', step 1: expected 2 .*born, found 0"):
            other.push("w0", 1, Topology.from_masks([np.array([[1, 1, 0], [0, 1, 0], [1, 0, 1]])]))
        assert other.cypher("MATCH ()-[c:CONNECTS {born_step: 1}]->() RETURN count(c) AS n").rows == [[0]]
