"""The texts among the attributes of an object in an HDF5 file, read without HDF5.

HDF5 2.0 trusts what a damaged file says about texts of variable length: it loops for ever over their heap, takes
gigabytes for a length that nothing backs, or ends the process. So these few bytes are read here, after the HDF5 File
Format Specification 3.0: object headers of version 1 (IV.A.1.a), attributes (IV.A.2.m), global heaps (III.E). Files
that were written with ``libver="latest"`` have other headers: no texts are found there, and layers go by their paths.
"""

from __future__ import annotations

import math
import struct

from topostrata.errors import InvalidInputError
from topostrata.ingest.formats.checkpoint.windows import Window

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_ATTRIBUTE, _CONTINUATION, _SHARED = 0x0C, 0x10, 0x02
_FIXED, _VARIABLE = 3, 9
_MAX_BLOCKS = 64
_MAX_TEXT = 64 << 20

Heap = dict[int, tuple[int, int]]


class Texts:
    """The texts of a file. ``window`` is the file from its first byte on."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._heaps: dict[int, Heap] = {}
        self._left = _MAX_TEXT
        self._here = window.size >= len(SIGNATURE) and window.read(0, len(SIGNATURE)) == SIGNATURE

    def of(self, header_at: int) -> dict[str, list[str]]:
        """The attributes that hold texts, of the object whose header begins at this byte; one text is a list of one."""
        if not self._here or self._window.read(header_at, 1) != b"\x01":
            return {}
        texts: dict[str, list[str]] = {}
        (size,) = struct.unpack("<8xI4x", self._window.read(header_at, 16))
        blocks = [(header_at + 16, size)]
        for at, length in blocks:
            block = self._window.read(at, length)
            begin = 0
            while begin + 8 <= length:
                kind, size, flags = struct.unpack_from("<HHB", block, begin)
                body = block[begin + 8 : begin + 8 + size]
                begin += 8 + size
                if kind == _CONTINUATION and len(blocks) < _MAX_BLOCKS:
                    blocks.append(struct.unpack_from("<QQ", body))
                elif kind == _ATTRIBUTE and not flags & _SHARED:
                    texts.update(self._attribute(body))
        return texts

    def _attribute(self, body: bytes) -> dict[str, list[str]]:
        """The name and the texts of one attribute; nothing, where it holds something else."""
        version, name_size, type_size, space_size = struct.unpack_from("<BxHHH", body)
        padded = 8 if version == 1 else 1
        begin, parts = (9 if version == 3 else 8), []
        for size in (name_size, type_size, space_size):
            parts.append(body[begin : begin + size])
            begin += -(-size // padded) * padded
        name, form, space = parts
        (size,) = struct.unpack_from("<I", form, 4)
        kind, count = form[0] & 0x0F, _count(space)
        if kind == _VARIABLE and form[1] & 0x0F == 1 and size == 16:
            texts = [self._variable(*struct.unpack_from("<IQI", body, begin + 16 * k)) for k in range(count)]
        elif kind == _FIXED and count * size <= len(body) - begin:
            texts = [body[begin + size * k : begin + size * (k + 1)] for k in range(count)]
        else:
            return {}
        return {_decoded(name): [_decoded(text) for text in texts]}

    def _variable(self, length: int, heap_at: int, index: int) -> bytes:
        if length == 0:
            return b""
        heap = self._heap(heap_at)
        at, size = heap.get(index, (0, 0))
        self._left -= length
        if length > size or self._left < 0:
            raise self._damaged(heap_at, f"a text of {length:,} bytes where {size:,} are")
        return self._window.read(at, length)

    def _heap(self, heap_at: int) -> Heap:
        """Where each object of a heap lies, and how long it is."""
        if heap_at not in self._heaps:
            signature, size = struct.unpack("<8sQ", self._window.read(heap_at, 16))
            if signature != b"GCOL\1\0\0\0":
                raise self._damaged(heap_at, "no heap")
            end, at, heap = heap_at + size, heap_at + 16, Heap()
            while at + 16 <= end:
                index, length = struct.unpack("<H6xQ", self._window.read(at, 16))
                if index == 0:  # what is free, up to the end
                    break
                if 16 + length > end - at:
                    raise self._damaged(at, f"an object of {length:,} bytes in a heap that has {end - at:,} more")
                heap[index] = at + 16, length
                at += 16 + -(-length // 8) * 8
            self._heaps[heap_at] = heap
        return self._heaps[heap_at]

    def _damaged(self, at: int, finding: str) -> InvalidInputError:
        return InvalidInputError(
            f"{self._window.where}: byte {self._window.start + at:,}: expected the texts of a group, found {finding}",
            hint="is the file damaged?",
        )


def _count(space: bytes) -> int:
    version, n_axes = space[0], space[1]
    begin = 8 if version == 1 else 4
    return math.prod(struct.unpack_from(f"<{n_axes}Q", space, begin)) if n_axes <= 1 else 0


def _decoded(text: bytes) -> str:
    return text.rstrip(b"\0").decode("utf-8", "replace")
