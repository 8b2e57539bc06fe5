"""Protobuf messages: by a schema registry, with a descriptor set or .proto text, or a class.

Schema text is compiled by grpcio-tools (extra `protobuf`); a descriptor set or a class needs
nothing besides.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final, TypeAlias, final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError

from featurestore.errors import nearest
from featurestore.record import shown
from ingest.decode import Decoder
from ingest.decoders.plain import (
    Times,
    base64_text,
    bytes_of,
    checked_times,
    decimal_of,
    moment_ns,
)
from ingest.decoders.protoc import compile_protos
from ingest.decoders.wire import HEADER_BYTES, WireSchemas
from ingest.errors import Undecodable
from ingest.registry import RegisteredSchema, SchemaRegistry
from ingest.source import Message

__all__ = ["ProtobufDecoder"]

_NO_MAPPING: Final[Mapping[str, str]] = MappingProxyType({})
_EXPECTED: Final = "a Protobuf message"
# A message is nested as deep as indexes say, and a schema is not nested without end.
_MAX_INDEXES: Final = 32
_WRAPPERS: Final = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Bool", "Bytes", "Double", "Float", "Int32", "Int64", "String", "UInt32", "UInt64")
)

_Convert: TypeAlias = Callable[[Any], object]


@final
class ProtobufDecoder(Decoder):
    """Reads a message as one Protobuf message.

    Fields have the names of the .proto file. One that tells presence (`optional`, a message, a
    member of a oneof, all of proto2) is absent where it was not set; any other has its default
    then, since the encoding does not tell. An enumeration is its value's name, or the number where
    the schema has no name for it; Timestamp is ISO-8601 text (`times="seconds"`: Unix seconds),
    Duration is seconds, Confluent's Decimal a Decimal, a wrapper is what it wraps, Struct and its
    like are plain values, bytes are base64 text; repeated fields are lists, maps are mappings with
    text keys, messages are nested mappings. Fields that the schema does not have are passed over,
    as Protobuf means it.

    Args:
        mapping: feature name → field of the message.
        registry: where the schemas of messages are; a message begins with its schema's id and the
            place of its type in it.
        descriptors: what `protoc --descriptor_set_out=FILE --include_imports` wrote.
        message: full name of the message's type: with `descriptors`; with a registry, messages of
            another type are refused.
        message_class: a generated class, in place of `descriptors` and `message`.
        times: how a point in time is given.

    Raises:
        ValueError: not exactly one of registry, descriptors and class is given, the descriptors
            are none, or have no such message.

    >>> from google.protobuf.wrappers_pb2 import Int64Value
    >>> decoder = ProtobufDecoder({"temp": "value"}, message_class=Int64Value)
    >>> decoder.decode(Message("0", 0, Int64Value(value=7).SerializeToString()))
    {'temp': 7}
    """

    def __init__(
        self,
        mapping: Mapping[str, str] = _NO_MAPPING,
        *,
        registry: SchemaRegistry | None = None,
        descriptors: bytes | None = None,
        message: str | None = None,
        message_class: type[Any] | None = None,
        times: Times = "text",
    ) -> None:
        super().__init__(mapping)
        given = [one for one in (registry, descriptors, message_class) if one is not None]
        if len(given) != 1:
            raise ValueError(
                f"protobuf: expected one of a registry, descriptors and a message class, "
                f"got {len(given)}"
            )
        checked_times(times)
        self._times = times
        self._message = message
        self._schemas: WireSchemas[_Schema] | None = None
        self._only: _Reader | None = None
        if registry is not None:
            self._schemas = WireSchemas(registry, "PROTOBUF", self._prepare)
        elif message_class is not None:
            if message is not None:
                raise ValueError("protobuf: a message class has its name, another was given too")
            self._only = _Reader(message_class.DESCRIPTOR, times, cls=message_class)
        else:
            assert descriptors is not None
            if message is None:
                raise ValueError("protobuf: expected the name of the message's type, got none")
            self._only = _Reader(_found(_pool(_file_set(descriptors)), message, descriptors), times)

    def decode(self, message: Message) -> Mapping[str, object]:
        """Return the message's fields.

        Raises:
            Undecodable: the bytes are no message of the type, or the registry does not have the
                schema.
            RegistryUnavailable, RegistryRefused: the registry cannot be asked.
            IngestError: grpcio-tools is missing.
        """
        value = message.value
        if not isinstance(value, bytes):
            value = bytes_of(message, _EXPECTED)
        if self._only is not None:
            return self._mapped(self._only.read(value))
        assert self._schemas is not None
        schema = self._schemas.get(value[:HEADER_BYTES]) or self._schemas.learn(value)
        reader, start = schema.reader(value)
        return self._mapped(reader.read(value[start:]))

    def schema_of(self, message: Message) -> str | None:
        """Name the schema of the registry that a message begins with."""
        return None if self._schemas is None else self._schemas.name_of(message.value)

    def _prepare(
        self, schema: RegisteredSchema, references: Sequence[tuple[str, RegisteredSchema]]
    ) -> _Schema:
        files = {name: other.text for name, other in references}
        found = descriptor_pb2.FileDescriptorSet.FromString(compile_protos(schema.text, files))
        return _Schema(found, str(schema), wanted=self._message, times=self._times)


@final
class _Schema:
    """A schema of the registry: its message types, by their place in it.

    Args:
        files: what it was compiled to, itself last.
        name: of the schema, for messages.
        wanted: the only type that is to be read.
        times: how a point in time is given.
    """

    def __init__(
        self,
        files: descriptor_pb2.FileDescriptorSet,
        name: str,
        *,
        wanted: str | None,
        times: Times,
    ) -> None:
        self._pool = _pool(files)
        self._file = files.file[-1]
        self._name = name
        self._wanted = wanted
        self._times = times
        self._first: _Reader | None = None
        self._readers: dict[bytes, tuple[_Reader, int]] = {}

    def reader(self, value: bytes) -> tuple[_Reader, int]:
        """Return what reads a message, and where its own bytes begin."""
        if value[HEADER_BYTES : HEADER_BYTES + 1] == b"\0":  # short for: the first type of all
            if self._first is None:
                self._first = self._made([0])
            return self._first, HEADER_BYTES + 1
        indexes, after = self._indexes(value)
        head = value[HEADER_BYTES:after]
        known = self._readers.get(head)
        if known is None:
            known = self._readers[head] = (self._made(indexes), after)
        return known

    def _indexes(self, value: bytes) -> tuple[list[int], int]:
        count, place = self._varint(value, HEADER_BYTES)
        if not 0 < count <= _MAX_INDEXES:
            raise Undecodable(
                f"byte {HEADER_BYTES}",
                expected="the place of the message's type in its schema",
                got=f"{count} indexes",
                schema=self._name,
            )
        indexes = []
        for _ in range(count):
            index, place = self._varint(value, place)
            indexes.append(index)
        return indexes, place

    def _varint(self, value: bytes, place: int) -> tuple[int, int]:
        number = shift = 0
        for byte in value[place : place + 5]:
            number |= (byte & 0x7F) << shift
            place += 1
            if byte < 0x80:
                return (number >> 1) ^ -(number & 1), place
            shift += 7
        raise Undecodable(
            f"byte {place}",
            expected="a number of at most five bytes",
            got="the end" if place >= len(value) else "a longer one",
            schema=self._name,
        )

    def _made(self, indexes: Sequence[int]) -> _Reader:
        types: Any = self._file.message_type
        names = [self._file.package] if self._file.package else []
        for index in indexes:
            if not 0 <= index < len(types):
                raise Undecodable(
                    "message indexes",
                    expected=f"the place of one of {len(types)} types",
                    got=str(list(indexes)),
                    schema=self._name,
                )
            names.append(types[index].name)
            types = types[index].nested_type
        full_name = ".".join(names)
        if self._wanted is not None and full_name != self._wanted:
            raise Undecodable(
                "message", expected=f"a {self._wanted}", got=f"a {full_name}", schema=self._name
            )
        descriptor = self._pool.FindMessageTypeByName(full_name)
        return _Reader(descriptor, self._times, name=self._name)


@final
class _Reader:
    """Reads the messages of one type."""

    def __init__(
        self,
        descriptor: Descriptor,
        times: Times,
        *,
        cls: type[Any] | None = None,
        name: str | None = None,
    ) -> None:
        self._parse: Callable[[bytes], Any] = (
            cls or message_factory.GetMessageClass(descriptor)
        ).FromString
        plan = _Plan(times)
        self._fields = plan.fields(descriptor)
        self._full_name = descriptor.full_name
        self._has_required = plan.has_required
        self._name = name

    def read(self, data: bytes) -> Mapping[str, object]:
        try:
            message = self._parse(data)
            if self._has_required and not message.IsInitialized():
                missing = ", ".join(message.FindInitializationErrors())
                raise ValueError(f"no {missing}, which it requires")
            return self._fields(message)
        except (DecodeError, ValueError, ArithmeticError, RecursionError) as error:
            raise Undecodable(
                "message",
                expected=f"a {self._full_name}",
                got=shown(str(error)),
                schema=self._name,
            ) from None


@final
class _Plan:
    """How the messages of a type, and of those within it, become mappings."""

    def __init__(self, times: Times) -> None:
        self._times = times
        self._made: dict[str, Callable[[Any], dict[str, object]]] = {}
        self.has_required = False

    def fields(self, descriptor: Descriptor) -> Callable[[Any], dict[str, object]]:
        """Return what makes a mapping of a message."""
        name = descriptor.full_name
        made = self._made.get(name)
        if made is not None:
            return made
        # A type may contain itself: what it refers to then is made by the time it is used.
        self._made[name] = lambda message: self._made[name](message)
        always: list[str] = []
        changed: list[tuple[str, _Convert]] = []
        optional: list[tuple[str, _Convert | None]] = []
        for field in descriptor.fields:
            self.has_required |= bool(field.is_required)
            convert = self._convert(field)
            if field.has_presence:
                optional.append((field.name, convert))
            else:
                always.append(field.name)
                if convert is not None:
                    changed.append((field.name, convert))
        self._made[name] = _maker(tuple(always), changed, optional)
        return self._made[name]

    def _convert(self, field: FieldDescriptor) -> _Convert | None:
        """Return what makes a field's value plain; None: it is."""
        kind: Any = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            of_key = kind.fields_by_name["key"]
            of_value = self._one(kind.fields_by_name["value"])
            as_text = _bool_text if of_key.type == FieldDescriptor.TYPE_BOOL else str
            if of_value is None:
                return lambda entries: {as_text(key): entries[key] for key in entries}
            return lambda entries: {as_text(key): of_value(entries[key]) for key in entries}
        convert = self._one(field)
        if field.is_repeated:
            if convert is None:
                return list
            return lambda items: [convert(item) for item in items]
        return convert

    def _one(self, field: FieldDescriptor) -> _Convert | None:
        if field.type == FieldDescriptor.TYPE_BYTES:
            return base64_text
        enum: Any = field.enum_type
        if enum is not None:
            # Of names for one number the first is the one that counts.
            names = {value.number: value.name for value in reversed(enum.values)}
            return lambda number: names.get(number, number)
        kind = field.message_type
        if kind is None:
            return None
        name = kind.full_name
        if name == "google.protobuf.Timestamp":
            return self._moment
        if name == "google.protobuf.Duration":
            return _seconds
        if name == "confluent.type.Decimal":
            return _decimal
        if name in _WRAPPERS:
            return _unwrapped_bytes if name.endswith("BytesValue") else _unwrapped
        if name in _STRUCTS:
            return _STRUCTS[name]
        return self.fields(kind)

    def _moment(self, value: Any) -> object:
        nanos = value.nanos
        if not 0 <= nanos < 1_000_000_000:
            raise ValueError(f"a Timestamp with {nanos} ns")
        return moment_ns(value.seconds * 1_000_000_000 + nanos, self._times)


def _maker(
    always: tuple[str, ...],
    changed: Sequence[tuple[str, _Convert]],
    optional: Sequence[tuple[str, _Convert | None]],
) -> Callable[[Any], dict[str, object]]:
    take: Callable[[Any], tuple[Any, ...]] = (
        operator.attrgetter(*always) if len(always) > 1 else _taking(always)
    )

    def make(message: Any) -> dict[str, object]:
        values: dict[str, object] = dict(zip(always, take(message), strict=True))
        for name, convert in changed:
            values[name] = convert(values[name])
        for name, convert_set in optional:
            if message.HasField(name):
                value = getattr(message, name)
                values[name] = value if convert_set is None else convert_set(value)
        return values

    return make


def _taking(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Make a tuple of the attributes named, as attrgetter does from two on."""
    return lambda message: tuple(getattr(message, name) for name in names)


def _seconds(value: Any) -> float:
    return float(value.seconds + value.nanos / 1_000_000_000)


def _decimal(value: Any) -> Decimal:
    return decimal_of(value.value, value.scale)


def _unwrapped(value: Any) -> object:
    return value.value


def _unwrapped_bytes(value: Any) -> object:
    return base64_text(value.value)


def _bool_text(key: bool) -> str:
    return "true" if key else "false"


def _struct(value: Any) -> object:
    return {key: _any_value(value.fields[key]) for key in value.fields}


def _list_value(value: Any) -> object:
    return [_any_value(item) for item in value.values]


def _any_value(value: Any) -> object:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return _struct(value.struct_value)
    if kind == "list_value":
        return _list_value(value.list_value)
    return None if kind in (None, "null_value") else getattr(value, kind)


_STRUCTS: Final[Mapping[str, _Convert]] = {
    "google.protobuf.Struct": _struct,
    "google.protobuf.ListValue": _list_value,
    "google.protobuf.Value": _any_value,
}


def _file_set(descriptors: bytes) -> descriptor_pb2.FileDescriptorSet:
    try:
        files = descriptor_pb2.FileDescriptorSet.FromString(descriptors)
    except DecodeError:
        files = descriptor_pb2.FileDescriptorSet()
    if not files.file:
        raise ValueError(
            "protobuf: expected a descriptor set, as protoc --descriptor_set_out writes, "
            f"got {len(descriptors)} bytes of something else"
        )
    return files


def _pool(files: descriptor_pb2.FileDescriptorSet) -> descriptor_pool.DescriptorPool:
    """Put files into a pool of their own: two versions of a schema have the same names."""
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        try:
            pool.Add(file)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"protobuf: {file.name} cannot be used: {error}; write the descriptor set with "
                f"--include_imports"
            ) from None
    return pool


def _found(pool: descriptor_pool.DescriptorPool, message: str, descriptors: bytes) -> Descriptor:
    try:
        return pool.FindMessageTypeByName(message)
    except KeyError:
        names: list[str] = []
        for file in _file_set(descriptors).file:
            _collect(file.message_type, file.package, names)
        raise ValueError(
            f"protobuf: the descriptors have no message {message!r}{nearest(message, names)}"
        ) from None


def _collect(types: Any, prefix: str, names: list[str]) -> None:
    for one in types:
        name = f"{prefix}.{one.name}" if prefix else one.name
        names.append(name)
        _collect(one.nested_type, name, names)
