"""The native front: HTTP/2 and gRPC work in Rust, outside the GIL; plaintext listeners only.

Calls reach Python in batches, already read from the network. Reads are answered as the batch they
came in, or by a pool of threads where the store waits for others; writes go to a second thread,
which takes all that wait into its next transaction. What is not unary and hot (streams, the control
plane, lineage, training, health, reflection) is passed on to the grpc.aio front, which listens on a
socket that only this user can reach.

Who calls, and until when, is asked for only while somebody needs to know: reading it costs a
call an eighth of its time. That a caller has gone away is always known.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any, Final, final

import grpc
from google.protobuf.message import DecodeError

from featurestore import wire
from featurestore.errors import FeatureStoreError, InvalidRequest, StoreUnavailable
from featurestore.server.answer import (
    authenticate,
    broken,
    reply_too_large,
    request_id_of,
    status_of,
)
from featurestore.server.gate import shutting_down
from featurestore.server.held import LARGE_BYTES, HeldByLibrary
from featurestore.server.limits import DEFAULT_LIMITS, Limits
from featurestore.server.queue import Waiting, WriteQueue
from featurestore.server.readpool import ReadPool
from featurestore.server.registrar import malformed
from featurestore.server.runtime import SERVICE, Call, Reply, RuntimeService
from lineage.wire.trailer import fit_text

__all__ = ["NativeFront", "native_is_available"]

MAX_EVENTS: Final = 512
_IO_THREADS: Final = 1
# The guard may have become active while we waited for calls: wait no longer than it needs to know.
_WAIT_MS: Final = 1000
# From this wait on, a call is asked how long its caller waits, so that it can be told no at once.
_LONG_WAIT_S: Final = 0.05
_POLL_S: Final = 0.005
_log = logging.getLogger(__name__)

_Asked = tuple[int, Call]


def native_is_available() -> bool:
    """Whether the extra `fast` is installed."""
    try:
        _library()
    except StoreUnavailable:
        return False
    return True


@final
class NativeFront:
    """Answers the unary calls of `FeatureStoreRuntime` on one plaintext port.

    Args:
        address: `host:port`; port 0 takes a free one.
        runtime: what answers.
        behind: path of the Unix socket on which a grpc.aio server takes all other calls.
        limits: what it takes before it refuses.
        reuse_port: let other processes of this user listen on the same port.
        guard: a `featurestore.auth.Guard`; None: anybody may call anything.
        metrics: counts calls and batches; None: nobody does.

    Raises:
        StoreUnavailable: the address cannot be listened on, or the extra is not installed.
    """

    def __init__(
        self,
        address: str,
        runtime: RuntimeService,
        *,
        behind: str,
        limits: Limits = DEFAULT_LIMITS,
        reuse_port: bool = False,
        guard: Any = None,
        metrics: Any = None,
    ) -> None:
        library = _library()
        self._call_event = library.EVENT_CALL
        self._runtime = runtime
        self._limits = limits
        self._guard = guard
        self._metrics = metrics
        self._methods: list[tuple[str, Any, bool]] = [
            *((name, request.FromString, False) for name, request in runtime.READS.items()),
            *((name, request.FromString, True) for name, request in runtime.WRITES.items()),
        ]
        paths = [(f"/{SERVICE}/{name}", False) for name, _, _ in self._methods]
        try:
            self._front = library.NativeGrpcFront(
                address,
                paths,
                io_threads=_IO_THREADS,
                call_details=True,
                metrics=True,
                keepalive_time_ms=round(limits.keepalive_s * 1000),
                keepalive_timeout_ms=round(limits.keepalive_timeout_s * 1000),
                max_concurrent_streams=limits.calls_per_connection,
                max_metadata_size=limits.metadata_bytes,
                reuse_port=reuse_port,
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise StoreUnavailable(f"cannot listen on {address}: {error}") from error
        self._front.set_fallback(behind)
        if metrics is not None:
            metrics.add_native(self._front.metrics)
        self._queue: WriteQueue[int] = WriteQueue(limits, metrics=metrics)
        self._held = HeldByLibrary(limits.unread_bytes, self._front.metrics)
        self._pool: ReadPool[int] | None = None
        if runtime.reads_block:
            self._pool = ReadPool(self._answer_pooled, limits=limits, metrics=metrics)
        self._wake = threading.Condition()
        self._ending = False
        self._threads = [
            threading.Thread(target=self._receive, name="native-calls"),
            threading.Thread(target=self._write, name="native-writes"),
        ]

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._front.bound_port)

    def start(self) -> None:
        """Accept calls."""
        self._front.start()
        for thread in self._threads:
            thread.start()

    def drain(self, timeout_s: float) -> bool:
        """Refuse new calls, finish the writes that wait, and see that the replies are read.

        Returns:
            whether all that was done in time.
        """
        until = time.monotonic() + timeout_s
        with self._wake:
            self._ending = True
            self._wake.notify_all()
        self._threads[1].join(timeout_s)
        while self._unsent():
            if time.monotonic() >= until:
                return False
            time.sleep(_POLL_S)
        return not self._threads[1].is_alive()

    def close(self) -> None:
        """Drain, then end; connections are closed, also those with calls of the server behind."""
        self.drain(0)
        if self._pool is not None:
            self._pool.close()
        self._front.close()
        for thread in self._threads:
            thread.join()

    def _unsent(self) -> int:
        """Count the calls whose replies are not yet with their callers."""
        methods = self._front.metrics()["methods"].values()
        return sum(
            method["started"] - sum(ended["count"] for ended in method["status"].values())
            for method in methods
        )

    def _receive(self) -> None:
        while True:
            detailed = self._needs_details()
            receive = self._front.recv_batch_details if detailed else self._front.recv_batch
            events = receive(MAX_EVENTS, _WAIT_MS)
            if events is None:
                return
            try:
                if events:
                    self._take(events, detailed)
            except Exception:  # noqa: BLE001  # the thread's outermost frame: it must go on
                self._break(event[1] for event in events if event[0] == self._call_event)
            # A large request is not held until the next one comes.
            del events

    def _needs_details(self) -> bool:
        if self._is_guarded():
            return True
        with self._wake:
            return len(self._queue) > 0 and self._queue.expected_s() > _LONG_WAIT_S

    def _is_guarded(self) -> bool:
        """Whether callers must be known; also where that cannot be told."""
        if self._guard is None:
            return False
        try:
            return bool(self._guard.is_active)
        except Exception:  # noqa: BLE001  # the thread must go on
            _log.exception("whether access is guarded cannot be told")
            return True

    def _take(self, events: Sequence[Any], detailed: bool) -> None:
        gets: list[_Asked] = []
        reads: list[_Asked] = []
        writes: list[tuple[int, Call, int, float | None]] = []
        gone: list[int] = []
        limit = self._limits.message_bytes
        # It may have become active while these calls came in: who makes them was not asked.
        unasked = not detailed and self._is_guarded()
        if detailed:
            events = [
                (kind, call_id, method_id, payload, details)
                for kind, call_id, method_id, payload, _, details in events
            ]
        for kind, call_id, method_id, payload, details in events:
            if kind != self._call_event:
                gone.append(call_id)
                continue
            name, parse, is_write = self._methods[method_id]
            caller, remaining_s, request_id = None, None, ""
            try:
                if self._ending:
                    raise shutting_down()
                if unasked:
                    raise StoreUnavailable("the first access policy has just been made; call again")
                if len(payload) > limit:
                    raise _too_large(len(payload), limit)
                if detailed:
                    metadata, peer, remaining_s = details
                    request_id = request_id_of(metadata)
                    caller = authenticate(self._guard, metadata, peer, request_id=request_id)
                call = Call(name, parse(payload), caller, request_id)
            except DecodeError as error:
                self._refuse(call_id, name, malformed(error))
            except FeatureStoreError as error:
                self._refuse(call_id, name, error)
            except Exception:  # noqa: BLE001  # whatever it is, this caller must be told
                self._refuse(call_id, name, broken(name))
            else:
                if is_write:
                    writes.append((call_id, call, len(payload), remaining_s))
                elif self._pool is not None:
                    refusal = self._pool.submit(call_id, call, size=len(payload))
                    if refusal is not None:
                        self._refuse(call_id, name, refusal)
                elif name == "GetRecord":
                    gets.append((call_id, call))
                else:
                    reads.append((call_id, call))
        if writes:
            self._hand_over(writes)
        if gone:
            with self._wake:
                for call_id in gone:
                    self._queue.forget(call_id)
            for call_id in gone:
                self._held.gone(call_id)
                if self._pool is not None:
                    self._pool.forget(call_id)
        if gets:
            self._answer_reads(gets)
        for asked in reads:
            # Their replies may be large: one at a time is in memory.
            self._answer_reads([asked])

    def _hand_over(self, writes: Sequence[tuple[int, Call, int, float | None]]) -> None:
        refused: list[tuple[int, str, FeatureStoreError]] = []
        with self._wake:
            for call_id, call, size, remaining_s in writes:
                refusal: FeatureStoreError | None
                if self._ending:  # the other thread may have ended since these calls came in
                    refusal = shutting_down()
                else:
                    refusal = self._queue.add(call_id, call, size=size, remaining_s=remaining_s)
                if refusal is not None:
                    refused.append((call_id, call.method, refusal))
            self._wake.notify()
        for call_id, method, error in refused:
            self._refuse(call_id, method, error)

    def _write(self) -> None:
        while self._wait_for_writes():
            self._write_next()

    def _wait_for_writes(self) -> bool:
        """Wait for writes; false when there are none and no more will come."""
        with self._wake:
            while not self._queue and not self._ending:
                self._wake.wait()
            return bool(self._queue)

    def _write_next(self) -> None:
        batch: Sequence[Waiting[int]] = ()
        try:
            with self._wake:
                batch, late = self._queue.take()
            for waiting in late:
                self._front.fail(
                    waiting.caller,
                    grpc.StatusCode.DEADLINE_EXCEEDED.value[0],
                    "the deadline passed before the write's turn came; nothing was written",
                )
            if batch:
                self._answer_writes(batch)
        except Exception:  # noqa: BLE001  # the thread's outermost frame: it must go on
            self._break(waiting.caller for waiting in batch)

    def _break(self, call_ids: Iterable[int]) -> None:
        """Tell the callers that are not answered yet of the exception at hand."""
        error = broken("a batch of calls")
        for call_id in call_ids:
            self._fail(call_id, error)

    def _answer_pooled(self, batch: Sequence[_Asked]) -> None:
        try:
            self._answer_reads(batch)
        except Exception:  # noqa: BLE001  # the thread's outermost frame: it must go on
            self._break(call_id for call_id, _ in batch)

    def _answer_reads(self, batch: Sequence[_Asked]) -> None:
        began = time.perf_counter()
        replies = self._ask(self._runtime.read, [call for _, call in batch])
        replies = [
            (self._held.admit(call_id, len(reply)) or reply)
            if isinstance(reply, bytes) and LARGE_BYTES < len(reply) <= self._limits.message_bytes
            else reply
            for (call_id, _), reply in zip(batch, replies, strict=True)
        ]
        self._respond([call_id for call_id, _ in batch], replies)
        if self._metrics is not None:
            self._metrics.batch("read", len(batch))
            seconds = time.perf_counter() - began
            self._look_for_slow([call for _, call in batch], replies, seconds)

    def _answer_writes(self, batch: Sequence[Waiting[int]]) -> None:
        calls = [waiting.call for waiting in batch]
        replies = self._ask(self._runtime.write, calls)
        with self._wake:
            self._queue.committed(len(batch))
        self._respond([waiting.caller for waiting in batch], replies)
        if self._metrics is not None:
            # One observation for the calls of a batch: how long they took on the average.
            mean = sum(waiting.entered for waiting in batch) / len(batch)
            self._look_for_slow(calls, replies, time.monotonic() - mean)

    def _ask(
        self, answer: Callable[[Sequence[Call]], list[Reply]], calls: Sequence[Call]
    ) -> Sequence[Reply]:
        try:
            return answer(calls)
        except Exception:  # noqa: BLE001  # whatever it is, the callers must be told
            return [broken(calls[0].method)] * len(calls)

    def _respond(self, call_ids: Sequence[int], replies: Sequence[Reply]) -> None:
        respond, limit = self._front.respond, self._limits.message_bytes
        for call_id, reply in zip(call_ids, replies, strict=True):
            if not isinstance(reply, bytes):
                self._fail(call_id, reply)
            elif len(reply) > limit:
                self._fail(call_id, reply_too_large(len(reply), limit))
            else:
                respond(call_id, reply)

    def _refuse(self, call_id: int, method: str, error: FeatureStoreError) -> None:
        self._fail(call_id, error)

    def _fail(self, call_id: int, error: FeatureStoreError) -> None:
        status: grpc.StatusCode = getattr(grpc.StatusCode, error.code, grpc.StatusCode.UNKNOWN)
        # The library refuses gRPC's own keys; without them a client's retries follow its own plan.
        metadata = [item for item in wire.error_metadata(error) if not item[0].startswith("grpc-")]
        self._front.fail(call_id, status.value[0], fit_text(error.message), metadata)

    def _look_for_slow(
        self, calls: Sequence[Call], replies: Sequence[Reply], seconds: float
    ) -> None:
        # The front counts and times the calls itself.
        if seconds >= self._metrics.slow_s:
            for (method, status), count in Counter(
                (call.method, status_of(reply)) for call, reply in zip(calls, replies, strict=True)
            ).items():
                self._metrics.slow(method, status, seconds, count)


def _too_large(size: int, limit: int) -> InvalidRequest:
    return InvalidRequest(
        f"the request has {size} bytes, a message may have {limit}; send it in parts"
    )


def _library() -> ModuleType:
    try:
        import pygrpc_native
    except ImportError as error:
        raise StoreUnavailable(
            "the native front needs pygrpc-native: pip install 'featureline[fast]' (Linux x86_64 "
            "or aarch64, or macOS), or use --front grpc"
        ) from error
    return pygrpc_native
