"""A dead letter, and what every place for dead letters promises."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from featurestore import SourcePosition
from ingest.source import Message
from lineage import Entity

if TYPE_CHECKING:
    import lineage

__all__ = ["DeadLetter", "DeadLetterSink", "LetterFilter", "announce", "schema_of"]

_SHORT_ID: Final = 10
# The mark of a registry's wire format: one byte, then the schema's number in four.
_REGISTRY_MARK: Final = 0
_REGISTRY_BYTES: Final = 5


@final
@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A refused message and why it was refused.

    Args:
        group: the feature group it was meant for.
        source: the source's name.
        partition: where in the source.
        offset: where in the partition.
        payload: the message's value as it came: bytes, a row, or None.
        key: the message's key as it came.
        error: the refusing error's class.
        reason: the refusing error's text.
        time: when it was first refused, UTC.
        headers: the message's own, as they came.
        timestamp_us: when the source got it, µs UTC, where the source says so.
        schema: which schema the payload says it was written with; "" when it says nothing.
        attempt: how often it was refused, from 1; a replay counts.
        replayed: when a replay stored it, or found that an earlier one had; None: it waits.
    """

    group: str
    source: str
    partition: str
    offset: int
    payload: bytes | Mapping[str, object] | None
    key: bytes | None
    error: str
    reason: str
    time: dt.datetime
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp_us: int | None = None
    schema: str = ""
    attempt: int = 1
    replayed: dt.datetime | None = None

    @classmethod
    def of(
        cls,
        message: Message,
        *,
        group: str,
        source: str,
        error: str,
        reason: str,
        time: dt.datetime,
        schema: str | None = None,
    ) -> DeadLetter:
        """Make the letter of one refused message; `schema` is read off its payload by default."""
        return cls(
            group=group,
            source=source,
            partition=message.partition,
            offset=message.offset,
            payload=message.value,
            key=message.key,
            error=error,
            reason=reason,
            time=time,
            headers=tuple((name, bytes(value or b"")) for name, value in message.headers),
            timestamp_us=message.timestamp_us,
            schema=schema_of(message.value) if schema is None else schema,
        )

    @property
    def place(self) -> tuple[str, str, int]:
        """Source, partition and offset: which message it is, wherever the letter lies."""
        return self.source, self.partition, self.offset

    @property
    def id(self) -> str:
        """A short name for the place, good enough to tell some millions of letters apart."""
        return _digest(*self.place)[:_SHORT_ID]

    def message(self) -> Message:
        """Return the message as it came, but for a row's values that JSON cannot hold."""
        return Message(
            self.partition,
            self.offset,
            self.payload,
            self.key,
            self.timestamp_us,
            self.headers,
        )

    def to_json(self) -> dict[str, object]:
        """Write the letter as a JSON object.

        Bytes that are UTF-8 go into `payload` (`key`, `value` of a header) as text, others as
        base64 into `payload_base64`; a row goes into `payload_row`. What a letter does not have is
        left out.
        """
        body: dict[str, object] = {
            "group": self.group,
            "source": self.source,
            "partition": self.partition,
            "offset": self.offset,
            "error": self.error,
            "reason": self.reason,
            "time": _iso(self.time),
        }
        if isinstance(self.payload, Mapping):
            body["payload_row"] = plain_row(self.payload)
        elif self.payload is not None:
            body.update(_bytes_to_json("payload", self.payload))
        if self.key is not None:
            body.update(_bytes_to_json("key", self.key))
        if self.headers:
            body["headers"] = [
                {"name": name, **_bytes_to_json("value", value)} for name, value in self.headers
            ]
        if self.timestamp_us is not None:
            body["timestamp_us"] = self.timestamp_us
        if self.schema:
            body["schema"] = self.schema
        if self.attempt != 1:
            body["attempt"] = self.attempt
        if self.replayed is not None:
            body["replayed"] = _iso(self.replayed)
        return body

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> DeadLetter:
        """Read a letter that `to_json` wrote, also one of a time when letters had less.

        Raises:
            KeyError, ValueError: it is not one.
        """
        row = body.get("payload_row")
        replayed = body.get("replayed")
        return cls(
            group=body["group"],
            source=body["source"],
            partition=body["partition"],
            offset=int(body["offset"]),
            payload=row if row is not None else _bytes_from_json("payload", body),
            key=_bytes_from_json("key", body),
            error=body["error"],
            reason=body["reason"],
            time=dt.datetime.fromisoformat(body["time"]),
            headers=tuple(
                (str(header["name"]), _bytes_from_json("value", header) or b"")
                for header in body.get("headers", ())
            ),
            timestamp_us=body.get("timestamp_us"),
            schema=body.get("schema", ""),
            attempt=int(body.get("attempt", 1)),
            replayed=None if replayed is None else dt.datetime.fromisoformat(replayed),
        )


class DeadLetterSink(ABC):
    """A place for refused messages.

    The letters of a batch are written before the transaction that moves the source's position, so
    that no refusal is lost; a batch that is read again is written again. A sink is used by one
    thread.
    """

    def open(self) -> None:  # noqa: B027  # optional
        """Make sure, before anything is read, that letters can go there.

        Raises:
            IngestError: they cannot.
        """

    @abstractmethod
    def write(
        self, letters: Sequence[DeadLetter], position: SourcePosition, *, group: str
    ) -> list[Path]:
        """Make the letters of one batch durable, before the batch's position is stored.

        Args:
            letters: the refused messages of the batch, all of partitions that `position` names.
            position: what the batch covers.
            group: the feature group.

        Returns:
            The files that hold them, where it is files.

        Raises:
            IngestError: it cannot be done; nothing of the batch may be stored.
        """

    @abstractmethod
    def settle(self, position: SourcePosition, *, group: str, written: Sequence[Path] = ()) -> None:
        """Forget what earlier, unfinished tries of a batch left, once its position is stored.

        Only the try whose position was stored counts, and only its owner calls this.

        Args:
            position: what was stored.
            group: the feature group.
            written: the files of this batch, which stay.
        """

    @abstractmethod
    def read(self, group: str | None = None) -> Iterator[DeadLetter]:
        """Give every refused message once, as it stands now.

        Args:
            group: only this feature group's.

        Raises:
            IngestError: the place cannot be read.
        """

    @abstractmethod
    def amend(self, letters: Sequence[DeadLetter]) -> None:
        """Replace letters by newer states of them: replayed, or refused once more.

        Args:
            letters: of places that have a letter here; one that has none is left out.

        Raises:
            IngestError: it cannot be done.
        """

    @abstractmethod
    def artifacts(self, group: str) -> Sequence[Entity]:
        """Name the place for lineage, with the property `group`: an erasure finds it there."""

    def close(self) -> None:  # noqa: B027  # optional
        """Let go of connections. May be called twice."""


@final
@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which letters are meant: those that fit everything given.

    Args:
        group: of this feature group.
        error: of this class.
        since: first refused then or later.
        until: first refused before then.
        replayed: whether they were stored by a replay; None: either.
        ids: one of these: short ids, or `SOURCE/PARTITION/OFFSET`, or the end of that from a slash.

    >>> LetterFilter(ids=("0/17",)).text
    '0/17'
    """

    group: str | None = None
    error: str | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    replayed: bool | None = None
    ids: tuple[str, ...] = ()

    def __call__(self, letter: DeadLetter) -> bool:
        """Say whether a letter is meant."""
        return (
            self.group in (None, letter.group)
            and self.error in (None, letter.error)
            and (self.since is None or letter.time >= self.since)
            and (self.until is None or letter.time < self.until)
            and self.replayed in (None, letter.replayed is not None)
            and (not self.ids or any(names(one, letter) for one in self.ids))
        )

    @property
    def text(self) -> str:
        """What is asked for, in words; "" for everything."""
        parts = [self.group, self.error, *self.ids]
        if self.since is not None:
            parts.append(f"since {_iso(self.since)}")
        if self.until is not None:
            parts.append(f"until {_iso(self.until)}")
        if self.replayed is not None:
            parts.append("replayed" if self.replayed else "not replayed")
        return ", ".join(part for part in parts if part)


def names(id: str, letter: DeadLetter) -> bool:
    """Whether an id, as LetterFilter takes them, is this letter's."""
    full = f"{letter.source}/{letter.partition}/{letter.offset}"
    return id in (letter.id, full) or ("/" in id and full.endswith(f"/{id.removeprefix('/')}"))


def announce(sink: DeadLetterSink, graph: lineage.Graph | Any, group: str) -> None:
    """Open a place for letters of a group, and note it in lineage before the first goes there.

    An erasure learns from it which places it has to look into, or cannot.

    Raises:
        IngestError: letters cannot go there.
        lineage.LineageError: it cannot be recorded.
    """
    sink.open()
    for entity in sink.artifacts(group):
        # The same event again changes nothing.
        event = f"dead-letters-{_digest(group, entity.source_uri)[:32]}"
        graph.record([entity], kind="DeadLettersOpened", event_uid=event)


def schema_of(payload: object) -> str:
    """Return `id N` for a payload in a schema registry's wire format, else "".

    >>> schema_of(bytes([0, 0, 0, 0, 17]) + b"..."), schema_of(b"{}")
    ('id 17', '')
    """
    if (
        not isinstance(payload, bytes)
        or len(payload) < _REGISTRY_BYTES
        or payload[0] != _REGISTRY_MARK
    ):
        return ""
    return f"id {int.from_bytes(payload[1:_REGISTRY_BYTES], 'big')}"


def plain_row(row: Mapping[str, object]) -> dict[str, object]:
    """Return a row as JSON can hold it; other values as their text."""
    return {name: _plain(value) for name, value in row.items()}


def partition_digest(source: str, partition: str) -> str:
    """Return a short name for a partition: both parts hold slashes and may be long."""
    return hashlib.sha256(f"{source}\0{partition}".encode()).hexdigest()[:32]


def rank(letter: DeadLetter) -> tuple[bool, int, dt.datetime]:
    """Order states of one letter: a later one is greater."""
    return letter.replayed is not None, letter.attempt, letter.time


def _digest(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()


def _iso(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).isoformat(timespec="microseconds")


def _bytes_to_json(name: str, value: bytes) -> dict[str, str]:
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}


def _bytes_from_json(name: str, body: Mapping[str, Any]) -> bytes | None:
    encoded = body.get(f"{name}_base64")
    if encoded is not None:
        return base64.b64decode(encoded, validate=True)
    text = body.get(name)
    return None if text is None else str(text).encode()


def _plain(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    return value if value is None or isinstance(value, str | int) else str(value)


def json_text(row: Mapping[str, object]) -> str:
    """Write a row as one JSON object."""
    return json.dumps(plain_row(row))
