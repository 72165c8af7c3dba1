"""The units of a model put in other places, by a symmetry of its traced wiring.

Weights are moved as the wiring says alone: every entry is followed through ``place`` and ``relabelled`` by the binary
digits of its position. What is no layer (biases, norms, their statistics) is moved by the labels that the trace found.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.torch.models import Example
from topostrata.ingest.hook.tracing.axes_of_tensors import Dim
from topostrata.ingest.hook.tracing.contexts import pieces
from topostrata.ingest.hook.tracing.forward import Seen, watch
from topostrata.ingest.hook.tracing.reading import Reading, plain_name, read
from topostrata.ingest.hook.tracing.trace import trace_report
from topostrata.topology import Wiring

Permutations = dict[str, NDArray[np.int64]]


def traced(example: Example) -> tuple[Seen, Reading]:
    mode = trace_report(example.model, example.args, example.named).mode
    seen = watch(example.model, example.args, example.named, mode)
    return seen, read(seen)


def relabelled_state(example: Example, seen: Seen, reading: Reading, permutations: Permutations) -> dict[str, Tensor]:
    """The parameters and buffers, by their first names, with all units in their new places."""
    model = example.model
    old = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    stored = {layer.part.parameter: layer for layer in reading.wiring if layer.part is not None}
    weights: dict[str, str] = {}
    for name in seen.parameters:
        if (
            plain_name(name) in stored
            and old[name].numel() >= old.get(weights.get(plain_name(name)), old[name]).numel()
        ):
            weights[plain_name(name)] = name
    moves = _entries_after(reading.wiring, {plain: old[name] for plain, name in weights.items()}, permutations)
    new = {weights[plain]: _moved(old[weights[plain]], *move) for plain, move in moves.items()}
    for name, labels in {**seen.parameters, **seen.buffers}.items():
        if name not in new:
            tensor = old[name].detach().clone()
            for k, dim in enumerate(labels.dims):
                places = torch.from_numpy(_places_after(dim, reading, permutations))
                tensor = torch.empty_like(tensor).index_copy_(k, places, tensor)
            new[name] = tensor
    return new


def _moved(tensor: Tensor, places: NDArray[np.int64], origins: NDArray[np.int64]) -> Tensor:
    moved = tensor.detach().clone()
    moved.view(-1)[torch.from_numpy(places)] = tensor.detach().reshape(-1)[torch.from_numpy(origins)]
    return moved


def _entries_after(
    wiring: Wiring, tensors: dict[str, Tensor], permutations: Permutations
) -> dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """For each parameter places, and which entry comes to each of them."""
    digits = max(tensor.numel() for tensor in tensors.values()).bit_length()
    place_of = {layer.name: np.zeros(layer.possible, dtype=np.int64) for layer in wiring}
    origin_of = {name: places.copy() for name, places in place_of.items()}
    for digit in range(digits):
        arrays = {
            name: (np.arange(tensor.numel()) >> digit & 1).astype(bool).reshape(tuple(tensor.shape))
            for name, tensor in tensors.items()
        }
        topology = wiring.place(arrays)
        for before, after in zip(topology, topology.relabelled(permutations), strict=True):
            place_of[before.name][before.mask.cells] += 1 << digit
            origin_of[before.name][after.mask.cells] += 1 << digit
    moves: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
    for layer in wiring:
        if layer.name not in wiring.shared_with and layer.part is not None:
            places, origins = place_of[layer.name], origin_of[layer.name]
            if layer.part.parameter in moves:
                earlier = moves[layer.part.parameter]
                places, origins = np.concatenate([earlier[0], places]), np.concatenate([earlier[1], origins])
            moves[layer.part.parameter] = places, origins
    for name, (places, _) in moves.items():
        assert np.array_equal(np.sort(places), np.arange(tensors[name].numel())), f"{name}: not every entry once"
    return moves


def _places_after(dim: Dim, reading: Reading, permutations: Permutations) -> NDArray[np.int64]:
    """The new place of each index of a dimension."""
    rows = []
    for piece in pieces(dim):
        sizes = tuple(label.size for label in piece.axes)
        indices = np.unravel_index(np.arange(piece.size), sizes) if sizes else ()
        axes = [reading.axis_of.get(label) for label in piece.axes]
        index_of = {axis.name: index for axis, index in zip(axes, indices, strict=True) if axis is not None}
        new = np.zeros(piece.size, dtype=np.int64)
        for axis, size, index in zip(axes, sizes, indices, strict=True):
            moves = permutations.get(axis.name) if axis is not None else None
            if moves is None or axis is None:
                place = index
            else:
                outer = reading.wiring.within[axis.name]
                place = moves[(*(index_of[a.name] for a in outer), index)]
            new = new * size + place
        rows.append(piece.start + new)
    return np.concatenate(rows)
