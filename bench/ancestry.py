"""How often inferred ancestry is right: families of networks whose descent is known, and the share of it found again.

Three test beds:

* The published chain (``TOPOSTRATA_REFERENCE_TOPOLOGIES``, default ../shared/set-topologies): five networks.
* Chains of the demo's trainer, of 200 to 800 hidden units a layer: 1 % of the connections moved from each network to
  the next, then each trained by SET on its own for long, which makes hubs. Seeds are fixed.
* Synthetic families, for where it stops being right. A family has 13 networks: a random one, then six generations of
  two, each made from a random network of the generation before by moving a share of its connections in every sparse
  layer. Then every network is trained on its own, as far as its wiring is concerned: each epoch of SET takes a fifth of
  its connections away and grows as many at random places. *random* takes any, the harder kind; *weakest* those whose
  strength, which they keep and descendants inherit, is least.

python bench/ancestry.py [--repetitions N] [--to FILE]

prints the tables, or writes them with machine, versions and date (docs/benchmarks-ancestry.md). About ten minutes of
one core. Needs the extra ``demo``. Exit 1 where the default misses an edge of the published chain or of a trained one.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from itertools import combinations, pairwise
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from topostrata.distance.alignments import ALIGNMENTS, Alignment
from topostrata.distance.nnstd import nnstd
from topostrata.lineage.inferred import from_distances, infer
from topostrata.lineage.unit_terms import placement_of
from topostrata.service.demo.training import family as demo_family
from topostrata.service.demo.training import load_digits, train
from topostrata.topology import Mask, Topology

NETWORKS = Path(
    os.environ.get("TOPOSTRATA_REFERENCE_TOPOLOGIES")
    or Path(__file__).resolve().parents[1] / ".." / "shared" / "set-topologies"
)
# Hidden units a layer, networks, and the epochs at which a trained chain is looked at.
TRAINED = ((200, 10, (0, 50, 100, 200)), (400, 8, (0, 50, 150)), (800, 5, (0, 50, 100)))
EPSILON, MOVED = 4.0, 0.01
SEEDS = (21, 22, 23)
SHALLOW = "canonical, depth 1"
WIDTHS = (50, 50, 50, 50, 10)
FAN_IN = 5
DEPTH, SIBLINGS = 6, 2
ZETA = 0.2
CHANGES = (0.01, 0.02, 0.05, 0.1, 0.2)
METHODS = ("identity", "overlap", "canonical", SHALLOW, "default")
REPETITIONS = 3

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


def matrices(networks: Sequence[Topology]) -> dict[str, Floats]:
    """Per method the distances of all pairs. Depth 1 is a part of canonical, the default one of the others."""
    n = len(networks)
    distances = {method: np.zeros((n, n)) for method in METHODS[:-1]}
    for i, j in combinations(range(n), 2):
        a, b = networks[i], networks[j]
        for method in ("identity", "overlap", "canonical"):
            distance = nnstd(a, b, alignment=method)
            distances[method][i, j] = distance.nnstd
        distances[SHALLOW][i, j] = distance.layers[0].distance
    distances["default"] = distances["identity" if placement_of(networks).units == "in-place" else "overlap"]
    return {method: matrix + matrix.T for method, matrix in distances.items()}


def published() -> Iterator[tuple[int, list[Topology]]]:
    """The published chain at each epoch that is there, without biases."""
    for epoch in sorted({int(folder.name[-3:]) for folder in NETWORKS.glob("*/epoch_*")}):
        chain = []
        for folder in sorted(NETWORKS.glob(f"*/epoch_{epoch:03}")):
            masks = [sp.csr_array(sp.load_npz(file))[:-1] for file in sorted(folder.glob("weight_l*.npz"))]
            chain.append(Topology.from_masks(masks, zeros="absent"))
        yield epoch, chain


def trained_chain(width: int, length: int, epochs: Sequence[int]) -> dict[int, list[Topology]]:
    """A chain of the demo's networks at each of these epochs of their training."""
    data = load_digits()
    chain: dict[int, list[Topology]] = {epoch: [] for epoch in epochs}
    hidden = (width, width, width)
    for member in demo_family(seed=width, networks=length, perturb=MOVED, epsilon=EPSILON, hidden=hidden):
        for recorded in train(member, data, epochs=max(epochs)):
            if recorded.epoch in chain:
                chain[recorded.epoch].append(recorded.topology)
    return chain


def renamed(topology: Topology, rng: np.random.Generator) -> Topology:
    """The network with its hidden units in other places."""
    return topology.relabelled(
        {space.name: rng.permutation(space.size) for space in topology.spaces if not space.labelled}
    )


def chains(told: Callable[[str], None]) -> Iterator[tuple[str, int, list[Topology]]]:
    """Each chain with its name, at each of its epochs."""
    for epoch, chain in published():
        yield "published, 784 wide", epoch, chain
    for width, length, epochs in TRAINED:
        began = time.process_time()
        trained_chains = trained_chain(width, length, epochs)
        told(f"{width} wide: trained in {time.process_time() - began:.0f} s")
        for epoch, chain in trained_chains.items():
            yield f"demo, {width} wide", epoch, chain


def chain_rows(missed: list[str], told: Callable[[str], None]) -> Iterator[str]:
    """The edges of real chains that each method finds, in place and renamed by each seed."""
    yield f"| chain | epoch | edges | fan-in CV | moved since epoch 0 | hidden units | {' | '.join(METHODS)} | CPU s |"
    yield "| --- | ---: | ---: | ---: | ---: | --- " + "| --- " * len(METHODS) + "| ---: |"
    first: dict[str, list[Topology]] = {}
    for name, epoch, chain in chains(told):
        first.setdefault(name, chain)
        gone = np.mean([1 - agreeing(a, b) for a, b in zip(first[name], chain, strict=True)])
        spread = np.mean([[layer.fan_in.std() / layer.fan_in.mean() for layer in t.layers[:-1]] for t in chain])
        truth = frozenset((k, k + 1) for k in range(len(chain) - 1))
        for state in ("in place", "renamed"):
            sets = [chain]
            if state == "renamed":
                sets = [[renamed(t, np.random.default_rng([seed, k])) for k, t in enumerate(chain)] for seed in SEEDS]
            counts: dict[str, list[int]] = {method: [] for method in METHODS}
            for networks in sets:
                for method, matrix in matrices(networks).items():
                    counts[method].append(round(recovery(matrix, truth) * len(truth)))
            began = time.process_time()
            default = placement_of(sets[0])
            alignment: Alignment = "identity" if default.units == "in-place" else "overlap"
            infer(sets[0], [f"w{k}" for k in range(len(chain))], partial(nnstd, alignment=alignment))
            seconds = time.process_time() - began
            if min(counts["default"]) < len(truth):
                missed.append(f"{name}, epoch {epoch}, {state}: {counts['default']} of {len(truth)} edges")
            cells = [" ".join(map(str, edges)) for edges in counts.values()]
            head = f"| {name} | {epoch} | {len(truth)} | {spread:.2f} | {gone:.0%} | {state} "
            yield head + f"| {' | '.join(cells)} | {seconds:.2f} |"
            told(f"{name}, epoch {epoch}, {state}: {cells}")


def agreeing(a: Topology, b: Topology) -> float:
    """The share of A's connections in its sparse layers that B has."""
    pairs = [(x.mask.cells, y.mask.cells) for x, y in zip(a.layers[:-1], b.layers[:-1], strict=True)]
    return sum(len(np.intersect1d(x, y)) for x, y in pairs) / sum(len(x) for x, _ in pairs)


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
                compared = matrices([topology(n, relabel=rng if relabelled else None) for n in networks])
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


def page(chain: Sequence[str], families: Sequence[str], repetitions: int, seconds: float) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("topostrata", "numpy", "scipy", "networkx", "numba"))
    alignments = ", ".join(f"{name} {ALIGNMENTS[name].version}" for name in ("identity", "overlap", "canonical"))
    machine = f"{platform.system()} {platform.machine()}, one core of {os.cpu_count()}"
    networks = 1 + DEPTH * SIBLINGS
    widths = "-".join(map(str, WIDTHS))
    return f"""# How often inferred ancestry is right

Made by `bench/ancestry.py` in {seconds:.0f} s of CPU on {datetime.now(UTC):%Y-%m-%d}: {machine},
Python {platform.python_version()}, {packages}; alignments: {alignments}.

*Default* is what `topostrata lineage --infer` does: it detects whether hidden units are in place; then it compares by
index (*identity*), else by *overlap* over all layers. *{SHALLOW}* was the default before.
`docs/design/020-inferred-ancestry.md` says what follows.

## Chains that were trained

The edges of the minimum spanning tree that are right, whatever their direction; where units are renamed, for each of
the seeds {", ".join(map(str, SEEDS))}. The published chain is as much of it as is there. In the demo's chains
(64-n-n-n-10, SET on scikit-learn's digits) {MOVED:.0%} of the connections move from each network to the next; then
each network trains by itself. Fan-in CV, the mean over the sparse layers, tells hubs. *CPU s* is what the default tree
of all pairs takes, with its 200 resamples.

{chr(10).join(chain)}

## Where it stops being right

Share of the true edges that the tree has: mean and standard error in percent points over {repetitions} families of
{networks} networks ({widths}, {FAN_IN} inputs per hidden unit, dense output). A tree drawn at random finds
{2 / networks:.0%}.

* *Change* is the share of the connections moved from a network to its child.
* *Churn* is what training then does to each network on its own: {ZETA:.0%} of the connections of a layer replaced per
  epoch, taken at random or the weakest. *Kept* is the share of a network's connections that are there after it.

{chr(10).join(families)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Recovery rate of inferred ancestry on families of known descent.")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--to", type=Path)
    chosen = parser.parse_args()
    # With --to nothing but progress is printed, so that the file holds what a reader is to see.
    missed: list[str] = []
    chain = list(chain_rows(missed, lambda line: print(line, flush=True)))
    families = list(table(measure(chosen.repetitions, lambda line: print(line, flush=True))))
    text = page(chain, families, chosen.repetitions, time.process_time())
    if chosen.to is None:
        print(text)
    else:
        chosen.to.write_text(text, encoding="utf-8")
    if missed:
        sys.exit("\n".join(missed))


if __name__ == "__main__":
    main()
