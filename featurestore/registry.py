"""The registry: feature group definitions and their versions, in SQLite.

Several processes may read and change it at once: a change is one immediate transaction, and a
reader notices another process's change by SQLite's `data_version` before it trusts its memory.
"""

from __future__ import annotations

import errno
import fcntl
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, final

from featurestore import eventtime
from featurestore.errors import (
    FeatureGroupExists,
    FeatureGroupNotFound,
    InvalidRequest,
    StoreCorrupt,
    StoreFull,
    StoreUnavailable,
)
from featurestore.metadata import FeatureMetadata, MetadataChange
from featurestore.schema import FeatureGroup
from featurestore.window.definition import WindowedGroup, Windows
from featurestore.window.tile import TiledWindows

__all__ = ["Registered", "RegisteredWindows", "Registry", "named"]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS feature_group (
    number        INTEGER PRIMARY KEY AUTOINCREMENT,
    name          TEXT NOT NULL,
    version       INTEGER NOT NULL,
    created_us    INTEGER NOT NULL,
    modified_us   INTEGER NOT NULL,
    deleted_us    INTEGER,
    offline_folder TEXT NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS feature_group_name ON feature_group (name)
    WHERE deleted_us IS NULL;
CREATE TABLE IF NOT EXISTS feature_group_version (
    number        INTEGER NOT NULL REFERENCES feature_group (number),
    version       INTEGER NOT NULL,
    definition    TEXT NOT NULL,
    created_us    INTEGER NOT NULL,
    PRIMARY KEY (number, version)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS windowed_group (
    number        INTEGER PRIMARY KEY AUTOINCREMENT,
    name          TEXT NOT NULL,
    source        INTEGER NOT NULL REFERENCES feature_group (number),
    definition    TEXT NOT NULL,
    created_us    INTEGER NOT NULL,
    filled_us     INTEGER,
    deleted_us    INTEGER
);
CREATE UNIQUE INDEX IF NOT EXISTS windowed_group_name ON windowed_group (name)
    WHERE deleted_us IS NULL;
CREATE TABLE IF NOT EXISTS feature_metadata (
    number        INTEGER NOT NULL REFERENCES feature_group (number),
    feature       TEXT NOT NULL,
    description   TEXT NOT NULL,
    parameters    TEXT NOT NULL,
    modified_us   INTEGER NOT NULL,
    PRIMARY KEY (number, feature)
) WITHOUT ROWID;
"""
_NEWEST: Final = (
    "SELECT g.number, v.definition, g.version, g.created_us, g.modified_us, g.offline_folder"
    " FROM feature_group g JOIN feature_group_version v"
    " ON v.number = g.number AND v.version = g.version"
)
_BUSY_TIMEOUT_S: Final = 30.0


@final
@dataclass(frozen=True, slots=True)
class Registered:
    """A feature group as the registry knows it.

    Args:
        number: names the group in keys; never used again after a delete.
        group: the newest definition.
        version: counts definitions, from 1.
        created_us: µs since the epoch.
        modified_us: of the last change.
        offline_folder: the Delta table's folder under the offline root.
    """

    number: int
    group: FeatureGroup
    version: int
    created_us: int
    modified_us: int
    offline_folder: str


@final
@dataclass(frozen=True)
class RegisteredWindows:
    """A windowed group as the registry knows it.

    Args:
        number: names the group in keys; never used again after a delete.
        group: the definition.
        source: the feature group whose records are the events.
        created_us: µs since the epoch.
        is_filled: whether the events from before its creation are online.
    """

    number: int
    group: WindowedGroup
    source: Registered
    created_us: int
    is_filled: bool

    @cached_property
    def windows(self) -> Windows:
        """The definition with its source."""
        return Windows(self.group, self.source.group)

    @property
    def tiled(self) -> TiledWindows:
        """What the online store needs to know of it."""
        return TiledWindows(self.number, self.source.number, self.windows)


@final
class Registry:
    """Feature groups by name.

    Args:
        path: the SQLite file; made when absent.

    Raises:
        StoreCorrupt: the file is no SQLite database.
        StoreUnavailable: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._known: dict[str, Registered] = {}
        self._windows: dict[str, RegisteredWindows] = {}
        self._seen_version = -1
        with self._errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            try:
                with _alone(path):
                    self._db.execute("PRAGMA journal_mode = WAL")
                    self._db.execute("PRAGMA synchronous = FULL")
                    self._db.executescript(_SCHEMA)
            except sqlite3.DatabaseError:
                self._db.close()
                raise

    def get(self, name: str) -> Registered:
        """Return a group by name.

        Raises:
            FeatureGroupNotFound: no such group; the message has the nearest name.
        """
        return named(self._groups(), name)

    def current(self) -> Mapping[str, Registered]:
        """Return the groups by name as they are now: one look for the records of a batch."""
        return self._groups()

    def list(self) -> list[Registered]:
        """Return all groups, sorted by name."""
        return sorted(self._groups().values(), key=lambda entry: entry.group.name)

    def versions(self, name: str) -> dict[int, FeatureGroup]:
        """Return every version of a group's definition."""
        entry = self.get(name)
        with self._lock, self._errors():
            rows = self._db.execute(
                "SELECT version, definition FROM feature_group_version WHERE number = ?"
                " ORDER BY version",
                (entry.number,),
            ).fetchall()
        return {version: _parse(definition) for version, definition in rows}

    def create(
        self, group: FeatureGroup, *, now: int, also: Callable[[Registered], None]
    ) -> Registered:
        """Add a group.

        Args:
            group: the definition.
            now: µs since the epoch.
            also: called inside the transaction; when it raises, the group is not created.

        Raises:
            FeatureGroupExists: the name is taken.
        """
        with self._change() as db:
            self._refuse_taken(group.name)
            # A deleted group's offline data stays, so its successor gets a folder of its own.
            taken = {row[0] for row in db.execute("SELECT offline_folder FROM feature_group")}
            folder, count = group.name, 1
            while folder in taken:
                count += 1
                folder = f"{group.name}-{count}"
            number = db.execute(
                "INSERT INTO feature_group (name, version, created_us, modified_us,"
                " offline_folder) VALUES (?, 1, ?, ?, ?)",
                (group.name, now, now, folder),
            ).lastrowid
            assert number is not None
            self._add_version(number, 1, group, now)
            entry = Registered(number, group, 1, now, now, folder)
            also(entry)
        return entry

    def update(
        self,
        name: str,
        change: Callable[[FeatureGroup], FeatureGroup],
        *,
        now: int,
        also: Callable[[Registered], None],
    ) -> Registered:
        """Store a changed definition as the group's next version.

        Raises:
            FeatureGroupNotFound: no such group.
        """
        with self._change() as db:
            groups = self._read_all()
            if name not in groups:
                raise FeatureGroupNotFound.named(name, groups)
            old = groups[name]
            group = change(old.group)
            version = old.version + 1
            db.execute(
                "UPDATE feature_group SET version = ?, modified_us = ? WHERE number = ?",
                (version, now, old.number),
            )
            self._add_version(old.number, version, group, now)
            entry = Registered(old.number, group, version, old.created_us, now, old.offline_folder)
            also(entry)
        return entry

    def delete(self, name: str, *, now: int) -> Registered:
        """Take a group out of the registry; its versions are kept for the record.

        Raises:
            FeatureGroupNotFound: no such group.
            InvalidRequest: windowed groups are made of it.
        """
        with self._change() as db:
            groups = self._read_all()
            if name not in groups:
                raise FeatureGroupNotFound.named(name, groups)
            for windows in self._read_windows(groups).values():
                if windows.source.group.name == name:
                    raise InvalidRequest(
                        f"feature group {name!r} cannot be deleted: the windowed group "
                        f"{windows.group.name!r} is made of it; delete that first"
                    )
            db.execute(
                "UPDATE feature_group SET deleted_us = ? WHERE number = ?",
                (now, groups[name].number),
            )
        return groups[name]

    def windows(self) -> Mapping[str, RegisteredWindows]:
        """Return the windowed groups by name as they are now."""
        self._groups()
        return self._windows

    def create_windows(
        self, group: WindowedGroup, *, now: int, also: Callable[[RegisteredWindows], None]
    ) -> RegisteredWindows:
        """Add a windowed group.

        Args:
            group: the definition.
            now: µs since the epoch.
            also: called inside the transaction; when it raises, the group is not created.

        Raises:
            FeatureGroupExists: the name is taken, by a feature group or a windowed one.
            FeatureGroupNotFound, FeatureNotFound: the source does not exist, or lacks a feature.
            InvalidFeatureGroup: the source cannot be aggregated so.
        """
        with self._change() as db:
            source = named(self._read_all(), group.source)
            group.schema(source.group)
            self._refuse_taken(group.name)
            number = db.execute(
                "INSERT INTO windowed_group (name, source, definition, created_us)"
                " VALUES (?, ?, ?, ?)",
                (group.name, source.number, json.dumps(group.to_json()), now),
            ).lastrowid
            assert number is not None
            entry = RegisteredWindows(number, group, source, now, is_filled=False)
            also(entry)
        return entry

    def note_filled(self, number: int, *, now: int) -> None:
        """Note that the earlier events of a windowed group are online."""
        with self._change() as db:
            db.execute("UPDATE windowed_group SET filled_us = ? WHERE number = ?", (now, number))

    def delete_windows(self, name: str, *, now: int) -> RegisteredWindows:
        """Take a windowed group out of the registry.

        Raises:
            FeatureGroupNotFound: no such windowed group.
        """
        with self._change() as db:
            known = self._read_windows(self._read_all())
            if name not in known:
                raise FeatureGroupNotFound.named(name, known)
            db.execute(
                "UPDATE windowed_group SET deleted_us = ? WHERE number = ?",
                (now, known[name].number),
            )
        return known[name]

    def deleted(self, *, before: int) -> tuple[Registered, ...]:
        """Return the groups that were deleted before a moment (µs), as they were last."""
        with self._lock, self._errors():
            rows = self._db.execute(
                f"{_NEWEST} WHERE g.deleted_us < ? ORDER BY g.number", (before,)
            ).fetchall()
        return tuple(Registered(row[0], _parse(row[1]), *row[2:]) for row in rows)

    def metadata(self, names: Sequence[str]) -> tuple[FeatureMetadata, ...]:
        """Return the metadata of all features of some groups, in the order of definition.

        Raises:
            FeatureGroupNotFound: no such group.
        """
        groups = self._groups()
        entries = [named(groups, name) for name in names]
        found = []
        with self._lock, self._errors():
            for entry in entries:
                added = self._added(entry.number)
                said = {
                    row[0]: row[1:]
                    for row in self._db.execute(
                        "SELECT feature, description, parameters, modified_us"
                        " FROM feature_metadata WHERE number = ?",
                        (entry.number,),
                    )
                }
                for feature in entry.group.features:
                    created_us = added[feature.name]
                    description, parameters, modified_us = said.get(
                        feature.name, ("", "{}", created_us)
                    )
                    found.append(
                        FeatureMetadata(
                            entry.group.name,
                            feature,
                            description,
                            json.loads(parameters),
                            eventtime.to_datetime(created_us),
                            eventtime.to_datetime(modified_us),
                        )
                    )
        return tuple(found)

    def change_metadata(self, name: str, feature: str, change: MetadataChange, *, now: int) -> None:
        """Change what is said about one feature. The group's version stays.

        Raises:
            FeatureGroupNotFound, FeatureNotFound: no such group or feature.
            InvalidRequest: there would be too many parameters.
        """
        with self._change() as db:
            entry = named(self._read_all(), name)
            entry.group.feature_type(feature)
            row = db.execute(
                "SELECT description, parameters FROM feature_metadata"
                " WHERE number = ? AND feature = ?",
                (entry.number, feature),
            ).fetchone() or ("", "{}")
            description, parameters = change.apply(row[0], json.loads(row[1]))
            db.execute(
                "INSERT OR REPLACE INTO feature_metadata VALUES (?, ?, ?, ?, ?)",
                (entry.number, feature, description, json.dumps(parameters), now),
            )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _groups(self) -> dict[str, Registered]:
        # On the way of every call: no context manager around the one look.
        with self._lock:
            try:
                version = self._db.execute("PRAGMA data_version").fetchone()[0]
                if version != self._seen_version:
                    self._known = self._read_all()
                    self._windows = self._read_windows(self._known)
                    self._seen_version = version
            except sqlite3.DatabaseError as error:
                raise sqlite_error(self._path, error) from error
            return self._known

    def _read_all(self) -> dict[str, Registered]:
        rows = self._db.execute(f"{_NEWEST} WHERE g.deleted_us IS NULL").fetchall()
        groups = (Registered(row[0], _parse(row[1]), *row[2:]) for row in rows)
        return {entry.group.name: entry for entry in groups}

    def _read_windows(self, groups: Mapping[str, Registered]) -> dict[str, RegisteredWindows]:
        by_number = {entry.number: entry for entry in groups.values()}
        rows = self._db.execute(
            "SELECT number, source, definition, created_us, filled_us FROM windowed_group"
            " WHERE deleted_us IS NULL ORDER BY name"
        ).fetchall()
        entries = (
            RegisteredWindows(
                number,
                WindowedGroup.from_json(json.loads(definition)),
                by_number[source],
                created_us,
                is_filled=filled_us is not None,
            )
            for number, source, definition, created_us, filled_us in rows
        )
        return {entry.group.name: entry for entry in entries}

    def _refuse_taken(self, name: str) -> None:
        groups = self._read_all()
        if name in groups:
            raise FeatureGroupExists(
                f"feature group {name!r} exists already; choose another name, or update the "
                f"existing group",
                group=name,
            )
        if name in self._read_windows(groups):
            raise FeatureGroupExists(
                f"a windowed group {name!r} exists already; choose another name", group=name
            )

    def _added(self, number: int) -> dict[str, int]:
        """Return when each feature of a group was added, µs."""
        added: dict[str, int] = {}
        for definition, created_us in self._db.execute(
            "SELECT definition, created_us FROM feature_group_version WHERE number = ?"
            " ORDER BY version",
            (number,),
        ):
            for feature in json.loads(definition)["FeatureDefinitions"]:
                added.setdefault(feature["FeatureName"], created_us)
        return added

    def _add_version(self, number: int, version: int, group: FeatureGroup, now: int) -> None:
        self._db.execute(
            "INSERT INTO feature_group_version VALUES (?, ?, ?, ?)",
            (number, version, json.dumps(group.to_json()), now),
        )

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
            self._seen_version = -1  # data_version does not count our own changes

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise sqlite_error(self._path, error) from error


def named(groups: Mapping[str, Registered], name: str) -> Registered:
    """Return the group of a name.

    Raises:
        FeatureGroupNotFound: no such group; the message has the nearest name.
    """
    found = groups.get(name)
    if found is None:
        raise FeatureGroupNotFound.named(name, groups)
    return found


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from preparing the file at the same time.

    SQLite does not wait for its lock when it changes the journal mode: of two processes that
    make a file, one would fail at once.
    """
    with open(path.with_name(f"{path.name}.lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sqlite_error(path: Path, error: sqlite3.DatabaseError) -> Exception:
    """Say what an SQLite error means for the caller."""
    code = getattr(error, "sqlite_errorcode", None)
    if is_disk_full(error):
        return StoreFull(f"no space left for {path}; free space and try again")
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return StoreCorrupt(
            f"{path} is damaged or is no SQLite database ({error}); move it away and restore a "
            f"backup"
        )
    return StoreUnavailable(f"{path}: {error}")


def is_disk_full(error: BaseException | None) -> bool:
    """Whether SQLite or another writer of files could not go on for want of space."""
    full = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)
    if getattr(error, "sqlite_errorcode", None) in full:
        return True
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _parse(definition: str) -> FeatureGroup:
    return FeatureGroup.from_json(json.loads(definition))
