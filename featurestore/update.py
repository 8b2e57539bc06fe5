"""Partial updates: some features of a stored record change, the others stay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from featurestore import convert, eventtime
from featurestore import record as record_rules
from featurestore.codec import NEVER, StoredValue
from featurestore.errors import InvalidRecord, RecordConflict, RecordNotFound
from featurestore.feature import Value
from featurestore.schema import FeatureGroup, Ttl

__all__ = ["Updated", "merge"]

MAX_UPDATES: Final = 100


class Updated(NamedTuple):
    """A stored record after a partial update."""

    record: bytes
    event_time_us: int
    expires_us: int


def merge(
    group: FeatureGroup,
    identifier: str,
    stored: StoredValue | None,
    features: Mapping[str, object],
    ttl: Ttl | None,
    *,
    now: int,
    tolerance_us: int = record_rules.FUTURE_TOLERANCE_US,
) -> Updated:
    """Apply an update to the stored version of a record.

    Args:
        group: the definition.
        identifier: the record's, as text.
        stored: the version that is there, its record in clear; None: none.
        features: feature name → value; None makes a feature null.
        ttl: a new time to live; None keeps the stored one.
        now: the store's clock, µs since the epoch.
        tolerance_us: how far ahead of `now` an event time may lie.

    Raises:
        RecordNotFound: there is no readable record.
        RecordConflict: the stored record's event time is later than the one given.
        InvalidRecord: a value does not fit the group, or a ttl comes without an event time.
    """
    changes = _checked(group, identifier, features)
    if ttl is not None and changes.get(group.event_time) is None:
        raise InvalidRecord(
            f"{group.name}.{group.event_time}: a ttl needs an event time in the same update",
            group=group.name,
            feature=group.event_time,
        )
    if stored is None or not stored.is_readable(now):
        raise RecordNotFound(
            f"{group.name}: there is no record {record_rules.shown(identifier)} to update; put a "
            f"whole record",
            group=group.name,
            identifier=identifier,
        )
    event_time_us = stored.event_time_us
    moment = changes.get(group.event_time)
    if moment is not None:
        event_time_us = record_rules.event_time_us(
            group, moment, now=now, tolerance_us=tolerance_us
        )
        if event_time_us < stored.event_time_us:
            raise RecordConflict(
                f"{group.name}: the record {record_rules.shown(identifier)} has the later event "
                f"time {eventtime.format_iso(stored.event_time_us)}, the update has "
                f"{eventtime.format_iso(event_time_us)}",
                group=group.name,
                identifier=identifier,
            )
    if ttl is not None:
        expires_us = event_time_us + ttl.us
    elif stored.expires_us == NEVER:
        expires_us = NEVER
    else:  # the stored ttl stays, counted from the event time
        expires_us = event_time_us + stored.expires_us - stored.event_time_us
    values = convert.decode_record(stored.record)
    for name, value in changes.items():
        if value is None:
            values.pop(name, None)
        else:
            values[name] = value
    data = convert.encode_record(values, group.collections)
    return Updated(
        convert.checked_size(group, data),
        event_time_us,
        NEVER if expires_us > eventtime.MAX_US else expires_us,
    )


def _checked(
    group: FeatureGroup, identifier: str, features: Mapping[str, object]
) -> dict[str, Value | None]:
    """Return the changes in their declared types; None: becomes null."""
    if not isinstance(features, Mapping):
        raise InvalidRecord(
            f"{group.name}: expected an update as a mapping of feature names to values, "
            f"got {type(features).__name__}",
            group=group.name,
        )
    if not 1 <= len(features) <= MAX_UPDATES:
        raise InvalidRecord(
            f"{group.name}: expected 1 to {MAX_UPDATES} features in an update, got {len(features)}",
            group=group.name,
        )
    changes = {
        name: record_rules.feature_value(group, name, value) for name, value in features.items()
    }
    key = group.record_identifier
    if key in changes and record_rules.identifier_text(group, changes[key]) != identifier:
        raise InvalidRecord(
            f"{group.name}.{key}: an update cannot change the record identifier "
            f"{record_rules.shown(identifier)}, got {record_rules.shown(changes[key])}",
            group=group.name,
            feature=key,
        )
    if group.event_time in changes and changes[group.event_time] is None:
        raise InvalidRecord(
            f"{group.name}.{group.event_time}: the event time cannot become null",
            group=group.name,
            feature=group.event_time,
        )
    return changes
