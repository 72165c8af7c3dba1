"""`topostrata.Client`: an archive behind a service is an archive."""

from __future__ import annotations

import doctest
import inspect
import io
from collections.abc import Iterator

import pytest

from conftest import fill_example
from tests.reference_runs import served
from topostrata.archive import Archive
from topostrata.errors import InvalidInputError
from topostrata.service.client import Client
from topostrata.service.opening import open_archive
from topostrata.store.embedded import stop

# What only the archive itself can do; their examples are not those of a client.
AT_HOME = {
    "verify",
    "repair",
    "rebuild",
    "gc",
    "migrate",
    "backup",
    "restore",
    "engine_version",
    "jobs",
    "py2neo",
    "stored_nnstd",
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """A client of the archive of docs/example_archive.py."""
    store = tmp_path_factory.mktemp("client") / "archive"
    try:
        with served(store) as http, open_archive(str(http.base_url)) as opened:
            assert isinstance(opened, Client)
            fill_example(opened)
            yield opened
    finally:
        stop(store, force=True)


def examples() -> list[doctest.DocTest]:
    """Those of the methods of ``Archive``, in the order in which they stand."""
    finder = doctest.DocTestFinder(recurse=False)
    return [
        test
        for name, method in inspect.getmembers(Archive)
        if not name.startswith("_") and name not in AT_HOME | {"location"}
        for test in finder.find(method.fget if isinstance(method, property) else method, name)
        if test.examples
    ]


@pytest.mark.parametrize("example", examples(), ids=lambda test: test.name)
def test_what_an_archive_shows_a_client_shows(client: Archive, example: doctest.DocTest) -> None:
    """Every example of a method of `Archive` is one of a client's, to the letter."""
    example.globs["archive"] = client
    said = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL)
    assert runner.run(example, out=said.write).failed == 0, said.getvalue()


def test_what_needs_the_archive_itself_is_refused(client: Archive) -> None:
    """By its name, with where to ask it; so is an argument that REST has not."""
    for name in sorted(AT_HOME):
        with pytest.raises(InvalidInputError, match=f"{name}: expected an archive that is opened itself"):
            getattr(client, name)()
    with pytest.raises(InvalidInputError, match="distances: expected no scheduler"):
        client.distances("w*", scheduler="tcp://127.0.0.1:1")


def test_every_method_is_asked_or_refused() -> None:
    """None is left to the code that needs a database, but for what is made of others."""
    composed = {"export", "import_", "copy_to", "keep_measures", "openlineage", "push_files"}
    public = {name for name in dir(Archive) if not name.startswith("_")}
    own = {name for base in Client.__mro__ for name in vars(base) if base.__module__.startswith("topostrata.service")}
    assert public - own == composed
