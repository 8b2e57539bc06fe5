"""Avro messages: by a schema registry, with a given schema, or each with its schema's fingerprint.

Needs fastavro (extra `avro`).
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from types import MappingProxyType, ModuleType
from typing import Any, Final, final

from featurestore.record import shown
from ingest.decode import Decoder
from ingest.decoders.avroschema import (
    SCALE,
    AvroSchema,
    ParsedSchema,
    contains_itself,
    fastavro_library,
    fingerprint,
    parsed_schema,
    refuse_empty_elements,
)
from ingest.decoders.connect import Convert, converter
from ingest.decoders.plain import (
    Times,
    base64_text,
    bytes_of,
    checked_times,
    clock,
    date,
    decimal_of,
    moment,
    moment_ns,
    moment_of,
)
from ingest.decoders.wire import HEADER_BYTES, WireSchemas
from ingest.errors import Undecodable
from ingest.registry import RegisteredSchema, SchemaRegistry
from ingest.source import Message

__all__ = ["AvroDecoder"]

_NO_MAPPING: Final[Mapping[str, str]] = MappingProxyType({})
_MARK: Final = b"\xc3\x01"
_MARK_BYTES: Final = 10
_EXPECTED: Final = "an Avro record"
# fastavro's compiled reader has no guard for its stack: some thousand levels end the process.
_SAFE_BYTES: Final = 400
_TIMESTAMPS: Final = {"timestamp-millis": 1000, "timestamp-micros": 1}
# Fields that the reader's schema adds have its default, which is the bare number.
_OF_DEFAULT: Final[Mapping[str, Callable[[int], str]]] = {
    "date": date,
    "time-millis": lambda ms: clock(ms * 1000),
    "time-micros": clock,
}

# What fastavro raises on bytes that are not of the schema.
_MALFORMED: Final = (
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    ValueError,  # UnicodeDecodeError among others
    ArithmeticError,  # a time or a decimal out of range
    MemoryError,
    RecursionError,
)


@final
class AvroDecoder(Decoder):
    """Reads a message as one Avro record, in one of three framings.

    With a registry a message begins with its schema's id; with one schema it is the bare binary
    encoding; with several (`framing="single-object"`) it begins with C3 01 and its schema's
    fingerprint, as the Avro specification has it.

    A point in time is ISO-8601 text (`times="seconds"`: Unix seconds), a date and a time of day
    are text too, a decimal is a Decimal, a UUID text, bytes are base64 text, an enumeration is its
    symbol, a nested record a mapping. Time without a zone (`local-timestamp-…`) is text without a
    zone, which no event time accepts. Kafka Connect's and Debezium's types (`connect.name`) are
    read as what they stand for.

    Args:
        mapping: feature name → field of the record.
        registry: where the schemas of messages are.
        schema: the schema that messages were written with; several for `single-object`.
        reader_schema: what records shall look like here, by Avro's rules of evolution: fields left
            out, added with defaults, renamed by aliases, promoted. None: as they were written.
        single_object: messages have the single-object encoding.
        times: how a point in time is given.

    Raises:
        ValueError: neither or both of registry and schema are given, or a schema is none.
        IngestError: fastavro is not installed.

    >>> schema = '{"type": "record", "name": "R", "fields": [{"name": "temp", "type": "int"}]}'
    >>> AvroDecoder(schema=schema).decode(Message("0", 0, bytes([14])))
    {'temp': 7}
    """

    def __init__(
        self,
        mapping: Mapping[str, str] = _NO_MAPPING,
        *,
        registry: SchemaRegistry | None = None,
        schema: AvroSchema | Sequence[AvroSchema] | None = None,
        reader_schema: AvroSchema | None = None,
        single_object: bool = False,
        times: Times = "text",
    ) -> None:
        super().__init__(mapping)
        if (registry is None) == (schema is None):
            what = "neither" if registry is None else "both"
            raise ValueError(f"avro: expected a registry or a schema, got {what}")
        if registry is not None and single_object:
            raise ValueError("avro: messages with a registry's schema ids are not single objects")
        checked_times(times)
        library = fastavro_library()
        reading = None if reader_schema is None else parsed_schema(library, reader_schema)

        def reader(writing: ParsedSchema, name: str | None, start: int) -> _Reader:
            return _Reader(library, writing, reading, name=name, start=start, times=times)

        self._readers: WireSchemas[_Reader] | None = None
        self._by_mark: dict[bytes, _Reader] = {}
        self._only: _Reader | None = None
        if registry is not None:

            def prepare(
                schema: RegisteredSchema, references: Sequence[tuple[str, RegisteredSchema]]
            ) -> _Reader:
                others = [other.text for _, other in references]
                parsed = parsed_schema(library, schema.text, others)
                return reader(parsed, str(schema), HEADER_BYTES)

            self._readers = WireSchemas(registry, "AVRO", prepare)
            return
        several = [schema] if isinstance(schema, str | Mapping) else list(schema or ())
        parsed = [parsed_schema(library, one) for one in several]
        if single_object:
            start = _MARK_BYTES
            for one in parsed:
                self._by_mark[_MARK + fingerprint(library, one)] = reader(one, None, start)
        elif len(parsed) == 1:
            self._only = reader(parsed[0], None, 0)
        else:
            raise ValueError(f"avro: expected one schema, got {len(parsed)}")

    def decode(self, message: Message) -> Mapping[str, object]:
        """Return the record's fields.

        Raises:
            Undecodable: the bytes are not one record of their schema, or the registry does not
                have it.
            RegistryUnavailable, RegistryRefused: the registry cannot be asked.
            IngestError: a library is missing.
        """
        value = message.value
        if not isinstance(value, bytes):
            value = bytes_of(message, _EXPECTED)
        reader = self._only
        if self._readers is not None:
            reader = self._readers.get(value[:HEADER_BYTES]) or self._readers.learn(value)
        elif reader is None:
            reader = self._by_mark.get(value[:_MARK_BYTES])
            if reader is None:
                raise _unknown_mark(value, len(self._by_mark))
        return self._mapped(reader.read(value))

    def schema_of(self, message: Message) -> str | None:
        """Name the schema of the registry, or the fingerprint, that a message begins with."""
        value = message.value
        if self._readers is not None:
            return self._readers.name_of(value)
        if self._by_mark and isinstance(value, bytes) and value.startswith(_MARK):
            return f"fingerprint {value[2:_MARK_BYTES].hex()}"
        return None


@final
class _Reader:
    """Reads the messages of one schema."""

    def __init__(
        self,
        library: ModuleType,
        writing: ParsedSchema,
        reading: ParsedSchema | None,
        *,
        name: str | None,
        start: int,
        times: Times,
    ) -> None:
        refuse_empty_elements(writing)
        shape = reading or writing
        self._writing = writing.schema
        self._reading = None if reading is None else reading.schema
        self._name = name
        self._start = start
        self._finish = _Plan(shape.named, times).of(shape.schema)
        self._read: Callable[..., Any] = library.schemaless_reader
        self._read_deep = self._read
        if contains_itself(writing):
            from fastavro import _read_py

            self._read_deep = _read_py.schemaless_reader
        self._errors = (
            *_MALFORMED,
            library.read.SchemaResolutionError,
        )

    def read(self, value: bytes) -> Mapping[str, object]:
        stream = BytesIO(value)
        stream.seek(self._start)
        read = self._read if len(value) <= _SAFE_BYTES else self._read_deep
        try:
            fields = read(stream, self._writing, self._reading)
            if self._finish is not None:
                fields = self._finish(fields)
        except self._errors as error:
            raise Undecodable(
                f"byte {min(stream.tell(), len(value))}",
                expected=f"{_EXPECTED} of its schema",
                got=shown(str(error) or type(error).__name__),
                schema=self._name,
            ) from None
        if stream.tell() != len(value):
            raise Undecodable(
                f"byte {stream.tell()}",
                expected=f"the end of {_EXPECTED}",
                got=f"{len(value) - stream.tell()} bytes more",
                schema=self._name,
            )
        return fields  # type: ignore[no-any-return]


@final
class _Plan:
    """What is to be done with a schema's values to make them plain."""

    def __init__(self, named: Mapping[str, Any], times: Times) -> None:
        self._named = named
        self._times = times
        self._open: set[str] = set()

    def of(self, schema: Any) -> Convert | None:
        """Return what makes a value of the schema plain; None: it is plain as it is."""
        if isinstance(schema, list):
            return self._union(schema)
        if isinstance(schema, str):
            found = self._named.get(schema)
            if found is not None:
                return self.of(found)
            return _text_of_bytes if schema == "bytes" else None
        kind = schema["type"]
        connect = schema.get("connect.name")
        if connect is not None and "logicalType" not in schema:
            convert = converter(connect, self._times, schema.get("connect.parameters"))
            if convert is not None:
                return convert
        if kind in ("record", "error"):
            return self._record(schema)
        if kind == "array":
            of_item = self.of(schema["items"])
            return None if of_item is None else lambda items: [of_item(item) for item in items]
        if kind == "map":
            of_value = self.of(schema["values"])
            if of_value is None:
                return None
            return lambda entries: {key: of_value(value) for key, value in entries.items()}
        if SCALE in schema:
            return _decimals(schema[SCALE])
        if "logicalType" in schema:
            return self._logical(schema)
        if kind == "fixed":
            return _text_of_bytes
        return None if kind == "enum" else self.of(kind)

    def _record(self, schema: Mapping[str, Any]) -> Convert | None:
        name = schema["name"]
        if name in self._open:
            return lambda value: _plain(value, self._times)
        self._open.add(name)
        fields = [(field["name"], self.of(field["type"])) for field in schema["fields"]]
        self._open.discard(name)
        changed = [(field, convert) for field, convert in fields if convert is not None]
        if not changed:
            return None

        def finish(values: Any) -> object:
            for field, convert in changed:
                value = values[field]
                if value is not None:
                    values[field] = convert(value)
            return values

        return finish

    def _union(self, branches: list[Any]) -> Convert | None:
        others = [branch for branch in branches if branch != "null"]
        if len(others) == 1:
            convert = self.of(others[0])
            return convert and (lambda value: None if value is None else convert(value))
        # Which branch it was, a value does not tell; its Python type tells enough.
        if all(self.of(branch) is None for branch in others):
            return None
        of_bytes = [branch for branch in map(self._full, others) if _is_bytes(branch)]
        if len(of_bytes) == 1 and SCALE in of_bytes[0]:
            of_decimal = _decimals(of_bytes[0][SCALE])
            return lambda value: (
                of_decimal(value) if isinstance(value, bytes) else _plain(value, self._times)
            )
        return lambda value: _plain(value, self._times)

    def _full(self, schema: Any) -> Any:
        return self._named.get(schema, schema) if isinstance(schema, str) else schema

    def _logical(self, schema: Mapping[str, Any]) -> Convert | None:
        name, times = schema["logicalType"], self._times
        if name in _TIMESTAMPS:
            unit_us = _TIMESTAMPS[name]
            return lambda value: (
                moment(value * unit_us, times) if type(value) is int else moment_of(value, times)
            )
        if name == "timestamp-nanos":
            return lambda value: moment_ns(value, times)
        of_number = _OF_DEFAULT.get(name)
        if of_number is not None:
            return lambda value: of_number(value) if type(value) is int else value.isoformat()
        return lambda value: _plain(value, times)


def _plain(value: Any, times: Times) -> object:
    """Make a value plain by its Python type alone."""
    if isinstance(value, dt.datetime):
        return moment_of(value, times)
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64_text(value)
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, list):
        return [_plain(item, times) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item, times) for key, item in value.items()}
    return value


def _is_bytes(schema: Any) -> bool:
    return (schema if isinstance(schema, str) else schema["type"]) in ("bytes", "fixed")


def _decimals(scale: int) -> Convert:
    # A default of the reader's schema is text of code points up to 255.
    return lambda value: decimal_of(
        value if isinstance(value, bytes) else str(value).encode("latin-1"), scale
    )


def _text_of_bytes(value: object) -> object:
    return base64_text(value if isinstance(value, bytes) else str(value).encode("latin-1"))


def _unknown_mark(value: bytes, known: int) -> Undecodable:
    if not value.startswith(_MARK):
        return Undecodable(
            "byte 0", expected="0xc301, which begins a single object", got=f"0x{value[:2].hex()}"
        )
    if len(value) < _MARK_BYTES:
        return Undecodable("bytes 2 to 9", expected="a fingerprint", got=f"{len(value) - 2} bytes")
    return Undecodable(
        "bytes 2 to 9",
        expected=f"the fingerprint of {'the schema' if known == 1 else f'one of {known} schemas'}",
        got=value[2:_MARK_BYTES].hex(),
    )
