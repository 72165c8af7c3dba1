"""Where an archive is: a directory, the URI of a Neo4j server, or the URL of a service that has one."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

from topostrata.errors import SettingsError

SERVER_SCHEMES = ("neo4j", "neo4j+s", "neo4j+ssc", "bolt", "bolt+s", "bolt+ssc")
SERVICE_SCHEMES = ("http", "https")


def is_service(store: str) -> bool:
    """Whether the store is behind a service."""
    return "://" in store and store.partition("://")[0].lower() in SERVICE_SCHEMES


def split_uri(store: str, schemes: Sequence[str]) -> SplitResult:
    """The parts of a URI of one of these schemes, which names a host and nothing else of its own.

    Raises ``SettingsError``.

    >>> split_uri("bolt://127.0.0.1:7687", SERVER_SCHEMES).port
    7687
    """
    # No message here shows what was found past the scheme: it may be a part of a password.
    scheme = store.partition("://")[0].lower()
    if scheme not in schemes:
        raise SettingsError(f"store: expected a path or one of {', '.join(schemes)}, found {scheme}://")
    form = f"store: expected {scheme}://HOST:PORT"
    try:
        parts = urlsplit(store)
    except ValueError:
        raise SettingsError(f"{form}, found a host that is none") from None
    service = scheme in SERVICE_SCHEMES
    if parts.password is not None or (service and parts.username is not None):
        raise SettingsError(
            "store: a password must not stand in the URI, where logs and process lists show it",
            hint="set TOPOSTRATA_API_TOKEN or TOPOSTRATA_API_TOKEN_FILE"
            if service
            else "set TOPOSTRATA_NEO4J_PASSWORD or TOPOSTRATA_NEO4J_PASSWORD_FILE",
        )
    if parts.query or parts.fragment or (parts.path.strip("/") and not service):
        raise SettingsError(
            f"{form}, found more after it",
            hint=None if service else "the database is named by TOPOSTRATA_NEO4J_DATABASE",
        )
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise SettingsError(f"{form}, found a port that is none") from None
    if service and not parts.hostname:
        raise SettingsError(f"{form}, found no host")
    return parts
