"""`zelo serve`: from an address and settings to a process that answers until it is told to stop."""

from __future__ import annotations

import contextlib
import ipaddress
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from zelo.errors import InputError
from zelo.serve.app import make_app
from zelo.serve.gate import Settings
from zelo.serve.loading import Served

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
"""What a browser on this machine may call the server."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Server(uvicorn.Server):
    """Stops at SIGTERM and Ctrl-C after the requests under way, and then ends with exit code 0: it did what it was told."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while it runs; uvicorn itself would raise them again at the end."""
        before: dict[signal.Signals, Any] = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError):  # not the main thread: whoever started it there stops it by `should_exit`
                before[number] = signal.signal(number, self.handle_exit)
        try:
            yield
        finally:
            for taken, handler in before.items():
                signal.signal(taken, handler)


def make_server(served: Served, settings: Settings) -> Server:
    """Return a server that is ready to run on a socket."""
    config = uvicorn.Config(
        make_app(served, settings),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        timeout_graceful_shutdown=max(1, round(settings.drain)),
        timeout_keep_alive=30,
        backlog=2048,
    )
    return Server(config)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one.

    Raises:
        InputError: the address cannot be had.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(2048)
    except (OSError, OverflowError) as error:
        raise InputError(f"cannot listen ({error})", where=f"{host}:{port}", remedy="choose another --host or --port") from error
    return sock


def serve(served: Served, settings: Settings, host: str, port: int, tell: Callable[[str], None]) -> None:
    """Answer until SIGTERM or Ctrl-C; `tell` gets the lines for the user."""
    sock = listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    tell(f"serving {served.name} at http://{shown}:{sock.getsockname()[1]}/")
    if not settings.keys and not is_loopback(host):
        tell("no keys: whoever reaches this address can use it; ZELO_SERVE_KEYS sets keys")
    server = make_server(served, settings)
    server.run(sockets=[sock])
    tell("stopped")
