"""How far apart networks are over time: two runs, or one run and its own past.

Histories are iterated, never collected: two topologies are in memory at a time. The caller passes the comparison:
inside one run by identity (unit i stays unit i), between runs that do not share their units by a matching alignment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice, repeat
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from topostrata.distance.null_model import Chance
from topostrata.errors import InvalidInputError
from topostrata.frames import frame
from topostrata.shown import Shown, Table
from topostrata.topology import Topology

if TYPE_CHECKING:
    import pandas as pd

N = TypeVar("N")  # a network: its topology, or what it is found by
History = Iterable[tuple[int, N]]
# Gives the distance of two networks and the level of chance, None where it was not asked.
Compare = Callable[[N, N], tuple[float, Chance | None]]
Course = Literal["converging", "diverging", "neither"]

_COLUMNS = ("step", "other_step", "distance", "chance", "z")
# The least Kendall's tau of steps and distances that is called a course: three pairs of steps in four agree.
_CLEAR = 0.5


@dataclass(frozen=True, slots=True)
class Point:
    """The distance, 0 to 1, of the snapshot at ``step`` from the one it is compared with, at ``other_step``.

    ``chance`` is the distance that independent networks of the same degrees or density would have; None where it was
    not asked. ``z`` says how many standard deviations the distance lies from it; None where densities are kept.
    """

    step: int
    other_step: int
    distance: float
    chance: float | None = None
    z: float | None = None


@dataclass(frozen=True, slots=True)
class Timeline(Shown):
    """Distances in the order of the steps; ``a`` is the run that is followed, ``b`` what it is compared with."""

    a: str
    b: str
    points: tuple[Point, ...]

    def to_pandas(self) -> pd.DataFrame:
        """A row for each step: step, other_step, distance, chance, z."""
        return frame((asdict(point) for point in self.points), _COLUMNS)

    def _shown(self) -> Table:
        rows = [list(asdict(point).values()) for point in self.points]
        title = f"{self.a} and its own past" if self.a == self.b else f"{self.a} and {self.b}"
        return Table(f"NNSTD of {title}", _COLUMNS, rows)

    @property
    def closest(self) -> Point | None:
        """The smallest distance, the earliest of several; None where there is no point."""
        return min(self.points, key=lambda point: point.distance, default=None)

    @property
    def change(self) -> float | None:
        """The last distance less the first: negative where the two have come nearer."""
        return self.points[-1].distance - self.points[0].distance if self.points else None

    @property
    def trend(self) -> float | None:
        """Kendall's tau (a) of step and distance: 1 = farther at every step, -1 = nearer at every step.

        Of all pairs of steps the share in which the later distance is larger, less the share in which it is smaller. It
        depends on the order alone, so that the large changes of the first steps do not decide. None for fewer than two.
        """
        n = len(self.points)
        if n < 2:
            return None
        values = np.array([point.distance for point in self.points])
        balance = sum(int(np.sign(values[k + 1 :] - values[k]).sum()) for k in range(n - 1))
        return 2 * balance / (n * (n - 1))

    @property
    def course(self) -> Course | None:
        """Whether the two come nearer or move apart, where the trend is at least half of what it could be."""
        trend = self.trend
        if trend is None:
            return None
        if abs(trend) < _CLEAR:
            return "neither"
        return "diverging" if trend > 0 else "converging"


def between_runs(
    a: History[Topology],
    b: History[Topology],
    compare: Compare[Topology],
    *,
    names: tuple[str, str] = ("a", "b"),
) -> Timeline:
    """The distance of two runs at each step that both recorded; no points where they share none.

    ``a`` and ``b`` give (step, topology) with growing steps; ``compare`` their distance and its chance level.

    Raises ``InvalidInputError`` where steps do not grow; what ``compare`` raises passes through.

    >>> full, pruned = (Topology.from_masks([np.array([row])]) for row in ([1, 1], [1, 0]))
    >>> halves = lambda x, y: (abs(x.nnz - y.nnz) / 2, None)
    >>> line = between_runs([(0, full), (5, pruned)], [(0, full), (4, full), (5, full)], halves)
    >>> [(point.step, point.distance) for point in line.points], line.change, line.course
    ([(0, 0.0), (5, 0.5)], 0.5, 'diverging')
    """
    return Timeline(*names, tuple(point(ours, theirs, compare) for ours, theirs in common_steps(a, b, names)))


def own_past(
    history: Callable[[], History[Topology]],
    compare: Compare[Topology],
    *,
    lag: int | None = None,
    name: str = "run",
) -> Timeline:
    """The distance of a run from its own past: from its first snapshot, or from the one ``lag`` snapshots before.

    The first tells how much of the start is left, the second how fast the wiring still changes. ``history()`` gives
    (step, topology) from the first step on. With a lag it is called twice and read at two places, so that memory holds
    two topologies for any lag. The first point is that of the second snapshot, or with a lag that of the first snapshot
    that has one ``lag`` before it.

    Raises ``InvalidInputError`` for a lag below 1 and where steps do not grow.
    """
    return Timeline(name, name, tuple(point(now, past, compare) for now, past in past_steps(history, lag, name)))


def point(ours: tuple[int, N], theirs: tuple[int, N], compare: Compare[N]) -> Point:
    """The point of two snapshots, each with its step."""
    distance, chance = compare(ours[1], theirs[1])
    level, z = (None, None) if chance is None else (chance.level, chance.z(distance))
    return Point(ours[0], theirs[0], distance, level, z)


def past_steps(
    history: Callable[[], History[N]], lag: int | None, name: str
) -> Iterator[tuple[tuple[int, N], tuple[int, N]]]:
    """The snapshots of a run, each with the one that ``own_past`` compares it with."""
    if lag is not None and lag < 1:
        raise InvalidInputError(f"lag: expected at least 1 snapshot, found {lag}")
    later = _growing(history(), name)
    if lag is not None:
        return zip(islice(later, lag, None), history())  # noqa: B905 - the past is longer by the lag
    first = next(later, None)
    return iter(()) if first is None else zip(later, repeat(first))


def common_steps(a: History[N], b: History[N], names: tuple[str, str]) -> Iterator[tuple[tuple[int, N], tuple[int, N]]]:
    """The snapshots of two runs at each step that both recorded."""
    history_a, history_b = _growing(a, names[0]), _growing(b, names[1])
    ours, theirs = next(history_a, None), next(history_b, None)
    while ours is not None and theirs is not None:
        if ours[0] == theirs[0]:
            yield ours, theirs
        steps = ours[0], theirs[0]
        ours = next(history_a, None) if steps[0] <= steps[1] else ours
        theirs = next(history_b, None) if steps[1] <= steps[0] else theirs


def _growing(history: History[N], name: str) -> Iterator[tuple[int, N]]:
    last: int | None = None
    for step, network in history:
        if last is not None and step <= last:
            raise InvalidInputError(f"history of {name!r}: expected steps that grow, found {step} after {last}")
        last = step
        yield step, network
