"""Same capacity sparse-dense comparison: a wide sparse network beside a narrow dense one of as many weights.

Both have the same depth and, in each layer, the same number of active weights, whose initial values have the same
distribution. They are trained alike, over several widths and seeds, and compared pair by pair (Tessera, Hooker and
Rosman, "Keep the Gradients Flowing", arXiv 2102.01670).

Nothing is kept beside the archive: ``run`` archives every training, and ``compare`` reads the table from there.

>>> study = Study("digits", optimisers=("sgd", "adam"), seeds=(0, 1, 2, 3, 4))
>>> len(study.settings()), study.settings()[0].capacities(64, 10)
(120, [1024, 256, 256, 256, 160])
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from statistics import fmean, median
from typing import Any, get_args

import numpy as np

from topostrata.archive import Archive
from topostrata.errors import ConflictError, InvalidInputError, NotFoundError
from topostrata.experiments.settings import LEARNING_RATES, Activation, Data, Kind, Optimiser, Setting
from topostrata.experiments.training import Trained, train
from topostrata.refs import check_run_id
from topostrata.runs import Run, Snapshot

_SMALLEST_N = 5  # 2**-5 is the first that is below 0.05


@dataclass(frozen=True)
class Study:
    """The pairs that are trained: every dense width, optimiser, regulariser and seed.

    ``regularisers`` are ``"none"``, ``"batch_norm"``, ``"skip"``, ``"l2"`` or sums such as ``"batch_norm+l2"``.
    ``learning_rates`` replace those of ``LEARNING_RATES``. ``weight_decay`` is what ``"l2"`` means.
    ``unit_parameters=True`` gives the networks biases and batch norm its scales and shifts; of these a wider network
    has more, so without them, the default, the two of a pair have exactly as many trainable numbers.
    """

    name: str
    dense_widths: tuple[int, ...] = (16, 32, 48)
    sparse_width: int = 192
    hidden: int = 4
    optimisers: tuple[Optimiser, ...] = ("sgd", "momentum", "adagrad", "adam")
    regularisers: tuple[str, ...] = ("none", "batch_norm")
    activation: Activation = "relu"
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    epochs: int = 40
    batch: int = 64
    learning_rates: Mapping[Optimiser, float] = field(default_factory=dict)
    weight_decay: float = 5e-4
    unit_parameters: bool = False

    def __post_init__(self) -> None:
        if unknown := set(self.learning_rates) - set(get_args(Optimiser)):
            raise InvalidInputError(f"learning_rates: expected optimisers, found {', '.join(sorted(unknown))}")
        for setting in self.settings():
            check_run_id(self.run_id(setting))

    def settings(self) -> list[Setting]:
        """All trainings; the two of a pair follow each other."""
        rates = {**LEARNING_RATES, **self.learning_rates}
        return [
            Setting(
                kind,
                width,
                self.sparse_width,
                self.hidden,
                optimiser,
                regulariser,
                self.activation,
                seed,
                self.epochs,
                self.batch,
                rates.get(optimiser, math.nan),
                self.weight_decay,
                self.unit_parameters,
            )
            for optimiser, regulariser, width, seed, kind in product(
                self.optimisers, self.regularisers, self.dense_widths, self.seeds, get_args(Kind)
            )
        ]

    def run_id(self, setting: Setting) -> str:
        """The run of a training: ``<study>.<optimiser>.<regulariser>.w<dense width>.s<seed>.<kind>``."""
        regulariser = setting.regulariser.replace("+", "-")
        return f"{self.name}.{setting.optimiser}.{regulariser}.w{setting.dense_width}.s{setting.seed}.{setting.kind}"


@dataclass(frozen=True, slots=True)
class Cell:
    """The pairs of one optimiser and one regulariser.

    ``sparse`` and ``dense`` are the mean values, ``difference`` is the median of sparse minus dense, ``better`` of
    ``pairs`` pairs have a positive one and ``equal`` none. ``p_value`` is that of the one-sided Wilcoxon signed-rank
    test of "sparse > dense" (SciPy's, which leaves pairs without difference out); ``None`` where no pair differs.
    With n pairs it cannot be below 2**-n, ``smallest_p``: fewer than 5 can never be significant at 0.05.
    ``sparse_egf`` and ``dense_egf`` are the mean effective gradient flows (2-norm), over pairs and training.
    """

    optimiser: str
    regulariser: str
    pairs: int
    better: int
    equal: int
    sparse: float
    dense: float
    difference: float
    p_value: float | None
    smallest_p: float
    sparse_egf: float | None
    dense_egf: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A study's table, a cell for each optimiser and regulariser; ``missing`` are the runs that are not there yet."""

    name: str
    metric: str
    cells: tuple[Cell, ...]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        return self.table()

    def table(self) -> str:
        """The table in Markdown: H1 is "sparse > dense"."""
        head = (
            "optimiser",
            "regulariser",
            "pairs",
            f"sparse {self.metric}",
            "dense",
            "median difference",
            "better / equal",
            "p (sparse > dense)",
            "EGF sparse",
            "EGF dense",
        )
        rows = [
            (
                cell.optimiser,
                cell.regulariser,
                str(cell.pairs),
                f"{cell.sparse:.4f}",
                f"{cell.dense:.4f}",
                f"{cell.difference:+.4f}",
                f"{cell.better} / {cell.equal}",
                "no pair differs" if cell.p_value is None else f"{cell.p_value:.2g}",
                _flow(cell.sparse_egf),
                _flow(cell.dense_egf),
            )
            for cell in self.cells
        ]
        lines = ["| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows)]
        few = [cell for cell in self.cells if cell.pairs - cell.equal < _SMALLEST_N]
        if few:
            lines += ["", f"{len(few)} rows have fewer than {_SMALLEST_N} pairs that differ: p cannot be below 0.05."]
        if self.missing:
            lines += ["", f"{len(self.missing)} trainings are missing, such as {self.missing[0]}."]
        return "\n".join(lines)


def run(
    study: Study,
    data: Data,
    archive: Archive,
    *,
    processes: int = 1,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Comparison:
    """Train what is missing of a study, archive it, and compare.

    A training is one run: its setting is the config, its snapshots have ``accuracy``, ``loss``, ``egf_1``, ``egf_2``
    and the gradients' norms at 11 epochs evenly spread over training, and ``flow_1`` and ``flow_2`` for each layer. A
    run that is finished is not trained again, so a study that was killed goes on where it was. ``processes`` train at
    the same time, each with one thread, so that the numbers do not depend on them.

    Raises ``MissingExtraError`` without torch, ``ConflictError`` where the archive has a run of that id with another
    setting, ``InvalidInputError`` for data that are none.
    """
    _check(data)
    there = {entry.id: entry for entry in archive.runs() if entry.id.startswith(f"{study.name}.")}
    missing = [setting for setting in study.settings() if not _finished(study, setting, there)]
    with _trainer(data, processes) as trained:
        for done, result in enumerate(trained(missing), start=1):
            _archive(study, archive, result, there)
            progress(done, len(missing))
    return compare(study, archive)


def compare(study: Study, archive: Archive, *, metric: str = "accuracy") -> Comparison:
    """The table of a study, from what the archive has of it; the metric is that of each run's last snapshot.

    Raises ``NotFoundError`` where no pair is whole, or the metric is not there.
    """
    ended = {entry.id for entry in archive.runs() if entry.status == "finished"}
    missing = tuple(name for name in map(study.run_id, study.settings()) if name not in ended)
    cells = []
    for optimiser, regulariser in product(study.optimisers, study.regularisers):
        pairs = [
            (archive.snapshots(sparse), archive.snapshots(dense))
            for sparse, dense in _pairs(study, optimiser, regulariser)
            if {sparse, dense} <= ended
        ]
        if pairs:
            cells.append(_cell(optimiser, regulariser, pairs, metric))
    if not cells:
        raise NotFoundError(
            f"study {study.name!r}: expected pairs of finished runs such as {missing[0]}, found none",
            hint="scsdc.run(study, data, archive) trains them",
        )
    return Comparison(study.name, metric, tuple(cells), missing)


def _pairs(study: Study, optimiser: str, regulariser: str) -> Iterator[tuple[str, str]]:
    chosen = [s for s in study.settings() if (s.optimiser, s.regulariser) == (optimiser, regulariser)]
    for sparse, dense in zip(chosen[::2], chosen[1::2], strict=True):
        yield study.run_id(sparse), study.run_id(dense)


def _cell(optimiser: str, regulariser: str, pairs: list[tuple[list[Snapshot], list[Snapshot]]], metric: str) -> Cell:
    from scipy.stats import wilcoxon  # noqa: PLC0415 - half a second, for this alone

    values = np.array([[_last(snapshots, metric) for snapshots in pair] for pair in pairs])
    differences = values[:, 0] - values[:, 1]
    differ = int(np.count_nonzero(differences))
    return Cell(
        optimiser,
        regulariser,
        len(pairs),
        int(np.count_nonzero(differences > 0)),
        len(pairs) - differ,
        fmean(values[:, 0]),
        fmean(values[:, 1]),
        median(differences),
        float(wilcoxon(differences, alternative="greater").pvalue) if differ else None,
        2.0**-differ,
        _mean_flow(sparse for sparse, _ in pairs),
        _mean_flow(dense for _, dense in pairs),
    )


def _last(snapshots: list[Snapshot], metric: str) -> float:
    last = snapshots[-1]
    if metric not in last.metrics:
        raise NotFoundError(f"{last.id}: expected a metric {metric!r}, found {', '.join(last.metrics) or 'none'}")
    return last.metrics[metric]


def _mean_flow(runs: Iterable[list[Snapshot]]) -> float | None:
    """The mean over runs of each one's mean over training; of those whose training did not diverge."""
    means = []
    for snapshots in runs:
        flows = [snapshot.metrics["egf_2"] for snapshot in snapshots if "egf_2" in snapshot.metrics]
        if len(flows) == len(snapshots) - 1:
            means.append(fmean(flows))
    return fmean(means) if means else None


def _flow(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _finished(study: Study, setting: Setting, there: Mapping[str, Run]) -> bool:
    entry = there.get(study.run_id(setting))
    if entry is None:
        return False
    wanted = setting.config()
    if differing := [name for name in wanted if entry.config.get(name) != wanted[name]]:
        name = differing[0]
        raise ConflictError(
            f"run {entry.id!r}: expected the setting {name}={wanted[name]!r}, found {entry.config.get(name)!r}",
            hint="give the study another name; what is in the archive stays",
        )
    return entry.status == "finished"


def _archive(study: Study, archive: Archive, result: Trained, there: Mapping[str, Run]) -> None:
    setting = result.setting
    name = study.run_id(setting)
    if name not in there:
        archive.create_run(name, config=setting.config(), tags=[f"study:{study.name}", setting.kind])
    for moment in result.moments:
        archive.push(
            name,
            moment.step,
            result.topology,
            epoch=moment.epoch,
            metrics=moment.metrics,
            layer_metrics=moment.layer_metrics,
        )
    archive.update_run(name, status="finished")


def _check(data: Data) -> None:
    for part in ("train", "test"):
        examples, classes = np.asarray(getattr(data, part)), np.asarray(getattr(data, f"{part}_classes"))
        if examples.ndim != 2 or classes.shape != examples.shape[:1] or classes.dtype.kind not in "iu":
            raise InvalidInputError(
                f"data: expected {part} of shape (examples, features) and {part}_classes of as many whole numbers, "
                f"found shapes {examples.shape} and {classes.shape} ({classes.dtype})"
            )
        if len(examples) < 2 or not np.isfinite(examples).all() or classes.min() < 0:
            raise InvalidInputError(f"data: expected two or more finite examples and classes from 0 on in {part}")
    if data.test.shape[1] != data.train.shape[1] or data.test_classes.max() > data.train_classes.max():
        raise InvalidInputError(
            f"data: expected the features and classes of train in test, found {data.train.shape[1]} and "
            f"{data.test.shape[1]} features, classes up to {data.train_classes.max()} and {data.test_classes.max()}"
        )


_data: Data  # a worker's own, sent once and not with every training


def _begin(data: Data) -> None:
    global _data  # noqa: PLW0603
    _data = data


def _work(setting: Setting) -> Trained:
    return train(setting, _data)


@contextmanager
def _trainer(data: Data, processes: int) -> Iterator[Callable[[list[Setting]], Iterable[Trained]]]:
    if processes < 1:
        raise InvalidInputError(f"processes: expected 1 or more, found {processes}")
    if processes == 1:
        yield lambda settings: (train(setting, data) for setting in settings)
        return
    spawn: Any = multiprocessing.get_context("spawn")  # a fork of a process with threads and an engine may hang
    with ProcessPoolExecutor(processes, mp_context=spawn, initializer=_begin, initargs=(data,)) as pool:
        yield lambda settings: pool.map(_work, settings)
