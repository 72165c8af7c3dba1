"""Which database a name stands for: a path is an embedded archive there, ``neo4j://`` or ``bolt://`` a server."""

from __future__ import annotations

import shutil
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from topostrata import format_1, queries
from topostrata.errors import NotFoundError, SettingsError, StoreUnavailableError, UnsupportedFormatError
from topostrata.locations import SERVER_SCHEMES, split_uri
from topostrata.settings import DEFAULT_STORE, Settings

if TYPE_CHECKING:
    from topostrata.store.graph import Connection, GraphStore

FORMAT = 2  # 2: living connections have a key by which they are found; an older archive is read as it is
_OLDEST = 1

_EMBEDDED_RELATIONSHIPS = 2_000_000
_SERVER_RELATIONSHIPS = 20_000_000


def open_store(store: str, settings: Settings, *, create: bool) -> GraphStore:
    """Open the store of that name. ``create=False`` refuses a directory that holds no archive yet."""
    if "://" in store:
        return _open_server(store, settings)
    directory = Path(store).expanduser()
    _refuse_to_pass_over_an_old_archive(directory)
    return _open_embedded(directory, settings, create=create)


def prepare(store: GraphStore) -> None:
    """Give an empty database its schema and the archive's own node; refuse an archive of a format we do not know."""
    nodes = store.read("archive/archive")
    if not nodes:
        for name in ("schema/001-archive", "schema/002-step-metrics", "schema/003-alive", "schema/004-jobs"):
            store.schema(queries.statements(name))
        store.start_clock()
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        store.write(
            lambda tx: tx.run(
                "archive/create_archive",
                name=format_1.ARCHIVE_NODE,
                id=uuid.uuid4().hex,
                format=FORMAT,
                created_at=now,
            )
        )
        nodes = store.read("archive/archive")
    if nodes[0]["format"] not in range(_OLDEST, FORMAT + 1):
        raise UnsupportedFormatError(
            f"{store.location}: expected an archive of format {_OLDEST} to {FORMAT}, found {nodes[0]['format']}",
            hint="a newer version of topostrata made it: upgrade",
        )


def is_current(store: GraphStore) -> bool:
    """Whether the archive is of today's format, as it stands in the graph now."""
    return bool(store.read("archive/archive")[0]["format"] == FORMAT)


def index_keys(store: GraphStore) -> None:
    """Make the index of the living connections where there is none yet."""
    store.schema(queries.statements("schema/003-alive"))


def _open_embedded(directory: Path, settings: Settings, *, create: bool) -> GraphStore:
    from topostrata.store.embedded import EmbeddedEngine, stop  # noqa: PLC0415 - both need the extra
    from topostrata.store.engine_files import refuse_others_files  # noqa: PLC0415
    from topostrata.store.graph import Connection, GraphStore  # noqa: PLC0415
    from topostrata.store.sealed import copied, is_sealed  # noqa: PLC0415

    if not create and not (directory / "engine").is_dir():
        raise NotFoundError(
            f"{directory}: expected an archive, found none",
            hint="`topostrata push` makes one; --store names another place",
        )
    refuse_others_files(directory)
    sealed = is_sealed(directory)
    place = copied(directory) if sealed else directory
    engine = EmbeddedEngine(
        place,
        idle_seconds=settings.engine_idle_seconds,
        memory=settings.engine_memory,
        java_options=settings.engine_java_options,
    )

    def connect() -> Connection:
        end = engine.connect()
        return Connection(
            f"bolt://{end.host}:{end.port}", end.database, end.user, end.password, (end.reader, end.reader_password)
        )

    def close() -> None:
        engine.close()
        if sealed:
            stop(place, force=True)
            shutil.rmtree(place, ignore_errors=True)

    try:
        return GraphStore(
            connect,
            close,
            died=engine.death,
            location=str(directory),
            relationship_limit=_EMBEDDED_RELATIONSHIPS,
            read_only=sealed,
        )
    except BaseException:
        close()
        raise


def _refuse_to_pass_over_an_old_archive(directory: Path) -> None:
    """Where the new default directory is not there and the old one is, a new archive would seem to have lost it."""
    old = directory.with_name(format_1.OLD_DIRECTORY)
    if directory.name == DEFAULT_STORE and not directory.exists() and (old / "engine").is_dir():
        raise NotFoundError(
            f"{directory}: expected an archive, found none, but {old}, which an earlier version of this product made",
            hint=f"`mv {old} {directory}` takes it along; `--store {old}` opens it where it is",
        )


def _open_server(uri: str, settings: Settings) -> GraphStore:
    from topostrata.store.failures import check_version  # noqa: PLC0415
    from topostrata.store.graph import GraphStore  # noqa: PLC0415

    connection = _server(uri, settings)
    store = GraphStore(lambda: connection, location=connection.uri, relationship_limit=_SERVER_RELATIONSHIPS)
    try:
        check_version(_greet(store, connection), connection.uri)
    except BaseException:
        store.close()
        raise
    return store


def _greet(store: GraphStore, connection: Connection) -> str:
    """What the server says it is. Routing hides why it failed, so the server is then asked without it."""
    from topostrata.store.graph import GraphStore  # noqa: PLC0415

    try:
        return store.version()
    except StoreUnavailableError:
        if not connection.uri.startswith("neo4j"):
            raise
        direct = replace(connection, uri=connection.uri.replace("neo4j", "bolt", 1))
        plain = GraphStore(lambda: direct, location=connection.uri, relationship_limit=0)
        try:
            plain.version()
        finally:
            plain.close()
        raise


def _server(uri: str, settings: Settings) -> Connection:
    from topostrata.store.graph import Connection  # noqa: PLC0415

    parts = split_uri(uri, SERVER_SCHEMES)
    ca_file = settings.neo4j_ca_file
    if ca_file is not None and not parts.scheme.endswith("+s"):
        raise SettingsError(
            f"TOPOSTRATA_NEO4J_CA_FILE: expected a scheme with +s, which asks for TLS, found {parts.scheme}://"
        )
    if ca_file is not None and not ca_file.is_file():
        raise SettingsError(f"TOPOSTRATA_NEO4J_CA_FILE: expected a file of certificates, found none at {ca_file}")
    host = parts.hostname or "localhost"
    host = f"[{host}]" if ":" in host else host
    return Connection(
        f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port is not None else ""),
        settings.neo4j_database,
        unquote(parts.username) if parts.username else settings.neo4j_user,
        settings.neo4j_secret(),
        ca_file=None if ca_file is None else str(ca_file),
    )
