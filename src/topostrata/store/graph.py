"""The one module that talks Bolt: named queries, writes in managed transactions, each failure one of our errors.

Both engines are spoken to with the same driver and the same Cypher. Work handed to ``write`` may run more than once:
the driver repeats it when a lock or a version conflict was lost, and when the connection broke while a commit was under
way, in which case the first try may have been committed. So every writing transaction begins by reading, under a lock,
what stands already.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from topostrata import queries
from topostrata.errors import (
    Cancelled,
    EngineError,
    InvalidQueryError,
    LimitError,
    MissingExtraError,
    QueryRefusedError,
    StoreUnavailableError,
    TopostrataError,
)
from topostrata.frames import Table
from topostrata.store.past import CLOCK, Past
from topostrata.store.read_only import check_read_only

if TYPE_CHECKING:
    from topostrata.runs import ChangeKind

try:
    import neo4j
    from neo4j import exceptions as bolt
except ImportError as error:
    raise MissingExtraError("the archive", "server") from error

from topostrata.store.failures import (
    broke_the_database,
    first_line,
    told_of_full_disk,
    took_too_long,
    translate,
    translate_user,
)

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
_AT_ONCE = 2
_QUERIES = threading.BoundedSemaphore(_AT_ONCE)  # of users, in this process: what cannot be ended stops no writer
_LOOK_S = 0.1  # how often somebody looks whether a query was cancelled
_ENDING_S = 5.0
_SAID_S = 2.0
MAX_ANSWER_BYTES = 32 * 2**20  # of a user's query


_DRIVER_OPTIONS: dict[str, Any] = {
    "connection_timeout": 10,
    "connection_acquisition_timeout": 30,
    "max_transaction_retry_time": 15,
    # The embedded engine refuses one of two that changed the same page at once, the clock's among them. What either
    # does takes milliseconds, so the first try again comes soon; the driver's own second would be most of a push.
    "initial_retry_delay": 0.03,
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


@dataclass(slots=True)
class _Question:
    """A user's query. ``sent`` says whether the database may have begun to work on it."""

    text: str
    parameters: dict[str, Any]
    most: int
    timeout_s: float
    cancel: threading.Event
    token: str = field(default_factory=lambda: f"topostrata {secrets.token_hex(8)}")
    sent: bool = False


class _NoClockError(Exception):
    """An archive of before, which does not count yet what is acknowledged."""


@dataclass(frozen=True, slots=True)
class _Alone:
    """Reads that are sent as they are, each a transaction of its own to the database."""

    session: neo4j.Session

    def run(self, text: str, parameters: Mapping[str, Any] | None = None, **more: Any) -> neo4j.Result:
        """The rows of one query."""
        query = neo4j.Query(text, timeout=_TRANSACTION_SECONDS)
        return self.session.run(query, dict(parameters or {}), **more)


class Transaction:
    """One open transaction: ``run`` sends a named query with exactly the parameters that it declares."""

    pinned = False  # whether it answers as of an earlier moment

    def __init__(self, inner: neo4j.ManagedTransaction | _Alone) -> None:
        self._inner = inner
        self._changes: list[list[Any]] = []

    def past(self) -> Past | None:
        """What was changed after the moment that is asked about; None where that is now."""
        return None

    def changes(self, kind: ChangeKind, run: str, step: int | None = None, /, **details: Any) -> None:
        """Say what this transaction changes of the answers, and how it was before: it is acknowledged at the end."""
        self._changes.append([kind, run, step, json.dumps(details)])

    def acknowledge(self) -> None:
        """Count what this transaction changed and keep it. It comes last: others wait for the clock from here on."""
        if not self._changes:
            return
        forget = any(kind == "purged" for kind, *_ in self._changes)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        if not self.run("moments/acknowledge", name=CLOCK, at=now, rows=self._changes, forget=forget):
            raise _NoClockError

    def run(self, name: str, /, **parameters: Any) -> list[Row]:
        """All rows of the query ``queries/NAME.cypher``, as dictionaries by column."""
        query = queries.load(name)
        if set(parameters) != set(query.parameters):
            raise TypeError(f"{name}: expected parameters {query.parameters}, found {tuple(parameters)}")
        result = self._inner.run(query.text, parameters)
        columns = result.keys()
        return [dict(zip(columns, record.values(), strict=True)) for record in result]

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
        died: Callable[[], str | None] = lambda: None,
        location: str,
        relationship_limit: int,
        read_only: bool = False,
    ) -> None:
        """``connect`` finds (or starts) the database and is called again after a connection was lost.

        ``died`` says why the database died since it was last asked, where that is known.
        """
        self.location = location
        self.read_only = read_only
        self.relationship_limit = relationship_limit
        self._connect = connect
        self._close = close
        self._died = died
        self._connection = connect()
        self._driver = self._open()
        self._closed = False
        self._process = os.getpid()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{self.location}: an open archive cannot be copied or sent to another process: send its location, "
            "and open it there"
        )

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
        """Several reads, one after another; the work may be run more than once.

        Neither engine gives a transaction one moment to look at: what others commit between two of its queries, the
        second sees. So the first try opens none, which spares half of what is said for a read of one query.
        """
        self._check_open()
        try:
            with self._session(neo4j.READ_ACCESS) as session:
                return work(Transaction(_Alone(session)))
        except TopostrataError:
            raise
        except (bolt.Neo4jError, bolt.DriverError, OSError) as error:
            lost = isinstance(error, _LOST) or error.is_retryable()
            if not (lost or self._may_be_ending(error)):
                raise self._translated(error) from error
        return self._manage(neo4j.READ_ACCESS, work)  # which waits, connects again and repeats

    def write(self, work: Callable[[Transaction], T]) -> T:
        """Run the work in one transaction, flushed to disk when this returns. The work may be run more than once."""

        def acknowledged(tx: Transaction) -> T:
            answer = work(tx)
            tx.acknowledge()
            return answer

        try:
            return self._manage(neo4j.WRITE_ACCESS, acknowledged)
        except _NoClockError:
            self.start_clock()
            return self._manage(neo4j.WRITE_ACCESS, acknowledged)

    def check_writable(self) -> None:
        """Raise an error where what comes of a long computation could not be kept."""
        if self.read_only:
            raise EngineError(
                f"{self.location}: expected an archive that can be written, found one that can only be read",
                hint="`topostrata backup` and `restore` make one of it elsewhere",
            )

    def start_clock(self) -> None:
        """Count from now on what is acknowledged; what an archive holds already counts as having been there always."""
        self.schema(queries.statements("schema/004-moments"))
        self._manage(neo4j.WRITE_ACCESS, lambda tx: tx.run("moments/start_clock", name=CLOCK))

    def schema(self, statements: Iterable[str]) -> None:
        """Send statements that define constraints and indexes, each in a transaction of its own."""
        for statement in statements:
            self._manage(neo4j.WRITE_ACCESS, lambda tx, text=statement: _consume(tx, text))  # type: ignore[misc]

    def query(
        self,
        text: str,
        parameters: Mapping[str, Any],
        *,
        limit: int,
        timeout_s: float,
        cancel: threading.Event | None = None,
    ) -> Table:
        """A user's own query, through the means of the engine that let it read only.

        At most two run at once in a process. It is asked once: where the connection is lost while it runs, the query
        may be what broke the database, and would do so again.

        Raises ``QueryRefusedError`` for a query that would write, ``InvalidQueryError`` for one that does not parse,
        ``LimitError`` for one that takes longer than ``timeout_s`` seconds, whose answer is too large or that broke the
        database, ``Cancelled`` once ``cancel`` is set: then it is ended in the database too.
        """
        self._check_open()
        check_read_only(text)
        if not _QUERIES.acquire(timeout=timeout_s):
            raise LimitError(
                f"a query: expected one of {_AT_ONCE} places within {timeout_s:g} s, found others' queries there",
                hint="try again",
            )
        asked = _Question(text, dict(parameters), limit + 1, timeout_s, cancel or threading.Event())
        try:
            with ThreadPoolExecutor(1) as pool:  # the caller's thread may run an event loop already
                try:
                    columns, rows = pool.submit(asyncio.run, self._ask(asked)).result()
                except _LOST as error:
                    if asked.sent or isinstance(error, TopostrataError):
                        raise
                    self._reconnect()
                    columns, rows = pool.submit(asyncio.run, self._ask(asked)).result()
        except TopostrataError:
            raise
        except (TypeError, ValueError, OverflowError) as error:  # of the driver: what no database could be sent
            raise InvalidQueryError(f"the query or a parameter cannot be sent: {first_line(error)}") from error
        except bolt.Neo4jError as error:
            raise translate_user(error, timeout_s) or self._translated(error) from error
        except (bolt.DriverError, OSError) as error:
            if asked.sent and isinstance(error, _LOST):
                raise broke_the_database(self._death()) from error
            raise self._translated(error) from error
        finally:
            _QUERIES.release()
        return Table(columns, rows[:limit], truncated=len(rows) > limit)

    async def _ask(self, asked: _Question) -> _Answer:
        """Ask with the account that only reads, or in read mode where there is none, and stop waiting in time.

        A server keeps the limit of time that it is told, and ends what nobody waits for; the embedded engine does
        neither, and is told by another connection.
        """
        answering = asyncio.create_task(self._answer(asked))
        deadline = time.monotonic() + asked.timeout_s
        while not answering.done():
            left = deadline - time.monotonic()
            if left <= 0 or asked.cancel.is_set():
                await self._end(asked.token)
                answering.cancel()
                await asyncio.wait({answering}, timeout=_ENDING_S)
                if not answering.cancelled() and answering.done():
                    answering.exception()  # what it ended with does not matter
                raise took_too_long(asked.timeout_s) if left <= 0 else Cancelled("the query was cancelled")
            await asyncio.wait({answering}, timeout=min(left, _LOOK_S))
        return answering.result()

    async def _answer(self, asked: _Question) -> _Answer:
        reader = self._connection.reader
        database = self._connection.database
        async with (
            self._open_to_read() as driver,
            driver.session(database=database, default_access_mode=neo4j.READ_ACCESS) as session,
        ):
            tx = await session.begin_transaction(timeout=asked.timeout_s)
            if reader is None:
                await _check_plan(tx, asked.text, asked.parameters)
            asked.sent = True
            result = await tx.run(f"/* {asked.token} */ {asked.text}", asked.parameters)
            columns, rows = tuple(result.keys()), _Rows()
            async for record in result:
                rows.add(record)
                if len(rows.rows) >= asked.most:
                    break
            await tx.rollback()
            return columns, rows.rows

    async def _end(self, token: str) -> None:
        """End a statement of the embedded engine, as the reader itself; on a server its connection's end is enough."""
        if self._connection.reader is None:
            return
        with suppress(bolt.Neo4jError, bolt.DriverError, OSError, TimeoutError):
            async with (
                asyncio.timeout(_ENDING_S),
                self._open_to_read() as driver,
                driver.session(database=self._connection.database) as session,
            ):
                running = await session.run(queries.load("ending/running_statements").text, token=token)
                ids = [record["id"] async for record in running]
                if ids:
                    await (await session.run(queries.load("ending/end_statements").text, ids=ids)).consume()

    def _open_to_read(self) -> neo4j.AsyncDriver:
        uri, auth, more = self._access()
        return neo4j.AsyncGraphDatabase.driver(uri, auth=self._connection.reader or auth, **_DRIVER_OPTIONS, **more)

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
        with self._session(neo4j.WRITE_ACCESS) as session:
            return str(session.run(queries.load("archive/ping").text).consume().server.agent)

    def close(self) -> None:
        """Close the connections; what was acknowledged is on disk already.

        In a process that was forked from the one that opened it nothing is said over connections that both have.
        """
        self._closed = True
        if self._process != os.getpid():
            return
        with suppress(bolt.DriverError, OSError):
            self._driver.close()
        self._close()

    def _manage(self, access: str, work: Callable[[Transaction], T]) -> T:
        self._check_open()
        if access == neo4j.WRITE_ACCESS:
            self.check_writable()
        translated = self._translated if access == neo4j.READ_ACCESS else self._translated_write
        deadline = time.monotonic() + _RECONNECT_SECONDS
        refusals = races = 0
        while True:
            try:
                with self._session(access) as session:
                    run = session.execute_read if access == neo4j.READ_ACCESS else session.execute_write
                    answer = run(neo4j.unit_of_work(timeout=_TRANSACTION_SECONDS)(lambda tx: work(Transaction(tx))))
            except _LOST as error:
                if isinstance(error, TopostrataError) or time.monotonic() > deadline:
                    raise translated(error) from error
                lost = type(error).__name__
            except bolt.ConstraintError as error:
                # Two made the same node at once, which the embedded engine notices at the commit: the one that came
                # second finds it when it tries again. (A node that is nobody's duplicate would be a bug of ours.)
                races += 1
                if races > _RACES:
                    raise translated(error) from error
                time.sleep(0.01 * races)
                continue
            except (bolt.Neo4jError, bolt.DriverError) as error:
                refusals += 1
                if refusals > _REFUSALS or not self._may_be_ending(error):
                    raise translated(error) from error
                lost = type(error).__name__
            else:
                self._tell_of_death()  # the driver may have waited for the next one by itself
                return answer
            # Not in the handlers above: who connects again may start an engine, and is not to find an error under way.
            logger.warning("lost the database (%s); connecting again", lost)
            self._reconnect()

    @contextmanager
    def _session(self, access: str) -> Iterator[neo4j.Session]:
        """A session, after whose interruption no connection of before is used again.

        The driver goes on with one that Ctrl-C struck in the midst of an answer: it takes the rest of that for the
        answer to its next question, or puts an error of its own in the place of the interruption.
        """
        outer = sys.exception()
        session = self._driver.session(database=self._connection.database, default_access_mode=access)
        try:
            try:
                yield session
            except BaseException as error:
                if _interruption(error, outer) is None:
                    session.close()
                raise
            session.close()
        except BaseException as error:
            interruption = _interruption(error, outer)
            if interruption is None:
                raise
            stale, self._driver = self._driver, self._open()
            for close in (stale.close, session.close, session.close):  # the first try of a session reads on
                with suppress(Exception):
                    close()
            raise interruption from None

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailableError(f"{self.location}: the archive is closed", hint="open it again")
        if self._process != os.getpid():
            raise StoreUnavailableError(
                f"{self.location}: expected the process that opened the archive, found one that was forked from it",
                hint="open it again here: two processes cannot share its connections",
            )

    def _may_be_ending(self, error: Exception) -> bool:
        """Whether an embedded engine may have said this on its way out: it refuses its last clients in odd words.

        It calls their passwords wrong and their messages unexpected, and statements fail in its middle. To ask where
        the engine is answers the question: one that ends is waited for and started again.
        """
        if self._connection.reader is None or not isinstance(error, bolt.Neo4jError):
            return False
        code = error.code or ""
        return isinstance(error, bolt.AuthError) or code.startswith(_ENDING)

    def _death(self) -> str | None:
        """Why the engine died under what was asked a moment ago; its supervisor takes that long to say so."""
        deadline = time.monotonic() + _SAID_S
        while not (why := self._died()) and self.is_embedded and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        return why

    def _tell_of_death(self) -> None:
        if why := self._died():
            logger.warning("the engine died and was started again: %s", why)

    def _translated(self, error: Exception) -> TopostrataError:
        if isinstance(error, _LOST) and (why := self._died()):
            return StoreUnavailableError(f"{self.location}: the engine died: {why}", hint="try again")
        return translate(error, self.location, self._connection.database)

    def _translated_write(self, error: Exception) -> TopostrataError:
        full = told_of_full_disk(error, self.location) if self.is_embedded else None
        return full or self._translated(error)

    def _reconnect(self) -> None:
        connection = self._connect()
        self._tell_of_death()
        if connection != self._connection:
            stale, self._connection = self._driver, connection
            self._driver = self._open()
            with suppress(bolt.DriverError, OSError):
                stale.close()

    def _open(self) -> neo4j.Driver:
        uri, auth, more = self._access()
        return neo4j.GraphDatabase.driver(uri, auth=auth, **_DRIVER_OPTIONS, **more)

    def _access(self) -> tuple[str, tuple[str, str], dict[str, Any]]:
        """Address and account, and what more the driver needs to be told."""
        uri = self._connection.uri
        more: dict[str, Any] = {}
        if self._connection.ca_file is not None:  # the driver takes certificates with a plain scheme only
            uri = uri.replace("+s://", "://")
            more = {"encrypted": True, "trusted_certificates": neo4j.TrustCustomCAs(self._connection.ca_file)}
        return uri, (self._connection.user, self._connection.password), more


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


async def _check_plan(tx: neo4j.AsyncTransaction, text: str, parameters: Mapping[str, Any]) -> None:
    """Refuse what the database itself would not call a read: the clause list may not know all that a version knows."""
    explained = await (await tx.run(f"EXPLAIN {text}", dict(parameters))).consume()
    if explained.query_type != "r":
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


def _interruption(error: BaseException | None, outer: BaseException | None) -> BaseException | None:
    """What is no error (Ctrl-C, an exit) and led to this one, since ``outer`` was being handled."""
    while error is not None and error is not outer:
        if not isinstance(error, Exception):
            return error
        error = error.__context__
    return None
