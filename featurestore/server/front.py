"""The grpc.aio front: the reference, with TLS, reflection and health.

Reads are answered on the event loop, since a memory-mapped get takes microseconds. Writes wait in
a lane: whatever arrived while the last transaction was committed goes into the next one together.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, final

import grpc

from featurestore.errors import FeatureStoreError
from featurestore.server.answer import answer
from featurestore.server.control import ControlService
from featurestore.server.registrar import Registrar
from featurestore.server.runtime import SERVICE, Call, Reply, RuntimeService
from featurestore.v1 import control_pb2_grpc, runtime_pb2

__all__ = ["WriteLane", "add_to_server"]

MAX_LANE_BATCH: Final = 4096
STREAM_WINDOW: Final = 4096


def add_to_server(
    registrar: Registrar, runtime: RuntimeService, control: ControlService
) -> WriteLane:
    """Register both services; the write lane is the caller's to close."""
    lane = WriteLane(runtime)
    handlers: dict[str, Any] = {}
    for method, request in runtime.READS.items():
        handlers[method] = grpc.unary_unary_rpc_method_handler(
            _read(runtime, method), request.FromString, _as_is
        )
    for method, request in runtime.WRITES.items():
        handlers[method] = grpc.unary_unary_rpc_method_handler(
            _write(lane, method), request.FromString, _as_is
        )
    handlers["StreamRecords"] = grpc.stream_stream_rpc_method_handler(
        _stream(lane),
        runtime_pb2.PutRecordRequest.FromString,
        runtime_pb2.Ack.SerializeToString,
    )
    registrar.add_registered_method_handlers(SERVICE, handlers)
    control_pb2_grpc.add_FeatureStoreServicer_to_server(control, registrar)
    return lane


@final
class WriteLane:
    """Natural batching: one transaction at a time, with all calls that wait for it."""

    def __init__(self, runtime: RuntimeService) -> None:
        self._runtime = runtime
        self._waiting: list[tuple[Call, asyncio.Future[Reply]]] = []
        self._draining: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="write-lane")

    async def submit(self, call: Call) -> Reply:
        """Hand in one write; the reply comes after its transaction is durable."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply] = loop.create_future()
        self._waiting.append((call, future))
        if self._draining is None:
            self._draining = loop.create_task(self._drain())
        return await future

    def close(self) -> None:
        """Finish the transaction under way."""
        self._thread.shutdown(wait=True)

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = (
                self._waiting[:MAX_LANE_BATCH],
                self._waiting[MAX_LANE_BATCH:],
            )
            calls = [call for call, _ in batch]
            try:
                replies: Sequence[Reply | Exception] = await loop.run_in_executor(
                    self._thread, self._runtime.write, calls
                )
            except Exception as error:  # noqa: BLE001  # the outermost loop: each caller is told
                replies = [error] * len(batch)
            for (_, future), reply in zip(batch, replies, strict=True):
                if future.done():  # its caller went away
                    continue
                if isinstance(reply, Exception) and not isinstance(reply, FeatureStoreError):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)
        self._draining = None


def _read(runtime: RuntimeService, method: str) -> Any:
    async def handle(request: Any, context: Any) -> Any:
        async def work() -> bytes:
            return _raise(runtime.read([Call(method, request)])[0])

        return await answer(context, work, method)

    return handle


def _write(lane: WriteLane, method: str) -> Any:
    async def handle(request: Any, context: Any) -> Any:
        async def work() -> bytes:
            return _raise(await lane.submit(Call(method, request)))

        return await answer(context, work, method)

    return handle


def _stream(lane: WriteLane) -> Any:
    async def handle(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        # A bounded window: a loader that is faster than the disk waits in its own send.
        window: asyncio.Queue[Any] = asyncio.Queue(STREAM_WINDOW)
        reader = asyncio.ensure_future(_fill(window, requests))
        settled = 0
        try:
            ended = False
            while not ended:
                batch = [await window.get()]
                while not window.empty():
                    batch.append(window.get_nowait())
                if batch[-1] is None:
                    ended = True
                    batch.pop()
                if not batch:
                    continue
                call = Call("BatchWriteRecord", runtime_pb2.BatchWriteRecordRequest(entries=batch))

                async def work(call: Call = call) -> bytes:
                    return _raise(await lane.submit(call))

                reply = await answer(context, work, "StreamRecords")
                response = runtime_pb2.BatchWriteRecordResponse.FromString(reply)
                for error in response.errors:
                    error.index += settled
                settled += len(batch)
                yield runtime_pb2.Ack(last=settled, errors=response.errors)
            await reader
        finally:
            reader.cancel()

    return handle


async def _fill(window: asyncio.Queue[Any], requests: AsyncIterator[Any]) -> None:
    try:
        async for request in requests:
            await window.put(request)
    finally:
        await window.put(None)


def _raise(reply: Reply) -> bytes:
    if isinstance(reply, FeatureStoreError):
        raise reply
    return reply


def _as_is(reply: bytes) -> bytes:
    return reply
