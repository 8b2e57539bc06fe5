"""A damaged lineage file: what is wrong with it, and its log saved up to the damage."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, final
from urllib.parse import quote

from lineage.errors import InvalidLog, NotALineageFile, StoreUnavailable
from lineage.log import Event, Head, check_follows, is_plain
from lineage.proofs.merkle import Frontier
from lineage.store.ledger import checkpoints_of, events_of, head_of
from lineage.store.sqlite import SQLiteStore, any_text, schema
from lineage.store.sqlite_dialect import SQLiteConnection

_AT_ONCE: Final = 500
_FINDINGS: Final = 10
_MAGIC: Final = b"SQLite format 3\0"
_HEADER: Final = struct.Struct(">16sH10xI")  # the magic, the size of a page, the number of pages


@final
@dataclass(frozen=True)
class Damage:
    """What an examination of a lineage file found.

    Args:
        path: of the file.
        findings: what is wrong, a sentence each; empty when nothing is.
        whole: events from the first on that are there as they were recorded.
        expected: events that there should be, as far as can be told.
        readable: events that can be read at all, also behind the damage.
    """

    path: str
    findings: tuple[str, ...]
    whole: int
    expected: int
    readable: int

    @property
    def is_damaged(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.findings)

    @property
    def first_damaged(self) -> int | None:
        """Sequence of the first event that is missing, altered or unreadable."""
        return self.whole + 1 if self.whole < self.expected else None

    def to_json(self) -> dict[str, Any]:
        """Write it as JSON values."""
        return {**asdict(self), "first_damaged": self.first_damaged}

    def to_text(self) -> str:
        """The findings for people, a line each."""
        if not self.findings:
            return f"{self.path}: undamaged, {self.whole:,} events"
        lines = [f"{self.path}: DAMAGED", *(f"  {finding}" for finding in self.findings)]
        if self.first_damaged is None:
            lines.append(f"  the log is whole: all {self.whole:,} events")
        else:
            lines.append(
                f"  the log is whole up to event {self.whole:,} of {self.expected:,}; "
                f"{self.readable:,} events can be read"
            )
        return "\n".join(lines)


@final
@dataclass(frozen=True)
class Salvaged:
    """What a salvage brought into safety.

    Args:
        events: copied, from the first on, with their hashes.
        checkpoints: copied; those that do not fit what was copied are left behind.
        damage: of the file they come from.
    """

    events: int
    checkpoints: int
    damage: Damage

    @property
    def lost(self) -> int:
        """Events that are not in the copy."""
        return max(0, self.damage.expected - self.events)


def examine(path: str | Path) -> Damage:
    """Look through a lineage file for damage; it is not written to.

    Every page is read, every index compared with its table, the schema with the one that this
    version makes, and the hash chain is recomputed.

    Args:
        path: of the file, which this process must not have open.

    Raises:
        NotALineageFile: there is none, or nothing of it can be recognised.
        StoreUnavailable: it cannot be read.
    """
    place = Path(path)
    findings = _size_findings(place)
    with closing(_opened(place)) as connection:
        reading = _Reading(connection)
        for _ in reading.events():
            pass
        if reading.reason:
            findings.append(reading.reason)
        expected = _expected(connection, reading.head)
        readable = reading.head.sequence
        if readable < expected:
            if not reading.reason:
                findings.append(f"event {readable + 1} is missing: the log ends too early")
            readable += _readable(connection, readable, expected)
        findings += _page_findings(connection)
        findings += _schema_findings(connection)
    return Damage(str(place), tuple(findings), reading.head.sequence, expected, readable)


def salvage(
    path: str | Path,
    out: str | Path,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> Salvaged:
    """Copy the log of a damaged file up to the damage into a new file; the old one stays.

    What is copied is checked against its hashes, so that the new file's chain is whole; its graph
    is projected anew, which mends damage that is not in the log.

    Args:
        path: of the damaged file, which this process must not have open.
        out: of the new file.
        on_progress: called with how many events are in.

    Raises:
        NotALineageFile: as for `examine`.
        StoreUnavailable: `out` exists already or cannot be written, or `path` cannot be read.
    """
    target = Path(out)
    if target.exists():
        raise StoreUnavailable(f"{target}: exists already; name a new file")
    damage = examine(path)
    part = target.with_name(f".{target.name}.part")
    try:
        with closing(_opened(Path(path))) as connection, closing(SQLiteStore.open(part)) as store:
            reading = _Reading(connection)
            waiting: list[Event] = []
            for event in reading.events():
                waiting.append(event)
                if len(waiting) == _AT_ONCE:
                    store.adopt(waiting)
                    waiting.clear()
                    if on_progress is not None:
                        on_progress(event.sequence)
            store.adopt(waiting)
            kept = _copy_checkpoints(connection, store)
        part.replace(target)
    finally:
        for ending in ("", ".lock", "-wal", "-shm"):
            part.with_name(part.name + ending).unlink(missing_ok=True)
    return Salvaged(reading.head.sequence, kept, damage)


@final
class _Reading:
    """The events of a file as long as each follows the one before."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.head = Head()
        self.reason = ""

    def events(self) -> Iterator[Event]:
        try:
            for event in events_of(SQLiteConnection(self._connection)):
                if not isinstance(event.sequence, int) or not is_plain(event):
                    self.reason = f"event {event.sequence} holds a value of another type"
                    return
                self.head = check_follows(self.head, [event])
                yield event
        except InvalidLog as error:
            self.reason = str(error)
        except sqlite3.DatabaseError as error:
            self.reason = f"event {self.head.sequence + 1} of table log cannot be read: {error}"


def _opened(path: Path) -> sqlite3.Connection:
    if not path.is_file():
        raise NotALineageFile(str(path), "nothing", "name the file of a lineage graph")
    connection = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, isolation_level=None
    )
    connection.text_factory = any_text
    # Else a file that was cut off is not opened at all.
    connection.execute("PRAGMA writable_schema = ON")
    try:
        tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'log'")
        if tables.fetchone()[0]:
            return connection
        found = "a SQLite database without a log"
    except sqlite3.DatabaseError as error:
        found = f"a file whose first page is damaged ({error})"
    connection.close()
    raise NotALineageFile(str(path), found, "nothing can be read from it: restore a backup")


def _size_findings(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            start = file.read(_HEADER.size)
            size = file.seek(0, 2)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreUnavailable(f"{path}: {error.strerror}") from error
    if len(start) < _HEADER.size:
        raise NotALineageFile(str(path), f"a file of {size} bytes", "restore it from a backup")
    magic, page, pages = _HEADER.unpack(start)
    if magic != _MAGIC:
        raise NotALineageFile(
            str(path), f"a file that starts with {magic!r}", "restore it from a backup"
        )
    page = 65_536 if page == 1 else page
    if page and size < pages * page:
        return [f"the file is cut off: {size:,} bytes where its header says {pages * page:,}"]
    return []


def _page_findings(connection: sqlite3.Connection) -> list[str]:
    """What SQLite's own check finds, by the names of tables and indexes."""
    findings: list[str] = []
    try:
        roots = dict(
            connection.execute("SELECT rootpage, type || ' ' || name FROM sqlite_master").fetchall()
        )
        for (line,) in connection.execute(f"PRAGMA integrity_check({_FINDINGS})"):
            for text in str(line).splitlines():
                if text == "ok" or text.startswith("***"):
                    continue
                # "Tree 5 page 7 cell 0: ..." and, of older versions, "On tree page 5 cell 0: ..."
                root = next((int(word) for word in text.split() if word.isdigit()), 0)
                named = f"{roots[root]}: " if "ree " in text[:8] and root in roots else ""
                findings.append(named + text)
    except sqlite3.DatabaseError as error:
        findings.append(f"pages cannot be read: {error}")
    return findings


def _schema_findings(connection: sqlite3.Connection) -> list[str]:
    """Tables, indexes and triggers that are not as this version makes them."""
    select = "SELECT type || ' ' || name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(schema())
        wanted: dict[str, str] = dict(fresh.execute(select).fetchall())
    try:
        found: dict[str, str] = dict(connection.execute(select).fetchall())
    except sqlite3.DatabaseError as error:
        return [f"the schema cannot be read: {error}"]
    # A file that was brought up from an older form has its tables' texts from there.
    return [f"{name} is missing" for name in wanted if name not in found]


def _expected(connection: sqlite3.Connection, head: Head) -> int:
    log = SQLiteConnection(connection)
    known = [head.sequence]
    with suppress(sqlite3.DatabaseError, AssertionError):
        known.append(int(head_of(log).sequence))
    with suppress(sqlite3.DatabaseError):
        known.append(int((log.one("SELECT max(seq) FROM log") or (0,))[0] or 0))
    with suppress(sqlite3.DatabaseError):
        known += [one.sequence for one in checkpoints_of(log)[-1:]]
    return max(known)


def _readable(connection: sqlite3.Connection, after: int, until: int) -> int:
    """How many of the events behind one can be read, each looked up by itself."""
    read = 0
    for sequence in range(after + 1, until + 1):
        with suppress(sqlite3.DatabaseError):
            select = "SELECT body, hash FROM log WHERE seq = ?"
            read += connection.execute(select, (sequence,)).fetchone() is not None
    return read


def _copy_checkpoints(connection: sqlite3.Connection, store: SQLiteStore) -> int:
    """Keep the checkpoints that tell of the events copied."""
    known = []
    with suppress(sqlite3.DatabaseError):
        known = checkpoints_of(SQLiteConnection(connection))
    tree, kept = Frontier(), 0
    for one in known:
        if one.sequence > store.head().sequence or one.sequence < tree.size:
            continue
        while tree.size < one.sequence:
            until = min(one.sequence, tree.size + _AT_ONCE)
            tree.extend(store.hashes(tree.size, until))
        if one.root == tree.root and one.frontier == tree.packed:
            store.add_checkpoint(one)
            kept += 1
    return kept
