"""Carry TCP connections from ports here to other hosts: ``python forward.py LISTEN:HOST:PORT...``.

docker-compose.yml shows Neo4j Browser by it: Neo4j itself has no network from which a port could be published.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys

_CHUNK = 2**16


async def main(routes: list[str]) -> None:
    """Listen on every port until SIGTERM."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    servers = [await _listen(*route.split(":")) for route in routes]
    await ended.wait()
    for server in servers:
        server.close()


async def _listen(listen: str, host: str, port: str) -> asyncio.Server:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection(host, int(port))
        except OSError as error:
            print(f"{host}:{port}: {error}", file=sys.stderr)
            writer.close()
            return
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))
        there_writer.close()
        writer.close()

    return await asyncio.start_server(accept, "0.0.0.0", int(listen))  # noqa: S104 - of the container


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(_CHUNK):
        writer.write(chunk)
        await writer.drain()
    writer.write_eof()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
