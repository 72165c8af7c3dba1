"""Pushes and layers as JSON. ``shape.as_json`` makes the JSON of runs and snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import TypedDict

if TYPE_CHECKING:  # for types only: a verb imports no more than it needs
    from collections.abc import Mapping

    from topostrata.ingest.pushing import Pushed
    from topostrata.runs import RunLayer
    from topostrata.topology import Layer, LayerShape


def shape_answer(layer: Layer | LayerShape) -> dict[str, Any]:
    """What joins which in a layer as JSON."""
    return {
        "name": layer.name,
        "source": layer.source.name,
        "target": layer.target.name,
        "n_source": layer.source.size,
        "n_target": layer.target.size,
        "taps": layer.taps,
        "groups": layer.groups,
    }


class RunLayerAnswer(TypedDict):
    """A layer of a run, the same at all its steps: what it joins, and which of its connections stand in the graph.

    ``projection``: ``follow``, ``off``, or ``limit`` where they went over the limit of relationships and stopped;
    ``projected_step`` is how far they are there, as ``lifetimes`` relationships. Where the graph has only what lived in
    the ``projected_last`` newest snapshots, they are whole from the step ``projected_from`` on.
    """

    name: str
    source: str
    target: str
    n_source: int
    n_target: int
    taps: int
    groups: int
    shared_with: str | None
    projection: str
    projected_step: int | None
    lifetimes: int
    projected_last: int | None
    projected_from: int | None


def run_layer_answer(layer: RunLayer) -> dict[str, Any]:
    """A layer of a run as JSON."""
    names = ("shared_with", "projection", "projected_step", "lifetimes", "projected_last", "projected_from")
    return {**shape_answer(layer.shape), **{name: getattr(layer, name) for name in names}}


def layer_answer(layer: Layer, shared_with: str | None, metrics: Mapping[str, float]) -> dict[str, Any]:
    """A layer as JSON; ``dead_sources`` counts sources without outputs, ``dead_targets`` targets without inputs.

    ``shared_with`` names the layer with which it is tied, and whose connections it then has.
    """
    return {
        **shape_answer(layer),
        "shared_with": shared_with,
        "connections": layer.nnz,
        "density": layer.density,
        "dead_sources": int((layer.fan_out == 0).sum()),
        "dead_targets": int((layer.fan_in == 0).sum()),
        "metrics": dict(metrics),
    }


def push_answer(pushed: Pushed) -> dict[str, Any]:
    """The result of a push of files as JSON; ``connections`` counts those of the snapshots that were added."""
    added = [snapshot for snapshot in pushed.snapshots if snapshot.outcome == "added"]
    return {
        "run": pushed.run,
        "added": [snapshot.step for snapshot in added],
        "unchanged": [snapshot.step for snapshot in pushed.snapshots if snapshot.outcome == "unchanged"],
        "connections": sum(snapshot.nnz for snapshot in added),
    }
