"""Rows of the graph as values: runs, snapshots, metrics, layers, changes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from topostrata.errors import CorruptError, TopostrataError
from topostrata.runs import Change, LayerMetrics, Parent, Run, RunLayer, Snapshot, StepMetrics

if TYPE_CHECKING:  # so that values which are read elsewhere need no driver
    from topostrata.store.graph import Row
    from topostrata.topology import LayerShape, Wiring

VERIFY = "`topostrata verify` says what else is damaged"


def as_run(row: Row, parents: tuple[Parent, ...]) -> Run:
    """A run of a row with its columns; its ``parents`` are asked for apart."""
    return Run(
        row["id"],
        row["name"],
        row["status"],
        datetime.fromisoformat(row["created_at"]),
        config=json.loads(row["config"]),
        tags=tuple(row["tags"] or ()),
        parents=parents,
        snapshots=row["snapshots"],
        first_step=row["first_step"],
        last_step=row["last_step"],
    )


def as_snapshot(node: Mapping[str, Any], layer_metrics: LayerMetrics) -> Snapshot:
    """A snapshot of the properties of its node."""
    return Snapshot(
        node["run"],
        node["step"],
        node.get("digest", ""),  # of a damaged archive
        node["nnz"],
        datetime.fromisoformat(node["recorded_at"]),
        epoch=node.get("epoch"),
        metrics=as_metrics(node),
        layer_metrics=layer_metrics,
    )


def as_step_metrics(row: Row) -> StepMetrics:
    """Numbers of a step of a row: its node, and those of its layers."""
    node = row["metrics"]
    layers = sorted(row["layers"], key=lambda layer: str(layer["layer"]))
    return StepMetrics(
        node["run"],
        node["step"],
        datetime.fromisoformat(node["recorded_at"]),
        epoch=node.get("epoch"),
        metrics=as_metrics(node),
        layer_metrics={layer["layer"]: as_metrics(layer) for layer in layers},
    )


def as_change(row: Row) -> Change:
    """A change of a row of the log."""
    at, details = datetime.fromisoformat(row["at"]), json.loads(row["details"])
    return Change(row["moment"], at, row["kind"], row["run"], row["step"], details)


def as_metrics(properties: Mapping[str, Any]) -> dict[str, float]:
    """The metrics among the properties of a node or relationship."""
    names = sorted(key for key in properties if key.startswith("metric_"))
    return {name.removeprefix("metric_"): properties[name] for name in names}


def as_layers(run: str, rows: Sequence[Row]) -> tuple[RunLayer, ...]:
    """The layers of a run, of the rows of their nodes; ``CorruptError`` where they are not those of its wiring."""
    if not rows:
        return ()
    shared_with: Mapping[str, str] = {}
    if rows[0]["wiring"] is None:
        shapes = tuple(_shape(row) for row in rows)
    else:
        wiring = _parsed(run, rows[0]["wiring"])
        shapes, shared_with = wiring.layers, wiring.shared_with
    if [shape.name for shape in shapes] != [row["name"] for row in rows]:
        raise CorruptError(
            f"run {run}: expected the layers of its wiring, found {', '.join(row['name'] for row in rows)[:200]}",
            hint=VERIFY,
        )
    return tuple(
        RunLayer(
            run,
            shape,
            projection=row["projection"],
            projected_step=row["projected_step"],
            lifetimes=row["lifetimes"] or 0,
            projected_last=row["projected_last"],
            projected_from=row["projected_from"],
            trimming=bool(row["trimming"]),
            shared_with=shared_with.get(shape.name),
        )
        for shape, row in zip(shapes, rows, strict=True)
    )


def _shape(row: Row) -> LayerShape:
    from topostrata.topology import LayerShape, Space  # noqa: PLC0415 - with NumPy behind it; runs do without layers

    try:
        source = Space(row["source"], row["n_source"], row["source_labelled"])
        target = Space(row["target"], row["n_target"], row["target_labelled"])
        return LayerShape(row["name"], source, target, row["taps"])
    except TopostrataError as error:
        raise CorruptError(f"layer {row['run']}/{row['name']}: {error.message}", hint=VERIFY) from error


@lru_cache(maxsize=16)
def _parsed(run: str, text: str) -> Wiring:
    """The wiring that a run holds as ``{"format": 2, "spaces": ..., "layers": ...}``."""
    from topostrata import wiring_text  # noqa: PLC0415 - see _shape
    from topostrata.topology import Wiring  # noqa: PLC0415

    at = f"run {run}: wiring"
    try:
        document = json.loads(text)
        wiring_text.check_keys(document, {"format", "spaces", "layers"}, {"axes"}, at)
        return Wiring(wiring_text.from_document(document, at))
    except (TopostrataError, ValueError) as error:
        raise CorruptError(f"{at}: expected a document of layers, found: {error}", hint=VERIFY) from error
