"""The native front: HTTP/2 and gRPC work in Rust, outside the GIL; plaintext listeners only.

Calls reach Python in batches, already read from the network. Reads are answered as the batch they
came in; writes go to a second thread, which takes all that wait into its next transaction. What is
not unary and hot (streams, the control plane, lineage, training, health, reflection) is passed on
to the grpc.aio front, which listens on a socket that only this user can reach.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Final, final

import grpc
from google.protobuf.message import DecodeError

from featurestore import wire
from featurestore.errors import FeatureStoreError, InternalError, StoreUnavailable
from featurestore.server.registrar import malformed
from featurestore.server.runtime import SERVICE, Call, Reply, RuntimeService
from lineage.trailer import fit_text

__all__ = ["NativeFront", "native_is_available"]

MAX_EVENTS: Final = 512
# How many writes may wait for a transaction. Beyond it callers are told to come back later: memory
# stays bounded, and a wait that long would outlast most deadlines.
MAX_WAITING: Final = 20_000
_IO_THREADS: Final = 1
_log = logging.getLogger(__name__)

_BUSY: Final = StoreUnavailable(
    "the server has more writes waiting than it takes; nothing was written: try again later"
)
_Pending = tuple[int, Call]


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

    Raises:
        StoreUnavailable: the address cannot be listened on, or the extra is not installed.
    """

    def __init__(self, address: str, runtime: RuntimeService, *, behind: str) -> None:
        library = _library()
        self._call_event = library.EVENT_CALL
        self._runtime = runtime
        self._methods: list[tuple[str, Any, bool]] = [
            *((name, request.FromString, False) for name, request in runtime.READS.items()),
            *((name, request.FromString, True) for name, request in runtime.WRITES.items()),
        ]
        paths = [(f"/{SERVICE}/{name}", False) for name, _, _ in self._methods]
        try:
            self._front = library.NativeGrpcFront(address, paths, io_threads=_IO_THREADS)
        except (OSError, RuntimeError, ValueError) as error:
            raise StoreUnavailable(f"cannot listen on {address}: {error}") from error
        self._front.set_fallback(behind)
        self._waiting: list[_Pending] = []
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

    def drain(self) -> None:
        """Finish the writes that wait, and refuse new ones."""
        with self._wake:
            self._ending = True
            self._wake.notify_all()
        self._threads[1].join()

    def close(self) -> None:
        """Drain, then end; connections are closed, also those with calls of the server behind."""
        self.drain()
        self._front.close()
        self._threads[0].join()

    def _receive(self) -> None:
        while (events := self._front.recv_batch(MAX_EVENTS)) is not None:
            try:
                self._take(events)
            except Exception:  # noqa: BLE001  # the thread's outermost frame: it must go on
                _log.exception("a batch of calls failed")

    def _take(self, events: Sequence[Any]) -> None:
        reads: list[_Pending] = []
        writes: list[_Pending] = []
        for kind, call_id, method_id, payload, _ in events:
            if kind != self._call_event:
                continue  # a caller that went away: its answer will find nobody
            name, parse, is_write = self._methods[method_id]
            try:
                call = Call(name, parse(payload))
            except DecodeError as error:
                self._reply(call_id, malformed(error))
                continue
            (writes if is_write else reads).append((call_id, call))
        if writes:
            self._hand_over(writes)
        if reads:
            self._answer(reads, self._runtime.read)

    def _hand_over(self, writes: list[_Pending]) -> None:
        with self._wake:
            room = 0 if self._ending else max(0, MAX_WAITING - len(self._waiting))
            self._waiting += writes[:room]
            self._wake.notify()
        for call_id, _ in writes[room:]:
            self._reply(call_id, _BUSY)

    def _write(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._ending:
                    self._wake.wait()
                if not self._waiting:
                    return
                batch, self._waiting = self._waiting, []
            try:
                self._answer(batch, self._runtime.write)
            except Exception:  # noqa: BLE001  # the thread's outermost frame: it must go on
                _log.exception("a batch of writes failed")

    def _answer(self, batch: Sequence[_Pending], answer: Any) -> None:
        try:
            replies: Sequence[Reply] = answer([call for _, call in batch])
        except Exception:  # noqa: BLE001  # whatever it is, the callers must be told
            _log.exception("%s failed", batch[0][1].method)
            broken = InternalError("the call failed inside the server; its log has the cause")
            replies = [broken] * len(batch)
        respond = self._front.respond
        for (call_id, _), reply in zip(batch, replies, strict=True):
            if isinstance(reply, bytes):
                respond(call_id, reply)
            else:
                self._reply(call_id, reply)

    def _reply(self, call_id: int, error: FeatureStoreError) -> None:
        status: grpc.StatusCode = getattr(grpc.StatusCode, error.code, grpc.StatusCode.UNKNOWN)
        self._front.fail(
            call_id, status.value[0], fit_text(error.message), wire.error_metadata(error)
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
