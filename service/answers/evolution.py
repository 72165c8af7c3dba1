"""What goes out of evolution, survival and structure, as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypedDict

from topostrata.evolution.survival import ages, kaplan_meier, lifetimes, survival

if TYPE_CHECKING:  # a verb loads what it asks for, not all that could be asked
    from topostrata.evolution.between import Evolution
    from topostrata.evolution.history import LayerHistory
    from topostrata.evolution.stored import RunHistory
    from topostrata.measures.structure import Degrees, Structure
    from topostrata.topology import Mask


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
