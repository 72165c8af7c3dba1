"""How much of a file may be believed: bounds that are checked before a byte of it is decoded."""

from __future__ import annotations

import math
from dataclasses import dataclass

from topostrata.errors import LimitError
from topostrata.memory import check_memory

MIB = 2**20

# Bytes at the peak of reading, measured: an entry of a sparse matrix, whatever its format (.mat takes most), a
# connection of a snapshot file, and one of a snapshot file of bits, where each may stand in a byte of its own.
PER_ENTRY = 112
PER_KEY = 32
PER_BIT = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest file, archive and network that a reader accepts; a service sets its own, tighter ones.

    ``total_bytes`` counts what the members unpack to. ``ratio`` bounds unpacked : packed; deflate itself reaches
    at most 1,032 : 1, and an honest file of a dense layer comes near that, so a larger ratio is a lie about sizes, and
    ``total_bytes``, ``connections`` and ``memory`` are what bounds memory. ``units`` holds per space, ``taps`` per
    layer. ``memory`` is the peak in bytes; None: the setting ``memory_bytes``.
    """

    total_bytes: int = 4096 * MIB
    members: int = 8192
    ratio: float = 1100.0
    connections: int = 200_000_000
    layers: int = 2048
    units: int = 2**24
    taps: int = 2**20
    memory: int | None = None

    def check(self, where: str, **found: float) -> None:
        """Refuse what exceeds: ``limits.check("a.npz", layers=3, units=784)``."""
        for name, value in found.items():
            limit = getattr(self, name)
            if value > limit:
                more = f"Python takes more: archive.push_files(FILE, RUN, limits=ts.Limits({name}={math.ceil(value)}))"
                # Who sets limits, as a service does, knows them; what a larger one costs is not for others to say.
                hint = more if self == DEFAULT else None
                raise LimitError(f"{where}: expected at most {limit:,} {_WORDS[name]}, found {value:,}", hint=hint)

    def check_memory(self, where: str, need: int) -> None:
        """Refuse what needs more bytes at its peak than may be taken."""
        check_memory(where, need, most=self.memory)

    def check_entries(self, where: str, count: int) -> None:
        """Refuse a sparse matrix of so many stored entries, before any is read."""
        self.check(where, connections=count)
        self.check_memory(where, PER_ENTRY * count)


_WORDS = {
    "total_bytes": "bytes unpacked",
    "members": "members",
    "ratio": "times the packed size",
    "connections": "connections",
    "layers": "layers",
    "units": "units in a space",
    "taps": "taps in a layer",
}

DEFAULT = Limits()
