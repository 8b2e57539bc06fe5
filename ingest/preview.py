"""Previews: what would be stored of the first messages, without storing anything."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, final

from featurestore import FeatureStore, InvalidRecord, Value
from ingest.decode import Decoded, Decoder, Deleted, JsonDecoder, RowDecoder
from ingest.errors import Undecodable
from ingest.source import Message, Source
from ingest.transform import Transform

__all__ = ["Preview", "preview_messages"]

_PAGE: Final = 100


@final
@dataclass(frozen=True, slots=True)
class Preview:
    """What would become of one message.

    Args:
        partition: where in the source.
        offset: where in the partition.
        outcome: `put`, `delete`, `skipped`, or `refused`.
        record: what would be put; of a deletion its identifier and event time.
        reason: why it is refused.
    """

    partition: str
    offset: int
    outcome: Literal["put", "delete", "skipped", "refused"]
    record: Mapping[str, Value | object] | None = None
    reason: str | None = None


def preview_messages(
    source: Source,
    store: FeatureStore,
    group: str,
    *,
    decoder: Decoder | None = None,
    mapping: Mapping[str, str] | None = None,
    transforms: Sequence[Transform] = (),
    limit: int = 10,
    timeout_s: float = 10.0,
) -> list[Preview]:
    """Say of a source's first messages what a pipeline would store.

    Reads from the beginning, whatever was stored before; nothing is stored and no position moves.

    Args:
        source: what to read; closed at the end.
        store: has the group, and those that are looked up.
        group: the feature group.
        decoder: default: rows for a source with columns, else JSON.
        mapping: of the default decoder.
        transforms: as of a pipeline.
        limit: at most so many messages, ≥ 1.
        timeout_s: how long to wait for them.

    Raises:
        InvalidMapping: a transform does not fit the group.
        SourceNotFound, SourceUnavailable: there is no such input, or it does not answer.
        FeatureGroupNotFound: no such group.
    """
    definition = store.describe_feature_group(group)
    messages: list[Message] = []
    deadline = time.monotonic() + timeout_s
    try:
        for transform in transforms:
            transform.open(store, definition)
        source.seek(dict)
        while len(messages) < limit:
            batch = source.poll(min(_PAGE, limit - len(messages)), 0.2)
            messages += batch.messages
            if batch.is_last or batch.is_caught_up or time.monotonic() > deadline:
                break
        if decoder is None:
            kind = JsonDecoder if source.columns is None else RowDecoder
            decoder = kind(mapping or {})
        said = [_decoded(decoder, message) for message in messages]
        for transform in transforms:
            places = [
                at for at, item in enumerate(said) if not isinstance(item, Undecodable | None)
            ]
            changed = transform.apply(
                [said[at] for at in places],  # type: ignore[misc]  # no refusal among them
                [messages[at] for at in places],
            )
            for at, item in zip(places, changed, strict=True):
                said[at] = item
    finally:
        for transform in transforms:
            transform.close()
        source.close()
    return [
        _previewed(message, item, definition) for message, item in zip(messages, said, strict=True)
    ]


def _decoded(decoder: Decoder, message: Message) -> Decoded | Undecodable:
    if message.fault is not None:
        return message.fault
    try:
        return decoder.decode(message)
    except Undecodable as error:
        return error


def _previewed(message: Message, item: Any, group: Any) -> Preview:
    place = (message.partition, message.offset)
    if item is None:
        return Preview(*place, "skipped")
    if isinstance(item, Undecodable):
        return Preview(*place, "refused", reason=str(item))
    if isinstance(item, Deleted):
        moment = item.fields.get(group.event_time) if item.event_time is None else item.event_time
        identifier = item.fields.get(group.record_identifier)
        if identifier is None or moment is None:
            return Preview(
                *place, "refused", reason="deletion: expected an identifier and an event time"
            )
        names = (group.record_identifier, group.event_time)
        return Preview(*place, "delete", dict(zip(names, (identifier, moment), strict=True)))
    try:
        return Preview(*place, "put", group.validate(item))
    except InvalidRecord as error:
        return Preview(*place, "refused", reason=str(error))
