"""The values that flow through every room: spaces of units, masks, layers, topologies. Immutable, without weights.

Orientation, once and for all: a mask's rows are *source* units and its columns *target* units, as in the NNSTD paper
(Liu et al. 2020, section 3). ``torch.nn.Linear.weight`` is the transpose.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from topostrata import format_1
from topostrata.errors import InvalidTopologyError

Zeros = Literal["absent", "present"]
Cells = NDArray[np.int64]

_MAX_NAME = 200
_MAX_CELLS = 2**62


@dataclass(frozen=True, slots=True)
class Space:
    """An ordered set of units that layers read from and write to.

    ``labelled`` units have a meaning of their own (input features, output classes) and are never permuted; the others,
    hidden units, are interchangeable.

    >>> Space("input", 784, labelled=True)
    Space(name='input', size=784, labelled=True)
    """

    name: str
    size: int
    labelled: bool = False

    def __post_init__(self) -> None:
        _check_name("space", self.name)
        if not isinstance(self.size, int | np.integer) or self.size < 1:
            raise InvalidTopologyError(f"space {self.name!r}: expected at least 1 unit, found {self.size}")


@dataclass(frozen=True, eq=False)
class Mask:
    """Which connections exist between two spaces, as the sorted numbers of the occupied cells.

    A target unit's input is ``(source unit, tap)``, its key ``source * taps + tap``; a cell is
    ``target * (n_source * taps) + key``. So sorted cells are the sorted keys of target 0, then of target 1, ...
    ``taps`` is 1 for a linear layer, the number of kernel positions for a convolution.

    >>> Mask(n_source=3, n_target=2, cells=np.array([0, 2, 4])).keys_of(0)
    array([0, 2])
    """

    n_source: int
    n_target: int
    cells: Cells
    taps: int = 1

    def __post_init__(self) -> None:
        for name in ("n_source", "n_target", "taps"):
            if getattr(self, name) < 1:
                raise InvalidTopologyError(f"mask: expected {name} >= 1, found {getattr(self, name)}")
        if self.size > _MAX_CELLS:
            raise InvalidTopologyError(f"mask: {self.size} possible connections are more than {_MAX_CELLS}")
        given = np.asarray(self.cells)
        if given.size and given.dtype.kind not in "iu":
            raise InvalidTopologyError(f"mask: expected whole numbers as cells, found dtype {given.dtype}")
        cells = np.array(given, dtype=np.int64, ndmin=1)  # a copy: the caller's array may change, ours may not
        if cells.ndim != 1:
            raise InvalidTopologyError(f"mask: expected a flat array of cells, found shape {cells.shape}")
        if cells.size and (cells[0] < 0 or cells[-1] >= self.size or not bool(np.all(cells[1:] > cells[:-1]))):
            found = _first_disorder(cells, self.size)
            raise InvalidTopologyError(f"mask: expected strictly increasing cells in [0, {self.size}), found {found}")
        cells.flags.writeable = False
        object.__setattr__(self, "cells", cells)

    @property
    def stride(self) -> int:
        """Possible inputs of one target unit: ``n_source * taps``."""
        return self.n_source * self.taps

    @property
    def size(self) -> int:
        """Possible connections: ``n_source * taps * n_target``."""
        return self.n_source * self.taps * self.n_target

    @property
    def nnz(self) -> int:
        """Connections that exist."""
        return int(self.cells.size)

    @property
    def density(self) -> float:
        """Share of the possible connections that exist, 0 to 1."""
        return self.nnz / self.size

    @cached_property
    def indptr(self) -> NDArray[np.int64]:
        """Where each target's keys begin in ``keys``: shape (n_target + 1,)."""
        return np.searchsorted(self.cells, np.arange(self.n_target + 1, dtype=np.int64) * self.stride).astype(np.int64)

    @cached_property
    def keys(self) -> NDArray[np.int64]:
        """Per target unit its sorted keys ``source * taps + tap``, one target after the other: shape (nnz,)."""
        return self.cells % self.stride

    def keys_of(self, target: int) -> NDArray[np.int64]:
        """The fan-in set of one target unit, as sorted keys."""
        return self.keys[self.indptr[target] : self.indptr[target + 1]]

    @property
    def targets(self) -> NDArray[np.int64]:
        """The target unit of each connection: shape (nnz,)."""
        return self.cells // self.stride

    @property
    def sources(self) -> NDArray[np.int64]:
        """The source unit of each connection: shape (nnz,)."""
        return self.keys // self.taps

    @property
    def tap_indices(self) -> NDArray[np.int64]:
        """The tap of each connection: shape (nnz,)."""
        return self.keys % self.taps

    @property
    def fan_in(self) -> NDArray[np.int64]:
        """Connections into each target unit: shape (n_target,)."""
        return np.diff(self.indptr)

    @property
    def fan_out(self) -> NDArray[np.int64]:
        """Connections out of each source unit, over all taps: shape (n_source,)."""
        return np.bincount(self.sources, minlength=self.n_source)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over shape, taps and cells, in hex: equal exactly for equal masks, however they were packed."""
        head = struct.pack("<QQQ", self.n_source, self.taps, self.n_target)
        return hashlib.sha256(format_1.MASK_DIGEST + head + self.cells.astype("<i8").tobytes()).hexdigest()

    def to_csc(self) -> sp.csc_array:
        """The mask as a boolean SciPy matrix of shape (n_source * taps, n_target)."""
        data = np.ones(self.nnz, dtype=bool)
        return sp.csc_array((data, self.keys, self.indptr), shape=(self.stride, self.n_target))

    @staticmethod
    def from_csc(n_source: int, n_target: int, indptr: ArrayLike, keys: ArrayLike, *, taps: int = 1) -> Mask:
        """A mask from keys per target unit: ``keys[indptr[j]:indptr[j + 1]]`` are the sorted keys of target j."""
        ptr, flat = np.asarray(indptr, dtype=np.int64), np.asarray(keys, dtype=np.int64)
        stride = n_source * taps
        if ptr.shape != (n_target + 1,) or ptr[0] != 0 or bool(np.any(np.diff(ptr) < 0)):
            raise InvalidTopologyError(
                f"indptr: expected {n_target + 1} increasing offsets from 0, found {_describe(ptr)}"
            )
        if flat.shape != (int(ptr[-1]),):
            raise InvalidTopologyError(
                f"indices: expected {ptr[-1]} keys (the last of indptr), found {_describe(flat)}"
            )
        if flat.size and (flat.min() < 0 or flat.max() >= stride):
            bad = int(np.flatnonzero((flat < 0) | (flat >= stride))[0])
            raise InvalidTopologyError(f"indices[{bad}]: expected a key in [0, {stride}), found {flat[bad]}")
        cells = np.repeat(np.arange(n_target, dtype=np.int64) * stride, np.diff(ptr)) + flat
        if not bool(np.all(cells[1:] > cells[:-1])):
            bad = int(np.flatnonzero(cells[1:] <= cells[:-1])[0]) + 1
            raise InvalidTopologyError(
                f"indices[{bad}] of target {cells[bad] // stride}: expected sorted keys without repeats, "
                f"found {flat[bad]} after {flat[bad - 1]}"
            )
        return Mask(n_source, n_target, cells, taps)

    @staticmethod
    def from_matrix(matrix: Any, *, taps: int = 1, zeros: Zeros = "present") -> Mask:
        """A mask from a SciPy sparse, NumPy or torch matrix of shape (n_source * taps, n_target).

        A connection is an entry that is not 0. What a *stored* zero of a sparse matrix means is a matter of where it
        comes from: ``zeros="present"`` (a mask: every stored entry is a connection) or ``"absent"`` (weights).
        NaN and infinite values are refused.
        """
        if hasattr(matrix, "detach"):  # a torch tensor, without importing torch
            matrix = _from_torch(matrix)
        if sp.issparse(matrix):
            return _mask_from_sparse(matrix, taps, zeros)
        array = np.asarray(matrix)
        if array.ndim != 2:
            raise InvalidTopologyError(f"mask: expected a matrix (sources x targets), found shape {array.shape}")
        _check_values(array)
        rows, cols = np.nonzero(array)
        return _mask_from_entries(rows, cols, array.shape, taps)


@dataclass(frozen=True, slots=True)
class Layer:
    """A mask with its name and the two spaces it joins.

    Several layers may enter one space (residual sums); a unit's fan-in set is then the union over them.
    """

    name: str
    source: Space
    target: Space
    mask: Mask

    def __post_init__(self) -> None:
        _check_name("layer", self.name)
        expected, found = (self.source.size, self.target.size), (self.mask.n_source, self.mask.n_target)
        if expected != found:
            raise InvalidTopologyError(
                f"layer {self.name!r}: expected a mask of {expected[0]} x {expected[1]} units "
                f"({self.source.name} -> {self.target.name}), found {found[0]} x {found[1]}"
            )
        if self.source.name == self.target.name:
            raise InvalidTopologyError(f"layer {self.name!r}: its source and target are both {self.source.name!r}")

    @property
    def taps(self) -> int:
        """Positions at which a source unit may feed a target unit."""
        return self.mask.taps

    @property
    def nnz(self) -> int:
        """Connections that exist."""
        return self.mask.nnz

    @property
    def density(self) -> float:
        """Share of the possible connections that exist, 0 to 1."""
        return self.mask.density


@dataclass(frozen=True, eq=False)
class Topology:
    """The wiring of one network: its layers, each after all layers that enter its source space.

    >>> t = Topology.from_masks([np.eye(3), np.ones((3, 2))])
    >>> [(layer.name, layer.source.name, layer.target.name, layer.nnz) for layer in t.layers]
    [('l0', 'input', 'hidden1', 3), ('l1', 'hidden1', 'output', 6)]
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers:
            raise InvalidTopologyError("topology: expected at least one layer, found none")
        _check_layers(self.layers)

    @cached_property
    def spaces(self) -> tuple[Space, ...]:
        """The spaces in the order in which the layers first name them (source before target)."""
        seen: dict[str, Space] = {}
        for layer in self.layers:
            seen.setdefault(layer.source.name, layer.source)
            seen.setdefault(layer.target.name, layer.target)
        return tuple(seen.values())

    @property
    def nnz(self) -> int:
        """Connections in all layers."""
        return sum(layer.nnz for layer in self.layers)

    @property
    def density(self) -> float:
        """Share of the possible connections of all layers that exist."""
        return self.nnz / sum(layer.mask.size for layer in self.layers)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the wiring in hex; names are not part of it, so equal wirings have equal digests."""
        index = {space.name: i for i, space in enumerate(self.spaces)}
        sha = hashlib.sha256(format_1.TOPOLOGY_DIGEST)
        sha.update(struct.pack("<Q", len(self.layers)))
        for layer in self.layers:
            for space in (layer.source, layer.target):
                sha.update(struct.pack("<QQ?", index[space.name], space.size, space.labelled))
            sha.update(struct.pack("<QQ", layer.taps, layer.nnz))
            sha.update(layer.mask.cells.astype("<i8").tobytes())
        return sha.hexdigest()

    def layer(self, name: str) -> Layer:
        """The layer of that name; ``KeyError`` where there is none."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)

    def wiring(self) -> tuple[tuple[str, Space, Space, int], ...]:
        """All that stays the same during a run: per layer its name, its two spaces and its taps."""
        return tuple((layer.name, layer.source, layer.target, layer.taps) for layer in self.layers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Topology) and self.wiring() == other.wiring() and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        sizes = "-".join(str(space.size) for space in self.spaces)
        return f"<Topology {sizes}, {len(self.layers)} layers, {self.nnz} connections, {self.digest[:12]}>"

    @staticmethod
    def from_masks(masks: Sequence[Any], names: Sequence[str] | None = None, *, zeros: Zeros = "present") -> Topology:
        """A plain chain of layers from matrices of shape (sources, targets): SciPy sparse, NumPy, torch or ``Mask``.

        The first space (``input``) and the last (``output``) are labelled, those between (``hidden1``, ...) are not.
        ``names`` are the layers' names, ``l0``, ``l1``, ... where none are given. ``zeros``: see ``Mask.from_matrix``.
        """
        names = [f"l{k}" for k in range(len(masks))] if names is None else list(names)
        if len(names) != len(masks):
            raise InvalidTopologyError(f"expected as many names as masks ({len(masks)}), found {len(names)}")
        made: list[Mask] = []
        for name, matrix in zip(names, masks, strict=True):
            try:
                made.append(matrix if isinstance(matrix, Mask) else Mask.from_matrix(matrix, zeros=zeros))
            except InvalidTopologyError as error:
                raise InvalidTopologyError(f"layer {name!r}: {error.message}", hint=error.hint) from None
        return Topology(chain_layers(names, made))


def chain_layers(names: Sequence[str], masks: Sequence[Mask]) -> tuple[Layer, ...]:
    """Layers that follow each other, the targets of one being the sources of the next; checks that the sizes chain."""
    layers: list[Layer] = []
    last = len(masks) - 1
    for k, (name, mask) in enumerate(zip(names, masks, strict=True)):
        source = layers[-1].target if layers else Space("input", mask.n_source, labelled=True)
        if source.size != mask.n_source:
            raise InvalidTopologyError(
                f"layer {name!r}: expected {source.size} sources (the targets of layer {names[k - 1]!r}), "
                f"found {mask.n_source}"
            )
        target = Space("output" if k == last else f"hidden{k + 1}", mask.n_target, labelled=k == last)
        layers.append(Layer(name, source, target, mask))
    return tuple(layers)


def _check_name(kind: str, name: str) -> None:
    if not name or len(name) > _MAX_NAME or not name.isprintable():
        raise InvalidTopologyError(f"{kind}: expected a printable name of 1 to {_MAX_NAME} characters, found {name!r}")


def _check_layers(layers: tuple[Layer, ...]) -> None:
    spaces: dict[str, Space] = {}
    names: set[str] = set()
    read: dict[str, str] = {}  # space -> the first layer that reads from it
    for layer in layers:
        if layer.name in names:
            raise InvalidTopologyError(f"layer {layer.name!r}: expected unique layer names, found this one twice")
        names.add(layer.name)
        for space in (layer.source, layer.target):
            if spaces.setdefault(space.name, space) != space:
                raise InvalidTopologyError(
                    f"layer {layer.name!r}: expected {spaces[space.name]} (as in an earlier layer), found {space}"
                )
        read.setdefault(layer.source.name, layer.name)
        if layer.target.name in read:
            raise InvalidTopologyError(
                f"layer {layer.name!r}: expected every layer into {layer.target.name!r} before the first that reads "
                f"from it, found it after {read[layer.target.name]!r}"
            )


def _from_torch(tensor: Any) -> Any:
    tensor = tensor.detach().cpu()
    layout = str(tensor.layout)
    if layout == "torch.strided":
        return tensor.numpy()
    coo = (tensor if layout == "torch.sparse_coo" else tensor.to_sparse_coo()).coalesce()
    rows, cols = coo.indices().numpy()
    return sp.coo_array((coo.values().numpy(), (rows, cols)), shape=tuple(coo.shape))


def _mask_from_sparse(matrix: Any, taps: int, zeros: Zeros) -> Mask:
    coo = sp.coo_array(matrix)
    if coo.ndim != 2:
        raise InvalidTopologyError(f"mask: expected a matrix (sources x targets), found shape {coo.shape}")
    _check_values(coo.data)
    keep = slice(None) if zeros == "present" else coo.data != 0
    return _mask_from_entries(coo.coords[0][keep], coo.coords[1][keep], coo.shape, taps)


def _mask_from_entries(rows: Any, cols: Any, shape: tuple[int, ...], taps: int) -> Mask:
    if shape[0] % taps or not shape[0] or not shape[1]:
        raise InvalidTopologyError(f"mask: expected (n_source * {taps}) x n_target entries, found shape {shape}")
    cells = np.unique(cols.astype(np.int64) * shape[0] + rows)
    return Mask(shape[0] // taps, shape[1], cells, taps)


def _check_values(values: NDArray[Any]) -> None:
    if values.dtype.kind not in "biuf":
        raise InvalidTopologyError(f"mask: expected boolean or real values, found dtype {values.dtype}")
    if values.dtype.kind == "f" and not bool(np.isfinite(values).all()):
        at = np.argwhere(~np.isfinite(values))[0].tolist()
        raise InvalidTopologyError(f"mask: expected finite values, found {values[tuple(at)]} at {at}")


def _first_disorder(cells: Cells, size: int) -> str:
    outside = np.flatnonzero((cells < 0) | (cells >= size))
    if outside.size:
        return f"{cells[outside[0]]} at position {outside[0]}"
    at = int(np.flatnonzero(cells[1:] <= cells[:-1])[0])
    return f"{cells[at + 1]} after {cells[at]} at position {at + 1}"


def _describe(array: NDArray[np.int64]) -> str:
    return f"shape {array.shape} from {array.flat[0] if array.size else '-'} to {array.flat[-1] if array.size else '-'}"
