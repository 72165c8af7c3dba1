"""What a database's refusals mean: each failure of the driver as one of our errors, saying what to do about it.

No message holds an address with credentials in it: ``location`` never has any, and the driver is handed them apart.
"""

from __future__ import annotations

import re
import shutil
import ssl
from collections.abc import Iterator

from neo4j import exceptions as bolt

from topostrata.errors import (
    ConflictError,
    EngineError,
    InvalidQueryError,
    LimitError,
    QueryRefusedError,
    StoreUnavailableError,
    TopostrataError,
)

OLDEST_NEO4J = 5

_LOGIN = "set TOPOSTRATA_NEO4J_USER and TOPOSTRATA_NEO4J_PASSWORD (or _PASSWORD_FILE)"
_DOCTOR = "`topostrata doctor` checks each part"

# Parts of the server's codes, the last word of which is what differs between versions; what they mean, what to do.
_CODES = (
    ("AuthenticationRateLimit", "too many wrong passwords, it refuses to listen for a while", "wait, then " + _LOGIN),
    ("CredentialsExpired", "the password must be changed before it may be used", "change it in cypher-shell"),
    ("ReadOnly", "the database is read-only here, nothing was written", "name the server that takes writes"),
    ("NotALeader", "this server does not take writes, nothing was written", "use neo4j:// so that they are routed"),
    ("MemoryPoolOutOfMemory", "the server gives a transaction too little memory", "raise db.memory.transaction.max"),
    ("TransactionOutOfMemory", "the server gives a transaction too little memory", "raise db.memory.transaction.max"),
    ("TransactionTimedOut", "the transaction took too long and was ended, nothing was written", "try it again"),
    ("DatabaseUnavailable", "the database is down on that server", "its logs say why; a full disk stops it too"),
    (
        "TransactionStartFailed",
        "the database has stopped on that server",
        "its logs say why, a full disk may be; restart it",
    ),
    ("TransactionLogError", "the server cannot write its log, nothing was written", "is its disk full?"),
)


_ROOM = 8 << 20  # bytes; the engine writes its log in pieces of some megabytes

_NARROWER = (
    "narrow it, use LIMIT, count within one neuron at a time, or raise TOPOSTRATA_ENGINE_MEMORY; "
    "`topostrata history`, `evolution`, `survival` and `core` read numbers of all connections off the masks"
)
# What the embedded engine says where one of its own limits is reached.
_CROWDED = "the queries running now already hold"
_TOO_MUCH = ("exceeding the maximum", "Limit of allowed", "heap budget exceeded", "too many", "nesting depth")


def check_version(agent: str, location: str) -> None:
    """Refuse a Neo4j older than 5, whose Cypher lacks what the queries need. ``agent`` is the server's own word."""
    version = re.match(r"Neo4j/v?(\d+)", agent)
    if version and int(version[1]) < OLDEST_NEO4J:
        raise StoreUnavailableError(
            f"{location}: expected Neo4j {OLDEST_NEO4J} or later, found {agent}",
            hint="tested are 5.26 and 2026.08; an embedded archive needs no server",
        )


def translate(error: Exception, location: str, database: str | None = None) -> TopostrataError:
    """The failure of a query of ours, or of reaching the database at all."""
    if not isinstance(error, bolt.Neo4jError):
        return _unreachable(error, location)
    code = error.code or ""
    if "DatabaseNotFound" in code:
        return StoreUnavailableError(
            f"{location}: the server has no database {database!r}",
            hint="set TOPOSTRATA_NEO4J_DATABASE; Neo4j Community has one, neo4j",
        )
    for part, meaning, hint in _CODES:
        if part in code:
            return StoreUnavailableError(f"{location}: {meaning}", hint=hint)
    if isinstance(error, bolt.AuthError):
        return StoreUnavailableError(f"{location}: user or password is wrong", hint=_LOGIN)
    if isinstance(error, bolt.ConstraintError):
        return ConflictError(
            f"{location}: something of that id is in the database already and hangs on no run; nothing was written: "
            f"{first_line(error)}",
            hint="what remains of a run that was deleted by hand: `topostrata gc` takes it away",
        )
    return StoreUnavailableError(f"{location}: the database refused: {code}: {first_line(error)}")


def told_of_full_disk(error: Exception, directory: str) -> EngineError | None:
    """What the embedded engine could not write for want of room; of that it says itself only that it cannot go on.

    For failures of writes only: a read fails for reasons of its own, however full the disk is.
    """
    if not isinstance(error, bolt.Neo4jError) or isinstance(error, bolt.ConstraintError):
        return None
    try:
        if shutil.disk_usage(directory).free > _ROOM:
            return None
    except OSError:  # the directory is gone
        return None
    return EngineError(
        f"{directory}: the disk is full; what was being written is not acknowledged",
        hint="free some space and try again: nothing that was acknowledged is lost",
    )


def took_too_long(timeout_s: float) -> LimitError:
    """A user's query that was given up."""
    return LimitError(f"the query took longer than {timeout_s:g} s", hint="narrow it, or start from an indexed id")


def broke_the_database(why: str | None) -> LimitError:
    """A user's query under which the connection was lost, and why the engine died, where that is known."""
    which = "which probably ran out of memory" if why is None else f"which died: {why}"
    return LimitError(
        f"the query broke the connection to the database, {which}; it is not asked again",
        hint="narrow it, or use LIMIT",
    )


def translate_user(error: bolt.Neo4jError, timeout_s: float) -> TopostrataError | None:
    """The failure of a user's query, or ``None`` where the query is not at fault."""
    code, text = error.code or "", first_line(error)
    if isinstance(error, bolt.AuthError) or "DatabaseNotFound" in code or "DatabaseUnavailable" in code:
        return None
    if "Forbidden" in code or "AccessMode" in code or "Security" in code or "ReadOnly" in code:
        return QueryRefusedError(f"the query wants more than to read: {text}", hint="queries of users are read-only")
    if "OutOfMemory" in code:
        return LimitError("the query needs more memory than the database gives it", hint="narrow it, or use LIMIT")
    if "Timeout" in code or "TimedOut" in code or "timeout" in text.lower() or "Terminated" in code:
        return took_too_long(timeout_s)
    if any(words in text for words in _TOO_MUCH):
        return _too_much(text)
    return InvalidQueryError(f"the query was not understood: {text}")


def _too_much(text: str) -> LimitError:
    """What the embedded engine refused for one of its limits, or for what it had given to others' queries."""
    if _CROWDED in text:
        return LimitError(
            "the memory for queries is taken: by others that run, or by an earlier one of which it is not cleared yet",
            hint="try again in some seconds",
        )
    return LimitError(f"the query asks for too much: {text}", hint=_NARROWER)


def first_line(error: BaseException) -> str:
    """What went wrong in one line, of bounded length."""
    text = getattr(error, "message", None) or str(error) or type(error).__name__
    return str(text).strip().splitlines()[0][:500]


def _unreachable(error: Exception, location: str) -> StoreUnavailableError:
    causes = list(_causes(error))
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return StoreUnavailableError(
            f"{location}: the server's certificate is not one that this machine trusts",
            hint="set TOPOSTRATA_NEO4J_CA_FILE, or use a scheme with +ssc to trust any certificate",
        )
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return StoreUnavailableError(
            f"{location}: expected TLS, as the scheme asks for, but the server does not speak it",
            hint="use bolt:// or neo4j:// where the way to the server is safe, or turn TLS on at the server",
        )
    reason = next((cause for cause in causes if isinstance(cause, OSError)), causes[-1])
    text = getattr(reason, "strerror", None) or first_line(reason)
    return StoreUnavailableError(f"{location}: the database does not answer: {text}", hint=_DOCTOR)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from, outermost first."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__ or at.__context__
