"""Which layers a distance is of: named ones, the sparse ones, or those that two networks have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeAlias

from topostrata.axes import Space, joined_axes
from topostrata.errors import InvalidInputError, NotComparableError
from topostrata.layers import LayerShape
from topostrata.topology import Topology, Wiring

COMMON, SPARSE = "common", "sparse"

Layers: TypeAlias = "Iterable[str] | str | None"


@dataclass(frozen=True, slots=True)
class Choice:
    """What was asked: the ``common`` layers, the ``sparse`` rows, those that globs name; everything if nothing was."""

    common: bool = False
    sparse: bool = False
    globs: tuple[str, ...] = ()

    @property
    def all(self) -> bool:
        """Whether every row counts."""
        return not self.sparse and not self.globs

    @staticmethod
    def of(layers: Layers) -> Choice:
        """The choice in words: names and globs of layers, ``"common"``, ``"sparse"``; a text or several."""
        words = [] if layers is None else [layers] if isinstance(layers, str) else list(layers)
        names = [name.strip() for word in words for name in word.split(",")]
        if layers is not None and not all(names or [""]):
            raise InvalidInputError(f"layers: expected names, globs, 'common' or 'sparse', found {layers!r}")
        globs = tuple(name for name in names if name not in {COMMON, SPARSE})
        return Choice(COMMON in names, SPARSE in names, globs)

    def rows(self, names: Sequence[str], full: Sequence[bool]) -> list[int]:
        """The rows that count, of rows of these names; ``full`` says which are full in all networks.

        A row of several layers counts where one of them is named. Raises ``InvalidInputError`` where a glob names none
        or no row is left.
        """
        chosen = list(range(len(names)))
        if self.globs:
            members = [name.split("+") for name in names]
            for glob in self.globs:
                if not any(fnmatchcase(layer, glob) for row in members for layer in row):
                    raise InvalidInputError(f"layers: expected one or more of {', '.join(names)}, found {glob!r}")
            chosen = [
                k
                for k, row in enumerate(members)
                if any(fnmatchcase(layer, glob) for layer in row for glob in self.globs)
            ]
        if self.sparse:
            chosen = [k for k in chosen if not full[k]]
        if not chosen:
            raise InvalidInputError(
                f"layers: expected one or more that are sparse, found only full ones: {', '.join(names)}"
            )
        return chosen


def common_layers(wirings: Sequence[Wiring]) -> tuple[frozenset[str], tuple[str, ...]]:
    """The names of the layers that all of these networks have, and of those that only some have.

    A layer is in all of them where each has one of its name between spaces of the same names, with the same axes (free
    ones may differ in size), taps and groups. Raises ``NotComparableError`` where there is none.
    """
    first, *others = wirings
    names = frozenset(layer.name for layer in first if all(_alike(layer, other) for other in others))
    if not names:
        raise NotComparableError(
            "layers: expected networks with layers in common (of the same names, between spaces of the same names), "
            "found none",
            hint="a wiring file names layers and spaces (docs/wiring.md)",
        )
    return names, tuple(dict.fromkeys(layer.name for wiring in wirings for layer in wiring if layer.name not in names))


def cut(network: Topology, names: frozenset[str]) -> Topology:
    """The network with nothing but the layers of these names."""
    if all(layer.name in names for layer in network):
        return network
    return Topology(tuple(layer for layer in network if layer.name in names))


def _alike(layer: LayerShape, wiring: Wiring) -> bool:
    if layer.name not in wiring:
        return False
    other = wiring[layer.name]
    return (
        (layer.groups > 1) == (other.groups > 1)
        and layer.taps == other.taps
        and _same(layer.source, other.source)
        and _same(layer.target, other.target)
    )


def _same(space: Space, other: Space) -> bool:
    row, other_row = joined_axes(space.axes), joined_axes(other.axes)
    return space.name == other.name and [(name, name or size) for name, size in row] == [
        (name, name or size) for name, size in other_row
    ]
