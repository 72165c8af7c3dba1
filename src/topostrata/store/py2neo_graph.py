"""The archive's graph for people who have py2neo scripts: their own object, connected.

py2neo is at its end of life: 2021.2.4 is its last release, and nobody mends it. New code asks ``Archive.cypher`` or the
``neo4j`` driver.
"""

from __future__ import annotations

from typing import Any

from topostrata.errors import MissingExtraError, SettingsError, StoreUnavailableError
from topostrata.store.graph import GraphStore


def py2neo_graph(store: GraphStore) -> Any:
    """A connected ``py2neo.Graph`` on the store's database, with its own connections.

    On the embedded engine it has the account that only reads, and lives as long as the archive is open. On a server it
    has the account of the settings, and what it writes nobody checks: to read is what it is for.
    """
    try:
        import py2neo  # noqa: PLC0415 - an extra
        from py2neo import errors  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("archive.py2neo()", "py2neo") from error
    connection = store.connection
    if connection.ca_file is not None:
        raise SettingsError(
            "py2neo takes no file of certificates, found neo4j_ca_file",
            hint="use archive.cypher, or add the certificate to those that the system trusts",
        )
    try:
        graph = py2neo.Graph(
            connection.uri,
            auth=connection.reader or (connection.user, connection.password),
            name=connection.database,
            user_agent="topostrata",
        )
        graph.run("RETURN 1").evaluate()
    except (errors.Neo4jError, errors.ConnectionUnavailable, errors.ConnectionBroken, OSError) as error:
        raise StoreUnavailableError(f"{store.location}: py2neo finds no way to it: {error}") from error
    return graph
