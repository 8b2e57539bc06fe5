"""Backup of a home while others serve and write it: one point in time of all its stores.

What makes the copies fit each other:

1. Under the registry's write lock one LMDB read transaction begins and `meta.db` and `keys.db` are
   copied: the groups are those of the records, and every key that sealed one is there.
2. Of each Delta table the newest version is taken whose application version (the sequence of the
   last flushed entry) is not above the sequence of that LMDB state. A newer one would name
   sequences that the restored store gives to new records, and the next flush would skip them. An
   older one would lack entries that are no longer in the outbox. The version in between always
   exists: an entry leaves the outbox only after a version that holds it.
3. What only grows follows later (lineage, artifacts, dead letters, audit log): it may know more
   than the registry, never less.

No flush and no put waits, but for changes of feature groups, for the time of copying `meta.db`.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any, Final, final
from urllib.parse import unquote

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from featurestore.archive import Copier, whole_folder
from featurestore.errors import InvalidRequest, StoreUnavailable
from featurestore.manifest import MANIFEST, BackedUpTable, Manifest
from featurestore.online.lmdb import LmdbSnapshot, LmdbStore
from featurestore.registry import sqlite_error

__all__ = ["Progress", "take_backup"]

Progress = Callable[[int, int], None]

_BUSY_TIMEOUT_S: Final = 30.0
_SQLITE_PAGES: Final = 1024
_PIPE_BYTES: Final = 1 << 20
_FOLDERS: Final = ("artifacts", "jobs", "deadletters", "erasures")
# Of a job: its data are links or copies of what is elsewhere, and its model is an artifact.
_LEFT_OUT_OF_JOBS: Final = frozenset({"input/data", "model", "checkpoints"})
_LINEAGE: Final = "lineage.json"
_ELSEWHERE: Final = (
    "the online store: it is not LMDB in home/online. Records, outbox and source positions in "
    "Redis are not in this backup: keep Redis's own append-only file or snapshots, and "
    "online.json, which holds its address and password"
)
_LINEAGE_ELSEWHERE: Final = (
    "lineage: it is in PostgreSQL and not in this backup: back that database up, and keep "
    "lineage.json, which holds its address and password"
)


def take_backup(
    home: Path, destination: Path, *, on_progress: Progress = lambda done, total: None
) -> Manifest:
    """Copy a home as it is at one instant.

    Every record that was acknowledged before the call is in it. A store restored from it has each
    record offline exactly once, also after further puts and flushes.

    Args:
        home: the home; it may be served meanwhile.
        destination: a folder that does not exist or is empty.
        on_progress: told the bytes done and the bytes there are in all, about.

    Returns:
        The manifest, which is also written into the folder, last.

    Raises:
        InvalidRequest: there is no home, or the destination holds something.
        StoreFull: the disk of the destination is full; nothing is left there.
        StoreCorrupt, StoreUnavailable: a store cannot be read, or the destination be written.

    Cost: reads every file of the home once; LMDB reuses no page until its copy is done.
    """
    if not (home / "meta.db").is_file():
        raise InvalidRequest(f"{home}: expected the home of a store, found no meta.db in it")
    began = dt.datetime.now(dt.UTC)
    with whole_folder(destination, "the backup") as folder:
        meter = _Meter(on_progress)
        copier = Copier(folder, meter.add)
        online, tables = _copy_stores(home, copier, meter)
        for path, name in _other_files(home):
            # What was there a moment ago may have been somebody's temporary file.
            with suppress(FileNotFoundError):
                copier.copy(path, name)
        left_out = sorted(
            entry.name for entry in home.iterdir() if not _is_known(entry.name, online is not None)
        )
        manifest = Manifest(
            version=package_version("featureline"),
            began=began,
            finished=dt.datetime.now(dt.UTC),
            store_id=None if online is None else online[0],
            sequence=None if online is None else online[1],
            tables=tables,
            files=tuple(sorted(copier.entries)),
            not_covered=(
                *(() if online else (_ELSEWHERE,)),
                *((_LINEAGE_ELSEWHERE,) if (home / _LINEAGE).exists() else ()),
            ),
            left_out=tuple(left_out),
        )
        copier.write(MANIFEST, [manifest.to_bytes()])
    return manifest


def _copy_stores(
    home: Path, copier: Copier, meter: _Meter
) -> tuple[tuple[str, int] | None, tuple[BackedUpTable, ...]]:
    """Copy the stores; return the online store's name and sequence, and the tables."""
    with ExitStack() as held:
        online: LmdbStore | None = None
        snapshot: LmdbSnapshot | None = None
        # Where records were moved to Redis, the LMDB that stays behind is no store any more.
        if (home / "online" / "data.mdb").exists() and not (home / "online.json").exists():
            online = held.enter_context(closing(LmdbStore(home / "online")))
        with _registry_held(home / "meta.db"):
            if online is not None:
                snapshot = held.enter_context(online.snapshot())
            for name in ("meta.db", "keys.db"):
                _copy_sqlite(home, name, copier)
        # From here the home's stores may change; what belongs to the snapshot is noted.
        chosen = [
            (table, files)
            for name, entry_folder in _groups(copier.root / "meta.db")
            if (found := _choose(home, name, entry_folder, snapshot)) is not None
            for table, files in [found]
        ]
        meter.total = sum(
            (
                0 if snapshot is None else snapshot.size_bytes,
                *(_size(path) for _, files in chosen for path, _ in files),
                *(_size(path) for path, _ in _other_files(home)),
                *(_size(path) for path in home.glob("*.db")),
            )
        )
        named: tuple[str, int] | None = None
        if snapshot is not None:
            _copy_lmdb(snapshot, copier)
            named = snapshot.store_id, snapshot.sequence
    for table, files in chosen:
        with _vanishing(table):
            for path, name in files:
                copier.copy(path, name)
    for path in sorted(home.glob("*.db")):
        # A lineage file that was left for a database is no store any more.
        is_left = path.name == "lineage.db" and (home / _LINEAGE).exists()
        if path.name not in ("meta.db", "keys.db") and not is_left:
            _copy_sqlite(home, path.name, copier)
    return named, tuple(table for table, _ in chosen)


# -- LMDB and SQLite --------------------------------------------------------------------------


def _copy_lmdb(snapshot: LmdbSnapshot, copier: Copier) -> None:
    # Through a pipe: the digest is taken as the bytes pass, and an interrupt or a full disk ends
    # LMDB's copy, which by itself would go on to its end.
    reader, writer = os.pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):  # more than this user may have: the pipe stays as it is
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    failures: list[BaseException] = []

    def copy() -> None:
        try:
            snapshot.write(writer)
        except BaseException as error:  # noqa: BLE001  # raised again in the thread that waits
            failures.append(error)
        finally:
            os.close(writer)

    def chunks() -> Iterator[bytes]:
        while chunk := os.read(reader, _PIPE_BYTES):
            yield chunk

    thread = threading.Thread(target=copy, name="backup-lmdb")
    thread.start()
    try:
        copier.write("online/data.mdb", chunks())
    finally:
        os.close(reader)
        thread.join()
    if not failures:
        return
    if not isinstance(failures[0], StoreUnavailable):
        raise failures[0]
    copier.entries.pop()
    (copier.root / "online" / "data.mdb").unlink()
    snapshot.rewrite(copier.root / "online")
    copier.add("online/data.mdb")


def _copy_sqlite(home: Path, name: str, copier: Copier) -> None:
    path = home / name
    if not path.exists():
        return
    target = copier.root / name
    try:
        with (
            closing(_open_sqlite(path)) as source,
            closing(sqlite3.connect(target, isolation_level=None)) as copy,
        ):
            # One read transaction: without it every commit of others would begin the copy anew.
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()
            source.backup(copy, pages=_SQLITE_PAGES)
    except sqlite3.DatabaseError as error:
        full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        raise sqlite_error(target if full else path, error) from error
    target.chmod(path.stat().st_mode & 0o777)
    copier.add(name)


def _open_sqlite(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=_BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )


@contextmanager
def _registry_held(path: Path) -> Iterator[None]:
    """Keep feature groups from being made, changed and deleted."""
    try:
        with closing(_open_sqlite(path)) as db:
            db.execute("BEGIN IMMEDIATE")
            yield
            db.execute("ROLLBACK")
    except sqlite3.DatabaseError as error:
        raise sqlite_error(path, error) from error


def _groups(meta: Path) -> list[tuple[str, str]]:
    """Return name and offline folder of every group, the deleted ones too: their tables stay."""
    with closing(sqlite3.connect(meta)) as db:
        # A home that only ran training jobs has no such table.
        tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
        if "feature_group" not in tables:
            return []
        rows: list[tuple[str, str]] = db.execute(
            "SELECT name, offline_folder FROM feature_group ORDER BY number"
        ).fetchall()
    return rows


# -- Delta ------------------------------------------------------------------------------------

_Files = list[tuple[Path, str]]


def _choose(
    home: Path, group: str, folder: str, snapshot: LmdbSnapshot | None
) -> tuple[BackedUpTable, _Files] | None:
    """Choose the version of a table that belongs to a snapshot, and name its files."""
    root = home / "offline" / folder
    if not root.is_dir():
        return None
    try:
        table = DeltaTable(str(root))
        version = table.version()
        sequence = 0
        if snapshot is not None:
            # The name is the one that the store flushes under.
            application = f"featureline:{snapshot.store_id}"
            while (sequence := table.transaction_version(application) or 0) > snapshot.sequence:
                if version == 0:
                    return None  # its first flush came after the snapshot
                version -= 1
                table.load_as_version(version)
        active = {_local(root, uri) for uri in table.file_uris()}
    except TableNotFoundError:
        return None
    except DeltaError as error:
        raise StoreUnavailable(f"the offline table {root}: {error}") from error
    logs = _log_of(root / "_delta_log", version)
    # Files of older versions are copied as long as they exist: datasets name those versions.
    older = {path for path in _added(root, logs) if path.exists()}
    data = sorted(active | older)
    files = [(path, f"offline/{path.relative_to(home / 'offline')}") for path in [*data, *logs]]
    return BackedUpTable(group, folder, version, sequence), files


def _log_of(folder: Path, version: int) -> list[Path]:
    """Return the log's files up to a version."""
    kept = []
    for path in sorted(folder.iterdir()):
        number = path.name.partition(".")[0]
        if len(number) == 20 and number.isdigit() and int(number) <= version:
            kept.append(path)
    last = folder / "_last_checkpoint"
    if last.exists() and json.loads(last.read_bytes())["version"] <= version:
        kept.append(last)
    return kept


def _added(root: Path, logs: Sequence[Path]) -> Iterator[Path]:
    for log in logs:
        if log.suffix == ".json" and log.name.count(".") == 1:
            for line in log.read_text(encoding="utf-8").splitlines():
                action: dict[str, Any] = json.loads(line)
                if "add" in action:
                    yield root / unquote(action["add"]["path"])


def _local(root: Path, uri: str) -> Path:
    # delta-rs writes local paths as parts of a uri.
    path = Path(unquote(uri.removeprefix("file://")))
    return path if path.is_absolute() else root / path


@contextmanager
def _vanishing(table: BackedUpTable) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise StoreUnavailable(
            f"{table.group}: {error.filename} was removed while version {table.version} of the "
            f"table was copied (vacuum or erasure); take the backup again"
        ) from error


# -- other files ------------------------------------------------------------------------------


def _other_files(home: Path) -> Iterator[tuple[Path, str]]:
    """Yield what is copied as it lies there, with its name in the backup."""
    for path in sorted((*home.glob("audit*.log*"), *home.glob("lineage.spool*.ndjson"))):
        yield path, path.name
    # They hold the last write time of each group, which orders versions of one event time.
    for path in sorted((home / "locks").glob("flush-*.lock")):
        yield path, f"locks/{path.name}"
    for top in _FOLDERS:
        for folder, inside, names in os.walk(home / top):
            place = Path(folder).relative_to(home)
            if top == "jobs":
                inside[:] = [name for name in inside if not _is_left_out(place / name)]
            inside.sort()
            for name in sorted(names):
                path = Path(folder) / name
                if path.is_file() and not (name.startswith(".") and name.endswith(".part")):
                    yield path, (place / name).as_posix()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _is_left_out(place: Path) -> bool:
    return "/".join(place.parts[2:]) in _LEFT_OUT_OF_JOBS


def _is_known(name: str, has_online: bool) -> bool:
    return (
        # Without its notes a load that is tried again asks the table what is done.
        name in (*_FOLDERS, "offline", "locks", "run", "tmp", "spill", "loads")
        or (name == "online" and has_online)
        or name.endswith((".db", ".db-wal", ".db-shm", ".db-journal", ".lock"))
        or (name.startswith("audit") and ".log" in name)
        or (name.startswith("lineage.spool") and name.endswith(".ndjson"))
    )


@final
class _Meter:
    def __init__(self, on_progress: Progress) -> None:
        self.total = 0
        self._done = 0
        self._on_progress = on_progress

    def add(self, size: int) -> None:
        self._done += size
        self._on_progress(self._done, max(self.total, self._done))
