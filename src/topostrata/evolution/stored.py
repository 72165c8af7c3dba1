"""Evolution of runs as the archive holds them: which snapshots make up a history, and their masks, page by page.

A forked or resumed run continues its parent, so its history can begin there: with the parent's snapshots up to the one
it started from, then its own. A perturbed or pruned network is a new network with a new history.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, ClassVar

from topostrata.errors import ConflictError, CorruptError, InvalidInputError, NotFoundError
from topostrata.evolution.between import ConnectionChanges, Evolution, between, connection_changes
from topostrata.evolution.history import LayerHistory, follow, total
from topostrata.evolution.neuron import Neuron, NeuronConnection, lives_of
from topostrata.evolution.survival import RunSurvival, layer_survival
from topostrata.frames import columns, frame
from topostrata.shown import Shown, Table
from topostrata.store.masks import MaskStore
from topostrata.store.rows import VERIFY
from topostrata.store.runs import find_run, layer_metrics_of, layers_of, masks_between, parents_of, steps_of
from topostrata.topology import Mask

if TYPE_CHECKING:
    import pandas as pd

    from topostrata.layers import LayerShape
    from topostrata.store.graph import GraphStore, Transaction

_CONTINUES = ("resume", "fork")
_PAGE = 64


@dataclass(frozen=True, slots=True)
class Moment:
    """A snapshot's place in a history: its run and step, and a time that grows along the history.

    The time is the step if steps grow along the history. If a child counts from 0 again, its times go on after its
    parent's.
    """

    run: str
    step: int
    time: int

    def __str__(self) -> str:
        return f"{self.run}@{self.step}"


@dataclass(frozen=True)
class RunHistory(Shown):
    """A run through all its snapshots: each layer, all layers as one, and those that are not always full as one.

    Only in Python: ``moments``, whose times are the ``steps`` of each layer.
    """

    json_names: ClassVar = {"moments": None}

    run: str
    moments: tuple[Moment, ...]
    layers: tuple[LayerHistory, ...]

    def to_pandas(self) -> pd.DataFrame:
        """A row for each layer and snapshot: run, step, layer, alive, born, died, regrown, density, exploration."""
        measures = [name for name in columns(LayerHistory) if name != "name"]
        return frame(
            {"run": moment.run, "step": moment.step, "layer": layer.name, **dict(zip(measures, values, strict=True))}
            for layer in self.layers
            for moment, *values in zip(self.moments, *(getattr(layer, name).tolist() for name in measures), strict=True)
        )

    def _shown(self) -> Table:
        heads = ("alive", "born", "died", "regrown", "density", "exploration")
        columns = [getattr(self.rewired or self.total, name).tolist() for name in heads]
        rows = list(zip(self.refs, *columns, strict=True))
        return Table(f"{self.run}: all layers that are not always full", ("snapshot", *heads), rows)

    def place(self, step: int) -> int:
        """Where a step stands in ``moments``: in the nearest generation that has it."""
        return _place(self.moments, self.run, step)

    def survival(self, from_step: int | None = None) -> RunSurvival:
        """How long connections live; forward from a step, the first by default."""
        start = 0 if from_step is None else self.place(from_step)
        time = self.moments[start].time
        layers = tuple(layer_survival(layer, time) for layer in self.layers)
        return RunSurvival(
            self.run,
            self.refs[start],
            self.refs[start:],
            self.refs,
            layers,
            layer_survival(self.total, time),
            None if self.rewired is None else layer_survival(self.rewired, time),
            tuple(moment.time for moment in self.moments[start:]),
        )

    @property
    def refs(self) -> tuple[str, ...]:
        """The snapshots as ``run@step``."""
        return tuple(str(moment) for moment in self.moments)

    @cached_property
    def total(self) -> LayerHistory:
        """All layers as one."""
        return total(self.layers)

    @cached_property
    def rewired(self) -> LayerHistory | None:
        """The layers that are not always full, as one: only these can explore. ``None`` if all are always full."""
        open_layers = [layer for layer in self.layers if not layer.always_full]
        return total(open_layers, "rewired") if open_layers else None


@dataclass(frozen=True, slots=True)
class _Course:
    """The snapshots that make up a history, the layers that they share, and which mask each layer has at each."""

    moments: tuple[Moment, ...]
    layers: tuple[LayerShape, ...]
    digests: Mapping[tuple[str, str, int], str]  # by layer, run and step
    metrics: Mapping[str, Mapping[str, Mapping[str, float]]]  # by snapshot and layer


class StoredEvolution:
    """Answers about the evolution of runs in one store."""

    def __init__(self, store: GraphStore, masks: MaskStore) -> None:
        self._store = store
        self._masks = masks

    def history(self, run: str, *, through_parents: bool = False) -> RunHistory:
        """Follow every layer of a run through all its snapshots."""
        course = self._course(run, through_parents=through_parents)
        return RunHistory(run, course.moments, tuple(follow(name, masks) for name, masks in self._followed(course)))

    def evolution(self, run: str, first: int | None, last: int | None, *, through_parents: bool = False) -> Evolution:
        """What became of each layer's connections from one step to another (the first and last by default).

        With ``through_parents`` the history begins in the run's ancestors: ``first`` is then a step of the ancestor
        that has it, the nearest one where several do.
        """
        course = self._course(run, first, last, turnover=True, through_parents=through_parents)
        updates = [course.metrics.get(str(moment), {}) for moment in course.moments[1:]]
        layers = tuple(
            between(name, (mask for _, mask in masks), [update.get(name, {}) for update in updates])
            for name, masks in self._followed(course)
        )
        start, end = course.moments[0], course.moments[-1]
        return Evolution(run, from_step=start.step, to_step=end.step, layers=layers, from_run=start.run)

    def connections(
        self, run: str, layer: str, first: int | None, last: int | None, *, through_parents: bool = False
    ) -> ConnectionChanges:
        """The connections of one layer by what became of them from one step to another."""
        course = self._course(run, first, last, layer=layer, through_parents=through_parents)
        masks = (mask for _, masks in self._followed(course) for _, mask in masks)
        return connection_changes(masks, course.layers[0])

    def neuron(self, run: str, space: str, unit: int) -> Neuron:
        """One unit over all snapshots of a run: every connection into it and out of it, with its lives."""
        course = self._course(run, through_parents=False)
        spaces = {end.name: end for shape in course.layers for end in (shape.source, shape.target)}
        if space not in spaces:
            raise NotFoundError(f"run {run!r}: expected one of the spaces {', '.join(spaces)}, found {space!r}")
        if not 0 <= unit < spaces[space].size:
            raise NotFoundError(f"space {space!r}: expected a unit from 0 to {spaces[space].size - 1}, found {unit}")
        shapes = {shape.name: shape for shape in course.layers if space in {shape.source.name, shape.target.name}}
        course = replace(course, layers=tuple(shapes.values()))
        inputs: list[NeuronConnection] = []
        outputs: list[NeuronConnection] = []
        for name, masks in self._followed(course):
            followed = list(masks)
            if shapes[name].target.name == space:
                inputs += lives_of(shapes[name], followed, unit, into=True)
            if shapes[name].source.name == space:
                outputs += lives_of(shapes[name], followed, unit, into=False)
        return Neuron(run, space, unit, tuple(moment.step for moment in course.moments), tuple(inputs), tuple(outputs))

    def _course(
        self,
        run: str,
        first: int | None = None,
        last: int | None = None,
        *,
        layer: str | None = None,
        turnover: bool = False,
        through_parents: bool,
    ) -> _Course:
        """Read what a history consists of in one transaction: of all layers, or of the one that is named."""

        def work(tx: Transaction) -> _Course:
            line = _line(tx, run) if through_parents else [(run, None)]
            moments = _window(_moments(tx, line), run, first, last)
            runs = list(dict.fromkeys(moment.run for moment in moments))
            shapes = _shared_layers(tx, runs)
            names = tuple(shapes)
            if layer is not None and layer not in names:
                owner = next((y.shared_with for y in layers_of(tx, [run])[run] if y.name == layer), None)
                raise NotFoundError(
                    f"run {run!r}: expected one of the layers {', '.join(names)}, found {layer!r}",
                    hint=f"{layer!r} is tied with {owner!r}, which has its connections: --layer {owner}"
                    if owner
                    else None,
                )
            layers = names if layer is None else (layer,)
            digests = {}
            for member in runs:
                steps = [moment.step for moment in moments if moment.run == member]
                for step, name, digest in masks_between(tx, member, layers, steps[0], steps[-1]):
                    digests[name, member, step] = digest
            return _Course(
                moments,
                tuple(shapes[name] for name in layers),
                digests,
                layer_metrics_of(tx, [str(moment) for moment in moments] if turnover else []),
            )

        return self._store.read_with(work)

    def _followed(self, course: _Course) -> Iterator[tuple[str, Iterator[tuple[int, Mask]]]]:
        """Each layer with its masks by time; only the masks of one layer are in memory."""
        for name, masks in groupby(self._masks_of(course), key=itemgetter(0)):
            yield name, ((time, mask) for _, time, mask in masks)

    def _masks_of(self, course: _Course) -> Iterator[tuple[str, int, Mask]]:
        places = [(shape.name, moment) for shape in course.layers for moment in course.moments]
        for at in range(0, len(places), _PAGE):
            page = [(name, moment.time, self._digest(course, name, moment)) for name, moment in places[at : at + _PAGE]]
            masks = self._masks.get(digest for _, _, digest in page)
            for name, time, digest in page:
                yield name, time, masks[digest]

    def _digest(self, course: _Course, layer: str, moment: Moment) -> str:
        digest = course.digests.get((layer, moment.run, moment.step))
        if digest is None:
            raise CorruptError(f"{moment}: expected a mask of layer {layer!r}, found none", hint=VERIFY)
        return digest


def _line(tx: Transaction, run: str) -> list[tuple[str, int | None]]:
    """The run and those it continues, oldest first, each with the last step that counts."""
    line: list[tuple[str, int | None]] = [(run, None)]
    while True:
        child = line[0][0]
        continued = [parent for parent in parents_of(tx, [child])[child] if parent.how in _CONTINUES]
        if not continued:
            return line
        if len(continued) > 1:
            raise ConflictError(
                f"run {child!r}: expected one parent that it continues, found {len(continued)}: "
                + ", ".join(f"{parent.run}@{parent.step}" for parent in continued)
            )
        line.insert(0, (continued[0].run, continued[0].step))


def _moments(tx: Transaction, line: Sequence[tuple[str, int | None]]) -> tuple[Moment, ...]:
    """The snapshots that make up a run's history, in the order of (generation, step)."""
    run = line[-1][0]
    steps_by_run = steps_of(tx, [member for member, _ in line])
    moments: list[Moment] = []
    for member, upto in line:
        steps = [step for step in steps_by_run[member] if upto is None or step <= upto]
        last = moments[-1].time if moments else -1
        shift = 0 if not steps or steps[0] > last else last + 1 - steps[0]
        moments.extend(Moment(member, step, step + shift) for step in steps)
    if not steps_by_run[run]:
        find_run(tx, run)
    if not moments:
        raise NotFoundError(f"run {run!r}: expected a snapshot, found a run without any")
    return tuple(moments)


def _window(moments: tuple[Moment, ...], run: str, first: int | None, last: int | None) -> tuple[Moment, ...]:
    start = 0 if first is None else _place(moments, run, first)
    end = len(moments) - 1 if last is None else _place(moments, run, last)
    if start > end:
        raise InvalidInputError(f"evolution of {run!r}: expected from <= to, found {first} > {last}")
    return moments[start : end + 1]


def _shared_layers(tx: Transaction, runs: Sequence[str]) -> dict[str, LayerShape]:
    layers_by_run = layers_of(tx, runs)
    names = {run: [y.name for y in layers if y.shared_with is None] for run, layers in layers_by_run.items()}
    if any(own != names[runs[-1]] for own in names.values()):
        raise ConflictError(f"expected {' and '.join(runs)} to have the same layers, found {names}")
    return {y.name: y.shape for y in layers_by_run[runs[-1]] if y.shared_with is None}


def _place(moments: Sequence[Moment], run: str, step: int) -> int:
    """Where the step stands in the history; in the nearest generation that has it."""
    for at in range(len(moments) - 1, -1, -1):
        if moments[at].step == step:
            return at
    raise NotFoundError(
        f"{run}@{step}: expected this snapshot, found none",
        hint=f"the history holds {len(moments)}, from {moments[0]} to {moments[-1]}",
    )
