"""Runs are tagged, renamed, hidden, brought back and purged; what is purged is gone everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.histories import sparse_history
from tests.pushed import assert_projected, push, violations
from tests.stores import Target, contents, home, tell
from topostrata.archive import Archive
from topostrata.errors import ConflictError, InvalidRefError, NotFoundError
from topostrata.refs import Ref
from topostrata.runs import Parent
from topostrata.service.cli.main import app

W0 = sparse_history(8, snapshots=4, widths=[20, 15, 8], density=0.3, churn=0.05)
W1 = sparse_history(9, snapshots=4, widths=[20, 15, 8], density=0.3, churn=0.05)


@pytest.fixture
def three(archive: Archive) -> Archive:
    """Three runs, of which w1 descends from w0, and w2 has w0's masks; distances and an inference among them."""
    push(archive, "w0", W0)
    push(archive, "w1", W1)
    push(archive, "w2", W0)
    archive.update_run("w1", parents=[Parent("w0", 1, "fork")], tags=["a", "b"])
    return archive


def quiet(archive: Archive) -> list[str]:
    """All that is stored, but for what a lock leaves behind."""
    passing = {"guard", "writer_epoch", "writer_batch"}
    return [repr([e if not isinstance(e, list) else [p for p in e if p[0] not in passing] for e in row])
            for row in contents(archive)]  # fmt: skip


def test_tags_name_status_and_parents_are_changed_and_rehearsed(three: Archive) -> None:
    """A rehearsal says the same and writes nothing; what is not there is named."""
    changes: list[Callable[[bool], bool]] = [
        lambda dry: three.update_run("w1", tags=["c"], without_tags=["a"], dry_run=dry),
        lambda dry: three.update_run("w1", name="another", status="failed", dry_run=dry),
        lambda dry: three.update_run("w1", without_parents=[Ref("w0", 1)], dry_run=dry),
    ]
    for change in changes:
        before = quiet(three)
        assert change(True)
        assert quiet(three) == before
        assert change(False)
        assert quiet(three) != before
    run = three.run("w1")
    assert (run.tags, run.name, run.status, run.parents) == (("b", "c"), "another", "failed", ())
    with pytest.raises(NotFoundError, match=r"parents \(none\), found w0@1"):
        three.update_run("w1", without_parents=[Ref("w0", 1)])


def test_a_removed_run_is_hidden_everywhere_and_comes_back_whole(three: Archive, target: Target) -> None:
    """No verb shows it, it takes nothing, and another may not take its place; brought back, it is what it was."""
    before = quiet(three)
    with pytest.raises(ConflictError, match="'w1' descends from w0@1"):
        three.remove_runs(["w0"])
    assert three.remove_runs(["w0", "w1"], dry_run=True) == ["w0", "w1"]
    assert quiet(three) == before
    assert three.remove_runs(["w0", "w1"]) == ["w0", "w1"]
    with target.open() as fresh:
        assert [run.id for run in fresh.runs()] == ["w2"]
        assert [ref.run for ref in fresh.expand("*@last")] == ["w2"]
        assert [run.run for run in fresh.removed_runs()] == ["w0", "w1"]
        assert violations(fresh) == []
        assert home(fresh).gc(dry_run=True).kinds == {}
        for ask in (
            fresh.run,
            fresh.snapshots,
            fresh.snapshot,
            fresh.topology,
            fresh.evolution,
            fresh.survival,
            home(fresh).rebuild,
        ):
            with pytest.raises(NotFoundError):
                ask("w0")
        with pytest.raises(InvalidRefError):
            fresh.expand("w0@*")
        for write in (
            lambda: push(fresh, "w0", W0),
            lambda: fresh.update_run("w0", tags=["x"]),
            lambda: fresh.create_run("w0"),
        ):
            with pytest.raises((ConflictError, NotFoundError)):
                write()
        with pytest.raises(NotFoundError):
            fresh.update_run("w2", parents=[Parent("w0", 1, "fork")])
        with pytest.raises(ConflictError, match="w1' descends from w0, which is removed"):
            fresh.bring_back(["w1"])
        fresh.bring_back(["w0", "w1"])
    assert quiet(three) == before
    with pytest.raises(NotFoundError, match="removed"):
        three.bring_back(["w0"])


def test_what_is_purged_is_gone_everywhere(three: Archive, target: Target) -> None:
    """The database is as if the run had never been, but for the numbers of topologies; shared masks stay."""
    three.purge_runs(["w1"])
    push(three, "w3", W0)
    alone = quiet(three)
    push(three, "w1", W1)
    three.distances(["w1@*", "w2@*"], alignment="identity")
    three.nnstd("w1@last", "w2@last", alignment="identity")
    three.infer(["w1@last", "w2@last", "w3@last"], name="i")
    rehearsed = three.purge_runs(["w1"], dry_run=True)
    assert (rehearsed.snapshots, rehearsed.neurons, rehearsed.inferences) == (4, 43, ("i",))
    assert rehearsed.masks == len({y.mask.digest for _, topology in W1.snapshots for y in topology.layers})
    before = three.counts()
    purged = three.purge_runs(["w1"])
    assert (purged.masks, purged.mask_bytes, purged.lifetimes) == (
        rehearsed.masks,
        rehearsed.mask_bytes,
        rehearsed.lifetimes,
    )
    after = three.counts()
    assert (before.masks - after.masks, before.mask_bytes - after.mask_bytes) == (purged.masks, purged.mask_bytes)
    left = [
        row for row in quiet(three) if "Topology" not in row and "DistanceBlock" not in row and "DISTANCE" not in row
    ]
    assert left == [row for row in alone if "Topology" not in row]
    digests = {row["d"] for row in tell(three, "MATCH (t:Topology) WHERE t.digest IS NOT NULL RETURN t.digest AS d")}
    assert digests <= {topology.digest for _, topology in W0.snapshots}
    with target.open() as fresh:
        assert violations(fresh) == []
        push(fresh, "w1", W1)
        assert_projected(fresh, "w1", W1)


@pytest.fixture
def said(target: Target) -> Callable[..., dict[str, object]]:
    """What a verb says of the store as JSON."""

    def verb(*words: str, code: int = 0) -> dict[str, object]:
        result = CliRunner().invoke(app, [*words, "--store", target.uri, "--json"], env=target.environment)
        assert result.exit_code == code, result.output
        answer: dict[str, object] = json.loads(result.stdout) if result.stdout else {}
        return answer

    return verb


def test_stats_says_how_much_there_is(three: Archive, said: Callable[..., dict[str, object]]) -> None:
    """As the archive counts it; the embedded engine's files also by what they hold, a server tells nothing of its own."""
    stats, counts = said("stats"), three.counts()
    assert {**stats, "disk": None} == {**asdict(counts), "disk": None}
    kinds = ["connections", "distances", "indexes", "log", "masks", "neurons", "other"]
    assert isinstance(stats["disk"], dict)
    assert (
        sorted(stats["disk"])
        == sorted(counts.disk)
        == ([] if three.location.startswith(("neo4j:", "bolt:")) else kinds)
    )
    if "://" not in three.location:
        engine = Path(three.location) / "engine"
        files = {path: path.stat().st_size for path in engine.rglob("*") if path.is_file()}
        still = sum(size for path, size in files.items() if path.suffix != ".wal" and path.parent.name != "log")
        assert 0 < counts.disk["indexes"] < 3 * 2**20, "two dozen indexes of small pages"
        assert still == sum(counts.disk.values()) - counts.disk["log"], "every file is counted, and once"


def test_the_verbs_say_and_do_the_same(three: Archive, said: Callable[..., dict[str, object]]) -> None:
    """Each takes `--dry-run` and `--json`; `purge` asks where `--yes` is not given."""
    assert said("tag", "w2", "x", "--dry-run") == {"run": "w2", "changed": True, "dry_run": True}
    assert said("tag", "w2", "x")["changed"]
    assert not said("tag", "w2", "x")["changed"]
    assert said("untag", "w2", "x")["changed"]
    assert said("rename", "w2", "second")["changed"]
    assert said("finish", "w2")["changed"]
    assert said("disown", "w1", "w0@1")["changed"]
    assert said("rm", "w0") == {"removed": ["w0"], "dry_run": False}
    assert [run["run"] for run in said("undelete")["removed"]] == ["w0"]  # type: ignore[attr-defined]
    assert said("undelete", "w0")["removed"] == []
    assert said("purge", "w0", "--dry-run")["snapshots"] == 4
    assert said("purge", "w0", code=2) == {}
    assert said("purge", "w0", "--yes")["masks"] == 0
    run = three.run("w2")
    assert (run.name, run.status, run.tags, three.has_run("w0")) == ("second", "finished", (), False)


@pytest.mark.at_home
def test_the_verbs_of_upkeep_say_what_they_did(three: Archive, said: Callable[..., dict[str, object]]) -> None:
    """Of a sound archive: nothing to take away, nothing to mend, and as many connections as before."""
    assert said("gc") == {"dry_run": False, "kinds": {}}
    assert said("verify", "--repair") == {"runs": 3, "violations": []}
    assert said("rebuild", "w2")["lifetimes"] == sum(y.lifetimes for y in three.layers("w2"))
