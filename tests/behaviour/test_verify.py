"""``verify`` finds nothing in a good archive, and names every kind of damage."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.histories import random_history, sparse_history
from tests.pushed import assert_projected, push
from tests.stores import Target, tell
from topostrata.archive import Archive
from topostrata.errors import ConflictError
from topostrata.runs import Parent
from topostrata.topology import Topology

Damage = Callable[[Archive], object]
HISTORY = sparse_history(8, snapshots=6, widths=[40, 30, 8], density=0.3, churn=0.05)
# Nothing tells what these were: the cure that is named instead.
LOST = {
    "a snapshot is gone": "restore",
    "the last snapshot is gone": "restore",
    "a run descends from itself": "disown",
}


@pytest.fixture
def two_runs(archive: Archive) -> Archive:
    """Two runs of six snapshots, the second forked from the first; masks among them that are deltas of deltas."""
    push(archive, "w0", HISTORY)
    push(archive, "w1", sparse_history(9, snapshots=6, widths=[40, 30, 8], density=0.3, churn=0.05))
    archive.update_run("w1", parents=[Parent("w0", 3, "fork")])
    assert list(archive.verify()) == []
    return archive


def cypher(text: str) -> Damage:
    """Damage by one statement, which must hit something."""

    def act(archive: Archive) -> None:
        assert tell(archive, text + " RETURN count(*) AS hit")[0]["hit"] >= 1

    return act


def flip(archive: Archive) -> None:
    """Change one byte of one mask in the middle."""
    row = tell(
        archive, "MATCH (:Snapshot {id: 'w0@2'})-[:HAS_MASK {layer: 'l0'}]->(m) RETURN m.digest AS d, m.data AS data"
    )
    data = bytearray(row[0]["data"])
    data[len(data) // 2] ^= 16
    tell(archive, "MATCH (m:Mask {digest: $d}) SET m.data = $data", d=row[0]["d"], data=bytes(data))


def swap(archive: Archive) -> None:
    """Let two snapshots have each other's mask."""
    rows = tell(
        archive,
        "MATCH (s:Snapshot {run: 'w0'})-[h:HAS_MASK {layer: 'l0'}]->(m:Mask) WHERE s.step IN [2, 3] "
        "RETURN s.id AS id, m.digest AS d ORDER BY id",
    )
    tell(archive, "MATCH (s:Snapshot {run: 'w0'})-[h:HAS_MASK {layer: 'l0'}]->() WHERE s.step IN [2, 3] DELETE h")
    for at, k in ((0, 1), (1, 0)):
        tell(
            archive,
            "MATCH (s:Snapshot {id: $id}) MATCH (m:Mask {digest: $d}) CREATE (s)-[:HAS_MASK {layer: 'l0'}]->(m)",
            id=rows[at]["id"],
            d=rows[k]["d"],
        )


OF_L0 = "MATCH (a:Neuron {run: 'w0', space: 'input'})-[c:CONNECTS]->(b) WHERE c.layer = 'l0' "
ALIVE = OF_L0 + "AND c.died_step IS NULL WITH a, b, c ORDER BY a.index, b.index LIMIT 1 "
DEAD = OF_L0 + "AND c.died_step IS NOT NULL WITH a, b, c ORDER BY a.index, b.index LIMIT 1 "
MASK = "MATCH (:Snapshot {id: 'w0@2'})-[h:HAS_MASK {layer: 'l0'}]->(m:Mask) "
PROJECTION = "the projection equals the masks"
KEYS = "the living have their keys, the dead have none"

DAMAGES: dict[str, tuple[Damage, str, str]] = {
    "a mask is gone": (cypher(MASK + "DETACH DELETE m"), "a mask for each layer", "w0@2"),
    "a mask that is a base is gone": (
        cypher("MATCH (s:Snapshot {id: 'w0@0'}) SET s.gone = 1 WITH s MATCH (s)-[:HAS_MASK {layer: 'l0'}]->(m) DETACH DELETE m"),
        "masks can be read", "w0@1",
    ),
    "a byte is flipped": (flip, "masks can be read", "w0@2"),
    "a mask has no bytes": (cypher(MASK + "REMOVE m.data"), "masks can be read", "w0@2"),
    "a mask lacks a part": (cypher(MASK + "SET m.parts = 3"), "masks can be read", "w0@2"),
    "a delta lost its base": (cypher(MASK + "MATCH (m)-[k:BASE]->() DELETE k"), "masks can be read", "w0@2"),
    "two masks are swapped": (swap, "digest", "w0@2"),
    "a layer has two masks": (
        cypher("MATCH (s:Snapshot {id: 'w0@2'}) MATCH (:Snapshot {id: 'w0@3'})-[:HAS_MASK {layer: 'l0'}]->(m) "
               "CREATE (s)-[:HAS_MASK {layer: 'l0'}]->(m)"),
        "a mask for each layer", "w0@2",
    ),
    "a mask belongs to no layer": (cypher(MASK + "SET h.layer = 'other'"), "a mask for each layer", "w0@2"),
    "a mask has another layer's shape": (
        cypher("MATCH (:Snapshot {id: 'w0@2'})-[h:HAS_MASK]->(:Mask) SET h.layer = CASE h.layer WHEN 'l0' THEN 'l1' ELSE 'l0' END"),
        "masks fit their layers", "w0@2",
    ),
    "HAS_MASK is removed": (cypher(MASK + "DELETE h"), "a mask for each layer", "w0@2"),
    "a digest is changed": (cypher("MATCH (s:Snapshot {id: 'w0@2'}) SET s.digest = 'abc'"), "digest", "w0@2"),
    "a digest is gone": (cypher("MATCH (s:Snapshot {id: 'w0@2'}) REMOVE s.digest"), "digest", "w0@2"),
    "a count is changed": (cypher("MATCH (s:Snapshot {id: 'w0@2'}) SET s.nnz = 1"), "connections", "w0@2"),
    "an id is changed": (cypher("MATCH (s:Snapshot {id: 'w0@2'}) SET s.id = 'w0@77'"), "a snapshot's id is run@step", "w0@2"),
    "a snapshot is gone": (cypher("MATCH (s:Snapshot {id: 'w0@2'}) DETACH DELETE s"), "order of snapshots", "w0@1"),
    "the last snapshot is gone": (cypher("MATCH (s:Snapshot {id: 'w0@5'}) DETACH DELETE s"), "last step", "w0"),
    "the first step is wrong": (cypher("MATCH (r:Run {id: 'w0'}) SET r.first_step = 1"), "first step", "w0"),
    "NEXT is cut": (cypher("MATCH (:Snapshot {id: 'w0@2'})-[n:NEXT]->() DELETE n"), "order of snapshots", "w0@2"),
    "NEXT goes back": (
        cypher("MATCH (a:Snapshot {id: 'w0@5'}) MATCH (b:Snapshot {id: 'w0@0'}) CREATE (a)-[:NEXT]->(b)"),
        "order of snapshots", "w0@5",
    ),
    "NEXT is there twice": (
        cypher("MATCH (a:Snapshot {id: 'w0@2'})-[:NEXT]->(b) CREATE (a)-[:NEXT]->(b)"), "order of snapshots", "w0@2",
    ),
    "a connection is gone": (cypher(ALIVE + "DELETE c"), PROJECTION, "w0/l0"),
    "a connection is there twice": (
        cypher(ALIVE + "CREATE (a)-[:CONNECTS {run: c.run, layer: c.layer, tap: c.tap, born_step: c.born_step}]->(b)"),
        PROJECTION, "w0/l0",
    ),
    "a connection was never there": (
        cypher("MATCH (a:Neuron {id: 'w0/input/0'}) MATCH (b:Neuron {id: 'w0/hidden1/0'}) "
               "CREATE (a)-[:CONNECTS {run: 'w0', layer: 'l0', tap: 0, born_step: 99}]->(b)"),
        PROJECTION, "w0/l0",
    ),
    "a death is moved": (cypher(DEAD + "SET c.died_step = c.died_step + 1"), PROJECTION, "w0/l0"),
    "a death is forgotten": (cypher(DEAD + "REMOVE c.died_step"), PROJECTION, "w0/l0"),
    "a living connection died": (cypher(ALIVE + "SET c.died_step = 5"), PROJECTION, "w0/l0"),
    "a living connection dies in the future": (cypher(ALIVE + "SET c.died_step = 99"), PROJECTION, "w0/l0"),
    "a birth is moved": (cypher(DEAD + "SET c.born_step = c.born_step - 1"), PROJECTION, "w0/l0"),
    "a birth is gone": (cypher(ALIVE + "REMOVE c.born_step"), PROJECTION, "w0/l0"),
    "a tap is gone": (cypher(ALIVE + "REMOVE c.tap"), PROJECTION, "w0/l0"),
    "a tap is beyond": (cypher(ALIVE + "SET c.tap = 7"), PROJECTION, "w0/l0"),
    "a connection changed its layer": (cypher(ALIVE + "SET c.layer = 'l1'"), PROJECTION, "w0/l0"),
    "a key is gone": (cypher(ALIVE + "REMOVE c.alive"), KEYS, "w0/l0"),
    "a key is another": (cypher(ALIVE + "SET c.alive = c.alive + 1"), KEYS, "w0/l0"),
    "a dead connection has a key": (cypher(DEAD + "SET c.alive = 1"), KEYS, "w0/l0"),
    "a neuron is gone": (cypher("MATCH (n:Neuron {id: 'w0/hidden1/3'}) DETACH DELETE n"), "neurons", "w0/hidden1"),
    "a neuron forgot its place": (cypher("MATCH (n:Neuron {id: 'w0/input/3'}) REMOVE n.index"), PROJECTION, "w0/l0"),
    "a layer claims too much": (
        cypher("MATCH (y:Layer {id: 'w0/l0'}) SET y.projected_step = 77"), "projected step", "w0/l0",
    ),
    "a snapshot lost its run": (
        cypher("MATCH (:Run)-[h:HAS_SNAPSHOT]->(:Snapshot {id: 'w0@2'}) DELETE h"), "everything hangs on a run", "w0@2",
    ),
    "a layer lost its run": (
        cypher("MATCH (:Run)-[h:HAS_LAYER]->(:Layer {id: 'w0/l1'}) DELETE h"), "everything hangs on a run", "w0/l1",
    ),
    "a run descends from itself": (
        cypher("MATCH (r:Run {id: 'w0'}) MATCH (s:Snapshot {id: 'w1@1'}) CREATE (r)-[:DESCENDS_FROM {how: 'fork'}]->(s)"),
        "no run is its own ancestor", "w0, w1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_is_found_and_named(two_runs: Archive, target: Target, damage: str) -> None:
    """A client that knows nothing and the one that pushed find the same: rule and place, and nothing of the other run.

    Repaired, the run has the digests and lifetimes that were pushed; what is lost for good is said to be.
    """
    act, rule, where = DAMAGES[damage]
    act(two_runs)
    with target.open() as fresh:
        problems = list(fresh.verify())
        assert list(two_runs.verify()) == problems, "what was pushed is remembered, and not believed"
    assert (rule, where) in {(problem.rule, problem.where) for problem in problems}, problems
    for problem in problems:
        assert problem.expected
        assert problem.found
        assert problem.expected != problem.found
        assert not problem.where.startswith("w1")
        assert problem.mend.startswith("topostrata ")
    if damage in LOST:
        assert LOST[damage] in {problem.cure for problem in problems}
        return
    digests = {f"w0@{step}": topology.digest for step, topology in HISTORY.snapshots}
    left = two_runs.repair()
    assert {problem.cure for problem in left} <= {"gc"}
    two_runs.gc()
    with target.open() as fresh:
        assert list(fresh.verify()) == []
        assert {snapshot.id: fresh.topology(snapshot).digest for snapshot in fresh.snapshots("w0")} == digests
        assert_projected(fresh, "w0", HISTORY)


def test_a_good_archive_has_no_violations(archive: Archive, target: Target) -> None:
    """Random runs, a run without snapshots, one without projection, an empty archive."""
    assert list(archive.verify()) == []
    for seed in range(6):
        push(archive, f"w{seed}", random_history(300 + seed))
    archive.create_run("empty", parents=[Parent("w0", random_history(300).steps[0], "fork")])
    for step, topology in random_history(5).snapshots:
        archive.push("off", step, topology, projection="none")
    told: list[str] = []
    with target.open() as fresh:
        assert list(fresh.verify(progress=told.append)) == []
    assert told == ["empty", "off", *(f"w{seed}" for seed in range(6))]


def test_connections_of_a_layer_that_is_not_projected_are_too_many(archive: Archive) -> None:
    """Where nothing is said to be projected, what stands there must at least be true."""
    topology = Topology.from_masks([[[1, 0], [0, 1]]])
    archive.push("w0", 0, topology, projection="none")
    tell(
        archive,
        "CREATE (a:Neuron {id: 'w0/input/0', run: 'w0', space: 'input', index: 0})"
        "-[:CONNECTS {run: 'w0', layer: 'l0', tap: 0, born_step: 0}]->"
        "(:Neuron {id: 'w0/output/1', run: 'w0', space: 'output', index: 1})",
    )
    assert {(problem.rule, problem.where) for problem in archive.verify()} == {(KEYS, "w0/l0"), (PROJECTION, "w0/l0")}


def test_what_remains_of_a_run_that_was_deleted_by_hand_is_found_and_taken_away(two_runs: Archive) -> None:
    """Verify names each kind with `topostrata gc`, which leaves the other run whole; then the run can be pushed again."""
    tell(two_runs, "MATCH (r:Run {id: 'w0'}) DETACH DELETE r")
    problems = list(two_runs.verify())
    assert {(problem.rule, problem.mend) for problem in problems} == {("everything hangs on a run", "topostrata gc")}
    with pytest.raises(ConflictError, match="topostrata gc"):
        two_runs.push("w0", 0, HISTORY.at(0))
    tell(two_runs, "MATCH (r:Run {id: 'w0'}) DETACH DELETE r")
    rehearsed = two_runs.gc(dry_run=True).kinds
    assert rehearsed["Neuron"] == 40 + 30 + 8
    assert rehearsed["Snapshot"] == 6
    assert list(two_runs.verify()) == problems
    taken = two_runs.gc().kinds
    assert {kind: taken[kind] for kind in ("Layer", "Neuron", "Snapshot")} == {"Layer": 2, "Neuron": 78, "Snapshot": 6}
    assert taken["Mask"] == rehearsed["Mask"] == 12
    assert list(two_runs.verify()) == []
    assert two_runs.gc().kinds == {}
    push(two_runs, "w0", HISTORY)
    assert_projected(two_runs, "w0", HISTORY)


def test_a_missing_snapshot_is_said_until_it_is_given_up(two_runs: Archive) -> None:
    """Repair leaves the gap as it is; `rebuild` makes the history that of the snapshots that are there."""
    cypher("MATCH (s:Snapshot {id: 'w0@2'}) DETACH DELETE s")(two_runs)
    assert ("no snapshot is missing", "w0@3") in {(problem.rule, problem.where) for problem in two_runs.repair()}
    two_runs.rebuild("w0")
    two_runs.gc()
    assert list(two_runs.verify()) == []
    assert [snapshot.step for snapshot in two_runs.snapshots("w0")] == [0, 1, 3, 4, 5]
