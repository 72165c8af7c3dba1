"""What goes out: the JSON of the command line and of REST, one definition for both."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypedDict

from stratigraph.service.distance.matrix import leaves
from stratigraph.service.evolution.survival import ages, kaplan_meier, lifetimes, survival

if TYPE_CHECKING:  # what answers are made from: a verb loads what it asks for, not all that could be asked
    from stratigraph.runs import Parent, Run, Snapshot
    from stratigraph.service.distance.matrix import DistanceMatrix
    from stratigraph.service.distance.nnstd import Distance
    from stratigraph.service.evolution.between import Evolution
    from stratigraph.service.evolution.history import LayerHistory
    from stratigraph.service.evolution.stored import RunHistory
    from stratigraph.service.evolution.structure import Degrees, Structure
    from stratigraph.service.lineage.declared import Kinship, Lineage
    from stratigraph.service.lineage.stored import StoredInference
    from stratigraph.service.lineage.timelines import Point, Timeline
    from stratigraph.topology import Layer, Mask


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
    """The distance of one layer, 0 to 1, the number of its target units, and both densities.

    ``ambiguous``: units with more than one optimal partner. ``chance``: what independent layers of the same widths and
    densities would have, with its standard error; ``z``: how many spreads of chance the distance lies from it.
    """

    name: str
    distance: float
    width: int
    density_a: float
    density_b: float
    ambiguous: int | None
    chance: float | None
    chance_error: float | None
    z: float | None


class DistanceAnswer(TypedDict):
    """The distance of two topologies: ``nnstd`` is the mean of the layers'.

    ``canonical`` says that the value does not depend on the order in which hidden units are stored.
    """

    a: str
    b: str
    alignment: str
    nnstd: float
    canonical: bool
    layers: list[LayerDistanceAnswer]


class NearAnswer(TypedDict):
    """A neighbour and how far it is."""

    ref: str
    nnstd: float


class DistancesAnswer(TypedDict):
    """All pairs: ``nnstd[i][j]`` and, per layer, ``layers[i][j][k]``.

    ``linkage`` is a hierarchical clustering (average) as SciPy writes it, rows of two clusters, their distance and how
    many refs they hold; ``order`` names the refs along its leaves. ``nearest[i]`` are the nearest of ``refs[i]``, null
    where they were not asked for.
    """

    refs: list[str]
    alignment: str
    layer_names: list[str]
    nnstd: list[list[float]]
    layers: list[list[list[float]]]
    order: list[str]
    linkage: list[list[float]]
    nearest: list[list[NearAnswer]] | None


class LayerEvolutionAnswer(TypedDict):
    """What became of the connections of one layer; ``dead`` units have no inputs."""

    name: str
    alive_from: int
    alive_to: int
    survived: int
    regrown: int
    died: int
    born: int
    jaccard_distance: float
    unit_distance: float
    dead_from: int
    dead_to: int
    revived: int


EvolutionAnswer = TypedDict(
    "EvolutionAnswer", {"run": str, "from": int, "to": int, "from_run": str, "layers": list[LayerEvolutionAnswer]}
)
EvolutionAnswer.__doc__ = """What became of a run's connections from one step to another, per layer.

``from_run`` is another run where the history goes through parents."""


class LayerHistoryAnswer(TypedDict):
    """One layer at every snapshot; ``exploration`` is the share of possible connections that were ever alive."""

    name: str
    alive: list[int]
    born: list[int]
    died: list[int]
    regrown: list[int]
    density: list[float]
    exploration: list[float]


class HistoryAnswer(TypedDict):
    """A run over all its snapshots: each layer, all together, and those that are not always full (where there are)."""

    run: str
    refs: list[str]
    layers: list[LayerHistoryAnswer]
    total: LayerHistoryAnswer
    rewired: LayerHistoryAnswer | None


class KaplanMeierAnswer(TypedDict):
    """The share of connections that reach an age (in steps), with a 95 % band."""

    ages: list[int]
    survival: list[float]
    low: list[float]
    high: list[float]
    at_risk: list[int]
    deaths: list[int]
    censored: int
    left_truncated: int
    median: int | None


class LifetimesAnswer(TypedDict):
    """How many connections died at each age, in steps."""

    age: list[int]
    count: list[int]


class LayerSurvivalAnswer(TypedDict):
    """Of those alive at `from`, ``survived`` and their ``share`` at each ref; ages, lifetimes and their estimate."""

    name: str
    survived: list[int]
    share: list[float]
    older: list[int]
    lifetimes: LifetimesAnswer
    kaplan_meier: KaplanMeierAnswer


SurvivalAnswer = TypedDict(
    "SurvivalAnswer",
    {
        "run": str,
        "from": str,
        "refs": list[str],
        "age_refs": list[str],
        "layers": list[LayerSurvivalAnswer],
        "total": LayerSurvivalAnswer,
    },
)
SurvivalAnswer.__doc__ = """How long a run's connections live: forward from a snapshot, and backward from the last.

``survived[k]`` belongs to ``refs[k]``; ``older[k]``, of those alive at the last snapshot, to ``age_refs[k]``."""


class ConnectionAnswer(TypedDict):
    """One connection: from a source unit, at a tap, to a target unit."""

    source: int
    tap: int
    target: int


class DegreesAnswer(TypedDict):
    """How connections are spread over units: ``histogram[d]`` units have d of them."""

    mean: float
    cv: float | None
    gini: float | None
    dead: list[int]
    hubs: list[dict[str, int]]
    histogram: list[int]


class SpaceStructureAnswer(TypedDict):
    """The units of a space; no ``fan_in`` for the network's inputs, no ``fan_out`` for its outputs."""

    name: str
    size: int
    fan_in: DegreesAnswer | None
    fan_out: DegreesAnswer | None


class LayerStructureAnswer(TypedDict):
    """``effective`` connections lie on a path from an input to an output of the network."""

    name: str
    connections: int
    density: float
    effective: int
    effective_density: float


class StructureAnswer(TypedDict):
    """The shape of one snapshot."""

    ref: str
    spaces: list[SpaceStructureAnswer]
    layers: list[LayerStructureAnswer]


class DescentAnswer(TypedDict):
    """``child`` started from ``parent@step``."""

    parent: str
    step: int
    child: str
    how: str


class LineageAnswer(TypedDict):
    """The ancestors and descendants of a run, parents before their children; ``cut`` more lie beyond the depth."""

    nodes: list[str]
    edges: list[DescentAnswer]
    cut: int


class KinshipAnswer(TypedDict):
    """How two runs are related: their nearest common ancestors, and the ways from the first of them to each."""

    a: str
    b: str
    ancestors: list[str]
    to_a: list[str]
    to_b: list[str]


class InferredEdgeAnswer(TypedDict):
    """``child`` probably descends from ``parent``; ``direction`` says how it is known which is which."""

    parent: str
    child: str
    distance: float
    margin: float | None
    support: float | None
    direction: str


class InferenceAnswer(TypedDict):
    """A probable ancestry: a tree over runs, each compared at the step in ``steps``."""

    name: str
    method: str
    alignment: str
    depth: int | None
    root: str | None
    samples: int
    steps: dict[str, int]
    edges: list[InferredEdgeAnswer]


class PointAnswer(TypedDict):
    """The distance at a step from what was there at ``other_step``, and what chance would give."""

    step: int
    other_step: int
    distance: float
    chance: float | None


class TimelineAnswer(TypedDict):
    """How far two runs are apart over time, or a run from its own past; ``trend`` is -1 (nearer) to 1 (farther)."""

    a: str
    b: str
    points: list[PointAnswer]
    closest: PointAnswer | None
    change: float | None
    trend: float | None
    course: str | None


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
        "canonical": distance.canonical,
        "layers": [
            {
                "name": layer.name,
                "distance": layer.distance,
                "width": layer.width,
                "density_a": layer.density_a,
                "density_b": layer.density_b,
                "ambiguous": layer.ambiguous,
                "chance": layer.chance.level if layer.chance else None,
                "chance_error": layer.chance.error if layer.chance else None,
                "z": layer.z if layer.z is not None and math.isfinite(layer.z) else None,
            }
            for layer in distance.layers
        ],
    }


def distances_answer(matrix: DistanceMatrix, *, nearest: int | None = None) -> DistancesAnswer:
    """A matrix of distances as JSON, with the ``nearest`` of each network where a number is given."""
    tree = matrix.linkage() if len(matrix.labels) > 1 else None
    near = None if nearest is None else matrix.nearest(nearest)
    return {
        "refs": list(matrix.labels),
        "alignment": matrix.alignment,
        "layer_names": list(matrix.layer_names),
        "nnstd": matrix.nnstd.tolist(),
        "layers": matrix.layers.tolist(),
        "order": [matrix.labels[k] for k in ([0] if tree is None else leaves(tree))],
        "linkage": [] if tree is None else tree.tolist(),
        "nearest": None
        if near is None
        else [[{"ref": label, "nnstd": distance} for label, distance in each] for each in near],
    }


def evolution_answer(evolution: Evolution) -> EvolutionAnswer:
    """An evolution as JSON."""
    return {
        "run": evolution.run,
        "from": evolution.from_step,
        "to": evolution.to_step,
        "from_run": evolution.from_run,
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
                "dead_from": layer.dead_from,
                "dead_to": layer.dead_to,
                "revived": layer.revived,
            }
            for layer in evolution.layers
        ],
    }


def history_answer(history: RunHistory) -> HistoryAnswer:
    """A run over all its snapshots as JSON."""
    return {
        "run": history.run,
        "refs": [str(moment) for moment in history.moments],
        "layers": [_layer_history(layer) for layer in history.layers],
        "total": _layer_history(history.total),
        "rewired": _layer_history(history.rewired) if history.rewired else None,
    }


def survival_answer(history: RunHistory, from_step: int | None = None) -> SurvivalAnswer:
    """How long the connections of a run live, as JSON; ``from_step`` is the first by default."""
    refs = [str(moment) for moment in history.moments]
    start = 0 if from_step is None else history.place(from_step)
    time = history.moments[start].time
    return {
        "run": history.run,
        "from": refs[start],
        "refs": refs[start:],
        "age_refs": refs,
        "layers": [_layer_survival(layer, time) for layer in history.layers],
        "total": _layer_survival(history.total, time),
    }


def connections_answer(mask: Mask, cells: NDArray[np.int64]) -> list[ConnectionAnswer]:
    """Cells of a mask's shape as connections, in the order of target, source, tap."""
    keys = cells % mask.stride
    columns = zip(
        (keys // mask.taps).tolist(), (keys % mask.taps).tolist(), (cells // mask.stride).tolist(), strict=True
    )
    return [{"source": source, "tap": tap, "target": target} for source, tap, target in columns]


def structure_answer(ref: str, found: Structure) -> StructureAnswer:
    """The shape of a snapshot as JSON."""
    return {
        "ref": ref,
        "spaces": [
            {"name": s.name, "size": s.size, "fan_in": _degrees(s.fan_in), "fan_out": _degrees(s.fan_out)}
            for s in found.spaces
        ],
        "layers": [
            {
                "name": layer.name,
                "connections": layer.connections,
                "density": layer.density,
                "effective": layer.effective,
                "effective_density": layer.effective_density,
            }
            for layer in found.layers
        ],
    }


def _layer_history(layer: LayerHistory) -> LayerHistoryAnswer:
    return {
        "name": layer.name,
        "alive": layer.alive.tolist(),
        "born": layer.born.tolist(),
        "died": layer.died.tolist(),
        "regrown": layer.regrown.tolist(),
        "density": layer.density.tolist(),
        "exploration": layer.exploration.tolist(),
    }


def _layer_survival(layer: LayerHistory, time: int) -> LayerSurvivalAnswer:
    curve, estimate, ended = survival(layer, time), kaplan_meier(layer), lifetimes(layer)
    return {
        "name": layer.name,
        "survived": curve.survived.tolist(),
        "share": curve.share.tolist(),
        "older": ages(layer).older.tolist(),
        "lifetimes": {"age": ended["age"].tolist(), "count": ended["count"].tolist()},
        "kaplan_meier": {
            "ages": estimate.ages.tolist(),
            "survival": estimate.survival.tolist(),
            "low": estimate.low.tolist(),
            "high": estimate.high.tolist(),
            "at_risk": estimate.at_risk.tolist(),
            "deaths": estimate.deaths.tolist(),
            "censored": estimate.censored,
            "left_truncated": estimate.left_truncated,
            "median": estimate.median,
        },
    }


def _degrees(found: Degrees | None) -> DegreesAnswer | None:
    if found is None:
        return None
    return {
        "mean": found.mean,
        "cv": found.cv,
        "gini": found.gini,
        "dead": list(found.dead),
        "hubs": [{"unit": hub.index, "connections": hub.connections} for hub in found.hubs],
        "histogram": found.histogram.tolist(),
    }


def lineage_answer(lineage: Lineage) -> LineageAnswer:
    """A lineage as JSON."""
    return {
        "nodes": list(lineage.nodes),
        "edges": [{"parent": e.parent, "step": e.step, "child": e.child, "how": e.how} for e in lineage.edges],
        "cut": lineage.cut,
    }


def kinship_answer(found: Kinship) -> KinshipAnswer:
    """How two runs are related, as JSON."""
    return {
        "a": found.a,
        "b": found.b,
        "ancestors": list(found.ancestors),
        "to_a": list(found.to_a),
        "to_b": list(found.to_b),
    }


def inference_answer(found: StoredInference) -> InferenceAnswer:
    """An inferred ancestry as JSON."""
    tree = found.inference
    return {
        "name": found.id,
        "method": tree.method,
        "alignment": tree.alignment,
        "depth": tree.depth,
        "root": tree.root,
        "samples": tree.samples,
        "steps": dict(found.steps),
        "edges": [
            {
                "parent": e.parent,
                "child": e.child,
                "distance": e.distance,
                "margin": e.margin,
                "support": e.support,
                "direction": e.direction,
            }
            for e in tree.edges
        ],
    }


def timeline_answer(found: Timeline) -> TimelineAnswer:
    """A timeline as JSON."""
    return {
        "a": found.a,
        "b": found.b,
        "points": [_point(point) for point in found.points],
        "closest": _point(found.closest) if found.closest else None,
        "change": found.change,
        "trend": found.trend,
        "course": found.course,
    }


def _point(point: Point) -> PointAnswer:
    return {
        "step": point.step,
        "other_step": point.other_step,
        "distance": point.distance,
        "chance": point.chance,
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
