"""A `grpc.aio` server that begins again when a call has ended it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, final

import grpc

from featurestore.errors import StoreUnavailable

__all__ = ["LastingServer"]

_AGAIN_S: Final = 0.05
_LIBRARY: Final = "grpc._cython.cygrpc"
_log = logging.getLogger(__name__)


@final
class LastingServer:
    """Takes services like a `grpc.aio` server, and listens again at once should that one end.

    A call whose `:path` is not UTF-8 ends the accept loop of `grpc.aio`, and with it the server:
    one request, of anybody who can connect. The calls in flight are lost then, as by a restart.

    Args:
        options: of the server.
    """

    def __init__(self, options: Sequence[tuple[str, Any]]) -> None:
        self._options = options
        self._generic: list[Any] = []
        self._registered: list[tuple[str, Mapping[str, Any]]] = []
        self._address = ""
        self._credentials: Any = None
        self._stopping = False
        self._watching: asyncio.Task[None] | None = None
        self._server: Any = grpc.aio.server(options=options)
        # What a client writes into its headers is not the server's fault, and no traceback.
        logging.getLogger(_LIBRARY).addFilter(_is_our_fault)

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """See `grpc.aio.Server`."""
        self._generic.append(handlers)
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """See `grpc.aio.Server`."""
        self._registered.append((service, handlers))
        self._server.add_registered_method_handlers(service, handlers)

    def listen(self, address: str, credentials: Any = None) -> int:
        """Choose where to listen; return the port.

        Args:
            address: `host:port` or `unix:path`.
            credentials: of a TLS listener; None: plaintext.
        """
        self._credentials = credentials
        port = self._bind(address)
        is_path = address.startswith("unix:")
        self._address = address if is_path else f"{address.rpartition(':')[0]}:{port}"
        return port

    async def start(self) -> None:
        """Accept calls."""
        await self._server.start()
        self._watching = asyncio.create_task(self._watch())

    async def stop(self, grace_s: float) -> None:
        """End; calls in flight may finish for so long."""
        self._stopping = True
        await self._server.stop(grace_s)
        if self._watching is not None:
            self._watching.cancel()

    async def _watch(self) -> None:
        while True:
            try:
                await self._server.wait_for_termination()
            except UnicodeDecodeError as error:
                _log.warning("a call with a path of no text ended the listener: %s", error)
            if self._stopping:
                return
            await self._begin_again()

    async def _begin_again(self) -> None:
        while not self._stopping:
            self._server = grpc.aio.server(options=self._options)
            for handlers in self._generic:
                self._server.add_generic_rpc_handlers(handlers)
            for service, methods in self._registered:
                self._server.add_registered_method_handlers(service, methods)
            try:
                self._bind(self._address)
            except (RuntimeError, StoreUnavailable) as error:
                _log.error("cannot listen on %s again: %s", self._address, error)
                await asyncio.sleep(_AGAIN_S)
            else:
                await self._server.start()
                _log.warning("listening on %s again", self._address)
                return

    def _bind(self, address: str) -> int:
        if self._credentials is None:
            return int(self._server.add_insecure_port(address))
        return int(self._server.add_secure_port(address, self._credentials))


def _is_our_fault(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("Invalid encoding on ")
