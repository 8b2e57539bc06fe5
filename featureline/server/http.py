"""The HTTP listener of a server: one table of routes, on a thread and event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import threading
from collections.abc import Mapping
from typing import Any, Final, final

from featureline.server.httpcall import Door, refusal, reply
from featureline.server.httplineage import OpenLineageRoutes
from featureline.server.listener import bound_socket
from featureline.server.settings import Tls
from featurestore.embedded import EmbeddedStore
from featurestore.errors import StoreUnavailable

__all__ = ["HttpServer", "application", "http_is_available"]

_START_S: Final = 30.0
_POLL_S: Final = 0.01
_KEEP_ALIVE_S: Final = 65
_log = logging.getLogger(__name__)


def http_is_available() -> bool:
    """Whether the libraries of the listener are installed."""
    try:
        import starlette
        import uvicorn
    except ModuleNotFoundError:
        return False
    return bool(starlette and uvicorn)


def application(door: Door, openlineage: OpenLineageRoutes) -> Any:
    """The ASGI application: every route that the listener answers, in this one table.

    Args:
        door: what each call passes.
        openlineage: events of lineage.
    """
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.routing import Route

    async def healthy(request: Any) -> Any:
        return reply(200, {"alive": True})

    async def ready(request: Any) -> Any:
        return reply(503 if door.is_closing else 200, {"ready": not door.is_closing})

    async def unknown(request: Any, error: Any) -> Any:
        expected = "POST /api/v1/lineage, POST /api/v1/lineage/batch, GET /healthz or GET /readyz"
        return refusal(
            error.status_code,
            "UnknownRoute",
            f"expected {expected}; got {request.method} {request.url.path[:200]!a}",
            headers=error.headers,
        )

    return Starlette(
        routes=[
            Route("/api/v1/lineage", door.guarded(openlineage.event), methods=["POST"]),
            Route("/api/v1/lineage/batch", door.guarded(openlineage.batch), methods=["POST"]),
            Route("/healthz", healthy, methods=["GET"]),
            Route("/readyz", ready, methods=["GET"]),
        ],
        exception_handlers={HTTPException: unknown},
    )


@final
class HttpServer:
    """Answers HTTP beside gRPC, with the same tokens, audit log and counts.

    It has a thread and an event loop of its own, so that large bodies do not delay other calls.

    Args:
        store: whose graph takes the events; the caller closes it after `stop`.
        address: `host:port`; port 0 takes a free one.
        tls: None: plaintext.
        reuse_port: let other processes of this user listen on the same port.
        guard: a `featurestore.auth.Guard`; None: anybody may call anything.
        metrics: counts what happens; None: nobody does.

    Raises:
        StoreUnavailable: the address cannot be listened on, or the libraries are not installed.
    """

    def __init__(
        self,
        store: EmbeddedStore,
        address: str,
        *,
        tls: Tls | None = None,
        reuse_port: bool = False,
        guard: Any = None,
        metrics: Any = None,
    ) -> None:
        if not http_is_available():
            raise StoreUnavailable(
                "--http needs the packages starlette and uvicorn: pip install 'featureline[http]'"
            )
        import uvicorn

        self._socket = bound_socket(address, reuse_port=reuse_port, option="--http")
        self.address = f"{address.rpartition(':')[0]}:{self._socket.getsockname()[1]}"
        self._openlineage = OpenLineageRoutes(store.graph)
        self._door = Door(
            guard, store.registry, method="OpenLineage", metrics=metrics, secure=tls is not None
        )
        self._server = uvicorn.Server(
            uvicorn.Config(
                application(self._door, self._openlineage),
                loop="asyncio",
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                **_tls_options(tls),
            )
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    async def start(self) -> None:
        """Accept calls."""
        self._thread.start()
        until = asyncio.get_running_loop().time() + _START_S
        while not self._server.started:
            if not self._thread.is_alive() or asyncio.get_running_loop().time() > until:
                raise StoreUnavailable(f"cannot serve HTTP on {self.address}; see the log")
            await asyncio.sleep(_POLL_S)

    async def stop(self, drain_s: float) -> None:
        """Refuse new calls, let those in flight finish for so long, then end."""
        self._door.close()
        await asyncio.to_thread(self._door.wait_empty, drain_s)
        self._server.config.timeout_graceful_shutdown = 1
        self._server.should_exit = True
        await asyncio.to_thread(self._thread.join, drain_s + 2)
        await asyncio.to_thread(self._openlineage.close)
        with contextlib.suppress(OSError):
            self._socket.close()

    def _run(self) -> None:
        # Not in the main thread, so the library leaves the signals to the worker.
        asyncio.run(self._server.serve(sockets=[self._socket]))


def _tls_options(tls: Tls | None) -> Mapping[str, Any]:
    if tls is None:
        return {}
    options: dict[str, Any] = {"ssl_certfile": tls.certificate, "ssl_keyfile": tls.key}
    if tls.client_ca is not None:
        options |= {"ssl_ca_certs": tls.client_ca, "ssl_cert_reqs": ssl.CERT_REQUIRED}
    return options
