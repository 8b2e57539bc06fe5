"""`POST /api/v1/lineage` and `/api/v1/lineage/batch`: events of OpenLineage into the graph."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, final

from featureline.server.httpcall import InvalidHttpRequest, reply
from lineage import Graph
from lineage.errors import InvalidEvent
from lineage.openlineage import read_event, record_events, to_draft

__all__ = ["MAX_BATCH_BYTES", "MAX_BATCH_EVENTS", "MAX_EVENT_BYTES", "OpenLineageRoutes"]

MAX_EVENT_BYTES: Final = 16 * 1024 * 1024
MAX_BATCH_BYTES: Final = 64 * 1024 * 1024
MAX_BATCH_EVENTS: Final = 10_000
# Of all calls that are read or at work.
_MAX_HELD_BYTES: Final = 512 * 1024 * 1024
_READ_S: Final = 60.0
_JSON: Final = "application/json"
_GZIP: Final = ("gzip", "x-gzip")
_GZIP_BITS: Final = 31
_TOO_SLOW: Final = 408
_TOO_LARGE: Final = 413
_OTHER_FORM: Final = 415
_TOO_BUSY: Final = 503


@final
class OpenLineageRoutes:
    """Takes events; each is durable in the lineage store before the reply.

    Args:
        graph: open until `close`; the caller closes it.
        threads: most calls at work at once, which share commits.
    """

    def __init__(self, graph: Graph, *, threads: int = 16) -> None:
        self._graph = graph
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="openlineage")
        self._held = 0

    async def event(self, request: Any, principal: str | None) -> Any:
        """Record one event: 200 with its sequence, and what was wrong with it."""
        return await self._answer(request, principal, self._record, MAX_EVENT_BYTES)

    async def batch(self, request: Any, principal: str | None) -> Any:
        """Record an array of events: 204, or 200 with those that failed."""
        return await self._answer(request, principal, self._record_batch, MAX_BATCH_BYTES)

    def close(self) -> None:
        """Wait for the calls at work, and let the threads go."""
        self._threads.shutdown()

    async def _answer(
        self,
        request: Any,
        principal: str | None,
        work: Callable[[_Body, bool, str | None], Any],
        limit: int,
    ) -> Any:
        body = _Body(request, limit)
        held = 0

        def hold(size: int) -> None:
            nonlocal held
            if self._held + size > _MAX_HELD_BYTES:
                raise InvalidHttpRequest(
                    _TOO_BUSY,
                    "body",
                    "a smaller one while many are read",
                    "more than fits",
                    code="UNAVAILABLE",
                )
            self._held += size
            held += size

        try:
            await body.read(hold)
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, work, body, _is_strict(request), principal
            )
        finally:
            self._held -= held

    def _record(self, body: _Body, strict: bool, principal: str | None) -> Any:
        event = read_event(body.whole(), strict=strict)
        draft = to_draft(event, actor=principal)
        (recorded,) = self._graph.record_all([draft])
        if isinstance(recorded, Exception):
            raise recorded
        said: dict[str, Any] = {"sequence": recorded.sequence}
        if event.validation:
            said["validation"] = event.validation
        return reply(200, said)

    def _record_batch(self, body: _Body, strict: bool, principal: str | None) -> Any:
        try:
            events = json.loads(body.whole())
        except (ValueError, RecursionError) as error:
            problem = str(error) or "too many levels"
            raise InvalidEvent("", "a JSON array of events", f"no JSON ({problem})") from None
        if not isinstance(events, list):
            raise InvalidEvent(
                "",
                "a JSON array of events",
                f"a JSON {type(events).__name__}",
                "post one event to /api/v1/lineage",
            )
        if len(events) > MAX_BATCH_EVENTS:
            expected = f"at most {MAX_BATCH_EVENTS} events"
            raise InvalidHttpRequest(_TOO_LARGE, "body", expected, str(len(events)))
        refused = record_events(self._graph, events, strict=strict, actor=principal)
        if not refused:
            return reply(204)
        successful = len(events) - len(refused)
        return reply(
            200,
            {
                "status": "partial_success" if successful else "failure",
                "summary": {
                    "received": len(events),
                    "successful": successful,
                    "failed": len(refused),
                },
                "failed_events": [
                    {
                        "index": one.place,
                        "reason": str(one.error),
                        "retriable": one.error.code == "UNAVAILABLE",
                    }
                    for one in refused
                ],
            },
        )


@final
class _Body:
    """The body of a request: read, then unpacked, and never more of it than allowed.

    Args:
        request: to read.
        limit: bytes that it may have, also unpacked.
    """

    def __init__(self, request: Any, limit: int) -> None:
        self._request = request
        self._limit = limit
        self._data = bytearray()
        headers = request.headers
        kind = headers.get("content-type", _JSON).partition(";")[0].strip().lower()
        if kind != _JSON and not kind.endswith("+json"):
            raise InvalidHttpRequest(_OTHER_FORM, "Content-Type", _JSON, ascii(kind))
        self._packing = headers.get("content-encoding", "").strip().lower()
        if self._packing not in (*_GZIP, "identity", ""):
            raise InvalidHttpRequest(
                _OTHER_FORM, "Content-Encoding", "gzip or none", ascii(self._packing)
            )
        said = headers.get("content-length", "")
        if said.isdecimal() and int(said) > limit:
            raise self._too_large(said)

    async def read(self, hold: Callable[[int], None]) -> None:
        """Read it; `hold` is told the size of each part before."""
        from starlette.requests import ClientDisconnect

        try:
            async with asyncio.timeout(_READ_S):
                async for chunk in self._request.stream():
                    hold(len(chunk))
                    self._data += chunk
                    if len(self._data) > self._limit:
                        raise self._too_large("more")
        except TimeoutError:
            raise InvalidHttpRequest(
                _TOO_SLOW, "body", f"all of it within {_READ_S:g} s", f"{len(self._data)} bytes"
            ) from None
        except ClientDisconnect:
            raise InvalidHttpRequest(400, "body", "all of it", "its beginning only") from None

    def whole(self) -> bytes:
        """The bytes, unpacked."""
        if self._packing not in _GZIP:
            return bytes(self._data)
        parts: list[bytes] = []
        data, size = bytes(self._data), 0
        while data:
            unpack = zlib.decompressobj(wbits=_GZIP_BITS)
            try:
                part = unpack.decompress(data, self._limit - size + 1)
            except zlib.error as error:
                raise InvalidHttpRequest(400, "body", "gzip", f"something else ({error})") from None
            parts.append(part)
            size += len(part)
            if size > self._limit:
                raise self._too_large("more, unpacked")
            if not unpack.eof:
                raise InvalidHttpRequest(400, "body", "gzip", "its beginning only")
            data = unpack.unused_data
        return b"".join(parts)

    def _too_large(self, got: str) -> InvalidHttpRequest:
        return InvalidHttpRequest(_TOO_LARGE, "body", f"at most {self._limit} bytes", got)


def _is_strict(request: Any) -> bool:
    return str(request.query_params.get("strict", "")).lower() in ("1", "true", "yes")
