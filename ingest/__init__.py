"""Ingestion: messages from Kafka, files, tables and queries into feature groups, each exactly once.

    source → decode → validate → dead letters → feature store

>>> from ingest import JsonDecoder, Message
>>> JsonDecoder().decode(Message("0", 0, b'{"origin": "JFK", "temp": 39.0}'))
{'origin': 'JFK', 'temp': 39.0}
"""

from ingest.audit import AuditDifference, AuditReport, audit
from ingest.decode import (
    Decoded,
    Decoder,
    Deleted,
    JsonDecoder,
    RowDecoder,
    TombstoneDecoder,
)
from ingest.decoders import (
    AvroDecoder,
    CompressedDecoder,
    CsvDecoder,
    DebeziumDecoder,
    JsonSchemaDecoder,
    ProtobufDecoder,
    decoder_from,
)
from ingest.enrich import Lookup
from ingest.errors import (
    IngestError,
    InvalidMapping,
    InvalidSettings,
    MessageRefused,
    PositionLost,
    RegistryRefused,
    RegistryUnavailable,
    SchemaNotFound,
    SourceChanged,
    SourceDenied,
    SourceNotFound,
    SourceUnavailable,
    TooManyRefusals,
    Undecodable,
)
from ingest.letters.folder import DeadLetters, SeveralSinks
from ingest.letters.letter import DeadLetter, DeadLetterSink, LetterFilter
from ingest.letters.purge import purge
from ingest.letters.replay import ReplayReport, replay
from ingest.letters.topic import DeadLetterTopic
from ingest.mapping.featuremapping import FeatureMapping
from ingest.mapping.file import read_mapping, transforms_of
from ingest.pipeline import Pipeline, Report
from ingest.preview import Preview, preview_messages
from ingest.registry import Reference, RegisteredSchema, SchemaRegistry
from ingest.source import Batch, Message, Source, StoredPositions
from ingest.sources.changes import DeltaChanges
from ingest.sources.files import FileSource
from ingest.sources.flight import FlightSource
from ingest.sources.kafka import KafkaSource, kafka_source
from ingest.sources.kafka_security import KafkaSecurity
from ingest.sources.query import QuerySource
from ingest.stoprule import StopRule
from ingest.transform import FieldOrigin, FieldOrigins, Transform, Transformed

__all__ = [  # noqa: RUF022  # grouped by topic
    # running
    "Pipeline",
    "Report",
    # sources
    "Source",
    "KafkaSource",
    "kafka_source",
    "KafkaSecurity",
    "FileSource",
    "DeltaChanges",
    "QuerySource",
    "FlightSource",
    "Batch",
    "Message",
    "StoredPositions",
    # decoders
    "Decoder",
    "JsonDecoder",
    "RowDecoder",
    "JsonSchemaDecoder",
    "AvroDecoder",
    "ProtobufDecoder",
    "CsvDecoder",
    "DebeziumDecoder",
    "CompressedDecoder",
    "decoder_from",
    "TombstoneDecoder",
    "Decoded",
    "Deleted",
    # schemas
    "SchemaRegistry",
    "RegisteredSchema",
    "Reference",
    # between decoding and storing
    "Transform",
    "FieldOrigin",
    "FieldOrigins",
    "Transformed",
    "FeatureMapping",
    "Lookup",
    "read_mapping",
    "transforms_of",
    "Preview",
    "preview_messages",
    # refused messages
    "DeadLetterSink",
    "DeadLetters",
    "DeadLetterTopic",
    "SeveralSinks",
    "DeadLetter",
    "LetterFilter",
    "StopRule",
    "purge",
    "replay",
    "ReplayReport",
    # the proof
    "audit",
    "AuditReport",
    "AuditDifference",
    # errors
    "IngestError",
    "InvalidSettings",
    "InvalidMapping",
    "Undecodable",
    "MessageRefused",
    "TooManyRefusals",
    "SourceNotFound",
    "SourceUnavailable",
    "SourceDenied",
    "SourceChanged",
    "PositionLost",
    "RegistryUnavailable",
    "RegistryRefused",
    "SchemaNotFound",
]
