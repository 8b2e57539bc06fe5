"""Between collections of garbage and their protobuf messages."""

from __future__ import annotations

from collections.abc import Collection as Several
from datetime import timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration

from lineage.collection import Collection, Item
from lineage.errors import InvalidQuery
from lineage.v1 import collect_pb2 as pb

_DEFAULT_AGE: Final = timedelta(days=30)


def request_to_message(
    *, apply: bool, keep: Several[str], older_than: timedelta, kinds: Several[str]
) -> pb.CollectGarbageRequest:
    """What is asked as a message."""
    age = Duration()
    age.FromTimedelta(older_than)
    return pb.CollectGarbageRequest(apply=apply, keep=keep, older_than=age, kinds=kinds)


def age_from_message(request: pb.CollectGarbageRequest) -> timedelta:
    """The age that a message asks for.

    Raises:
        InvalidQuery: it is no time.
    """
    if not request.HasField("older_than"):
        return _DEFAULT_AGE
    try:
        return request.older_than.ToTimedelta()
    except (OverflowError, ValueError) as error:
        raise InvalidQuery(
            f"older_than: expected 0 to 270 years, got {request.older_than.seconds} seconds"
        ) from error


def collection_to_message(found: Collection) -> pb.CollectGarbageResponse:
    """A collection as a message, without the paths."""
    return pb.CollectGarbageResponse(
        items=[
            pb.CollectGarbageResponse.Item(
                kind=item.kind,
                uri=item.uri,
                uid=item.uid,
                size_bytes=item.size_bytes,
                goes=item.goes,
                why=item.why,
                chain=item.chain,
                pinned=item.pinned,
            )
            for item in found.items
        ],
        sequence=found.sequence,
        applied=found.applied,
        recorded=found.recorded,
    )


def collection_from_message(message: pb.CollectGarbageResponse) -> Collection:
    """A collection."""
    return Collection(
        tuple(
            Item(
                item.kind,
                item.uri,
                item.uid,
                item.size_bytes,
                item.goes,
                item.why,
                tuple(item.chain),
                pinned=tuple(item.pinned),
            )
            for item in message.items
        ),
        message.sequence,
        applied=message.applied,
        recorded=message.recorded,
    )
