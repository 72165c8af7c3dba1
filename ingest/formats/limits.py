"""How much of a file may be believed: bounds that are checked before a byte of it is decoded."""

from __future__ import annotations

from dataclasses import dataclass

from topostrata.errors import LimitError

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest file, archive and network that a reader accepts; a service sets its own, tighter ones.

    ``total_bytes`` counts what the members unpack to. ``ratio`` bounds unpacked : packed; deflate itself reaches
    at most 1,032 : 1, and an honest file of a dense layer comes near that, so a larger ratio is a lie about sizes, and
    ``total_bytes`` and ``connections`` are what bounds memory. ``units`` holds per space, ``taps`` per layer.
    """

    total_bytes: int = 4096 * MIB
    members: int = 8192
    ratio: float = 1100.0
    connections: int = 200_000_000
    layers: int = 2048
    units: int = 2**24
    taps: int = 2**20

    def check(self, where: str, **found: float) -> None:
        """Refuse what exceeds: ``limits.check("a.npz", layers=3, units=784)``."""
        for name, value in found.items():
            limit = getattr(self, name)
            if value > limit:
                raise LimitError(f"{where}: expected at most {limit:,} {_WORDS[name]}, found {value:,}")


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
