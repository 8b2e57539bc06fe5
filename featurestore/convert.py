"""Between the wire and the inside: protobuf records, Python values and Arrow tables."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from featurestore import arrowwalk, eventtime
from featurestore import record as record_rules
from featurestore.arrowwalk import ARROW_TYPES
from featurestore.codec import DELETED, NEVER, OutboxEntries, OutboxEntry
from featurestore.errors import InvalidRecord
from featurestore.feature import FeatureDefinition, FeatureType, Value
from featurestore.schema import FeatureGroup, Ttl, TtlUnit
from featurestore.v1 import record_pb2

__all__ = [
    "ARROW_TYPES",
    "INTERNAL_COLUMNS",
    "arrow_type",
    "check_bytes",
    "check_message",
    "decode_record",
    "encode_record",
    "entries_to_table",
    "offline_schema",
    "records_to_columns",
    "records_to_table",
    "select_features",
    "table_to_records",
    "ttl_from_message",
    "ttl_to_message",
]

_FIELDS: Final = {
    FeatureType.INTEGRAL: "integral_value",
    FeatureType.FRACTIONAL: "fractional_value",
    FeatureType.STRING: "string_value",
}
_LISTS: Final = {
    FeatureType.INTEGRAL: "integral_list",
    FeatureType.FRACTIONAL: "fractional_list",
    FeatureType.STRING: "string_list",
}
_TIME: Final = pa.timestamp("us", "UTC")
INTERNAL_COLUMNS: Final = {
    "_event_time": _TIME,
    "write_time": _TIME,
    "api_invocation_time": _TIME,
    "is_deleted": pa.bool_(),
    "_expires_at": _TIME,  # when the record's ttl ends; verify needs it, datasets do not see it
    "_sequence": pa.int64(),  # the store's running number: the total order of its writes
    "_event_date": pa.date32(),
}
_EPOCH_ORDINAL: Final = dt.date(1970, 1, 1).toordinal()
_DAY_US: Final = 86_400_000_000
_MICROSECONDS: Final = {"s": (1_000_000, 1), "ms": (1_000, 1), "us": (1, 1), "ns": (1, 1_000)}


def arrow_type(feature: FeatureDefinition) -> pa.DataType:
    """Return the type of a feature's column."""
    kind = ARROW_TYPES[feature.type]
    return kind if feature.collection is None else pa.list_(kind)


def encode_record(
    values: Mapping[str, Value], collections: Mapping[str, FeatureDefinition] | None = None
) -> bytes:
    """Write typed values as the bytes of a `featurestore.v1.Record`.

    Args:
        values: feature name → value.
        collections: the group's, for the type of a collection's elements.
    """
    message = record_pb2.Record()
    add = message.values.add
    for name, value in values.items():
        entry = add()
        entry.feature_name = name
        if isinstance(value, str):
            entry.value.string_value = value
        elif isinstance(value, float):
            entry.value.fractional_value = value
        elif isinstance(value, int):
            entry.value.integral_value = value
        else:
            known = collections and collections.get(name)
            fill_list(entry.value, value, known.type if known else None)
    return message.SerializeToString()


def fill_list(message: Any, values: Sequence[Any], kind: FeatureType | None = None) -> None:
    """Write a collection into an empty `Value`.

    Args:
        message: the value.
        values: elements of one type.
        kind: their declared type; None: by the elements, Fractional when numbers are mixed.
    """
    if kind is None:
        found = set(map(type, values))
        if found == {int}:
            kind = FeatureType.INTEGRAL
        else:
            kind = FeatureType.FRACTIONAL if found & {int, float} else FeatureType.STRING
    elements = getattr(message, _LISTS[kind])
    elements.SetInParent()  # an empty list is there, and is no null
    elements.values.extend(values)


def decode_record(data: bytes, names: Sequence[str] | None = None) -> dict[str, Value]:
    """Read the bytes of a record as feature name → value; with `names`, only those.

    >>> decode_record(encode_record({"origin": "JFK", "temp": 39.0}))
    {'origin': 'JFK', 'temp': 39.0}
    """
    message = record_pb2.Record.FromString(data)
    return message_to_values(message, names)


def message_to_values(
    message: record_pb2.Record, names: Sequence[str] | None = None
) -> dict[str, Value]:
    """Read a record message as feature name → value; with `names`, only those."""
    values: dict[str, Value] = {}
    for entry in message.values:
        if names is None or entry.feature_name in names:
            kind = entry.value.WhichOneof("kind")
            if kind is not None:
                value = getattr(entry.value, kind)
                values[entry.feature_name] = list(value.values) if kind.endswith("_list") else value
    return values


def given_values(group: str, entries: Iterable[record_pb2.FeatureValue]) -> dict[str, object]:
    """Read values as a client gave them, before they are checked; one without a kind is None.

    Raises:
        InvalidRecord: a feature is given twice.
    """
    values: dict[str, object] = {}
    for entry in entries:
        name = entry.feature_name
        if name in values:
            raise InvalidRecord(
                f"{group}.{name}: the feature is given twice", group=group, feature=name
            )
        kind = entry.value.WhichOneof("kind")
        value: Any = None if kind is None else getattr(entry.value, kind)
        values[name] = list(value.values) if hasattr(value, "values") else value
    return values


def select_features(data: bytes, names: Sequence[str]) -> bytes:
    """Return the record's bytes with only the named features."""
    message = record_pb2.Record.FromString(data)
    kept = record_pb2.Record()
    kept.values.extend(entry for entry in message.values if entry.feature_name in names)
    return kept.SerializeToString()


def check_message(
    group: FeatureGroup, message: record_pb2.Record, *, now: int, tolerance_us: int
) -> tuple[str, int, bytes]:
    """Check a record as it came over the wire.

    When every value has its declared type, the message's own bytes are what is stored; otherwise
    the values go through the same rules as a Python record.

    Returns:
        Identifier as text, event time in µs, the record's bytes.

    Raises:
        InvalidRecord: as for `featurestore.record.validate`.
    """
    data = message.SerializeToString()
    keys = group.shapes.read(data)
    if keys is not None:
        return (
            record_rules.checked_identifier(group, keys.identifier),
            record_rules.event_time_us(group, keys.event_time, now=now, tolerance_us=tolerance_us),
            checked_size(group, data),
        )
    scalars = group.scalars
    identifier_name, time_name = group.record_identifier, group.event_time
    identifier: Any = None
    moment: Any = None
    exact = True
    seen: dict[str, None] = {}
    for entry in message.values:
        name = entry.feature_name
        kind = scalars.get(name)
        if kind is None or name in seen:
            return _check_slowly(group, message, now, tolerance_us)
        seen[name] = None
        field = _FIELDS[kind]
        value = entry.value
        if value.WhichOneof("kind") != field:
            exact = False
            break
        if name == identifier_name:
            identifier = getattr(value, field)
        elif name == time_name:
            moment = getattr(value, field)
        elif kind is FeatureType.FRACTIONAL:
            number = value.fractional_value
            if number != number:
                exact = False
                break
    # The slow way refuses a missing identifier and a NaN, and makes 0.0 of -0.0.
    if not exact or moment is None or not identifier or identifier != identifier:
        return _check_slowly(group, message, now, tolerance_us)
    checked = (
        record_rules.checked_identifier(group, identifier),
        record_rules.event_time_us(group, moment, now=now, tolerance_us=tolerance_us),
        checked_size(group, data),
    )
    group.shapes.learn(tuple(seen))
    return checked


def check_bytes(
    group: FeatureGroup, data: bytes, *, now: int, tolerance_us: int
) -> tuple[str, int, bytes]:
    """Check the bytes of a record as they came over the wire: `check_message` of them."""
    message = record_pb2.Record.FromString(data)
    return check_message(group, message, now=now, tolerance_us=tolerance_us)


def checked_size(group: FeatureGroup, data: bytes) -> bytes:
    """Return the record's bytes when they are within the size limit.

    Raises:
        InvalidRecord: they are not.
    """
    if len(data) > record_rules.MAX_RECORD_BYTES:
        raise InvalidRecord(
            f"{group.name}: expected a record of at most {record_rules.MAX_RECORD_BYTES} bytes, "
            f"got {len(data)}",
            group=group.name,
            feature=None,
        )
    return data


def offline_schema(group: FeatureGroup) -> pa.Schema:
    """Return the columns of the group's offline table."""
    return pa.schema(
        [
            *((feature.name, arrow_type(feature)) for feature in group.features),
            *INTERNAL_COLUMNS.items(),
        ]
    )


def entries_to_table(
    group: FeatureGroup, entries: Sequence[OutboxEntry], *, write_time_us: int
) -> pa.Table:
    """Turn outbox entries into rows of the group's offline table, in their order."""
    by_column = OutboxEntries.of(entries)
    columns = records_to_columns(group, by_column.records)
    moments = by_column.event_times_us.astype(np.int64)
    expires = by_column.expires_us
    arrays = [
        *(columns[feature.name] for feature in group.features),
        pa.array(moments).cast(_TIME),
        pa.array(np.full(len(moments), write_time_us, np.int64)).cast(_TIME),
        pa.array(by_column.invocations_us).cast(_TIME),
        pa.array((by_column.flags & DELETED) != 0),
        pa.array(expires, mask=expires == NEVER).cast(_TIME),
        pa.array(by_column.sequences),
        pa.array((moments // _DAY_US).astype(np.int32)).cast(pa.date32()),
    ]
    return pa.Table.from_arrays(arrays, schema=offline_schema(group))


def records_to_columns(
    group: FeatureGroup, records: Sequence[bytes], names: Sequence[str] | None = None
) -> dict[str, pa.ChunkedArray]:
    """Read many records as columns: one value per record, null where the feature is absent.

    Args:
        group: the definition.
        records: bytes of a `featurestore.v1.Record` each.
        names: the features to read; None: all, and a record with another one is a KeyError.
    """
    walked = arrowwalk.walk(group.scalars, records, names)
    wanted = tuple(group.types) if names is None else names
    left = walked.left.tolist()
    if not left and not group.collections:
        return {name: walked.columns[name] for name in wanted}
    slow: dict[str, list[Any]] = {name: [None] * len(left) for name in wanted}
    fields = {name: _FIELDS[kind] for name, kind in group.scalars.items()}
    parse = record_pb2.Record.FromString
    for place, row in enumerate(left):
        for value in parse(records[row]).values:
            name = value.feature_name
            if name not in slow and names is not None:
                continue
            column = slow[name]
            field = fields.get(name)
            if field is None:  # a collection; an empty one may be of any kind
                field = value.value.WhichOneof("kind") or "string_list"
                column[place] = list(getattr(value.value, field).values)
            else:
                column[place] = getattr(value.value, field)
    types = {feature.name: arrow_type(feature) for feature in group.features}
    rows = np.arange(len(records))
    rows[walked.left] = np.arange(len(left)) + len(records)
    columns = {}
    for name in wanted:
        kind = types[name]
        walked_over = walked.columns.get(name)
        if walked_over is None:
            walked_over = pa.chunked_array([pa.nulls(len(records), kind)])
        parsed = pa.array(slow[name], kind)
        columns[name] = pa.chunked_array([*walked_over.chunks, parsed], kind).take(pa.array(rows))
    return columns


def records_to_table(
    group: FeatureGroup,
    identifiers: Sequence[str],
    records: Sequence[bytes | None],
    names: Sequence[str] = (),
) -> pa.Table:
    """Turn read records into a table with one row per identifier.

    Args:
        group: the definition.
        identifiers: as text, as they are stored.
        records: bytes of a `featurestore.v1.Record` each; None: there is none, and all features
            of the row are null but the identifier.
        names: the columns to return; none: all features.
    """
    wanted = list(names or group.types)
    there = np.array([record is not None for record in records], np.bool_)
    columns = records_to_columns(
        group, [record for record in records if record is not None], wanted
    )
    if not there.all():
        rows = pa.array(np.cumsum(there) - 1, mask=~there)
        columns = {name: column.take(rows) for name, column in columns.items()}
    key = group.record_identifier
    if key in columns:
        read: Any = {FeatureType.INTEGRAL: int, FeatureType.FRACTIONAL: float}
        values = list(map(read.get(group.types[key], str), identifiers))
        columns[key] = pa.chunked_array([pa.array(values, ARROW_TYPES[group.types[key]])])
    return pa.table([columns[name] for name in wanted], wanted)


def table_to_records(group: FeatureGroup, batch: pa.RecordBatch) -> Iterator[dict[str, object]]:
    """Read an Arrow batch as records, one per row; nulls and NaN are left out later.

    Timestamps with a zone are event times, floored to microseconds; columns of other types pass
    as their Python values and are checked with the record.

    Raises:
        FeatureNotFound: a column is not a feature of the group.
        InvalidRecord: a column is given twice, holds timestamps without a zone or for another
            feature than the event time, or text that is no UTF-8.
    """
    names = batch.schema.names
    columns: list[list[Any]] = []
    for name, column in zip(names, batch.columns, strict=True):
        if names.count(name) > 1:
            raise _bad_column(group, name, "the column is given twice")
        if name not in group.types:
            group.feature_type(name)  # raises FeatureNotFound with the nearest name
        if pa.types.is_timestamp(column.type):
            columns.append(_event_times(group, name, column))
            continue
        try:
            columns.append(column.to_pylist())
        except UnicodeDecodeError as error:
            raise _bad_column(group, name, f"expected text in UTF-8: {error}") from None
    for row in zip(*columns, strict=True):
        yield dict(zip(names, row, strict=True))


def _event_times(group: FeatureGroup, name: str, column: pa.Array) -> list[Any]:
    """Write timestamps as the event times of a group; a moment beyond its years, as a number."""
    if column.type.tz is None:
        raise _bad_column(
            group,
            name,
            f"expected timestamps with a zone, got {column.type}; cast the column to "
            f"timestamp[us, UTC]",
        )
    kind = group.types[name]
    if name != group.event_time:
        raise _bad_column(group, name, f"expected {kind.value}, got {column.type}")
    times, parts = _MICROSECONDS[column.type.unit]
    moments: list[Any] = []
    # Through integers: a datetime has no year 0, and is slow to make.
    for count in column.cast(pa.int64()).to_pylist():
        us = None if count is None else count * times // parts
        if us is None or kind is not FeatureType.STRING:
            moments.append(None if us is None else us / 1_000_000)
        else:
            known = eventtime.MIN_US <= us <= eventtime.MAX_US
            moments.append(eventtime.format_iso(us) if known else us)
    return moments


def _bad_column(group: FeatureGroup, name: str, problem: str) -> InvalidRecord:
    return InvalidRecord(f"{group.name}.{name}: {problem}", group=group.name, feature=name)


def ttl_to_message(ttl: Ttl | None) -> record_pb2.TtlDuration | None:
    """Write a ttl as its message; None stays None."""
    if ttl is None:
        return None
    unit: Any = record_pb2.TtlDuration.Unit.Value(ttl.unit.value.upper())
    return record_pb2.TtlDuration(unit=unit, value=ttl.value)


def ttl_from_message(message: record_pb2.TtlDuration) -> Ttl:
    """Read a ttl from its message.

    Raises:
        InvalidRecord: no unit, or one that does not exist.
        InvalidFeatureGroup: a value below 1.
    """
    units = {record_pb2.TtlDuration.Unit.Value(unit.value.upper()): unit for unit in TtlUnit}
    unit = units.get(message.unit)
    if unit is None:
        names = [unit.value.upper() for unit in TtlUnit]
        raise InvalidRecord(
            f"ttl_duration.unit: expected one of {', '.join(names)}, got {message.unit}",
            feature=None,
        )
    return Ttl(unit, message.value)


def _check_slowly(
    group: FeatureGroup, message: record_pb2.Record, now: int, tolerance_us: int
) -> tuple[str, int, bytes]:
    values = given_values(group.name, message.values)
    checked = record_rules.check(group, values, now=now, tolerance_us=tolerance_us)
    return (
        checked.identifier,
        checked.event_time_us,
        checked_size(group, encode_record(checked.values, group.collections)),
    )
