"""What has to be edited to make one network the other: the inputs to delete and to insert, unit by unit.

NNSTD is a graph edit distance (Liu et al. 2020, section 3): a unit's distance from its counterpart is the number of its
edits divided by the number of inputs that either of the two has. So the edits explain a distance exactly.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from topostrata.distance.alignments import DEFAULT, Alignment
from topostrata.distance.common import CommonLayer, CommonNetwork, common_network
from topostrata.distance.comparable import plans
from topostrata.distance.comparison import inverse
from topostrata.distance.nnstd import Distance, check_topology, nnstd
from topostrata.errors import InvalidInputError, NotFoundError
from topostrata.files import whole
from topostrata.frames import frame
from topostrata.shown import Shown, Table
from topostrata.topology import Topology

if TYPE_CHECKING:
    import pandas as pd

Ints = NDArray[np.int64]

COLUMNS = ("layer", "edit", "source", "target", "tap", "source_b", "target_b")


@dataclass(frozen=True, slots=True, eq=False)
class LayerEdits:
    """The edits of one layer: how many connections both networks have, A alone (delete), and B alone (insert).

    Only in Python, arrays of shape (n, 5): ``kept``, ``deletions`` and ``insertions`` have for each connection its
    source and target among A's units, its tap, and its source and target among B's; -1 where a unit has no counterpart.
    """

    json_names: ClassVar = {"kept": None, "deletions": None, "insertions": None}

    name: str
    source: str
    target: str
    kept: Ints
    deletions: Ints
    insertions: Ints

    @property
    def common(self) -> int:
        """Connections that both have."""
        return len(self.kept)

    @property
    def deleted(self) -> int:
        """Connections that A alone has."""
        return len(self.deletions)

    @property
    def inserted(self) -> int:
        """Connections that B alone has."""
        return len(self.insertions)

    def listed(self) -> list[list[Any]]:
        """All edits as rows of layer, edit (delete or insert), source, target, tap, and the ends among B's units."""
        kinds = (("delete", self.deletions), ("insert", self.insertions))
        return [[self.name, edit, *connection] for edit, ends in kinds for connection in ends.tolist()]


@dataclass(frozen=True, slots=True, eq=False)
class RowEdits:
    """The edits of one row of the distance, unit by unit: what its distance is made of.

    ``common``, ``deleted`` and ``inserted`` count the inputs of each of A's units; ``partner`` is -1 for those that
    have no counterpart and go altogether. ``added`` counts the inputs of each of B's units that have none and come.
    """

    name: str
    space: str
    partner: Ints
    common: Ints
    deleted: Ints
    inserted: Ints
    added: Ints

    @property
    def distance(self) -> float:
        """The mean over all units of edits divided by inputs; 1 for a unit that goes or comes."""
        matched = self.partner >= 0
        edits = (self.deleted + self.inserted)[matched]
        shares = (edits / np.maximum(edits + self.common[matched], 1)).tolist()
        alone = int((~matched).sum()) + len(self.added)
        return math.fsum([*shares, float(alone)]) / (len(shares) + alone)


@dataclass(frozen=True, slots=True, eq=False)
class UnitEdits:
    """The edits of one unit of A: what becomes of its inputs, each as layer, source and tap.

    Sources are A's units; of inputs to insert that no unit of A stands for, B's unit is named in ``source_b``.
    """

    space: str
    unit: int
    partner: int
    common: tuple[UnitInput, ...]
    delete: tuple[UnitInput, ...]
    insert: tuple[UnitInput, ...]

    @property
    def distance(self) -> float:
        """Edits divided by the inputs that either of the two units has; 1 for a unit without a counterpart."""
        edits = len(self.delete) + len(self.insert)
        return edits / max(edits + len(self.common), 1) if self.partner >= 0 else 1.0


@dataclass(frozen=True, slots=True)
class UnitInput:
    """One input of a unit: its source among A's units and among B's, -1 where there is none."""

    layer: str
    source: int
    tap: int
    source_b: int


@dataclass(frozen=True, slots=True, eq=False)
class Edits(Shown):
    """All edits that make network A network B, under a match of their units.

    ``layers`` count by layer (tied ones once), ``rows`` by row of the distance: the mean of the rows' distances is
    ``nnstd``.
    """

    json_names: ClassVar = {"distance": None, "rows": None}

    alignment: str
    version: int
    digest_a: str
    digest_b: str
    layers: tuple[LayerEdits, ...]
    rows: tuple[RowEdits, ...]
    distance: Distance

    @property
    def nnstd(self) -> float:
        """The distance, recomputed from the edits."""
        return math.fsum(row.distance for row in self.rows) / len(self.rows)

    @property
    def common(self) -> int:
        """Connections that both networks have."""
        return sum(layer.common for layer in self.layers)

    @property
    def deleted(self) -> int:
        """Connections to delete."""
        return sum(layer.deleted for layer in self.layers)

    @property
    def inserted(self) -> int:
        """Connections to insert."""
        return sum(layer.inserted for layer in self.layers)

    @property
    def total(self) -> int:
        """All edits."""
        return self.deleted + self.inserted

    def layer(self, name: str) -> LayerEdits:
        """The edits of one layer, or ``NotFoundError``."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise NotFoundError(f"layer {name!r}: expected one of {', '.join(layer.name for layer in self.layers)}")

    def unit(self, name: str, unit: int) -> UnitEdits:
        """The edits of one unit of A, of the space of that name or the one that the layer of that name enters.

        Raises ``NotFoundError`` where there is no such unit that inputs are compared of.
        """
        targets = {layer.name: layer.target for layer in self.layers}
        space = targets.get(name, name)
        rows = [row for row in self.rows if row.space == space]
        if not rows:
            spaces = ", ".join(dict.fromkeys(row.space for row in self.rows))
            raise NotFoundError(f"unit {name}:{unit}: expected one of the spaces {spaces}, or of the layers into them")
        partner = rows[0].partner
        if not 0 <= unit < len(partner):
            raise NotFoundError(f"unit {name}:{unit}: expected a unit from 0 to {len(partner) - 1}")
        inputs = {
            kind: tuple(
                UnitInput(layer.name, source, tap, source_b)
                for layer in self.layers
                if layer.target == space
                for source, target, tap, source_b, _ in getattr(layer, kind).tolist()
                if target == unit
            )
            for kind in ("kept", "deletions", "insertions")
        }
        return UnitEdits(space, unit, int(partner[unit]), *inputs.values())

    def _shown(self) -> Table:
        heads = ("layer", "source", "target", "common", "deleted", "inserted")
        rows = [[y.name, y.source, y.target, y.common, y.deleted, y.inserted] for y in self.layers]
        return Table(f"{self.total:,} edits, NNSTD {self.nnstd:.4f}, alignment {self.alignment}", heads, rows)

    def to_pandas(self) -> pd.DataFrame:
        """A row for each edit: layer, edit (delete or insert), source, target and tap; ends among B's units too."""
        rows = (row for layer in self.layers for row in layer.listed())
        return frame((dict(zip(COLUMNS, row, strict=True)) for row in rows), COLUMNS)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """The rows of ``to_pandas`` as a file."""
        with whole(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for layer in self.layers:
                writer.writerows(layer.listed())


def edits(
    a: Topology, b: Topology, *, alignment: Alignment = DEFAULT, partners: Mapping[str, Any] | None = None
) -> Edits:
    """What makes ``a`` the network ``b``: for each unit the inputs to delete and to insert.

    ``alignment`` and ``partners`` are those of ``nnstd``, whose errors it raises too. The edits explain the distance:
    ``edits(a, b).nnstd`` is ``nnstd(a, b).nnstd``, to the bit but for ``reference``, whose sums are rounded otherwise.

    >>> import numpy as np
    >>> a = Topology.from_masks([np.array([[1, 0], [1, 1], [0, 1]])])
    >>> b = Topology.from_masks([np.array([[1, 0], [0, 1], [0, 1]])])
    >>> changed = edits(a, b)
    >>> changed.deleted, changed.inserted, changed.nnstd
    (1, 0, 0.25)
    >>> changed.unit("l0", 0).delete
    (UnitInput(layer='l0', source=1, tap=0, source_b=1),)
    """
    for network in (a, b):
        check_topology(network, "edits")
    distance = nnstd(a, b, alignment=alignment, partners=partners)
    common = common_network(a, b, plans(a, b), distance.matching)
    owners = sorted({k for row in common.a.rows for k in row.layers})
    layers = tuple(_layer(common, k) for k in owners)
    rows = tuple(_row(common, at, row.name) for at, row in enumerate(distance.layers))
    return Edits(distance.alignment, distance.version, a.digest, b.digest, layers, rows, distance)


def parse_unit(text: str) -> tuple[str, int]:
    """A unit as text, ``hidden1:3``: the name of a space, or of a layer into it, and a number.

    >>> parse_unit("fc1.weight:12")
    ('fc1.weight', 12)
    """
    name, colon, number = text.rpartition(":")
    if not colon or not name or not number.isdecimal() or len(number) > 18:
        raise InvalidInputError(f"unit: expected a space or layer and a number, such as hidden1:3, found {text!r}")
    return name, int(number)


def _layer(common: CommonNetwork, k: int) -> LayerEdits:
    layer = common.layers[k]
    mine, theirs = _ends(layer.a.shape.units_of(layer.a.mask.cells)), _ends(layer.b.shape.units_of(layer.b.mask.cells))
    source, target = common.a.layers[k]
    forth = [common.partners[s] for s in (source, target)]
    back = [inverse(units, common.b.spaces[s].size) for units, s in zip(forth, (source, target), strict=True)]
    of_a, of_b = _both(mine, forth, own_first=True), _both(theirs, back, own_first=False)
    shape = layer.a.shape
    return LayerEdits(
        shape.name, shape.source.name, shape.target.name, of_a[layer.of_a], of_a[~layer.of_a], of_b[~layer.of_b]
    )


def _ends(units: tuple[Ints, Ints, Ints]) -> Ints:
    return np.stack(units, axis=1)


def _both(ends: Ints, partners: list[Ints], *, own_first: bool) -> Ints:
    """Source, target and tap of connections with their ends among the units of both networks, A's first."""
    own = ends[:, :2]
    other = np.stack([partners[0][own[:, 0]], partners[1][own[:, 1]]], axis=1)
    first, last = (own, other) if own_first else (other, own)
    return np.concatenate([first, ends[:, 2:], last], axis=1)


def _row(common: CommonNetwork, at: int, name: str) -> RowEdits:
    row = common.a.rows[at]
    partner = common.partners[row.space]
    matched = np.flatnonzero(partner >= 0)
    size_b = common.b.spaces[row.space].size
    shared, mine, theirs = (
        np.zeros(len(partner), np.int64),
        np.zeros(len(partner), np.int64),
        np.zeros(size_b, np.int64),
    )
    for k in row.layers:
        layer: CommonLayer = common.layers[k]
        shared += np.bincount(layer.a.targets[layer.of_a], minlength=len(partner))
        mine += layer.a.fan_in
        theirs += layer.b.fan_in
    inserted = np.zeros(len(partner), np.int64)
    inserted[matched] = theirs[partner[matched]] - shared[matched]
    alone = np.setdiff1d(np.arange(size_b), partner[matched])
    return RowEdits(name, common.a.spaces[row.space].name, partner, shared, mine - shared, inserted, theirs[alone])
