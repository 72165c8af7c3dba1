"""A TCP proxy on loopback that does harm at a chosen byte: it cuts, resets, delays, drops, or calls what it was handed.

One fault is armed at a time. It counts the bytes that flow in its direction from then on, over all connections, and
strikes in the middle of the piece that holds its byte: what comes before is passed on, what comes after is not.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

Direction = Literal["to server", "to client"]
Harm = Literal["cut", "reset", "delay", "drop", "call"]

_PIECE = 65536


@dataclass(slots=True)
class Fault:
    """One harm, and whether it was done."""

    harm: Harm
    direction: Direction
    after_bytes: int
    delay_s: float = 0.0
    call: Callable[[], None] = lambda: None
    done: threading.Event = field(default_factory=threading.Event)


class FaultProxy:
    """Stands between a client and a server; ``port`` is where the client finds it."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.passed = {"to server": 0, "to client": 0}
        self.errors: list[BaseException] = []
        self._fault: Fault | None = None
        self._lock = threading.Lock()
        self._gate = threading.Lock()  # held while a call is under way: nobody gets through meanwhile
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def arm(self, fault: Fault) -> Fault:
        """Let the fault be the next one."""
        with self._lock:
            self._fault = fault
        return fault

    def disarm(self) -> None:
        """Do no more harm; returns when a call that is under way has come back."""
        with self._lock:
            self._fault = None
        with self._gate:
            pass
        if self.errors:
            raise self.errors[0]

    def close(self) -> None:
        """Let nobody in any more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._join, args=(client,), daemon=True).start()

    def _join(self, client: socket.socket) -> None:
        with self._gate:
            try:
                server = socket.create_connection(self._upstream, timeout=5)
            except OSError:
                client.close()
                return
        server.settimeout(None)
        for peer in (client, server):
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ways: tuple[tuple[socket.socket, socket.socket, Direction], ...] = (
            (client, server, "to server"),
            (server, client, "to client"),
        )
        for source, target, direction in ways:
            threading.Thread(target=self._pump, args=(source, target, direction), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, direction: Direction) -> None:
        try:
            while piece := source.recv(_PIECE):
                fault, head = self._struck(direction, len(piece))
                if fault is None:
                    target.sendall(piece)
                    continue
                target.sendall(piece[:head])
                if not self._strike(fault, source, target):
                    return
                target.sendall(piece[head:])
        except OSError:
            pass
        finally:
            _end(source)
            _end(target)

    def _struck(self, direction: Direction, size: int) -> tuple[Fault | None, int]:
        """The fault that is due within the next bytes of this direction, and how many pass before it."""
        with self._lock:
            self.passed[direction] += size
            fault = self._fault
            if fault is None or fault.direction != direction:
                return None, 0
            if fault.after_bytes > size:
                fault.after_bytes -= size
                return None, 0
            self._fault = None
            if fault.harm == "call":
                self._gate.acquire()
            return fault, fault.after_bytes

    def _strike(self, fault: Fault, source: socket.socket, target: socket.socket) -> bool:
        """Do it; gives whether the connection lives on."""
        if fault.harm == "reset":
            for peer in (source, target):
                with contextlib.suppress(OSError):
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    peer.shutdown(socket.SHUT_RD)  # wakes the thread that reads from it, else the close would wait
                with contextlib.suppress(OSError):
                    peer.close()
        elif fault.harm == "cut":
            _end(source)
            _end(target)
        elif fault.harm in {"delay", "drop"}:
            time.sleep(fault.delay_s)
        else:
            try:
                fault.call()
            except BaseException as error:  # noqa: BLE001 - told to the test by disarm
                self.errors.append(error)
            finally:
                self._gate.release()
        fault.done.set()
        return fault.harm == "delay"


@contextlib.contextmanager
def proxied(host: str, port: int) -> Iterator[FaultProxy]:
    """A proxy in front of that server."""
    proxy = FaultProxy(host, port)
    try:
        yield proxy
    finally:
        proxy.close()


def _end(peer: socket.socket) -> None:
    with contextlib.suppress(OSError):
        peer.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        peer.close()
