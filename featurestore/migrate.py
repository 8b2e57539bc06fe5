"""Migration of a home's online store from LMDB to Redis, while others go on writing.

1. A mark in LMDB lets every writer, in every process, note the keys it writes.
2. All versions are copied, in the order of keys. What was copied is remembered: a migration that
   was killed goes on there.
3. Noted changes are copied, again and again, until few are left. The outbox is flushed meanwhile.
4. The switch-over: in one LMDB write transaction, for which other writers wait, the last changes,
   the source positions and the waiting outbox entries are copied, and the mark says that the
   records have moved. Its commit is the moment of the move; a kill before it leaves LMDB in use.
5. Later writers find the mark and raise StoreUnavailable; readers find it within a tenth of a
   second. Only then the new store opens and the home remembers it. When the migration is killed
   here, whoever opens the home next does this.

The new store *is* the old one to the offline tables: it keeps its `store_id`, the entries keep
their sequences, and new ones are greater. So the last sequence that a Delta table names still
means the same, and an entry that was committed and not yet removed is skipped as ever. A flush
that is under way on the old store harms nothing: it holds the group's lock, and what it commits
the next flush finds there.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from featurestore.embedded import EmbeddedStore
from featurestore.errors import FeatureStoreError, InvalidRequest, StoreUnavailable
from featurestore.online.home import Chosen, chosen, deciding, finish_move, move_lmdb
from featurestore.online.lmdb import LmdbStore
from featurestore.online.lmdb_source import LmdbSource
from featurestore.online.redis import RedisStore
from featurestore.online.redis_fill import RedisFill
from featurestore.online.redis_url import RedisUrl
from featurestore.provenance import recorded_migration

__all__ = ["Migrated", "abort_migration", "migrate"]

FEW: Final = 500  # so many changes are copied while others wait
_ROUNDS: Final = 20
Progress = Callable[[int, int], None]


@final
@dataclass(frozen=True, slots=True)
class Migrated:
    """What a migration did.

    Args:
        to: where the records are now, without login.
        records: versions copied by this call.
        outbox: entries that wait for the offline store there.
        held_s: how long writers waited, seconds.
    """

    to: str
    records: int
    outbox: int
    held_s: float


def migrate(
    home: Path,
    to: str,
    *,
    on_progress: Progress = lambda done, total: None,
    on_step: Callable[[str], None] = lambda step: None,
) -> Migrated:
    """Move the online store of a home from LMDB to Redis; go on with a migration that was killed.

    Others may read and write meanwhile. Processes that have the home open must be started again
    afterwards: until then they answer StoreUnavailable, and nothing is lost.

    Args:
        home: the home.
        to: URL of an empty place: `redis://…`, `rediss://…` or `redis+cluster://…`.
        on_progress: told the versions copied and the versions there are, about.
        on_step: told each step that is done; for tests of faults.

    Raises:
        InvalidRequest: the URL has another form, or there is nothing to migrate.
        StoreUnavailable: another migration is under way, the home's store is elsewhere already,
            the place is in use, or Redis cannot be reached.
        StoreFull: Redis is full. LMDB stays in use; the next call goes on.
        lineage.LineageError: it cannot be recorded; nothing was begun.
    """
    url = RedisUrl.parse(to)
    with _alone(home):
        known = chosen(home)
        if known is not None:
            if known.url.location == url.location:
                return Migrated(url.location, 0, 0, 0.0)
            raise StoreUnavailable(
                f"the home {home} has its online store at {known.url.location}; only a store in "
                f"LMDB can be migrated"
            )
        with ExitStack() as recorded:
            with closing(_open_lmdb(home)) as store:
                for windows in store.windows.definitions():
                    raise InvalidRequest(
                        f"{home}: the windowed group {windows.windows.group.name!r} is kept in "
                        f"LMDB, and Redis keeps none; delete it first (`featureline window delete`)"
                    )
                job = recorded.enter_context(recorded_migration(home, url.location))
                mark = store.migration
                if mark is not None and mark.moved:
                    moved = Migrated(mark.to, 0, 0, 0.0)
                else:
                    moved = _move(home, store, url, on_progress, on_step)
            on_step("moved")
            with deciding(home):
                if chosen(home) is None:
                    finish_move(home, url)
            job.property("records", moved.records)
            job.property("outbox", moved.outbox)
        on_step("finished")
        return moved


def abort_migration(home: Path) -> bool:
    """Give up a migration that has not ended; LMDB stays in use.

    What was copied stays behind in Redis, and is removed when a migration there begins anew.

    Returns:
        Whether there was one.

    Raises:
        StoreUnavailable: one is under way, or it has ended.
    """
    with _alone(home), closing(_open_lmdb(home)) as store:
        return LmdbSource(store).abort()


def _move(
    home: Path,
    store: LmdbStore,
    url: RedisUrl,
    on_progress: Progress,
    on_step: Callable[[str], None],
) -> Migrated:
    source = LmdbSource(store)
    with closing(RedisStore(url, store_id=store.store_id, filling=True)) as target:
        fill = RedisFill(target)
        copied = fill.begin(going_on=source.begin(url.location))
        on_step("begun")
        records = _copy(source, fill, copied, on_progress)
        on_step("copied")
        for _ in range(_ROUNDS):
            records += _copy_changes(source, fill)
            if source.waiting_changes() <= FEW:
                break
        on_step("followed")
        _flush(home)
        records += _copy_changes(source, fill)
        positions = source.positions()
        fill.put_positions(positions)
        on_step("ready")
        began = time.monotonic()
        with store.transaction(write=True) as txn:
            records += _copy_rest(source, fill, txn, positions)
            outbox = fill.put_outbox(source.outbox(txn))
            fill.set_floor(source.sequence(txn))
            on_step("filled")
            move_lmdb(home, store, txn, Chosen(url, store.store_id))
            on_step("marked")
        return Migrated(url.location, records, outbox, time.monotonic() - began)


def _copy(source: LmdbSource, fill: RedisFill, after: bytes | None, on_progress: Progress) -> int:
    total = source.count()
    done = 0
    while items := source.records(after):
        fill.put(items)
        after = items[-1][0]
        fill.note(after)
        done += len(items)
        on_progress(done, max(done, total))
    fill.note_all()
    return done


def _copy_changes(source: LmdbSource, fill: RedisFill) -> int:
    """Copy what was noted up to now, but not what is noted meanwhile: that never ends."""
    last = source.last_change()
    done = through = 0
    while through < last and (changes := source.changes()) is not None:
        fill.put(changes.items)
        source.forget_changes(changes.through)
        through = changes.through
        done += len(changes.items)
    return done


def _copy_rest(
    source: LmdbSource, fill: RedisFill, txn: Any, known: Mapping[str, Mapping[str, int]]
) -> int:
    done = through = 0
    while (changes := source.changes(txn, after=through)) is not None:
        fill.put(changes.items)
        through = changes.through
        done += len(changes.items)
    now = source.positions(txn)
    fill.put_positions({name: now[name] for name in now if now[name] != known.get(name)})
    return done


def _flush(home: Path) -> None:
    """Make the outbox short. What cannot be flushed now moves with the rest."""
    online = LmdbStore(home / "online")
    try:
        store = EmbeddedStore(home, online=online)
    except StoreUnavailable:  # without the master key sealed entries cannot be opened, but moved
        online.close()
        return
    with closing(store):
        for description in store.list_feature_groups():
            try:
                if description.group.offline:
                    store.flush(description.group.name)
            except FeatureStoreError:
                continue


def _open_lmdb(home: Path) -> LmdbStore:
    if not (home / "online" / "data.mdb").exists():
        raise InvalidRequest(
            f"{home}: expected an online store in LMDB to migrate, found none; a new home takes "
            f"its URL when it is first opened"
        )
    return LmdbStore(home / "online")


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    if not home.is_dir():
        raise InvalidRequest(f"{home}: expected the home of a store, found no folder")
    (home / "locks").mkdir(exist_ok=True)
    with open(home / "locks" / "migrate.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreUnavailable(
                f"a migration of {home} is under way in another process; wait for it"
            ) from None
        yield
