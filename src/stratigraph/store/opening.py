"""Which database a name stands for: a path is an embedded archive there, ``neo4j://`` or ``bolt://`` a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from stratigraph.errors import NotFoundError, SettingsError
from stratigraph.settings import Settings

if TYPE_CHECKING:
    from stratigraph.store.graph import GraphStore

SERVER_SCHEMES = ("neo4j", "neo4j+s", "neo4j+ssc", "bolt", "bolt+s", "bolt+ssc")

_EMBEDDED_RELATIONSHIPS = 2_000_000
_SERVER_RELATIONSHIPS = 20_000_000


def open_store(store: str, settings: Settings, *, create: bool) -> GraphStore:
    """Open the store of that name. ``create=False`` refuses a directory that holds no archive yet."""
    if "://" in store:
        return _open_server(store, settings)
    return _open_embedded(Path(store).expanduser(), settings, create=create)


def _open_embedded(directory: Path, settings: Settings, *, create: bool) -> GraphStore:
    from stratigraph.store.embedded import EmbeddedEngine  # noqa: PLC0415 - both need the extra
    from stratigraph.store.graph import Connection, GraphStore  # noqa: PLC0415

    if not create and not (directory / "engine").is_dir():
        raise NotFoundError(
            f"{directory}: expected an archive, found none",
            hint="`stratigraph push` makes one; --store names another place",
        )
    engine = EmbeddedEngine(directory, idle_seconds=settings.engine_idle_seconds, memory=settings.engine_memory)

    def connect() -> Connection:
        end = engine.connect()
        return Connection(
            f"bolt://{end.host}:{end.port}", end.database, end.user, end.password, (end.reader, end.reader_password)
        )

    return GraphStore(connect, engine.close, location=str(directory), relationship_limit=_EMBEDDED_RELATIONSHIPS)


def _open_server(uri: str, settings: Settings) -> GraphStore:
    from stratigraph.store.graph import Connection, GraphStore  # noqa: PLC0415

    parts = urlsplit(uri)
    if parts.scheme not in SERVER_SCHEMES:
        raise SettingsError(f"store: expected a path or one of {', '.join(SERVER_SCHEMES)}, found {parts.scheme}://")
    if parts.password:
        raise SettingsError(
            "store: a password must not stand in the URI, where logs and process lists show it",
            hint="set STRATIGRAPH_NEO4J_PASSWORD or STRATIGRAPH_NEO4J_PASSWORD_FILE",
        )
    host = parts.hostname or "localhost"
    host = f"[{host}]" if ":" in host else host
    address = f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")
    connection = Connection(
        address, settings.neo4j_database, parts.username or settings.neo4j_user, settings.neo4j_secret()
    )
    return GraphStore(lambda: connection, location=address, relationship_limit=_SERVER_RELATIONSHIPS)
