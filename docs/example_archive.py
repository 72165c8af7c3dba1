"""The archive that the examples of docs/python.md are about."""

from __future__ import annotations

import topostrata as ts


def fill(archive: ts.Archive) -> None:
    """Three snapshots of a run, and two of one that was forked from the second."""
    first = [[1, 1, 0], [0, 1, 0], [0, 0, 1]]  # 3 inputs (rows) to 3 hidden units (columns)
    moved = [[1, 1, 0], [1, 0, 0], [0, 0, 1]]
    last = [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    output = [[1, 0], [1, 0], [0, 1]]
    for step, mask, accuracy in ((0, first, 0.5), (5, moved, 0.75), (10, last, 0.875)):
        archive.push("w0", step, ts.Topology.from_masks([mask, output]), metrics={"accuracy": accuracy})
    archive.create_run("w1", parents=[ts.Parent("w0", 5, "fork")], tags=["seed:1"])
    for step, mask in ((10, moved), (20, first)):
        archive.push("w1", step, ts.Topology.from_masks([mask, output]))
