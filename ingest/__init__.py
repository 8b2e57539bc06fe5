"""Ingestion: messages from Kafka and files into feature groups, each exactly once.

    source → decode → validate → dead letters → feature store

>>> from ingest import JsonDecoder, Message
>>> JsonDecoder().decode(Message("0", 0, b'{"origin": "JFK", "temp": 39.0}'))
{'origin': 'JFK', 'temp': 39.0}
"""

from ingest.deadletter import DeadLetter, DeadLetters
from ingest.decode import (
    Decoded,
    Decoder,
    Deleted,
    JsonDecoder,
    RowDecoder,
    TombstoneDecoder,
)
from ingest.enrich import Lookup
from ingest.errors import (
    IngestError,
    InvalidMapping,
    MessageRefused,
    PositionLost,
    SourceChanged,
    SourceNotFound,
    SourceUnavailable,
    Undecodable,
)
from ingest.mapping import FeatureMapping
from ingest.mappingfile import read_mapping, transforms_of
from ingest.pipeline import Pipeline, Report
from ingest.preview import Preview, preview_messages
from ingest.source import Batch, Message, Source, StoredPositions
from ingest.sources.files import FileSource
from ingest.sources.kafka import KafkaSource
from ingest.transform import Transform, Transformed

__all__ = [  # noqa: RUF022  # grouped by topic
    # running
    "Pipeline",
    "Report",
    # sources
    "Source",
    "KafkaSource",
    "FileSource",
    "Batch",
    "Message",
    "StoredPositions",
    # decoders
    "Decoder",
    "JsonDecoder",
    "RowDecoder",
    "TombstoneDecoder",
    "Decoded",
    "Deleted",
    # between decoding and storing
    "Transform",
    "Transformed",
    "FeatureMapping",
    "Lookup",
    "read_mapping",
    "transforms_of",
    "Preview",
    "preview_messages",
    # refused messages
    "DeadLetters",
    "DeadLetter",
    # errors
    "IngestError",
    "InvalidMapping",
    "Undecodable",
    "MessageRefused",
    "SourceNotFound",
    "SourceUnavailable",
    "SourceChanged",
    "PositionLost",
]
