"""How often inferred ancestry is right: families of networks whose descent is known, and the share of it found again.

A family has 13 networks: a random one, then six generations of two, each made from a random network of the generation
before by moving a share of its connections in every sparse layer. Then every network is trained on its own, as far as
its wiring is concerned: each epoch of sparse evolutionary training (SET) takes a fifth of its connections away and
grows as many at random places. Real training does not take them at random: it takes the weakest, which are most often
the youngest. So there are two kinds of churn: *random*, the harder one, and *weakest*, where each connection has a
strength that it keeps and that descendants inherit.

python bench/ancestry.py [--repetitions N] [--to FILE]

prints the table, or writes it with machine, versions and date (docs/benchmarks-ancestry.md). About three minutes.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from topostrata.distance.nnstd import nnstd
from topostrata.lineage.inferred import from_distances, suggest
from topostrata.topology import Mask, Topology

WIDTHS = (50, 50, 50, 50, 10)
FAN_IN = 5
DEPTH, SIBLINGS = 6, 2
ZETA = 0.2
CHANGES = (0.01, 0.02, 0.05, 0.1, 0.2)
METHODS = ("identity", "overlap", "canonical", "reference", "first layer", "suggested")
REPETITIONS = 5

Floats = NDArray[np.float64]
Edges = frozenset[tuple[int, int]]


@dataclass(frozen=True)
class Churn:
    """So many epochs of SET after the family has been made; ``kind`` says which connections go."""

    kind: str
    epochs: int

    @property
    def title(self) -> str:
        """As it stands in the table."""
        return f"{self.kind}, {self.epochs} epochs" if self.epochs else "none"


@dataclass(frozen=True)
class Wires:
    """One sparse layer: the occupied cells, sorted, and how strong each connection is."""

    n_source: int
    n_target: int
    cells: NDArray[np.int64]
    strength: Floats

    def rewired(self, leaving: NDArray[np.int64], rng: np.random.Generator) -> Wires:
        """Without the connections at these positions, and with as many new ones where none was."""
        free = np.setdiff1d(np.arange(self.n_source * self.n_target), self.cells)
        cells = np.append(np.delete(self.cells, leaving), rng.choice(free, len(leaving), replace=False))
        strength = np.append(np.delete(self.strength, leaving), rng.exponential(size=len(leaving)))
        order = np.argsort(cells)
        return Wires(self.n_source, self.n_target, cells[order], strength[order])


Network = tuple[Wires, ...]


def family(change: float, churn: Churn, rng: np.random.Generator) -> tuple[list[Network], Edges, float]:
    """The networks of a family after training, who was made from whom, and what share of connections is left."""
    founder = []
    for n_source, n_target in pairwise(WIDTHS[:-1]):
        cells = np.sort(rng.choice(n_source * n_target, FAN_IN * n_target, replace=False))
        founder.append(Wires(n_source, n_target, cells, rng.exponential(size=len(cells))))
    networks, edges, generation = [tuple(founder)], set(), [0]
    for _ in range(DEPTH):
        born = []
        for _ in range(SIBLINGS):
            parent = int(rng.choice(generation))
            born.append(len(networks))
            edges.add((parent, born[-1]))
            networks.append(tuple(moved(layer, change, rng) for layer in networks[parent]))
        generation = born
    after = [trained(network, churn, rng) for network in networks]
    return after, frozenset(edges), float(np.mean([share_left(*pair) for pair in zip(networks, after, strict=True)]))


def share_left(before: Network, after: Network) -> float:
    left = sum(
        len(np.intersect1d(layer.cells, trained_layer.cells))
        for layer, trained_layer in zip(before, after, strict=True)
    )
    return left / sum(len(layer.cells) for layer in before)


def moved(layer: Wires, share: float, rng: np.random.Generator) -> Wires:
    count = max(1, round(share * len(layer.cells)))
    return layer.rewired(rng.choice(len(layer.cells), count, replace=False), rng)


def trained(network: Network, churn: Churn, rng: np.random.Generator) -> Network:
    for _ in range(churn.epochs):
        if churn.kind == "random":
            network = tuple(moved(layer, ZETA, rng) for layer in network)
        else:
            network = tuple(
                layer.rewired(np.argsort(layer.strength)[: round(ZETA * len(layer.cells))], rng) for layer in network
            )
    return network


def topology(network: Network, *, relabel: np.random.Generator | None = None) -> Topology:
    """The wiring with a dense output layer, as published; ``relabel`` stores hidden units in another order."""
    matrices = [np.ones(WIDTHS[-2:], dtype=bool)]
    for layer in reversed(network):
        matrices.insert(0, Mask(layer.n_source, layer.n_target, layer.cells).to_csc().toarray())
    if relabel is not None:
        for below, above in pairwise(range(len(matrices))):
            order = relabel.permutation(matrices[below].shape[1])
            matrices[below], matrices[above] = matrices[below][:, order], matrices[above][order]
    return Topology.from_masks(matrices)


def matrices(networks: Sequence[Topology], methods: Iterable[str]) -> dict[str, Floats]:
    """Per method the distances of all pairs. The first layer is a part of canonical, suggested one of the others."""
    n = len(networks)
    distances = {method: np.zeros((n, n)) for method in methods}
    for i, j in combinations(range(n), 2):
        a, b = networks[i], networks[j]
        for method, matrix in distances.items():
            if method in {"identity", "overlap"}:
                matrix[i, j] = nnstd(a, b, alignment=method).nnstd  # type: ignore[arg-type]
            elif method == "reference":
                matrix[i, j] = (nnstd(a, b, alignment="reference").nnstd + nnstd(b, a, alignment="reference").nnstd) / 2
        if "canonical" in distances:
            distance = nnstd(a, b, alignment="canonical")
            distances["canonical"][i, j] = distance.nnstd
            distances["first layer"][i, j] = distance.layers[0].distance
    alignment, depth = suggest(networks)
    distances["suggested"] = distances["first layer" if depth else alignment]
    return {method: matrix + matrix.T for method, matrix in distances.items()}


def recovery(matrix: Floats, truth: Edges) -> float:
    """Share of the true edges that the tree has, whatever their direction."""
    labels = [f"{i:03}" for i in range(len(matrix))]
    edges = from_distances(labels, matrix, alignment="identity").edges
    joined = {tuple(sorted((int(edge.parent), int(edge.child)))) for edge in edges}
    return len(joined & {tuple(sorted(edge)) for edge in truth}) / len(truth)


@dataclass(frozen=True)
class Row:
    """One line of the table: a kind of family, and per method the recovery rate of each repetition."""

    churn: Churn
    change: float
    relabelled: bool
    share_left: float
    rates: Mapping[str, Sequence[float]]


CASES = (
    *((churn, False) for churn in (Churn("random", 0), Churn("random", 2), Churn("weakest", 5), Churn("weakest", 20))),
    (Churn("random", 0), True),
    (Churn("random", 2), True),
)


def measure(repetitions: int, told: Callable[[str], None]) -> Iterator[Row]:
    for churn, relabelled in CASES:
        for change in CHANGES:
            began = time.perf_counter()
            rates: dict[str, list[float]] = {method: [] for method in METHODS}
            left = []
            for repetition in range(repetitions):
                rng = np.random.default_rng([repetition, round(1000 * change), churn.epochs])
                networks, truth, share = family(change, churn, rng)
                left.append(share)
                compared = matrices([topology(n, relabel=rng if relabelled else None) for n in networks], METHODS)
                for method, matrix in compared.items():
                    rates[method].append(recovery(matrix, truth))
            told(f"{churn.title}, {change:.0%}: {time.perf_counter() - began:.1f} s")
            yield Row(churn, change, relabelled, float(np.mean(left)), rates)


def table(rows: Iterable[Row]) -> Iterator[str]:
    yield f"| churn | hidden units | change | kept | {' | '.join(METHODS)} |"
    yield "| --- " * (4 + len(METHODS)) + "|"
    for row in rows:
        cells = [f"{np.mean(rates):.0%} ± {100 * error(rates):.0f}" for rates in row.rates.values()]
        units = "relabelled" if row.relabelled else "in place"
        yield f"| {row.churn.title} | {units} | {row.change:.0%} | {row.share_left:.0%} | {' | '.join(cells)} |"


def error(rates: Sequence[float]) -> float:
    """Standard error of the mean, families being the sample."""
    return float(np.std(rates, ddof=1) / np.sqrt(len(rates))) if len(rates) > 1 else float("nan")


def page(lines: Iterable[str], repetitions: int, seconds: float) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("topostrata", "numpy", "scipy", "networkx", "numba"))
    machine = f"{platform.system()} {platform.machine()}, one core of {os.cpu_count()}"
    networks = 1 + DEPTH * SIBLINGS
    widths = "-".join(map(str, WIDTHS))
    head = f"""# How often inferred ancestry is right

Made by `bench/ancestry.py` in {seconds:.0f} s on {datetime.now(UTC):%Y-%m-%d}: {machine},
Python {platform.python_version()}, {packages}.

Share of the true edges that the minimum spanning tree has, whatever their direction: mean and standard error in
percent points over {repetitions} families of {networks} networks ({widths}, {FAN_IN} inputs per hidden unit, dense
output). A tree drawn at random finds {2 / networks:.0%}.

* *Change* is the share of the connections moved from a network to its child.
* *Churn* is what training then does to each network on its own: {ZETA:.0%} of the connections of a layer replaced per
  epoch, taken at random or the weakest. *Kept* is the share of a network's connections that are there after it.
* *First layer* is the baseline: the same tree on the distance of the first layer alone, matched. *Suggested* is the
  default: `identity` where the networks turn out to keep their units' indices, else the first layer.

`docs/design/020-inferred-ancestry.md` says what follows.
"""
    return "\n".join([head, *lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description="Recovery rate of inferred ancestry on synthetic families.")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--to", type=Path)
    chosen = parser.parse_args()
    began = time.perf_counter()
    # With --to nothing but progress is printed, so that the file holds what a reader is to see.
    lines = list(table(measure(chosen.repetitions, print)))
    text = page(lines, chosen.repetitions, time.perf_counter() - began)
    if chosen.to is None:
        print(text)
    else:
        chosen.to.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
