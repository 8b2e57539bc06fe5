"""Services of grpc.aio behind the check of their calls, and with a line each in the audit log."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Final, final

import grpc

from featurestore.auth import Caller
from featurestore.errors import AccessDenied, FeatureStoreError
from featurestore.server.access import Access
from featurestore.server.answer import CALLER
from featurestore.server.permission import action_and_resources
from featurestore.server.registrar import Registrar
from lineage.errors import LineageError

__all__ = ["GuardedRegistrar", "guarded_by"]

# Its fronts hand the caller on with each call, and the runtime checks: many calls at a time.
_RUNTIME: Final = "featurestore.v1.FeatureStoreRuntime"


def guarded_by(access: Access, registrar: Registrar) -> GuardedRegistrar:
    """Return a registrar whose services are checked by `access`, and audited.

    The registrar behind it, made with the same guard, authenticates the caller and answers errors:

        guarded = guarded_by(access, Registrar(server, guard=guard))
        lineage_pb2_grpc.add_LineageServicer_to_server(service, guarded)
    """
    return GuardedRegistrar(access, registrar)


@final
class GuardedRegistrar:
    """Takes services in place of a registrar. Health and reflection go past it."""

    def __init__(self, access: Access, registrar: Registrar) -> None:
        self._access = access
        self._registrar = registrar
        self.gate = registrar.gate

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Do nothing: generated code registers the same handlers by name, too."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Register the handlers of a service, each behind its check; the runtime has its own."""
        if service != _RUNTIME:
            handlers = {
                name: _guarded(self._access, name, handler) for name, handler in handlers.items()
            }
        self._registrar.add_registered_method_handlers(service, handlers)


def _guarded(access: Access, method: str, handler: Any) -> Any:
    read, write = handler.request_deserializer, handler.response_serializer
    if handler.unary_unary is not None:
        unary = _unary(access, method, handler.unary_unary)
        return grpc.unary_unary_rpc_method_handler(unary, read, write)
    if handler.stream_stream is not None:
        stream = _stream(access, method, handler.stream_stream)
        return grpc.stream_stream_rpc_method_handler(stream, read, write)
    if handler.unary_stream is not None:
        replies = _replies(access, method, handler.unary_stream)
        return grpc.unary_stream_rpc_method_handler(replies, read, write)
    requests = _requests(access, method, handler.stream_unary)
    return grpc.stream_unary_rpc_method_handler(requests, read, write)


def _unary(access: Access, method: str, handle: Any) -> Any:
    async def guarded(request: Any, context: Any) -> Any:
        if not access.is_active:
            return await handle(request, context)
        caller = CALLER.get()
        access.check(method, request, caller)
        with _audited(access, method, caller, [request], context):
            return await handle(request, context)

    return guarded


def _replies(access: Access, method: str, handle: Any) -> Any:
    async def guarded(request: Any, context: Any) -> AsyncIterator[Any]:
        caller = CALLER.get()
        with contextlib.ExitStack() as audit:
            if access.is_active:
                access.check(method, request, caller)
                audit.enter_context(_audited(access, method, caller, [request], context))
            async with contextlib.aclosing(handle(request, context)) as replies:
                async for reply in replies:
                    yield reply

    return guarded


def _requests(access: Access, method: str, handle: Any) -> Any:
    async def guarded(requests: AsyncIterator[Any], context: Any) -> Any:
        if not access.is_active:
            return await handle(requests, context)
        caller = CALLER.get()
        passed: list[Any] = []
        checked = _checked(access, method, caller, requests, passed)
        with _audited(access, method, caller, passed, context):
            return await handle(checked, context)

    return guarded


def _stream(access: Access, method: str, handle: Any) -> Any:
    async def guarded(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        if not access.is_active:
            async with contextlib.aclosing(handle(requests, context)) as replies:
                async for reply in replies:
                    yield reply
            return
        caller = CALLER.get()
        passed: list[Any] = []
        checked = _checked(access, method, caller, requests, passed)
        with _audited(access, method, caller, passed, context):
            async with contextlib.aclosing(handle(checked, context)) as replies:
                async for reply in replies:
                    yield reply

    return guarded


async def _checked(
    access: Access,
    method: str,
    caller: Caller | None,
    requests: AsyncIterator[Any],
    passed: list[Any],
) -> AsyncIterator[Any]:
    async for request in requests:
        access.check(method, request, caller)
        if action_and_resources(method, request):
            passed.append(request)
        yield request


@contextlib.contextmanager
def _audited(
    access: Access, method: str, caller: Caller | None, requests: Sequence[Any], context: Any
) -> Iterator[None]:
    """Write the line of a call when it ends, however it ends."""
    code = grpc.StatusCode.UNKNOWN.name
    try:
        yield
        code = grpc.StatusCode.OK.name
    except grpc.aio.AbortError:
        code = context.code().name
        raise
    except (asyncio.CancelledError, GeneratorExit):
        code = grpc.StatusCode.CANCELLED.name
        raise
    except (FeatureStoreError, LineageError) as error:
        # A denied call has its line already.
        code = "" if isinstance(error, AccessDenied) else error.code
        raise
    finally:
        if code:
            access.audit(caller, method, requests, code)
