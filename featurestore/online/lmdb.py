"""The online store on LMDB: one memory-mapped file, many reading and writing processes.

One transaction writes the latest values, the outbox entries and the source positions, and ends
with one fsync. Reads take no lock. LMDB lets a process open an environment only once, so stores
of one folder share it.
"""

from __future__ import annotations

import errno
import json
import os
import struct
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, final

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
from featurestore.online.base import Batch, OnlineStore, Outcome, Version, Write, decide
from featurestore.outbox import Outbox

__all__ = ["LmdbStore"]

DEFAULT_MAP_BYTES: Final = 64 << 30  # address space, not disk: the file grows as it fills
MAX_READERS: Final = 1022
_FORMAT: Final = b"featureline-online-1"
_SEQUENCE: Final = struct.Struct("<Q")
_DROP_SLICE: Final = 10_000


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
        self._open = True

    def put(self, batches: Sequence[Batch]) -> list[list[Outcome] | FeatureStoreError]:
        """See OnlineStore.put."""
        with self.transaction(write=True) as txn:
            first = sequence = self._sequence(txn)
            answers: list[list[Outcome] | FeatureStoreError] = []
            for batch in batches:
                if batch.position is not None:
                    try:
                        self._advance(txn, batch)
                    except PositionConflict as conflict:
                        answers.append(conflict)
                        continue
                outcomes = []
                for write in batch.writes:
                    outcome = self._put_one(txn, write, sequence + 1)
                    sequence += outcome < Outcome.REFUSED
                    outcomes.append(outcome)
                answers.append(outcomes)
            if sequence != first:
                txn.put(b"sequence", _SEQUENCE.pack(sequence), db=self._shared.meta)
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

    def drop(self, group: int) -> None:
        """See OnlineStore.drop."""
        prefix = codec.group_prefix(group)
        # In slices: one transaction over millions of keys would hold writers up and grow the file.
        for database in (self._shared.outbox, self._shared.records):
            while True:
                with self.transaction(write=True) as txn, txn.cursor(db=database) as cursor:
                    removed = 0
                    more = cursor.set_range(prefix)
                    while more and removed < _DROP_SLICE and cursor.key().startswith(prefix):
                        more = cursor.delete()
                        removed += 1
                if removed < _DROP_SLICE:
                    break

    def source_position(self, source: str) -> dict[str, int]:
        """See OnlineStore.source_position."""
        with self.transaction() as txn:
            return self._position(txn, source)

    @property
    def outbox(self) -> Outbox:
        """See OnlineStore.outbox."""
        return self._outbox

    @property
    def store_id(self) -> str:
        """See OnlineStore.store_id."""
        return self._shared.store_id

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
            StoreUnavailable: the store is closed, or was opened by a parent process.
        """
        self._check_usable()
        try:
            with self._shared.env.begin(write=write) as txn:
                yield txn
        except lmdb.Error as error:
            raise self._explained(error) from error

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
        if _is_full(error):
            return StoreFull(
                f"no space left for the online store {path}; nothing was written: "
                f"free space and put again"
            )
        return StoreUnavailable(f"the online store {path}: {error}")

    def _put_one(self, txn: Any, write: Write, sequence: int) -> Outcome:
        key = codec.record_key(write.group, write.identifier)
        outcome = Outcome.APPLIED
        if write.online:
            current = txn.get(key, db=self._shared.records)
            if current is not None or write.expected is not None:
                outcome = decide(write, _version(current))
        if outcome >= Outcome.REFUSED:
            return outcome
        if write.online and outcome is Outcome.APPLIED:
            value = StoredValue(
                write.identifier,
                write.flags,
                write.schema_version,
                write.event_time_us,
                write.expires_us,
                sequence,
                b"" if write.flags else write.record,
            )
            txn.put(key, codec.encode_value(value), db=self._shared.records)
        if write.offline:
            entry = OutboxEntry(
                sequence,
                write.flags,
                write.schema_version,
                write.event_time_us,
                write.expires_us,
                write.invocation_us,
                write.record,
            )
            txn.put(
                codec.outbox_key(write.group, sequence),
                codec.encode_outbox(entry),
                db=self._shared.outbox,
            )
        return outcome

    def _sequence(self, txn: Any) -> int:
        data = txn.get(b"sequence", db=self._shared.meta)
        return 0 if data is None else int(_SEQUENCE.unpack(data)[0])

    def _position(self, txn: Any, source: str) -> dict[str, int]:
        data = txn.get(source.encode(), db=self._shared.positions)
        return {} if data is None else dict(json.loads(data))

    def _advance(self, txn: Any, batch: Batch) -> None:
        assert batch.position is not None
        source = batch.position.source
        after = batch.position.advance(self._position(txn, source))
        txn.put(source.encode(), json.dumps(after).encode(), db=self._shared.positions)


@final
class _LmdbOutbox(Outbox):
    def __init__(self, store: LmdbStore) -> None:
        self._store = store

    def read(self, group: int, *, after: int, limit: int) -> Sequence[OutboxEntry]:
        prefix = codec.group_prefix(group)
        entries: list[OutboxEntry] = []
        # A short read transaction per slice: a long one keeps LMDB from reusing pages.
        with (
            self._store.transaction() as txn,
            txn.cursor(db=self._store.outbox_database) as cursor,
        ):
            if cursor.set_range(codec.outbox_key(group, after + 1)):
                for key, data in cursor:
                    if len(entries) == limit or not key.startswith(prefix):
                        break
                    entries.append(codec.decode_outbox(key, data))
        return entries

    def remove(self, group: int, *, through: int) -> int:
        prefix = codec.group_prefix(group)
        last = codec.outbox_key(group, through)
        removed = 0
        with (
            self._store.transaction(write=True) as txn,
            txn.cursor(db=self._store.outbox_database) as cursor,
        ):
            more = cursor.set_range(prefix)
            while more and cursor.key() <= last and cursor.key().startswith(prefix):
                more = cursor.delete()
                removed += 1
        return removed

    def pending(self, group: int | None = None) -> int:
        with self._store.transaction() as txn:
            if group is None:
                return int(txn.stat(self._store.outbox_database)["entries"])
            prefix = codec.group_prefix(group)
            count = 0
            with txn.cursor(db=self._store.outbox_database) as cursor:
                if cursor.set_range(prefix):
                    for key in cursor.iternext(keys=True, values=False):
                        if not key.startswith(prefix):
                            break
                        count += 1
            return count


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
                self._extend()
                self._refuse_foreign(txn)
            self.meta = self.env.open_db(b"meta")
            self.records = self.env.open_db(b"records")
            self.outbox = self.env.open_db(b"outbox")
            self.positions = self.env.open_db(b"positions")
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

    def _extend(self) -> None:
        """Give a file that was cut off its whole length again; the caller keeps writers out.

        Reading a mapped page behind the end of the file ends the process by SIGBUS; of a page of
        zeros LMDB says that it is damaged.
        """
        length = (self.env.info()["last_pgno"] + 1) * self.env.stat()["psize"]
        data = self.path / "data.mdb"
        if data.stat().st_size < length:
            os.truncate(data, length)

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


def _version(data: bytes | None) -> Version | None:
    if data is None:
        return None
    _, _, _, event_time_us, _, sequence = codec.unpack_value_header(data)
    return Version(event_time_us, sequence)


def _open_environment(path: Path, map_bytes: int) -> Any:
    try:
        path.mkdir(parents=True, exist_ok=True)
        data = path / "data.mdb"
        if data.exists() and 0 < data.stat().st_size < 8192:
            raise StoreCorrupt(_corrupt(path, "data.mdb is shorter than its header"))
        return lmdb.open(
            str(path),
            map_size=map_bytes,
            max_dbs=8,
            max_readers=MAX_READERS,
            subdir=True,
            sync=True,
            metasync=True,
            readahead=False,
        )
    except (lmdb.InvalidError, lmdb.VersionMismatchError, lmdb.CorruptedError) as error:
        raise StoreCorrupt(_corrupt(path, error)) from error
    except (lmdb.Error, OSError) as error:
        if _is_full(error):
            raise StoreFull(f"no space left to open the online store {path}") from error
        raise StoreUnavailable(
            f"the online store {path} cannot be opened: {error}; check that it is a folder this "
            f"process may write to"
        ) from error


def _is_full(error: Exception) -> bool:
    return (
        isinstance(error, lmdb.MapFullError)
        or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        or os.strerror(errno.ENOSPC) in str(error)
        or os.strerror(errno.EDQUOT) in str(error)
    )


def _corrupt(path: Path, reason: object) -> str:
    return (
        f"the online store {path} is damaged or belongs to another program ({reason}); move the "
        f"folder away and restore a backup, or rebuild it from the offline store"
    )
