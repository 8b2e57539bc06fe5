"""Debezium's change events: rows of a database's table that were inserted, updated or deleted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias, final, get_args

from featurestore.record import shown
from ingest.decode import Decoded, Decoder, Deleted, JsonDecoder
from ingest.decoders.connect import Convert, converter
from ingest.decoders.plain import Times, checked_times, moment, moment_ns
from ingest.errors import Undecodable
from ingest.source import Message

__all__ = ["ChangeTime", "DebeziumDecoder"]

ChangeTime: TypeAlias = Literal["source", "envelope"]
"""Whose clock dates a change: the database's, or the connector's when it read it."""

_NO_MAPPING: Final[Mapping[str, str]] = MappingProxyType({})
_PUT: Final = frozenset({"c", "r", "u"})
_TRUNCATED: Final = "t"
_MESSAGE: Final = "m"
_SCHEMA: Final = b'{"schema":{'
_PAYLOAD: Final = ',"payload":'
_MAX_SHAPES: Final = 16
# Postgres does not repeat a large value that an update left as it was; as text and as base64.
_NOT_SENT: Final = (
    "__debezium_unavailable_value",
    "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==",
)
_HEARTBEAT: Final = frozenset({"ts_ms", "ts_us", "ts_ns"})
_UNWRAPPED: Final = "__"


@final
class DebeziumDecoder(Decoder):
    """Reads change events: an insert, a snapshot's row or an update is a record, a delete removes.

    The record is the whole row as it is after the change. A deletion has the row as it was before
    it, or its key where the connector does not tell. A tombstone after a delete, a heartbeat, the
    marks of transactions, changes of the database's schema and logical messages concern no record.
    A truncated table is refused: which records are gone, the event does not say.

    Debezium's and Kafka Connect's types become plain values where messages have a schema (JSON
    with `schema` and `payload`, or Avro) or `types` names them: times as ISO-8601 text
    (`times="seconds"`: Unix seconds), decimals as Decimal. A column that Postgres did not send,
    because it is large and did not change, refuses the message: set the table's REPLICA IDENTITY
    to FULL, or map only other columns.

    Args:
        mapping: feature name → column.
        inner: reads values and keys; None: JSON. Without a mapping of its own.
        event_time: the event time is when the change was made: by the database's clock
            (`"source"`: `source.ts_us`, else `source.ts_ms`; of a snapshot that does not tell, by
            the connector's) or when the connector read it (`"envelope"`: `ts_us`, else `ts_ms`).
            None: a column is the event time. A deletion is dated by the source in that case.
        event_time_field: the column that is made of it.
        unwrapped: events were flattened by the transformation ExtractNewRecordState; deletes are
            known by `__deleted` or `__op`, times by `__source_ts_ms` and `__ts_ms`
            (`add.fields=op,source.ts_ms,ts_ms`). Other fields that begin with `__` are left out
            unless the mapping has them.
        types: column → its type's full name, where messages have no schema; a decimal with its
            scale: `org.apache.kafka.connect.data.Decimal(2)`.
        times: how a point in time is given.

    Raises:
        ValueError: an argument is not one of the choices, or `inner` has a mapping.

    >>> decoder = DebeziumDecoder(event_time="source")
    >>> event = b'{"op": "c", "after": {"id": 7}, "source": {"ts_ms": 1500}}'
    >>> decoder.decode(Message("0", 0, event))
    {'id': 7, 'event_time': '1970-01-01T00:00:01.500000Z'}
    >>> event = b'{"op": "d", "before": {"id": 7}, "source": {"ts_ms": 2000}}'
    >>> decoder.decode(Message("0", 1, event))
    Deleted(fields={'id': 7}, event_time='1970-01-01T00:00:02Z')
    """

    def __init__(
        self,
        mapping: Mapping[str, str] = _NO_MAPPING,
        *,
        inner: Decoder | None = None,
        event_time: ChangeTime | None = None,
        event_time_field: str = "event_time",
        unwrapped: bool = False,
        types: Mapping[str, str] = _NO_MAPPING,
        times: Times = "text",
    ) -> None:
        super().__init__(mapping)
        if event_time is not None and event_time not in get_args(ChangeTime):
            raise ValueError(
                f"event_time: expected 'source', 'envelope' or None, got {event_time!r}"
            )
        if inner is not None and inner.mapping:
            raise ValueError("mapping: expected it at the outer decoder, the inner one has one")
        checked_times(times)
        self._inner = inner
        self._json = JsonDecoder()
        self._event_time = event_time
        self._field = event_time_field
        self._is_unwrapped = unwrapped
        self._times: Times = times
        self._columns = tuple(_typed(column, name, times) for column, name in types.items())
        # By the bytes before the payload: what the schema there says of the columns.
        self._shapes: dict[bytes, tuple[_Column, ...]] = {}
        self._shape: tuple[bytes, tuple[_Column, ...]] = (b"\n", ())

    def decode(self, message: Message) -> Decoded:
        """Return the row to put, the one that was deleted, or None.

        Raises:
            Undecodable: it is no change event, a truncation, or a value is not of its type.
            RegistryUnavailable, RegistryRefused: the inner decoder's.
        """
        if message.value is None:
            return None
        read = self._read(message)
        if read is None:
            return None
        event, columns = read
        if self._is_unwrapped:
            return self._flat(message, event, columns)
        op = event.get("op")
        if op is None:
            _refuse_unless_known(event)
            return None
        if op in _PUT:
            row = event.get("after")
            if not isinstance(row, dict):
                raise Undecodable("after", expected="the row", got=shown(row))
            return self._put(row, columns, event)
        if op == "d":
            return self._deleted(message, event.get("before"), columns, event)
        if op == _MESSAGE:
            return None
        _refuse_op("op", op)
        return None

    def schema_of(self, message: Message) -> str | None:
        """Name the schema that the inner decoder finds."""
        return None if self._inner is None else self._inner.schema_of(message)

    def _read(self, message: Message) -> tuple[dict[str, Any], Sequence[_Column]] | None:
        """Return a message's payload and what its schema says; None: a payload of null."""
        if self._inner is None:
            return self._read_json(message)
        event = self._inner.decode(message)
        if event is None:
            return None
        if not isinstance(event, Mapping):
            raise Undecodable("message", expected="a change event", got="a deletion of a record")
        return dict(event), self._columns

    def _read_json(self, message: Message) -> tuple[dict[str, Any], Sequence[_Column]] | None:
        value = message.value
        if isinstance(value, bytes) and value.startswith(_SCHEMA):
            # The schema takes most of the message and is the same in nearly all: read it once.
            columns = self._known(value)
            if columns is not None:
                head = self._shape[0]
                payload = value[len(head) : -1]
                if payload == b"null":
                    return None
                try:
                    event = self._json.decode(message._replace(value=payload))
                except Undecodable:
                    pass  # members after the payload, or damage: told by the whole
                else:
                    return event, columns  # type: ignore[return-value]  # it is a dict
        event = self._json.decode(message)
        if event.keys() != {"schema", "payload"}:
            return event, self._columns  # type: ignore[return-value]  # it is a dict
        columns = self._learned(event["schema"], value)
        payload_object = event["payload"]
        if payload_object is None:
            return None
        if not isinstance(payload_object, dict):
            raise Undecodable("payload", expected="an object", got=shown(payload_object))
        return payload_object, columns

    def _known(self, value: bytes) -> tuple[_Column, ...] | None:
        head, columns = self._shape
        if value.startswith(head) and value.endswith(b"}"):
            return columns
        for head, columns in self._shapes.items():
            if value.startswith(head) and value.endswith(b"}"):
                self._shape = head, columns
                return columns
        return None

    def _learned(self, schema: Any, value: Any) -> tuple[_Column, ...]:
        if schema is None:
            return self._columns
        try:
            columns = self._columns + self._of_schema(schema)
        except (TypeError, KeyError, ValueError, AttributeError, RecursionError) as error:
            raise Undecodable(
                "schema", expected="a schema of Kafka Connect", got=shown(str(error))
            ) from None
        text = value.decode()
        if text.startswith(_SCHEMA.decode()):
            _, end = json.JSONDecoder().raw_decode(text, len(_SCHEMA) - 1)
            if text.startswith(_PAYLOAD, end):
                if len(self._shapes) >= _MAX_SHAPES:
                    self._shapes.clear()
                head = text[: end + len(_PAYLOAD)].encode()
                self._shapes[head] = columns
                self._shape = head, columns
        return columns

    def _of_schema(self, schema: Mapping[str, Any]) -> tuple[_Column, ...]:
        """Return the columns that a schema of a row, a key or an event changes."""
        fields = schema.get("fields") or ()
        for field in fields:
            if field["field"] == "after" and not self._is_unwrapped:
                fields = field.get("fields") or ()
        named = {column.name for column in self._columns}
        found = []
        for field in fields:
            convert = _of_connect(field, self._times)
            if convert is not None and field["field"] not in named:
                found.append(_Column(field["field"], str(field.get("name", "")), convert))
        return tuple(found)

    def _plain(self, row: dict[str, Any], columns: Sequence[_Column]) -> dict[str, Any]:
        for column in columns:
            value = row.get(column.name)
            if value is None or value in _NOT_SENT:
                continue
            try:
                row[column.name] = column.convert(value)
            except (TypeError, ValueError, KeyError, ArithmeticError) as error:
                raise Undecodable(
                    column.name,
                    expected=f"a value of {column.type or 'its type'}",
                    got=f"{shown(value)}: {error}",
                ) from None
        return row

    def _put(
        self, row: dict[str, Any], columns: Sequence[_Column], event: Mapping[str, Any]
    ) -> Mapping[str, object]:
        fields = self._plain(row, columns)
        if self._event_time is not None:
            if self._field in fields:
                raise Undecodable(
                    self._field,
                    expected="no column of this name, for the change's time",
                    got="one; name another event_time_field",
                )
            fields[self._field] = self._when(event, self._event_time)
        mapped = self._mapped(fields)
        values = mapped.values()
        if _NOT_SENT[0] in values or _NOT_SENT[1] in values:
            name = next(name for name, value in mapped.items() if value in _NOT_SENT)
            raise Undecodable(
                name,
                expected="the column's value",
                got="the mark for a large one that did not change and was not sent; set the "
                "table's REPLICA IDENTITY to FULL",
            )
        return mapped

    def _deleted(
        self,
        message: Message,
        before: Any,
        columns: Sequence[_Column],
        event: Mapping[str, Any],
    ) -> Deleted:
        if isinstance(before, dict):
            fields = self._plain(before, columns)
        else:
            key = None if message.key is None else self._read(message._replace(value=message.key))
            if key is None:
                raise Undecodable("before", expected="the row as it was, or a key", got="neither")
            fields = self._plain(*key)
        # Columns that the database does not tell of a deleted row are null.
        told = {
            name: value
            for name, value in fields.items()
            if value is not None and value not in _NOT_SENT
        }
        when: object
        if self._event_time is None:
            when = _told_time(event, "source", self._times) or _told_time(
                event, "envelope", self._times
            )
        else:
            when = self._when(event, self._event_time)
        return Deleted(self._mapped(told), when)

    def _when(self, event: Mapping[str, Any], choice: ChangeTime) -> str | float:
        found = _told_time(event, choice, self._times)
        if found is None and choice == "source":
            # Some connectors leave it out of a snapshot's rows, or write 0.
            found = _told_time(event, "envelope", self._times)
        if found is None:
            where = "source.ts_ms" if choice == "source" else "ts_ms"
            raise Undecodable(
                f"__{where.replace('.', '_')}" if self._is_unwrapped else where,
                expected="when the change was made",
                got="none; have the transformation add it (add.fields=source.ts_ms,ts_ms)"
                if self._is_unwrapped
                else "none",
            )
        return found

    def _flat(self, message: Message, event: dict[str, Any], columns: Sequence[_Column]) -> Decoded:
        """Read an event that ExtractNewRecordState has flattened."""
        extra = {
            name[len(_UNWRAPPED) :]: value
            for name, value in event.items()
            if name.startswith(_UNWRAPPED)
        }
        # As the envelope has it, so that times are found in one way.
        times: dict[str, Any] = {
            "source": {
                name[len("source_") :]: value
                for name, value in extra.items()
                if name.startswith("source_")
            },
            **extra,
        }
        row = event
        if extra and not self.mapping:
            row = {name: value for name, value in event.items() if not name.startswith(_UNWRAPPED)}
        op = extra.get("op")
        if op == "d" or str(extra.get("deleted", "")).lower() == "true":
            return self._deleted(message, row, columns, times)
        if op is not None and op not in _PUT:
            _refuse_op("__op", op)
        return self._put(row, columns, times)


@final
class _Column(NamedTuple):
    """A column whose values are not plain: its type's name and what makes them so."""

    name: str
    type: str
    convert: Convert


def _typed(column: str, name: str, times: Times) -> _Column:
    kind, _, rest = name.partition("(")
    parameters = {"scale": rest.removesuffix(")")} if rest else None
    convert = converter(kind, times, parameters)
    return _Column(column, name, convert or (lambda value: value))


def _of_connect(schema: Mapping[str, Any], times: Times) -> Convert | None:
    """Return what makes values of a schema of Kafka Connect plain; None: they are."""
    name = schema.get("name")
    if name is not None:
        convert = converter(name, times, schema.get("parameters"))
        if convert is not None:
            return convert
    kind = schema["type"]
    if kind == "struct":
        fields = [
            (field["field"], of_field)
            for field in schema["fields"]
            if (of_field := _of_connect(field, times)) is not None
        ]
        if not fields:
            return None

        def finish(values: Any) -> object:
            for field, of_field in fields:
                if values.get(field) is not None:
                    values[field] = of_field(values[field])
            return values

        return finish
    inner = {"array": "items", "map": "values"}.get(kind)
    if inner is None:
        return None
    of_item = _of_connect(schema[inner], times)
    if of_item is None:
        return None
    if kind == "map":
        return lambda entries: {
            key: None if item is None else of_item(item) for key, item in entries.items()
        }
    return lambda items: [None if item is None else of_item(item) for item in items]


def _told_time(event: Mapping[str, Any], choice: ChangeTime, times: Times) -> str | float | None:
    """Return an event's time in the finest unit it has; None: it does not tell."""
    place = event.get("source") if choice == "source" else event
    if not isinstance(place, Mapping):
        return None
    try:
        us = place.get("ts_us")
        if type(us) is int and us:
            return moment(us, times)
        ms = place.get("ts_ms")
        if type(ms) is int and ms:
            return moment(ms * 1000, times)
        ns = place.get("ts_ns")
        return moment_ns(ns, times) if type(ns) is int and ns else None
    except ValueError as error:
        raise Undecodable(f"{choice} time", expected="a time", got=str(error)) from None


def _refuse_op(where: str, op: object) -> None:
    if op == _TRUNCATED:
        raise Undecodable(
            where,
            expected="a change of one row",
            got="'t': the whole table was truncated; delete the group's records by hand",
        )
    raise Undecodable(where, expected="one of c, r, u, d, t and m", got=shown(op))


def _refuse_unless_known(event: Mapping[str, Any]) -> None:
    """Pass over what a connector sends beside changes of rows."""
    names = event.keys()
    is_heartbeat = bool(names) and names <= _HEARTBEAT
    is_transaction = names >= {"status", "id", "event_count"}
    is_schema_change = names >= {"source", "ddl"} or names >= {"source", "tableChanges"}
    if not (is_heartbeat or is_transaction or is_schema_change):
        raise Undecodable(
            "message",
            expected="a change event with op, before and after",
            got=f"an object of {shown(', '.join(names))}; is it flattened (unwrapped)?",
        )
