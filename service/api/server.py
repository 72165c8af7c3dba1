"""Running the API: uvicorn on a loopback address, or on any address with a token."""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from topostrata.errors import MissingExtraError, SettingsError, StoreUnavailableError
from topostrata.service.tokens import TokenFile, tokens_path
from topostrata.settings import Settings, load_settings, others_can_read

if TYPE_CHECKING:
    from topostrata.service.api.auth import Guard

_SWITCH_S = 0.001  # how long a computing thread keeps the interpreter while the one that answers wants it
_THREADS_S = 1.0  # that threads have to end by themselves once the service has
_CLOSING_S = 15.0  # that a process has, after its answers, for whoever works beside it and for the archive

logger = logging.getLogger(__name__)


class Manner(NamedTuple):
    """How a service is run: the files of its certificate and key, the path that a proxy has it under, its log.

    ``processes`` is how many answer on its socket.
    """

    tls_cert: Path | None = None
    tls_key: Path | None = None
    root_path: str = ""
    json_log: bool = False
    processes: int = 1


PLAIN = Manner()


def run_server(
    store: str | None, *, host: str, port: int, ready: Callable[[str, list[str]], None], manner: Manner = PLAIN
) -> None:
    """Serve until SIGINT or SIGTERM. ``ready`` gets the URL and the host names once requests are answered."""
    try:
        import uvicorn  # noqa: F401, PLC0415 - behind an extra

        from topostrata.archive import open_archive  # noqa: PLC0415
        from topostrata.service.api.access import LOOPBACK  # noqa: PLC0415
        from topostrata.service.api.processes import keep_answering  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("the REST API", "server") from error

    _check(manner)
    settings = load_settings()
    address = _address(host, guarded=_guard(settings, store).is_closed())
    listening = _listen(address, port)
    shown = f"[{address}]" if address.version == 6 else str(address)
    url = f"{'http' if manner.tls_cert is None else 'https'}://{shown}:{listening.getsockname()[1]}"
    hosts = settings.api_names() | (set() if address.is_unspecified else {shown})

    def up() -> None:
        ready(url, sorted(hosts | LOOPBACK))

    with listening:
        answering = partial(_answer, listening, store, hosts, manner)
        if manner.processes == 1:
            answering(up)
            return
        with open_archive(store):  # what is wrong with it is said once, and its engine stays
            keep_answering(manner.processes, answering, up, end_s=settings.stop_timeout_s + _CLOSING_S)


def _answer(
    listening: socket.socket, store: str | None, hosts: frozenset[str], manner: Manner, up: Callable[[], None]
) -> None:
    """Answer on a socket until SIGINT or SIGTERM; ``up`` is called once requests are answered.

    What is still computed then, for an answer that was cut off, is no reason to stay: it ends with the process.
    """
    try:
        _answer_until_told(listening, store, hosts, manner, up)
    except SystemExit as end:
        _end_threads(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise
    except KeyboardInterrupt:
        _end_threads(128 + signal.SIGINT)
        raise


def _end_threads(status: int) -> None:
    """End the process, with this status, where threads go on for which the interpreter would wait."""
    deadline = monotonic() + _THREADS_S
    threads = [
        thread for thread in threading.enumerate() if thread is not threading.main_thread() and not thread.daemon
    ]
    for thread in threads:
        thread.join(max(0.0, deadline - monotonic()))
    if any(thread.is_alive() for thread in threads):
        logger.warning("what was still computed when the service was stopped ends with it")
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _answer_until_told(
    listening: socket.socket, store: str | None, hosts: frozenset[str], manner: Manner, up: Callable[[], None]
) -> None:
    import uvicorn  # noqa: PLC0415 - behind an extra

    from topostrata.archive import open_archive  # noqa: PLC0415
    from topostrata.service.api.app import create_app  # noqa: PLC0415
    from topostrata.service.api.connections import PatientProtocol, most_connections  # noqa: PLC0415
    from topostrata.service.api.logs import log_as_json  # noqa: PLC0415

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                up()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await app.state.watch.close()  # streams of events end: the server waits for what it still answers
            await super().shutdown(sockets)

    settings = load_settings()
    # uvicorn shuts down at SIGTERM and then raises the signal again; with this handler the process exits with 0.
    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit(0))
    # The archive keeps its settings for as long as it is open, and does not need the token.
    with open_archive(store, settings=settings.model_copy(update={"api_token": None})) as archive:
        app = create_app(archive=archive, guard=_guard(settings, store), hosts=hosts, works_on=store or settings.store)
        PatientProtocol.patience_s = settings.request_timeout_s
        PatientProtocol.most = most_connections()
        sys.setswitchinterval(_SWITCH_S)
        config = uvicorn.Config(
            app,
            http=PatientProtocol,
            ws="none",
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=settings.stop_timeout_s,
            root_path=manner.root_path,
            ssl_certfile=manner.tls_cert,
            ssl_keyfile=manner.tls_key,
        )
        if manner.json_log:
            log_as_json()
        Server(config).run([listening])


def _guard(settings: Settings, store: str | None) -> Guard:
    from topostrata.service.api.auth import Guard  # noqa: PLC0415 - behind an extra

    return Guard(settings.api_secret(), _kept(settings, store))


def _check(manner: Manner) -> None:
    if (manner.tls_cert is None) is not (manner.tls_key is None):
        raise SettingsError("tls: expected a certificate and its key, found one without the other")
    for name, file in (("tls-cert", manner.tls_cert), ("tls-key", manner.tls_key)):
        if file is not None and not file.is_file():
            raise SettingsError(f"{name}: expected a file, found none at {file}")
    if manner.tls_key is not None and others_can_read(manner.tls_key):
        raise SettingsError(
            f"tls-key: expected a file that only its owner can read, found {manner.tls_key}, which others can",
            hint=f"chmod 600 {manner.tls_key}",
        )
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", manner.root_path):
        raise SettingsError(f"root-path: expected a path such as /archive, found {manner.root_path!r}")


def _kept(settings: Settings, store: str | None) -> TokenFile | None:
    """The tokens beside an embedded archive, or where the setting says."""
    if settings.api_tokens_file is None and "://" in (store or settings.store):
        return None
    return TokenFile(tokens_path(settings, store))


def _address(host: str, *, guarded: bool) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host.strip("[]"))
    except ValueError:
        raise SettingsError(f"host: expected an address such as 127.0.0.1 or ::1, found {host!r}") from None
    if not (guarded or address.is_loopback):
        raise SettingsError(
            f"host: expected a loopback address (127.0.0.1, ::1) where no token is set, found {host!r}",
            hint="`topostrata token create NAME --scope read` makes a token, which every request then needs; so does "
            "TOPOSTRATA_API_TOKEN_FILE",
        )
    return address


def _listen(address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> socket.socket:
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    # asyncio turns Nagle's algorithm off (44 ms an answer on a kept connection) where the protocol says TCP, not 0.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((str(address), port))
    except OSError as error:
        listening.close()
        raise StoreUnavailableError(
            f"{address}:{port}: expected a free port, found {error.strerror}", hint="--port 0 takes a free one"
        ) from error
    return listening
