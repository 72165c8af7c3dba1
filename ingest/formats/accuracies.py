"""``testacc.txt`` beside a run's epochs, as the SET scripts leave it: one accuracy a line."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path

from topostrata.errors import InvalidInputError
from topostrata.ingest.formats.limits import MIB

METRIC = "accuracy"

_NAME = "testacc.txt"
_MOST_BYTES = 16 * MIB


def accuracies(directory: Path, epochs: Collection[int]) -> dict[int, float]:
    """The accuracy after each of these epochs, as far as the file goes; empty where there is no such file.

    The first line is epoch 0, or epoch 1 where the run counts from 1: where it has no epoch 0, and an epoch 1 or as
    many lines as its last epoch says.
    """
    path = directory / _NAME
    if not epochs or not path.is_file():
        return {}
    values = _values(path)
    from_one = 0 not in epochs and (1 in epochs or len(values) == max(epochs))
    first = int(from_one)
    return {epoch: values[epoch - first] for epoch in epochs if 0 <= epoch - first < len(values)}


def _values(path: Path) -> list[float]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InvalidInputError(f"{path}: expected at most {_MOST_BYTES:,} bytes, found {path.stat().st_size:,}")
        lines = path.read_bytes().decode("utf-8").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path}: expected one number a line, found bytes that are no text") from error
    except OSError as error:
        raise InvalidInputError(f"{path}: expected a readable file, found: {error.strerror}") from error
    values: list[float] = []
    for at, line in enumerate(lines, start=1):
        try:
            value = float(line)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InvalidInputError(f"{path}: line {at}: expected one finite number, found {line[:40]!r}")
        values.append(value)
    return values
