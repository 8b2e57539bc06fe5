"""Errors of the feature store in the trailers of calls."""

from __future__ import annotations

import json
from typing import Any, Final

import grpc

from featurestore import errors
from featurestore.errors import (
    FeatureStoreError,
    InternalError,
    InvalidRequest,
    StoreUnavailable,
)
from featurestore.wire.channel import MAX_MESSAGE_BYTES
from lineage.errors import LineageError
from lineage.wire.channel import Login
from lineage.wire.convert import error_from_metadata, error_to_metadata
from lineage.wire.handshake import why_unreachable
from lineage.wire.trailer import fit_facts

__all__ = ["ERROR_KEY", "FACTS_KEY", "PUSHBACK_KEY", "error_metadata", "raise_from_rpc"]

ERROR_KEY: Final = "featureline-error"
FACTS_KEY: Final = "featureline-facts-bin"
PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"


def error_metadata(
    error: FeatureStoreError | LineageError,
) -> tuple[tuple[str, str | bytes], ...]:
    """Return the trailing metadata that lets a client raise the same error.

    A refusal for load also tells gRPC's own retries when to come back; a full disk tells them not
    to. What lineage refuses is raised as lineage's own error.
    """
    if isinstance(error, LineageError):
        return error_to_metadata(error)
    known = ((ERROR_KEY, type(error).__name__), (FACTS_KEY, fit_facts(error.facts)))
    if error.code != "RESOURCE_EXHAUSTED":
        return known
    wait_s = error.facts.get("retry_after_s")
    pushback = str(int(wait_s * 1000)) if isinstance(wait_s, int | float) else "-1"
    return (*known, (PUSHBACK_KEY, pushback))


def raise_from_rpc(error: Any, target: str, login: Login, request_id: str) -> None:
    """Raise what the server raised, or what a failed call means.

    Args:
        error: a grpc.RpcError that is also a call.
        target: the server's address, for the message.
        login: how the client connected.
        request_id: of the call; where the server made one of its own, that counts.

    Cost: as `lineage.wire.handshake.why_unreachable`, where no connection came about.
    """
    failure = _to_error(error, target, login)
    if isinstance(failure, LineageError):
        failure.request_id = failure.request_id or request_id
    else:
        failure.facts.setdefault("request_id", request_id)
    raise failure from error


def _to_error(error: Any, target: str, login: Login) -> FeatureStoreError | LineageError:
    metadata = dict(error.trailing_metadata() or ())
    name = metadata.get(ERROR_KEY)
    details = error.details() or ""
    if name is not None:
        cls: type[FeatureStoreError] | None = getattr(errors, str(name), None)
        # What both packages have, such as StoreUnavailable, is this one's.
        refused = None if cls else error_from_metadata(tuple(metadata.items()), details)
        facts = json.loads(metadata.get(FACTS_KEY, b"{}"))
        return refused or (cls or InternalError)(details, **facts)
    code = error.code()
    if code is grpc.StatusCode.UNAVAILABLE:
        return StoreUnavailable(
            f"no feature store answers at {target} ({details}); "
            + (
                why_unreachable(details, target, login.tls)
                or "start one with `featureline serve`, or check the address"
            )
        )
    if code is grpc.StatusCode.CANCELLED:  # by the server: a caller's own wish raises otherwise
        return StoreUnavailable(
            f"the feature store at {target} ended before it answered; call again"
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return StoreUnavailable(f"the feature store at {target} did not answer in time")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in details:
        return InvalidRequest(
            f"the request or reply is larger than {MAX_MESSAGE_BYTES >> 20} MiB ({details}); "
            f"write or read fewer records in a call"
        )
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return errors.StoreFull(f"the feature store at {target}: {details}")
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidRequest(details)
    if code is grpc.StatusCode.UNAUTHENTICATED:  # said by somebody between us and the server
        return errors.Unauthenticated(f"{target}: {details}")
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return errors.AccessDenied(f"{target}: {details}")
    return InternalError(f"the feature store at {target}: {code.name}: {details}")
