"""One way in for Python: what the command line does, the archive does, and nothing is left out in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.histories import sparse_history
from tests.pushed import push
from tests.stores import Target, contents, tell
from topostrata.archive import Archive
from topostrata.errors import ConflictError, InvalidInputError, InvalidRefError, NotFoundError
from topostrata.ingest.formats import snapshot_file
from topostrata.ingest.pushing import PushedSnapshot, check_files
from topostrata.refs import Ref
from topostrata.runs import Parent
from topostrata.topology import Topology

A = Topology.from_masks([np.eye(3), np.ones((3, 2))])
B = Topology.from_masks([np.ones((3, 3)), np.eye(3, 2)])


def epochs(folder: Path, *topologies: Topology) -> Path:
    """A directory with an epoch of each topology, in the layout that training scripts write."""
    import scipy.sparse as sp

    for number, topology in enumerate(topologies):
        (folder / f"epoch_{number:03}").mkdir(parents=True)
        for k, layer in enumerate(topology.layers):
            matrix = layer.mask.to_csc().astype(np.float64)
            sp.save_npz(folder / f"epoch_{number:03}" / f"weight_l{k}.npz", sp.csr_matrix(matrix))
    return folder


def test_all_runs_and_snapshots_come_however_many(archive: Archive) -> None:
    """More than a page of either: `runs()` and `snapshots()` give every one, in order."""
    tell(
        archive,
        "UNWIND range(1, 1203) AS k CREATE (:Run {id: 'r' + toString(10000 + k), name: 'r', status: 'open', "
        "config: '{}', tags: [], created_at: '2026-01-01T00:00:00.000+00:00'})",
    )
    assert [run.id for run in archive.runs()] == [f"r{10000 + k}" for k in range(1, 1204)]
    archive.push("w0", 0, A)
    tell(
        archive,
        "MATCH (r:Run {id: 'w0'}) UNWIND range(1, 1203) AS k CREATE (r)-[:HAS_SNAPSHOT]->(:Snapshot {id: 'w0@' + "
        "toString(k), run: 'w0', step: k, digest: 'd', nnz: 1, recorded_at: '2026-01-01T00:00:00.000+00:00'})",
    )
    assert [snapshot.step for snapshot in archive.snapshots("w0")] == list(range(1204))


def test_sets_of_snapshots_are_named_by_text_or_by_refs(archive: Archive) -> None:
    """One pattern or several, as text or as `Ref`: the same snapshots."""
    history = sparse_history(5, snapshots=2, widths=[6, 5, 4], density=0.5, churn=0.3)
    for run in ("w0", "w1"):
        push(archive, run, history)
    refs = [Ref("w0", 1), Ref("w1", "last")]
    assert archive.expand(refs) == archive.expand(["w0@1", "w1"]) == archive.expand("w*@1")
    assert archive.expand(Ref("w1", 0)) == [Ref("w1", 0)]
    by_text, by_ref = (archive.distances(patterns, alignment="identity") for patterns in ("w*@last", refs))
    assert (by_text.labels, by_text.nnstd.tolist()) == (by_ref.labels, by_ref.nnstd.tolist())
    assert set(archive.infer(refs, alignment="identity", name=None, samples=2).steps) == {"w0", "w1"}


def test_a_snapshot_value_is_as_good_as_its_ref(archive: Archive) -> None:
    """Topology, structure, distance and sets of snapshots take a `Snapshot` that was asked for before."""
    archive.push("w0", 0, A)
    archive.push("w0", 5, B)
    first, last = archive.snapshots("w0")
    assert (archive.topology(first), archive.topology(last)) == (A, B)
    assert archive.nnstd(first, last).nnstd == archive.nnstd("w0@0", "w0@5").nnstd
    assert archive.expand(first) == [Ref("w0", 0)]
    assert archive.distances([first, last], alignment="identity").labels == ("w0@0", "w0@5")
    for ask in (lambda: archive.nnstd(A, "w0"), lambda: archive.expand([A])):  # type: ignore[arg-type, list-item]
        with pytest.raises(InvalidRefError, match="expected text such as 'w0@5', a Ref or a Snapshot, found Topology"):
            ask()
    assert archive.structure(last).layers == archive.structure("w0@5").layers


@pytest.mark.at_home  # who asks a service names the run first
def test_a_snapshot_whose_run_was_deleted_is_not_found(archive: Archive) -> None:
    """A value outlives what it stands for; asking for its topology says so."""
    archive.push("w0", 0, A)
    snapshot = archive.snapshot("w0")
    tell(archive, "MATCH (n) WHERE n.run = 'w0' OR n.id = 'w0' DETACH DELETE n")
    with pytest.raises(NotFoundError, match="w0@0"):
        archive.topology(snapshot)


def test_files_are_pushed_with_parents_and_tags(archive: Archive, target: Target, tmp_path: Path) -> None:
    """A directory of epochs becomes a run that knows its parent; once more changes nothing, a new tag does."""
    archive.push("w0", 3, A)
    source = epochs(tmp_path / "w1", A, B, A)
    seen: list[tuple[int, int]] = []
    parents = [Parent("w0", 3, "fork")]
    pushed = archive.push_files(
        source, "w1", steps=[0, 2], bias="none", parents=parents, tags=["a"], projection=["l1"],
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert pushed.snapshots == (PushedSnapshot(0, "added", A.nnz), PushedSnapshot(2, "added", A.nnz))
    assert pushed.run_changed
    assert seen == [(1, 2), (2, 2)]
    with target.open() as other:
        run = other.run("w1")
        assert (run.parents, run.tags) == (tuple(parents), ("a",))
        assert other.topology("w1@2").digest == A.digest
        assert [layer.projection for layer in other.layers("w1")] == ["off", "follow"]
    again = archive.push_files(source, "w1", steps=[0, 2], bias="none", parents=parents, tags=["a"])
    assert {snapshot.outcome for snapshot in again.snapshots} == {"unchanged"}
    assert not again.run_changed
    assert archive.push_files(source, "w1", steps=[0, 2], bias="none", tags=["b"]).run_changed


def test_of_files_that_cannot_be_pushed_nothing_is(archive: Archive, tmp_path: Path) -> None:
    """A bad file half-way, a step or a layer that is not there: an error, and no run."""
    source = epochs(tmp_path / "w0", A, B, A)
    (source / "epoch_001" / "weight_l1.npz").write_bytes(b"no matrix")
    before = contents(archive)
    with pytest.raises(InvalidInputError, match=r"weight_l1\.npz"):
        archive.push_files(source, "w0", bias="none", tags=["a"])
    snapshot_file.write(tmp_path / "a.npz", A)
    with pytest.raises(NotFoundError, match=r"'nowhere'.*l0, l1"):
        archive.push_files(tmp_path / "a.npz", "w0", tags=["a"], projection="nowhere")
    with pytest.raises(InvalidInputError, match=r"epochs \[7, 8\]"):
        check_files(tmp_path / "a.npz", steps=[7, 8])
    assert contents(archive) == before


def test_a_run_that_is_there_gains_its_parents_once_its_files_fit(archive: Archive, tmp_path: Path) -> None:
    """Files of another network are a conflict, and the run has no new tag."""
    archive.push("w0", 0, A)
    snapshot_file.write(tmp_path / "step_5.npz", Topology.from_masks([np.eye(4)]))
    with pytest.raises(ConflictError, match="its 2 layers"):
        archive.push_files(tmp_path / "step_5.npz", "w0", tags=["a"])
    assert archive.run("w0").tags == ()


def test_files_that_were_checked_are_pushed_as_they_are(archive: Archive, tmp_path: Path) -> None:
    """`check_files` before the archive is opened, `push_files` after: for one file, `steps` is its step."""
    snapshot_file.write(tmp_path / "a.npz", A)
    files = check_files(tmp_path / "a.npz", steps=[9])
    assert (files.count, files.layers) == (1, ("l0", "l1"))
    archive.push_files(files, "w0")
    assert archive.topology("w0@9") == A


def test_survival_is_that_of_the_history(archive: Archive) -> None:
    """From any step, what the history of the run says of it."""
    push(archive, "w0", sparse_history(6, snapshots=5, widths=[8, 6], density=0.4, churn=0.3))
    for step in (None, 2):
        survival = archive.survival("w0", step)
        assert survival.total.survived.tolist() == archive.history("w0").survival(step).total.survived.tolist()
    with pytest.raises(NotFoundError, match="w0@9"):
        archive.survival("w0", 9)


def test_runs_go_out_to_a_file_and_into_another_archive(archive: Archive, tmp_path: Path) -> None:
    """`export`, `import_` and `copy_to` on the archive itself; a copy onto itself is refused."""
    archive.push("w0", 0, A)
    archive.create_run("w1", parents=[Parent("w0", 0, "fork")])
    archive.push("w1", 1, B)
    exported = archive.export(tmp_path / "runs.zip", runs=["w1"])
    assert (exported.runs, exported.snapshots) == (("w0", "w1"), 2)
    assert archive.export(tmp_path / "one.zip", runs="w0").runs == ("w0",)
    assert archive.import_(tmp_path / "runs.zip").added == 0
    with pytest.raises(InvalidInputError, match="two archives"):
        archive.copy_to(archive.reopened())
