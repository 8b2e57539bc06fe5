"""What every database does alike: append to the log, project it anew, and compare."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from operator import attrgetter
from typing import Any, TypeAlias

from lineage.change import Change, Draft, Recorded
from lineage.errors import InvalidLog, LineageError
from lineage.log import Event, Head, append_event, check_follows, now_us
from lineage.projection import project, resolve
from lineage.proofs.checkpoint import EVERY, Checkpoint, make_checkpoint
from lineage.store.tables import Connection, Tables

Outcomes: TypeAlias = list[Recorded | LineageError]
"""What became of each of several drafts."""

# The tables of the graph: the sequence to blame for a row, and the columns that tell it apart.
TABLES = {
    "entity": ("created_seq", "id, uid"),
    "edge": ("valid_from_seq", "dst, src, type, valid_from_seq"),
    "amendment": ("seq", "entity, seq"),
    "column_set": ("NULL", "dst, by"),
    "column_edge": (
        "valid_from_seq",
        "dst, dst_column, src, src_column, by, type, subtype, valid_from_seq",
    ),
    "run": ("valid_from_seq", "uid, valid_from_seq"),
    "tag": ("valid_from_seq", "entity, key, valid_from_seq"),
    "alias": ("valid_from_seq", "alias"),
}

_INSERT = (
    "INSERT INTO log (seq, time_us, actor, kind, event_uid, body, prev, hash) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_CHECKPOINT = "SELECT seq, root, head, time_us, frontier, public_key, signature FROM checkpoint"
_row = attrgetter("sequence", "time_us", "actor", "kind", "event_uid", "body", "previous", "hash")
_EVENT = "SELECT seq, time_us, actor, kind, event_uid, body, prev, hash FROM log"


def commit_all(groups: Iterable[Sequence[Draft]], head: Head, tables: Tables) -> list[Outcomes]:
    """Add events to the log and the graph, and move the head; the caller commits.

    Args:
        groups: the drafts of each caller, in order, for one pass.
        head: of the log, held so that nobody else appends.
        tables: of the graph, in a write transaction.
    """
    answers: list[Outcomes] = []
    start = head
    note = _made_at(head, tables.connection)
    for drafts in groups:
        outcomes: Outcomes = []
        for draft in drafts:
            try:
                outcome, after = _append(draft, head, tables, note)
            except LineageError as error:
                # `_append` refuses before it writes, so the others are not touched.
                outcomes.append(error)
            else:
                outcomes.append(outcome)
                if after != head:
                    head, note = after, None
        answers.append(outcomes)
    if head != start:
        _move_head(start, head, tables)
    return answers


def adopt(events: Sequence[Event], head: Head, tables: Tables) -> None:
    """Add events of another log as they are, and move the head; the caller commits.

    Raises:
        InvalidLog: one does not follow; nothing was written.
    """
    after = check_follows(head, events)
    tables.connection.many(_INSERT, list(map(_row, events)))
    noted = set()
    for event in events:
        change = Change.decode(event.body)
        _project(event, change, tables)
        if change.checkpoint is not None and 0 < change.checkpoint[0] < event.sequence:
            noted.add(change.checkpoint[0])
    _move_head(head, after, tables)
    # What the events tell of was made where they come from: the log gives it again.
    for sequence in sorted(noted):
        if tables.connection.one("SELECT 1 FROM checkpoint WHERE seq = ?", sequence) is None:
            _make_checkpoint(sequence, tables.connection)


def replay(events: Iterator[Event], tables: Callable[[], Tables]) -> int:
    """Project events into empty tables; returns how many there were.

    Raises:
        InvalidLog: an event cannot be read any more.
    """
    read = 0
    for event in events:
        try:
            change = Change.decode(event.body)
            _project(event, change, tables())
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise InvalidLog(
                f"event {event.sequence} was altered and cannot be projected ({error!r:.200}); "
                f"restore the log from a backup"
            ) from error
        read += 1
    return read


def first_difference(stored: Connection, fresh: Connection) -> tuple[int, str] | None:
    """The first row of the graph that is not what the log says.

    Args:
        stored: the graph as it is.
        fresh: the graph as the log has it.

    Returns:
        None when they agree, else the sequence of an event that is projected wrongly, and
        what is wrong.
    """
    for table, (sequence, key) in TABLES.items():
        select = f"SELECT {sequence}, {_named(table)}, {table}.* FROM {table} ORDER BY {key}"
        for found, expected in zip_longest(stored.each(select), fresh.each(select)):
            if found != expected:
                row = expected or found
                assert row is not None
                state = "missing" if found is None else "not in the log"
                state = "not as recorded" if found and expected else state
                what = {"edge": "association", "column_edge": "column lineage"}.get(table, table)
                return row[0] or head_of(stored).sequence, f"{what} {row[1]} is {state}"
    return None


def events_of(connection: Connection, after: int = 0) -> Iterator[Event]:
    """The events behind one, in sequence; without one also those of no sensible sequence."""
    if not after:
        return (Event(*row) for row in connection.each(f"{_EVENT} ORDER BY seq"))
    return (Event(*row) for row in connection.each(f"{_EVENT} WHERE seq > ? ORDER BY seq", after))


def head_of(connection: Connection, *, held: bool = False) -> Head:
    """The end of the log.

    Args:
        connection: to the log.
        held: whether nobody else may append until the transaction ends, where rows are locked
            one by one.
    """
    row = connection.one(f"SELECT seq, time_us, hash FROM head{' FOR UPDATE' if held else ''}")
    assert row is not None
    return Head(*row)


def hashes_of(connection: Connection, after: int, until: int) -> list[bytes]:
    """The hashes of the events behind one, up to another."""
    rows = connection.all(
        "SELECT hash FROM log WHERE seq > ? AND seq <= ? ORDER BY seq", after, until
    )
    return [row[0] for row in rows]


def add_checkpoint(connection: Connection, checkpoint: Checkpoint) -> None:
    """Put a checkpoint in; the caller commits."""
    connection.many(
        "INSERT INTO checkpoint (seq, root, head, time_us, frontier, public_key, signature) "
        "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (seq) DO UPDATE SET root = excluded.root, "
        "head = excluded.head, time_us = excluded.time_us, frontier = excluded.frontier, "
        "public_key = excluded.public_key, signature = excluded.signature",
        [
            (
                checkpoint.sequence,
                checkpoint.root.hex(),
                checkpoint.head.hex(),
                checkpoint.time_us,
                checkpoint.frontier.hex(),
                checkpoint.public_key.hex(),
                checkpoint.signature.hex(),
            )
        ],
    )


def checkpoints_of(connection: Connection) -> list[Checkpoint]:
    """The checkpoints, in sequence."""
    return [_checkpoint(row) for row in connection.all(f"{_CHECKPOINT} ORDER BY seq")]


def _checkpoint(row: tuple[Any, ...]) -> Checkpoint:
    sequence, root, head, time_us, frontier, public_key, signature = row
    return Checkpoint(
        sequence,
        _bytes(root),
        _bytes(head),
        time_us,
        _bytes(frontier),
        _bytes(public_key),
        _bytes(signature),
    )


def _bytes(text: object) -> bytes:
    """Bytes from hex; of what is none, something that fits nothing: a check names it then."""
    try:
        return bytes.fromhex(text) if isinstance(text, str) else b"?"
    except ValueError:
        return b"?"


def _made_at(head: Head, connection: Connection) -> tuple[int, str] | None:
    """A checkpoint that somebody made of the log as it is; the store's own are expected anyway."""
    if head.sequence % EVERY == 0:
        return None
    row = connection.one("SELECT seq, root FROM checkpoint WHERE seq = ?", head.sequence)
    return None if row is None else (row[0], str(row[1]))


def _append(
    draft: Draft, head: Head, tables: Tables, note: tuple[int, str] | None
) -> tuple[Recorded, Head]:
    known = tables.connection.one("SELECT seq, body FROM log WHERE event_uid = ?", draft.event_uid)
    if known is not None:
        sequence, body = known
        uids = [entity.uid for entity in Change.decode(body).entities[: len(draft.entities)]]
        stored = tables.by_uid(uids)
        return Recorded(sequence, tuple(stored[uid] for uid in uids)), head
    change, before = resolve(draft, tables)
    if note is not None:
        change = replace(change, checkpoint=note)
    event, head = append_event(
        head,
        now_us=now_us(),
        actor=draft.actor,
        kind=draft.kind,
        event_uid=draft.event_uid,
        body=change.encode(),
    )
    tables.connection.many(_INSERT, [_row(event)])
    entities = project(change, event.time_us, before)
    tables.write(event.sequence, change, entities, before)
    stored = {entity.uid: entity for entity in entities}
    wanted = change.entities[: len(draft.entities)]
    return Recorded(event.sequence, tuple(stored[entity.uid] for entity in wanted)), head


def _project(event: Event, change: Change, tables: Tables) -> None:
    before = tables.by_uid(change.touched)
    tables.write(event.sequence, change, project(change, event.time_us, before), before)


def _move_head(before: Head, head: Head, tables: Tables) -> None:
    tables.connection.many(
        "UPDATE head SET seq = ?, time_us = ?, hash = ?", [(head.sequence, head.time_us, head.hash)]
    )
    for passed in range(before.sequence // EVERY + 1, head.sequence // EVERY + 1):
        _make_checkpoint(passed * EVERY, tables.connection)


def _make_checkpoint(sequence: int, connection: Connection) -> None:
    row = connection.one(
        f"{_CHECKPOINT} WHERE seq <= ? ORDER BY seq DESC LIMIT 1",
        sequence,
    )
    made = make_checkpoint(
        None if row is None else _checkpoint(row),
        sequence,
        now_us(),
        lambda after, until: hashes_of(connection, after, until),
    )
    add_checkpoint(connection, made)


def _named(table: str) -> str:
    """SQL for how to call a row of a table."""
    uid = "(SELECT uid FROM entity AS e WHERE e.id = {})"
    named: dict[str, Any] = {
        "entity": "uid",
        "edge": f"{uid.format('src')} || ' → ' || {uid.format('dst')}",
        "column_set": f"{uid.format('dst')} || ' by ' || by",
        "column_edge": f"{uid.format('src')} || '.' || src_column || ' → ' || "
        f"{uid.format('dst')} || '.' || dst_column",
        "run": "uid",
        "alias": "alias",
    }
    return str(named.get(table, uid.format("entity")))
