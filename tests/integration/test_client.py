"""`topostrata.Client`: an archive behind a service is an archive."""

from __future__ import annotations

import doctest
import inspect
import io
from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from conftest import fill_example
from tests.faulty_service import faulty
from tests.stores import Target, service
from topostrata.archive import Archive
from topostrata.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    QueryRefusedError,
    SettingsError,
    StepOrderError,
    StoreUnavailableError,
)
from topostrata.service import transport
from topostrata.service.client import Client
from topostrata.service.remote_jobs import RemoteJobs
from topostrata.store.jobs import JobQueue
from topostrata.topology import Topology

# What only the archive itself can do; their examples are not those of a client.
AT_HOME = {
    "verify",
    "repair",
    "rebuild",
    "gc",
    "migrate",
    "backup",
    "restore",
    "bolt",
    "py2neo",
    "stored_nnstd",
    "project",
    "drawer",
}


@pytest.fixture(scope="module")
def client(target: Target) -> Iterator[Archive]:
    """A client of the archive of docs/example_archive.py."""
    with service(target) as served, served.open() as opened:
        assert isinstance(opened, Client)
        fill_example(opened)
        yield opened


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
    with pytest.raises(InvalidInputError, match=r"jobs\.submit: expected an archive that is opened itself"):
        client.jobs.submit("0" * 32, "export", {}, runs=[])
    with pytest.raises(InvalidInputError, match="distances: expected no scheduler"):
        client.distances("w*", scheduler="tcp://127.0.0.1:1")


def test_every_method_is_asked_or_refused() -> None:
    """None is left to the code that needs a database, but for what is made of others."""
    composed = {"export", "import_", "copy_to", "keep_measures", "openlineage", "push_files"}
    public = {name for name in dir(Archive) if not name.startswith("_")}
    own = {name for base in Client.__mro__ for name in vars(base) if base.__module__.startswith("topostrata.service")}
    assert public - own == composed
    assert {name for name in vars(JobQueue) if not name.startswith("_")} <= vars(RemoteJobs).keys()


def test_what_may_be_asked_twice_is_asked_again(client: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """After growing pauses, or when the service asks for it; what changes something more than once is not."""
    left: list[str] = []
    pauses: list[float] = []
    monkeypatch.setattr(transport, "sleep", pauses.append)
    with faulty(client.location, lambda _method, _path: left.pop(0) if left else "") as proxy:
        with Client(proxy.url) as sure:
            left[:] = ["reset", "502", "lost answer"]
            assert sure.run("w0") == client.run("w0")
            assert len(pauses) == 3
            assert pauses == sorted(pauses)
            left[:] = ["lost answer"]
            sure.create_run("twice")  # the first try has made it
            with pytest.raises(ConflictError, match="'twice'"):
                sure.create_run("twice")
            left[:] = ["reset"] * 9
            with pytest.raises(StoreUnavailableError, match="the service does not answer"):
                sure.run("w0")
            assert len(left) == 9 - 4
            for change in (lambda: sure.update_run("twice", tags=["x"]), lambda: sure.cypher("RETURN 1")):
                left[:], before = ["reset"] * 9, len(pauses)
                with pytest.raises(StoreUnavailableError):
                    change()
                assert (len(left), len(pauses)) == (8, before)
        for seconds, asked in (("7", 2), ("100", 1)):
            left[:], proxy.retry_after = ["503"], seconds
            pauses.clear()
            with Client(proxy.url) as patient, nullcontext() if asked == 2 else pytest.raises(StoreUnavailableError):
                patient.run("w0")
            assert [round(pause) for pause in pauses[1:]] == [7] * (asked - 1)
        left[:], proxy.retry_after = ["503"] * 9, "2"
        with Client(proxy.url, retries=3) as patient:
            with pytest.raises(StoreUnavailableError):
                patient.run("w0")
            assert len(left) == 9 - 4
            left.clear()
            assert patient.cypher("RETURN 1 AS n").rows == [[1]]  # which waits, and is sent


@pytest.mark.parametrize("token", ["", "ts_secret\n", "two words", "ts_sécret"])
def test_a_token_that_is_none_is_refused_and_not_shown(token: str) -> None:
    """Before anything is sent: a line end would stand in a traceback, with the token."""
    with pytest.raises(SettingsError, match="expected visible ASCII characters") as refused:
        Client("http://127.0.0.1:9", token)
    assert "cret" not in str(refused.value)


def test_an_error_is_the_one_that_the_archive_raised(client: Archive) -> None:
    """Of its class, with its words and what to do."""
    with pytest.raises(NotFoundError) as lost:
        client.run("nowhere")
    assert lost.value.message.startswith("run 'nowhere': expected it in the archive, found none")
    assert lost.value.hint is not None
    assert not client.has_run("no id")
    with pytest.raises(ConflictError, match="w0@0"):
        client.push("w0", 0, Topology.from_masks([[[1, 1, 1]] * 3, [[1, 1]] * 3]))
    with pytest.raises(StepOrderError):
        client.push("w0", 7, client.topology("w0@5"))
    with pytest.raises(QueryRefusedError):
        client.cypher("CREATE (n:Run)")


def test_a_distance_is_kept_only_where_it_is_to_be(client: Archive) -> None:
    """Without `keep` Cypher sees none; the match is asked for when somebody looks."""
    count = "MATCH (:Snapshot)-[d:DISTANCE]->(:Snapshot) RETURN count(d) AS n"
    before = client.cypher(count).rows
    distance = client.nnstd("w0@5", "w1@last", alignment="reference", keep=False)
    assert client.cypher(count).rows == before
    assert {space: units.tolist() for space, units in distance.matching.items()}["input"] == [0, 1, 2]
    client.nnstd("w0@5", "w1@last", alignment="reference")
    assert client.cypher(count).rows != before
