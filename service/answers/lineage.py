"""What goes out of descent and timelines, as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import TypedDict

if TYPE_CHECKING:  # a verb loads what it asks for, not all that could be asked
    from topostrata.lineage.declared import Kinship, Lineage
    from topostrata.lineage.stored import StoredInference
    from topostrata.lineage.timelines import Point, Timeline


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
