"""The one module that talks Bolt: named queries in managed transactions, each failure turned into one of our errors.

Both engines are spoken to with the same driver and the same Cypher. Work handed to ``write`` may run more than once:
the driver repeats it when a lock or a version conflict was lost, and when the connection broke while a commit was under
way, in which case the first try may have been committed. So every writing transaction begins by reading, under a lock,
what stands already.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from topostrata import queries
from topostrata.errors import (
    InvalidQueryError,
    LimitError,
    MissingExtraError,
    QueryRefusedError,
    StoreUnavailableError,
    TopostrataError,
)
from topostrata.store.read_only import check_read_only

try:
    import neo4j
    from neo4j import exceptions as bolt
except ImportError as error:
    raise MissingExtraError("the archive", "server") from error

from topostrata.store.failures import took_too_long, translate, translate_user

T = TypeVar("T")
Row = dict[str, Any]

logger = logging.getLogger(__name__)
# What the driver has to say comes back as an error; without a handler it would be printed past the caller as well.
logging.getLogger("neo4j").addHandler(logging.NullHandler())

_LOST = (bolt.ServiceUnavailable, bolt.SessionExpired, bolt.IncompleteCommit, OSError)
_RECONNECT_SECONDS = 60.0
_TRANSACTION_SECONDS = 120.0  # after which a server ends it, lest the locks of a client that vanished stay for ever
_REFUSALS = 3
_RACES = 10
_ENDING = ("Neo.DatabaseError.", "Neo.ClientError.Request.Invalid")
MAX_ANSWER_BYTES = 32 * 2**20  # of a user's query


_DRIVER_OPTIONS: dict[str, Any] = {
    "connection_timeout": 10,
    "connection_acquisition_timeout": 30,
    "max_transaction_retry_time": 15,
    "notifications_min_severity": "OFF",
    "telemetry_disabled": True,
    "user_agent": "topostrata",
}
_Answer = tuple[tuple[str, ...], list[list[Any]]]


@dataclass(frozen=True, slots=True)
class Connection:
    """How a database is reached: its address, the writing account and, where there is one, one that only reads."""

    uri: str
    database: str
    user: str
    password: str
    reader: tuple[str, str] | None = None
    ca_file: str | None = None  # certificates to trust instead of the machine's, where the scheme asks for TLS


@dataclass(frozen=True, slots=True)
class Table:
    """The answer to a user's query. ``truncated`` says that there were more rows than asked for."""

    columns: tuple[str, ...]
    rows: list[list[Any]]
    truncated: bool


class Transaction:
    """One open transaction: ``run`` sends a named query with exactly the parameters that it declares."""

    def __init__(self, inner: neo4j.ManagedTransaction) -> None:
        self._inner = inner

    def run(self, name: str, /, **parameters: Any) -> list[Row]:
        """All rows of the query ``queries/NAME.cypher``, as dictionaries by column."""
        query = queries.load(name)
        if set(parameters) != set(query.parameters):
            raise TypeError(f"{name}: expected parameters {query.parameters}, found {tuple(parameters)}")
        return [
            dict(zip(record.keys(), record.values(), strict=True)) for record in self._inner.run(query.text, parameters)
        ]

    def one(self, name: str, /, **parameters: Any) -> Row | None:
        """The first row, or ``None`` where there is none."""
        rows = self.run(name, **parameters)
        return rows[0] if rows else None


class GraphStore:
    """A graph database behind named queries. Safe to use from several threads; not across a fork."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        close: Callable[[], None] = lambda: None,
        *,
        location: str,
        relationship_limit: int,
    ) -> None:
        """``connect`` finds (or starts) the database and is called again after a connection was lost."""
        self.location = location
        self.relationship_limit = relationship_limit
        self._connect = connect
        self._close = close
        self._connection = connect()
        self._driver = self._open()
        self._closed = False

    @property
    def is_embedded(self) -> bool:
        """Whether the database is the engine of a directory, and not a server."""
        return self._connection.reader is not None

    @property
    def connection(self) -> Connection:
        """How the database is reached now, passwords included."""
        return self._connection

    def read(self, name: str, /, **parameters: Any) -> list[Row]:
        """All rows of one named query, in a transaction of its own."""
        return self.read_with(lambda tx: tx.run(name, **parameters))

    def read_with(self, work: Callable[[Transaction], T]) -> T:
        """Several reads of one moment."""
        return self._manage(neo4j.READ_ACCESS, work)

    def write(self, work: Callable[[Transaction], T]) -> T:
        """Run the work in one transaction, flushed to disk when this returns. The work may be run more than once."""
        return self._manage(neo4j.WRITE_ACCESS, work)

    def schema(self, statements: Iterable[str]) -> None:
        """Send statements that define constraints and indexes, each in a transaction of its own."""
        for statement in statements:
            self._manage(neo4j.WRITE_ACCESS, lambda tx, text=statement: _consume(tx, text))  # type: ignore[misc]

    def query(self, text: str, parameters: Mapping[str, Any], *, limit: int, timeout_s: float) -> Table:
        """A user's own query, through the means of the engine that let it read only.

        Raises ``QueryRefusedError`` for a query that would write, ``InvalidQueryError`` for one that does not parse,
        ``LimitError`` for one that takes longer than ``timeout_s`` seconds or whose answer is too large.
        """
        self._check_open()
        check_read_only(text)
        ask = self._ask_server if self._connection.reader is None else self._ask_embedded
        try:
            try:
                columns, rows = ask(text, dict(parameters), limit + 1, timeout_s)
            except _LOST:
                self._reconnect()
                columns, rows = ask(text, dict(parameters), limit + 1, timeout_s)
        except TopostrataError:
            raise
        except (TypeError, ValueError, OverflowError) as error:  # of the driver: what no database could be sent
            raise InvalidQueryError(f"the query or a parameter cannot be sent: {error}") from error
        except bolt.Neo4jError as error:
            raise translate_user(error, timeout_s) or self._translated(error) from error
        except (bolt.DriverError, OSError) as error:
            raise self._translated(error) from error
        return Table(columns, rows[:limit], truncated=len(rows) > limit)

    def _ask_server(self, text: str, parameters: dict[str, Any], most: int, timeout_s: float) -> _Answer:
        """On a Neo4j server: in read mode, which it enforces, with a timeout, which it keeps."""
        with (
            self._driver.session(database=self._connection.database, default_access_mode=neo4j.READ_ACCESS) as session,
            session.begin_transaction(timeout=timeout_s) as tx,
        ):
            _check_plan(tx, text, parameters)
            result = tx.run(text, parameters)
            columns, rows = tuple(result.keys()), _Rows()
            for record in islice(result, most):
                rows.add(record)
            tx.rollback()
            return columns, rows.rows

    def _ask_embedded(self, text: str, parameters: dict[str, Any], most: int, timeout_s: float) -> _Answer:
        """On the embedded engine: with the account that only reads.

        The engine keeps a limit of its own and ignores the client's, so the client is the one that stops waiting: it
        drops the connection. That takes the asynchronous driver, in a thread of its own, since the caller's may run
        an event loop already.
        """
        assert self._connection.reader is not None  # noqa: S101 - asked of embedded engines only

        async def ask() -> _Answer:
            try:
                async with (
                    asyncio.timeout(timeout_s),
                    self._open_to_wait() as driver,
                    driver.session(database=self._connection.database) as session,
                ):
                    tx = await session.begin_transaction()
                    result = await tx.run(text, parameters)
                    columns, rows = tuple(result.keys()), _Rows()
                    async for record in result:
                        rows.add(record)
                        if len(rows.rows) >= most:
                            break
                    await tx.rollback()
                    return columns, rows.rows
            except TimeoutError as error:
                raise took_too_long(timeout_s) from error

        with ThreadPoolExecutor(1) as pool:
            return pool.submit(asyncio.run, ask()).result()

    def _open_to_wait(self) -> neo4j.AsyncDriver:
        return neo4j.AsyncGraphDatabase.driver(self._connection.uri, auth=self._connection.reader, **_DRIVER_OPTIONS)

    def version(self) -> str:
        """The engine's own word for what it is, soon: whether it can be used at all. Who is away is not waited for."""
        try:
            try:
                return self._agent()
            except bolt.SessionExpired:  # it was there, and the connection broke: not yet a reason to give up
                return self._agent()
        except (bolt.Neo4jError, bolt.DriverError, OSError) as error:
            raise self._translated(error) from error

    def _agent(self) -> str:
        with self._driver.session(database=self._connection.database) as session:
            return str(session.run(queries.load("archive/ping").text).consume().server.agent)

    def close(self) -> None:
        """Close the connections; what was acknowledged is on disk already."""
        self._closed = True
        with suppress(bolt.DriverError, OSError):
            self._driver.close()
        self._close()

    def _manage(self, access: str, work: Callable[[Transaction], T]) -> T:
        self._check_open()
        deadline = time.monotonic() + _RECONNECT_SECONDS
        refusals = races = 0
        while True:
            try:
                with self._driver.session(database=self._connection.database, default_access_mode=access) as session:
                    run = session.execute_read if access == neo4j.READ_ACCESS else session.execute_write
                    return run(neo4j.unit_of_work(timeout=_TRANSACTION_SECONDS)(lambda tx: work(Transaction(tx))))
            except _LOST as error:
                if isinstance(error, TopostrataError) or time.monotonic() > deadline:
                    raise self._translated(error) from error
                lost = type(error).__name__
            except bolt.ConstraintError as error:
                # Two made the same node at once, which the embedded engine notices at the commit: the one that came
                # second finds it when it tries again. (A node that is nobody's duplicate would be a bug of ours.)
                races += 1
                if races > _RACES:
                    raise self._translated(error) from error
                time.sleep(0.01 * races)
                continue
            except (bolt.Neo4jError, bolt.DriverError) as error:
                refusals += 1
                if refusals > _REFUSALS or not self._may_be_ending(error):
                    raise self._translated(error) from error
                lost = type(error).__name__
            # Not in the handlers above: who connects again may start an engine, and is not to find an error under way.
            logger.warning("lost the database (%s); connecting again", lost)
            self._reconnect()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailableError(f"{self.location}: the archive is closed", hint="open it again")

    def _may_be_ending(self, error: Exception) -> bool:
        """Whether an embedded engine may have said this on its way out: it refuses its last clients in odd words.

        It calls their passwords wrong and their messages unexpected, and statements fail in its middle. To ask where
        the engine is answers the question: one that ends is waited for and started again.
        """
        if self._connection.reader is None or not isinstance(error, bolt.Neo4jError):
            return False
        code = error.code or ""
        return isinstance(error, bolt.AuthError) or code.startswith(_ENDING)

    def _translated(self, error: Exception) -> TopostrataError:
        return translate(error, self.location, self._connection.database)

    def _reconnect(self) -> None:
        connection = self._connect()
        if connection != self._connection:
            stale, self._connection = self._driver, connection
            self._driver = self._open()
            with suppress(bolt.DriverError, OSError):
                stale.close()

    def _open(self) -> neo4j.Driver:
        uri = self._connection.uri
        more: dict[str, Any] = {}
        if self._connection.ca_file is not None:  # the driver takes certificates with a plain scheme only
            uri = uri.replace("+s://", "://")
            more = {"encrypted": True, "trusted_certificates": neo4j.TrustCustomCAs(self._connection.ca_file)}
        return neo4j.GraphDatabase.driver(
            uri, auth=(self._connection.user, self._connection.password), **_DRIVER_OPTIONS, **more
        )


def _consume(tx: Transaction, text: str) -> None:
    tx._inner.run(text).consume()  # noqa: SLF001 - the schema's statements are the one text that has no header


class _Rows:
    """The rows of an answer as plain values, as long as they are not too large together."""

    def __init__(self) -> None:
        self.rows: list[list[Any]] = []
        self._size = 0

    def add(self, record: neo4j.Record) -> None:
        row = [_plain(value) for value in record.values()]
        self._size += _weight(row)
        if self._size > MAX_ANSWER_BYTES:
            raise LimitError(f"the answer is larger than {MAX_ANSWER_BYTES} bytes", hint="ask for less, or use LIMIT")
        self.rows.append(row)


def _weight(value: Any) -> int:
    """About how many bytes a value takes as JSON."""
    if isinstance(value, str):
        return len(value) + 2
    if isinstance(value, dict):
        return sum(len(k) + 4 + _weight(v) for k, v in value.items())
    if isinstance(value, list):
        return sum(map(_weight, value)) + 2
    return 8


def _check_plan(tx: neo4j.Transaction, text: str, parameters: Mapping[str, Any]) -> None:
    """Refuse what the database itself would not call a read: the clause list may not know all that a version knows."""
    kind = tx.run(f"EXPLAIN {text}", dict(parameters)).consume().query_type
    if kind != "r":
        raise QueryRefusedError("the query wants more than to read", hint="queries of users are read-only")


def _plain(value: Any) -> Any:  # noqa: PLR0911 - one line for each kind of value
    """Nodes, relationships and paths as dictionaries, everything else as it is (or as text where JSON has no word)."""
    if isinstance(value, neo4j.graph.Node):
        return {"labels": sorted(value.labels), **{k: _plain(v) for k, v in value.items()}}
    if isinstance(value, neo4j.graph.Relationship):
        return {"type": value.type, **{k: _plain(v) for k, v in value.items()}}
    if isinstance(value, neo4j.graph.Path):
        return {"nodes": [_plain(n) for n in value.nodes], "relationships": [_plain(r) for r in value.relationships]}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, bytes | bytearray):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no word for it
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)
