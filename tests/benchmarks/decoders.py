"""Decoders: microseconds of CPU a message, beside the call of the library that each is built on."""

from __future__ import annotations

import csv
import gzip
import io
import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import fastavro
import jsonschema
import lz4.frame
import snappy
import zstandard
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

from ingest import (
    AvroDecoder,
    CompressedDecoder,
    CsvDecoder,
    DebeziumDecoder,
    Decoder,
    JsonDecoder,
    JsonSchemaDecoder,
    Message,
    ProtobufDecoder,
    SchemaRegistry,
)
from ingest.decoders.protoc import compile_protos
from tests.benchmarks.harness import Figure, Size, compare, interleave
from tests.benchmarks.records import GROUP, make_messages
from tests.ingest.decoders.conftest import framed, running

__all__ = ["measure"]

_COUNTS: Final = {Size.TINY: 200, Size.DEFAULT: 10_000, Size.FULL: 50_000}
_REPEATS: Final = {Size.TINY: 1, Size.DEFAULT: 5, Size.FULL: 5}
_AVRO: Final = {"String": "string", "Integral": "long", "Fractional": "double"}
_PROTO: Final = {"String": "string", "Integral": "int64", "Fractional": "double"}
_JSON: Final = {"String": "string", "Integral": "integer", "Fractional": "number"}
_CONNECT: Final = {"String": "string", "Integral": "int64", "Fractional": "double"}

_Subject = tuple[str, Decoder, list[bytes], str, Callable[[bytes], object]]


def measure(size: Size) -> list[Figure]:
    """Measure every decoder on the records that the benchmark of ingestion sends."""
    count = _COUNTS[size]
    texts = list(make_messages(count, users=max(10, count // 100)))
    with running() as process:
        subjects = _subjects(SchemaRegistry(process.url), texts)
    figures = []
    for name, decoder, values, bare_name, bare in subjects:
        messages = [Message("0", offset, value) for offset, value in enumerate(values)]
        runs = {
            "decoder": lambda decode=decoder.decode, messages=messages: _timed(decode, messages),
            "bare": lambda bare=bare, values=values: _timed(bare, values),
        }
        samples = interleave(runs, repeats=_REPEATS[size])
        figures.append(
            compare(
                f"decode {name}, {len(values[0])} bytes",
                "µs CPU/message",
                samples["decoder"],
                baseline=bare_name,
                baseline_values=samples["bare"],
            )
        )
    return figures


def _timed(call: Callable[[Any], object], values: Sequence[object]) -> float:
    call(values[0])  # what is prepared at the first message is not per message
    began = time.process_time()  # work, whatever else the machine does
    for value in values:
        call(value)
    return (time.process_time() - began) / len(values) * 1e6


def _subjects(registry: SchemaRegistry, texts: list[bytes]) -> list[_Subject]:
    rows = [json.loads(text) for text in texts]
    subjects: list[_Subject] = [("json", JsonDecoder(), texts, "json.loads", json.loads)]
    for part in (_json_schema, _avro, _protobuf, _csv, _debezium, _compressed):
        subjects += part(registry, texts, rows)
    for _, decoder, values, _, _ in subjects:
        decoder.decode(Message("0", 0, values[0]))  # its schema is asked for while that can be
    return subjects


def _json_schema(registry: SchemaRegistry, texts: list[bytes], rows: list[Any]) -> list[_Subject]:
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "required": ["user", "event_time"],
        "properties": {
            feature.name: {"type": _JSON[feature.type.value]} for feature in GROUP.features
        },
        "additionalProperties": False,
    }
    number = registry.register("bench-json", json.dumps(schema), kind="JSON")
    validator = jsonschema.Draft7Validator(schema)

    def bare(value: bytes) -> object:
        members = json.loads(value[5:])
        validator.validate(members)
        return members

    values = [framed(number, text) for text in texts]
    decoder = JsonSchemaDecoder(registry=registry)
    return [("json-schema by the registry", decoder, values, "json.loads, jsonschema", bare)]


def _avro(registry: SchemaRegistry, texts: list[bytes], rows: list[Any]) -> list[_Subject]:
    schema = _avro_schema()
    number = registry.register("bench-avro", json.dumps(schema))
    parsed = fastavro.parse_schema(schema)
    values = [framed(number, _avro_bytes(parsed, row)) for row in rows]

    def bare(value: bytes) -> object:
        return fastavro.schemaless_reader(io.BytesIO(value[5:]), parsed)

    evolved = {**schema, "fields": [*schema["fields"][:-1], {**_ADDED, "name": "added"}]}
    reader = fastavro.parse_schema(evolved)

    def bare_evolved(value: bytes) -> object:
        return fastavro.schemaless_reader(io.BytesIO(value[5:]), parsed, reader)

    name = "fastavro.schemaless_reader"
    return [
        ("avro by the registry", AvroDecoder(registry=registry), values, name, bare),
        (
            "avro to a reader's schema",
            AvroDecoder(registry=registry, reader_schema=evolved),
            values,
            name,
            bare_evolved,
        ),
    ]


_ADDED: Final = {"type": ["null", "string"], "default": None}


def _avro_schema(name: str = "Profile") -> dict[str, Any]:
    return {
        "type": "record",
        "name": name,
        "fields": [
            {"name": feature.name, "type": _AVRO[feature.type.value]} for feature in GROUP.features
        ],
    }


def _avro_bytes(schema: Any, row: Any) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, schema, row)
    return stream.getvalue()


def _protobuf(registry: SchemaRegistry, texts: list[bytes], rows: list[Any]) -> list[_Subject]:
    fields = "".join(
        f"{_PROTO[feature.type.value]} {feature.name} = {number};"
        for number, feature in enumerate(GROUP.features, start=1)
    )
    text = f'syntax = "proto3"; message Profile {{ {fields} }}'
    number = registry.register("bench-protobuf", text, kind="PROTOBUF")
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(compile_protos(text)).file:
        pool.Add(file)
    cls = message_factory.GetMessageClass(pool.FindMessageTypeByName("Profile"))
    values = [framed(number, cls(**row).SerializeToString(), b"\0") for row in rows]

    def parse(value: bytes) -> object:
        return cls.FromString(value[6:])

    def to_dict(value: bytes) -> object:
        return json_format.MessageToDict(
            cls.FromString(value[6:]),
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )

    decoder = ProtobufDecoder(registry=registry)
    return [
        ("protobuf by the registry", decoder, values, "FromString alone", parse),
        ("protobuf by the registry", decoder, values, "FromString, MessageToDict", to_dict),
    ]


def _csv(registry: SchemaRegistry, texts: list[bytes], rows: list[Any]) -> list[_Subject]:
    values = [",".join(map(str, row.values())).encode() for row in rows]

    def bare(value: bytes) -> object:
        return next(csv.reader((value.decode(),)))

    return [("csv", CsvDecoder(header=list(rows[0])), values, "csv.reader", bare)]


def _debezium(registry: SchemaRegistry, texts: list[bytes], rows: list[Any]) -> list[_Subject]:
    columns = [
        {"type": _CONNECT[feature.type.value], "optional": True, "field": feature.name}
        for feature in GROUP.features
    ]
    row = {"type": "struct", "fields": columns, "optional": True, "name": "profiles.Value"}
    source = {"version": "3.0", "connector": "postgresql", "ts_ms": 1_704_067_200_000, "lsn": 7}
    schema = {
        "type": "struct",
        "name": "profiles.Envelope",
        "fields": [
            {**row, "field": "before"},
            {**row, "field": "after"},
            {"type": "string", "field": "op"},
            {"type": "int64", "optional": True, "field": "ts_ms"},
        ],
    }
    events = [
        {"before": None, "after": after, "source": source, "op": "c", "ts_ms": 1_704_067_200_000}
        for after in rows
    ]
    plain = [_compact(event) for event in events]
    with_schema = [_compact({"schema": schema, "payload": event}) for event in events]
    before = {"name": "before", "type": ["null", _avro_schema()], "default": None}
    after = {"name": "after", "type": ["null", "Profile"], "default": None}
    place = {"type": "record", "name": "Source", "fields": [{"name": "ts_ms", "type": "long"}]}
    envelope = {
        "type": "record",
        "name": "Envelope",
        "fields": [
            before,
            after,
            {"name": "source", "type": place},
            {"name": "op", "type": "string"},
        ],
    }
    number = registry.register("bench-debezium", json.dumps(envelope))
    parsed = fastavro.parse_schema(envelope)
    in_avro = [framed(number, _avro_bytes(parsed, event)) for event in events]

    def bare(value: bytes) -> object:
        return fastavro.schemaless_reader(io.BytesIO(value[5:]), parsed)

    options: dict[str, Any] = {"event_time": "source", "event_time_field": "changed"}
    return [
        ("debezium", DebeziumDecoder(**options), plain, "json.loads", json.loads),
        (
            "debezium with schema",
            DebeziumDecoder(**options),
            with_schema,
            "json.loads",
            json.loads,
        ),
        (
            "debezium-avro",
            DebeziumDecoder(inner=AvroDecoder(registry=registry), **options),
            in_avro,
            "fastavro.schemaless_reader",
            bare,
        ),
    ]


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _compressed(registry: SchemaRegistry, texts: list[bytes], rows: list[Any]) -> list[_Subject]:
    decompress = zstandard.ZstdDecompressor().decompress
    codecs: dict[Any, tuple[Callable[[bytes], Any], Callable[[bytes], Any]]] = {
        "gzip": (gzip.compress, gzip.decompress),
        "zstd": (zstandard.ZstdCompressor().compress, decompress),
        "lz4": (lz4.frame.compress, lz4.frame.decompress),
        "snappy": (snappy.compress, snappy.decompress),
    }
    subjects: list[_Subject] = []
    for name, (compress, bare) in codecs.items():
        decoder = CompressedDecoder(JsonDecoder(), name)
        values = [bytes(compress(text)) for text in texts]

        def loads(value: bytes, bare: Callable[[bytes], Any] = bare) -> object:
            return json.loads(bare(value))

        subjects.append((f"json in {name}", decoder, values, "its library, json.loads", loads))
    return subjects
