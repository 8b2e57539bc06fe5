"""The HTTP listener for operators: /metrics, /healthz and /readyz."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, final

from featurestore.errors import StoreUnavailable
from featurestore.server.snapshot import STALE_S, Snapshot, page

__all__ = ["Probe", "readiness"]

_log = logging.getLogger(__name__)
_TIMEOUT_S: Final = 2.0
_AT_ONCE: Final = 8
_MAX_PORT: Final = 65_535
_CACHE_S: Final = 0.2


def readiness(
    snapshots: Sequence[Snapshot], *, workers: int = 1, draining: bool = False
) -> dict[str, Any]:
    """Say whether a server should get calls, and what each check found.

    Args:
        snapshots: the latest of every worker of the run, also of those that are gone.
        workers: how many there should be; one that lives is enough.
        draining: the server is ending.

    Returns:
        `{"ready": bool, "workers": int, "checks": {name: {"ok": bool, "detail": str}}}`. A check
        of a store holds when it holds in every living worker.

    >>> readiness([], draining=True)["checks"]["draining"]
    {'ok': False, 'detail': 'the server is shutting down'}
    """
    living = [snapshot for snapshot in snapshots if snapshot.age_s() <= STALE_S]
    problems: dict[str, str] = {"draining": "the server is shutting down" if draining else ""}
    if living:
        problems["workers"] = ""
    elif snapshots:
        age = min(snapshot.age_s() for snapshot in snapshots)
        problems["workers"] = (
            f"no worker has looked at its stores for {age:.0f} s, expected every second: it is "
            f"gone, or a store does not answer"
        )
    else:
        problems["workers"] = "no worker has started yet"
    for snapshot in living:
        for name, problem in snapshot.checks.items():
            if problem or name not in problems:
                problems[name] = problem
    checks = {
        name: {"ok": not problem, "detail": problem or "ok"} for name, problem in problems.items()
    }
    checks["workers"]["detail"] = problems["workers"] or f"{len(living)} of {workers} report"
    return {
        "ready": not any(problems.values()),
        "workers": len(living),
        "checks": checks,
    }


@final
class Probe:
    """Serves the pages on a port of its own, in threads, apart from the calls.

    /metrics has what `featurestore.server.snapshot.page` writes. /healthz answers 200 while the
    process lives. /readyz answers 200, or 503 when the server should get no calls; its JSON body
    names each check. There is no access control: listen where only operators reach.

    Args:
        address: `host:port`; port 0 takes a free one.
        read: returns the latest snapshot of every worker: `Reports.read`, or of one worker in this
            process `lambda: [monitor.snapshot()]`.
        workers: how many there should be.
        home: where `featureline top` finds the address; None: nowhere.

    Raises:
        StoreUnavailable: the address cannot be listened on.
    """

    def __init__(
        self,
        address: str,
        read: Callable[[], Sequence[Snapshot]],
        *,
        workers: int = 1,
        home: Path | None = None,
    ) -> None:
        host, port = _parsed(address)
        self._draining = False
        self._workers = workers
        self._read = read
        self._latest: tuple[float, Sequence[Snapshot]] = (-_CACHE_S, ())
        self._lock = threading.Lock()
        try:
            family = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0][0]
            self._server = _Listener((host, port), family, self)
        except OSError as error:
            raise StoreUnavailable(
                f"--metrics: cannot listen on {address}: {error.strerror or error}; choose another "
                f"address, or port 0 for a free port"
            ) from error
        self.port: int = self._server.server_address[1]
        self.address = f"{address.rpartition(':')[0]}:{self.port}"
        self._note = None if home is None else home / "run" / f"probe-{os.getpid()}.json"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="probe", daemon=True
        )

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()
        if self._note is not None:
            try:
                self._note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._note.write_text(json.dumps({"metrics": self.address}), encoding="utf-8")
            except OSError as error:
                _log.warning("featureline top will not find this server by its home: %s", error)

    def drain(self) -> None:
        """Say that no more calls are wanted; /metrics and /healthz go on."""
        self._draining = True

    def stop(self) -> None:
        """End; may be called twice, and before `start`."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        if self._note is not None:
            self._note.unlink(missing_ok=True)

    def answer(self, path: str, accept: str) -> tuple[int, bytes, str]:
        """Return status, body and content type of a page."""
        if path == "/metrics":
            body, content_type = page(self._snapshots(), accept)
            return 200, body, content_type
        if path == "/healthz":
            return 200, _json({"alive": True, "pid": os.getpid()}), "application/json"
        if path == "/readyz":
            found = readiness(self._snapshots(), workers=self._workers, draining=self._draining)
            return 200 if found["ready"] else 503, _json(found), "application/json"
        pages = "/metrics, /healthz or /readyz"
        return 404, f"no such page: expected {pages}\n".encode(), "text/plain; charset=utf-8"

    def _snapshots(self) -> Sequence[Snapshot]:
        # Many who ask at once share one look.
        with self._lock:
            read_at, snapshots = self._latest
            if time.monotonic() - read_at >= _CACHE_S:
                snapshots = self._read()
                self._latest = (time.monotonic(), snapshots)
            return snapshots


@final
class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    # Two servers must not share the port by chance.
    allow_reuse_port = False

    def __init__(self, place: tuple[str, int], family: int, probe: Probe) -> None:
        self.address_family = family
        self.probe = probe
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
            status, body, content_type = self.server.probe.answer(
                path, self.headers.get("Accept", "")
            )
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


def _json(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"
