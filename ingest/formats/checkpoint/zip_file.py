"""The table of contents of a zip file, as claims that must agree with each other before a member is read.

Python's ``zipfile`` loads a directory whole and trusts it. torch writes members stored, never deflated, and zip64
where it must (APPNOTE.TXT 6.3, sections 4.3.12 to 4.3.16), which takes less than the library to read and to bound.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from topostrata.errors import InvalidInputError, LimitError
from topostrata.ingest.formats.checkpoint.windows import Record, Window

_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_MAX_DIRECTORY = 32 << 20
_MAX_MEMBERS = 1 << 17
_NO_32 = 0xFFFFFFFF
_ENCRYPTED = 0x1 | 0x40


@dataclass(frozen=True, slots=True)
class Member:
    """What the directory says about one member; ``crc`` is None in a file that was written without checksums."""

    name: str
    method: int
    flags: int
    crc: int | None
    packed: int
    size: int
    header_at: int


def members_of(whole: Window) -> dict[str, Member]:
    """The members of a zip file by name, in the directory's order; a name that comes twice is refused."""
    count, at, size = _end(whole)
    if count > _MAX_MEMBERS or size > _MAX_DIRECTORY:
        raise LimitError(
            f"{whole.where}: expected a zip file of at most {_MAX_MEMBERS:,} members and {_MAX_DIRECTORY:,} bytes of "
            f"directory, found {count:,} and {size:,}"
        )
    directory = whole.window(at, size, "zip directory").read(0, size)
    members: dict[str, Member] = {}
    begin = 0
    for _ in range(count):
        member, begin = _entry(directory, begin, whole.where)
        if member.name in members:
            raise InvalidInputError(f"{whole.where}: expected every member once, found {member.name[:80]!r} twice")
        members[member.name] = member
    if begin != size:
        raise _damaged(whole.where, "other members than its end says")
    if any(member.crc for member in members.values()):
        return members
    # torch.serialization.set_crc32_options(False) leaves zeros; no honest file has a checksum of 0 throughout.
    return {name: replace(member, crc=None) for name, member in members.items()}


def record(whole: Window, member: Member) -> Record:
    """The bytes of a stored member."""
    at = f"{whole.where}: member {member.name[:80]!r}"
    if member.method != 0 or member.packed != member.size:
        raise InvalidInputError(
            f"{at}: expected it stored, as torch and Keras write it, found it compressed",
            hint="the file was packed again: unpack it and pack it with `zip -0 -r`",
        )
    if member.flags & _ENCRYPTED:
        raise InvalidInputError(f"{at}: expected no encryption, found an encrypted member")
    local = _LOCAL.unpack(whole.read(member.header_at, _LOCAL.size))
    name = whole.read(member.header_at + _LOCAL.size, local[9])
    if local[0] != b"PK\x03\x04" or name != member.name.encode("utf-8", "surrogateescape"):
        raise _damaged(at, "another member where the directory says it lies")
    start = member.header_at + _LOCAL.size + local[9] + local[10]
    return Record(whole, start, member.size, name=member.name, crc=member.crc)


def _end(whole: Window) -> tuple[int, int, int]:
    """Number of members, where the directory begins, its length."""
    tail_at = max(0, whole.size - 65_557)
    tail = whole.read(tail_at, whole.size - tail_at)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END.size > len(tail):
        raise InvalidInputError(f"{whole.where}: expected the end of a zip file, found none", hint="is it cut off?")
    _, disk, _, _, count, size, begin, _ = _END.unpack_from(tail, at)
    locator_at = tail_at + at - _LOCATOR_64.size
    if locator_at >= 0:
        signature, _, end_at, _ = _LOCATOR_64.unpack(whole.read(locator_at, _LOCATOR_64.size))
        if signature == b"PK\x06\x07":
            signature, _, _, _, disk, _, _, count, size, begin = _END_64.unpack(whole.read(end_at, _END_64.size))
            if signature != b"PK\x06\x06":
                raise _damaged(whole.where, "no zip64 end where its locator says")
    if disk != 0:
        raise InvalidInputError(f"{whole.where}: expected a zip file in one piece, found one of several")
    return count, begin, size


def _entry(directory: bytes, begin: int, where: str) -> tuple[Member, int]:
    if begin + _ENTRY.size > len(directory):
        raise _damaged(where, "a directory that ends too early")
    fields = _ENTRY.unpack_from(directory, begin)
    signature, flags, method, crc, packed, size = (fields[k] for k in (0, 3, 4, 7, 8, 9))
    n_name, n_extra, n_comment, header_at = (fields[k] for k in (10, 11, 12, 16))
    name_at = begin + _ENTRY.size
    extra_at = name_at + n_name
    end = extra_at + n_extra + n_comment
    if signature != b"PK\x01\x02" or end > len(directory):
        raise _damaged(where, "a directory that ends too early")
    name = directory[name_at:extra_at].decode("utf-8", "surrogateescape")
    wide = [value for value in (size, packed, header_at) if value == _NO_32]
    if wide:
        extra = _extra_64(directory[extra_at : extra_at + n_extra], len(wide), where)
        size, packed, header_at = (extra.pop(0) if value == _NO_32 else value for value in (size, packed, header_at))
    return Member(name, method, flags, crc, packed, size, header_at), end


def _extra_64(extra: bytes, count: int, where: str) -> list[int]:
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        if kind == 1 and size >= 8 * count and at + 4 + size <= len(extra):
            return list(struct.unpack_from(f"<{count}Q", extra, at + 4))
        at += 4 + size
    raise _damaged(where, "a member without its zip64 sizes")


def _damaged(where: str, finding: str) -> InvalidInputError:
    return InvalidInputError(f"{where}: expected an intact zip file, found {finding}", hint="is it cut off or damaged?")
