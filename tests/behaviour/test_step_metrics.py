"""Metrics of runs at steps where they may have no snapshot: what is stored, what is refused, and how they move."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.stores import contents, embedded, tell, wipe
from topostrata.archive import Archive
from topostrata.errors import ConflictError, InvalidInputError, NotFoundError
from topostrata.runs import MAX_METRICS
from topostrata.topology import Topology

A = Topology.from_masks([np.eye(3), np.ones((3, 2))])
FLOW = {"l0": {"flow_2": 0.75, "active": 3.0}, "l0.bias": {"flow_2": 0.125}}


def unguarded(archive: Archive) -> list[str]:
    """All that the archive holds, but for the lock of a run, which every writer turns."""
    return [repr(row) for row in contents(archive) if "'guard'" not in repr(row)]


@pytest.fixture(autouse=True)
def _empty(archive: Archive) -> None:
    wipe(archive)


def test_they_are_kept_at_steps_without_a_snapshot(archive: Archive) -> None:
    """By step, whatever order they came in, and by the names of layers and of what is no layer."""
    archive.push("w0", 10, A, metrics={"accuracy": 0.5})
    assert archive.push_metrics("w0", 15, {"egf_2": 0.25}, layer_metrics=FLOW, epoch=1.5) == "added"
    assert archive.push_metrics("w0", 5, {"egf_2": 0.5}) == "added"
    entries = archive.reopened().metrics("w0")
    assert [(y.step, y.metrics, y.layer_metrics, y.epoch) for y in entries] == [
        (5, {"egf_2": 0.5}, {}, None),
        (10, {"accuracy": 0.5}, {}, None),
        (15, {"egf_2": 0.25}, FLOW, 1.5),
    ]
    assert [y.step for y in archive.step_metrics("w0")] == [5, 15]
    assert [snapshot.step for snapshot in archive.snapshots("w0")] == [10]
    assert archive.run("w0").last_step == 10


def test_they_make_their_run(archive: Archive) -> None:
    """A training job may measure before it has a first snapshot, as at step 0."""
    archive.push_metrics("w0", 0, {"egf_2": 0.5})
    assert archive.run("w0").snapshots == 0
    archive.push("w0", 0, A)
    assert [(y.step, y.metrics) for y in archive.metrics("w0")] == [(0, {"egf_2": 0.5})]


def test_the_same_again_changes_nothing_and_new_ones_are_added(archive: Archive) -> None:
    """By name, of the run and of each layer."""
    archive.push_metrics("w0", 3, {"egf_1": 1.0}, layer_metrics=FLOW)
    before = unguarded(archive)
    assert archive.push_metrics("w0", 3, {"egf_1": 1.0}, layer_metrics=FLOW) == "unchanged"
    assert unguarded(archive) == before
    more = {"l0": {"flow_1": 2.0}, "l1": {"flow_2": 4.0}}
    assert archive.push_metrics("w0", 3, {"egf_2": 0.5}, layer_metrics=more) == "added"
    (entry,) = archive.metrics("w0")
    assert entry.metrics == {"egf_1": 1.0, "egf_2": 0.5}
    assert entry.layer_metrics == {"l0": FLOW["l0"] | more["l0"], "l0.bias": FLOW["l0.bias"], "l1": more["l1"]}


def test_another_value_is_a_conflict_and_writes_nothing(archive: Archive) -> None:
    """Of the run or of a layer; what else came with it is not written either."""
    archive.push_metrics("w0", 3, {"egf_1": 1.0}, layer_metrics=FLOW)
    before = unguarded(archive)
    with pytest.raises(ConflictError, match=r"w0@3: expected metric 'egf_1' to be 1\.0 as recorded, found 2.0"):
        archive.push_metrics("w0", 3, {"egf_1": 2.0, "egf_2": 1.0})
    with pytest.raises(ConflictError, match=r"w0@3, layer 'l0': expected metric 'flow_2'"):
        archive.push_metrics("w0", 3, {"egf_2": 1.0}, layer_metrics={"l0": {"flow_2": 0.5}})
    too_many = {f"m{k}": 0.0 for k in range(MAX_METRICS)}
    with pytest.raises(InvalidInputError, match=f"at most {MAX_METRICS} metrics, found {MAX_METRICS + 1}"):
        archive.push_metrics("w0", 3, too_many)
    assert unguarded(archive) == before


@pytest.mark.parametrize(
    ("metrics", "layer_metrics", "message"),
    [
        (None, None, "w0@1: expected metrics, found none"),
        ({}, {"l0": {}}, "expected metrics, found none"),
        ({"Loss": 1.0}, None, "metric 'Loss'"),
        ({"loss": float("nan")}, None, "expected a finite number"),
        (None, {"": {"flow_2": 1.0}}, "a name of 1 to 256 characters"),
        (None, {"x" * 257: {"flow_2": 1.0}}, "a name of 1 to 256 characters"),
        (None, {"a\nb": {"flow_2": 1.0}}, "that can be printed"),
        (None, {f"y{k}": {"flow_2": 1.0} for k in range(10_001)}, "at most 10000 names, found 10001"),
    ],
)
def test_what_is_none_is_refused(archive: Archive, metrics: object, layer_metrics: object, message: str) -> None:
    """Names and values that are none, and nothing at all; no run is made."""
    with pytest.raises(InvalidInputError, match=message):
        archive.push_metrics("w0", 1, metrics, layer_metrics=layer_metrics)  # type: ignore[arg-type]
    assert not archive.has_run("w0")


def test_pages_and_choices_of_metrics(archive: Archive) -> None:
    """A page has so many steps that have what was chosen, from snapshots and beside them."""
    for step in range(0, 20, 2):
        archive.push("w0", step, A, layer_metrics={"l0": {"flow_2": step / 2}})
        archive.push_metrics("w0", step + 1, {"egf_2": step + 0.5}, layer_metrics=FLOW)
    page = archive.metrics_page("w0", metric="egf_2", limit=3, after=4)
    assert [(y.step, y.metrics, y.layer_metrics) for y in page] == [(5, {"egf_2": 4.5}, {}), (7, {"egf_2": 6.5}, {}), (9, {"egf_2": 8.5}, {})]  # fmt: skip
    assert [y.step for y in archive.metrics_page("w0", layer="l0", limit=4, after=3)] == [4, 5, 6, 7]
    assert [y.step for y in archive.metrics_page("w0", metric="none", limit=4)] == []
    assert archive.metrics_page("w0", limit=1000) == archive.metrics("w0")
    biases = archive.metrics("w0", metric="flow_2", layer="l0.bias")
    assert [(y.step, y.metrics, y.layer_metrics) for y in biases] == [(s, {}, {"l0.bias": {"flow_2": 0.125}}) for s in range(1, 20, 2)]  # fmt: skip
    with pytest.raises(NotFoundError, match="run 'w9'"):
        archive.metrics("w9")


def test_of_a_snapshot_and_beside_it_the_snapshots_count(archive: Archive) -> None:
    """At one step both are shown; of one name the snapshot's."""
    archive.push("w0", 4, A, metrics={"loss": 1.0}, layer_metrics={"l0": {"flow_2": 1.0}}, epoch=2.0)
    archive.push_metrics("w0", 4, {"loss": 3.0, "egf_2": 2.0}, layer_metrics={"l0": {"flow_2": 9.0, "flow_1": 5.0}})
    (entry,) = archive.metrics("w0")
    assert (entry.metrics, entry.epoch) == ({"loss": 1.0, "egf_2": 2.0}, 2.0)
    assert entry.layer_metrics == {"l0": {"flow_2": 1.0, "flow_1": 5.0}}


def test_they_move_with_their_run(archive: Archive, tmp_path: Path) -> None:
    """Through a file and directly, again without a change, and into an archive that has a part of them."""
    archive.push("w0", 0, A)
    archive.push_metrics("w0", 3, {"egf_2": 0.25}, layer_metrics=FLOW, epoch=0.5)
    archive.push_metrics("w0", 9, {"egf_2": 0.5})
    archive.push_metrics("bare", 1, {"loss": 0.5})
    archive.export(tmp_path / "runs.zip")
    with embedded(tmp_path / "other") as target, target.open() as other:
        other.push_metrics("w0", 3, {"egf_2": 0.25})
        other.import_(tmp_path / "runs.zip")
        other.import_(tmp_path / "runs.zip")
        for run in ("w0", "bare"):
            ours, theirs = ([(y.step, y.metrics, y.layer_metrics) for y in x.metrics(run)] for x in (archive, other))
            assert ours == theirs
        assert list(other.verify()) == []
        archive.push_metrics("w0", 9, {"egf_1": 7.0})
        other.push_metrics("w0", 9, {"egf_1": 8.0})
        before = contents(other)
        with pytest.raises(ConflictError, match=r"w0@9: .* holds another 'egf_1': expected 7.0, found 8.0"):
            archive.copy_to(other)
        assert contents(other) == before


def test_verify_names_metrics_that_call_themselves_otherwise(archive: Archive) -> None:
    """Their id is the run and the step."""
    archive.push_metrics("w0", 3, {"egf_2": 0.25})
    assert list(archive.verify()) == []
    tell(archive, "MATCH (m:StepMetrics {id: 'w0@3'}) SET m.step = 4 RETURN m.id AS id")
    (violation,) = archive.verify()
    assert (violation.rule, violation.where) == ("the id of metrics is run@step", "w0@4")


def test_gradient_flow_over_runs(archive: Archive) -> None:
    """Its mean of each run over its training, and Kendall's tau with what the runs reached last."""
    for k in range(9):
        for step in range(5):
            archive.push_metrics(f"w{k}", step, {"egf_2": k + step / 4, "gradient_norm_2": 9.0 - k}, epoch=step / 2)
        archive.push(f"w{k}", 4, A, metrics={"accuracy": 0.9 if k == 8 else 0.1 * k})
    archive.push("other", 0, A, metrics={"accuracy": 0.5})
    flows = archive.gradient_flows(moments=3)
    assert [(y.run, y.steps, y.egf_2, y.egf_1) for y in flows] == [(f"w{k}", (0, 2, 4), k + 0.5, None) for k in range(9)]  # fmt: skip
    egf, norm = archive.flow_correlations("accuracy", moments=3)
    assert (egf.measure, egf.n, egf.tau) == ("egf_2", 9, 1)
    assert (norm.measure, norm.n, norm.tau) == ("gradient_norm_2", 9, -1)
    with pytest.raises(NotFoundError, match=r"run 'x\*'"):
        archive.gradient_flows("x*")
    with pytest.raises(InvalidInputError, match="'other': expected 3 or more steps at which it was measured, found 0"):
        archive.gradient_flows("other", moments=3)
    with pytest.raises(InvalidInputError, match="expected 8 runs or more that have both, found 2"):
        archive.flow_correlations("accuracy", ["w0", "w1"], moments=3)
