"""What several networks have in common: how many connections are in exactly k of them, beside what chance gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from topostrata.copies import degree_kept_chain
from topostrata.distance.alignments import DEFAULT, Alignment, definition_of
from topostrata.distance.chosen import Choice, Layers
from topostrata.distance.comparable import check_comparable
from topostrata.distance.match import align
from topostrata.errors import InvalidInputError, NotComparableError
from topostrata.masks import Cells, Mask
from topostrata.topology import Topology

MOST_DRAWS = 1000
DRAWS = 3


@dataclass(frozen=True, slots=True)
class LayerCore:
    """The connections of one layer by how many of n networks have them; tied layers are one, named by the first.

    ``exactly[k - 1]`` are in exactly k of them: ``exactly[-1]`` is the core, the sum of all the pan-network, what lies
    between the shell. ``chance`` has the mean of the same counts over draws, ``chance_std`` the deviation of single
    draws; both are None without draws, the deviation also for one.
    """

    name: str
    exactly: tuple[int, ...]
    chance: tuple[float, ...] | None
    chance_std: tuple[float, ...] | None

    @property
    def core(self) -> int:
        """Connections that all networks have."""
        return self.exactly[-1]

    @property
    def pan(self) -> int:
        """Connections that one or more networks have."""
        return sum(self.exactly)


@dataclass(frozen=True, slots=True)
class Core:
    """What ``networks`` networks have in common, layer by layer; the units are in the order of the first of them.

    ``alignment`` in its ``version`` says which units of the others are which of the first. ``draws`` degree-kept copies
    of each network give chance, from ``seed`` on.
    """

    json_names: ClassVar = {"aligned": None}

    networks: int
    alignment: str
    version: int
    draws: int
    seed: int
    layers: tuple[LayerCore, ...]
    aligned: tuple[Topology, ...]

    def at_least(self, k: int) -> Topology:
        """The connections that ``k`` or more networks have, in the order of the first: a mask to train on.

        Layers that were not chosen are as in the first network. Raises ``InvalidInputError`` where k is not in 1..n.
        """
        if not 1 <= k <= self.networks:
            raise InvalidInputError(f"at least: expected 1 to {self.networks} networks, found {k}")
        first = self.aligned[0]
        masks = first.to_masks()
        for layer in self.layers:
            cells, times = np.unique(_cells(self.aligned, layer.name), return_counts=True)
            old = masks[layer.name]
            masks[layer.name] = Mask(old.n_source, old.n_target, cells[times >= k], old.taps)
        return first.wiring.place(masks)


def core(
    networks: Sequence[Topology],
    *,
    alignment: Alignment = DEFAULT,
    layers: Layers = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Core:
    """How many connections are in exactly k of n networks, for each layer and each k, beside what chance gives.

    Every network is put in the order of the first by ``alignment`` (``"identity"``: units are in place already), so
    another first network may give somewhat other counts. Chance is what the same networks give when each is replaced by
    a random one in which every unit has as many connections (``degree_kept``): hubs alone bring connections together,
    and so does matching. ``draws=0`` leaves it out; each draw costs as much as the answer. ``layers`` are names, globs,
    or ``"sparse"``.

    Raises ``NotComparableError`` for networks of other layers or widths, ``InvalidInputError`` for fewer than two.

    Source: the names are those of the genomes of a species, core, shell and pan (Tettelin et al. 2005).

    >>> a = Topology.from_masks([[[1, 1, 0], [0, 1, 1], [0, 0, 1]]])
    >>> b = Topology.from_masks([[[1, 1, 0], [1, 0, 1], [0, 0, 1]]])
    >>> core([a, a, b], draws=0).layers[0].exactly
    (1, 1, 4)
    """
    if len(networks) < 2:
        raise InvalidInputError(f"core: expected two networks or more, found {len(networks)}")
    if not 0 <= draws <= MOST_DRAWS:
        raise InvalidInputError(f"draws: expected 0 to {MOST_DRAWS}, found {draws}")
    first, *others = networks
    for other in others:
        check_comparable(first, other)
        _check_widths(first, other)
    aligned = _aligned(networks, alignment)
    own = [layer for layer in first.layers if layer.name not in first.wiring.shared_with]
    full = [
        all(network.layers[k].nnz == layer.shape.possible for network in aligned)
        for k, layer in enumerate(first.layers)
        if layer.name not in first.wiring.shared_with
    ]
    names = [own[k].name for k in Choice.of(layers).rows([layer.name for layer in own], full)]
    chains = [degree_kept_chain(network, (seed, k)) for k, network in enumerate(networks)]
    levels: dict[str, list[tuple[int, ...]]] = {name: [] for name in names}
    for _ in range(draws):
        copies = _aligned([next(chain) for chain in chains], alignment)
        for name in names:
            levels[name].append(_exactly(copies, name))
    return Core(
        len(networks),
        alignment,
        definition_of(alignment).version,
        draws,
        seed,
        tuple(_layer(name, _exactly(aligned, name), levels[name]) for name in names),
        aligned,
    )


def _check_widths(first: Topology, other: Topology) -> None:
    widths, others = ([space.size for space in network.spaces] for network in (first, other))
    if sorted(widths) != sorted(others):
        raise NotComparableError(
            f"core: expected networks of the same widths, found {' '.join(map(str, widths))} and "
            f"{' '.join(map(str, others))} units",
            hint="a connection of one network is one of another only where both have the same units",
        )


def _aligned(networks: Sequence[Topology], alignment: Alignment) -> tuple[Topology, ...]:
    """All networks with the first one's names and order of layers, and its order of units."""
    first, *others = networks
    return (first, *(_named(first, align(other, to=first, alignment=alignment)) for other in others))


def _named(first: Topology, other: Topology) -> Topology:
    """The other network with the layers of the first."""
    partners = first.wiring.counterparts(other.wiring)
    masks = {layer.name: other.layers[k].mask for layer, k in zip(first.layers, partners, strict=True)}
    return first.wiring.place({name: mask for name, mask in masks.items() if name not in first.wiring.shared_with})


def _cells(networks: Sequence[Topology], layer: str) -> Cells:
    return np.concatenate([network[layer].mask.cells for network in networks])


def _exactly(networks: Sequence[Topology], layer: str) -> tuple[int, ...]:
    _, times = np.unique(_cells(networks, layer), return_counts=True)
    return tuple(np.bincount(times, minlength=len(networks) + 1)[1:].tolist())


def _layer(name: str, exactly: tuple[int, ...], drawn: list[tuple[int, ...]]) -> LayerCore:
    if not drawn:
        return LayerCore(name, exactly, None, None)
    counts = np.array(drawn, dtype=np.float64)
    deviation = tuple(counts.std(axis=0, ddof=1).tolist()) if len(drawn) > 1 else None
    return LayerCore(name, exactly, tuple(counts.mean(axis=0).tolist()), deviation)
