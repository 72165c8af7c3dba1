"""The graph's answers to questions of the cookbook and plain Python's, on random histories."""

from __future__ import annotations

import numpy as np
import pytest

from tests.histories import History, neurons, random_history
from tests.pushed import push
from tests.stores import Target
from topostrata.archive import Archive


def ask(archive: Archive, name: str, **parameters: object) -> list[tuple[object, ...]]:
    """All rows of a question, as tuples in the order of its columns."""
    return [tuple(row.values()) for row in archive._store.read(f"cookbook/{name}", **parameters)]


def check(archive: Archive, run: str, history: History) -> int:
    """Compare every answer at every step; gives how many answers were compared."""
    checks = 0
    random = np.random.default_rng(history.seed)
    for layer in history.layers:
        at: dict[str, object] = {"run": run, "layer": layer.name, "space": layer.source.name}
        for step in history.steps:
            assert ask(archive, "alive", **at, step=step) == sorted(history.alive(layer.name, step))
            last = int(random.choice([s for s in history.steps if s >= step]))
            survivors = ask(archive, "survivors", **at, **{"from": step, "to": last})
            assert survivors == sorted(history.survivors(layer.name, step, last))
            checks += 2
    for space in history.snapshots[0][1].spaces:
        for step in history.steps:
            place: dict[str, object] = {"run": run, "space": space.name, "step": step}
            assert dict(ask(archive, "fan_in", **place)) == history.fan_in(space.name, step)  # type: ignore[arg-type]
            assert dict(ask(archive, "fan_out", **place)) == history.fan_out(space.name, step)  # type: ignore[arg-type]
            checks += 2
    every = list(neurons(history.snapshots[0][1]))
    for step in history.steps:
        for space, index in [every[k] for k in random.integers(len(every), size=3)]:
            for hops in (2, 3):
                rows = ask(archive, f"reach_in_{hops}", id=f"{run}/{space}/{index}", step=step)
                reached = history.reach((space, index), hops, step)
                assert {row[0] for row in rows} == {f"{run}/{name}/{k}" for name, k in reached}
                assert len(rows) == len(reached), "each once"
                checks += 1
    return checks


@pytest.mark.parametrize("seed", range(12))
def test_the_graph_and_plain_sets_give_the_same_answers(archive: Archive, target: Target, seed: int) -> None:
    """Alive, survivors, fan-in, fan-out and reach over 2 and 3 connections, at every step of a random run.

    Another run of the same names of layers and spaces stands beside it: answers never mix runs.
    """
    history = random_history(1000 + seed, snapshots=5, most=7)
    push(archive, "w0", history)
    push(archive, "w1", random_history(2000 + seed, snapshots=3))
    with target.open() as fresh:
        assert check(fresh, "w0", history) > 50
