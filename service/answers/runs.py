"""What goes out of runs, snapshots and layers, as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from typing_extensions import TypedDict

if TYPE_CHECKING:  # a verb loads what it asks for, not all that could be asked
    from topostrata.runs import Parent, Run, Snapshot
    from topostrata.topology import Layer


class ParentAnswer(TypedDict):
    """A declared parent: the snapshot ``parent@step``, and how the run departed from it."""

    parent: str
    step: int
    how: str


class RunAnswer(TypedDict):
    """One run."""

    run: str
    name: str
    status: str
    created_at: str
    config: dict[str, Any]
    tags: list[str]
    parents: list[ParentAnswer]
    snapshots: int
    first_step: int | None
    last_step: int | None


class SnapshotAnswer(TypedDict):
    """One snapshot, without its connections."""

    ref: str
    run: str
    step: int
    epoch: float | None
    digest: str
    connections: int
    recorded_at: str
    metrics: dict[str, float]


class LayerAnswer(TypedDict):
    """One layer of a snapshot; ``dead_sources`` have no outputs in it, ``dead_targets`` no inputs."""

    name: str
    source: str
    target: str
    n_source: int
    n_target: int
    taps: int
    connections: int
    density: float
    dead_sources: int
    dead_targets: int


class PushAnswer(TypedDict):
    """Which steps were new and which were there already; ``connections`` counts those of the steps added."""

    run: str
    added: list[int]
    unchanged: list[int]
    connections: int


def parent_answer(parent: Parent) -> ParentAnswer:
    """A parent as JSON."""
    return {"parent": parent.run, "step": parent.step, "how": parent.how}


def run_answer(run: Run) -> RunAnswer:
    """A run as JSON."""
    return {
        "run": run.id,
        "name": run.name,
        "status": run.status,
        "created_at": run.created_at.isoformat(),
        "config": dict(run.config),
        "tags": list(run.tags),
        "parents": [parent_answer(parent) for parent in run.parents],
        "snapshots": run.snapshots,
        "first_step": run.first_step,
        "last_step": run.last_step,
    }


def snapshot_answer(snapshot: Snapshot) -> SnapshotAnswer:
    """A snapshot as JSON."""
    return {
        "ref": snapshot.id,
        "run": snapshot.run,
        "step": snapshot.step,
        "epoch": snapshot.epoch,
        "digest": snapshot.digest,
        "connections": snapshot.nnz,
        "recorded_at": snapshot.recorded_at.isoformat(),
        "metrics": dict(snapshot.metrics),
    }


def layer_answer(layer: Layer) -> LayerAnswer:
    """A layer as JSON."""
    return {
        "name": layer.name,
        "source": layer.source.name,
        "target": layer.target.name,
        "n_source": layer.source.size,
        "n_target": layer.target.size,
        "taps": layer.taps,
        "connections": layer.nnz,
        "density": layer.density,
        "dead_sources": int((layer.mask.fan_out == 0).sum()),
        "dead_targets": int((layer.mask.fan_in == 0).sum()),
    }


def push_answer(run: str, pushed: Iterable[tuple[int, str, int]]) -> PushAnswer:
    """What a push did, from (step, outcome, connections) of each snapshot."""
    each = list(pushed)
    return {
        "run": run,
        "added": [step for step, outcome, _ in each if outcome == "added"],
        "unchanged": [step for step, outcome, _ in each if outcome == "unchanged"],
        "connections": sum(nnz for _, outcome, nnz in each if outcome == "added"),
    }
