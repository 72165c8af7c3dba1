"""Random networks of every kind that has a distance, and a count of those that are in memory."""

from __future__ import annotations

import threading
import weakref
from functools import partial

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from topostrata.topology import Layer, Mask, Space, Topology

settings.register_profile("kernels", deadline=None)
settings.load_profile("kernels")


def random_mask(rng: np.random.Generator, n_source: int, n_target: int, density: float, taps: int = 1) -> Mask:
    return Mask.from_matrix(rng.random((n_source * taps, n_target)) < density, taps=taps)


def random_network(
    rng: np.random.Generator, widths: list[int], density: float, *, taps: int = 1, residual: bool = False
) -> Topology:
    """A chain; with ``residual`` every second hidden space also reads from the one before its source."""
    last = len(widths) - 1
    spaces = [Space(f"s{k}", n, labelled=k in {0, last}) for k, n in enumerate(widths)]
    layers = []
    for k in range(last):
        t = taps if k < last - 1 else 1
        layers.append(Layer(f"l{k}", spaces[k], spaces[k + 1], random_mask(rng, widths[k], widths[k + 1], density, t)))
        if residual and k % 2:
            mask = random_mask(rng, widths[k - 1], widths[k + 1], density)
            layers.append(Layer(f"skip{k}", spaces[k - 1], spaces[k + 1], mask))
    return Topology(tuple(layers))


def rewired(rng: np.random.Generator, topology: Topology, share: float) -> Topology:
    """The network with a share of its connections moved to free places, as sparse evolutionary training does."""
    masks = {}
    for name, mask in topology.to_masks().items():
        cells = mask.cells
        remaining = cells[rng.random(len(cells)) >= share]
        free = np.setdiff1d(np.arange(mask.size), cells)
        fresh = rng.choice(free, min(len(free), len(cells) - len(remaining)), replace=False)
        masks[name] = Mask(mask.n_source, mask.n_target, np.sort(np.concatenate([remaining, fresh])), mask.taps)
    return topology.wiring.place(masks)


def relabelled(rng: np.random.Generator, topology: Topology) -> Topology:
    """The same network with its hidden units stored in another order."""
    order = {s.name: np.arange(s.size) if s.labelled else rng.permutation(s.size) for s in topology.spaces}
    layers = []
    for layer in topology.layers:
        mask = layer.mask
        sources, targets = order[layer.source.name][mask.sources], order[layer.target.name][mask.targets]
        cells = np.sort(targets * mask.stride + sources * mask.taps + mask.tap_indices)
        layers.append(
            Layer(layer.name, layer.source, layer.target, Mask(mask.n_source, mask.n_target, cells, mask.taps))
        )
    return Topology(tuple(layers))


@st.composite
def pairs(draw: st.DrawFn, largest: int = 9) -> tuple[Topology, Topology]:
    """Two comparable networks: related or independent, equal or unequal widths, taps, residual sums, empty and full."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    widths = draw(st.lists(st.integers(1, largest), min_size=2, max_size=5))
    density = draw(st.sampled_from([0.0, 0.1, 0.2, 0.35, 0.6, 1.0]))
    taps, residual = draw(st.sampled_from([1, 1, 3])), draw(st.booleans())
    first = random_network(rng, widths, density, taps=taps, residual=residual)
    kind = draw(st.sampled_from(["rewired", "independent", "relabelled", "other widths"]))
    if kind == "rewired":
        return first, rewired(rng, first, 0.3)
    if kind == "relabelled":
        return first, relabelled(rng, first)
    if kind == "other widths":
        widths = [widths[0], *(int(rng.integers(1, largest + 1)) for _ in widths[1:-1]), widths[-1]]
    other = draw(st.sampled_from([density, 0.25]))
    return first, random_network(rng, widths, other, taps=taps, residual=residual)


class Alive:
    """Loaders of copies of some networks, and how many copies lived at once."""

    def __init__(self, networks: list[Topology], count: int) -> None:
        self._networks = networks
        self._lock = threading.Lock()
        self.now = self.most = 0
        self.calls = [0] * count
        self.loaders = [partial(self._load, k) for k in range(count)]

    def _load(self, at: int) -> Topology:
        copy = Topology(self._networks[at % len(self._networks)].layers)
        with self._lock:
            self.calls[at] += 1
            self.now += 1
            self.most = max(self.most, self.now)
        weakref.finalize(copy, self._gone)
        return copy

    def _gone(self) -> None:
        with self._lock:
            self.now -= 1
