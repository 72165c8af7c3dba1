"""What an update dropped and grew: counted where it is said, checked against what snapshots show, never guessed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from topostrata.axes import Axis, Space
from topostrata.errors import TopostrataError
from topostrata.ingest.hook.run import TrainingRun, init
from topostrata.ingest.hook.spool import SpooledSnapshot, read
from topostrata.ingest.hook.turnover import of_layers
from topostrata.ingest.hook.turnover import read as read_update
from topostrata.layers import LayerShape, Part
from topostrata.topology import Topology, Wiring

RNG = np.random.default_rng(5)
BEFORE = {"fc1": RNG.random((6, 5)) < 0.5, "fc2": RNG.random((5, 3)) < 0.6}


def updated(before: dict[str, np.ndarray[Any, Any]], seed: int) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    """Each live link dropped with a chance of a half; of the dead ones, the dropped among them, a third grown."""
    rng = np.random.default_rng(seed)
    dropped = {k: mask & (rng.random(mask.shape) < 0.5) for k, mask in before.items()}
    removed = {k: mask & ~dropped[k] for k, mask in before.items()}
    grown = {k: ~mask & (rng.random(mask.shape) < 0.3) for k, mask in removed.items()}
    return {
        "dropped": dropped, "grown": grown, "after_removal": removed, "after": {k: removed[k] | grown[k] for k in grown}
    }  # fmt: skip


def counts(update: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """By definition, from the arrays."""
    return {
        k: {
            "dropped": float(update["dropped"][k].sum()),
            "grown": float(update["grown"][k].sum()),
            "regrown_at_once": float((update["dropped"][k] & update["grown"][k]).sum()),
        }
        for k in update["dropped"]
    }


def turnover(update: dict[str, Any], previous: Any = None, after: Any = None) -> dict[str, dict[str, float]]:
    names = ("dropped", "grown", "before", "after_removal")
    copied = read_update({name: update.get(name) for name in names}, None)
    assert copied is not None
    before = None if previous is None else Topology.from_masks(previous)
    return of_layers(copied, Topology.from_masks(update["after"] if after is None else after), before)


def snapshots(directory: Path) -> list[SpooledSnapshot]:
    return [v.value for file in directory.glob("*.spool") for v in read(file) if isinstance(v.value, SpooledSnapshot)]


def test_counts_are_those_of_the_definition() -> None:
    """From dropped and grown, with or without the snapshot before, and from what the removal left."""
    for seed in range(20):
        update = updated(BEFORE, seed)
        two = {name: update[name] for name in ("dropped", "grown", "after")}
        left = {name: update[name] for name in ("after_removal", "after")}
        expected = counts(update)
        assert turnover(two, BEFORE) == turnover(two) == expected
        assert turnover(left, BEFORE) == turnover({**left, "before": BEFORE}) == expected


def test_a_layer_that_is_not_named_is_unknown() -> None:
    """Not a layer without turnover."""
    update = updated(BEFORE, 1)
    one = {name: {"fc2": update[name]["fc2"]} for name in ("dropped", "grown")}
    assert turnover({**one, "after": update["after"]}, BEFORE) == {"fc2": counts(update)["fc2"]}
    mixed = {"dropped": one["dropped"], "grown": update["grown"], "after": update["after"]}
    assert list(turnover(mixed, BEFORE)) == ["fc2"]


def test_parts_of_a_parameter_have_numbers_of_their_own() -> None:
    """Masks by the name of the parameter; each layer that is a part of it counts what lies in it."""
    source, one, other = (
        Space("input", Axis("input", 4, fixed=True)),
        Space("q", Axis("q", 2)),
        Space("k", Axis("k", 3)),
    )
    wiring = Wiring(
        (
            LayerShape("q", source, one, 1, 1, (), Part("qk", None, (0, 2), "out-in", ())),
            LayerShape("k", source, other, 1, 1, (), Part("qk", None, (2, 5), "out-in", ())),
        )
    )
    before = RNG.random((5, 4)) < 0.5
    update = updated({"qk": before}, 3)
    copied = read_update(
        {"dropped": update["dropped"], "grown": update["grown"], "before": None, "after_removal": None}, "out-in"
    )
    assert copied is not None
    numbers = of_layers(copied, wiring.place(update["after"], orientation="out-in"), None)
    rows = {"q": slice(0, 2), "k": slice(2, 5)}
    for name, part in rows.items():
        cut = {kind: {name: update[kind]["qk"][part]} for kind in ("dropped", "grown")}
        assert numbers[name] == counts(cut)[name]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"grown": {"fc1": np.zeros((6, 5)), "fc2": np.zeros((5, 3))}}, "alive after it that were neither kept nor grown"),
        ({"dropped": {"fc1": np.ones((6, 5)), "fc2": np.ones((5, 3))}}, "dropped that were not alive"),
        ({"dropped": {"fc1": np.zeros((6, 5)), "fc2": np.zeros((5, 3))}}, "kept or grown that are not alive after it"),
        ({"grown": {"fc1": np.ones((6, 5)), "fc2": np.ones((5, 3))}}, "grown that were alive"),
        ({"grown": {"fc1": np.ones((6, 4)), "fc2": np.ones((4, 3))}}, "expected shape"),
        ({"grown": {"fc9": np.ones((6, 4))}}, "left over 'fc9'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_the_name_of_the_layer(change: dict[str, Any], text: str) -> None:
    """After is before without what was dropped, and with what was grown."""
    update = updated(BEFORE, 2)
    with pytest.raises(TopostrataError, match=text):
        turnover({"dropped": update["dropped"], "grown": update["grown"], "after": update["after"], **change}, BEFORE)


def test_what_a_removal_left_needs_what_was_before() -> None:
    """Else nobody knows what it dropped; and it keeps only what was alive."""
    update = updated(BEFORE, 2)
    with pytest.raises(TopostrataError, match="layer 'fc1': expected the masks before the update"):
        turnover({"after_removal": update["after_removal"], "after": update["after"]})
    more = {"after_removal": update["after"], "after": update["after"]}
    with pytest.raises(TopostrataError, match="kept that were not alive"):
        turnover(more, BEFORE)


def logged(run: TrainingRun, steps: int) -> list[dict[str, Any]]:
    masks, updates = BEFORE, []
    run.log(masks, step=0)
    for step in range(1, steps):
        update = updated(masks, step)
        masks = update["after"]
        run.log(masks, step=step, dropped=update["dropped"], grown=update["grown"])
        updates.append(update)
    return updates


def test_a_run_has_the_turnover_of_each_of_its_updates(tmp_path: Path) -> None:
    """It is in the spool beside the masks; the first snapshot has none."""
    with init("w0", mode="offline", spool=tmp_path) as run:
        updates = logged(run, 4)
    first, *others = snapshots(tmp_path)
    assert first.layer_metrics == {}
    assert [snapshot.layer_metrics for snapshot in others] == [counts(update) for update in updates]
    assert run.counts.troubles == {}


def test_what_is_wrong_is_said_once_and_the_snapshot_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An update that began with another state than the snapshot before, half of what is needed, weights."""
    first, second = updated(BEFORE, 1), updated(updated(BEFORE, 1)["after"], 2)
    update: dict[str, Any] = {"dropped": second["dropped"], "grown": second["grown"]}
    with caplog.at_level(logging.WARNING, "topostrata.hook"), init("w0", mode="offline", spool=tmp_path) as run:
        run.log(BEFORE, step=0)
        run.log(second["after"], step=1, **update)
        assert run.flush()
        run.log(second["after"], step=2, dropped=second["dropped"])
        run.log(second["after"], step=3, dropped={"fc1": np.full((6, 5), 0.3)}, grown=second["grown"])
        run.log(second["after"], step=4, before=first["after"], **update)
        run.log(object(), step=5)
        run.log(second["after"], step=6, **update)
    assert [bool(snapshot.layer_metrics) for snapshot in snapshots(tmp_path)] == [False] * 4 + [True] * 2
    assert run.counts.troubles["turnover"] == 3
    assert "step 1 is recorded without its turnover: layer 'fc1': expected after = (before minus" in caplog.text
