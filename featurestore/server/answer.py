"""How a handler's error becomes a gRPC status."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import grpc

from featurestore import wire
from featurestore.errors import FeatureStoreError
from lineage.trailer import fit_text

__all__ = ["abort", "answer"]

_log = logging.getLogger(__name__)


async def abort(context: Any, error: FeatureStoreError) -> NoReturn:
    """End a call with an error the client can raise again."""
    code = getattr(grpc.StatusCode, error.code, grpc.StatusCode.UNKNOWN)
    await context.abort(code, fit_text(error.message), wire.error_metadata(error))
    raise AssertionError("abort never returns")


async def answer(context: Any, work: Callable[[], Awaitable[Any]], method: str) -> Any:
    """Await a handler's work and turn its errors into a status.

    An unexpected error is logged with its traceback; the caller is told where to look.
    """
    try:
        return await work()
    except FeatureStoreError as error:
        await abort(context, error)
    except (grpc.aio.AbortError, asyncio.CancelledError):
        raise
    except Exception:  # noqa: BLE001  # the call's outermost frame
        _log.exception("%s failed", method)
        await context.abort(
            grpc.StatusCode.INTERNAL, f"{method} failed inside the server; its log has the cause"
        )
