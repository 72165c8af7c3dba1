"""In which company axes stand.

The pieces of a dimension, and which axis could be ordered differently at each index of which other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from topostrata.ingest.hook.tracing.axes_of_tensors import (
    Dim,
    Label,
    atoms,
    factors,
    fix,
    is_fixed,
    resolved,
    size_of,
    tie_copies,
)
from topostrata.ingest.hook.tracing.labels import Labels


@dataclass(frozen=True, slots=True)
class Piece:
    """A range of a dimension, and the axes that number it: atoms, and sums of fixed ones as they are."""

    start: int
    axes: tuple[Label, ...]

    @property
    def size(self) -> int:
        """How many indices it has."""
        return size_of(list(self.axes))

    @property
    def key(self) -> tuple[int, ...]:
        """Its axes, to be looked up by."""
        return tuple(id(axis) for axis in self.axes)


def prepare(dim: Dim) -> None:
    """Make a dimension a row of pieces: what stands side by side below an outer axis cannot be told as ranges."""
    while True:
        row = factors(dim)
        for place, label in enumerate(row):
            if place and label.is_sum and not is_fixed([label]):
                fix([label], "concatenation below another axis")
                break
            index = next((of for of in label.copies if resolved(of) is not row[0]), None)
            if index is not None:
                tie_copies(label, index)
                break
        else:
            for label in row[:1]:
                for part in label.summands if label.is_sum else ():
                    prepare([part])
            return


def pieces(dim: Dim) -> list[Piece]:
    """The ranges of a dimension: one for each summand, and for each index of an axis that selects versions."""
    row = factors(dim)
    if not row:
        return [Piece(0, ())]
    outer, below = row[0], row[1:]
    parts: list[Dim] = []
    if outer.is_sum:
        parts = [[part, *below] for part in outer.summands]
    elif any(outer is resolved(of) for label in below for of in label.copies):
        parts = [[_version(label, outer, k) for label in below] for k in range(outer.size)]
    if not parts:
        return [Piece(0, tuple(row))]
    at, ranges = 0, []
    for part in parts:
        ranges += [Piece(at + piece.start, piece.axes) for piece in pieces(part)]
        at += size_of(factors(part))
    return ranges


def companions(tensors: Iterable[Labels]) -> dict[Label, set[Label]]:
    """For each atom those that stand beside it in every tensor that has it."""
    beside: dict[Label, set[Label]] = {}
    for row in {tuple(tuple(factors(dim)) for dim in tensor.dims) for tensor in tensors}:
        for atom, others in _standing([list(dim) for dim in row]):
            beside[atom] = beside[atom] & others if atom in beside else others
    return beside


def settle_copies(tensors: Sequence[Labels]) -> None:
    """Versions of an axis for each index of another are told apart only where that other stands in every tensor."""
    while True:
        rows = {tuple(atom for dim in tensor.dims for atom in atoms(dim)) for tensor in tensors}
        for row in rows:
            present = set(row)
            torn = next(((atom, of) for atom in row for of in atom.copies if resolved(of) not in present), None)
            if torn is not None:
                tie_copies(*torn)
                break
        else:
            return


def _standing(dims: Sequence[Dim]) -> Iterator[tuple[Label, set[Label]]]:
    """Each atom of a tensor with those that stand beside it."""
    row = [label for dim in dims for label in dim]
    index = next((resolved(of) for label in row for of in label.copies if resolved(of) in row), None)
    if index is not None:
        for k in range(index.size):
            yield from _standing(
                [factors([_version(label, index, k) for label in dim if label is not index]) for dim in dims]
            )
        return
    ways = [_ways(dim) for dim in dims]
    always = [set.intersection(*way) if way else set() for way in ways]
    for k, way in enumerate(ways):
        others = set().union(*(always[j] for j in range(len(dims)) if j != k))
        for choice in way:
            for atom in choice:
                yield atom, (choice | others) - {atom}


def _ways(dim: Dim) -> list[set[Label]]:
    """The sets of atoms that number a dimension, by the choice of summands."""
    ways: list[set[Label]] = [set()]
    for label in factors(dim):
        choices = [way for part in label.summands for way in _ways([part])] if label.is_sum else [{label}]
        ways = [way | choice for way in ways for choice in choices]
    return ways


def _version(label: Label, index_of: Label, place: int) -> Label:
    for of, versions in label.copies.items():
        if resolved(of) is index_of and place in versions:
            return resolved(versions[place])
    return label
