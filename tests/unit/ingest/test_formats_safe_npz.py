"""An archive that lies, hides a path, repeats itself or unpacks without end is refused before it is unpacked."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
import pytest

from topostrata.errors import InvalidInputError, LimitError, TopostrataError
from topostrata.ingest.formats.limits import Limits
from topostrata.ingest.formats.safe_npz import SafeNpz


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def zipped(members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def npy(header: str, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    text = header.encode("latin-1")
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text + data


def plain(shape: str = "(2,)", descr: str = "'<i4'", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


def directory_field(data: bytes, field: int, form: str, value: int, member: int = 0) -> bytes:
    """The archive with one field of a member's entry in the table of contents (PK 1 2) replaced."""
    at = -1
    for _ in range(member + 1):
        at = data.index(b"PK\x01\x02", at + 1)
    changed = bytearray(data)
    struct.pack_into(form, changed, at + field, value)
    return bytes(changed)


def read_all(data: bytes, limits: Limits | None = None) -> dict[str, Any]:
    with SafeNpz(data, where="upload", limits=limits or Limits()) as archive:
        return {name: archive.array(name) for name in archive.names}


def test_arrays_come_back_as_numpy_saved_them() -> None:
    """Every dtype, Fortran order, an empty array and a scalar are read to the same values."""
    rng = np.random.default_rng(1)
    dtypes = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", ">i4", ">f8"]
    arrays = {f"a{k}": (rng.random((3, 4)) * 100).astype(dtype) for k, dtype in enumerate(dtypes)}
    arrays |= {"fortran": np.asfortranarray(arrays["a3"]), "empty": np.zeros((0, 3)), "scalar": np.array(5)}
    loaded = read_all(npz(**arrays))
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)


def test_a_header_of_version_2_is_read() -> None:
    """NumPy's second header version, with its longer length field, is read too."""
    data = zipped([("a.npy", npy(plain(), np.arange(2, dtype="<i4").tobytes(), version=(2, 0)))])
    assert read_all(data)["a"].tolist() == [0, 1]


def test_a_header_is_known_before_the_array_is_unpacked() -> None:
    """Dtype, shape and order can be asked without reading the array."""
    with SafeNpz(npz(a=np.zeros((3, 4), np.float32)), where="upload") as archive:
        header = archive.header("a")
    assert (header.dtype, header.shape, header.fortran_order) == (np.dtype("f4"), (3, 4), False)


@pytest.mark.parametrize("text", ["raw", "U", "S", "bytes"])
def test_a_text_comes_in_any_of_its_dresses(text: str) -> None:
    """A text is read from a raw member, a NumPy string, NumPy bytes or an array of bytes."""
    word = "größe"
    if text == "raw":
        data = zipped([("t", word.encode())])
    else:
        data = npz(t={"U": word, "S": word.encode(), "bytes": np.frombuffer(word.encode(), np.uint8)}[text])
    with SafeNpz(data, where="upload") as archive:
        assert archive.text("t") == word


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.array(["a", "b"]), r"member 't': expected one string .* found dtype <U1 of shape \(2,\)"),
        (np.array(b"\xff\xfe"), "member 't': expected text in utf-8"),
        (np.ones(3), "member 't': expected bytes or text or uint, found dtype float64"),
    ],
)
def test_a_text_that_is_none_is_refused(value: Any, words: str) -> None:
    """Several strings, bytes that are not UTF-8 and numbers are no text."""
    with SafeNpz(npz(t=value), where="upload") as archive, pytest.raises(InvalidInputError, match=f"upload: {words}"):
        archive.text("t")


def test_a_code_point_beyond_unicode_is_refused() -> None:
    """A NumPy string with an impossible code point is an error, not a crash."""
    data = zipped([("t.npy", npy(plain("()", "'<U1'"), b"\xff\xff\xff\x7f"))])
    with SafeNpz(data, where="upload") as archive, pytest.raises(InvalidInputError, match="expected text in utf-32-le"):
        archive.text("t")


def test_a_text_without_end_is_refused() -> None:
    """The size of a text is limited."""
    with (
        SafeNpz(zipped([("t", b" " * 5_000_000)]), where="upload") as archive,
        pytest.raises(LimitError, match="bytes of text"),
    ):
        archive.text("t")


@pytest.mark.parametrize(
    "name", ["../a.npy", "/etc/passwd", "a/../b.npy", "..npy", "a\\b.npy", "a//b.npy", "a\nb.npy", "a" * 201]
)
def test_a_name_that_is_a_path_or_odd_is_refused(name: str) -> None:
    """A name that leads out of a directory, cannot be printed or has no end is refused."""
    with pytest.raises(InvalidInputError, match="upload: expected printable member names"):
        read_all(zipped([(name, b"")]))


@pytest.mark.parametrize("name", ["Dense_0/kernel", "layer 1", "mask:0", "layers[0]", "é"])
def test_names_of_other_libraries_are_names(name: str) -> None:
    """Slashes, colons, brackets, spaces and letters of any alphabet may stand in the name of an array."""
    with SafeNpz(zipped([(f"{name}.npy", npy(plain(), bytes(8)))]), where="upload") as npz:
        assert npz.names == (name,)


def test_a_name_with_a_nul_byte_is_refused() -> None:
    """``zipfile`` would cut such a name at the NUL byte; it is refused instead."""
    data = zipped([("aXb.npy", npy(plain(), bytes(8)))]).replace(b"aXb.npy", b"a\0b.npy")
    with pytest.raises(InvalidInputError, match=r"expected printable member names .*found 'a\\x00b.npy'"):
        read_all(data)


@pytest.mark.parametrize("names", [("a.npy", "a.npy"), ("a.npy", "a")])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_twice_is_refused(names: tuple[str, str]) -> None:
    """Two members of one name, with or without the suffix, are refused."""
    with pytest.raises(InvalidInputError, match="upload: expected every member once, found 'a' twice"):
        read_all(zipped([(name, npy(plain(), bytes(8))) for name in names]))


@pytest.mark.parametrize("flag", [0x1, 0x41])
def test_an_encrypted_member_is_refused(flag: int) -> None:
    """A member whose flags say that it is encrypted is refused."""
    with pytest.raises(InvalidInputError, match="member 'a': expected no encryption"):
        read_all(directory_field(npz(a=np.ones(3)), 8, "<H", flag))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(method: int) -> None:
    """Only stored and deflated members are read."""
    with pytest.raises(InvalidInputError, match=f"member 'a': expected it stored or deflated, found .* {method}"):
        read_all(zipped([("a.npy", npy(plain(), bytes(8)))], compression=method))


def test_a_bomb_is_refused_by_its_ratio() -> None:
    """A member that grows more than the limit allows is refused by its declared sizes."""
    with pytest.raises(LimitError, match=r"member 'a': expected at most 100 times the packed size, found 1,0\d\d"):
        read_all(npz(a=np.zeros(4_000_000, np.int8)), Limits(ratio=100))


def test_a_bomb_is_refused_by_what_it_unpacks_to() -> None:
    """The sum of the unpacked sizes is limited."""
    with pytest.raises(LimitError, match="upload: expected at most 1,000,000 bytes unpacked, found 4,000,"):
        read_all(npz(a=np.zeros(2_000_000, np.int8), b=np.zeros(2_000_000, np.int8)), Limits(total_bytes=1_000_000))


def test_many_members_are_refused_before_the_table_of_contents_is_read() -> None:
    """The number of members is limited, and is checked first."""
    with pytest.raises(LimitError, match="upload: expected at most 10 members, found 11"):
        read_all(zipped([(f"a{k}", b"") for k in range(11)]), Limits(members=10))


def test_a_table_of_contents_without_end_is_refused() -> None:
    """The declared size of the table of contents is limited."""
    data = bytearray(npz(a=np.ones(3)))
    struct.pack_into("<L", data, len(data) - 10, 2**31)
    with pytest.raises(LimitError, match="table of contents"):
        read_all(bytes(data))


def test_a_zip64_archive_is_refused() -> None:
    """An archive that needs 64-bit sizes is larger than any limit."""
    data = npz(a=np.ones(3))
    with pytest.raises(LimitError, match="found a zip64 archive"):
        read_all(data[:-22] + b"PK\x06\x07" + bytes(16) + data[-22:])


def test_members_that_share_their_bytes_are_refused() -> None:
    """Overlapping members unpack to much more than the archive's size, each with an honest ratio."""
    data = npz(a=np.ones(30), b=np.ones(30))
    with pytest.raises(InvalidInputError, match="expected bytes of its own"):
        read_all(directory_field(data, 42, "<L", 0, member=1))


@pytest.mark.parametrize("size", [100, 4000, 2**31])
def test_a_declared_size_that_does_not_fit_the_array_is_refused(size: int) -> None:
    """The table of contents and the header of the array must agree."""
    data = directory_field(npz(a=np.ones(30)), 24, "<L", size)
    with pytest.raises((InvalidInputError, LimitError), match="upload: "):
        read_all(data)


def test_a_bomb_whose_declared_sizes_agree_is_stopped_while_it_is_read() -> None:
    """Table of contents and header both say 80 bytes; the stream would go on to a gigabyte."""
    honest = npy(plain("(10,)", "'<f8'"), bytes(80))
    data = zipped([("a.npy", honest + bytes(10_000_000))])
    with pytest.raises(
        InvalidInputError, match=r"upload: member 'a': expected an intact \.npz archive, found: Bad CRC-32"
    ):
        read_all(directory_field(data, 24, "<L", len(honest)))


def test_a_stream_that_ends_early_is_refused() -> None:
    """A member that unpacks to fewer bytes than declared is refused."""
    honest = npy(plain("(10,)", "'<f8'"), bytes(80))
    data = zipped([("a.npy", honest[:-40])])
    data = directory_field(directory_field(data, 24, "<L", len(honest)), 16, "<L", zlib.crc32(honest))
    with pytest.raises(InvalidInputError, match="upload: "):
        read_all(data)


@pytest.mark.parametrize("shape", ["(3,)", "(1,)", "(1000000, 1000000, 1000000, 1000000)", "(2, 0)"])
def test_a_shape_that_does_not_fit_the_member_is_refused(shape: str) -> None:
    """The shape times the size of an item is the size of the member."""
    with pytest.raises(
        InvalidInputError, match=r"member 'a': expected .* bytes for int32 of shape .*, found a member of"
    ):
        read_all(zipped([("a.npy", npy(plain(shape), bytes(8)))]))


@pytest.mark.parametrize(
    "header",
    [
        plain(descr="'|O'"),
        plain(descr="'<c8'"),
        plain(descr="'<f16'"),
        plain(descr="'<M8'"),
        plain(descr="'|V8'"),
        plain(descr="'<i3'"),
        plain(descr="'|S0'"),
        plain(descr="[('a', '<i4')]"),
        plain(descr="__import__('os').getcwd()"),
        plain(shape="(-1,)"),
        plain(shape="[2]"),
        plain(shape="(2.0,)"),
        plain(shape="2"),
        plain(shape="(" + "1, " * 40 + ")"),
        plain(order="1"),
        plain() * 2,
        "{'descr': '<i4', 'descr': '<i4', 'shape': (2,), }",
        "{'descr': '<i4', 'fortran_order': False, }",
        "(" * 5000,
        "",
        "{}",
    ],
)
def test_a_header_that_is_not_a_plain_arrays_is_refused(header: str) -> None:
    """Objects, records, odd dtypes and shapes, code and broken headers are refused."""
    with pytest.raises(InvalidInputError, match="upload: "):
        read_all(zipped([("a.npy", npy(header, bytes(8)))]))


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_a_long_header_is_refused_unread(version: tuple[int, int]) -> None:
    """A header has at most 10,000 bytes."""
    with pytest.raises(InvalidInputError, match="member 'a': expected a header of 2 to 10000 bytes, found 20"):
        read_all(zipped([("a.npy", npy(plain() + " " * 20_000, bytes(8), version))]))


@pytest.mark.parametrize("data", [b"", b"\x93NUMPY", b"\x93NUMPY\x03\x00" + bytes(200), b"\x80\x04pickle, no array"])
def test_a_member_that_is_no_array_is_refused(data: bytes) -> None:
    """A member must begin with the head of an ``.npy`` file."""
    with pytest.raises(InvalidInputError, match=r"member 'a': expected the head of an \.npy array"):
        read_all(zipped([("a.npy", data)]))


def test_an_object_array_is_never_unpickled() -> None:
    """A pickle that would run code is refused before it is read."""

    class Trap:
        def __reduce__(self) -> Any:
            return (pytest.fail, ("unpickled",))

    with pytest.raises(InvalidInputError, match=r"member 'a': expected .*never read"):
        read_all(npz(a=np.array([Trap()], dtype=object)))


def test_a_member_of_other_axes_than_asked_for_is_refused() -> None:
    """Axes, kind of dtype and name are checked as the caller states them."""
    with SafeNpz(npz(a=np.ones((2, 3))), where="upload") as archive:
        with pytest.raises(InvalidInputError, match=r"upload: member 'a': expected 1 dimensions, found shape \(2, 3\)"):
            archive.array("a", ndim=1)
        with pytest.raises(InvalidInputError, match="upload: member 'a': expected int or uint, found dtype float64"):
            archive.array("a", kinds="iu")
        with pytest.raises(InvalidInputError, match="upload: expected a member 'b', found a"):
            archive.array("b")


@pytest.mark.parametrize("data", [b"", b"PK", b"not a zip" * 100, b"PK\x05\x06", b"PK\x05\x06" + bytes(17)])
def test_what_is_no_archive_is_refused(data: bytes) -> None:
    """Empty, short and foreign bytes are an error that says what was expected."""
    with pytest.raises(InvalidInputError, match=r"upload: expected an \.npz archive"):
        read_all(data)


def test_a_damaged_byte_anywhere_is_an_error_or_changes_nothing() -> None:
    """No byte, cut off or flipped in any bit pattern tried, gives another exception or other arrays."""
    arrays = {"a": np.arange(40, dtype=np.int32), "b": np.eye(3, dtype=bool)}
    data = npz(**arrays)
    damaged = [data[:k] for k in range(len(data))]
    damaged += [
        data[:k] + bytes([data[k] ^ flip]) + data[k + 1 :] for k in range(len(data)) for flip in (1, 0x80, 0xFF)
    ]
    for bytes_ in damaged:
        try:
            loaded = read_all(bytes_)
        except TopostrataError as error:
            assert isinstance(error, InvalidInputError | LimitError)  # noqa: PT017  # any error but these must show itself
        else:
            assert {name: array.tobytes() for name, array in loaded.items()} == {
                name: array.tobytes() for name, array in arrays.items()
            }
