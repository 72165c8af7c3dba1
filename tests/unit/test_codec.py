"""Masks as bytes: what went in comes out, and bytes that were damaged never become another mask."""

from __future__ import annotations

import hashlib
import struct
import tracemalloc

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.histories import replaced
from topostrata import codec
from topostrata.errors import CorruptError, LimitError
from topostrata.topology import Mask

# Written by the first version of the format.
FULL = "53474d31000200000002000000030000000400000000000000010d00000028b52ffd2004210000000405027a5f01dac793c1bd"
DELTA = (
    "53474d310102000000020000000300000040e31ef82d15677a55c63104f4f6ff2dfbe6af59a293d7d6d84af09196b911ce010000000000"
    "0000010a00000028b52ffd2001090000010100000000000000010a00000028b52ffd20010900000be83b5148df707f8d"
)


@st.composite
def masks(draw: st.DrawFn, shape: tuple[int, int, int] | None = None) -> Mask:
    """Masks of any density, from empty to full, of one shape or of any."""
    n_source, taps, n_target = shape or draw(shapes())
    size = n_source * taps * n_target
    if size <= 200:
        chosen = draw(st.sets(st.integers(0, size - 1)) | st.just(set(range(size))) | st.just(set[int]()))
    else:
        chosen = draw(st.sets(st.integers(0, size - 1) | st.integers(size - 9, size - 1), max_size=40))
    return Mask(n_source, n_target, np.array(sorted(chosen), dtype=np.int64), taps)


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, int, int]:
    small, huge = st.integers(1, 6), st.integers(1, 2**20)
    return draw(st.tuples(small, st.integers(1, 4), small) | st.tuples(huge, st.integers(1, 9), huge))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Mask, Mask]:
    """Two masks of the same shape: anything from equal to disjoint."""
    shape = draw(shapes())
    a, b = draw(masks(shape)), draw(masks(shape))
    keep = draw(st.sampled_from(["a", "b", "both"]))
    cells = {"a": a.cells, "b": b.cells, "both": np.union1d(a.cells, b.cells)}[keep]
    return a, Mask(a.n_source, a.n_target, cells, a.taps)


def same(a: Mask, b: Mask) -> bool:
    return a.digest == b.digest and np.array_equal(a.cells, b.cells) and (a.n_source, a.taps) == (b.n_source, b.taps)


def sealed(body: bytes) -> bytes:
    """Bytes with a checksum that is right, as only a forger would make them."""
    return body + hashlib.blake2b(body, digest_size=8).digest()


def head(kind: int = 0, shape: tuple[int, int, int] = (4, 1, 4)) -> bytes:
    return struct.pack("<4sBIII", b"SGM1", kind, *shape)


def stream(gaps: list[int], *, count: int | None = None) -> bytes:
    """A stream of one plane, whose count may be a lie."""
    frame = zstandard.ZstdCompressor().compress(bytes(gaps))
    return struct.pack("<QBI", len(gaps) if count is None else count, 1, len(frame)) + frame


@given(masks())
def test_a_full_mask_comes_back_as_it_was(mask: Mask) -> None:
    """Packed alone, any mask reads back equal and needs no base."""
    packed = codec.encode(mask)
    assert packed.kind == "full"
    assert same(codec.decode(packed.data), mask)


@given(pairs())
def test_a_mask_packed_against_another_comes_back_with_it(pair: tuple[Mask, Mask]) -> None:
    """Against a base a mask reads back equal."""
    base, mask = pair
    packed = codec.encode(mask, base)
    assert same(codec.decode(packed.data, base), mask)


@given(pairs())
def test_a_delta_needs_exactly_its_base(pair: tuple[Mask, Mask]) -> None:
    """Without its base, or with another mask in its place, a delta is a CorruptError."""
    base, mask = pair
    data = codec._encode_delta(mask, base)
    assert same(codec.decode(data, base), mask)
    wrong: list[Mask | None] = [None, Mask(base.n_source + 1, base.n_target, base.cells[:0], base.taps)]
    wrong += [mask] if mask.digest != base.digest else []
    for other in wrong:
        with pytest.raises(CorruptError, match="base"):
            codec.decode(data, other)


@settings(max_examples=40)
@given(pairs(), st.data())
def test_any_changed_byte_is_noticed(pair: tuple[Mask, Mask], data: st.DataObject) -> None:
    """One byte changed anywhere, to anything, is a CorruptError: never another mask, never another exception."""
    base, mask = pair
    for packed in (codec.encode(mask).data, codec._encode_delta(mask, base)):
        at = data.draw(st.integers(0, len(packed) - 1))
        flipped = packed[at] ^ data.draw(st.integers(1, 255))
        with pytest.raises(CorruptError):
            codec.decode(packed[:at] + bytes([flipped]) + packed[at + 1 :], base)


def test_every_single_flipped_bit_is_noticed() -> None:
    """All bits of one full mask and of one delta, one after the other."""
    base = Mask(7, 5, np.array([0, 3, 8, 30]), 2)
    mask = Mask(7, 5, np.array([0, 8, 31, 69]), 2)
    for packed in (codec._encode_full(mask), codec._encode_delta(mask, base)):
        for bit in range(len(packed) * 8):
            changed = bytearray(packed)
            changed[bit // 8] ^= 1 << bit % 8
            with pytest.raises(CorruptError):
                codec.decode(bytes(changed), base)


@given(pairs(), st.binary(max_size=40))
def test_bytes_that_are_cut_or_added_to_are_noticed(pair: tuple[Mask, Mask], more: bytes) -> None:
    """Every beginning of packed bytes, and packed bytes with more behind them, are a CorruptError."""
    base, mask = pair
    packed = codec._encode_delta(mask, base)
    for at in range(len(packed)):
        with pytest.raises(CorruptError):
            codec.decode(packed[:at], base)
    if more:
        with pytest.raises(CorruptError):
            codec.decode(packed + more, base)


@settings(max_examples=300)
@given(st.data())
def test_forged_bytes_with_a_right_checksum_raise_nothing_but_corrupt_errors(data: st.DataObject) -> None:
    """Even where the checksum was made to fit, the bytes give a valid mask or a CorruptError."""
    base = Mask(4, 4, np.array([1, 2, 5, 9, 14]))
    mask = Mask(4, 4, np.array([0, 2, 5, 15]))
    body = bytearray(codec._encode_delta(mask, base)[:-8])
    if data.draw(st.booleans()):
        body = bytearray(codec._encode_full(mask)[:-8])
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = codec.decode(sealed(bytes(body)), base)
    except CorruptError:
        return
    assert np.all(np.diff(decoded.cells) > 0)


@given(st.binary(max_size=200))
def test_random_bytes_are_corrupt(noise: bytes) -> None:
    """What never was a packed mask is a CorruptError, with a right checksum and a right beginning too."""
    for data in (noise, sealed(noise), sealed(b"SGM1" + noise), sealed(head() + noise)):
        with pytest.raises(CorruptError):
            codec.decode(data + b"\0")
        try:
            codec.decode(data)
        except CorruptError:
            continue


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("count above the mask's size", head() + stream([1] * 17)),
        ("count that no bytes stand behind", head(shape=(2**16, 1, 2**16)) + stream([1], count=2**32)),
        ("a frame that claims what the count says", head(shape=(2**16, 1, 2**16))
         + struct.pack("<QBI", 2**32, 1, 13) + b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 2**32)),
        ("no planes for many gaps", head() + struct.pack("<QB", 9, 0)),
        ("nine planes", head() + struct.pack("<QB", 1, 9)),
        ("a stream that ends early", head() + struct.pack("<QBI", 1, 1, 400) + b"x"),
        ("repeated cells", head() + stream([1, 0])),
        ("a cell outside", head() + stream([1, 200])),
        ("bytes behind the stream", head() + stream([1]) + b"\0"),
        ("an unknown kind", head(2) + stream([1])),
        ("a shape of nothing", head(shape=(0, 1, 4)) + stream([])),
        ("a shape beyond all", head(shape=(2**32 - 1, 2**32 - 1, 2**32 - 1)) + stream([1])),
    ],
)  # fmt: skip
def test_bytes_that_lie_are_refused_without_taking_memory(what: str, body: bytes) -> None:
    """A few bytes that claim billions of connections are a CorruptError and cost less than a megabyte."""
    tracemalloc.start()
    try:
        with pytest.raises(CorruptError):
            codec.decode(sealed(body))
        assert tracemalloc.get_traced_memory()[1] < 2**20, what
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("deaths", [[5], [0, 0], [3, 2], [200]])
def test_deaths_that_the_base_cannot_have_are_refused(deaths: list[int]) -> None:
    """Deaths must be increasing positions among the base's connections."""
    base = Mask(4, 4, np.array([1, 2, 5, 9, 14]))
    body = head(1) + bytes.fromhex(base.digest) + codec._pack_gaps(np.array(deaths)) + stream([])
    with pytest.raises(CorruptError):
        codec.decode(sealed(body), base)


def test_a_birth_of_what_lives_already_is_refused() -> None:
    """A delta whose births stand in the base already is a CorruptError, not a mask with a connection twice."""
    base = Mask(4, 4, np.array([1, 2, 5]))
    with pytest.raises(CorruptError):
        codec.decode(sealed(head(1) + bytes.fromhex(base.digest) + stream([]) + stream([2])), base)


def test_a_space_too_large_for_the_format_is_refused_by_name() -> None:
    """More units than the head has room for is a LimitError when packing, not a failure of ``struct``."""
    with pytest.raises(LimitError, match=str(2**32)):
        codec.encode(Mask(2**32, 1, np.array([7])))


def test_huge_gaps_come_back() -> None:
    """Cells at both ends of the largest spaces that fit."""
    mask = Mask(2**31, 2**29, np.array([0, 1, 2**40, 2**60 - 1]), 1)
    assert same(codec.decode(codec.encode(mask).data), mask)
    base = Mask(2**31, 2**29, np.array([2**59]))
    assert same(codec.decode(codec._encode_delta(mask, base), base), mask)


def test_the_bytes_of_the_format_never_change() -> None:
    """What an earlier version wrote must be readable for ever: one full mask and one delta, as literals."""
    base, mask = Mask(2, 3, np.array([0, 3, 4, 9]), 2), Mask(2, 3, np.array([0, 4, 9, 11]), 2)
    full = bytes.fromhex(FULL)
    delta = bytes.fromhex(DELTA)
    assert same(codec.decode(full), mask)
    assert same(codec.decode(delta, base), mask)


@pytest.mark.parametrize(("shape", "density"), [((784, 1000), 0.006), ((784, 1000), 0.05), ((1000, 1000), 0.02)])
def test_twenty_five_snapshots_take_at_most_six_tenths_of_a_byte_a_connection(
    shape: tuple[int, int], density: float
) -> None:
    """One full mask and 24 deltas at 20 % churn: on average at most 0.6 bytes a connection."""
    random = np.random.default_rng(int(density * 1000))
    mask = Mask(*shape, np.sort(random.choice(shape[0] * shape[1], int(shape[0] * shape[1] * density), replace=False)))
    size, connections = len(codec.encode(mask).data), mask.nnz
    for _ in range(24):
        following = replaced(random, mask, 0.2)
        packed = codec.encode(following, mask)
        assert packed.kind == "delta"
        size, connections, mask = size + len(packed.data), connections + following.nnz, following
    assert size / connections <= 0.6


@given(pairs())
def test_changes_are_what_only_one_of_two_masks_has(pair: tuple[Mask, Mask]) -> None:
    """Died: only in the old one; born: only in the new one; both sorted."""
    old, new = pair
    died, born = codec.changes(old, new)
    before, after = set(old.cells.tolist()), set(new.cells.tolist())
    assert died.tolist() == sorted(before - after)
    assert born.tolist() == sorted(after - before)


@given(st.sets(st.integers(0, 50)), st.sets(st.integers(0, 50)))
def test_sorted_arrays_merge_and_are_searched_like_sets(a: set[int], b: set[int]) -> None:
    """``merge`` of disjoint arrays is their sorted union, ``in_sorted`` their membership."""
    left, right = (np.array(sorted(s), dtype=np.int64) for s in (a, b - a))
    assert codec.merge(left, right).tolist() == sorted(a | b)
    other = np.array(sorted(b), dtype=np.int64)
    for apart in (1, 1_000_000):  # among few cells, and among many
        assert codec.in_sorted(left * apart, other * apart).tolist() == [x in b for x in sorted(a)]
