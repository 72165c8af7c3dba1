"""Directories of epochs on disk, as SciPy writes their layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from topostrata.topology import Topology


def matrix(rows: int, cols: int, *, density: float = 0.3, bias: bool = False, seed: int = 7) -> sp.csr_array:
    rng = np.random.default_rng([rows, cols, seed])
    dense = rng.normal(size=(rows, cols)).astype(np.float32) * (rng.random((rows, cols)) < density)
    dense[0, 0] = 1.0
    if bias:
        dense = np.vstack([dense, np.ones((1, cols), np.float32)])
    return sp.csr_array(dense)


def save_epoch(
    directory: Path, layers: list[Any], *, start: int = 0, names: str = "weight_l{}.npz", compressed: bool = True
) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for k, layer in enumerate(layers, start=start):
        sp.save_npz(directory / names.format(k), layer, compressed=compressed)


def run_directory(path: Path, epochs: tuple[int, ...] = (0, 10, 50), *, bias: bool = True) -> dict[int, Topology]:
    """A directory of epochs of a 6-5-4-3 network, and what it should be read as."""
    truth: dict[int, Topology] = {}
    for epoch in epochs:
        layers = [matrix(a, b, bias=bias, seed=epoch) for a, b in ((6, 5), (5, 4), (4, 3))]
        save_epoch(path / f"epoch_{epoch:03d}", layers)
        truth[epoch] = Topology.from_masks([m[:-1] if bias else m for m in layers], zeros="absent")
    return truth
