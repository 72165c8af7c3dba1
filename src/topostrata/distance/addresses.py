"""Arrays of many networks in one compiled call: a table says where they lie, so nothing is copied or packed.

A place is an address and a length, as ``places`` lists them; what it is of must outlive the call.
"""

# numba infers the types of what it compiles.
# ruff: noqa: ANN001, ANN201, ANN202
# mypy: disable-error-code="no-untyped-def,no-untyped-call,misc,call-arg,attr-defined"

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from topostrata.distance.compiling import inner


def places(arrays: Iterable[NDArray[np.generic]]) -> list[tuple[int, int]]:
    """Address and length of each array."""
    return [(array.__array_interface__["data"][0], len(array)) for array in arrays]


@intrinsic
def _pointer(typing_context, address):
    """The pointer that an int64 says."""
    del typing_context, address

    def generate(context, builder, signature, arguments):
        del context, signature
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


@inner
def ints(place):
    """The int64 array at a place."""
    return carray(_pointer(place[0]), (place[1],), np.int64)


@inner
def units(place):
    """The uint32 array at a place."""
    return carray(_pointer(place[0]), (place[1],), np.uint32)


@inner
def flags(place):
    """The array of booleans at a place."""
    return carray(_pointer(place[0]), (place[1],), np.bool_)


@inner
def colours(place):
    """The uint64 array at a place."""
    return carray(_pointer(place[0]), (place[1],), np.uint64)
