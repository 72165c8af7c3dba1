"""Masks in the store: stored once, in short chains, in parts where they are large."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from tests.histories import random_mask, replaced, sparse_history
from tests.pushed import assert_snapshots, push
from tests.stores import Target, tell
from topostrata.archive import Archive
from topostrata.store import masks as mask_store
from topostrata.topology import Layer, Mask, Space, Topology


def chain(archive: Archive, run: str) -> list[tuple[str, int]]:
    """(kind, depth) of the mask of the first layer, in the order of the steps."""
    rows = tell(
        archive,
        "MATCH (:Run {id: $run})-[:HAS_SNAPSHOT]->(s:Snapshot)-[h:HAS_MASK {layer: 'l0'}]->(m:Mask) "
        "RETURN s.step AS step, m.kind AS kind, m.depth AS depth ORDER BY step",
        run=run,
    )
    return [(row["kind"], row["depth"]) for row in rows]


def count_masks(archive: Archive) -> int:
    return int(archive.counts().masks)


def test_chains_of_deltas_are_at_most_24_deep(archive: Archive, target: Target) -> None:
    """Of sixty small changes at least every 25th is stored whole, whoever continues the run, and all read back."""
    history = sparse_history(1, snapshots=60, widths=[40, 30, 20], density=0.3, churn=0.05)
    for step, topology in history.snapshots[:30]:
        archive.push("w0", step, topology)
    with target.open() as other:
        for step, topology in history.snapshots[30:]:
            other.push("w0", step, topology)
    links = chain(archive, "w0")
    assert links[0] == ("full", 0)
    assert max(depth for _, depth in links) <= 24
    full = [k for k, (kind, _) in enumerate(links) if kind == "full"]
    assert all(b - a <= 25 for a, b in zip(full, [*full[1:], len(links)], strict=True))
    assert len(full) <= 4, "small changes are stored as deltas"
    for (_, before), (kind, depth) in pairwise(links):
        assert depth == (0 if kind == "full" else before + 1)
    with target.open() as fresh:
        assert_snapshots(fresh, "w0", history, history.steps)
        assert list(fresh.verify()) == []


def test_the_same_mask_is_stored_once_across_steps_layers_and_runs(archive: Archive, target: Target) -> None:
    """However often it comes, under whatever names: one node, its bytes once."""
    mask = random_mask(np.random.default_rng(0), 6, 6, 1, 0.5)
    topology = Topology.from_masks([mask, mask, mask])
    for run, step in (("w0", 0), ("w0", 1), ("w0", 9), ("w1", 4)):
        archive.push(run, step, topology)
    with target.open() as other:
        other.push("w2", 0, Topology.from_masks([mask], names=["other"]))
        assert count_masks(other) == 1
        assert other.topology("w0@9") == topology
        rows = tell(
            other, "MATCH (:Snapshot)-[h:HAS_MASK]->(m:Mask) RETURN count(h) AS held, count(DISTINCT m) AS masks"
        )
        assert rows == [{"held": 13, "masks": 1}]


def test_equal_cells_of_another_shape_are_another_mask(archive: Archive) -> None:
    """The digest covers the shape."""
    cells = np.array([0, 3])
    for k, mask in enumerate([Mask(2, 6, cells), Mask(6, 2, cells), Mask(3, 2, cells, 2)]):
        archive.push(f"w{k}", 0, Topology.from_masks([mask]))
    assert count_masks(archive) == 3
    assert list(archive.verify()) == []


def test_going_back_to_an_earlier_mask_stores_nothing_new(archive: Archive, target: Target) -> None:
    """A mask that comes again links to the stored one, also where that one is a delta's base; chains have no cycle."""
    random = np.random.default_rng(5)
    a = random_mask(random, 30, 30, 1, 0.3)
    b = replaced(random, a, 0.05)
    for step in range(30):
        archive.push("w0", step, Topology.from_masks([b if step % 2 else a]))
    assert count_masks(archive) == 2
    with target.open() as other:
        for step in range(30):
            assert other.topology(f"w0@{step}").layers[0].mask.digest == (b if step % 2 else a).digest
        assert list(other.verify()) == []


def test_runs_that_come_from_one_another_share_chains(archive: Archive, target: Target) -> None:
    """A mask that is a delta in one run is found, and built upon, by another."""
    history = sparse_history(2, snapshots=20, widths=[40, 30], density=0.3, churn=0.05)
    push(archive, "w0", history)
    with target.open() as other:
        push(other, "w1", history)
        assert count_masks(other) == 20
        following = Topology.from_masks([replaced(np.random.default_rng(0), history.at(19).layers[0].mask, 0.05)])
        other.push("w1", 20, following)
    with target.open() as fresh:
        assert fresh.topology("w1@20") == following
        assert max(depth for _, depth in chain(fresh, "w1")) <= 24


def large_topology(alive: np.ndarray) -> Topology:
    """One layer of 10,000 x 10,000 units."""
    mask = Mask(10_000, 10_000, np.flatnonzero(alive))
    return Topology((Layer("l0", Space("x", 10_000, labelled=True), Space("y", 10_000), mask),))


@pytest.mark.slow
def test_a_mask_of_ten_million_connections_is_stored_in_several_messages(archive: Archive, target: Target) -> None:
    """More bytes than one message takes go in parts of at most 4 MiB, and come back whole, full mask and delta."""
    random = np.random.default_rng(3)
    alive = random.random(10**8, dtype=np.float32) < 0.1
    first = large_topology(alive)
    alive[random.integers(0, alive.size, size=60_000_000)] = False
    alive[random.integers(0, alive.size, size=6_000_000)] = True
    second = large_topology(alive)
    archive.push("big", 0, first, projection="none")
    archive.push("big", 1, second, projection="none")
    sizes = tell(
        archive, "MATCH (m:Mask) RETURN m.bytes AS bytes, m.parts AS parts, size(m.data) AS first ORDER BY m.depth"
    )
    assert [row["parts"] for row in sizes] == [-(-row["bytes"] // mask_store.PART_BYTES) for row in sizes]
    assert min(row["parts"] for row in sizes) >= 2
    with target.open() as other:
        assert other.topology("big@1").digest == second.digest
        assert other.topology("big@0").digest == first.digest


def test_masks_in_many_small_parts_come_back_whole(
    archive: Archive, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same with parts of 100 bytes: several masks, some in parts and some not, one of them stored twice."""
    monkeypatch.setattr(mask_store, "PART_BYTES", 100)
    history = sparse_history(7, snapshots=6, widths=[60, 40, 3], density=0.2, churn=0.3)
    push(archive, "w0", history)
    parts = [row["parts"] for row in tell(archive, "MATCH (m:Mask) RETURN m.parts AS parts")]
    assert min(parts) == 1
    assert max(parts) >= 3
    with target.open() as other:
        push(other, "w1", history)
        assert [row["parts"] for row in tell(other, "MATCH (m:Mask) RETURN m.parts AS parts")] == parts
        stored = tell(other, "MATCH (p:MaskPart) RETURN count(p) AS parts")[0]["parts"]
        assert stored == sum(parts) - len(parts)
    with target.open() as fresh:
        assert_snapshots(fresh, "w1", history, history.steps)
        assert list(fresh.verify()) == []
