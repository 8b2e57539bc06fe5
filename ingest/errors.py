"""Every error of ingestion that a caller can catch.

IngestError
├── Undecodable         one message is not a record                       (also a ValueError)
├── InvalidMapping      a declared mapping or lookup breaks a rule       (also a ValueError)
├── MessageRefused      a refused message and no dead letters to put it in (also a ValueError)
├── SourceNotFound      no such topic, file or folder                      (also a LookupError)
├── SourceUnavailable   the broker does not answer; retry with backoff     (also a ConnectionError)
├── SourceChanged       a file changed while it was read; start again
└── PositionLost        the input no longer has what comes after the stored position

Errors of the store (`featurestore.errors`) pass through as they are.
"""

from __future__ import annotations

__all__ = [
    "IngestError",
    "InvalidMapping",
    "MessageRefused",
    "PositionLost",
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
    """

    def __init__(self, where: str, *, expected: str, got: str) -> None:
        super().__init__(f"{where}: expected {expected}, got {got}")
        self.where = where
        self.expected = expected
        self.got = got


class InvalidMapping(IngestError, ValueError):
    """A declared mapping or lookup cannot be what was meant; no message was read.

    Args:
        where: the member of the declaration, such as `feature 'price'`.
        expected: what it should be.
        got: what it is.
    """

    def __init__(self, where: str, *, expected: str, got: str) -> None:
        super().__init__(f"{where}: expected {expected}, got {got}")
        self.where = where
        self.expected = expected
        self.got = got


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
