"""What goes out: the JSON of the command line and of REST, one definition for both."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from typing_extensions import TypedDict

from stratigraph.runs import Parent, Run, Snapshot
from stratigraph.service.distance.nnstd import Distance
from stratigraph.service.distance.pairwise import DistanceMatrix
from stratigraph.service.evolution.between import Evolution
from stratigraph.service.lineage.declared import Lineage
from stratigraph.topology import Layer


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


class LayerDistanceAnswer(TypedDict):
    """The distance of one layer, 0 to 1, the number of its target units, and both densities."""

    name: str
    distance: float
    width: int
    density_a: float
    density_b: float


class DistanceAnswer(TypedDict):
    """The distance of two topologies: ``nnstd`` is the mean of the layers'."""

    a: str
    b: str
    alignment: str
    nnstd: float
    layers: list[LayerDistanceAnswer]


class DistancesAnswer(TypedDict):
    """All pairs: ``nnstd[i][j]`` and, per layer, ``layers[i][j][k]``."""

    refs: list[str]
    alignment: str
    layer_names: list[str]
    nnstd: list[list[float]]
    layers: list[list[list[float]]]


class LayerEvolutionAnswer(TypedDict):
    """What became of the connections of one layer."""

    name: str
    alive_from: int
    alive_to: int
    survived: int
    regrown: int
    died: int
    born: int
    jaccard_distance: float
    unit_distance: float


EvolutionAnswer = TypedDict(
    "EvolutionAnswer", {"run": str, "from": int, "to": int, "layers": list[LayerEvolutionAnswer]}
)
EvolutionAnswer.__doc__ = "What became of a run's connections from one step to another, per layer."


class DescentAnswer(TypedDict):
    """``child`` started from ``parent@step``."""

    parent: str
    step: int
    child: str
    how: str


class LineageAnswer(TypedDict):
    """The ancestors and descendants of a run; parents stand before their children."""

    nodes: list[str]
    edges: list[DescentAnswer]


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


def distance_answer(a: str, b: str, distance: Distance) -> DistanceAnswer:
    """A distance as JSON; ``a`` and ``b`` say of what."""
    return {
        "a": a,
        "b": b,
        "alignment": distance.alignment,
        "nnstd": distance.nnstd,
        "layers": [
            {
                "name": layer.name,
                "distance": layer.distance,
                "width": layer.width,
                "density_a": layer.density_a,
                "density_b": layer.density_b,
            }
            for layer in distance.layers
        ],
    }


def distances_answer(matrix: DistanceMatrix) -> DistancesAnswer:
    """A matrix of distances as JSON."""
    return {
        "refs": list(matrix.labels),
        "alignment": matrix.alignment,
        "layer_names": list(matrix.layer_names),
        "nnstd": matrix.nnstd.tolist(),
        "layers": matrix.layers.tolist(),
    }


def evolution_answer(evolution: Evolution) -> EvolutionAnswer:
    """An evolution as JSON."""
    return {
        "run": evolution.run,
        "from": evolution.from_step,
        "to": evolution.to_step,
        "layers": [
            {
                "name": layer.name,
                "alive_from": layer.alive_from,
                "alive_to": layer.alive_to,
                "survived": layer.survived,
                "regrown": layer.regrown,
                "died": layer.died,
                "born": layer.born,
                "jaccard_distance": layer.jaccard_distance,
                "unit_distance": layer.unit_distance,
            }
            for layer in evolution.layers
        ],
    }


def lineage_answer(lineage: Lineage) -> LineageAnswer:
    """A lineage as JSON."""
    return {
        "nodes": list(lineage.nodes),
        "edges": [{"parent": e.parent, "step": e.step, "child": e.child, "how": e.how} for e in lineage.edges],
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
