"""Ingestion: messages from Kafka and files into feature groups, each exactly once.

    source → decode → validate → dead letters → feature store

>>> from ingest import JsonDecoder, Message
>>> JsonDecoder().decode(Message("0", 0, b'{"origin": "JFK", "temp": 39.0}'))
{'origin': 'JFK', 'temp': 39.0}
"""

from ingest.audit import AuditDifference, AuditReport, audit
from ingest.deadletter import DeadLetters, SeveralSinks
from ingest.decode import (
    Decoded,
    Decoder,
    Deleted,
    JsonDecoder,
    RowDecoder,
    TombstoneDecoder,
)
from ingest.errors import (
    IngestError,
    MessageRefused,
    PositionLost,
    SourceChanged,
    SourceNotFound,
    SourceUnavailable,
    TooManyRefusals,
    Undecodable,
)
from ingest.letter import DeadLetter, DeadLetterSink, LetterFilter
from ingest.letterreplay import ReplayReport, replay
from ingest.lettertopic import DeadLetterTopic
from ingest.pipeline import Pipeline, Report
from ingest.source import Batch, Message, Source, StoredPositions
from ingest.sources.files import FileSource
from ingest.sources.kafka import KafkaSource
from ingest.stoprule import StopRule
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
    # refused messages
    "DeadLetterSink",
    "DeadLetters",
    "DeadLetterTopic",
    "SeveralSinks",
    "DeadLetter",
    "LetterFilter",
    "StopRule",
    "replay",
    "ReplayReport",
    # the proof
    "audit",
    "AuditReport",
    "AuditDifference",
    # errors
    "IngestError",
    "Undecodable",
    "MessageRefused",
    "TooManyRefusals",
    "SourceNotFound",
    "SourceUnavailable",
    "SourceChanged",
    "PositionLost",
]
