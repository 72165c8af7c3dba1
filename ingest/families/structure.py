"""The language in which a family of networks is described: which parameters it has, and which places they join.

A *place* is a space of units. ``stream`` belongs to the whole network, ``.inner`` to one block, and the units of
``#image`` are labelled. Of several places with ``|`` between them it is the first that something has entered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from topostrata.ingest.formats.array_file import AxisOrder

Kind = Literal["linear", "embedding", "head", "kernel"]


@dataclass(frozen=True, slots=True)
class Row:
    """One stored parameter: its name, the place that it reads and the place that it enters.

    ``name`` is that of the layer, without ``.weight``; ``|`` stands between spellings of which a file has one, and
    ``~`` for the root of the family. Several ``targets`` lie side by side in the parameter, in equal shares. A sum that
    begins anew in a block (a shortcut with weights) is entered by a row that ``opens`` it: rows of this block read the
    place as it was, and enter the new one. An ``embedding`` lies in-out and a ``head`` out-in in every file; other
    matrices and kernels lie as the family does. ``grouped``: a kernel that may have groups. ``picture``: a linear layer
    that may read several positions of each channel. ``tied``: the name of the row whose parameter this one is where the
    file has no other.
    """

    name: str
    source: str
    targets: str
    kind: Kind = "linear"
    optional: bool = False
    opens: bool = False
    grouped: bool = False
    picture: bool = False
    tied: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The spellings of its name."""
        return tuple(self.name.split("|"))

    def order(self, axes: AxisOrder) -> AxisOrder:
        """The order of its axes in a file whose other matrices have these."""
        always: dict[Kind, AxisOrder] = {"embedding": "in-out", "head": "out-in"}
        return always.get(self.kind, axes)

    @property
    def places(self) -> tuple[str, ...]:
        """The places that it enters."""
        return tuple(self.targets.split())


@dataclass(frozen=True, slots=True)
class Attention:
    """The places of a block that are numbered by heads.

    Queries ``q`` and keys ``k`` meet in a dot product, values ``v`` are read by the output. Where there are fewer keys
    than queries, each head of keys and values serves a group of queries. ``rotary``: positions turn pairs of q and k,
    which fixes their order. ``within``: q, k and v lie side by side within each head, in one place that ``q`` names;
    the output reads the place that ``v`` names.
    ``positions``: the word of the array of positions; a file without it may be of a network whose positions turn q
    and k.
    """

    q: str = ".q"
    k: str = ".k"
    v: str = ".v"
    rotary: bool = False
    within: bool = False
    positions: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """Networks of one construction: rows before, in and after the blocks, in the order of execution.

    ``block`` is how the names of a block begin, a number for each ``*``, ``|`` between spellings; rows of a block are
    named without it. ``roots`` are what the names of the network's body may begin with. ``plain`` are the words of
    arrays that work on each unit alone (norms, tokens, scales). ``batch_norm``: they have to be batch norms, since in
    group norms channels are not interchangeable. ``stored``: the orders of axes in which its matrices occur. ``what``
    says for docs/formats.md how it is read.
    """

    name: str
    writers: str
    what: str
    block: str
    before: tuple[Row, ...]
    rows: tuple[Row, ...]
    after: tuple[Row, ...]
    plain: str
    roots: tuple[str, ...] = ("",)
    attention: Attention | None = None
    batch_norm: bool = False
    stored: tuple[AxisOrder, ...] = ("out-in",)
