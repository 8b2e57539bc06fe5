"""Every error of ingestion that a caller can catch.

IngestError
├── Undecodable         one message is not a record                       (also a ValueError)
├── InvalidMapping      a declared mapping or lookup breaks a rule       (also a ValueError)
├── MessageRefused      a refused message and no dead letters to put it in (also a ValueError)
├── TooManyRefusals     the stop rule ended the run before it stored the batch
├── SourceNotFound      no such topic, file or folder                      (also a LookupError)
├── SourceUnavailable   the broker does not answer; retry with backoff     (also a ConnectionError)
│   └── RegistryUnavailable  the schema registry does not answer; the same
├── RegistryRefused     the schema registry refuses this client, or is none
├── SchemaNotFound      the schema registry has no such schema             (also a LookupError)
├── SourceDenied        TLS, login or rights: the source does not let us in (also a PermissionError)
├── SourceChanged       a file changed while it was read; start again
├── PositionLost        the input no longer has what comes after the stored position
└── InvalidSettings     a file of settings has mistakes                   (also a ValueError)

Errors of the store (`featurestore.errors`) pass through as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = [
    "IngestError",
    "InvalidMapping",
    "InvalidSettings",
    "MessageRefused",
    "PositionLost",
    "RegistryRefused",
    "RegistryUnavailable",
    "SchemaNotFound",
    "SourceChanged",
    "SourceDenied",
    "SourceNotFound",
    "SourceUnavailable",
    "TooManyRefusals",
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


class TooManyRefusals(IngestError):
    """The stop rule ended a run: so many messages were refused that something is wrong.

    The batch that broke the rule is not stored: its letters can be looked at, the position stands
    before it, and the next run reads its messages again.

    Args:
        refused: how many refusals broke the rule.
        of: of how many messages, or within what time, in words.
        reasons: the most frequent reasons without the messages' values, and how often.
        other: refusals for other reasons.
        examples: partition, offset and whole reason of some of them.
    """

    def __init__(
        self,
        *,
        refused: int,
        of: str,
        reasons: Mapping[str, int],
        other: int,
        examples: Sequence[tuple[str, int, str]],
    ) -> None:
        lines = [f"stopped: {refused:,} {of} were refused"]
        lines += [f"  {count:,} × {reason}" for reason, count in reasons.items()]
        if other:
            lines.append(f"  {other:,} × other reasons")
        lines.append("for example:")
        lines += [
            f"  partition {partition} offset {offset}: {reason}"
            for partition, offset, reason in examples
        ]
        lines.append(
            "the batch was not stored, and the next run reads its messages again: correct the "
            "mapping, the format or the group's features and run again, then `featureline "
            "deadletter replay` for those refused before; where the messages are what is wrong, "
            "raise the limit (--stop-at-share, --stop-after-refusals, StopRule) to put them aside"
        )
        super().__init__("\n".join(lines))
        self.refused = refused
        self.of = of
        self.reasons = dict(reasons)
        self.other = other
        self.examples = list(examples)


class SourceNotFound(IngestError, LookupError):
    """There is no topic, file or folder of this name."""


class SourceUnavailable(IngestError, ConnectionError):
    """The broker does not answer. Nothing is lost: a later run goes on where the store stands."""


class SourceDenied(IngestError, PermissionError):
    """The source does not let this client in: TLS, login or rights; the message says which."""


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


class InvalidSettings(IngestError, ValueError):
    """A file of settings has mistakes; `problems` has one line for each."""

    def __init__(self, file: str, problems: Sequence[str]) -> None:
        super().__init__("\n".join(f"{file}: {problem}" for problem in problems))
        self.file = file
        self.problems = tuple(problems)
