"""All errors of Topostrata, as a tree by what a handler does, and the codes by which programs tell them apart.

* ``InputError``: the input is wrong; correct it and ask again.
* ``NotFoundError``: a run, snapshot, layer or query of that name does not exist.
* ``ConflictError``: the archive holds something else already; nothing was written.
* ``LimitError``: an input or an answer is larger than its limit; ask for less.
* ``UnavailableError``: a database, engine, cluster, extra or newer version is missing; provide it and ask again.
* ``CorruptError``: what is stored is damaged; ``topostrata verify`` says what else is.
* ``Cancelled``: the caller cancelled the work.

An error says what was expected, what was found, where, and what to do. Many classes also derive from the builtin that
a caller would look for (``ValueError``, ``LookupError``, ...). Codes are append-only: a released one never changes its
meaning.
"""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """Stable names of what can go wrong, used in REST problems, in ``--json`` errors and in logs."""

    # The caller's input is wrong: correct it and ask again.
    INVALID_TOPOLOGY = "invalid-topology"
    INVALID_REF = "invalid-ref"
    INVALID_INPUT = "invalid-input"
    INVALID_QUERY = "invalid-query"
    NOT_COMPARABLE = "not-comparable"
    SETTINGS = "settings"
    # There is nothing of that name.
    NOT_FOUND = "not-found"
    # The archive holds something else already: nothing was written.
    CONFLICT = "conflict"
    STEP_ORDER = "step-order"
    CHANGED = "changed"
    LINEAGE_CYCLE = "lineage-cycle"
    # Not allowed, or more than is allowed.
    QUERY_REFUSED = "query-refused"
    LIMIT = "limit"
    # The archive itself is damaged: run `topostrata verify`.
    CORRUPT = "corrupt"
    # The surroundings: an engine, an extra, a platform.
    STORE_UNAVAILABLE = "store-unavailable"
    ENGINE = "engine"
    MISSING_EXTRA = "missing-extra"
    UNSUPPORTED_FORMAT = "unsupported-format"
    CLUSTER = "cluster"
    # The caller cancelled the work.
    CANCELLED = "cancelled"


# The messages of these are about where an archive is, not about what was asked: a service logs and does not send them.
OF_THE_SERVER = frozenset({Code.STORE_UNAVAILABLE, Code.ENGINE, Code.CORRUPT, Code.SETTINGS, Code.MISSING_EXTRA})


class TopostrataError(Exception):
    """The root of the tree: a message, a stable ``code`` and, where there is one, a ``hint`` at what to do.

    >>> error = NotFoundError("run 'w0': expected it in the archive, found none", hint="it is empty")
    >>> error.code.value, str(error)
    ('not-found', "run 'w0': expected it in the archive, found none (it is empty)")
    """

    code: Code

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message} ({self.hint})"


class InputError(TopostrataError, ValueError):
    """The input is wrong; nothing of it was stored. Correct it and ask again."""


class UnavailableError(TopostrataError):
    """Something around the archive is missing: a database, an engine, an extra, a cluster, a newer version."""


class InvalidTopologyError(InputError):
    """A layer, space or topology breaks a rule of its type."""

    code = Code.INVALID_TOPOLOGY


class InvalidRefError(InputError):
    """A ref such as ``run@step`` cannot be read."""

    code = Code.INVALID_REF


class InvalidInputError(InputError):
    """A file, a directory or a value is not as expected; nothing of it was stored."""

    code = Code.INVALID_INPUT


class InvalidQueryError(InputError):
    """A Cypher query does not parse or lacks a parameter."""

    code = Code.INVALID_QUERY


class NotComparableError(InputError):
    """Two topologies have no distance: their depth, wiring or labelled spaces differ."""

    code = Code.NOT_COMPARABLE


class SettingsError(InputError):
    """A setting is unknown or has a value that is not allowed."""

    code = Code.SETTINGS


class NotFoundError(TopostrataError, LookupError):
    """The archive has no such run, snapshot or layer."""

    code = Code.NOT_FOUND


class ConflictError(TopostrataError, ValueError):
    """The archive already holds something else under this name; nothing was written."""

    code = Code.CONFLICT


class StepOrderError(ConflictError):
    """A snapshot's step is smaller than the last one of its run; to go back in time, fork the run."""

    code = Code.STEP_ORDER


class ChangedError(ConflictError):
    """What was to be changed is not any more what the caller saw; read it again and decide anew."""

    code = Code.CHANGED


class LineageCycleError(ConflictError):
    """A declared parent would make a run its own ancestor."""

    code = Code.LINEAGE_CYCLE


class QueryRefusedError(InputError, PermissionError):
    """A Cypher query wants to write, or more than a reader may."""

    code = Code.QUERY_REFUSED

    # PermissionError is an OSError, whose __str__ would look for errno and file name.
    __str__ = TopostrataError.__str__


class LimitError(TopostrataError, ValueError):
    """An input or an answer is larger than its limit."""

    code = Code.LIMIT


class CorruptError(TopostrataError, ValueError):
    """Stored bytes are damaged: a checksum, digest or length is wrong."""

    code = Code.CORRUPT


class StoreUnavailableError(UnavailableError, ConnectionError):
    """The graph database does not answer."""

    code = Code.STORE_UNAVAILABLE

    __str__ = TopostrataError.__str__


class EngineError(UnavailableError, RuntimeError):
    """The embedded engine cannot be started or run here."""

    code = Code.ENGINE


class ClusterError(UnavailableError, RuntimeError):
    """A Dask cluster cannot be reached or cannot compute the distances; finished tiles are kept."""

    code = Code.CLUSTER


def install_command(*extras: str) -> str:
    """The command that installs Topostrata with these extras, from a checkout: no package index has it yet.

    >>> install_command("distance", "plot")
    "pip install '.[distance,plot]' in a checkout of Topostrata"
    """
    return f"pip install '.[{','.join(extras)}]' in a checkout of Topostrata"


class MissingExtraError(UnavailableError, ImportError):
    """An optional part is not installed; the message holds the command that installs it."""

    code = Code.MISSING_EXTRA

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the extra [{extra}], which is not installed",
            hint=install_command(extra),
        )

    __str__ = TopostrataError.__str__


class UnsupportedFormatError(UnavailableError, ValueError):
    """An archive or file was written in a format number this version does not know."""

    code = Code.UNSUPPORTED_FORMAT


class Cancelled(TopostrataError):  # noqa: N818 - not an error: the caller asked for it
    """The caller's ``cancel`` was set; what was finished is kept."""

    code = Code.CANCELLED

    def __init__(self, message: str = "cancelled", *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
