"""One table of formats: the help, the page and the hint of errors are made from it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from topostrata.errors import InvalidInputError, LimitError
from topostrata.ingest.formats import registry
from topostrata.ingest.formats.reading import read, read_one
from topostrata.ingest.formats.registry import FORMATS, Format
from topostrata.refs import PathRef

DOCS = Path(__file__).resolve().parents[3] / "docs"

NEW = Format("Zebra", (".zebra",), (b"ZEBRA",), "zebras", "stripes", "rows are stripes", "nowhere:read", "zoo")


def test_a_new_format_stands_in_the_help_the_page_and_the_hint() -> None:
    """Nobody lists formats by hand: a row of the table is enough."""
    formats = (*FORMATS, NEW)
    assert ".zebra" in registry.help_text(formats)
    row = "| Zebra `.zebra` | zebras | stripes | rows are stripes | the extra `[zoo]` |"
    assert row in registry.table(formats)
    assert "Zebra (.zebra)" in registry.hint(formats)
    assert "or .zebra file" in registry.expected(formats)


def test_a_format_is_known_by_its_suffix_else_by_its_first_bytes(tmp_path: Path) -> None:
    """The end of the name decides; under a strange name the beginning of the file does."""
    for name, begin, expected in (
        ("a.zebra", b"", "Zebra"),
        ("b", b"ZEBRA...", "Zebra"),
        ("c", b"PK\3\4", "NumPy archive"),
    ):
        path = tmp_path / name
        path.write_bytes(begin)
        assert registry.format_of(path, (*FORMATS, NEW)).name == expected
    with pytest.raises(InvalidInputError, match=r"b: expected a \.npz, .* or \.flax file, found another"):
        registry.format_of(tmp_path / "b", FORMATS)


@pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
def test_every_format_has_its_reader(known: Format) -> None:
    """The function that a row names is there."""
    module, function = known.reader.split(":")
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.checkout
def test_the_page_has_the_tables() -> None:
    """docs/formats.md is what ``python docs/make_formats.py`` writes."""
    spec = importlib.util.spec_from_file_location("make_formats", DOCS / "make_formats.py")
    assert spec is not None
    assert spec.loader is not None
    make_formats = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_formats)
    text = (DOCS / "formats.md").read_text(encoding="utf-8")
    assert make_formats.page(text, make_formats.tables()) == text


@pytest.mark.parametrize("known", [known for known in FORMATS if known.suffixes], ids=lambda known: known.suffixes[0])
@pytest.mark.parametrize("content", [b"", b"neither head nor end" * 40], ids=["empty", "other bytes"])
def test_every_error_about_damage_says_what_to_type_next(known: Format, content: bytes, tmp_path: Path) -> None:
    """Whatever the reader: which file, to copy it or to write it again and by what, and the command that looks again."""
    path = tmp_path / f"my net{known.suffixes[0]}"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError) as caught:
        read_one(PathRef(path))
    assert str(path) in caught.value.message
    hint = caught.value.hint or ""
    own = ("save it again", "model.save_weights('net.weights.h5') writes one")  # where the reader knows better
    assert f"write it again ({known.writers}), then: topostrata inspect '{path}'" in hint or hint.startswith(own)


def test_a_limit_of_a_reader_says_what_to_type_next(tmp_path: Path) -> None:
    """A zip64 archive may be a good file: less of it is to be written, not the same again."""
    path = tmp_path / "net.npz"
    np.savez(path, fc1=np.eye(4), fc2=np.eye(4))
    whole = path.read_bytes()
    path.write_bytes(whole[:-22] + b"PK\x06\x07" + bytes(16) + whole[-22:])
    with pytest.raises(LimitError, match="found a zip64 archive") as caught:
        read_one(PathRef(path))
    assert caught.value.hint == (
        f"write less into it, such as the masks alone ({FORMATS[0].writers}), then: topostrata inspect {path}"
    )


def test_what_is_wrong_with_the_numbers_is_told_alike(tmp_path: Path) -> None:
    """Numbers are read later than names and shapes; an error of theirs says what to do as well."""
    path = tmp_path / "net.npz"
    np.savez_compressed(path, fc1=np.eye(40), fc2=np.eye(40))
    whole = path.read_bytes()
    at = whole.index(b"fc2.npy")
    path.write_bytes(whole[: at + 40] + bytes(20) + whole[at + 60 :])
    with pytest.raises(InvalidInputError, match="fc2") as caught:
        list(read(path))
    assert f"then: topostrata inspect {path}" in (caught.value.hint or "")
