"""Events: who recorded what, and when, read off the log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import final

from lineage.change import Change
from lineage.entity import JSON, Entity, from_us, to_us
from lineage.log import Event
from lineage.questions.words import moment, plural
from lineage.store import LineageStore

# Events are in the log in order: the newest are read from behind, a block at a time.
_BLOCK = 1_000
_SAME_TIME = 20


@final
@dataclass(frozen=True)
class EventSummary:
    """One event of the log, without its contents.

    Args:
        sequence: its place in the log.
        time: when it was recorded, UTC.
        actor: who recorded it.
        kind: what happened.
        event_uid: its name.
        entities: uids of the entities that it recorded, in its order.
        associations: how many it recorded.
    """

    sequence: int
    time: datetime
    actor: str
    kind: str
    event_uid: str
    entities: tuple[str, ...]
    associations: int

    def text(self) -> str:
        """The event in a line."""
        what = plural(len(self.entities), "thing")
        if self.associations:
            what += f", {plural(self.associations, 'association')}"
        return (
            f"{self.sequence:>6}  {moment(self.time)}  {self.actor:<12}  {self.kind:<20}  {what}"
        ).rstrip()

    def to_json(self) -> dict[str, JSON]:
        """The event as plain values."""
        return {
            "sequence": self.sequence,
            "time": self.time.isoformat(),
            "actor": self.actor,
            "kind": self.kind,
            "event_uid": self.event_uid,
            "entities": list(self.entities),
            "associations": self.associations,
        }


@final
@dataclass(frozen=True)
class EventFilter:
    """Which events are wanted: alternatives inside a field, all fields together.

    Args:
        entity: uid that they recorded; empty for any.
        kinds: any of these; empty for all.
        actors: any of these; empty for all.
        since_us: recorded at or after this time; UTC microseconds.
        until_us: recorded before or at this time.
        before: only those before this sequence.
    """

    entity: str = ""
    kinds: frozenset[str] = frozenset()
    actors: frozenset[str] = frozenset()
    since_us: int | None = None
    until_us: int | None = None
    before: int | None = None

    def passes(self, event: Event) -> bool:
        """Whether what stands beside the body is as wanted."""
        return (
            (not self.kinds or event.kind in self.kinds)
            and (not self.actors or event.actor in self.actors)
            and (self.since_us is None or event.time_us >= self.since_us)
            and (self.until_us is None or event.time_us <= self.until_us)
        )


def find_events(store: LineageStore, wanted: EventFilter, limit: int) -> list[EventSummary]:
    """The newest events that pass, newest first.

    Cost: reads the log from its end until enough are found; those older than `since_us` are not
    read.
    """
    end = store.head().sequence
    if wanted.before is not None:
        end = min(end, wanted.before - 1)
    found: list[EventSummary] = []
    # Entities are looked for in the bytes first: most events do not have this one.
    uid = wanted.entity
    while end > 0 and len(found) < limit:
        start = max(end - _BLOCK, 0)
        block = list(_between(store, start, end))
        for event in reversed(block):
            if not wanted.passes(event):
                continue
            summary = summarised(event)
            if uid and uid not in summary.entities:
                continue
            found.append(summary)
            if len(found) == limit:
                break
        if block and wanted.since_us is not None and block[0].time_us < wanted.since_us:
            break
        end = start
    return found


def summarised(event: Event) -> EventSummary:
    """What one event says, in short."""
    change = Change.decode(event.body)
    return EventSummary(
        event.sequence,
        from_us(event.time_us),
        event.actor,
        event.kind,
        event.event_uid,
        tuple(entity.uid for entity in change.entities),
        len(change.associations),
    )


def recorded_by(store: LineageStore, entity: Entity) -> list[EventSummary]:
    """The events that recorded an entity first and last; one where they are the same."""
    found: list[EventSummary] = []
    for time in dict.fromkeys((entity.created, entity.modified)):
        if time is None:
            continue
        with store.view() as view:
            end = view.sequence_at(to_us(time))
        # Events of one microsecond are rare, and then few.
        for event in reversed(list(_between(store, max(end - _SAME_TIME, 0), end))):
            summary = summarised(event)
            if entity.uid in summary.entities:
                found.append(summary)
                break
    return found


def _between(store: LineageStore, after: int, last: int) -> Iterator[Event]:
    with store.log(after) as (events, _):
        for event in events:
            if event.sequence > last:
                return
            yield event
