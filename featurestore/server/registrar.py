"""Registering services, so that bytes that are no message of a call get a clear answer."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, final

import grpc
from google.protobuf.message import DecodeError

from featurestore.errors import InvalidRequest
from featurestore.server.answer import abort

__all__ = ["Registrar", "malformed"]


@final
class Registrar:
    """Takes services for a `grpc.aio` server, in place of it.

    A request that cannot be read ends its call with INVALID_ARGUMENT. The server by itself would
    log a traceback and answer UNKNOWN. An interceptor could do the same at the price of a slower
    call.

    Args:
        server: where the services are registered.
    """

    def __init__(self, server: Any) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Do nothing: generated code registers the same handlers by name, too."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Register the handlers of a service, each guarded."""
        guarded = {name: _guarded(handler) for name, handler in handlers.items()}
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, guarded),)
        )


@final
@dataclass(frozen=True, slots=True)
class _Malformed:
    """What stands for a request that cannot be read."""

    error: InvalidRequest


@final
class _MalformedRequest(Exception):
    """Ends a stream of requests at the one that cannot be read."""

    def __init__(self, error: InvalidRequest) -> None:
        super().__init__(error.message)
        self.error = error


def malformed(error: DecodeError) -> InvalidRequest:
    """Return what to answer to bytes that are no message of the call."""
    return InvalidRequest(
        f"the request cannot be read: {error}; make the client from the proto files of this version"
    )


def _guarded(handler: Any) -> Any:
    read = _reader(handler.request_deserializer)
    write = handler.response_serializer
    if handler.unary_unary is not None:
        return grpc.unary_unary_rpc_method_handler(_unary(handler.unary_unary), read, write)
    if handler.stream_stream is not None:
        return grpc.stream_stream_rpc_method_handler(_stream(handler.stream_stream), read, write)
    return handler


def _reader(parse: Any) -> Any:
    def read(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError as error:
            return _Malformed(malformed(error))

    return read


def _unary(handle: Any) -> Any:
    async def guarded(request: Any, context: Any) -> Any:
        if isinstance(request, _Malformed):
            await abort(context, request.error)
        return await handle(request, context)

    return guarded


def _stream(handle: Any) -> Any:
    async def guarded(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        try:
            async with contextlib.aclosing(handle(_readable(requests), context)) as replies:
                async for reply in replies:
                    yield reply
        except _MalformedRequest as malformed:
            await abort(context, malformed.error)

    return guarded


async def _readable(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        if isinstance(request, _Malformed):
            raise _MalformedRequest(request.error)
        yield request
