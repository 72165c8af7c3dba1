"""What an archive computed and keeps beside its runs, as lines of a backup (docs/export-file.md, format 4).

A line is an object whose ``kind`` says what else is in it; ``KINDS`` is the one table of that. Bytes are deflated and
written in base64.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Literal

from topostrata.errors import InvalidInputError
from topostrata.ingest.formats.limits import MIB

Kind = Literal["tile", "number", "distance", "match", "inference"]
Kept = Mapping[str, Any]  # the fields of one line, its kind among them; bytes as bytes

Check = Callable[[Any], bool]


def _is(*types: type) -> Check:
    return lambda value: type(value) in types  # not isinstance: a truth value is no number


def _maybe(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _all(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _row(*checks: Check) -> Check:
    return lambda value: (
        isinstance(value, list)
        and len(value) == len(checks)
        and all(check(item) for check, item in zip(checks, value, strict=True))
    )


_TEXT, _WHOLE, _NUMBER, _BYTES = _is(str), _is(int), _is(int, float), _is(bytes)
_COMPARED = {"alignment": _TEXT, "version": _WHOLE}

KINDS: dict[Kind, dict[str, Check]] = {
    # Distances of 32 topologies to 32 others, by their numbers; or chance levels, which have no row and column.
    "tile": {
        **_COMPARED,
        "id": _TEXT,
        "options": _TEXT,
        "family": _TEXT,
        "row": _maybe(_WHOLE),
        "column": _maybe(_WHOLE),
        "data": _maybe(_BYTES),
        "details": _maybe(_BYTES),
    },
    # The number under which a topology stands in tiles; without a digest where none has it any more.
    "number": {"digest": _maybe(_TEXT), "family": _TEXT, "number": _WHOLE},
    "distance": {
        **_COMPARED,
        "options": _TEXT,
        "snapshot": _TEXT,
        "other_snapshot": _TEXT,
        "nnstd": _NUMBER,
        "layers": _maybe(_all(_NUMBER)),
        "ambiguous": _maybe(_all(_WHOLE)),
    },
    "match": {
        **_COMPARED,
        "pair": _TEXT,
        "snapshot": _TEXT,
        "other_snapshot": _TEXT,
        "digest": _TEXT,
        "other_digest": _TEXT,
        "units": _all(_row(_TEXT, _TEXT, _NUMBER, _WHOLE)),  # unit, other unit, score, common connections
    },
    "inference": {
        "id": _TEXT,
        "method": _TEXT,
        "alignment": _TEXT,
        "version": _maybe(_WHOLE),  # there was one only, before it was kept
        "steps": _all(_WHOLE),
        "root": _maybe(_TEXT),
        "depth": _maybe(_WHOLE),
        "samples": _WHOLE,
        "edges": _WHOLE,
        "created_at": _TEXT,
        "units": _maybe(_TEXT),
        "units_by": _maybe(_TEXT),
        "agreement": _maybe(_NUMBER),
        "out_of_place": _maybe(_all(_TEXT)),
        # parent, its step, child, its step, position, distance, margin, support, direction
        "rows": _all(
            _row(_TEXT, _WHOLE, _TEXT, _WHOLE, _WHOLE, _NUMBER, _maybe(_NUMBER), _maybe(_NUMBER), _maybe(_TEXT))
        ),
    },
}
_BYTES_FIELDS = {"data", "details"}
_MOST_BYTES = 64 * MIB  # of one field, unpacked


def document(kept: Kept) -> dict[str, Any]:
    """The line of what is kept."""
    return {
        name: base64.b64encode(zlib.compress(value)).decode("ascii") if isinstance(value, bytes | bytearray) else value
        for name, value in kept.items()
    }


def parse(line: Any, at: str) -> Kept:
    """What a line says; ``InvalidInputError`` where it is no such line."""
    kind = line.get("kind") if isinstance(line, dict) else None
    if kind not in KINDS:
        raise InvalidInputError(f"{at}: kind: expected one of {', '.join(KINDS)}, found {str(kind)[:80]!r}")
    checks = KINDS[kind]
    if line.keys() != {"kind", *checks}:
        raise InvalidInputError(
            f"{at}: expected an object with kind, {', '.join(sorted(checks))}, found {', '.join(sorted(line))[:200]}"
        )
    kept = dict(line)
    for name in _BYTES_FIELDS & checks.keys():
        if isinstance(kept[name], str):
            kept[name] = _unpacked(kept[name], f"{at}: {name}")
    for name, check in checks.items():
        if not check(kept[name]):
            raise InvalidInputError(f"{at}: {name}: expected that of a {kind}, found {str(kept[name])[:80]!r}")
    return kept


def _unpacked(text: str, at: str) -> bytes:
    unpacking = zlib.decompressobj()
    try:
        data = unpacking.decompress(base64.b64decode(text, validate=True), _MOST_BYTES)
    except (binascii.Error, zlib.error):
        raise InvalidInputError(f"{at}: expected deflated bytes in base64, found {text[:80]!r}") from None
    if not unpacking.eof:
        raise InvalidInputError(f"{at}: expected at most {_MOST_BYTES:,} bytes, whole, found more or a part of them")
    return data
