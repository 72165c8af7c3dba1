"""What goes out of pushes and of the layers of a snapshot, as JSON; runs and snapshots are their dataclasses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a verb loads what it asks for, not all that could be asked
    from topostrata.ingest.pushing import Pushed
    from topostrata.topology import Layer


def layer_answer(layer: Layer) -> dict[str, Any]:
    """A layer as JSON; ``dead_sources`` have no outputs in it, ``dead_targets`` no inputs."""
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


def push_answer(pushed: Pushed) -> dict[str, Any]:
    """What a push of files did, as JSON; ``connections`` counts those added."""
    added = [snapshot for snapshot in pushed.snapshots if snapshot.outcome == "added"]
    return {
        "run": pushed.run,
        "added": [snapshot.step for snapshot in added],
        "unchanged": [snapshot.step for snapshot in pushed.snapshots if snapshot.outcome == "unchanged"],
        "connections": sum(snapshot.nnz for snapshot in added),
    }
