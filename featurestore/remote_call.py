"""How the client calls a server: its login, its deadlines, and the store's errors."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from typing import Any, Final, NamedTuple, final

import grpc

from featurestore import wire
from featurestore.errors import StoreUnavailable
from featurestore.v1 import control_pb2_grpc, runtime_pb2_grpc, window_pb2_grpc
from lineage.wire.channel import Login

__all__ = ["DEFAULT_TIMEOUT_S", "LONG_TIMEOUT_S", "RemoteCalls", "Requests", "UnderWay"]

DEFAULT_TIMEOUT_S: Final = 30.0
# A dataset or a verification takes as long as its data.
LONG_TIMEOUT_S: Final = 3600.0


class UnderWay(NamedTuple):
    """A call whose reply is not yet there."""

    call: Any
    request_id: str


@final
class RemoteCalls:
    """The calls of one connection. The first opens it.

    Args:
        target: `host:port`.
        login: how the client shows who it is.
        timeout_s: deadline of each short call.
    """

    def __init__(self, target: str, login: Login, timeout_s: float) -> None:
        self.target = target
        self.timeout_s = timeout_s
        self._login = login
        self.channel = wire.open_channel(login.channel, target)
        self.runtime: Any = runtime_pb2_grpc.FeatureStoreRuntimeStub(self.channel)
        self.control: Any = control_pb2_grpc.FeatureStoreStub(self.channel)
        self.windows: Any = window_pb2_grpc.WindowedFeaturesStub(self.channel)

    def call(self, method: Any, request: Any, *, timeout_s: float | None = None) -> Any:
        """Make a call with one reply, by default a short one."""
        metadata = self._login.call_metadata()
        try:
            return method(request, timeout=timeout_s or self.timeout_s, metadata=metadata)
        except grpc.RpcError as error:
            wire.raise_from_rpc(error, self.target, self._login, metadata[0][1])
        except ValueError as error:
            raise self._closed() from error

    def unary(self, method: str, request: Any) -> Any:
        """Make a long call of the control plane; the request may be an iterator of messages."""
        return self.call(getattr(self.control, method), request, timeout_s=LONG_TIMEOUT_S)

    def stream(self, method: str, request: Any) -> Generator[Any, None, None]:
        """Make a long call with many replies; closed, it cancels the call.

        A request that is an iterator of messages may fail: then the call fails with its error.
        """
        metadata = self._login.call_metadata()
        sent = Requests(request) if isinstance(request, Iterator) else None
        try:
            call = getattr(self.control, method)(
                request if sent is None else sent, timeout=LONG_TIMEOUT_S, metadata=metadata
            )
        except ValueError as error:
            raise self._closed() from error
        if sent is not None:
            sent.begun(call)
        try:
            yield from call
        except grpc.RpcError as error:
            if sent is None or sent.error is None:
                wire.raise_from_rpc(error, self.target, self._login, metadata[0][1])
        finally:
            call.cancel()
        if sent is not None and sent.error is not None:
            raise sent.error

    def several(self, method: Any, request: Any) -> Iterator[Any]:
        """Give the replies to a call that has several; it has an hour."""
        metadata = self._login.call_metadata()
        try:
            yield from method(request, timeout=LONG_TIMEOUT_S, metadata=metadata)
        except grpc.RpcError as error:
            wire.raise_from_rpc(error, self.target, self._login, metadata[0][1])
        except ValueError as error:
            raise self._closed() from error

    def begin(self, method: Any, request: Any) -> UnderWay:
        """Begin a short call with one reply; `result` waits for it."""
        metadata = self._login.call_metadata()
        try:
            call = method.future(request, timeout=self.timeout_s, metadata=metadata)
        except ValueError as error:
            raise self._closed() from error
        return UnderWay(call, metadata[0][1])

    def result(self, begun: UnderWay) -> Any:
        """Wait for the reply of a call."""
        try:
            return begun.call.result()
        except grpc.RpcError as error:
            wire.raise_from_rpc(error, self.target, self._login, begun.request_id)

    def _closed(self) -> StoreUnavailable:
        # gRPC says it by a ValueError.
        return StoreUnavailable(f"the connection to the feature store at {self.target} is closed")


@final
class Requests:
    """The messages of a call, from an iterator that may fail: then the call is cancelled.

    gRPC by itself would end the call with UNKNOWN, and say what failed only in a log.

    Args:
        messages: made as they are sent, in a thread of gRPC's.
    """

    def __init__(self, messages: Iterator[Any]) -> None:
        self._messages = messages
        self._call: Any = None
        self._begun = threading.Event()
        self.error: Exception | None = None

    def begun(self, call: Any) -> None:
        """Name the call that they belong to."""
        self._call = call
        self._begun.set()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._messages)
        except StopIteration:
            raise
        except Exception as error:  # noqa: BLE001  # raised again where the replies are read
            self.error = error
            self._begun.wait()
            self._call.cancel()
            raise StopIteration from None
