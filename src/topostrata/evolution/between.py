"""What became of a layer's connections between two snapshots. Inside a run, same index means same unit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from topostrata import codec
from topostrata.frames import frame
from topostrata.shown import Shown, Table
from topostrata.topology import Mask
from topostrata.words import ConnectionStatus

if TYPE_CHECKING:
    import pandas as pd

    from topostrata.layers import LayerShape

TURNOVER = ("dropped", "grown", "regrown_at_once")
Cells = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LayerEvolution:
    """Counts of connections of one layer, from one step to another.

    ``alive_from`` = survived + regrown + died, ``alive_to`` = survived + regrown + born. *Survived*: alive at both
    steps and at every recorded step between; *regrown*: alive at both, recorded dead in between. ``jaccard_distance``
    is that of the two sets of connections; ``unit_distance`` the mean, over the layer's target units, of the Jaccard
    distance of their fan-in sets (NNSTD without matching: Liu et al. 2020, section 3). Both go from 0 (the same) to 1
    (nothing shared). ``dead_from`` and ``dead_to`` count target units without inputs, ``revived`` those that had none
    and have some.

    ``dropped``, ``grown`` and ``regrown_at_once`` are what the training job said of its updates (``log(dropped=,
    grown=)``), summed over the snapshots after the first step: links that were dropped, links that were grown, and
    those that were both in one update, which no snapshot shows. None: not known, as the job did not say it of every
    one of them.
    """

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
    dropped: int | None = None
    grown: int | None = None
    regrown_at_once: int | None = None


@dataclass(frozen=True, slots=True)
class Evolution(Shown):
    """What became of the connections of a run between two of its steps, layer by layer.

    ``from_run`` is another run where the history goes through parents.
    """

    json_names: ClassVar = {"from_step": "from", "to_step": "to"}

    run: str
    from_step: int
    to_step: int
    from_run: str
    layers: tuple[LayerEvolution, ...]

    def to_pandas(self) -> pd.DataFrame:
        """A row for each layer."""
        return frame(asdict(layer) for layer in self.layers)

    def _shown(self) -> Table:
        heads = ("name", "alive_from", "alive_to", "survived", "regrown", "died", "born", "jaccard_distance")
        rows = [[getattr(layer, name) for name in heads] for layer in self.layers]
        return Table(f"{self.from_run}@{self.from_step} to {self.run}@{self.to_step}", heads, rows)


@dataclass(frozen=True, slots=True, eq=False)
class ConnectionChanges:
    """The connections of a layer by what became of them, as sorted cells, and the two masks at the ends.

    ``layer`` is what the archive knows of the layer; ``None`` for masks of no archive.
    """

    first: Mask
    last: Mask
    survived: Cells
    regrown: Cells
    died: Cells
    born: Cells
    layer: LayerShape | None = None

    def of(self, status: ConnectionStatus) -> Cells:
        """The cells of one status."""
        cells: Cells = getattr(self, status)
        return cells

    def units_of(self, cells: Cells) -> tuple[Cells, Cells, Cells]:
        """``(sources, targets, taps)`` of cells, as indices into the layer's spaces."""
        if self.layer is not None:
            return self.layer.units_of(cells)
        keys = cells % self.first.stride
        return keys // self.first.taps, cells // self.first.stride, keys % self.first.taps


def connection_changes(masks: Iterable[Mask], layer: LayerShape | None = None) -> ConnectionChanges:
    """Sort the connections by their status, given the masks of every recorded step from the first to the last."""
    later: Iterator[Mask] = iter(masks)
    first = last = next(later)
    throughout = first.cells
    for mask in later:
        throughout = throughout[codec.in_sorted(throughout, mask.cells)]
        last = mask
    stays = codec.in_sorted(first.cells, last.cells)
    both = first.cells[stays]
    return ConnectionChanges(
        first,
        last,
        survived=throughout,
        regrown=both[~codec.in_sorted(both, throughout)],
        died=first.cells[~stays],
        born=last.cells[~codec.in_sorted(last.cells, first.cells)],
        layer=layer,
    )


def between(name: str, masks: Iterable[Mask], updates: Sequence[Mapping[str, float]] = ()) -> LayerEvolution:
    """Count what became of the connections, given the masks of every recorded step from the first to the last.

    ``updates`` are the layer's metrics at every one of them but the first.

    >>> a, b = (Mask(2, 2, np.array(cells)) for cells in ([0, 1, 2], [0, 3]))
    >>> layer = between("l0", [a, b])
    >>> layer.survived, layer.died, layer.born, layer.jaccard_distance, layer.unit_distance
    (1, 2, 1, 0.75, 0.75)
    """
    changes = connection_changes(masks)
    first, last = changes.first, changes.last
    common = changes.survived.size + changes.regrown.size
    union = first.nnz + last.nnz - common
    dead_before, dead_after = first.fan_in == 0, last.fan_in == 0
    return LayerEvolution(
        name,
        alive_from=first.nnz,
        alive_to=last.nnz,
        survived=int(changes.survived.size),
        regrown=int(changes.regrown.size),
        died=int(changes.died.size),
        born=int(changes.born.size),
        jaccard_distance=(union - common) / union if union else 0.0,
        unit_distance=_unit_distance(changes),
        dead_from=int(dead_before.sum()),
        dead_to=int(dead_after.sum()),
        revived=int((dead_before & ~dead_after).sum()),
        **_turnover(updates),
    )


def _turnover(updates: Sequence[Mapping[str, float]]) -> dict[str, int | None]:
    known = bool(updates) and all(name in update for update in updates for name in TURNOVER)
    return {name: int(sum(update[name] for update in updates)) if known else None for name in TURNOVER}


def _unit_distance(changes: ConnectionChanges) -> float:
    first, last = changes.first, changes.last
    common = np.bincount(changes.survived // first.stride, minlength=first.n_target)
    common += np.bincount(changes.regrown // first.stride, minlength=first.n_target)
    union = first.fan_in + last.fan_in - common
    # A unit without inputs at either step has not changed: distance 0.
    distances = (union - common) / np.maximum(union, 1)
    return math.fsum(distances.tolist()) / first.n_target
