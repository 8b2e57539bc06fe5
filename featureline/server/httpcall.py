"""What every HTTP call passes: the gate, the guard, the counts, and errors as JSON."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias, final

from featurestore.errors import AccessDenied, FeatureStoreError
from featurestore.server import Access
from featurestore.server.answer import broken
from featurestore.server.gate import shutting_down
from lineage.errors import LineageError
from lineage.wire.requestid import REQUEST_ID_KEY, new_request_id, request_id

__all__ = ["Answer", "Door", "InvalidHttpRequest", "refusal", "reply"]

Answer: TypeAlias = Callable[[Any, str | None], Awaitable[Any]]
"""Answers a request of a principal, None where nobody is asked who they are."""

_STATUSES: Final = {
    "OK": 200,
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "FAILED_PRECONDITION": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
}
_SCHEME: Final = "bearer "
_SHOWN_ID: Final = 64
# The permission of a call that records lineage; see featurestore/server/permission.py.
_PERMISSION: Final = "Record"
_log = logging.getLogger(__name__)


class InvalidHttpRequest(FeatureStoreError):
    """A request that is refused for its form.

    Args:
        status: of HTTP.
        where: path of the field or header.
        expected: what should be there.
        got: what is.
        code: of gRPC, as which the call is counted and audited.
    """

    code = "INVALID_ARGUMENT"

    def __init__(
        self, status: int, where: str, expected: str, got: str, *, code: str = code
    ) -> None:
        super().__init__(f"{where}: expected {expected}, got {got}")
        self.code = code  # type: ignore[misc]  # one class for all forms of requests
        self.status = status
        self.where = where
        self.expected = expected
        self.got = got


@final
class Door:
    """What calls pass on their way in and out; used on one event loop, closed from any thread.

    Args:
        guard: a `featurestore.auth.Guard`; None: anybody may call anything.
        registry: of the feature groups, which policies may ask about.
        method: what the calls are counted as.
        metrics: counts calls; None: nobody does.
        secure: they come over TLS.
    """

    def __init__(
        self, guard: Any, registry: Any, *, method: str, metrics: Any, secure: bool
    ) -> None:
        self._guard = guard
        self._access = None if guard is None else Access(guard, registry)
        self._method = method
        self._metrics = metrics
        self._secure = secure
        self._lock = threading.Condition()
        self._inside = 0
        self.is_closing = False

    def close(self) -> None:
        """Let no more calls in."""
        with self._lock:
            self.is_closing = True

    def wait_empty(self, timeout_s: float) -> bool:
        """Wait for the calls inside to leave; tell whether they did in time."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._inside, timeout_s)

    def guarded(self, answer: Answer) -> Callable[[Any], Awaitable[Any]]:
        """Return a route that answers who may call, and turns errors into JSON."""

        async def guarded(request: Any) -> Any:
            given = request.headers.get(REQUEST_ID_KEY, "")
            named = given[:_SHOWN_ID] if given and given.isprintable() else new_request_id()
            token = request_id.set(named)
            began = time.perf_counter()
            status = "UNKNOWN"
            try:
                response, status = await self._answered(request, answer)
            finally:
                request_id.reset(token)
                if self._metrics is not None:
                    self._metrics.answered(self._method, status, time.perf_counter() - began)
            response.headers[REQUEST_ID_KEY] = named
            return response

        return guarded

    async def _answered(self, request: Any, answer: Answer) -> tuple[Any, str]:
        try:
            self._enter()
            try:
                return await self._permitted(request, answer), "OK"
            finally:
                self._leave()
        except (FeatureStoreError, LineageError) as error:
            return _refused(error), error.code
        except Exception:  # noqa: BLE001 - the call's outermost frame
            unexpected = broken(self._method)
            return _refused(unexpected), unexpected.code

    async def _permitted(self, request: Any, answer: Answer) -> Any:
        access = self._access
        if access is None or not access.is_active:
            return await answer(request, None)
        address = request.client.host if request.client else ""
        caller = self._guard.authenticate(_bearer(request), address, secure=self._secure)
        access.check(_PERMISSION, None, caller)
        code = "UNKNOWN"
        try:
            response = await answer(request, caller.principal)
            code = "OK"
        except (FeatureStoreError, LineageError) as error:
            code = "" if isinstance(error, AccessDenied) else error.code
            raise
        finally:
            if code:
                access.audit(caller, _PERMISSION, [None], code)
        return response

    def _enter(self) -> None:
        with self._lock:
            if self.is_closing:
                raise shutting_down()
            self._inside += 1

    def _leave(self) -> None:
        with self._lock:
            self._inside -= 1
            self._lock.notify_all()


def reply(status: int, body: Mapping[str, Any] | None = None, **options: Any) -> Any:
    """A response with a JSON body, or with none."""
    from starlette.responses import Response

    if body is None:
        return Response(status_code=status, **options)
    content = json.dumps(body, ensure_ascii=False).encode()
    return Response(content, status, media_type="application/json", **options)


def refusal(
    status: int,
    kind: str,
    message: str,
    *,
    facts: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Any:
    """A response that says what is wrong."""
    error = {"error": kind, "message": message, **(facts or {})}
    if named := request_id.get():
        error["request_id"] = named
    return reply(status, error, headers=dict(headers or {}))


def _refused(error: FeatureStoreError | LineageError) -> Any:
    headers = {}
    status = getattr(error, "status", 0) or _STATUSES.get(error.code, 500)
    if status == _STATUSES["UNAUTHENTICATED"]:
        headers["WWW-Authenticate"] = "Bearer"
    if status == _STATUSES["UNAVAILABLE"]:
        headers["Retry-After"] = "1"
    facts = {
        name: fact
        for name in ("where", "expected", "got")
        if isinstance(fact := getattr(error, name, None), str)
    }
    message = str(error).encode(errors="backslashreplace").decode()
    return refusal(status, type(error).__name__, message, facts=facts, headers=headers)


def _bearer(request: Any) -> str | None:
    value = request.headers.get("authorization", "")
    return value[len(_SCHEME) :].strip() if value[: len(_SCHEME)].lower() == _SCHEME else None
