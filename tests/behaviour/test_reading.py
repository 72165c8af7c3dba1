"""Reading back: topologies, runs, snapshots, refs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.histories import random_history
from tests.pushed import assert_projected, assert_snapshots, push, violations
from tests.stores import Target, wipe
from topostrata.archive import Archive
from topostrata.errors import InvalidInputError, InvalidRefError, NotFoundError
from topostrata.runs import ArchiveCounts, RunFilter
from topostrata.topology import Topology

numbers = count()


@pytest.fixture(scope="module")
def shared(target: Target) -> Iterator[Archive]:
    """One client for all examples of a property: each takes a run of its own."""
    with target.open() as opened:
        wipe(opened)
        yield opened


@pytest.mark.at_home  # a minute of requests
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_was_pushed_is_what_is_read(shared: Archive, target: Target, seed: int) -> None:
    """Any history, read by a client that remembers nothing, equals what was pushed, and so do its connections."""
    run, history = f"p{next(numbers)}", random_history(seed)
    assert push(shared, run, history) == ["added"] * len(history.steps)
    with target.open() as fresh:
        assert_snapshots(fresh, run, history, history.steps)
        assert_projected(fresh, run, history)
        for snapshot, (step, topology) in zip(fresh.snapshots(run), history.snapshots, strict=True):
            assert (snapshot.step, snapshot.digest, snapshot.nnz) == (step, topology.digest, topology.nnz)


@pytest.mark.at_home  # takes long, and its numbers come in a file
def test_a_large_layer_reads_back(archive: Archive, target: Target) -> None:
    """More connections than one transaction takes, births and deaths among them."""
    random = np.random.default_rng(0)
    masks = [random.random((300, 200)) < 0.6 for _ in range(2)]
    for step, mask in enumerate(masks):
        archive.push("w0", step, Topology.from_masks([mask]))
    with target.open() as fresh:
        assert [fresh.topology(f"w0@{k}").nnz for k in (0, 1)] == [int(mask.sum()) for mask in masks]
        assert violations(fresh) == []


def test_runs_come_in_pages_in_the_order_of_their_ids(archive: Archive) -> None:
    """A page of any size goes on after the id before it; every run comes once."""
    ids = sorted(["w10", "w2", "a", "W", "w-1", "w.1", "w_1", "0", "zz", "Z9"])
    for run in reversed(ids):
        archive.create_run(run, tags=["t"])
    for limit in (1, 3, 10, 1000):
        paged: list[str] = []
        while page := archive.runs_page(limit=limit, after=paged[-1] if paged else ""):
            assert len(page) <= limit
            paged += [run.id for run in page]
        assert paged == ids
    assert [run.id for run in archive.runs()] == ids
    assert all(run.tags == ("t",) for run in archive.runs_page())


def test_runs_are_chosen_by_tags_status_steps_and_metrics(archive: Archive) -> None:
    """All that is stated has to hold, page by page as in one go; runs without snapshots have no steps and no metrics."""
    mask = Topology.from_masks([np.eye(2)])
    for k in range(6):
        run = f"w{k}"
        archive.create_run(run, tags=["even" if k % 2 == 0 else "odd", f"k{k}"])
        for step in (10 * k, 10 * k + 5):
            archive.push(run, step, mask, metrics={"accuracy": 0.1 * k} if step % 10 else {"loss": 1.0})
        if k >= 3:
            archive.update_run(run, status="finished")
    archive.create_run("empty", tags=["odd"])
    for only, runs in (
        (RunFilter(), ["empty", *(f"w{k}" for k in range(6))]),
        (RunFilter(tags=("odd",)), ["empty", "w1", "w3", "w5"]),
        (RunFilter(tags=("odd", "k3")), ["w3"]),
        (RunFilter(tags=("nobody's",)), []),
        (RunFilter(status="finished"), ["w3", "w4", "w5"]),
        (RunFilter(status="failed"), []),
        (RunFilter(step_from=25), ["w2", "w3", "w4", "w5"]),
        (RunFilter(step_to=20), ["w0", "w1", "w2"]),
        (RunFilter(step_from=21, step_to=24), ["w2"]),  # its snapshots lie before and after
        (RunFilter(metric="accuracy"), [f"w{k}" for k in range(6)]),
        (RunFilter(metric="loss"), []),  # of the snapshots before the last alone
        (RunFilter(metric="accuracy", at_least=0.25, at_most=0.45), ["w3", "w4"]),
        (RunFilter(metric="accuracy", at_most=0.45, tags=("odd",), status="finished"), ["w3"]),
    ):
        assert [run.id for run in archive.runs(only)] == runs, only
        paged: list[str] = []
        while page := archive.runs_page(limit=2, after=paged[-1] if paged else "", only=only):
            assert len(page) <= 2
            paged += [run.id for run in page]
        assert paged == runs, only
    with pytest.raises(InvalidInputError, match="expected the metric that they bound"):
        RunFilter(at_least=1)


def test_snapshots_come_in_pages_in_the_order_of_their_steps(archive: Archive) -> None:
    """By number, not by text; another run's never among them."""
    steps = [0, 2, 9, 10, 11, 100, 1000]
    for step in steps:
        archive.push("w0", step, Topology.from_masks([np.eye(2)]))
        archive.push("w00", step + 1, Topology.from_masks([np.eye(2)]))
    for limit in (1, 3, 7, 1000):
        paged: list[int] = []
        while page := archive.snapshots_page("w0", limit=limit, after=paged[-1] if paged else -1):
            assert all(snapshot.run == "w0" for snapshot in page)
            paged += [snapshot.step for snapshot in page]
        assert paged == steps
    assert [snapshot.step for snapshot in archive.snapshots("w0")] == steps


def test_a_page_has_a_size(archive: Archive) -> None:
    """From 1 to 1000, and one more for whoever looks whether there is a next page."""
    for limit in (0, -1, 1002):
        with pytest.raises(InvalidInputError, match="1 to 1000"):
            archive.runs_page(limit=limit)
        with pytest.raises(InvalidInputError, match="1 to 1000"):
            archive.snapshots_page("w0", limit=limit)


def test_what_is_not_there_is_named_with_what_is(archive: Archive) -> None:
    """Unknown runs and steps are NotFoundErrors that say what the archive holds."""
    with pytest.raises(NotFoundError, match=r"'w0'.*empty"):
        archive.run("w0")
    archive.create_run("w9")
    archive.push("w0", 3, Topology.from_masks([np.eye(2)]))
    archive.push("w0", 8, Topology.from_masks([np.eye(2)]))
    for ask in (archive.run, archive.snapshots, archive.topology, archive.lineage):
        with pytest.raises(NotFoundError, match=r"'w1'.*w0"):
            ask("w1")
    with pytest.raises(NotFoundError, match="'w1'"):
        archive.evolution("w1")
    with pytest.raises(NotFoundError, match=r"w0@5.*holds 2, from step 3 to 8"):
        archive.topology("w0@5")
    with pytest.raises(NotFoundError, match="a run without any"):
        archive.snapshot("w9")
    with pytest.raises(InvalidRefError):
        archive.snapshot("w0@")
    assert archive.snapshots("w9") == []


def test_first_and_last_are_what_the_run_holds_now(archive: Archive, target: Target) -> None:
    """The same ref names another snapshot when the run has grown, also by another client."""
    a, b = Topology.from_masks([np.eye(2)]), Topology.from_masks([np.ones((2, 2))])
    archive.push("w0", 3, a)
    assert archive.topology("w0@first") == archive.topology("w0@last") == archive.topology("w0") == a
    with target.open() as other:
        other.push("w0", 4, b)
    assert archive.snapshot("w0").step == 4
    assert (archive.topology("w0@first"), archive.topology("w0@last"), archive.topology("w0")) == (a, b, b)


def test_globs_name_the_snapshots_that_are_there(archive: Archive) -> None:
    """In natural order of runs, by number of steps, in the order of the patterns."""
    for run in ("w2", "w10", "v"):
        for step in (0, 5, 50):
            archive.push(run, step, Topology.from_masks([np.eye(2)]))
    archive.create_run("w3")
    assert [str(ref) for ref in archive.expand(["w*@last"])] == ["w2@50", "w10@50"]
    assert [str(ref) for ref in archive.expand(["w10@*", "v@first", "w*"])] == [
        "w10@0", "w10@5", "w10@50", "v@0", "w2@50",
    ]  # fmt: skip
    with pytest.raises(InvalidRefError, match=r"'x\*'.*3 runs"):
        archive.expand(["x*"])
    with pytest.raises(InvalidRefError, match="'w3'"):
        archive.expand(["w3"])


def test_counts_tell_how_much_is_there(archive: Archive) -> None:
    """Runs, snapshots, masks and their bytes, neurons; all 0 in an empty archive."""
    empty = archive.counts()
    assert empty == ArchiveCounts(runs=0, snapshots=0, masks=0, mask_bytes=0, neurons=0, disk=empty.disk)
    archive.push("w0", 0, Topology.from_masks([np.eye(3), np.ones((3, 2))]))
    archive.push("w0", 1, Topology.from_masks([np.eye(3), np.eye(3, 2)]))
    counts = archive.counts()
    assert counts == ArchiveCounts(
        runs=1, snapshots=2, masks=3, mask_bytes=counts.mask_bytes, neurons=8, disk=counts.disk
    )
    assert counts.mask_bytes > 3 * 20
