"""How long connections live: survival forward, ages backward, lifetimes, and the Kaplan-Meier estimate.

Snapshots are all that is known: a connection that died between two of them counts as dead from the later one on, and a
connection that died and was regrown between two of them counts as alive throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from topostrata.errors import NotFoundError
from topostrata.evolution.history import Counts, LayerHistory
from topostrata.frames import frame
from topostrata.shown import Shown, Table

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

_Z = 1.959963984540054  # of a two-sided 95 % band


@dataclass(frozen=True, slots=True, eq=False)
class Survival:
    """Of the connections alive at ``from_step``, ``survived[k]`` are alive at every snapshot up to ``steps[k]``."""

    name: str
    from_step: int
    steps: tuple[int, ...]
    survived: Counts

    @property
    def share(self) -> Floats:
        """Share of the connections alive at ``from_step``, 1 at the start (and where there were none)."""
        return self.survived / self.survived[0] if self.survived[0] else np.ones(len(self.steps))

    def to_pandas(self) -> pd.DataFrame:
        """A row for each snapshot: step, survived, share."""
        return frame(
            {"step": step, "survived": int(n), "share": float(share)}
            for step, n, share in zip(self.steps, self.survived, self.share, strict=True)
        )


@dataclass(frozen=True, slots=True, eq=False)
class Ages:
    """Of the connections alive at ``at_step``, ``older[k]`` were alive at ``steps[k]`` and ever since."""

    name: str
    at_step: int
    steps: tuple[int, ...]
    older: Counts


@dataclass(frozen=True, slots=True, eq=False)
class KaplanMeier:
    """The share of connections expected to reach an age, in steps, with a pointwise 95 % band.

    A subject is a lifetime, entering at its born step; a regrown connection enters again. Lifetimes still alive at the
    last snapshot are right-censored (``censored``). Those alive at the first snapshot have an unknown age unless
    training began there: ``left_truncated`` counts them when they are left out, else it is 0. The band is Greenwood's
    on the log(-log) scale. ``at_risk`` and ``deaths`` are the counts behind each age.
    """

    json_names: ClassVar = {"name": None}

    name: str
    ages: Counts
    survival: Floats
    low: Floats
    high: Floats
    at_risk: Counts
    deaths: Counts
    censored: int
    left_truncated: int

    @property
    def median(self) -> int | None:
        """The age that half of the connections do not outlive; ``None`` where more than half are alive at the end."""
        reached = np.flatnonzero(self.survival <= 0.5)
        return int(self.ages[reached[0]]) if reached.size else None

    def to_pandas(self) -> pd.DataFrame:
        """A row for each age at which a connection died."""
        names = ("ages", "survival", "low", "high", "at_risk", "deaths")
        columns = [getattr(self, name).tolist() for name in names]
        heads = ("age", *names[1:])
        return frame((dict(zip(heads, row, strict=True)) for row in zip(*columns, strict=True)), heads)


@dataclass(frozen=True, slots=True, eq=False)
class Lifetimes:
    """The histogram of ended lifetimes: ``count[k]`` connections died at the age ``age[k]``, in steps."""

    age: Counts
    count: Counts


@dataclass(frozen=True, slots=True, eq=False)
class LayerSurvival:
    """How long the connections of a layer live.

    Of those alive at the first ref ``survived`` and their ``share`` at each ref; of those alive at the last snapshot
    ``older`` at each of the ``age_refs``; lifetimes and their estimate.
    """

    name: str
    survived: Counts
    share: Floats
    older: Counts
    lifetimes: Lifetimes
    kaplan_meier: KaplanMeier


@dataclass(frozen=True, slots=True, eq=False)
class RunSurvival(Shown):
    """How long the connections of a run live: forward from a snapshot, and backward from the last.

    ``survived[k]`` of each layer belongs to ``refs[k]``; ``older[k]``, of those alive at the last snapshot, to
    ``age_refs[k]``. ``total`` is all layers as one, ``rewired`` those that are not always full (None if all are). Only
    in Python: ``times``, the steps of ``refs``, which go on after a parent's where a child counts from 0 again.
    """

    json_names: ClassVar = {"from_ref": "from", "times": None}

    run: str
    from_ref: str
    refs: tuple[str, ...]
    age_refs: tuple[str, ...]
    layers: tuple[LayerSurvival, ...]
    total: LayerSurvival
    rewired: LayerSurvival | None
    times: tuple[int, ...]

    def to_pandas(self) -> pd.DataFrame:
        """A row for each layer and snapshot: layer, snapshot, survived, share."""
        return frame(
            {"layer": layer.name, "snapshot": ref, "survived": int(survived), "share": float(share)}
            for layer in (*self.layers, self.total)
            for ref, survived, share in zip(self.refs, layer.survived, layer.share, strict=True)
        )

    def _shown(self) -> Table:
        layers = (*self.layers, *(() if self.rewired is None else (self.rewired,)))
        rows = list(zip(self.refs, *(layer.share.tolist() for layer in layers), strict=True))
        title = f"share of the connections alive at {self.from_ref} that are alive ever since"
        return Table(title, ("snapshot", *(layer.name for layer in layers)), rows)


def survival(history: LayerHistory, from_step: int | None = None) -> Survival:
    """What is left, at each later snapshot, of the connections alive at a step (the first by default)."""
    start = _position(history, history.steps[0] if from_step is None else from_step)
    births, deaths, counts = history.lives.T
    present = (births <= start) & (deaths > start)
    gone = np.bincount(deaths[present], weights=counts[present], minlength=len(history.steps) + 1).astype(np.int64)
    left = counts[present].sum() - np.cumsum(gone)
    return Survival(history.name, history.steps[start], history.steps[start:], left[start : len(history.steps)])


def ages(history: LayerHistory, at_step: int | None = None) -> Ages:
    """How many of the connections alive at a step (the last by default) go back to each earlier snapshot."""
    end = _position(history, history.steps[-1] if at_step is None else at_step)
    births, deaths, counts = history.lives.T
    present = (births <= end) & (deaths > end)
    born = np.bincount(births[present], weights=counts[present], minlength=end + 1).astype(np.int64)
    return Ages(history.name, history.steps[end], history.steps[: end + 1], np.cumsum(born)[: end + 1])


def lifetimes(history: LayerHistory) -> Lifetimes:
    """The histogram of ended lifetimes; those alive at the end are not in it."""
    births, deaths, counts = history.lives.T
    ended = deaths < len(history.steps)
    age = _age(history, births[ended], deaths[ended])
    distinct, where = np.unique(age, return_inverse=True)
    return Lifetimes(distinct, np.bincount(where, weights=counts[ended], minlength=distinct.size).astype(np.int64))


def layer_survival(history: LayerHistory, from_step: int) -> LayerSurvival:
    """Survival, ages, lifetimes and their estimate of one layer; forward from one of its steps."""
    curve = survival(history, from_step)
    return LayerSurvival(
        history.name, curve.survived, curve.share, ages(history).older, lifetimes(history), kaplan_meier(history)
    )


def kaplan_meier(history: LayerHistory, *, from_start: bool | None = None) -> KaplanMeier:
    """The Kaplan-Meier estimate of how long a connection lives (Kaplan and Meier 1958; Greenwood's variance).

    ``from_start`` says whether training began at the first snapshot, so that what is alive there is new; by default
    when its step is 0. Otherwise those lifetimes are left out, since their ages are unknown.
    """
    births, deaths, counts = history.lives.T
    if from_start is None:
        from_start = history.steps[0] == 0
    truncated = 0
    if not from_start:
        truncated = int(counts[births == 0].sum())
        births, deaths, counts = (column[births > 0] for column in (births, deaths, counts))
    alive = deaths == len(history.steps)
    age = _age(history, births, np.minimum(deaths, len(history.steps) - 1))
    distinct, where = np.unique(age, return_inverse=True)
    died = np.bincount(where, weights=counts * ~alive, minlength=distinct.size).astype(np.int64)
    left = np.bincount(where, weights=counts, minlength=distinct.size).astype(np.int64)
    at_risk = left[::-1].cumsum()[::-1]
    event = died > 0
    distinct, died, at_risk = distinct[event], died[event], at_risk[event]
    estimate = np.cumprod(1.0 - died / at_risk)
    low, high = _band(estimate, died, at_risk)
    return KaplanMeier(history.name, distinct, estimate, low, high, at_risk, died, int(counts[alive].sum()), truncated)


def _band(estimate: Floats, died: Counts, at_risk: Counts) -> tuple[Floats, Floats]:
    """Greenwood's variance on the log(-log) scale, which keeps the band within 0 and 1."""
    remain = at_risk - died
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.cumsum(np.where(remain > 0, died / (at_risk * remain), np.inf))
        width = _Z * np.sqrt(variance) / -np.log(estimate)
        low, high = estimate ** np.exp(width), estimate ** np.exp(-width)
    # Once no lifetime is left, the estimate is 0 and Greenwood's formula gives no band.
    unknown = ~np.isfinite(width)
    return np.where(unknown, 0.0, low), np.where(unknown, np.minimum(estimate, 1.0), high)


def _age(history: LayerHistory, births: Counts, deaths: Counts) -> Counts:
    steps = np.array(history.steps, dtype=np.int64)
    return steps[deaths] - steps[births]


def _position(history: LayerHistory, step: int) -> int:
    if step not in history.steps:
        raise NotFoundError(
            f"step {step}: expected one of the {len(history.steps)} snapshots from {history.steps[0]} to "
            f"{history.steps[-1]}, found none"
        )
    return history.steps.index(step)
