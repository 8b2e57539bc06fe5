"""Pages for operators over HTTP, in threads of their own."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, final

from featurestore.errors import StoreUnavailable

__all__ = ["Pages"]

Answer = Callable[[str, str], tuple[int, bytes, str]]

_log = logging.getLogger(__name__)
_TIMEOUT_S: Final = 2.0
_AT_ONCE: Final = 8
_MAX_PORT: Final = 65_535


@final
class Pages:
    """A listener for a few operators, without access control: listen where only they reach.

    Args:
        address: `host:port`; port 0 takes a free one.
        answer: given a path and what the caller accepts, returns status, body and content type.

    Raises:
        StoreUnavailable: the address cannot be listened on.
    """

    def __init__(self, address: str, answer: Answer) -> None:
        host, port = _parsed(address)
        try:
            family = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0][0]
            self._server = _Listener((host, port), family, answer)
        except OSError as error:
            raise StoreUnavailable(
                f"--metrics: cannot listen on {address}: {error.strerror or error}; choose another "
                f"address, or port 0 for a free port"
            ) from error
        self.port: int = self._server.server_address[1]
        self.address = f"{address.rpartition(':')[0]}:{self.port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="probe", daemon=True
        )

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End; may be called twice, and before `start`."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


@final
class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    # Two servers must not share the port by chance.
    allow_reuse_port = False

    def __init__(self, place: tuple[str, int], family: int, answer: Answer) -> None:
        self.address_family = family
        self.answer = answer
        self._room = threading.BoundedSemaphore(_AT_ONCE)
        super().__init__(place, _Request)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take one more connection; beyond a few the others wait in the system's queue."""
        self._room.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one connection in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what a page failed by; a caller that went away is nothing to log."""
        _log.debug("a page was not sent to %s", client_address, exc_info=True)


@final
class _Request(BaseHTTPRequestHandler):
    server: _Listener
    timeout = _TIMEOUT_S  # of a caller that sends or reads nothing
    server_version = "featureline"
    sys_version = ""

    def do_GET(self) -> None:
        """Send a page."""
        self._send(with_body=True)

    def do_HEAD(self) -> None:
        """Send a page's head."""
        self._send(with_body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: probes come every second."""

    def _send(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        try:
            status, body, content_type = self.server.answer(path, self.headers.get("Accept", ""))
        except Exception:  # noqa: BLE001  # the request's outermost frame
            _log.exception("%s failed", path)
            status, body = 500, b"the page failed inside the server; its log has the cause\n"
            content_type = "text/plain; charset=utf-8"
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if with_body:
            self.wfile.write(body)


def _parsed(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdecimal() or int(port) > _MAX_PORT:
        raise StoreUnavailable(
            f"--metrics: expected HOST:PORT with a port from 0 to {_MAX_PORT}, got {address!r}"
        )
    return host.strip("[]"), int(port)
