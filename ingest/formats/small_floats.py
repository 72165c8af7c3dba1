"""Floating-point formats that NumPy has no dtype for, as float32 of exactly the same value.

bfloat16 is the upper half of a float32. The 8-bit formats are those of Micikevicius et al., "FP8 Formats for Deep
Learning" (arXiv:2209.05433): e5m2 has infinities as IEEE 754 has, e4m3fn has one NaN per sign instead. The ``fnuz``
kinds (Noune et al., arXiv:2206.02915) have no infinity and no negative zero, whose pattern is their NaN. e8m0fnu, the
scale of the OCP Microscaling formats, is a power of 2: it has no sign and no zero.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Bits of the exponent, bits of the fraction, bias of the exponent.
FLOAT8 = {
    "float8_e4m3fn": (4, 3, 7),
    "float8_e5m2": (5, 2, 15),
    "float8_e4m3fnuz": (4, 3, 8),
    "float8_e5m2fnuz": (5, 2, 16),
    "float8_e8m0fnu": (8, 0, 127),
}


def from_bfloat16(bits: NDArray[Any]) -> NDArray[np.float32]:
    """Values of 16-bit patterns.

    >>> from_bfloat16(np.array([0x3F80, 0x8000, 0xC000], np.uint16)).tolist()
    [1.0, -0.0, -2.0]
    """
    return np.left_shift(bits.astype(np.uint32), np.uint32(16)).view(np.float32)


def from_float8(bits: NDArray[Any], kind: str) -> NDArray[np.float32]:
    """Values of 8-bit patterns of a kind in ``FLOAT8``.

    >>> from_float8(np.array([0x38, 0x80, 0xC0], np.uint8), "float8_e4m3fn").tolist()
    [1.0, -0.0, -2.0]
    """
    return np.take(_table(kind), bits)


def stored_as(name: str) -> np.dtype[Any] | None:
    """The dtype in which arrays of a dtype lie in a file, by its name in JAX; None for one that holds no numbers.

    >>> stored_as("bfloat16").name, stored_as("float32").name, stored_as("object")
    ('uint16', 'float32', None)
    """
    if name == "bfloat16":
        return np.dtype("<u2")
    if name in FLOAT8 or name in {"int4", "uint4", "int2", "uint2"}:
        return np.dtype("u1" if name in FLOAT8 or name.startswith("u") else "i1")
    try:
        dtype = np.dtype(name if name.isidentifier() else "O")
    except TypeError:
        return None
    return dtype.newbyteorder("<") if dtype.kind in "biufc" and dtype.isnative else None


def from_stored(stored: NDArray[Any], name: str) -> NDArray[Any]:
    """The values of an array that lies in a file as ``stored_as`` says."""
    if name == "bfloat16":
        return from_bfloat16(stored)
    return from_float8(stored, name) if name in FLOAT8 else stored


@cache
def _table(kind: str) -> NDArray[np.float32]:
    values = [_value(pattern, kind) for pattern in range(256)]
    return np.array(values, np.float64).astype(np.float32)


def _value(pattern: int, kind: str) -> float:
    exponent_bits, fraction_bits, bias = FLOAT8[kind]
    if kind == "float8_e8m0fnu":
        return float("nan") if pattern == 255 else 2.0 ** (pattern - bias)
    sign = -1.0 if pattern & 0x80 else 1.0
    exponent = (pattern >> fraction_bits) & ((1 << exponent_bits) - 1)
    fraction = pattern & ((1 << fraction_bits) - 1)
    if kind.endswith("fnuz"):
        if pattern == 0x80:
            return float("nan")
    elif kind == "float8_e4m3fn":
        if pattern & 0x7F == 0x7F:
            return float("nan")
    elif exponent == 31:
        return float("nan") if fraction else sign * float("inf")
    scale = 1 << fraction_bits
    if exponent == 0:
        return float(sign * (fraction / scale) * 2.0 ** (1 - bias))
    return float(sign * (1 + fraction / scale) * 2.0 ** (exponent - bias))
