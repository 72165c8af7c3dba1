"""The structure panel of an archive's snapshots."""

from __future__ import annotations

import pytest

from tests.histories import random_history
from tests.pushed import push
from topostrata.archive import Archive
from topostrata.errors import NotFoundError
from topostrata.measures.panel import as_metrics, measure, over_run


@pytest.mark.parametrize("seed", range(3))
def test_the_panel_is_that_of_the_topology_and_what_the_run_explored(archive: Archive, seed: int) -> None:
    """At each step the measures of its masks, and the share of possible connections alive there or ever before."""
    history = random_history(seed, snapshots=4)
    push(archive, "w0", history)
    for step in history.steps:
        seen = {
            layer.name: len(set.union(*(history.alive(layer.name, at) for at in history.steps if at <= step)))
            for layer in history.layers
        }
        shares = {layer.name: seen[layer.name] / layer.mask.size for layer in history.layers}
        total = sum(seen.values()) / sum(layer.mask.size for layer in history.layers)
        expected = over_run(measure(history.at(step), null=1, seed=2), shares, total)
        assert archive.measures(f"w0@{step}", null=1, seed=2) == expected


def test_a_snapshot_that_is_not_there_has_no_panel(archive: Archive) -> None:
    """`measures` of an unknown run is `NotFoundError`."""
    with pytest.raises(NotFoundError):
        archive.measures("nowhere@0")


def test_measures_are_kept_as_metrics(archive: Archive) -> None:
    """Of each snapshot and of its layers, beside what is there and without changing it; once, however often."""
    history = random_history(1, snapshots=3)
    push(archive, "w0", history)
    first, last = history.steps[0], history.steps[-1]
    layer = archive.layers("w0")[0].name
    mine = {layer: {"explored": 9.0}}
    archive.push("w0", first, history.at(first), metrics={"active_rate": 7.0}, layer_metrics=mine)
    changed = archive.keep_measures("w0@*", spectra=False)
    assert [ref.step for ref in changed] == list(history.steps)
    of_network, of_layers = as_metrics(archive.measures(f"w0@{last}", spectra=False))
    kept = archive.reopened().snapshot(f"w0@{last}")
    assert of_network.items() <= kept.metrics.items()
    assert {name: numbers for name, numbers in of_layers.items() if numbers} == kept.layer_metrics
    assert {"fan_in_cv", "explored", "effective_units"} <= of_network.keys()
    assert "effective_paths" not in of_network
    before = archive.reopened().snapshot(f"w0@{first}")
    assert before.metrics["active_rate"] == 7
    assert before.layer_metrics[layer]["explored"] == 9
    assert archive.keep_measures("w0@*", spectra=False) == []
    (entry,) = archive.metrics("w0", metric="explored", layer=layer)[-1:]
    assert entry.layer_metrics[layer]["explored"] == of_layers[layer]["explored"]
