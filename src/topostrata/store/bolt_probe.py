"""The smallest conversation in Bolt, to learn whether an engine is there and answers an account.

The driver would say it too, but importing it costs the supervisor 45 MB for as long as it lives, and a quarter of a
second of the core on which Java starts. Everything else said to a database goes through the driver (``graph.py``).
"""

from __future__ import annotations

import socket

_GREETING = b"\x60\x60\xb0\x17" + bytes((0, 0, 4, 4)) + bytes(12)  # Bolt 4.4, and no second choice
_ACCEPTED = bytes((0, 0, 4, 4))
_HELLO, _RUN, _PULL = b"\xb1\x01", b"\xb3\x10", b"\xb1\x3f"
_SUCCESS, _FAILURE = 0x70, 0x7F


def greets(address: str, port: int, *, timeout_s: float = 2.0) -> bool:
    """Whether an engine runs there and is awake: a stopped process accepts connections too, but greets nobody."""
    try:
        with socket.create_connection((address, port), timeout=timeout_s) as connection:
            return _greet(connection)
    except OSError:
        return False


def answers(address: str, port: int, database: str, user: str, password: str, *, timeout_s: float = 10.0) -> str | None:
    """Ask ``RETURN 1`` in the database: None if it was answered, else what came instead."""
    hello = {"user_agent": "topostrata/supervisor", "scheme": "basic", "principal": user, "credentials": password}
    try:
        with socket.create_connection((address, port), timeout=timeout_s) as connection:
            if not _greet(connection):
                return "no Bolt 4.4"
            for message in (
                _HELLO + _packed(hello),
                _RUN + _text("RETURN 1") + _packed({}) + _packed({"db": database, "mode": "r"}),
                _PULL + b"\xa1" + _text("n") + b"\xff",  # -1: all of it
            ):
                connection.sendall(len(message).to_bytes(2, "big") + message + b"\0\0")
                reply = _reply(connection)
                if reply[1] == _FAILURE:
                    return reply[2:].decode("utf-8", "replace")
            return None
    except (OSError, EOFError) as error:
        return str(error)


def _greet(connection: socket.socket) -> bool:
    connection.sendall(_GREETING)
    # A connection to a free port can meet itself and read its own words: they are not the version we accept.
    return connection.recv(4) == _ACCEPTED


def _reply(connection: socket.socket) -> bytes:
    """The next message that ends an answer; the records before it are passed over."""
    while True:
        message = b""
        while size := int.from_bytes(_exactly(connection, 2), "big"):
            message += _exactly(connection, size)
        if len(message) > 1 and message[1] in (_SUCCESS, _FAILURE):
            return message


def _exactly(connection: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        more = connection.recv(size - len(got))
        if not more:
            raise EOFError("the engine closed the connection")
        got += more
    return got


def _packed(words: dict[str, str]) -> bytes:
    return bytes((0xA0 + len(words),)) + b"".join(_text(key) + _text(value) for key, value in words.items())


def _text(text: str) -> bytes:
    data = text.encode()
    return (bytes((0x80 + len(data),)) if len(data) < 16 else bytes((0xD0, len(data)))) + data
