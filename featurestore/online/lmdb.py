"""The online store on LMDB: one memory-mapped file, many reading and writing processes.

One transaction writes the latest values, the outbox entries and the source positions, and ends
with one fsync. Reads take no lock. LMDB lets a process open an environment only once, so stores
of one folder share it.
"""

from __future__ import annotations

import errno
import os
import resource
import struct
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple, final

import lmdb

from featurestore import codec
from featurestore.codec import OutboxEntry, StoredValue
from featurestore.errors import (
    FeatureStoreError,
    PositionConflict,
    StoreCorrupt,
    StoreFull,
    StoreUnavailable,
)
from featurestore.online.base import Batch, Erased, OnlineStore, Outcome, Usage
from featurestore.online.lmdb_changes import Migration, migration_of, note_changes, refuse_moved
from featurestore.online.lmdb_file import damage_at_the_roots, damage_in_any_page
from featurestore.online.lmdb_position import advance_position, positions_of
from featurestore.online.lmdb_scrub import scrub
from featurestore.online.lmdb_space import LmdbSpace
from featurestore.online.lmdb_write import erase_record, erased_times, put_batches
from featurestore.online.windows import (
    SpaceWindows,
    WindowStore,
    by_source,
    erase_events,
    note_writes,
)
from featurestore.outbox import Outbox
from featurestore.window.tile import Space, TiledWindows

__all__ = ["LmdbSnapshot", "LmdbStore"]

DEFAULT_MAP_BYTES: Final = 64 << 30  # address space, not disk: the file grows as it fills
MAX_READERS: Final = 1022
_READER_BYTES: Final = 64
_BLOCK_BYTES: Final = 512  # the unit of st_blocks
_PROBE_BYTES: Final = 1 << 20
_FORMAT: Final = b"featureline-online-1"
_SEQUENCE: Final = struct.Struct("<Q")
_DROP_SLICE: Final = 10_000
_WINDOWS: Final = b"windows"  # counts changes of the windowed groups
LOOK_S: Final = 0.1  # how long a reader may not notice that the records have moved


@final
class LmdbStore(OnlineStore):
    """An online store in a folder.

    Args:
        path: the folder; made when absent.
        map_bytes: upper limit of the file's size.

    Raises:
        StoreCorrupt: the folder holds a damaged environment or one of another program.
        StoreUnavailable: the folder cannot be opened (rights, a file in its place).
    """

    def __init__(self, path: str | Path, *, map_bytes: int = DEFAULT_MAP_BYTES) -> None:
        self._shared = _Environment.acquire(Path(path), map_bytes)
        self._outbox = _LmdbOutbox(self)
        self._windows = SpaceWindows(self._space, self._count_windows)
        self._known: tuple[bytes | None, dict[int, list[TiledWindows]]] = (None, {})
        self._look_at = 0.0
        self._open = True

    def put(self, batches: Sequence[Batch]) -> list[list[Outcome] | FeatureStoreError]:
        """See OnlineStore.put."""
        with self.transaction(write=True) as txn:
            answers: list[list[Outcome] | FeatureStoreError] = []
            stored: list[Batch] = []
            for batch in batches:
                if batch.position is not None:
                    try:
                        advance_position(txn, self._shared.positions, batch.position)
                    except PositionConflict as conflict:
                        answers.append(conflict)
                        continue
                answers.append([])
                stored.append(batch)
            if any(batch.writes for batch in stored):
                shared = self._shared
                before = self._sequence(txn)
                outcomes, sequence = put_batches(
                    txn,
                    shared.records,
                    shared.outbox,
                    [batch.writes for batch in stored],
                    before,
                    shared.store_id,
                )
                if sequence != before:
                    txn.put(b"sequence", _SEQUENCE.pack(sequence), db=shared.meta)
                if migration_of(txn, shared.meta) is not None:
                    keys = (
                        codec.record_key(write.group, write.identifier)
                        for batch in stored
                        for write in batch.writes
                        if write.online
                    )
                    note_changes(txn, shared.changes, keys)
                known = self._windows_of(txn)
                if known:
                    space = LmdbSpace(txn, shared.windows)
                    note_writes(space, known, [batch.writes for batch in stored], outcomes, before)
                settled = iter(outcomes)
                for answer in answers:
                    if isinstance(answer, list):
                        answer.extend(next(settled))
            return answers

    def get(self, group: int, identifiers: Sequence[bytes]) -> list[StoredValue | None]:
        """See OnlineStore.get."""
        # On the way of every read: no context manager of ours around the transaction.
        self._check_usable()
        shared = self._shared
        found: list[StoredValue | None] = []
        try:
            with shared.env.begin(db=shared.records) as txn:
                for identifier in identifiers:
                    key = codec.record_key(group, identifier)
                    data = txn.get(key)
                    found.append(None if data is None else codec.decode_value(key, data))
        except lmdb.Error as error:
            raise self._explained(error) from error
        return found

    def scan(
        self, group: int, *, after: bytes | None, limit: int
    ) -> list[tuple[bytes, StoredValue]]:
        """See OnlineStore.scan."""
        prefix = codec.group_prefix(group)
        found: list[tuple[bytes, StoredValue]] = []
        with self.transaction() as txn, txn.cursor(db=self._shared.records) as cursor:
            if not cursor.set_range(prefix if after is None else after):
                return found
            for key, data in cursor:
                if not key.startswith(prefix) or len(found) == limit:
                    break
                if key != after:
                    found.append((key, codec.decode_value(key, data)))
        return found

    def erase(self, group: int, identifier: bytes, *, through_us: int) -> Erased:
        """See OnlineStore.erase."""
        shared = self._shared
        with self.transaction(write=True) as txn:
            done, keys = erase_record(
                txn,
                shared.records,
                group,
                identifier,
                through_us=through_us,
                store_id=shared.store_id,
            )
            if keys:  # else it was done before, and what came since stays
                erase_events(LmdbSpace(txn, shared.windows), group, identifier)
            if migration_of(txn, shared.meta) is not None:
                note_changes(txn, shared.changes, keys)
        return done

    def erased_through(self, group: int, identifiers: Sequence[bytes]) -> list[int | None]:
        """See OnlineStore.erased_through."""
        with self.transaction() as txn:
            return erased_times(txn, self._shared.records, group, identifiers, self.store_id)

    def scrub(self, group: int, identifiers: Sequence[bytes]) -> int | None:
        """See OnlineStore.scrub."""
        self._check_usable()
        try:
            return scrub(self, self._shared.env, group, identifiers)
        except lmdb.Error as error:
            raise self._explained(error) from error

    def drop(self, group: int) -> None:
        """See OnlineStore.drop."""
        prefix = codec.group_prefix(group)
        # In slices: one transaction over millions of keys would hold writers up and grow the file.
        for database in (self._shared.outbox, self._shared.records):
            while True:
                with self.transaction(write=True) as txn, txn.cursor(db=database) as cursor:
                    removed: list[bytes] = []
                    more = cursor.set_range(prefix)
                    while more and len(removed) < _DROP_SLICE and cursor.key().startswith(prefix):
                        removed.append(cursor.key())
                        more = cursor.delete()
                    if database is self._shared.records and migration_of(txn, self._shared.meta):
                        note_changes(txn, self._shared.changes, removed)
                if len(removed) < _DROP_SLICE:
                    break

    def source_position(self, source: str) -> dict[str, int]:
        """See OnlineStore.source_position."""
        with self.transaction() as txn:
            return positions_of(txn, self._shared.positions, source)

    def last_sequence(self, group: int) -> int:
        """See OnlineStore.last_sequence."""
        with self.transaction() as txn:
            return self._sequence(txn)

    @property
    def outbox(self) -> Outbox:
        """See OnlineStore.outbox."""
        return self._outbox

    @property
    def store_id(self) -> str:
        """See OnlineStore.store_id."""
        return self._shared.store_id

    @property
    def windows(self) -> WindowStore:
        """See OnlineStore.windows."""
        return self._windows

    def usage(self) -> Usage:
        """See OnlineStore.usage."""
        shared = self._shared
        pages = 0
        with self.transaction() as txn:
            for database in self.databases:
                stat = txn.stat(database)
                pages += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
            records = int(txn.stat(shared.records)["entries"])
        info = shared.env.info()
        page_bytes = int(shared.env.stat()["psize"])
        return Usage(
            records=records,
            used_bytes=pages * page_bytes,
            file_bytes=(int(info["last_pgno"]) + 1) * page_bytes,
            limit_bytes=int(info["map_size"]),
            readers=int(info["num_readers"]),
        )

    def close(self) -> None:
        """See OnlineStore.close."""
        if self._open:
            self._open = False
            self._shared.release()

    @contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[Any]:
        """Open a transaction: read ones see one instant, write ones are durable at the end.

        Raises:
            StoreFull: the disk or the map is full; nothing was written.
            StoreCorrupt: LMDB found damage.
            StoreUnavailable: the store is closed, was opened by a parent process, or has migrated.
        """
        self._check_usable()
        try:
            with self._shared.env.begin(write=write) as txn:
                if write:
                    refuse_moved(migration_of(txn, self._shared.meta))
                yield txn
        except lmdb.Error as error:
            raise self._explained(error) from error

    @contextmanager
    def snapshot(self) -> Iterator[LmdbSnapshot]:
        """Hold the state of this instant, to copy it while others write.

        Pages that are freed meanwhile are not used again before the end: keep it short.

        Raises:
            StoreCorrupt, StoreUnavailable: as `transaction`.
        """
        with self.transaction() as txn:
            yield LmdbSnapshot(self._shared.env, txn, self._sequence(txn), self.store_id)

    @property
    def migration(self) -> Migration | None:
        """The mark of a migration from this store, None without one."""
        try:
            with self._shared.env.begin() as txn:
                return migration_of(txn, self._shared.meta)
        except lmdb.Error as error:
            raise self._explained(error) from error

    @property
    def is_untouched(self) -> bool:
        """Whether nothing was ever put, no position either."""
        with self.transaction() as txn:
            return not self._sequence(txn) and not txn.stat(self._shared.positions)["entries"]

    @property
    def databases(self) -> LmdbDatabases:
        """The databases in the environment, for what copies them."""
        shared = self._shared
        return LmdbDatabases(
            shared.meta,
            shared.records,
            shared.outbox,
            shared.positions,
            shared.changes,
            shared.windows,
        )

    @property
    def outbox_database(self) -> Any:
        """The LMDB database of the outbox."""
        return self._shared.outbox

    def _check_usable(self) -> None:
        if not self._open:
            raise StoreUnavailable("the online store is closed")
        if self._shared.pid != os.getpid():
            raise StoreUnavailable(
                "the online store was opened before this process was forked; open it in the child "
                "only, or start the child by spawning"
            )
        if time.monotonic() >= self._look_at:
            self._look()

    def _look(self) -> None:
        """See now and then whether the records have moved: reads here would grow stale."""
        now = time.monotonic()
        refuse_moved(self.migration)
        self._look_at = now + LOOK_S

    def _explained(self, error: Exception) -> FeatureStoreError:
        """Say what an error of LMDB means for the caller."""
        path = self._shared.path
        if isinstance(error, lmdb.MapFullError):
            return StoreFull(
                f"the online store {path} has reached its size limit; flush the outbox, delete "
                f"records, or open it with a larger map_bytes"
            )
        if isinstance(error, lmdb.CorruptedError | lmdb.PageNotFoundError | lmdb.PanicError):
            return StoreCorrupt(_corrupt(path, error))
        if _is_full(error) or _was_cut_short(error, path):
            return StoreFull(
                f"no space left for the online store {path}; nothing was written: "
                f"free space and put again"
            )
        return StoreUnavailable(f"the online store {path}: {error}")

    @contextmanager
    def _space(self, write: bool) -> Iterator[Space]:
        with self.transaction(write=write) as txn:
            yield LmdbSpace(txn, self._shared.windows)

    def _count_windows(self, space: Space) -> None:
        """Let every process see, with its next write, that the windowed groups have changed."""
        assert isinstance(space, LmdbSpace)
        before = space.txn.get(_WINDOWS, db=self._shared.meta)
        count = 0 if before is None else _SEQUENCE.unpack(before)[0]
        space.txn.put(_WINDOWS, _SEQUENCE.pack(count + 1), db=self._shared.meta)

    def _windows_of(self, txn: Any) -> dict[int, list[TiledWindows]]:
        """Return the windowed groups by their source, as the transaction has them."""
        count = txn.get(_WINDOWS, db=self._shared.meta)
        if count is None:
            return {}
        if count != self._known[0]:
            self._known = (count, by_source(LmdbSpace(txn, self._shared.windows)))
        return self._known[1]

    def _sequence(self, txn: Any) -> int:
        data = txn.get(b"sequence", db=self._shared.meta)
        return 0 if data is None else int(_SEQUENCE.unpack(data)[0])


class LmdbDatabases(NamedTuple):
    """The LMDB databases of an online store, for `txn.get(key, db=…)`."""

    meta: Any
    records: Any
    outbox: Any
    positions: Any
    changes: Any
    windows: Any


@final
class LmdbSnapshot:
    """One state of an environment, which `LmdbStore.snapshot` holds.

    Args:
        sequence: the store's running number: no write of the state has a higher one.
        store_id: see OnlineStore.store_id.
    """

    def __init__(self, env: Any, txn: Any, sequence: int, store_id: str) -> None:
        self._env = env
        self._txn = txn
        self.sequence = sequence
        self.store_id = store_id

    @property
    def size_bytes(self) -> int:
        """How large a copy is at most."""
        return int((self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"])

    def write(self, descriptor: int) -> None:
        """Write the state as a file of an environment, without free pages; from any one thread.

        Args:
            descriptor: where to; a pipe whose other end is closed ends the copy.

        Raises:
            StoreUnavailable: the descriptor takes no more, or LMDB refuses, as it does for an
                environment that has lost pages: `rewrite` then.
        """
        try:
            self._env.copyfd(descriptor, compact=True, txn=self._txn)
        except lmdb.Error as error:
            raise StoreUnavailable(f"the online store cannot be copied: {error}") from error

    def rewrite(self, folder: Path) -> None:
        """Write the state entry by entry into a new environment; an order slower than `write`.

        Raises:
            StoreFull, StoreUnavailable: it cannot be written.
        """
        copy = _open_environment(folder, int(self._env.info()["map_size"]))
        try:
            with self._txn.cursor() as cursor:
                names = list(cursor.iternext(values=False))
            for name in names:
                database, target = self._env.open_db(name, txn=self._txn), copy.open_db(name)
                with self._txn.cursor(db=database) as cursor:
                    entries = iter(cursor)
                    while part := list(islice(entries, _DROP_SLICE)):
                        with copy.begin(write=True, db=target) as txn:
                            for key, value in part:
                                txn.put(key, value, append=True)
        except lmdb.Error as error:
            kind = StoreFull if _is_full(error) else StoreUnavailable
            raise kind(f"the online store cannot be copied to {folder}: {error}") from error
        finally:
            copy.close()
        (folder / "lock.mdb").unlink(missing_ok=True)


@final
class _LmdbOutbox(Outbox):
    def __init__(self, store: LmdbStore) -> None:
        self._store = store

    def read(self, group: int, *, after: int, limit: int) -> Sequence[OutboxEntry]:
        prefix = codec.group_prefix(group)
        found: list[tuple[bytes, bytes]] = []
        # A short read transaction per slice: a long one keeps LMDB from reusing pages.
        with (
            self._store.transaction() as txn,
            txn.cursor(db=self._store.outbox_database) as cursor,
        ):
            if cursor.set_range(codec.outbox_key(group, after + 1)):
                found = list(islice(cursor, limit))
        if found and not found[-1][0].startswith(prefix):
            found = [item for item in found if item[0].startswith(prefix)]
        return codec.decode_outbox_entries(found)

    def remove(self, group: int, *, through: int) -> int:
        prefix = codec.group_prefix(group)
        last = codec.outbox_key(group, through)
        removed = 0
        with (
            self._store.transaction(write=True) as txn,
            txn.cursor(db=self._store.outbox_database) as cursor,
        ):
            more = cursor.set_range(prefix)
            while more and prefix <= cursor.key() <= last:  # behind the end the key is empty
                more = cursor.delete()
                removed += 1
        return removed

    def pending(self, group: int | None = None, *, limit: int | None = None) -> int:
        with self._store.transaction() as txn:
            if group is None:
                return int(txn.stat(self._store.outbox_database)["entries"])
            prefix = codec.group_prefix(group)
            count = 0
            with txn.cursor(db=self._store.outbox_database) as cursor:
                if cursor.set_range(prefix):
                    for key in cursor.iternext(keys=True, values=False):
                        if not key.startswith(prefix) or count == limit:
                            break
                        count += 1
            return count

    def size_bytes(self) -> int | None:
        with self._store.transaction() as txn:
            stat = txn.stat(self._store.outbox_database)
        pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return int(pages) * int(stat["psize"])


@final
class _Environment:
    """One LMDB environment, shared by the stores of a folder in this process."""

    _opened: dict[tuple[int, str], _Environment] = {}  # noqa: RUF012  # guarded by _lock
    _lock = threading.Lock()

    def __init__(self, path: Path, map_bytes: int) -> None:
        self.path = path
        self.pid = os.getpid()
        self.users = 0
        self.env = _open_environment(path, map_bytes)
        try:
            self.env.reader_check()  # readers that were killed would keep pages from reuse
            with self.env.begin(write=True) as txn:
                self._refuse_damaged()
                self._refuse_foreign(txn)
            self.meta = self.env.open_db(b"meta")
            self.records = self.env.open_db(b"records")
            self.outbox = self.env.open_db(b"outbox")
            self.positions = self.env.open_db(b"positions")
            self.changes = self.env.open_db(b"changes")
            self.windows = self.env.open_db(b"windows")
            with self.env.begin(write=True) as txn:
                self.store_id = self._identify(txn)
        except lmdb.Error as error:
            self.env.close()
            if _is_full(error):
                raise StoreFull(f"no space left to open the online store {path}") from error
            raise StoreCorrupt(_corrupt(path, error)) from error
        except StoreCorrupt:
            self.env.close()
            raise

    @classmethod
    def acquire(cls, path: Path, map_bytes: int) -> _Environment:
        key = (os.getpid(), os.path.realpath(path))
        with cls._lock:
            shared = cls._opened.get(key)
            if shared is None and any(path == key[1] for _, path in cls._opened):
                # Closing the parent's environment here would free the parent's readers too.
                raise StoreUnavailable(
                    f"the online store {path} was opened before this process was forked, and "
                    f"LMDB takes one environment per process; open it in the child only, or "
                    f"start the child by spawning"
                )
            if shared is None:
                shared = cls._opened[key] = cls(path, map_bytes)
            shared.users += 1
            return shared

    def release(self) -> None:
        with self._lock:
            self.users -= 1
            if self.users == 0 and self.pid == os.getpid():
                self._opened.pop((self.pid, os.path.realpath(self.path)), None)
                self.env.close()

    def _refuse_damaged(self) -> None:
        """Look for damage on which LMDB would end the process; the caller keeps writers out.

        A file may be shorter than it says: pages at its end that were freed before they were ever
        written. It gets its whole length, since a read behind the end of a mapped file is a
        SIGBUS; and as it may have been cut off as well, it is read through.
        """
        length = (self.env.info()["last_pgno"] + 1) * self.env.stat()["psize"]
        data = self.path / "data.mdb"
        is_short = data.stat().st_size < length
        if is_short:
            os.truncate(data, length)
        reason = damage_at_the_roots(data)
        if reason is None and is_short:
            reason = damage_in_any_page(self.path)
        if reason is not None:
            raise StoreCorrupt(_corrupt(self.path, reason))

    def _refuse_foreign(self, txn: Any) -> None:
        with txn.cursor() as cursor:
            names = set(cursor.iternext(values=False))
        if names and b"meta" not in names:
            raise StoreCorrupt(_corrupt(self.path, f"it holds {sorted(names)[0]!r}"))

    def _identify(self, txn: Any) -> str:
        form = txn.get(b"format", db=self.meta)
        if form is None:
            if txn.stat(self.records)["entries"]:
                raise StoreCorrupt(_corrupt(self.path, "it has records but no format mark"))
            txn.put(b"format", _FORMAT, db=self.meta)
            txn.put(b"store_id", uuid.uuid4().hex.encode(), db=self.meta)
        elif form != _FORMAT:
            raise StoreCorrupt(
                f"the online store {self.path} has the form {form.decode(errors='replace')!r}, "
                f"this version reads {_FORMAT.decode()!r}; open it with the version that wrote it"
            )
        return str(txn.get(b"store_id", db=self.meta).decode())


def _open_environment(path: Path, map_bytes: int) -> Any:
    try:
        path.mkdir(parents=True, exist_ok=True)
        data = path / "data.mdb"
        if data.is_file() and 0 < data.stat().st_size < 8192:
            raise StoreCorrupt(_corrupt(path, "data.mdb is shorter than its header"))
        _reserve_lock_file(path / "lock.mdb")
        return lmdb.open(
            str(path),
            map_size=map_bytes,
            max_dbs=16,
            max_readers=MAX_READERS,
            subdir=True,
            sync=True,
            metasync=True,
            readahead=False,
        )
    except (lmdb.InvalidError, lmdb.VersionMismatchError, lmdb.CorruptedError) as error:
        raise StoreCorrupt(_corrupt(path, error)) from error
    except (lmdb.Error, OSError) as error:
        if "LMDB data format" in str(error):  # one that this version of LMDB does not know
            raise StoreCorrupt(_corrupt(path, error)) from error
        if _is_full(error):
            raise StoreFull(f"no space left to open the online store {path}") from error
        raise StoreUnavailable(
            f"the online store {path} cannot be opened: {error}; check that it is a folder this "
            f"process may write to"
        ) from error


def _reserve_lock_file(path: Path) -> None:
    """Give the readers' table all its blocks.

    LMDB makes it as a hole and writes through a map: on a full disk the first reader of a slot
    would end the process by SIGBUS.
    """
    # LMDB's own header takes the place of two readers.
    size = _READER_BYTES * (MAX_READERS + 2)
    if not hasattr(os, "posix_fallocate") or (
        path.exists() and path.stat().st_blocks * _BLOCK_BYTES >= size
    ):
        return
    # Never while this process has the environment open: to close a file drops its locks.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.posix_fallocate(descriptor, 0, size)
    finally:
        os.close(descriptor)


def _was_cut_short(error: Exception, path: Path) -> bool:
    """Whether an error is that of a write for which there was not enough space.

    LMDB says `Input/output error` when the disk takes a part of a write, as for any other reason;
    whether there is space tells them apart.
    """
    if os.strerror(errno.EIO) not in str(error):
        return False
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if limit != resource.RLIM_INFINITY:
        return (path / "data.mdb").stat().st_size + _PROBE_BYTES > limit
    try:
        with tempfile.TemporaryFile(dir=path, buffering=0) as probe:
            rest = memoryview(bytes(_PROBE_BYTES))
            while rest:
                rest = rest[probe.write(rest) :]
    except OSError as refusal:
        return _is_full(refusal)
    return False


def _is_full(error: Exception) -> bool:
    return (
        isinstance(error, lmdb.MapFullError)
        or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        or os.strerror(errno.ENOSPC) in str(error)
        or os.strerror(errno.EDQUOT) in str(error)
        or os.strerror(errno.EFBIG) in str(error)
    )


def _corrupt(path: Path, reason: object) -> str:
    return (
        f"the online store {path} is damaged or belongs to another program ({reason}); move the "
        f"folder away and restore a backup, or rebuild it from the offline store"
    )
