"""What every reader of a format gives: the arrays of a file by name, and what the format knows about them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from topostrata.ingest.formats.snapshot_file import SnapshotFile
from topostrata.ingest.formats.stored import LeftOut, StoredArray

AxisOrder = Literal["in-out", "out-in"]


@dataclass(frozen=True, slots=True)
class ArrayFile:
    """The arrays of an open file.

    ``axes`` is the order of a matrix's axes that writers of the format use; ``sure`` says that no other occurs.
    ``in_order``: the arrays stand in the order in which the network defines them. ``snapshot`` reads the file where it
    is Topostrata's own. ``numbers`` are the plain numbers beside the arrays (``epoch``, ``global_step``),
    ``files`` the files of arrays that have one each, ``config`` what the ``config.json`` beside the file says of the
    network.
    """

    where: str
    arrays: Mapping[str, StoredArray]
    axes: AxisOrder
    sure: bool = False
    in_order: bool = False
    left_out: tuple[LeftOut, ...] = ()
    snapshot: Callable[[], SnapshotFile] | None = None
    numbers: Mapping[str, int | float] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    def at(self, name: str) -> str:
        """Where an array is, for errors: its own file where each has one."""
        return self.files.get(name, self.where)

    def moments(self) -> dict[int, ArrayFile]:
        """The snapshots of a file that holds several, by step; empty where it is one.

        RigL's ``mask_records.npy`` is a dictionary of iteration -> list of masks: its arrays are called ``100.0``,
        ``100.1``, the same of the same shapes at each iteration.
        """
        by_step: dict[int, dict[str, StoredArray]] = {}
        for name, array in self.arrays.items():
            match = re.fullmatch(r"(\d{1,15})\.(\d+)", name)
            if match is None:
                return {}
            by_step.setdefault(int(match[1]), {})[match[2]] = array
        shapes = [{name: array.shape for name, array in arrays.items()} for arrays in by_step.values()]
        if len(shapes) < 2 or any(other != shapes[0] for other in shapes):
            return {}
        return {
            step: replace(self, arrays={f"l{k}": replace(a, name=f"l{k}") for k, a in arrays.items()})
            for step, arrays in sorted(by_step.items())
        }
