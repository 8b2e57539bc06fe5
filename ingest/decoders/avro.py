"""Avro messages: by a schema registry, with a given schema, or each with its schema's fingerprint.

Needs fastavro (extra `avro`).
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from types import MappingProxyType, ModuleType
from typing import Any, Final, TypeAlias, final

from featurestore.record import shown
from ingest.decode import Decoder
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
from ingest.errors import IngestError, Undecodable
from ingest.registry import RegisteredSchema, SchemaRegistry, WireSchemas
from ingest.source import Message

__all__ = ["AvroDecoder", "AvroSchema"]

AvroSchema: TypeAlias = str | Mapping[str, Any]
"""An Avro schema as JSON text or as the object it stands for: a record."""

_NO_MAPPING: Final[Mapping[str, str]] = MappingProxyType({})
_MARK: Final = b"\xc3\x01"
_HEADER_BYTES: Final = {"registry": 5, "plain": 0, "single-object": 10}
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
_SCALE: Final = "featureline.scale"
_NAMED: Final = ("record", "error", "enum", "fixed")


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
        library = _library()
        reading = None if reader_schema is None else _parsed(library, reader_schema)

        def reader(writing: _Parsed, name: str | None, start: int) -> _Reader:
            return _Reader(library, writing, reading, name=name, start=start, times=times)

        self._readers: WireSchemas[_Reader] | None = None
        self._by_mark: dict[bytes, _Reader] = {}
        self._only: _Reader | None = None
        if registry is not None:

            def prepare(
                schema: RegisteredSchema, references: Sequence[tuple[str, RegisteredSchema]]
            ) -> _Reader:
                others = [other.text for _, other in references]
                parsed = _parsed(library, schema.text, others)
                return reader(parsed, str(schema), _HEADER_BYTES["registry"])

            self._readers = WireSchemas(registry, "AVRO", prepare)
            return
        several = [schema] if isinstance(schema, str | Mapping) else list(schema or ())
        parsed = [_parsed(library, one) for one in several]
        if single_object:
            start = _HEADER_BYTES["single-object"]
            for one in parsed:
                self._by_mark[_MARK + _fingerprint(library, one)] = reader(one, None, start)
        elif len(parsed) == 1:
            self._only = reader(parsed[0], None, _HEADER_BYTES["plain"])
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
            reader = self._readers.get(value[:5]) or self._readers.learn(value)
        elif reader is None:
            reader = self._by_mark.get(value[:10])
            if reader is None:
                raise _unknown_mark(value, len(self._by_mark))
        return self._mapped(reader.read(value))

    def schema_of(self, message: Message) -> str | None:
        """Name the schema of the registry, or the fingerprint, that a message begins with."""
        value = message.value
        if self._readers is not None:
            return self._readers.name_of(value)
        if self._by_mark and isinstance(value, bytes) and value.startswith(_MARK):
            return f"fingerprint {value[2:10].hex()}"
        return None


@final
class _Parsed:
    """A schema that fastavro has read, with the types it names."""

    def __init__(self, schema: Any, named: Mapping[str, Any]) -> None:
        self.schema = schema
        self.named = named


@final
class _Reader:
    """Reads the messages of one schema."""

    def __init__(
        self,
        library: ModuleType,
        writing: _Parsed,
        reading: _Parsed | None,
        *,
        name: str | None,
        start: int,
        times: Times,
    ) -> None:
        _refuse_empty_elements(writing)
        shape = reading or writing
        self._writing = writing.schema
        self._reading = None if reading is None else reading.schema
        self._name = name
        self._start = start
        self._finish = _Plan(shape.named, times).of(shape.schema)
        self._read: Callable[..., Any] = library.schemaless_reader
        self._read_deep = self._read
        if _contains_itself(writing):
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
        if _SCALE in schema:
            return _decimals(schema[_SCALE])
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
        if len(of_bytes) == 1 and _SCALE in of_bytes[0]:
            of_decimal = _decimals(of_bytes[0][_SCALE])
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


def _parsed(library: ModuleType, schema: AvroSchema, others: Sequence[AvroSchema] = ()) -> _Parsed:
    """Read a schema and those it builds on.

    Raises:
        ValueError: it is no Avro schema of a record.
    """
    named: dict[str, Any] = {}
    try:
        for other in others:
            library.parse_schema(_object(other), named_schemas=named)
        parsed = library.parse_schema(_object(schema), named_schemas=named)
    except RecursionError:
        raise ValueError("avro: expected a schema, got one that is nested too deep") from None
    except (
        library.schema.SchemaParseException,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
    ) as error:
        raise ValueError(f"avro: expected a schema, got {shown(str(error))}") from error
    if not isinstance(parsed, Mapping) or parsed.get("type") != "record":
        raise ValueError("avro: expected the schema of a record, got another type's")
    return _Parsed(parsed, named)


def _object(schema: AvroSchema) -> Any:
    return _own_decimals(json.loads(schema) if isinstance(schema, str) else schema)


def _own_decimals(schema: Any) -> Any:
    """Copy a schema with its decimals as bytes that have a scale.

    fastavro would make them, without a limit to their length.
    """
    if isinstance(schema, list):
        return [_own_decimals(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    copy = {name: _own_decimals(part) for name, part in schema.items()}
    if copy.get("logicalType") == "decimal" and copy.get("type") in ("bytes", "fixed"):
        scale = copy.get("scale", 0)
        if type(scale) is not int or scale < 0:
            raise ValueError(f"a decimal with a scale of {scale!r}")
        del copy["logicalType"]
        copy[_SCALE] = scale
    return copy


def _fingerprint(library: ModuleType, parsed: _Parsed) -> bytes:
    """Return the CRC-64-AVRO of the canonical form, little end first as messages have it."""
    canonical = library.schema.to_parsing_canonical_form(parsed.schema)
    return bytes.fromhex(library.schema.fingerprint(canonical, "CRC-64-AVRO"))


def _refuse_empty_elements(parsed: _Parsed) -> None:
    """Refuse arrays whose elements take no bytes: nine bytes could ask for 2⁶² of them."""

    def takes_nothing(schema: Any, within: frozenset[str]) -> bool:
        if isinstance(schema, list):
            return False
        if isinstance(schema, str):
            if schema in within:
                return False
            found = parsed.named.get(schema)
            return schema == "null" if found is None else takes_nothing(found, within)
        kind = schema["type"]
        if kind == "fixed":
            return not schema["size"]
        if kind in ("record", "error"):
            inner = within | {schema["name"]}
            return all(takes_nothing(field["type"], inner) for field in schema["fields"])
        return kind not in ("array", "map", "enum") and takes_nothing(kind, within)

    for schema in _every_schema(parsed):
        if schema["type"] == "array" and takes_nothing(schema["items"], frozenset()):
            raise ValueError("avro: an array of elements without a byte cannot be read safely")


def _contains_itself(parsed: _Parsed) -> bool:
    """Whether a type of the schema can be nested in itself without end."""

    def reaches(schema: Any, open_names: frozenset[str]) -> bool:
        if isinstance(schema, list):
            return any(reaches(branch, open_names) for branch in schema)
        if isinstance(schema, str):
            if schema in open_names:
                return True
            found = parsed.named.get(schema)
            return found is not None and reaches(found, open_names)
        kind = schema["type"]
        if kind in ("record", "error"):
            inner = open_names | {schema["name"]}
            return any(reaches(field["type"], inner) for field in schema["fields"])
        if kind in ("array", "map"):
            return reaches(schema["items" if kind == "array" else "values"], open_names)
        return kind not in ("enum", "fixed") and reaches(kind, open_names)

    return reaches(parsed.schema, frozenset())


def _every_schema(parsed: _Parsed) -> list[Any]:
    """List the schema and all that it is made of, each named type once."""
    found: list[Any] = []
    waiting: list[Any] = [parsed.schema]
    seen: set[str] = set()
    while waiting:
        schema = waiting.pop()
        if isinstance(schema, list):
            waiting += schema
            continue
        if isinstance(schema, str):
            if schema not in seen and schema in parsed.named:
                waiting.append(parsed.named[schema])
            continue
        found.append(schema)
        kind = schema["type"]
        if kind in _NAMED:
            if schema["name"] in seen:
                continue
            seen.add(schema["name"])
        if kind in ("record", "error"):
            waiting += [field["type"] for field in schema["fields"]]
        elif kind in ("array", "map"):
            waiting.append(schema["items" if kind == "array" else "values"])
        elif kind not in _NAMED:
            waiting.append(kind)
    return found


def _unknown_mark(value: bytes, known: int) -> Undecodable:
    if not value.startswith(_MARK):
        return Undecodable(
            "byte 0", expected="0xc301, which begins a single object", got=f"0x{value[:2].hex()}"
        )
    if len(value) < _HEADER_BYTES["single-object"]:
        return Undecodable("bytes 2 to 9", expected="a fingerprint", got=f"{len(value) - 2} bytes")
    return Undecodable(
        "bytes 2 to 9",
        expected=f"the fingerprint of {'the schema' if known == 1 else f'one of {known} schemas'}",
        got=value[2:10].hex(),
    )


def _library() -> ModuleType:
    try:
        import fastavro
        import fastavro.read
        import fastavro.schema
    except ImportError:
        raise IngestError("Avro needs fastavro: pip install 'featureline[avro]'") from None
    return fastavro
