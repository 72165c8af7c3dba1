"""Requests to a Topostrata service, on the standard library alone: a training job sends through it, too.

Connections are kept. What may be asked twice without harm (GET, PUT, DELETE) is asked again where the network or the
service failed, after a growing pause or the one that the service asks for. Its problems become our errors again, of the
same class and with the same words.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import select
import socket
import ssl
from collections.abc import Mapping, Sequence
from contextlib import closing
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from time import monotonic, sleep
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from topostrata import errors
from topostrata.errors import (
    Code,
    InvalidInputError,
    LimitError,
    SettingsError,
    StoreUnavailableError,
    TopostrataError,
)
from topostrata.locations import SERVICE_SCHEMES, split_uri
from topostrata.service.answers import values

JSON = "application/json"
CONNECT_S = 30.0
RETRIES = 3
_FIRST_PAUSE_S = 0.5  # doubled before each further try
_LONGEST_WAIT_S = 60.0  # of a service that asks for patience; what is longer is the caller's to decide
_LONGEST_PATIENCE_S = 600.0  # after it one try costs nobody much
_MOST_ANSWER = 2**31  # bytes of an answer that are read
_IDEMPOTENT = {"GET", "PUT", "DELETE"}
_AGAIN = {429, 502, 503, 504}
# What of a service's own surroundings is wrong is not wrong here.
_ITS_OWN = {Code.SETTINGS, Code.STORE_UNAVAILABLE, Code.ENGINE, Code.MISSING_EXTRA, Code.CLUSTER, Code.CANCELLED}
_CLASSES: dict[str, type[TopostrataError]] = {
    str(kind.code): kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, TopostrataError) and hasattr(kind, "code")
}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service answered, headers by their names in lower case.

    ``repeated``: the request was sent before, and that may have done it.
    """

    status: int
    media: str
    headers: Mapping[str, str]
    body: bytes
    repeated: bool


class Service:
    """The service at a URL, ``http://HOST:PORT`` or ``https://HOST/PATH``, and the token that it wants to see.

    ``timeout_s`` is how long an answer may take to begin; ``retries`` how often a request is sent again. Where they are
    0, a service that asked for patience by ``Retry-After`` is not asked until then.

    Raises ``SettingsError`` for a URL that is none and where the token is not the one, ``StoreUnavailableError`` where
    the service does not answer or says that it cannot now, else the error that the archive behind it raised.
    """

    def __init__(self, url: str, token: str | None, *, timeout_s: float, retries: int) -> None:
        split_uri(url, SERVICE_SCHEMES)
        self.url = url.rstrip("/")
        if token is not None and not (token and token.isascii() and token.isprintable() and " " not in token):
            raise SettingsError("token: expected visible ASCII characters, found others (a line end, a space), or none")
        self._token = token
        self._timeout_s = timeout_s
        self._retries = retries
        self._patience = 0.0  # until when it wants to rest
        self._moment: int | None = None
        self._idle: list[http.client.HTTPConnection] = []
        self._process = os.getpid()

    def at(self, moment: int) -> Service:
        """The same service over the same connections, asked about an earlier moment of its archive only."""
        service = copy(self)
        service._moment = moment  # noqa: SLF001 - of the same class
        return service

    @property
    def is_pinned(self) -> bool:
        """Whether it is asked about an earlier moment."""
        return self._moment is not None

    def close(self) -> None:
        """End the connections that are kept."""
        while self._idle:
            self._idle.pop().close()

    def value(self, kind: type[T], path: str, **query: Any) -> T:
        """The result of a GET as a value of that type."""
        return self.read(kind, self.send("GET", path, query))

    def read(self, kind: type[T], answer: Answer) -> T:
        """The value of that type which an answer holds."""
        if answer.media != values.MEDIA_TYPE:  # a login page or a proxy says 200, too
            raise StoreUnavailableError(
                f"{self.url}: expected a Topostrata service's answer, found one of {answer.media[:80] or 'no kind'}",
                hint="does something else answer at this URL, or an older version?",
            )
        try:
            return values.value_of(kind, json.loads(answer.body))
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise StoreUnavailableError(
                f"{self.url}: expected the answer of a service of this version, found another: {str(error)[:200]}",
                hint="the service and this client are to be of one version",
            ) from error

    def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        *,
        document: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        media: str = JSON,
        accept: str = values.MEDIA_TYPE,
        match: str | None = None,
        once: bool = False,
    ) -> Answer:
        """Send a request with these parameters and that body, and give its answer, or raise the error it means.

        ``once``: it is not sent again, whatever its method.
        """
        if self._moment is not None:
            if method != "GET" and path != path_of("cypher"):  # which the service itself refuses, with the reason
                raise InvalidInputError(
                    f"moment {self._moment}: expected a question, found what would write",
                    hint="a moment is only read: write without one, or say that the answer is not to be kept",
                )
            query = {**(query or {}), "as_of": self._moment}
        body = body if document is None else _text(document)
        optional = {
            "If-Match": match,
            "Content-Type": None if body is None else media,
            "Authorization": None if self._token is None else f"Bearer {self._token}",
        }
        headers = {"Accept": accept} | {name: text for name, text in optional.items() if text is not None}
        parameters = urlencode([pair for name, value in (query or {}).items() for pair in _pairs(name, value)])
        target = urlsplit(self.url).path + path + (f"?{parameters}" if parameters else "")
        tries = 1 + (self._retries if method in _IDEMPOTENT and not once else 0)
        for at in range(tries):
            self._wait()
            outcome = self._tried(method, target, body, headers, repeated=at > 0)
            if isinstance(outcome, Answer):
                return outcome
            failure, hopeless = outcome
            if hopeless or at == tries - 1:
                break
            sleep(_FIRST_PAUSE_S * 2**at * random.uniform(0.5, 1))  # noqa: S311 - so that clients do not come at once
        raise failure

    def _tried(
        self, method: str, target: str, body: bytes | None, headers: dict[str, str], *, repeated: bool
    ) -> Answer | tuple[TopostrataError, bool]:
        """The answer; or the error that it means, and whether another try would end alike."""
        try:
            answer = self._once(method, target, body, headers, repeated=repeated)
        except (OSError, http.client.HTTPException) as error:
            failure = StoreUnavailableError(f"{self.url}: the service does not answer: {error or type(error).__name__}")
            failure.__cause__ = error
            return failure, isinstance(error, ssl.SSLCertVerificationError)
        # What a first try has deleted is not there for the next.
        if answer.status < 300 or (repeated and method == "DELETE" and answer.status == 404):
            return answer
        return self._error(answer), answer.status not in _AGAIN

    def _wait(self) -> None:
        """Let the service rest as long as it asks for; where that is too long for the caller, say so."""
        left = self._patience - monotonic()
        if left <= 0:
            return
        if left > (_LONGEST_WAIT_S if self._retries else 0):
            raise StoreUnavailableError(f"{self.url}: the service asks for {left:.0f} s more of patience (Retry-After)")
        sleep(left)

    def _once(self, method: str, target: str, body: bytes | None, sent: dict[str, str], *, repeated: bool) -> Answer:
        connection = self._connection(fresh=method not in _IDEMPOTENT)
        try:
            connection.request(method, target, body, sent)
            response = connection.getresponse()
            if response.status in {429, 503}:
                self._patience = monotonic() + _retry_after(response.headers.get("Retry-After"))
            with closing(response):
                data = response.read(_MOST_ANSWER)
                whole = response.isclosed()
        except BaseException:
            connection.close()
            raise
        if not whole:
            connection.close()
            if len(data) < _MOST_ANSWER:
                raise http.client.IncompleteRead(data)
            raise LimitError(f"{self.url}: expected an answer of less than {_MOST_ANSWER} bytes, found more")
        if response.will_close:
            connection.close()
        else:
            self._idle.append(connection)
        headers = {name.lower(): text for name, text in response.headers.items()}
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        return Answer(response.status, kind, headers, data, repeated)

    def _connection(self, *, fresh: bool) -> http.client.HTTPConnection:
        """One that is open, or a new one; what must not be sent twice goes over a new one, which nobody has closed."""
        if self._process != os.getpid():  # forked: these connections are those of the other process, too
            self._idle, self._process = [], os.getpid()
        while self._idle and not fresh:
            connection = self._idle.pop()
            if connection.sock is not None and not _readable(connection.sock):
                return connection
            connection.close()
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=min(CONNECT_S, self._timeout_s))
        connection.connect()
        assert connection.sock is not None  # noqa: S101 - it is connected
        connection.sock.settimeout(self._timeout_s)
        return connection

    def _error(self, answer: Answer) -> TopostrataError:
        problem = _problem(answer.body)
        reason = http.client.responses.get(answer.status, "no reason")
        detail = str(problem.get("detail") or problem.get("title") or reason)[:2000]
        code, hint = str(problem.get("code")), problem.get("hint")
        kind = _CLASSES.get(code)
        if kind is not None and code not in _ITS_OWN:
            return kind(detail, hint=None if hint is None else str(hint)[:2000])
        if answer.status in {401, 403}:
            return SettingsError(
                f"the service refuses the token: {detail}",
                hint="TOPOSTRATA_API_TOKEN or token= is one of its tokens, with the scope that this needs",
            )
        # Anything else comes from a service in trouble, or from what stands before it.
        return StoreUnavailableError(f"{self.url}: the service does not answer this now ({answer.status}): {detail}")


def _readable(kept: socket.socket) -> bool:
    """Whether something came on a connection that nobody asked over: that it was closed."""
    poll = select.poll()
    poll.register(kept, select.POLLIN)
    return bool(poll.poll(0))


def error_of(code: str | None, message: str) -> TopostrataError:
    """The error of that code; what went wrong in the surroundings of a service is told as the service's."""
    kind = _CLASSES.get(str(code))
    return StoreUnavailableError(message) if kind is None or code in _ITS_OWN else kind(message)


def path_of(*parts: str | int) -> str:
    """The path of a resource: ``path_of("runs", "w0")`` is ``/v1/runs/w0``."""
    return "/v1/" + "/".join(quote(str(part), safe="") for part in parts)


def _text(document: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(document, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"expected what JSON can hold, found something else: {error}") from None


def _pairs(name: str, value: Any) -> Sequence[tuple[str, str]]:
    """A parameter as a URL has it; None is not there, several come one by one."""
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return [pair for entry in value for pair in _pairs(name, entry)]
    if isinstance(value, bool):
        return [(name, "true" if value else "false")]
    return [(name, str(value))]


def _retry_after(text: str | None) -> float:
    """Seconds from now: the header gives them, or a moment."""
    if text is None:
        return 0.0
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return 0.0
        seconds = (moment - datetime.now(moment.tzinfo)).total_seconds()
    return min(max(0.0, seconds), _LONGEST_PATIENCE_S) if seconds == seconds else 0.0  # noqa: PLR0124 - nan


def _problem(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
