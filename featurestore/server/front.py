"""The grpc.aio front: the reference, with TLS, reflection and health.

Reads are answered on the event loop, since a memory-mapped get takes microseconds; where the store
waits for others, as Redis does for the network, they have a lane of threads. Writes wait in a lane
of their own: whatever arrived while the last transaction was committed goes into the next one
together.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple, final

import grpc

from featurestore.errors import FeatureStoreError, Overloaded
from featurestore.server.answer import CALLER, answer, reply_too_large
from featurestore.server.control import ControlService
from featurestore.server.gate import Gate, shutting_down
from featurestore.server.held import Held
from featurestore.server.limits import DEFAULT_LIMITS, Limits
from featurestore.server.queue import WriteQueue
from featurestore.server.readpool import ReadPool
from featurestore.server.registrar import Registrar
from featurestore.server.runtime import SERVICE, Call, Reply, RuntimeService
from featurestore.server.windows import WindowService
from featurestore.v1 import control_pb2_grpc, runtime_pb2, window_pb2_grpc
from lineage.wire.requestid import request_id

__all__ = ["Lanes", "ReadLane", "WriteLane", "add_to_server"]

STREAM_WINDOW: Final = 4096


def add_to_server(
    registrar: Registrar,
    runtime: RuntimeService,
    control: ControlService,
    windows: WindowService,
    *,
    limits: Limits = DEFAULT_LIMITS,
    metrics: Any = None,
) -> Lanes:
    """Register the services; the lanes are the caller's to close."""
    lane = WriteLane(runtime, limits, metrics=metrics)
    reads = ReadLane(runtime, limits, metrics=metrics) if runtime.reads_block else None
    held = Held(limits.unread_bytes)
    handlers: dict[str, Any] = {}
    for method, request in runtime.READS.items():
        handlers[method] = grpc.unary_unary_rpc_method_handler(
            _read(runtime, reads, method, limits, held, metrics), request.FromString, _as_is
        )
    for method, request in runtime.WRITES.items():
        handlers[method] = grpc.unary_unary_rpc_method_handler(
            _write(lane, method), request.FromString, _as_is
        )
    handlers["StreamRecords"] = grpc.stream_stream_rpc_method_handler(
        _stream(lane, registrar.gate, limits),
        runtime_pb2.PutRecordRequest.FromString,
        runtime_pb2.Ack.SerializeToString,
    )
    registrar.add_registered_method_handlers(SERVICE, handlers)
    control_pb2_grpc.add_FeatureStoreServicer_to_server(control, registrar)
    window_pb2_grpc.add_WindowedFeaturesServicer_to_server(windows, registrar)
    return Lanes(lane, reads)


@final
class WriteLane:
    """Natural batching: one transaction at a time, with all calls that wait for it.

    Args:
        runtime: what stores them.
        limits: how much may wait.
        metrics: counts batches, commits and what is shed; None: nobody counts.
    """

    def __init__(
        self, runtime: RuntimeService, limits: Limits = DEFAULT_LIMITS, *, metrics: Any = None
    ) -> None:
        self._runtime = runtime
        self._queue: WriteQueue[asyncio.Future[Reply]] = WriteQueue(limits, metrics=metrics)
        self._draining: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="write-lane")

    async def submit(self, call: Call, *, size: int, remaining_s: float | None = None) -> Reply:
        """Hand in one write; the reply comes after its transaction is durable.

        Cancelled before its transaction begins, it is not stored.

        Args:
            call: the write.
            size: of its request, in bytes.
            remaining_s: until its caller stops waiting; None: it waits for ever.

        Returns:
            the reply, or the error to send: `Overloaded` at once where it would wait too long.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply] = loop.create_future()
        refusal = self._queue.add(future, call, size=size, remaining_s=remaining_s)
        if refusal is not None:
            return refusal
        if self._draining is None:
            self._draining = loop.create_task(self._drain())
        try:
            return await future
        except asyncio.CancelledError:
            self._queue.forget(future)
            raise

    def close(self) -> None:
        """Finish the transaction under way."""
        self._thread.shutdown(wait=True)

    async def _drain(self) -> None:
        try:
            while self._queue:
                await self._write_next()
        finally:
            # However it ended: the next write begins anew.
            self._draining = None

    async def _write_next(self) -> None:
        batch, late = self._queue.take()
        for waiting in late:
            # The call ends by its deadline, and nobody else waits for this.
            waiting.caller.cancel()
        if not batch:
            return
        try:
            calls = [waiting.call for waiting in batch]
            try:
                replies = await asyncio.get_running_loop().run_in_executor(
                    self._thread, self._runtime.write, calls
                )
            finally:
                self._queue.committed(len(batch))
            for waiting, reply in zip(batch, replies, strict=True):
                if not waiting.caller.done():  # else its caller went away
                    waiting.caller.set_result(reply)
        except Exception as error:  # noqa: BLE001  # the outermost loop: each caller is told
            for waiting in batch:
                if not waiting.caller.done():
                    waiting.caller.set_exception(error)


@final
class ReadLane:
    """Reads of a store that waits for others: off the event loop, many in one round trip.

    Args:
        runtime: what answers them.
        limits: how much may wait.
        metrics: counts batches and what is shed; None: nobody counts.
    """

    def __init__(
        self, runtime: RuntimeService, limits: Limits = DEFAULT_LIMITS, *, metrics: Any = None
    ) -> None:
        self._runtime = runtime
        self._metrics = metrics
        self._pool: ReadPool[asyncio.Future[Reply]] = ReadPool(
            self._answer, limits=limits, metrics=metrics
        )

    async def submit(self, call: Call, *, size: int) -> Reply:
        """Hand in one read; return the reply, or the error to send.

        Args:
            call: the read.
            size: of its request, in bytes.
        """
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        refusal = self._pool.submit(future, call, size=size)
        if refusal is not None:
            return refusal
        try:
            return await future
        except asyncio.CancelledError:
            self._pool.forget(future)
            raise

    def close(self) -> None:
        """Answer what waits."""
        self._pool.close()

    def _answer(self, batch: Sequence[tuple[asyncio.Future[Reply], Call]]) -> None:
        replies: Sequence[Reply | Exception]
        try:
            replies = self._runtime.read([call for _, call in batch])
        except Exception as error:  # noqa: BLE001  # each caller is told
            replies = [error] * len(batch)
        if self._metrics is not None:
            self._metrics.batch("read", len(batch))
        answered = [(future, reply) for (future, _), reply in zip(batch, replies, strict=True)]
        batch[0][0].get_loop().call_soon_threadsafe(_settle, answered)


@final
class Lanes(NamedTuple):
    """What of the services works in threads."""

    writes: WriteLane
    reads: ReadLane | None

    def close(self) -> None:
        """Finish what is under way."""
        self.writes.close()
        if self.reads is not None:
            self.reads.close()


def _settle(answered: Sequence[tuple[asyncio.Future[Reply], Reply | Exception]]) -> None:
    for future, reply in answered:
        if future.done():  # its caller went away
            continue
        if isinstance(reply, Exception) and not isinstance(reply, FeatureStoreError):
            future.set_exception(reply)
        else:
            future.set_result(reply)


def _read(
    runtime: RuntimeService,
    lane: ReadLane | None,
    method: str,
    limits: Limits,
    held: Held,
    metrics: Any,
) -> Any:
    async def handle(request: Any, context: Any) -> Any:
        async def work() -> bytes:
            call = Call(method, request, CALLER.get(), request_id.get())
            if lane is None:
                reply = _raise(runtime.read([call])[0])
            else:
                reply = _raise(await lane.submit(call, size=request.ByteSize()))
            if len(reply) > limits.message_bytes:
                raise reply_too_large(len(reply), limits.message_bytes)
            held.admit(len(reply), context)
            return reply

        if metrics is not None and lane is None:
            metrics.batch("read", 1)
        return await answer(context, work, method)

    return handle


def _write(lane: WriteLane, method: str) -> Any:
    async def handle(request: Any, context: Any) -> Any:
        async def work() -> bytes:
            call = Call(method, request, CALLER.get(), request_id.get())
            reply = await lane.submit(
                call, size=request.ByteSize(), remaining_s=context.time_remaining()
            )
            return _raise(reply)

        return await answer(context, work, method)

    return handle


def _stream(lane: WriteLane, gate: Gate, limits: Limits) -> Any:
    async def handle(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        # A bounded window: a loader that is faster than the disk waits in its own send, and one
        # that reads no acknowledgements is not read from.
        window = _Window(STREAM_WINDOW, limits.stream_bytes)
        reader = asyncio.ensure_future(window.fill(requests))
        # What is wrong with the stream is told below, unless its caller went away before.
        reader.add_done_callback(lambda done: done.cancelled() or done.exception())
        closing = asyncio.ensure_future(_end_with(gate, window))
        settled = 0
        try:
            while batch := await window.take():
                entries = [request for request, _ in batch]
                call = Call(
                    "BatchWriteRecord",
                    runtime_pb2.BatchWriteRecordRequest(entries=entries),
                    CALLER.get(),
                    request_id.get(),
                )
                size = sum(size for _, size in batch)

                async def work(call: Call = call, size: int = size) -> bytes:
                    return _raise(await _patiently(lane, call, size))

                reply = await answer(context, work, "StreamRecords")
                response = runtime_pb2.BatchWriteRecordResponse.FromString(reply)
                for error in response.errors:
                    error.index += settled
                settled += len(batch)
                yield runtime_pb2.Ack(last=settled, errors=response.errors)
            if reader.done():
                await reader
            if not window.is_complete:
                raise shutting_down()
        finally:
            reader.cancel()
            closing.cancel()

    return handle


async def _patiently(lane: WriteLane, call: Call, size: int) -> Reply:
    """Hand in a write of a stream, which waits while the server has too much to do."""
    while True:
        reply = await lane.submit(call, size=size)
        if not isinstance(reply, Overloaded):
            return reply
        await asyncio.sleep(float(reply.facts["retry_after_s"]))  # type: ignore[arg-type]


async def _end_with(gate: Gate, window: _Window) -> None:
    await gate.closing.wait()
    window.end()


@final
class _Window:
    """What was read of a stream and is not yet acknowledged: bounded in number and in bytes."""

    def __init__(self, count: int, size: int) -> None:
        self._count, self._size = count, size
        self._read: list[tuple[Any, int]] = []
        self._bytes = 0
        self._ended = False
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self.is_complete = False

    async def fill(self, requests: AsyncIterator[Any]) -> None:
        """Read a stream to its end, or until `end`, while there is room."""
        try:
            async for request in requests:
                if self._ended:
                    return
                size = request.ByteSize()
                self._read.append((request, size))
                self._bytes += size
                self._filled.set()
                while len(self._read) >= self._count or self._bytes >= self._size:
                    self._room.clear()
                    await self._room.wait()
            self.is_complete = True
        finally:
            self.end()

    async def take(self) -> list[tuple[Any, int]]:
        """Wait for requests and return all that were read, with their sizes; none at the end."""
        if not self._read and not self._ended:
            self._filled.clear()
            await self._filled.wait()
        taken, self._read, self._bytes = self._read, [], 0
        self._room.set()
        return taken

    def end(self) -> None:
        """Read no more."""
        self._ended = True
        self._filled.set()


def _raise(reply: Reply) -> bytes:
    if isinstance(reply, FeatureStoreError):
        raise reply
    return reply


def _as_is(reply: bytes) -> bytes:
    return reply
