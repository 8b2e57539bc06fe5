"""Registering services: what every call of a `grpc.aio` server passes before its handler."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, final

import grpc
from google.protobuf.message import DecodeError

from featurestore.errors import FeatureStoreError, InvalidRequest
from featurestore.server.answer import CALLER, abort, authenticate, broken, request_id_of
from featurestore.server.gate import Gate
from lineage.errors import LineageError
from lineage.wire.requestid import request_id

__all__ = ["Registrar", "malformed"]

_RUNTIME: Final = "featurestore.v1.FeatureStoreRuntime"


@final
class Registrar:
    """Takes services for a `grpc.aio` server, in place of it.

    Every call is let in by the gate, its caller is authenticated while the guard is active, and
    its end is counted. A request that cannot be read ends its call with INVALID_ARGUMENT. The
    server by itself would log a traceback and answer UNKNOWN. An interceptor could do the same at
    the price of a slower call.

    Args:
        server: where the services are registered.
        gate: counts the calls inside, and refuses new ones once it is closed.
        guard: a `featurestore.auth.Guard`; None: anybody may call anything.
        metrics: counts calls; None: nobody does.
    """

    def __init__(
        self, server: Any, *, gate: Gate | None = None, guard: Any = None, metrics: Any = None
    ) -> None:
        self._server = server
        self.gate = gate or Gate()
        self._guard = guard
        self._metrics = metrics

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Do nothing: generated code registers the same handlers by name, too."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Register the handlers of a service, each guarded."""
        guarded = {
            name: self._guarded(service, name, handler) for name, handler in handlers.items()
        }
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, guarded),)
        )

    def _guarded(self, service: str, method: str, handler: Any) -> Any:
        read = _reader(handler.request_deserializer)
        write = handler.response_serializer
        door = _Door(self.gate, self._guard, self._metrics, service, method)
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                _single(door, handler.unary_unary), read, write
            )
        if handler.stream_unary is not None:
            return grpc.stream_unary_rpc_method_handler(
                _single(door, handler.stream_unary), read, write
            )
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                _several(door, handler.unary_stream), read, write
            )
        return grpc.stream_stream_rpc_method_handler(
            _several(door, handler.stream_stream), read, write
        )


@final
@dataclass(frozen=True, slots=True)
class _Malformed:
    """What stands for a request that cannot be read."""

    error: InvalidRequest


@final
@dataclass(frozen=True, slots=True)
class _Door:
    """What the calls of one method pass on their way in and out."""

    gate: Gate
    guard: Any
    metrics: Any
    service: str
    method: str

    @contextmanager
    def passed(self, context: Any) -> Iterator[None]:
        """Hold a call inside.

        Raises:
            StoreUnavailable, Unauthenticated, AccessDenied: it may not come in.
        """
        self.gate.enter()
        began = time.perf_counter()
        status = "UNKNOWN"
        try:
            self._admit(context)
            yield
            status = "OK"
        except (asyncio.CancelledError, GeneratorExit):
            status = "CANCELLED"
            raise
        except (FeatureStoreError, LineageError) as error:
            status = error.code
            raise
        except grpc.aio.AbortError:
            status = context.code().name
            raise
        except Exception:
            status = "INTERNAL"
            raise
        finally:
            self.gate.leave()
            if self.metrics is not None:
                seconds = time.perf_counter() - began
                if seconds >= self.metrics.slow_s:  # it will be logged
                    _name(context)
                self.metrics.answered(self.method, status, seconds)

    def _admit(self, context: Any) -> None:
        # Each call has a task of its own, and so a context of its own.
        if self.guard is not None and self.guard.is_active:
            metadata = _name(context)
            caller = authenticate(
                self.guard,
                metadata,
                context.peer(),
                secure=b"ssl" in context.auth_context().get("transport_security_type", ()),
            )
            CALLER.set(caller)
        elif self.service != _RUNTIME:
            # Calls of the runtime are many and short, and get theirs when there is a line to log.
            _name(context)


def _name(context: Any) -> Any:
    """Let what is logged in this context name the call; return the call's metadata."""
    metadata = context.invocation_metadata()
    if not request_id.get():
        request_id.set(request_id_of(metadata))
    return metadata


def malformed(error: DecodeError) -> InvalidRequest:
    """Return what to answer to bytes that are no message of the call."""
    return InvalidRequest(
        f"the request cannot be read: {error}; make the client from the proto files of this version"
    )


def _reader(parse: Any) -> Any:
    def read(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError as error:
            return _Malformed(malformed(error))

    return read


def _single(door: _Door, handle: Any) -> Any:
    async def guarded(request: Any, context: Any) -> Any:
        try:
            with door.passed(context):
                return await handle(_readable(request), context)
        except (FeatureStoreError, LineageError) as error:
            await abort(context, error)
        except grpc.aio.AbortError:
            raise
        except Exception:  # noqa: BLE001  # the call's outermost frame
            await abort(context, broken(door.method, context.invocation_metadata()))

    return guarded


def _several(door: _Door, handle: Any) -> Any:
    async def guarded(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            with door.passed(context):
                replies = handle(_readable(request), context)
                async with contextlib.aclosing(replies):
                    async for reply in replies:
                        yield reply
        except (FeatureStoreError, LineageError) as error:
            await abort(context, error)
        except grpc.aio.AbortError:
            raise
        except Exception:  # noqa: BLE001  # the call's outermost frame
            await abort(context, broken(door.method, context.invocation_metadata()))

    return guarded


def _readable(request: Any) -> Any:
    """Return a request, or a stream of them, that can be read.

    Raises:
        InvalidRequest: it cannot; a stream raises it when it comes there.
    """
    if isinstance(request, _Malformed):
        raise request.error
    return _all_readable(request) if isinstance(request, AsyncIterator) else request


async def _all_readable(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        if isinstance(request, _Malformed):
            raise request.error
        yield request
