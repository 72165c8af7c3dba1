"""What tests ask of an archive that holds a history: everything that was pushed, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable

from tests.histories import Connection, History, Lifetime, connections
from tests.stores import home
from topostrata.archive import Archive
from topostrata.ingest.verify import Violation


def push(archive: Archive, run: str, history: History) -> list[str]:
    """Push all snapshots of a history; gives the outcomes."""
    return [archive.push(run, step, topology) for step, topology in history.snapshots]


def lifetimes(archive: Archive, run: str, layer: str) -> list[Lifetime]:
    """The lives of a layer's connections as they stand in the graph, each as often as it stands there."""
    space = next(y.source.name for y in archive.layers(run) if y.name == layer)
    rows = home(archive)._store.read("projection/lifetimes", run=run, layer=layer, space=space)
    return [
        ((row["source"], tap, target), born, died) for row in rows for target, tap, born, died, _key in row["lifetimes"]
    ]


def alive_in_graph(archive: Archive, run: str, layer: str, step: int) -> list[Connection]:
    """The connections of a layer at a step, as the question for readers (``cookbook/alive``) finds them."""
    space = next(y.source.name for y in archive.layers(run) if y.name == layer)
    rows = home(archive)._store.read("cookbook/alive", run=run, layer=layer, space=space, step=step)
    return [(row["source"], row["tap"], row["target"]) for row in rows]


def assert_snapshots(archive: Archive, run: str, history: History, steps: Iterable[int]) -> None:
    """The run holds these snapshots, in order, each whole."""
    expected = list(steps)
    assert [snapshot.step for snapshot in archive.snapshots(run)] == expected
    for step in expected:
        assert archive.topology(f"{run}@{step}") == history.at(step), (history.seed, step)


def assert_projected(archive: Archive, run: str, history: History, layers: Iterable[str] | None = None) -> None:
    """The connections of these layers (all by default) stand in the graph up to the last step: each life once."""
    assert archive.unprojected() == []
    for layer in [y.name for y in history.layers] if layers is None else layers:
        lives = lifetimes(archive, run, layer)
        assert len(lives) == len(set(lives)), (history.seed, layer)
        assert set(lives) == history.lifetimes(layer), (history.seed, layer)


def assert_window(archive: Archive, run: str, history: History, keep: int) -> None:
    """The graph has what lived at the last snapshots, a quarter more of them at most, each life once and with its birth."""
    for layer in history.layers:
        state = next(y for y in archive.layers(run) if y.name == layer.name)
        assert state.projected_step == history.steps[-1]
        assert (state.projected_last, state.trimming) == (keep, False)
        start = state.projected_from
        stay = [step for step in history.steps if start is None or step >= start]
        assert len(stay) <= keep + max(1, keep // 4) - 1, (history.seed, start)
        assert start is None or (start in history.steps and len(stay) >= keep)
        lives = lifetimes(archive, run, layer.name)
        assert len(lives) == len(set(lives)) == state.lifetimes, (history.seed, layer.name)
        expected = {
            life for life in history.lifetimes(layer.name) if start is None or life[2] is None or life[2] > start
        }
        assert set(lives) == expected, (history.seed, layer.name)


def assert_readable_up_to_projected(archive: Archive, run: str, history: History) -> None:
    """What a reader asks at any step up to a layer's projected step is answered right, whatever is half written."""
    for projected in archive.layers(run):
        for step in history.steps:
            if projected.projected_step is None or step > projected.projected_step:
                break
            if step < (projected.projected_from or 0):
                continue
            alive = alive_in_graph(archive, run, projected.name, step)
            assert len(alive) == len(set(alive)), (history.seed, projected.name, step)
            assert set(alive) == connections(history.at(step)[projected.name].mask), (
                history.seed,
                projected.name,
                step,
            )


def violations(archive: Archive) -> list[Violation]:
    """Everything that ``verify`` finds."""
    return list(home(archive).verify())
