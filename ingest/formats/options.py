"""What whoever reads a file may say about it, where the file itself does not tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from topostrata.errors import InvalidInputError
from topostrata.ingest.formats.array_file import AxisOrder
from topostrata.ingest.formats.limits import DEFAULT, Limits
from topostrata.topology import Wiring
from topostrata.words import Bias, FileOrientation, Flatten, Heads, Zeros


@dataclass(frozen=True, slots=True)
class Options:
    """How files are read. None: what the file tells decides; where it does not, the file is refused.

    ``bias``: whether the last row of each matrix is a bias. ``zeros``: whether a stored zero is a connection.
    ``orientation``: ``in-out`` (rows are sources; kernels as ``hwio``) or ``out-in`` (rows are targets; kernels as
    ``oihw``). ``flatten``: how a linear layer reads a picture. ``layers``: names or globs of arrays, in the order of
    execution. ``wiring``: which layer feeds which. ``heads``: of an attention; ``unknown`` holds its units by index.
    ``step_from``: a pattern whose first group is the step in the name of a file or directory. ``steps``: of a directory
    read only these. ``over_time``: the first axis of each array is time.
    """

    bias: Bias = "auto"
    zeros: Zeros | None = None
    orientation: FileOrientation | None = None
    flatten: Flatten | None = None
    layers: tuple[str, ...] = ()
    wiring: Wiring | None = None
    heads: Heads | None = None
    step_from: str | None = None
    steps: frozenset[int] = frozenset()
    over_time: bool = False
    limits: Limits = DEFAULT

    def __post_init__(self) -> None:
        for name, kind in (("bias", Bias), ("zeros", Zeros), ("orientation", FileOrientation), ("flatten", Flatten)):
            value = getattr(self, name)
            known = get_args(kind)
            if value not in known and not (value is None and name != "bias"):
                raise InvalidInputError(f"{name}: expected one of {', '.join(known)}, found {value!r}")
        if self.heads is not None and self.heads != "unknown" and (type(self.heads) is not int or self.heads < 1):
            raise InvalidInputError(f"heads: expected a number from 1 on, or unknown, found {self.heads!r}")
        if self.wiring is not None and self.layers:
            raise InvalidInputError(
                "expected layers or a wiring, found both", hint="a wiring says which layers there are, and their order"
            )

    @property
    def axes(self) -> AxisOrder | None:
        """The order of a matrix's axes that was said."""
        if self.orientation is None:
            return None
        return "out-in" if self.orientation in {"out-in", "oihw"} else "in-out"
