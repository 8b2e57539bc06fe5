"""Every error of ingestion that a caller can catch.

IngestError
├── Undecodable         one message is not a record                       (also a ValueError)
├── MessageRefused      a refused message and no dead letters to put it in (also a ValueError)
├── SourceNotFound      no such topic, file or folder                      (also a LookupError)
├── SourceUnavailable   the broker does not answer; retry with backoff     (also a ConnectionError)
│   └── RegistryUnavailable  the schema registry does not answer; the same
├── RegistryRefused     the schema registry refuses this client, or is none
├── SchemaNotFound      the schema registry has no such schema             (also a LookupError)
├── SourceChanged       a file changed while it was read; start again
└── PositionLost        the input no longer has what comes after the stored position

Errors of the store (`featurestore.errors`) pass through as they are.
"""

from __future__ import annotations

__all__ = [
    "IngestError",
    "MessageRefused",
    "PositionLost",
    "RegistryRefused",
    "RegistryUnavailable",
    "SchemaNotFound",
    "SourceChanged",
    "SourceNotFound",
    "SourceUnavailable",
    "Undecodable",
]


class IngestError(Exception):
    """Base of all errors of ingestion."""


class Undecodable(IngestError, ValueError):
    """A message's bytes are not the record they should be.

    Args:
        where: what was being read, such as `line 1, column 8`.
        expected: what should have been there.
        got: what was there.
        schema: the schema that the message was written with, such as `schema 7 (readings-value
            version 3)`, where a registry has it.
    """

    def __init__(self, where: str, *, expected: str, got: str, schema: str | None = None) -> None:
        with_schema = f"; the message has {schema}" if schema else ""
        super().__init__(f"{where}: expected {expected}, got {got}{with_schema}")
        self.where = where
        self.expected = expected
        self.got = got
        self.schema = schema


class MessageRefused(IngestError, ValueError):
    """A message was refused and the pipeline has no dead letters.

    `reason` is the refusal's text; `source`, `partition` and `offset` name the message.
    """

    def __init__(self, reason: str, *, source: str, partition: str, offset: int) -> None:
        super().__init__(
            f"{source} partition {partition} offset {offset}: {reason}; give the pipeline dead "
            f"letters to put refused messages aside and go on"
        )
        self.reason = reason
        self.source = source
        self.partition = partition
        self.offset = offset


class SourceNotFound(IngestError, LookupError):
    """There is no topic, file or folder of this name."""


class SourceUnavailable(IngestError, ConnectionError):
    """The broker does not answer. Nothing is lost: a later run goes on where the store stands."""


class RegistryUnavailable(SourceUnavailable):
    """The schema registry does not answer.

    No message is refused for that: which schema it was written with is only not known yet.
    """


class RegistryRefused(IngestError):
    """The schema registry refuses this client or its request, or what answers is no registry."""


class SchemaNotFound(IngestError, LookupError):
    """The schema registry has no such schema, subject or version."""


class SourceChanged(IngestError):
    """A file changed while it was read; what was stored before the change stays stored."""


class PositionLost(IngestError):
    """The input no longer has the messages that follow the stored position.

    `partition` and `position` name the place.
    """

    def __init__(self, message: str, *, partition: str, position: int) -> None:
        super().__init__(message)
        self.partition = partition
        self.position = position
