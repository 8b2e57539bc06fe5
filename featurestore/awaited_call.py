"""How the asynchronous client calls a server: its login, its deadlines, and the store's errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from typing import Any, NoReturn, Self, final

import grpc

from featurestore import wire
from featurestore.errors import StoreUnavailable
from featurestore.remote_call import LONG_TIMEOUT_S
from featurestore.v1 import control_pb2_grpc, runtime_pb2_grpc, window_pb2_grpc
from lineage.wire.channel import Login

__all__ = ["AwaitedCalls"]


@final
class AwaitedCalls:
    """The calls of one connection, as coroutines. The first opens it.

    Args:
        target: `host:port`.
        login: how the client shows who it is.
        timeout_s: deadline of each short call.
    """

    def __init__(self, target: str, login: Login, timeout_s: float) -> None:
        self.target = target
        self.timeout_s = timeout_s
        self._login = login
        self.channel = wire.open_channel(login.aio_channel, target)
        self.runtime: Any = runtime_pb2_grpc.FeatureStoreRuntimeStub(self.channel)
        self.control: Any = control_pb2_grpc.FeatureStoreStub(self.channel)
        self.windows: Any = window_pb2_grpc.WindowedFeaturesStub(self.channel)

    async def call(self, method: Any, request: Any, *, timeout_s: float | None = None) -> Any:
        """Make a call with one reply, by default a short one."""
        metadata = self._login.call_metadata()
        try:
            return await method(request, timeout=timeout_s or self.timeout_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            await self._raise(error, metadata[0][1])
        except grpc.aio.UsageError as error:
            raise self._closed() from error

    async def unary(self, method: str, request: Any) -> Any:
        """Make a long call of the control plane; the request may be an iterator of messages."""
        return await self.call(getattr(self.control, method), request, timeout_s=LONG_TIMEOUT_S)

    async def stream(self, method: str, request: Any) -> AsyncGenerator[Any, None]:
        """Make a long call with many replies; closed, it cancels the call.

        A request that is an iterator of messages is read in threads. It may fail: then the call
        fails with its error.
        """
        metadata = self._login.call_metadata()
        sent = _Requests(request) if isinstance(request, Iterator) else None
        call = None
        try:
            call = getattr(self.control, method)(
                request if sent is None else sent, timeout=LONG_TIMEOUT_S, metadata=metadata
            )
            async for reply in call:
                yield reply
        except asyncio.CancelledError:  # of the call, or of the task that waits for it
            task = asyncio.current_task()
            if sent is None or sent.error is None or (task is not None and task.cancelling()):
                raise
            raise sent.error from None
        except grpc.aio.AioRpcError as error:
            if sent is not None and sent.error is not None:
                raise sent.error from None
            await self._raise(error, metadata[0][1])
        except grpc.aio.UsageError as error:
            raise self._closed() from error
        finally:
            if call is not None:
                call.cancel()

    async def _raise(self, error: grpc.aio.AioRpcError, request_id: str) -> NoReturn:
        known = (error, self.target, self._login, request_id)
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            await asyncio.to_thread(wire.raise_from_rpc, *known)  # it may look at the server
        wire.raise_from_rpc(*known)
        raise AssertionError("raise_from_rpc never returns")

    def _closed(self) -> StoreUnavailable:
        return StoreUnavailable(f"the connection to the feature store at {self.target} is closed")


@final
class _Requests:
    """The messages of a call, from an iterator that may fail: then gRPC cancels the call.

    Args:
        messages: made as they are sent, in threads.
    """

    def __init__(self, messages: Iterator[Any]) -> None:
        self._messages = messages
        self.error: Exception | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            message = await asyncio.to_thread(next, self._messages, None)
        except Exception as error:
            self.error = error  # raised again where the replies are read
            raise
        if message is None:
            raise StopAsyncIteration
        return message
