"""The socket that the REST service listens on."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

from topostrata.service.api import server


def test_answers_are_sent_at_once() -> None:
    """Nagle's algorithm is off on accepted connections: with it, each answer on a kept one waits 44 ms for a packet."""

    async def serve() -> int:
        off: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def accepted(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted_socket = writer.get_extra_info("socket")
            off.set_result(accepted_socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listening = server._listen(ipaddress.ip_address("127.0.0.1"), 0)
        async with await asyncio.start_server(accepted, sock=listening):
            _, writer = await asyncio.open_connection(*listening.getsockname())
            value = await off
            writer.close()
            await writer.wait_closed()
            return value

    assert asyncio.run(serve()) != 0
