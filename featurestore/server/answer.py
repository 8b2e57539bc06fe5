"""How a handler's error becomes a gRPC status, and who is calling."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from typing import Any, Final, NoReturn

import grpc

from featurestore import wire
from featurestore.errors import FeatureStoreError, InternalError, InvalidRequest
from lineage.errors import LineageError
from lineage.wire.requestid import REQUEST_ID_KEY, new_request_id, request_id
from lineage.wire.trailer import fit_text

__all__ = [
    "CALLER",
    "abort",
    "address_of",
    "answer",
    "authenticate",
    "broken",
    "reply_too_large",
    "request_id_of",
    "status_of",
]

# Who makes the call that a task of the grpc.aio server handles; None while nobody is asked.
CALLER: Final[ContextVar[Any]] = ContextVar("featureline_caller", default=None)
_SHOWN_ID: Final = 64
_SCHEME: Final = "bearer "
_log = logging.getLogger(__name__)


def authenticate(
    guard: Any,
    metadata: Iterable[tuple[str, Any]] | None,
    peer: str,
    *,
    secure: bool = False,
    request_id: str = "",
) -> Any:
    """Return who is calling, or None while the guard is not active.

    Args:
        guard: a `featurestore.auth.Guard`, or None.
        metadata: of the call.
        peer: of the call, as gRPC writes it: `ipv4:10.0.0.1:4711`.
        secure: it came over TLS.
        request_id: names the call in the audit log; empty: that of the context.

    Raises:
        Unauthenticated: the call carries no token that is known.
    """
    if guard is None or not guard.is_active:
        return None
    return guard.authenticate(
        _bearer(metadata), address_of(peer), secure=secure, request_id=request_id
    )


def address_of(peer: str) -> str:
    """Return the address in a peer as gRPC writes it; empty behind a Unix socket.

    >>> address_of("ipv4:10.0.0.1:4711"), address_of("ipv6:%5B::1%5D:4711"), address_of("unix:")
    ('10.0.0.1', '::1', '')
    """
    kind, _, place = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return ""
    host = place.rpartition(":")[0].replace("%5B", "[").replace("%5D", "]")
    return host.strip("[]").partition("%")[0]


def request_id_of(metadata: Iterable[tuple[str, Any]] | None) -> str:
    """Return the id that a caller gave its call, or make one."""
    for key, value in metadata or ():
        if key == REQUEST_ID_KEY and isinstance(value, str) and value.isprintable():
            return value[:_SHOWN_ID]
    return new_request_id()


def status_of(reply: object) -> str:
    """Return the name of the status that a reply is sent with."""
    return reply.code if isinstance(reply, FeatureStoreError) else "OK"


def reply_too_large(size: int, limit: int) -> InvalidRequest:
    """Return what to say when a reply would be larger than a message may be."""
    return InvalidRequest(
        f"the reply would have {size} bytes, a message may have {limit}; ask for fewer records"
    )


def broken(method: str, metadata: Iterable[tuple[str, Any]] | None = None) -> InternalError:
    """Log the exception at hand with its traceback, and return what to tell the caller."""
    request = request_id.get() or request_id_of(metadata)
    token = request_id.set(request)
    try:
        _log.exception("%s failed (request %s)", method, request)
    finally:
        request_id.reset(token)
    return InternalError(
        f"{method} failed inside the server; its log has the cause under request {request}",
        request_id=request,
    )


async def abort(context: Any, error: FeatureStoreError | LineageError) -> NoReturn:
    """End a call with an error the client can raise again."""
    code = getattr(grpc.StatusCode, error.code, grpc.StatusCode.UNKNOWN)
    await context.abort(code, fit_text(str(error)), wire.error_metadata(error))
    raise AssertionError("abort never returns")


async def answer(context: Any, work: Callable[[], Awaitable[Any]], method: str) -> Any:
    """Await a handler's work and turn its errors into a status.

    An unexpected error is logged with its traceback; the caller is told where to look.
    """
    try:
        return await work()
    except (FeatureStoreError, LineageError) as error:
        await abort(context, error)
    except (grpc.aio.AbortError, asyncio.CancelledError):
        raise
    except Exception:  # noqa: BLE001  # the call's outermost frame
        await abort(context, broken(method, context.invocation_metadata()))


def _bearer(metadata: Iterable[tuple[str, Any]] | None) -> str | None:
    for key, value in metadata or ():
        if key == "authorization" and isinstance(value, str):
            if value[: len(_SCHEME)].lower() == _SCHEME:
                return value[len(_SCHEME) :].strip()
            return None
    return None
