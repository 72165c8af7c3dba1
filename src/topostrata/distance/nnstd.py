"""NNSTD, the distance between the wirings of two sparse networks (Liu et al. 2020, section 3).

Two units are as far apart as their fan-in sets: ``|xor| / |or|``. A layer's distance is the cost of the best one-to-one
matching of its units, divided by its width; the next layer is compared with its inputs named by that match. NNSTD is
the mean over the layers: 0 = the same wiring up to the matching, 1 = nothing in common. Which of several equally good
matches is used is left open by the paper and changes the value; ``alignment`` names the choice
(docs/design/010-nnstd.md).
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from topostrata.distance import null_model, simple
from topostrata.distance.null_model import Chance
from topostrata.distance.wiring import Wiring, check_comparable, wiring_of
from topostrata.errors import InvalidInputError, MissingExtraError
from topostrata.topology import Topology

if TYPE_CHECKING:
    from topostrata.distance.prepared import Prepared

Alignment = Literal["reference", "canonical", "refined", "identity"]
ALIGNMENTS: tuple[Alignment, ...] = get_args(Alignment)
# Of the definition of the values; stored with every cached distance.
VERSION = 1


@dataclass(frozen=True, slots=True)
class LayerDistance:
    """One row of a distance: the layer (or the layers that enter one space, joined by ``+``) and what it contributes.

    ``distance`` is 0 to 1, ``width`` the units of the larger network's space, the densities shares of the possible
    connections, 0 to 1. ``ambiguous`` counts the units that had more than one optimal partner by their fan-in sets
    alone; None where nothing was counted (``reference``, ``refined``). ``chance`` is the level of independent layers
    of the same shape and densities; None where it was not asked.
    """

    name: str
    distance: float
    width: int
    density_a: float
    density_b: float
    ambiguous: int | None = None
    chance: Chance | None = None

    @property
    def z(self) -> float | None:
        """How many spreads the distance lies from chance: far below 0 = far more alike than independent layers."""
        return None if self.chance is None else self.chance.z(self.distance)


@dataclass(frozen=True, slots=True)
class Distance:
    """How far apart two networks are: ``nnstd`` is the mean of the layers' distances, 0 to 1.

    ``matching`` holds for every space (by A's name) the unit of B that each unit of A was matched with, -1 where none.
    ``canonical`` is True where the value does not depend on how hidden units are stored.
    """

    json_names: ClassVar = {"matching": None, "ambiguous": None}

    alignment: Alignment
    nnstd: float
    layers: tuple[LayerDistance, ...]
    matching: Mapping[str, NDArray[np.int64]] = field(default_factory=dict, compare=False, repr=False)
    canonical: bool = False

    @property
    def ambiguous(self) -> int | None:
        """Units of all layers that had more than one optimal partner; None where nothing was counted."""
        counts = [row.ambiguous for row in self.layers if row.ambiguous is not None]
        return sum(counts) if len(counts) == len(self.layers) else None


def nnstd(
    a: Topology, b: Topology, *, alignment: Alignment = "canonical", fix_output: bool = True, chance: bool = False
) -> Distance:
    """How different the wirings of two networks are, 0 (the same) to 1 (nothing in common).

    ``alignment`` says how hidden units are matched: ``"canonical"`` (well defined and symmetric), ``"refined"`` (the
    smallest value a local search finds), ``"reference"`` (as published; not symmetric) or ``"identity"`` (unit i is
    unit i: for snapshots of one run). Labelled output units stay in place unless ``fix_output=False``; the reference
    matches them always, as published. ``chance=True`` adds the chance level of every layer (``null_model``): a fraction
    of a second for each new shape and density.

    Raises ``NotComparableError`` where the networks are wired differently, ``MissingExtraError`` where ``canonical`` or
    ``refined`` is asked and numba is not installed, ``LimitError`` where fan-in sets exceed 1.9 million elements.

    Two outputs with the inputs {0, 1}, {1, 2} and {0}, {1, 2}: the first differ by 1 of 2, the second by nothing.

    >>> import numpy as np
    >>> one = Topology.from_masks([np.array([[1, 0], [1, 1], [0, 1]])])
    >>> two = Topology.from_masks([np.array([[1, 0], [0, 1], [0, 1]])])
    >>> nnstd(one, two, alignment="identity").nnstd
    0.25

    Hidden units are matched: here B's are A's in the other order, and its output reads them in the other order.

    >>> one = Topology.from_masks([np.array([[1, 0], [1, 1], [0, 1]]), np.array([[1], [0]])])
    >>> two = Topology.from_masks([np.array([[0, 1], [1, 1], [1, 0]]), np.array([[0], [1]])])
    >>> nnstd(one, two, alignment="identity").nnstd, nnstd(one, two).nnstd
    (0.8333333333333333, 0.0)
    """
    check_alignment(alignment)
    check_comparable(a, b)
    if alignment in {"reference", "identity"}:
        method = simple.reference if alignment == "reference" else simple.identity
        wiring = wiring_of(a)
        values, partners = method(a, b, wiring, fix_output=fix_output)
        counts = None if alignment == "reference" else [0] * len(values)
        found = describe(a, b, wiring, alignment, values, partners, ambiguous=counts)
        return with_chance(found, a, b, fix_output=fix_output) if chance else found
    need_numba(alignment)
    # numba takes a third of a second to import, which `reference` and `identity` need not wait for.
    from topostrata.distance.prepared import prepare  # noqa: PLC0415

    found = compare(prepare(a, fix_output=fix_output), prepare(b, fix_output=fix_output), alignment=alignment)
    return with_chance(found, a, b, fix_output=fix_output) if chance else found


def with_chance(
    distance: Distance, a: Topology, b: Topology, *, fix_output: bool = True, exact: bool = False
) -> Distance:
    """The distance of ``a`` and ``b`` with the chance level of every layer; ``exact``: simulated however wide."""
    wiring = wiring_of(a)
    rows = []
    for row, space in zip(distance.layers, wiring.targets, strict=True):
        entering = wiring.incoming[space]
        one, two = (t.layers[entering[0]].target.size for t in (a, b))
        moves = distance.alignment == "reference" or not wiring.keeps_place(space, fix_output=fix_output)
        level = null_model.chance(
            max(sum(t.layers[k].mask.stride for k in entering) for t in (a, b)),
            (one, two),
            (row.density_a, row.density_b),
            matched=moves and distance.alignment != "identity",
            exact=exact,
        )
        rows.append(replace(row, chance=level))
    return replace(distance, layers=tuple(rows))


def compare(a: Prepared, b: Prepared, *, alignment: Alignment = "canonical") -> Distance:
    """``nnstd`` of two topologies that were prepared once for many comparisons; not for ``identity``."""
    if alignment == "reference":
        from topostrata.distance import published  # noqa: PLC0415 - as in nnstd; loads SciPy's optimisers

        return describe(a.topology, b.topology, a.wiring, alignment, *published.reference(a, b))
    from topostrata.distance import canonical, refined  # noqa: PLC0415

    canonical.check_limits(a, b)
    # One fixed order of the two networks makes the distance symmetric to the bit whatever happens inside.
    swapped = a.digest > b.digest
    one, two = (b, a) if swapped else (a, b)
    targets = a.wiring.targets
    counts: list[int] | None = None
    unique = False
    if a.digest == b.digest:
        partners = {s: np.arange(size, dtype=np.int64) for s, size in enumerate(a.sizes)}
        values = dict.fromkeys(targets, 0.0)
        if alignment == "canonical":
            counts, unique = [canonical.repeated(a, s) for s in targets], True
    elif alignment == "canonical":
        found = canonical.canonical(one, two)
        partners = {s: match.partner for s, match in found.items()}
        values = {s: found[s].distance for s in targets}
        counts = [found[s].ambiguous for s in targets]
        unique = a.settled and b.settled and all(match.unique for match in found.values())
    else:
        partners, values = refined.refined(one, two)
    if swapped:
        partners = {s: simple.inverse(partner, a.sizes[s]) for s, partner in partners.items()}
    ordered = [values[s] for s in targets]
    return describe(a.topology, b.topology, a.wiring, alignment, ordered, partners, ambiguous=counts, canonical=unique)


def check_alignment(alignment: str) -> Alignment:
    """The alignment, or an error where it does not exist."""
    for known in ALIGNMENTS:
        if alignment == known:
            return known
    raise InvalidInputError(f"alignment: expected one of {', '.join(ALIGNMENTS)}, found {alignment!r}")


def has_numba() -> bool:
    """Whether the compiled kernels can be used (the extra ``distance``)."""
    return importlib.util.find_spec("numba") is not None


def need_numba(alignment: Alignment) -> None:
    """Refuse an alignment that needs the compiled kernels where numba is not installed."""
    if not has_numba():
        raise MissingExtraError(f"the {alignment} alignment", "distance")


def describe(
    a: Topology,
    b: Topology,
    wiring: Wiring,
    alignment: Alignment,
    values: list[float],
    partners: Mapping[int, NDArray[np.int64]],
    *,
    ambiguous: list[int] | None = None,
    canonical: bool = False,
) -> Distance:
    """The layers' values with their names, widths and densities, and their mean; ``wiring`` is that of ``a``."""
    rows = []
    for row, (space, value, name) in enumerate(zip(wiring.targets, values, layer_names(a), strict=True)):
        entering = wiring.incoming[space]
        rows.append(
            LayerDistance(
                name=name,
                distance=value,
                width=max(t.layers[entering[0]].target.size for t in (a, b)),
                density_a=_density(a, entering),
                density_b=_density(b, entering),
                ambiguous=None if ambiguous is None else ambiguous[row],
            )
        )
    return Distance(
        alignment,
        math.fsum(values) / len(values),
        tuple(rows),
        {wiring.spaces[s].name: partner for s, partner in partners.items()},
        canonical,
    )


def layer_names(topology: Topology) -> tuple[str, ...]:
    """What the rows of a distance are called: the layers that enter a space, joined by ``+``."""
    wiring = wiring_of(topology)
    return tuple("+".join(topology.layers[k].name for k in wiring.incoming[space]) for space in wiring.targets)


def _density(topology: Topology, layers: tuple[int, ...]) -> float:
    chosen = [topology.layers[k] for k in layers]
    return sum(layer.nnz for layer in chosen) / sum(layer.mask.size for layer in chosen)
