"""What the gRPC services of this package share: threads for the work, errors for the client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

import grpc

from featurestore.errors import FeatureStoreError
from lineage.errors import LineageError
from lineage.wire.trailer import fit_text
from training import convert
from training.errors import InvalidJob, TrainingError

__all__ = ["answered", "page_size"]

Reply = TypeVar("Reply")

_PAGE = 100

logger = logging.getLogger(__name__)


async def answered(context: Any, threads: Executor, work: Callable[[], Reply]) -> Reply:
    """Do the work of a call in a thread; an error ends the call with its status and class."""
    loop = asyncio.get_running_loop()
    try:
        return await loop.run_in_executor(threads, work)
    except TrainingError as error:
        await context.abort(
            grpc.StatusCode[error.code],
            fit_text(error.message),
            convert.error_to_metadata(error),
        )
        raise AssertionError("abort never returns") from error
    except (FeatureStoreError, LineageError):
        raise  # whoever serves answers these
    except Exception:
        # The outermost frame of a call.
        logger.exception("a training call failed")
        await context.abort(
            grpc.StatusCode.INTERNAL, "the call failed inside the server; its log has the cause"
        )
        raise


def page_size(asked: int) -> int:
    """Return how many entries a page of a list has.

    Raises:
        InvalidJob: more were asked for than a page may have.
    """
    if not 0 <= asked <= _PAGE:
        raise InvalidJob(
            f"max_results: expected 1 to {_PAGE}, got {asked}",
            field="max_results",
        )
    return asked or _PAGE
