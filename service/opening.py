"""Which archive a name stands for: a database that is opened here, or a service that has one."""

from __future__ import annotations

import os

from topostrata import archive
from topostrata.locations import is_service
from topostrata.settings import Settings, load_settings


def open_archive(
    store: str | os.PathLike[str] | None = None, *, create: bool = True, settings: Settings | None = None
) -> archive.Archive:
    """Open the archive in a directory, on a Neo4j server, or behind a service.

    ``store`` is a path, the URI of a server (``neo4j://``, ``bolt://``, ``neo4j+s://``) or the URL of a service
    (``http://``, ``https://``; the archive is a ``topostrata.Client``). It defaults to ``TOPOSTRATA_STORE``, then to
    ``.topostrata`` in the working directory. ``create=False`` refuses a directory that holds no archive. ``settings``
    are those of the environment by default.

    Raises ``NotFoundError`` where there is no archive and none may be made, ``StoreUnavailableError``, ``EngineError``,
    ``MissingExtraError`` and ``UnsupportedFormatError`` where it cannot be opened here.

    >>> import topostrata as ts
    >>> with ts.open(archive.location, create=False) as same:
    ...     same.has_run("w0")
    True
    """
    settings = settings or load_settings()
    name = os.fspath(store) if store is not None else settings.store
    if is_service(name):
        from topostrata.service.client import Client  # noqa: PLC0415 - who opens a database needs no client

        return Client(name, settings=settings)
    return archive.open_archive(name, create=create, settings=settings)
