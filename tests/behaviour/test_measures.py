"""The structure panel of an archive's snapshots."""

from __future__ import annotations

import pytest

from tests.histories import random_history
from tests.pushed import push
from topostrata.archive import Archive
from topostrata.errors import NotFoundError
from topostrata.measures.panel import measure, over_run


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
