"""Calling a server: what every call carries, and what its end means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc

from lineage.change import MAX_BODY_BYTES
from lineage.errors import (
    AccessDenied,
    InvalidEntity,
    LineageError,
    StoreClosed,
    StoreUnavailable,
    Unauthenticated,
)
from lineage.v1 import lineage_pb2_grpc
from lineage.wire import convert
from lineage.wire.channel import Login
from lineage.wire.handshake import why_unreachable

Reply = TypeVar("Reply")


class Called(ABC):
    """A channel to a server; the parts of `LineageClient` call through it."""

    _stub: lineage_pb2_grpc.LineageStub
    _target: str
    _timeout_s: float
    _login: Login

    @abstractmethod
    def close(self) -> None:
        """Close the connection."""

    def _call(
        self, method: Callable[..., Reply], request: object, *, is_long: bool = False
    ) -> Reply:
        metadata = self._login.call_metadata()
        with self._explained(metadata):
            timeout_s = None if is_long else self._timeout_s
            return method(request, timeout=timeout_s, metadata=metadata)

    @contextmanager
    def _explained(self, metadata: Sequence[tuple[str, Any]]) -> Iterator[None]:
        try:
            yield
        except ValueError as error:  # gRPC's way to say that the channel is closed
            raise StoreClosed() from error
        except grpc.RpcError as error:
            failure = _to_error(error, self._target, self._login)
            failure.request_id = metadata[0][1]
            raise failure from error


def _to_error(error: Any, target: str, login: Login) -> LineageError:
    """What a failed call means to the caller; the RpcError of a call is a `grpc.Call` too."""
    details = error.details() or ""
    known = convert.error_from_metadata(tuple(error.trailing_metadata() or ()), details)
    if known is not None:
        return known
    code = error.code()
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        why = why_unreachable(details, target, login.tls)
        return StoreUnavailable(
            f"no lineage server answers at {target} ({code.name}: {details}); "
            f"{why or 'check that it runs and that the address is right'}"
        )
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in details:
        return InvalidEntity(
            f"a request to {target}: expected an event of at most {MAX_BODY_BYTES} bytes, got a "
            f"larger request ({details}); record it in several, and large content as files"
        )
    if code is grpc.StatusCode.UNAUTHENTICATED:  # said by somebody between us and the server
        return Unauthenticated(f"{target}: {details}")
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return AccessDenied(f"{target}: {details}")
    return LineageError(f"the lineage server at {target} failed: {code.name}: {details}")
