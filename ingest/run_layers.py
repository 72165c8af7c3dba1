"""The layers of a run: made with its first snapshot, and the same at all that follow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from topostrata import wiring_text
from topostrata.errors import ConflictError, InvalidInputError, NotFoundError
from topostrata.projections import Projection, last_of, layers_in
from topostrata.store.graph import Transaction
from topostrata.store.runs import WIRING_FORMAT
from topostrata.topology import LayerShape, Topology, Wiring


def create_layers(tx: Transaction, run: str, wiring: Wiring, projection: Projection) -> None:
    """Store the layers of a run, with its wiring where their own properties do not say all of it."""
    owners = [layer.name for layer in wiring if layer.name not in wiring.shared_with]
    names, last = layers_in(projection), last_of(projection)
    chosen = owners if names is None else names
    if unknown := set(chosen) - set(owners):
        raise NotFoundError(f"layer {min(unknown)!r}: expected one of {', '.join(sorted(owners))}")
    rows = [
        [
            y.name, k, y.source.name, y.target.name, y.source.size, y.target.size, y.taps, y.source.labelled,
            y.target.labelled, "follow" if y.name in chosen else "off", last,
        ]
        for k, y in enumerate(wiring)
    ]  # fmt: skip
    tx.run("runs/create_layers", run=run, rows=rows)
    if wiring.format >= WIRING_FORMAT:
        document = {"format": WIRING_FORMAT, **wiring_text.document(wiring.layers)}
        more = [[y.name, y.groups if y.groups > 1 else None, wiring.shared_with.get(y.name)] for y in wiring]
        tx.run("runs/set_wiring", run=run, wiring=json.dumps(document), rows=more)


def check_wiring(run: str, wiring: Wiring, expected: Wiring) -> None:
    """A run keeps its wiring; only how its connections lie in stored parameters may be told otherwise later."""
    if len(expected) != len(wiring):
        raise ConflictError(f"run {run!r}: expected its {len(expected)} layers, found {len(wiring)}", hint=_OTHER_RUN)
    for ours, theirs in zip(expected, wiring, strict=True):
        if replace(ours, part=None) != replace(theirs, part=None):
            raise ConflictError(
                f"run {run!r}: expected layer {_layer_text(ours)}, found {_layer_text(theirs)}", hint=_OTHER_RUN
            )
    if expected.shared_with != wiring.shared_with:
        raise ConflictError(
            f"run {run!r}: expected the tied layers {dict(expected.shared_with)}, found {dict(wiring.shared_with)}",
            hint=_OTHER_RUN,
        )


_OTHER_RUN = "a run's layers never change: push to another run, with this one as its parent"


def _layer_text(layer: LayerShape) -> str:
    ends = " -> ".join(
        f"{s.name} {s.size}" if s.plain else f"{s.name} {' x '.join(f'{a.name} {a.size}' for a in s.axes)}"
        for s in (layer.source, layer.target)
    )
    groups = f", {layer.groups} groups" if layer.groups > 1 else ""
    return f"{layer.name!r} ({ends}, {layer.taps} taps{groups})"


def check_layer_names(topology: Topology, layer_metrics: Mapping[str, object]) -> None:
    """Refuse metrics of a layer that a network has not, or has under another name."""
    shared_with = topology.wiring.shared_with
    for name in layer_metrics:
        if name in shared_with:
            raise InvalidInputError(
                f"layer metrics: layer {name!r} is tied with {shared_with[name]!r}: expected them under that name"
            )
        if name not in topology:
            known = ", ".join(topology.to_masks())[:200]
            raise NotFoundError(f"layer metrics: expected one of the layers {known}, found {name!r}")
