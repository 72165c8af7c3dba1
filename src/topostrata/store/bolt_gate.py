"""A door into an embedded archive for any Bolt client, which only reads and is gone when it is closed.

The engine's accounts are made when it starts and live as long as its directory. So the door stands in front of it: a
port of its own on loopback, with a password made for this once. Who shows it in a log-in is let through with the
engine's account that can only read; all other words are passed on as they are. To write is refused by the engine. With
the process ends the port, the password, and every connection.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from topostrata.errors import InvalidInputError, StoreUnavailableError
from topostrata.store.engine_files import HOST
from topostrata.store.graph import GraphStore

USER = "explorer"

_GREETING = 20  # bytes: a magic number and four proposals of versions
_MANIFEST = b"\x00\x00\x01\xff"  # the proposal to talk of versions at length, which an engine must not take up
_LOG_INS = (b"\xb1\x01", b"\xb1\x6a")  # HELLO and LOGON, with one map
_MOST_OF_A_LOG_IN = 2**15
_BLOCK = 2**16


@dataclass(frozen=True, slots=True)
class BoltAccess:
    """What a Bolt client is told to read an archive: address, account and database."""

    uri: str
    user: str
    password: str = field(repr=False)
    database: str


@contextmanager
def opened_gate(store: GraphStore) -> Iterator[BoltAccess]:
    """The door, open as long as the context; clients that are inside are put out at its end."""
    if not store.is_embedded:
        raise InvalidInputError(
            f"{store.location}: expected an embedded archive, found a server, which any Bolt client reaches itself"
        )
    gate = _Gate(store)
    ready: Future[tuple[str, Callable[[], object]]] = Future()
    serving = threading.Thread(target=asyncio.run, args=(_serve(gate, ready),), name="topostrata-bolt", daemon=True)
    serving.start()
    uri, stop = ready.result()
    try:
        yield BoltAccess(uri, USER, gate.password, store.connection.database)
    finally:
        stop()
        serving.join()


async def _serve(gate: _Gate, ready: Future[tuple[str, Callable[[], object]]]) -> None:
    """Let clients in until told to stop; what is left of them is cancelled when this returns."""
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    try:
        server = await asyncio.start_server(gate.admit, HOST, 0)
    except OSError as error:
        ready.set_exception(StoreUnavailableError(f"{HOST}: expected a port to listen at, found: {error.strerror}"))
        return
    uri = f"bolt://{HOST}:{server.sockets[0].getsockname()[1]}"
    ready.set_result((uri, lambda: loop.call_soon_threadsafe(stopped.set)))
    await stopped.wait()
    server.close()


class _Gate:
    """Passes on what clients and the engine say to each other."""

    def __init__(self, store: GraphStore) -> None:
        self._store = store
        self.password = secrets.token_urlsafe(32)
        self._inside: set[asyncio.Task[None]] = set()

    def admit(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        """Begin to pass on what a client says, in a task of ours: the server's own are noisy when cancelled."""
        inside = asyncio.create_task(self._pass_on(client, to_client))
        self._inside.add(inside)
        inside.add_done_callback(self._inside.discard)

    async def _pass_on(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        address = urlsplit(self._store.connection.uri)
        try:
            engine, to_engine = await asyncio.open_connection(address.hostname, address.port)
        except OSError:  # it is being started again: clients try once more
            to_client.close()
            return
        directions = {
            asyncio.create_task(_copy(engine, to_client)),
            asyncio.create_task(self._forward(client, to_engine)),
        }
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
            to_engine.close()
            to_client.close()

    async def _forward(self, client: asyncio.StreamReader, to_engine: asyncio.StreamWriter) -> None:
        """The greeting, then messages, each some chunks with their sizes in front and an empty one at the end."""
        with suppress(OSError, asyncio.IncompleteReadError):
            greeting = await client.readexactly(_GREETING)
            to_engine.write(greeting.replace(_MANIFEST, b"").ljust(_GREETING, b"\0"))
            begins = True
            while True:
                chunk = await _chunk(client)
                if begins and chunk[:2] in _LOG_INS:
                    while more := await _chunk(client):
                        chunk += more
                        if len(chunk) > _MOST_OF_A_LOG_IN:
                            return
                    to_engine.write(_framed(self._swapped(chunk)) + _framed(b""))
                else:
                    to_engine.write(_framed(chunk))
                    begins = not chunk
                await to_engine.drain()

    def _swapped(self, message: bytes) -> bytes:
        """A log-in with the engine's account where it shows ours."""
        reader = self._store.connection.reader
        shown = [_field("principal", USER), _field("credentials", self.password)]
        if reader is None or not all(words in message for words in shown):
            return message
        for words, name, value in zip(shown, ("principal", "credentials"), reader, strict=True):
            message = message.replace(words, _field(name, value))
        return message


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(_BLOCK):
            target.write(data)
            await target.drain()


async def _chunk(source: asyncio.StreamReader) -> bytes:
    return await source.readexactly(int.from_bytes(await source.readexactly(2), "big"))


def _framed(chunk: bytes) -> bytes:
    return len(chunk).to_bytes(2, "big") + chunk


def _field(name: str, value: str) -> bytes:
    """A key and its text as PackStream writes them in a map."""
    return b"".join(
        (bytes((0x80 + len(data),)) if len(data) < 16 else bytes((0xD0, len(data)))) + data
        for data in (name.encode(), value.encode())
    )
