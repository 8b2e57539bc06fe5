"""Messages of windowed groups: plain functions that the client and the server share."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any, Final

from featurestore import eventtime, wire
from featurestore.errors import InvalidFeatureGroup, InvalidRequest
from featurestore.store import WindowedDescription
from featurestore.v1 import window_pb2
from featurestore.window import Aggregation, WindowedFeature, WindowedGroup
from featurestore.wire import control as wire_control

__all__ = [
    "at_from",
    "windowed_description_from",
    "windowed_description_message",
    "windowed_group_from",
    "windowed_group_message",
    "windows_message",
]

_US: Final = dt.timedelta(microseconds=1)
_NUMBERS: Final = {kind: getattr(window_pb2, kind.name) for kind in Aggregation}
_KINDS: Final = {number: kind for kind, number in _NUMBERS.items()}


def windowed_group_message(group: WindowedGroup) -> window_pb2.WindowedGroup:
    """Write a windowed group."""
    return window_pb2.WindowedGroup(
        windowed_group_name=group.name,
        source_feature_group_name=group.source,
        by_feature_name=group.by,
        windowed_features=[
            window_pb2.WindowedFeature(
                feature_name=feature.name,
                aggregation=_NUMBERS[feature.kind],
                source_feature_name=feature.of or "",
                window_us=feature.over_us,
                k=feature.k or 0,
            )
            for feature in group.features
        ],
        description=group.description,
        retention_us=group.retention // _US,
    )


def windowed_group_from(message: Any) -> WindowedGroup:
    """Read a windowed group.

    Raises:
        InvalidFeatureGroup: it breaks a rule.
    """
    return WindowedGroup(
        message.windowed_group_name,
        message.source_feature_group_name,
        message.by_feature_name,
        [_feature(entry) for entry in message.windowed_features],
        message.description,
        _span("retention_us", message.retention_us),
    )


def windowed_description_message(
    description: WindowedDescription,
) -> window_pb2.WindowedGroupDescription:
    """Write what the store knows of a windowed group."""
    message = window_pb2.WindowedGroupDescription(
        windowed_group=windowed_group_message(description.group),
        feature_definitions=wire_control.definitions_message(description.features),
        status="Created" if description.is_filled else "Creating",
    )
    message.creation_time.FromDatetime(description.created)
    return message


def windowed_description_from(message: Any) -> WindowedDescription:
    """Read what a server knows of a windowed group."""
    return WindowedDescription(
        windowed_group_from(message.windowed_group),
        wire_control.definitions_from(message.feature_definitions),
        message.creation_time.ToDatetime(dt.UTC),
        is_filled=message.status == "Created",
    )


def windows_message(
    group: str, keys: Iterable[object], at: dt.datetime | None
) -> window_pb2.GetWindowsRequest:
    """Write a request for windowed features."""
    request = window_pb2.GetWindowsRequest(
        feature_group_name=group,
        record_identifiers_value_as_string=[wire.text(key) for key in keys],
    )
    if at is not None:
        try:
            at_us = eventtime.to_us(at)
        except ValueError as error:
            raise InvalidRequest(f"{group}: at: {error}") from None
        request.at.seconds, request.at.nanos = at_us // 1_000_000, at_us % 1_000_000 * 1000
    return request


def at_from(request: Any) -> dt.datetime | None:
    """Read the time of a request for windowed features; None: now."""
    if not request.HasField("at"):
        return None
    us = request.at.seconds * 1_000_000 + request.at.nanos // 1000
    if not eventtime.MIN_US <= us <= eventtime.MAX_US:
        raise InvalidRequest(
            f"at: expected a time of the years 0000 to 9999, got {request.at.seconds} s since the "
            f"epoch"
        )
    return eventtime.to_datetime(us)


def _feature(message: Any) -> WindowedFeature:
    kind = _KINDS.get(message.aggregation)
    if kind is None:
        raise InvalidFeatureGroup(
            f"{message.feature_name or 'windowed feature'}: expected an aggregation, got number "
            f"{message.aggregation}"
        )
    return WindowedFeature(
        kind,
        message.source_feature_name or None,
        _span("window_us", message.window_us),
        message.feature_name,
        message.k or None,
    )


def _span(field: str, us: int) -> dt.timedelta:
    try:
        return us * _US
    except OverflowError:
        raise InvalidFeatureGroup(f"{field}: expected a length of time, got {us} µs") from None
