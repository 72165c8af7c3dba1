"""The study of docs/studies/tickets.md: static, adaptive and pruned wiring on digits, and what their tickets are worth.

Trains five independent networks dense, static, by SET and by pruning, trains SET and pruning again from the same first
weights, and retrains what the two found from its own first weights, from others, and with another wiring of the same
degrees. Archives them all, and writes the page's tables and pictures. What an archive has already is not trained again.

    python bench/study_tickets.py ARCHIVE        # with the extras [server], [plot] and [demo]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from matplotlib.figure import Figure
from surroundings import surroundings

import topostrata as ts
from topostrata.copies import degree_kept
from topostrata.service.demo.training import FEATURES, Network, Recorded, Rewire, dense_twin, family, load_digits, train

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from topostrata.distance.alignments import Alignment
    from topostrata.distance.nnstd import Distance

NETWORKS, EPOCHS, EPSILON, EVERY = range(5), 60, 1.0, 5
OTHER = 1  # the draws of minibatches and rewirings of what is trained again, and those of other first weights
PAGE = Path(__file__).resolve().parents[1] / "docs" / "studies" / "tickets.md"
BEGIN, END = "<!-- made by bench/study_tickets.py -->\n", "<!-- end -->"
FOUND: tuple[Rewire, ...] = ("set", "prune")
TICKETS: tuple[tuple[Literal["own", "degrees"], Literal["own", "scaled", "other"]], ...] = (
    ("own", "own"),
    ("own", "scaled"),
    ("own", "other"),
    ("degrees", "other"),
)
WORDS = {
    ("own", "own"): "own first weights",
    ("own", "scaled"): "own, scaled to the size of others",
    ("own", "other"): "other first weights",
    ("degrees", "other"): "other wiring of the same degrees, other weights",
}
NAMES = {"dense": "dense", "static": "static", "set": "SET", "prune": "pruned"}
COLOURS = {"dense": "0.45", "static": "#5b4a9e", "set": "#1f7a6d", "prune": "#d98c21"}


@dataclass(frozen=True)
class Training:
    """One run. ``ticket`` names the run whose last mask it begins with, or another of its ``degrees``.

    ``weights`` are the first weights that the ticket's network had at these places: ``own``, or its own ``scaled`` to
    the size of others, or ``other`` draws of the same spread. Other ``draws`` give other minibatches and rewirings.
    """

    run: str
    seed: int
    rewire: Rewire
    draws: int = 0
    ticket: str | None = None
    wiring: Literal["own", "degrees"] = "own"
    weights: Literal["own", "scaled", "other"] = "own"


def trainings() -> list[Training]:
    """What is trained first: dense, static, SET and pruned, the latter two again from the same first weights."""
    first = [Training(f"{way}-{seed}", seed, way) for seed in NETWORKS for way in ("dense", "static", *FOUND)]
    return first + [Training(f"{way}-{seed}-again", seed, way, OTHER) for seed in NETWORKS for way in FOUND]


def tickets() -> list[Training]:
    """What is retrained with the masks that SET and pruning found, or with others of the same degrees; they stay."""
    return [
        Training(f"{way}-{seed}.{wiring}-wiring.{weights}-weights", seed, "static", 0, f"{way}-{seed}", wiring, weights)
        for seed in NETWORKS
        for way in FOUND
        for wiring, weights in TICKETS
    ]


def first_weights(training: Training, masks: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """One draw for each place, of a dense network: as it is where pruning began with it, else with He's spread here."""
    pruned = (training.ticket or training.run).startswith("prune")
    draws = OTHER if training.weights == "other" else 0
    weights = []
    for drawn, mask in zip(dense_twin(Network("", tuple(masks), (), training.seed, draws)).weights, masks, strict=True):
        spread = np.sqrt(2 / mask.shape[0]) if pruned else np.sqrt(2 * mask.shape[1] / mask.sum())
        size = np.sqrt(np.mean(drawn[mask] ** 2)) if training.weights == "scaled" else np.sqrt(2 / mask.shape[0])
        weights.append((drawn * mask * (spread / size)).astype(np.float32))
    return tuple(weights)


def trained(training: Training, ticket: ts.Topology | None) -> list[Recorded]:
    """The training's first snapshot, every fifth and the last."""
    if ticket is None:
        masks = family(seed=training.seed, networks=1, epsilon=EPSILON)[0].masks
    else:
        wiring = degree_kept(ticket, training.seed) if training.wiring == "degrees" else ticket
        masks = tuple(np.asarray(layer.mask) for layer in wiring)
    network = Network(training.run, masks, first_weights(training, masks), training.seed, 0)
    records = train(network, load_digits(), epochs=EPOCHS, rewire=training.rewire, draws=training.draws)
    return [record for record in records if record.epoch % EVERY == 0 or record.epoch == EPOCHS]


def archived(archive: ts.Archive, planned: Sequence[Training], processes: int) -> None:
    """Train what is not there yet, and archive it."""
    finished = {run.id for run in archive.runs() if run.status == "finished"}
    missing = [training for training in planned if training.run not in finished]
    wirings = [None if t.ticket is None else archive.topology(f"{t.ticket}@last") for t in missing]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        for done, (training, records) in enumerate(zip(missing, pool.map(trained, missing, wirings), strict=True), 1):
            _archive(archive, training, records)
            print(f"\r{done} of {len(missing)}", end="" if done < len(missing) else "\n", file=sys.stderr, flush=True)


def _archive(archive: ts.Archive, training: Training, records: Sequence[Recorded]) -> None:
    own = training.ticket is not None and training.wiring == "own"
    parents = [ts.Parent(training.ticket, EPOCHS, "declared")] if own and training.ticket else []
    if not archive.has_run(training.run):
        archive.create_run(training.run, config=asdict(training), tags=["study:tickets"], parents=parents)
    for record in records:
        metrics = {"accuracy": record.accuracy}
        archive.push(training.run, record.epoch, record.topology, metrics=metrics, projection="none")
    archive.update_run(training.run, status="finished")


# What came out


def accuracies(archive: ts.Archive, planned: Sequence[Training]) -> list[float]:
    """The accuracies at the end, in per cent."""
    return [100 * archive.snapshot(f"{training.run}@last").metrics["accuracy"] for training in planned]


def accuracy_rows(archive: ts.Archive) -> Iterator[tuple[str, str, list[float]]]:
    """What was trained: its name, what wired it first, its five accuracies."""
    for way, name in NAMES.items():
        chosen = [t for t in trainings() if t.rewire == way and not t.draws]
        yield name, way, accuracies(archive, chosen)
    for way in FOUND:
        for kind, words in WORDS.items():
            chosen = [t for t in tickets() if t.run.startswith(way) and (t.wiring, t.weights) == kind]
            yield f"{NAMES[way]} ticket: {words}", way, accuracies(archive, chosen)


def compared(archive: ts.Archive) -> Iterator[tuple[str, str, Alignment, list[Distance]]]:
    """Which networks are compared, what wired them, how their units are matched, and the distances beside chance."""
    independent = [(i, j) for i in NETWORKS for j in NETWORKS if i < j]
    for way in ("static", *FOUND):
        pairs = [(f"{way}-{i}", f"{way}-{j}") for i, j in independent]
        for alignment in ("canonical", "overlap"):
            yield f"independent {NAMES[way]} networks", way, alignment, _distances(archive, pairs, alignment)
    for way in FOUND:
        pairs = [(f"{way}-{seed}", f"{way}-{seed}-again") for seed in NETWORKS]
        yield f"{NAMES[way]} twice, same first weights", way, "identity", _distances(archive, pairs, "identity")
    pairs = [(f"set-{seed}", f"static-{seed}") for seed in NETWORKS]
    yield "SET and its own start", "set", "identity", _distances(archive, pairs, "identity")
    pairs = [(f"set-{seed}", f"prune-{seed}") for seed in NETWORKS]
    yield "SET and pruned, same first weights", "set", "identity", _distances(archive, pairs, "identity")


def _distances(archive: ts.Archive, pairs: Sequence[tuple[str, str]], alignment: Alignment) -> list[Distance]:
    return [archive.nnstd(a, b, alignment=alignment, chance="degrees", layers="sparse") for a, b in pairs]


def shape_rows(archive: ts.Archive) -> Iterator[str]:
    """What the wirings at the end look like: means over the five networks."""
    for way in ("static", *FOUND):
        networks = [archive.topology(f"{way}-{seed}@last") for seed in NETWORKS]
        layers = [[layer for layer in network if layer.mask.density < 1] for network in networks]
        counts = ", ".join(f"{np.mean([row[k].nnz for row in layers]):.0f}" for k in range(len(layers[0])))
        pixels = np.mean([100 * (row[0].fan_out > 0).mean() for row in layers])
        units = np.mean([100 * np.mean([(layer.fan_in > 0).mean() for layer in row]) for row in layers])
        spread = np.mean([[np.std(layer.fan_in) / np.mean(layer.fan_in) for layer in row] for row in layers])
        yield f"| {NAMES[way]} | {counts} | {pixels:.0f} % of {FEATURES} | {units:.0f} % | {spread:.2f} |"


def survival_rows(archive: ts.Archive) -> Iterator[str]:
    """Of the connections that SET begins with, those alive at the end: in one training, in both, and by chance."""
    for layer in range(3):
        alone, both = [], []
        for seed in NETWORKS:
            runs = f"static-{seed}", f"set-{seed}", f"set-{seed}-again"
            start, *ends = (archive.topology(f"{run}@last").layers[layer].mask.cells for run in runs)
            lives = [np.isin(start, end) for end in ends]
            alone += [float(alive.mean()) for alive in lives]
            both.append((float((lives[0] & lives[1]).mean()), float(lives[0].mean() * lives[1].mean())))
        together, chance = np.mean(both, axis=0)
        yield f"| l{layer} | {np.mean(alone):.0%} | {together:.0%} | {chance:.0%} |".replace("%", " %")


def tables(archive: ts.Archive) -> str:
    """The page's four tables in Markdown; draws the two pictures too."""
    accuracy, distance = list(accuracy_rows(archive)), list(compared(archive))
    accuracy_picture(accuracy)
    distance_picture(distance)
    lines = ["| trained | accuracy of the five networks, per cent | median |", "| --- | --- | ---: |"]
    for name, _, values in accuracy:
        lines.append(f"| {name} | {' '.join(f'{value:.1f}' for value in values)} | {np.median(values):.1f} |")
    lines += ["", "| wiring at the end | connections by layer | pixels in use | hidden units in use | fan-in CV |"]
    lines += ["| --- | --- | --- | --- | ---: |", *shape_rows(archive)]
    lines += ["", "| compared | alignment | pairs | distance | chance of the same degrees | z |"]
    lines += ["| --- | --- | ---: | --- | --- | --- |"]
    for name, _, alignment, pairs in distance:
        levels = [pair.chance.level for pair in pairs if pair.chance is not None]
        z = [pair.z for pair in pairs if pair.z is not None]
        row = [name, alignment, str(len(pairs)), _span([pair.nnstd for pair in pairs]), _span(levels), _span(z, 1)]
        lines.append(f"| {' | '.join(row)} |")
    lines += ["", "| layer | alive at the end of SET | in both trainings | if these were independent |"]
    lines += ["| --- | ---: | ---: | ---: |", *survival_rows(archive)]
    return "\n".join(lines)


def _span(values: Sequence[float], digits: int = 3) -> str:
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}" if values else "none"


def accuracy_picture(rows: Sequence[tuple[str, str, list[float]]]) -> None:
    """A row of five dots for each way to train, the median as a line."""
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    axes = figure.subplots()
    for place, (_, way, values) in enumerate(rows):
        for value, shift in zip(values, np.linspace(-0.22, 0.22, len(values)), strict=True):
            axes.plot(value, place + shift, "o", color=COLOURS[way], markersize=5, alpha=0.85)
        axes.plot([np.median(values)] * 2, [place - 0.36, place + 0.36], color=COLOURS[way], linewidth=2)
    axes.set(xlabel="accuracy on the test digits, per cent; a line is the median")
    _named(axes, [name.replace("degrees, ", "degrees,\n") for name, _, _ in rows])
    figure.savefig(PAGE.with_name("tickets-accuracy.png"), dpi=110)


def distance_picture(rows: Sequence[tuple[str, str, Alignment, list[Distance]]]) -> None:
    """The distances of each kind of pair as dots, what independent networks of the same degrees have as a grey band."""
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    axes = figure.subplots()
    for place, (_, way, _, values) in enumerate(rows):
        chances = [value.chance for value in values if value.chance is not None]
        low = min(chance.level - 2 * chance.spread for chance in chances)
        high = max(chance.level + 2 * chance.spread for chance in chances)
        label = "chance: levels of all pairs,\n2 deviations more on each side" if not place else None
        axes.barh(place, high - low, left=low, height=0.7, color="0.82", label=label, zorder=0)
        for value, shift in zip(values, np.linspace(-0.25, 0.25, len(values)), strict=True):
            axes.plot(value.nnstd, place + shift, "o", color=COLOURS[way], markersize=4, alpha=0.85)
    axes.set(xlabel="NNSTD of the sparse layers (0 = the same wiring, 1 = nothing in common)", xlim=(0, 1))
    _named(axes, [f"{name}\n({alignment})" for name, _, alignment, _ in rows])
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    figure.savefig(PAGE.with_name("tickets-distance.png"), dpi=110)


def _named(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="x", color="0.9", zorder=0)


def main(store: str) -> None:
    """Train, archive, and write the page's tables and pictures."""
    began, before = time.perf_counter(), os.times()
    with ts.open(store) as archive:
        for planned in (trainings(), tickets()):
            archived(archive, planned, processes=os.cpu_count() or 1)
        table = tables(archive)
    minutes, after = (time.perf_counter() - began) / 60, os.times()
    work = (sum(after[:4]) - sum(before[:4])) / 60
    print(f"{minutes:.1f} minutes, {work:.1f} of CPU, for what the archive did not have already.\n\n{table}")
    text = PAGE.read_text(encoding="utf-8")
    head, rest = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    PAGE.write_text(f"{head}\n{surroundings('numpy', 'numba')}.\n\n{table}\n\n{rest}", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1]) if len(sys.argv) == 2 else sys.exit(__doc__)
