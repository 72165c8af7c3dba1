"""Running the API: uvicorn on a loopback address."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable

from stratigraph.errors import MissingExtraError, SettingsError, StoreUnavailableError


def run_server(store: str | None, *, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; ``ready`` is told the URL once requests are answered."""
    try:
        import uvicorn  # noqa: PLC0415 - behind an extra

        from stratigraph.service.api.app import create_app  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("the REST API", "server") from error

    address = _loopback(host)
    listening = _listen(address, port)
    shown = f"[{address}]" if address.version == 6 else str(address)
    url = f"http://{shown}:{listening.getsockname()[1]}"

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                ready(url)

    config = uvicorn.Config(create_app(store), log_level="warning", server_header=False, proxy_headers=False)
    with listening:
        Server(config).run([listening])


def _loopback(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host.strip("[]"))
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise SettingsError(
            f"host: expected a loopback address (127.0.0.1, ::1), found {host!r}",
            hint="without tokens the API must not be reachable from outside",
        )
    return address


def _listen(address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((str(address), port))
    except OSError as error:
        listening.close()
        raise StoreUnavailableError(
            f"{address}:{port}: expected a free port, found {error.strerror}", hint="--port 0 takes a free one"
        ) from error
    return listening
