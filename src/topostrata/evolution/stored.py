"""Evolution of runs as the archive holds them: which snapshots make up a history, and their masks, page by page.

A run that was forked or resumed goes on where its parent stood, so its history can be stitched: the parent's snapshots
up to the one it left, then its own. A perturbed or pruned network is another network, whose history begins anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from topostrata.errors import ConflictError, InvalidInputError, NotFoundError
from topostrata.evolution.between import ConnectionChanges, Evolution, between, connection_changes
from topostrata.evolution.history import LayerHistory, follow, total
from topostrata.evolution.survival import RunSurvival, layer_survival
from topostrata.frames import columns, frame
from topostrata.store.graph import GraphStore
from topostrata.store.masks import MaskStore
from topostrata.topology import Mask

if TYPE_CHECKING:
    import pandas as pd

_CONTINUES = ("resume", "fork")
_PAGE = 64


@dataclass(frozen=True, slots=True)
class Moment:
    """A snapshot's place in a history: its run and step, and a time that grows along the history.

    The time is the step where steps grow along the history; a child that counts anew goes on after its parent.
    """

    run: str
    step: int
    time: int

    def __str__(self) -> str:
        return f"{self.run}@{self.step}"


@dataclass(frozen=True)
class RunHistory:
    """A run through all its snapshots: each layer, all as one, and those that are not always full (where there are).

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

    def place(self, step: int) -> int:
        """Where a step stands in ``moments``: in the nearest generation that has it."""
        return _place(self.moments, self.run, step)

    def survival(self, from_step: int | None = None) -> RunSurvival:
        """How long connections live; forward from a step, the first by default."""
        start = 0 if from_step is None else self.place(from_step)
        time = self.moments[start].time
        layers = tuple(layer_survival(layer, time) for layer in self.layers)
        return RunSurvival(
            self.run, self.refs[start], self.refs[start:], self.refs, layers, layer_survival(self.total, time)
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
        """The layers that are not always full, as one: what exploration is asked of. ``None`` where all are full."""
        open_layers = [layer for layer in self.layers if not layer.always_full]
        return total(open_layers, "rewired") if open_layers else None


class StoredEvolution:
    """Answers about the evolution of runs in one store."""

    def __init__(self, store: GraphStore, masks: MaskStore) -> None:
        self._store = store
        self._masks = masks

    def moments(self, run: str, *, through_parents: bool = False) -> list[Moment]:
        """The snapshots that make up a run's history, in the order of (generation, step)."""
        line = self._line(run) if through_parents else [(run, None)]
        moments: list[Moment] = []
        for generation, upto in line:
            steps = [step for step in self._steps(generation) if upto is None or step <= upto]
            last = moments[-1].time if moments else -1
            shift = 0 if not steps or steps[0] > last else last + 1 - steps[0]
            moments.extend(Moment(generation, step, step + shift) for step in steps)
        if not moments:
            raise NotFoundError(f"run {run!r}: expected a snapshot, found a run without any")
        return moments

    def history(self, run: str, *, through_parents: bool = False) -> RunHistory:
        """Follow every layer of a run through all its snapshots."""
        moments = self.moments(run, through_parents=through_parents)
        layers = tuple(follow(name, self._masks_of(name, moments)) for name in self._layers(moments))
        return RunHistory(run, tuple(moments), layers)

    def evolution(self, run: str, first: int | None, last: int | None, *, through_parents: bool = False) -> Evolution:
        """What became of each layer's connections from one step to another (the first and last by default).

        With ``through_parents`` the history begins in the run's ancestors: ``first`` is then a step of the ancestor
        that has it, the nearest one where several do.
        """
        moments = self._window(run, first, last, through_parents=through_parents)
        layers = tuple(between(name, self._just_masks(name, moments)) for name in self._layers(moments))
        return Evolution(run, moments[0].step, moments[-1].step, moments[0].run, layers)

    def connections(
        self, run: str, layer: str, first: int | None, last: int | None, *, through_parents: bool = False
    ) -> ConnectionChanges:
        """The connections of one layer by what became of them from one step to another."""
        moments = self._window(run, first, last, through_parents=through_parents)
        names = self._layers(moments)
        if layer not in names:
            raise NotFoundError(f"run {run!r}: expected one of the layers {', '.join(names)}, found {layer!r}")
        return connection_changes(self._just_masks(layer, moments))

    def _window(self, run: str, first: int | None, last: int | None, *, through_parents: bool) -> list[Moment]:
        moments = self.moments(run, through_parents=through_parents)
        start = 0 if first is None else _place(moments, run, first)
        end = len(moments) - 1 if last is None else _place(moments, run, last)
        if start > end:
            raise InvalidInputError(f"evolution of {run!r}: expected from <= to, found {first} > {last}")
        return moments[start : end + 1]

    def _line(self, run: str) -> list[tuple[str, int | None]]:
        """The run and those it continues, oldest first, each with the last step that counts."""
        line: list[tuple[str, int | None]] = [(run, None)]
        while True:
            rows = self._store.read("lineage/parents", runs=[line[0][0]])
            continued = [row for row in rows if row["how"] in _CONTINUES]
            if not continued:
                return line
            if len(continued) > 1:
                raise ConflictError(
                    f"run {line[0][0]!r}: expected one parent that it continues, found {len(continued)}: "
                    + ", ".join(f"{row['parent']}@{row['step']}" for row in continued)
                )
            line.insert(0, (continued[0]["parent"], continued[0]["step"]))

    def _steps(self, run: str) -> list[int]:
        rows = self._store.read("runs/run", run=run)
        if not rows:
            raise NotFoundError(f"run {run!r}: expected it in the archive, found none")
        return [row["step"] for row in self._store.read("runs/next_edges", run=run)]

    def _layers(self, moments: list[Moment]) -> list[str]:
        runs = list(dict.fromkeys(moment.run for moment in moments))
        wirings = {run: [row["name"] for row in self._store.read("runs/layers", run=run)] for run in runs}
        if any(names != wirings[runs[-1]] for names in wirings.values()):
            raise ConflictError(f"expected {' and '.join(runs)} to have the same layers, found {wirings}")
        return wirings[runs[-1]]

    def _masks_of(self, layer: str, moments: list[Moment]) -> Iterator[tuple[int, Mask]]:
        digests: dict[tuple[str, int], str] = {}
        for run in dict.fromkeys(moment.run for moment in moments):
            steps = [moment.step for moment in moments if moment.run == run]
            rows = self._store.read("masks/run_masks", run=run, layers=[layer], first=steps[0], last=steps[-1])
            digests.update(((run, row["step"]), row["digest"]) for row in rows)
        for at in range(0, len(moments), _PAGE):
            page = moments[at : at + _PAGE]
            masks = self._masks.get(digests[moment.run, moment.step] for moment in page)
            for moment in page:
                yield moment.time, masks[digests[moment.run, moment.step]]

    def _just_masks(self, layer: str, moments: list[Moment]) -> Iterator[Mask]:
        return (mask for _, mask in self._masks_of(layer, moments))


def _place(moments: Sequence[Moment], run: str, step: int) -> int:
    """Where the step stands in the history; in the nearest generation that has it."""
    for at in range(len(moments) - 1, -1, -1):
        if moments[at].step == step:
            return at
    raise NotFoundError(
        f"{run}@{step}: expected this snapshot, found none",
        hint=f"the history holds {len(moments)}, from {moments[0]} to {moments[-1]}",
    )
