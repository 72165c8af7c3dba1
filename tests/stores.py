"""The stores that the behaviour suite runs on, and what its tests do to them past the archive.

A store is a name and a context manager: given an empty folder it makes a database, says how to open it, and stops what
it started. To add one is to add a line to ``STORES``; every test then runs on it too.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import neo4j
import uvicorn
from pydantic import SecretStr

from tests import neo4j_server
from topostrata.archive import Archive
from topostrata.service.opening import open_archive
from topostrata.settings import Settings
from topostrata.store.embedded import EmbeddedEngine, stop

# Statements of the tests take milliseconds; one that is to run away is to end soon.
COMMAND_TIMEOUT_MS = 10_000


@dataclass(frozen=True)
class Target:
    """One archive of the tests: what ``open_archive`` takes."""

    name: str
    uri: str
    settings: Settings

    @property
    def environment(self) -> dict[str, str]:
        """The settings as a process of its own reads them."""
        fields = {name: getattr(self.settings, name) for name in sorted(self.settings.model_fields_set)}
        return {
            f"TOPOSTRATA_{name.upper()}": value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            for name, value in fields.items()
        }

    def open(self) -> Archive:
        """A client of its own: nothing that another client remembers is known to it."""
        return open_archive(self.uri, settings=self.settings)


@contextmanager
def embedded(folder: Path) -> Iterator[Target]:
    """The embedded engine in that folder, kept running as long as the tests run."""
    directory = folder / "archive"
    try:
        with EmbeddedEngine(directory, idle_seconds=20, command_timeout_ms=COMMAND_TIMEOUT_MS) as engine:
            engine.connect()
            yield Target("embedded", str(directory), Settings(engine_idle_seconds=20))
    finally:
        stop(directory, force=True)


def server(name: str) -> Callable[[Path], AbstractContextManager[Target]]:
    """A real Neo4j of that release, empty."""

    @contextmanager
    def opened(_folder: Path) -> Iterator[Target]:
        with neo4j_server.shared(name) as running:
            yield Target(name, running.uri, running.settings())

    return opened


@contextmanager
def service(behind: Target) -> Iterator[Target]:
    """REST on an archive, in this process; what is told to the database goes past it."""
    from topostrata.service.api.app import create_app
    from topostrata.service.api.connections import PatientProtocol

    with behind.open() as archive, socket.create_server(("127.0.0.1", 0)) as listening:
        app = create_app(archive=archive)
        app.state.archive = archive  # as the server does when it has started, which nobody waits for
        config = uvicorn.Config(app, http=PatientProtocol, ws="none", log_level="warning")
        server = uvicorn.Server(config)
        serving = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        serving.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        _BEHIND[url] = app.state
        try:
            yield Target("service", url, Settings())
        finally:
            server.should_exit = True
            serving.join()
            del _BEHIND[url]


_BEHIND: dict[str, Any] = {}  # what has the archive of a service, by its URL
STORES: dict[str, Callable[[Path], AbstractContextManager[Target]]] = {
    "embedded": embedded,
    **{name: server(name) for name in neo4j_server.RELEASES},
}


def home(archive: Archive) -> Archive:
    """The archive itself, or that of the service which it is behind."""
    behind: Archive = _BEHIND[archive.location].archive if archive.location in _BEHIND else archive
    return behind


def tell(archive: Archive, text: str, **parameters: Any) -> list[dict[str, Any]]:
    """Say anything to the database behind an archive, with the account that writes: how tests do damage and look."""
    store = home(archive)._store
    with store._driver.session(database=store._connection.database) as session:
        rows: list[dict[str, Any]] = session.execute_write(
            lambda tx: [dict(zip(row.keys(), row.values(), strict=True)) for row in tx.run(text, parameters)]
        )
    return rows


@contextmanager
def reading(archive: Archive) -> Iterator[neo4j.Session]:
    """A session as users' queries have it: on the embedded engine with the account that only reads."""
    connection = home(archive)._store.connection
    with (
        neo4j.GraphDatabase.driver(
            connection.uri, auth=connection.reader or (connection.user, connection.password)
        ) as driver,
        driver.session(database=connection.database, default_access_mode=neo4j.READ_ACCESS) as session,
    ):
        yield session


def wipe(archive: Archive) -> None:
    """Empty the database; only its schema and the archive's own node stay."""
    for kind in (
        "Neuron", "MaskPart", "Mask", "Snapshot", "Layer", "Topology", "DistanceBlock", "Inference", "LayerMetrics",
        "StepMetrics", "Run", "Change", "Clock", "JobPart", "Job",
    ):  # fmt: skip
        while tell(archive, f"MATCH (n:{kind}) WITH n LIMIT 500 DETACH DELETE n RETURN 1 AS gone"):
            pass
    if archive.location in _BEHIND:  # which remembers what is gone
        _BEHIND[archive.location].archive = home(archive).reopened()
    left = tell(archive, "MATCH (n) RETURN labels(n) AS labels")
    assert left == [{"labels": ["Archive"]}], left


def contents(archive: Archive) -> list[Any]:
    """All nodes and relationships with their properties, in an order that depends on nothing else.

    What was changed when is left out: how an archive came to be is not what it holds.
    """
    nodes = tell(
        archive, "MATCH (n) WHERE NOT n:Change AND NOT n:Clock RETURN labels(n) AS labels, properties(n) AS held"
    )
    ends = tell(archive, "MATCH (a)-[r]->(b) RETURN type(r) AS kind, properties(r) AS held, a AS a, b AS b")
    rows = [(sorted(row["labels"]), _sorted(row["held"])) for row in nodes]
    rows += [([row["kind"]], _sorted(row["held"]), _name(row["a"]), _name(row["b"])) for row in ends]  # type: ignore[misc]
    return sorted(rows, key=repr)


def _sorted(properties: dict[str, Any]) -> list[tuple[str, Any]]:
    return sorted(properties.items())


def _name(node: neo4j.graph.Node) -> str:
    return str(node.get("id") or node.get("digest"))
