"""The append-only log: its events, the hash chain over them, and the check of that chain."""

from __future__ import annotations

import hashlib
import os
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

from lineage.errors import InvalidLog

GENESIS = bytes(32)
"""What the first event has in place of its predecessor's hash."""

# Lengths stand before the texts, so that no two events share their hashed bytes.
_HEADER = struct.Struct(">32sqqIII")


@final
@dataclass(frozen=True, slots=True)
class Event:
    """One row of the log, with the bytes exactly as stored.

    Args:
        sequence: 1, 2, 3 and so on without gaps, in commit order: the clock of the graph.
        time_us: when it was recorded, UTC microseconds, never before the previous event.
        actor: who recorded it.
        kind: what happened, such as `JobCompleted`.
        event_uid: names the event, so that recording it twice records it once.
        body: what was recorded; see `lineage.projection.Change`.
        previous: hash of the event before, `GENESIS` for the first.
        hash: `chain_hash` of everything above.
    """

    sequence: int
    time_us: int
    actor: str
    kind: str
    event_uid: str
    body: bytes
    previous: bytes
    hash: bytes


@final
@dataclass(frozen=True, slots=True)
class Head:
    """The end of the log, kept beside it so that a missing last event is noticed."""

    sequence: int = 0
    time_us: int = 0
    hash: bytes = GENESIS


@final
@dataclass(frozen=True)
class LogReport:
    """What a check of the log found.

    Args:
        intact: whether every event is there, in order and as it was recorded.
        events: number of events read.
        first_altered: sequence of the first event that is missing or altered, or
            None when intact.
        reason: what is wrong with it, or None when intact.
        checkpoints: number of checkpoints that the log was compared with.
    """

    intact: bool
    events: int
    first_altered: int | None = None
    reason: str | None = None
    checkpoints: int = 0


def chain_hash(
    previous: bytes,
    sequence: int,
    time_us: int,
    actor: str,
    kind: str,
    event_uid: str,
    body: bytes,
) -> bytes:
    """SHA-256 over the previous hash and every field of an event, bytes as stored."""
    # surrogateescape: an altered row may hold bytes that are no text, and has to be hashed too.
    texts = [text.encode(errors="surrogateescape") for text in (actor, kind, event_uid)]
    header = _HEADER.pack(previous, sequence, time_us, *map(len, texts))
    return hashlib.sha256(b"".join((header, *texts, body))).digest()


def append_event(
    head: Head, *, now_us: int, actor: str, kind: str, event_uid: str, body: bytes
) -> tuple[Event, Head]:
    """The event that follows `head`, and the head after it.

    Time never runs backwards in the log: when the clock does, the event takes
    the time of the one before.
    """
    sequence = head.sequence + 1
    time_us = max(now_us, head.time_us)
    link = chain_hash(head.hash, sequence, time_us, actor, kind, event_uid, body)
    event = Event(sequence, time_us, actor, kind, event_uid, body, head.hash, link)
    return event, Head(sequence, time_us, link)


def check_follows(head: Head, events: Sequence[Event]) -> Head:
    """The head after events of another log, each of which has to follow the one before.

    Raises:
        InvalidLog: one does not, or is not what its hash says.
    """
    for event in events:
        expected = chain_hash(
            head.hash,
            event.sequence,
            event.time_us,
            event.actor,
            event.kind,
            event.event_uid,
            event.body,
        )
        if event.sequence != head.sequence + 1 or event.previous != head.hash:
            raise InvalidLog(
                f"event {event.sequence} does not follow event {head.sequence}, the end of the "
                f"log that is to take it; it is of another log"
            )
        if event.hash != expected:
            raise InvalidLog(f"event {event.sequence} was altered: its hash does not match")
        head = Head(event.sequence, event.time_us, event.hash)
    return head


def verify_chain(events: Iterator[Event], head: Head) -> LogReport:
    """Recompute the chain and name the first event that is missing or altered.

    Any single change is found: an altered field, a row removed, added or moved,
    also at the end of the log, where `head` is the witness. Someone who can
    rewrite every later event and the head is not: keep a hash elsewhere for that.

    Cost: one SHA-256 per event; memory does not grow with the log.
    """
    previous, expected, read = GENESIS, 1, 0

    def altered(sequence: int, reason: str) -> LogReport:
        return LogReport(False, read + sum(1 for _ in events), sequence, reason)

    for event in events:
        read += 1
        if event.sequence != expected:
            if event.sequence < expected:
                return altered(event.sequence, f"event {event.sequence} stands before the first")
            return altered(expected, f"event {expected} is missing")
        if event.sequence > head.sequence:
            return altered(expected, f"event {expected} was added behind the end of the log")
        if event.previous != previous:
            return altered(expected, f"event {expected} does not follow event {expected - 1}")
        if not is_plain(event):
            return altered(expected, f"event {expected} holds a value of another type")
        recomputed = chain_hash(
            previous,
            event.sequence,
            event.time_us,
            event.actor,
            event.kind,
            event.event_uid,
            event.body,
        )
        if recomputed != event.hash:
            return altered(expected, f"event {expected} was altered: its hash does not match")
        previous, expected = event.hash, expected + 1
    if read < head.sequence:
        return altered(expected, f"event {expected} is missing: the log ends too early")
    if previous != head.hash:
        return altered(max(read, 1), f"event {max(read, 1)} is not the one the log ended with")
    return LogReport(True, read)


def now_us() -> int:
    """The wall clock, UTC microseconds."""
    return time.time_ns() // 1_000


def new_uid() -> str:
    """A UUID of version 7: unique, and in order of time, which keeps indexes compact.

    RFC 9562 section 5.7.
    """
    millis = time.time_ns() // 1_000_000
    value = (millis << 80) | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | (0x7 << 76)
    value = value & ~(0x3 << 62) | (0x2 << 62)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def is_plain(event: Event) -> bool:
    """SQLite keeps any value in any column, so an altered row can hold any type."""
    texts = (event.actor, event.kind, event.event_uid)
    return (
        isinstance(event.time_us, int)
        and all(isinstance(text, str) for text in texts)
        and isinstance(event.body, bytes)
        and isinstance(event.hash, bytes)
    )
