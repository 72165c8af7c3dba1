"""What every reader of a format gives: the arrays of a file by name, and what the format knows about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from topostrata.ingest.formats.snapshot_file import SnapshotFile
from topostrata.ingest.formats.stored import LeftOut, StoredArray
from topostrata.words import Flatten

AxisOrder = Literal["in-out", "out-in"]


@dataclass(frozen=True, slots=True)
class ArrayFile:
    """The arrays of an open file.

    ``axes`` is the order of a matrix's axes that writers of the format use; ``sure`` says that no other occurs.
    ``in_order``: the arrays stand in the order in which the network defines them; ``ordered``: in that of execution,
    as the format says. ``branches`` is why its layers are no chain, ``flatten`` how a picture is flattened, where the
    format says so. ``snapshot`` reads the file where it is Topostrata's own. ``numbers`` are the plain numbers beside
    the arrays (``epoch``, ``global_step``), ``files`` the files of arrays that have one each, ``config`` what the
    ``config.json`` beside the file says of the network.
    """

    where: str
    arrays: Mapping[str, StoredArray]
    axes: AxisOrder
    sure: bool = False
    in_order: bool = False
    ordered: bool = False
    branches: str | None = None
    flatten: Flatten | None = None
    left_out: tuple[LeftOut, ...] = ()
    snapshot: Callable[[], SnapshotFile] | None = None
    numbers: Mapping[str, int | float] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    def at(self, name: str) -> str:
        """Where an array is, for errors: its own file where each has one."""
        return self.files.get(name, self.where)
