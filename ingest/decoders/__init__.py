"""Decoders of messages: Avro, Protobuf, JSON with schema, CSV, Debezium, and compressed ones."""

from ingest.decoders.avro import AvroDecoder
from ingest.decoders.choice import FORMATS, decoder_from
from ingest.decoders.compressed import CompressedDecoder
from ingest.decoders.csv import CsvDecoder
from ingest.decoders.debezium import DebeziumDecoder
from ingest.decoders.jsonschema import JsonSchemaDecoder
from ingest.decoders.protobuf import ProtobufDecoder

__all__ = [  # noqa: RUF022  # the choice first
    "FORMATS",
    "decoder_from",
    "AvroDecoder",
    "CompressedDecoder",
    "CsvDecoder",
    "DebeziumDecoder",
    "JsonSchemaDecoder",
    "ProtobufDecoder",
]
