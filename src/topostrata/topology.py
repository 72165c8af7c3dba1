"""The wiring of a network and its topology: which spaces its layers join, and which connections each layer has.

Both are immutable values without weights. A ``Wiring`` is what stays the same while a network trains, a ``Topology``
the wiring with the masks of one moment. docs/wiring.md shows the model with pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any

from topostrata import digests, order, placing, sharing, symmetries, wiring_text
from topostrata.axes import Axis, Space
from topostrata.counterparts import counterparts
from topostrata.errors import InvalidInputError, InvalidTopologyError
from topostrata.layers import Layer, LayerShape, Part
from topostrata.masks import Cells, Mask
from topostrata.matrices import Orientation
from topostrata.order import Stage
from topostrata.symmetries import Permutations
from topostrata.words import Zeros

__all__ = [
    "Axis",
    "Cells",
    "Layer",
    "LayerShape",
    "Mask",
    "Orientation",
    "Part",
    "Space",
    "Stage",
    "Topology",
    "Wiring",
    "chain_layers",
]


@dataclass(frozen=True)
class Wiring:
    """A network without its masks: its layers in the order of execution, each with the two spaces it joins.

    A space may be entered by several layers, and again after it was read (a residual stream). Equal names of spaces and
    axes are the same space and axis. Raises ``InvalidTopologyError`` where two layers say different things.

    >>> import numpy as np
    >>> plain = Wiring.chain([784, 300, 10])
    >>> [(layer.name, layer.source.name, layer.target.name) for layer in plain]
    [('l0', 'input', 'hidden1'), ('l1', 'hidden1', 'output')]
    >>> plain.place({"l0": np.ones((784, 300)), "l1": np.ones((300, 10))}).nnz
    238200
    """

    layers: tuple[LayerShape, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers:
            raise InvalidTopologyError("topology: expected at least one layer, found none")
        _check_layers(self.layers)
        sharing.owners(self.layers)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Computed once: every comparison looks up by it how a wiring is compared."""
        return hash(self.layers)

    def __getstate__(self) -> dict[str, object]:
        return {"layers": self.layers}  # hashes of texts are another process's own

    def __iter__(self) -> Iterator[LayerShape]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __contains__(self, name: object) -> bool:
        return name in self._place

    def __getitem__(self, name: str) -> LayerShape:
        """The layer of that name; ``KeyError`` where there is none."""
        return self.layers[self._place[name]]

    @cached_property
    def spaces(self) -> tuple[Space, ...]:
        """The spaces in the order in which the layers first name them (source before target)."""
        seen: dict[str, Space] = {}
        for layer in self.layers:
            seen.setdefault(layer.source.name, layer.source)
            seen.setdefault(layer.target.name, layer.target)
        return tuple(seen.values())

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """All axes, those of spaces and those that are taps only, in the order in which the layers first name them."""
        seen: dict[str, Axis] = {}
        for layer in self.layers:
            for axis in (*layer.source.axes, *layer.target.axes, *layer.tap_axes):
                seen.setdefault(axis.name, axis)
        return tuple(seen.values())

    @cached_property
    def shared_with(self) -> Mapping[str, str]:
        """For each tied layer the earlier one that owns their connections: these are counted and stored once."""
        tied = sharing.owners(self.layers)
        return {self.layers[k].name: self.layers[owner].name for k, owner in tied.items()}

    @property
    def possible(self) -> int:
        """How many connections there could be, those of tied layers counted once."""
        return sum(layer.possible for layer in self.layers if layer.name not in self.shared_with)

    @cached_property
    def stages(self) -> Mapping[str, tuple[Stage, ...]]:
        """The stages of each space that is entered: its entries between two reads (``order.stages``)."""
        return order.stages(self.layers)

    @cached_property
    def ranks(self) -> Mapping[str, int]:
        """When the units of each space can be matched: spaces of one rank at once, then those of the next.

        A space whose first stage is empty, and one that no layer enters, has no rank: nothing tells its units apart.
        """
        return order.ranks(self.layers)

    @cached_property
    def axis_ranks(self) -> Mapping[str, int]:
        """For each free axis the rank at which it is matched: the first of the spaces that have it."""
        rank_of: dict[str, int] = {}
        for space in self.spaces:
            for axis in space.axes:
                if not axis.fixed and space.name in self.ranks:
                    rank_of[axis.name] = min(rank_of.get(axis.name, self.ranks[space.name]), self.ranks[space.name])
        return rank_of

    @cached_property
    def within(self) -> Mapping[str, tuple[Axis, ...]]:
        """For each free axis those at each of whose indices it may be ordered differently (``symmetries.within``)."""
        return symmetries.within(self.layers)

    @cached_property
    def normal_order(self) -> tuple[int, ...]:
        """The positions of the layers in the order that does not depend on names or on how the wiring was written."""
        return order.normal_order(self.layers)

    def counterparts(self, other: Wiring) -> tuple[int, ...]:
        """For each layer the position of its counterpart in another wiring (``counterparts.counterparts``).

        Raises ``NotComparableError`` where the two are not one wiring but for the widths of free axes.
        """
        return counterparts(self.layers, other.layers)

    @cached_property
    def beyond_format_1(self) -> str | None:
        """What this network has that a sequence of plain layers has not, in words; None for a plain one."""
        return digests.beyond_format_1(self.layers)

    @cached_property
    def format(self) -> int:
        """The format of files that say all of it: 1 where sizes, labels and taps do, else 2."""
        return 1 if self.beyond_format_1 is None and wiring_text.is_plain(self.layers) else 2

    def place(
        self, arrays: Mapping[str, Any], *, orientation: Orientation = "in-out", zeros: Zeros | None = None
    ) -> Topology:
        """The topology that has these masks in the layers of this wiring.

        ``arrays`` holds an array by the name of each parameter (the layer's own name where it has no ``part``), or a
        ``Mask`` by the name of a layer. ``orientation`` is that of the parameters that state none: ``"in-out"``
        (sources * taps x targets; with a kernel sources x targets x kernel, a transposed convolution of torch),
        ``"out-in"`` (torch: targets x sources * taps; with a kernel targets x sources x kernel) or ``"hwio"`` (kernel x
        sources x targets). Tied layers share one array. ``zeros``: see ``matrices.entries``.

        Raises ``InvalidTopologyError`` with the layer, the shape expected and the shape found, what is missing and what
        is left over.
        """
        masks = placing.place(self.layers, arrays, orientation=orientation, zeros=zeros)
        return Topology(tuple(Layer.of(layer, mask) for layer, mask in zip(self.layers, masks, strict=True)))

    def to_toml(self) -> str:
        """The wiring as the text file that docs/wiring.md describes."""
        return wiring_text.to_toml(self.layers)

    @staticmethod
    def from_toml(text: str, *, where: str = "wiring") -> Wiring:
        """The wiring in a text file; ``where`` begins every error message.

        >>> text = '''
        ... wiring = 1
        ... spaces.input = { size = 784, labelled = true }
        ... spaces.hidden = 300
        ... spaces.output = { size = 10, labelled = true }
        ... layers = [
        ...     { name = "fc1", source = "input", target = "hidden" },
        ...     { name = "fc2", source = "hidden", target = "output" },
        ... ]
        ... '''
        >>> Wiring.from_toml(text).possible
        238200
        """
        layers = wiring_text.from_toml(text, where=where)
        try:
            return Wiring(layers)
        except InvalidTopologyError as error:
            raise InvalidInputError(f"{where}: {error.message}", hint=error.hint) from error

    @staticmethod
    def chain(sizes: Sequence[int], names: Sequence[str] | None = None) -> Wiring:
        """A plain chain of layers between spaces of these sizes; the first and the last space are labelled."""
        names = [f"l{k}" for k in range(len(sizes) - 1)] if names is None else list(names)
        if len(names) != len(sizes) - 1:
            raise InvalidTopologyError(f"expected a name for each of {len(sizes) - 1} layers, found {len(names)}")
        spaces = [_chain_space(k, len(names), size) for k, size in enumerate(sizes)]
        return Wiring(tuple(LayerShape(name, spaces[k], spaces[k + 1]) for k, name in enumerate(names)))

    @cached_property
    def _place(self) -> dict[str, int]:
        return {layer.name: k for k, layer in enumerate(self.layers)}


@lru_cache(maxsize=256)
def _wiring_of(layers: tuple[LayerShape, ...]) -> Wiring:
    return Wiring(layers)


@dataclass(frozen=True, eq=False)
class Topology:
    """The connections of one network at one moment: its layers with their masks, in the order of execution.

    >>> import numpy as np
    >>> t = Topology.from_masks([np.eye(3), np.ones((3, 2))])
    >>> [(layer.name, layer.source.name, layer.target.name, layer.nnz) for layer in t]
    [('l0', 'input', 'hidden1', 3), ('l1', 'hidden1', 'output', 6)]
    >>> t["l1"].density, len(t), "l2" in t
    (1.0, 2, False)
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        for name, owner in self.wiring.shared_with.items():
            layer, other = self[name], self[owner]
            if layer.mask.digest != sharing.tied_mask(other.shape, layer.shape, other.mask).digest:
                raise InvalidTopologyError(
                    f"layer {name!r}: expected the connections of layer {owner!r}, with which it is tied, found others"
                )

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __contains__(self, name: object) -> bool:
        return name in self.wiring

    def __getitem__(self, name: str) -> Layer:
        """The layer of that name; ``KeyError`` where there is none."""
        return self.layers[self.wiring._place[name]]  # noqa: SLF001 - its own wiring

    @cached_property
    def wiring(self) -> Wiring:
        """All that stays the same during a run: the layers without their masks.

        Topologies of equal layers have one wiring between them, so what follows from it is computed once.
        """
        return _wiring_of(tuple(layer.shape for layer in self.layers))

    @property
    def spaces(self) -> tuple[Space, ...]:
        """The spaces in the order in which the layers first name them (source before target)."""
        return self.wiring.spaces

    @property
    def nnz(self) -> int:
        """Connections in all layers, those of tied layers counted once."""
        return sum(layer.nnz for layer in self.layers if layer.name not in self.wiring.shared_with)

    @property
    def density(self) -> float:
        """Share of the possible connections of all layers that exist."""
        return self.nnz / self.wiring.possible

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the wiring and the connections in hex; names are not part of it (``digests``)."""
        return digests.digest([layer.shape for layer in self.layers], [layer.mask for layer in self.layers])

    def to_masks(self) -> dict[str, Mask]:
        """The masks by the names of their layers, those of tied layers once.

        ``topology.wiring.place(topology.to_masks())`` is the topology again, and so is
        ``Topology.from_masks(topology.to_masks())`` for one that came from there.
        """
        return {layer.name: layer.mask for layer in self.layers if layer.name not in self.wiring.shared_with}

    def relabelled(self, permutations: Permutations) -> Topology:
        """The same network with its units in other places: index j of an axis goes to ``permutations[axis][j]``.

        Axes are the wiring's free ones (a plain space's has its name); an array of more dimensions orders an inner axis
        differently at each index of the axes that ``Wiring.within`` names. Raises ``InvalidInputError``.

        >>> import numpy as np
        >>> t = Topology.from_masks([[[1, 0]], [[1], [0]]])
        >>> [layer.mask.cells.tolist() for layer in t.relabelled({"hidden1": np.array([1, 0])})]
        [[1], [1]]
        """
        shapes = self.wiring.layers
        masks = symmetries.relabelled(shapes, [layer.mask for layer in self.layers], permutations)
        return Topology(tuple(Layer.of(shape, mask) for shape, mask in zip(shapes, masks, strict=True)))

    def __eq__(self, other: object) -> bool:
        # Parts say where connections lie in a file, not what they are; ties, which follow from them, are in the digest.
        return (
            isinstance(other, Topology)
            and self.digest == other.digest
            and [replace(layer.shape, part=None) for layer in self] == [replace(y.shape, part=None) for y in other]
        )

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        sizes = "-".join(str(space.size) for space in self.spaces)
        return f"<Topology {sizes}, {len(self.layers)} layers, {self.nnz} connections, {self.digest[:12]}>"

    @staticmethod
    def from_masks(
        masks: Sequence[Any] | Mapping[str, Any],
        names: Sequence[str] | None = None,
        *,
        orientation: Orientation = "in-out",
        zeros: Zeros | None = None,
    ) -> Topology:
        """A plain chain of layers from matrices, in order: SciPy sparse, NumPy, torch or ``Mask``; a list, or by name.

        Matrices are sources x targets; ``orientation="out-in"`` takes targets x sources, as torch's linear layers store
        them. The first space (``input``) and the last (``output``) are labelled, those between (``hidden1``, ...) are
        not. ``names`` are the layers' names, ``l0``, ``l1``, ... where none are given. ``zeros``: see
        ``matrices.entries``. A network that is no chain needs a ``Wiring``.
        """
        if isinstance(masks, Mapping):
            if names is not None:
                raise InvalidTopologyError("names: expected none beside masks that have names")
            names, masks = list(masks), list(masks.values())
        names = [f"l{k}" for k in range(len(masks))] if names is None else list(names)
        if len(names) != len(masks):
            raise InvalidTopologyError(f"expected as many names as masks ({len(masks)}), found {len(names)}")
        chain: list[Mask] = []
        for name, matrix in zip(names, masks, strict=True):
            try:
                masked = isinstance(matrix, Mask)
                chain.append(matrix if masked else Mask.from_matrix(matrix, zeros=zeros, orientation=orientation))
            except InvalidTopologyError as error:
                raise InvalidTopologyError(f"layer {name!r}: {error.message}", hint=error.hint) from None
        try:
            return Topology(chain_layers(names, chain))
        except InvalidTopologyError as error:
            raise InvalidTopologyError(error.message, hint=error.hint or _turned_hint(chain, orientation)) from None


def chain_layers(names: Sequence[str], masks: Sequence[Mask]) -> tuple[Layer, ...]:
    """Layers that follow each other, the targets of one being the sources of the next; checks that the sizes chain."""
    layers: list[Layer] = []
    for k, (name, mask) in enumerate(zip(names, masks, strict=True)):
        source = layers[-1].target if layers else _chain_space(0, len(masks), mask.n_source)
        if source.size != mask.n_source:
            raise InvalidTopologyError(
                f"layer {name!r}: expected {source.size} sources (the targets of layer {names[k - 1]!r}), "
                f"found {mask.n_source}"
            )
        layers.append(Layer(name, source, _chain_space(k + 1, len(masks), mask.n_target), mask))
    return tuple(layers)


def _chain_space(k: int, last: int, size: int) -> Space:
    if k in {0, last}:
        return Space("input" if k == 0 else "output", size, labelled=True)
    return Space(f"hidden{k}", size)


def _turned_hint(masks: Sequence[Mask], orientation: Orientation) -> str | None:
    """Advice where the masks would chain with rows and columns in each other's place, as torch's weights do."""
    chains = all(before.n_target == after.n_source for before, after in pairwise(masks))
    turned = all(before.n_source == after.n_target for before, after in pairwise(masks))
    if chains or not turned or any(mask.taps > 1 for mask in masks):
        return None
    if orientation == "out-in":
        return "they chain turned around: rows seem to be sources, so say orientation='in-out'"
    return "they chain turned around: if rows are targets, as in torch's weights, say orientation='out-in'"


def _check_layers(layers: tuple[LayerShape, ...]) -> None:
    spaces: dict[str, Space] = {}
    axes: dict[str, Axis] = {}
    names: set[str] = set()
    for layer in layers:
        if layer.name in names:
            raise InvalidTopologyError(f"layer {layer.name!r}: expected unique layer names, found this one twice")
        names.add(layer.name)
        for space in (layer.source, layer.target):
            if spaces.setdefault(space.name, space) != space:
                raise InvalidTopologyError(
                    f"layer {layer.name!r}: expected {spaces[space.name]} (as in an earlier layer), found {space}"
                )
        for axis in (*layer.source.axes, *layer.target.axes, *layer.tap_axes):
            if axes.setdefault(axis.name, axis) != axis:
                raise InvalidTopologyError(
                    f"layer {layer.name!r}: expected {axes[axis.name]} (as in an earlier space), found {axis}"
                )
