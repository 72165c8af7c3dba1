"""docs/python.md is the whole of the public Python interface, and what the docstrings say today."""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path

import pytest

import topostrata

DOCS = Path(__file__).resolve().parents[2] / "docs"

pytestmark = pytest.mark.checkout

SPEC = importlib.util.spec_from_file_location("make_python", DOCS / "make_python.py")
assert SPEC is not None
assert SPEC.loader is not None
make_python = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(make_python)

HEADINGS = re.findall(r"^#{3,4} (.+)$", (DOCS / "python.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_reference_is_up_to_date() -> None:
    """The file is what its generator writes."""
    assert (DOCS / "python.md").read_text(encoding="utf-8") == make_python.reference(), "run docs/make_python.py"


def test_every_public_name_is_in_the_reference() -> None:
    """Each name of `__all__` has one heading, and so has each public method and property of the archive."""
    archive = topostrata.Archive
    methods = {name for name in dir(archive) if not name.startswith("_")}
    expected = {f"ts.{name}" for name in topostrata.__all__} | {f"Archive.{name}" for name in methods}
    assert expected - set(HEADINGS) == set()
    assert len(HEADINGS) == len(set(HEADINGS))


def test_every_public_name_says_what_it_is() -> None:
    """No public function, class or method of the archive is without a docstring; each method shows an example."""
    for name in topostrata.__all__:
        assert inspect.getdoc(getattr(topostrata, name)), name
    without = [
        name
        for name, member in inspect.getmembers(topostrata.Archive)
        if not name.startswith("_") and ">>>" not in (inspect.getdoc(member) or "")
    ]
    assert without == ["py2neo"], "its engine is an extra at its end of life"


def test_what_the_archive_answers_with_is_public() -> None:
    """Every type of ours that a method of the archive takes or gives can be imported from `topostrata`."""
    aliases = {"AbstractContextManager", "Alignment", "Any", "Bias", "Callable", "Connections", "Event", "Iterable", "Iterator", "Kept", "LayerMetrics", "Layers", "Mapping", "None", "Orientation",
               "Outcome", "Path", "PathLike", "Projection", "Self", "Status", "Zeros", "datetime", "threading",
               "BaseException", "TracebackType", "Units", "Unpack"}  # fmt: skip
    words: set[str] = set()
    for name, member in inspect.getmembers(topostrata.Archive, inspect.isfunction):
        if not name.startswith("_"):
            for annotation in member.__annotations__.values():
                words |= set(re.findall(r"\b[A-Z]\w+", str(annotation)))
    assert words - aliases - set(topostrata.__all__) == set()


@pytest.mark.parametrize("name", [name for name in topostrata.__all__ if name.endswith(("Error", "Cancelled"))])
def test_an_error_stands_where_its_handler_looks(name: str) -> None:
    """Each error is one of six kinds, or a cancellation, and has a code of its own that never changes."""
    error = getattr(topostrata, name)
    kinds = (
        topostrata.InputError, topostrata.NotFoundError, topostrata.ConflictError, topostrata.LimitError,
        topostrata.UnavailableError, topostrata.CorruptError, topostrata.Cancelled,
    )  # fmt: skip
    assert name == "TopostrataError" or sum(issubclass(error, kind) for kind in kinds) == 1


def test_every_error_of_ours_is_public() -> None:
    """Nothing that is raised at a caller has to be imported from deep within."""
    from topostrata import errors

    ours = {
        name
        for name, member in inspect.getmembers(errors, inspect.isclass)
        if issubclass(member, topostrata.TopostrataError)
    }
    assert ours - set(topostrata.__all__) == set()
    codes = [member.code for name in ours if hasattr(member := getattr(errors, name), "code")]
    assert set(codes) == set(errors.Code)
