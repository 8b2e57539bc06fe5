"""Which online store a home has: LMDB in its folder, or the Redis it was given once."""

from __future__ import annotations

import fcntl
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from featurestore.errors import StoreCorrupt, StoreUnavailable
from featurestore.online.base import OnlineStore
from featurestore.online.lmdb import LOOK_S, LmdbStore
from featurestore.online.lmdb_changes import MARK, Migration
from featurestore.online.redis import RedisStore
from featurestore.online.redis_url import RedisUrl

__all__ = ["Chosen", "choose", "chosen", "deciding", "finish_move", "move_lmdb", "open_online"]

_CHOSEN: Final = "online.json"
_NEXT: Final = "online.next.json"  # what a migration will choose
_LMDB: Final = "online"
_MIGRATED: Final = "online.migrated"


@final
@dataclass(frozen=True, slots=True)
class Chosen:
    """What a home remembers of its online store.

    Args:
        url: of the Redis or Valkey store, with its login and options.
        store_id: its name; another store at the same place is refused.
    """

    url: RedisUrl
    store_id: str


def open_online(home: Path, url: str | None = None) -> OnlineStore:
    """Open the online store of a home.

    Without a URL it is LMDB in `home/online`. A URL given once is remembered in
    `home/online.json`, for every later process. A URL of the same place may differ in login and
    options, and is remembered anew.

    Args:
        home: an existing folder.
        url: `redis://…`, `rediss://…` or `redis+cluster://…`; None: the one that is remembered.

    Raises:
        StoreUnavailable: the home has another online store, or it cannot be opened.
        StoreCorrupt: its file or database is damaged or another program's.
        InvalidRequest: the URL has another form.

    >>> import tempfile
    >>> store = open_online(Path(tempfile.mkdtemp()))
    >>> type(store).__name__
    'LmdbStore'
    >>> store.close()
    """
    asked = None if url is None else RedisUrl.parse(url)
    with deciding(home):
        known = chosen(home)
        if known is None and (home / _LMDB / "data.mdb").exists():
            store = LmdbStore(home / _LMDB)
            moved = store.migration
            if moved is None or not moved.moved:
                if asked is None:
                    return store
                _leave_empty(home, store, asked)
            store.close()
            finish_move(home, asked)
            known = chosen(home)
        if known is None and asked is None:
            return LmdbStore(home / _LMDB)
        if known is None:
            assert asked is not None
            return _begin(home, asked)
        return _open_known(home, known, asked)


def chosen(home: Path) -> Chosen | None:
    """Return what a home remembers; None: its online store is LMDB.

    Raises:
        StoreCorrupt: online.json is damaged.
    """
    return _read(home / _CHOSEN)


def choose(home: Path, choice: Chosen) -> None:
    """Remember where the home's online store is, durably; only its user may read it."""
    _write(home / _CHOSEN, choice)


def move_lmdb(home: Path, store: LmdbStore, txn: Any, choice: Chosen) -> None:
    """Mark an LMDB store as moved, in a write transaction that the caller commits.

    That commit is the switch-over: before it LMDB has the records, afterwards the other store.
    `finish_move` does the rest, also when it is another process that comes to do it.
    """
    _write(home / _NEXT, choice)
    migration = Migration(choice.url.location, moved=True)
    txn.put(MARK, migration.to_bytes(), db=store.databases.meta)


def finish_move(home: Path, asked: RedisUrl | None = None) -> None:
    """Open the store that LMDB has moved to for use, and remember it; may be done twice.

    Args:
        home: its LMDB is marked as moved.
        asked: a URL of the same place with another login.

    Raises:
        StoreUnavailable: it cannot be reached, or the home does not know its login any more.
    """
    choice = _read(home / _NEXT) or chosen(home)
    if choice is None:
        raise StoreUnavailable(
            f"the online store of {home} has migrated, but {home / _NEXT} is gone; give its URL"
        )
    if asked is not None and asked.location == choice.url.location:
        choice = Chosen(asked, choice.store_id)
    # Readers of the old store look every LOOK_S whether it has moved. No write to the new one is
    # possible before all have, so no read there misses one.
    time.sleep(2 * LOOK_S)
    with closing(RedisStore(choice.url, store_id=choice.store_id, filling=True)) as store:
        store.make_ready()
    choose(home, choice)
    (home / _NEXT).unlink(missing_ok=True)
    if (home / _LMDB).exists():
        target = home / _MIGRATED
        if target.exists():
            target = home / f"{_MIGRATED}-{uuid.uuid4().hex[:8]}"
        (home / _LMDB).rename(target)


def _begin(home: Path, asked: RedisUrl) -> OnlineStore:
    """Make the store of a new home. Its name is remembered first: a killed process goes on."""
    choice = _read(home / _NEXT)
    if choice is None or choice.url.location != asked.location:
        choice = Chosen(asked, uuid.uuid4().hex)
    _write(home / _NEXT, Chosen(asked, choice.store_id))
    store = RedisStore(asked, store_id=choice.store_id)
    choose(home, Chosen(asked, choice.store_id))
    (home / _NEXT).unlink(missing_ok=True)
    return store


def _open_known(home: Path, known: Chosen, asked: RedisUrl | None) -> OnlineStore:
    if asked is None or asked == known.url:
        return RedisStore(known.url, store_id=known.store_id)
    if asked.location != known.url.location:
        raise StoreUnavailable(
            f"the home {home} has its online store at {known.url.location}, not at "
            f"{asked.location}; leave the URL out, or use another home"
        )
    store = RedisStore(asked, store_id=known.store_id)
    choose(home, Chosen(asked, known.store_id))
    return store


def _leave_empty(home: Path, store: LmdbStore, asked: RedisUrl) -> None:
    """Mark an LMDB store that never had a record as moved; processes that have it open see it."""
    try:
        if store.is_untouched:
            # Nothing is marked before the new place is known to work.
            RedisStore(asked, store_id=store.store_id, filling=True).close()
        with store.transaction(write=True) as txn:
            if not store.is_untouched:
                raise StoreUnavailable(
                    f"the home {home} has its online store in LMDB, with records; move them by "
                    f"`featureline migrate --home {home} --to {asked.location}`"
                )
            move_lmdb(home, store, txn, Chosen(asked, store.store_id))
    except BaseException:
        store.close()
        raise


@contextmanager
def deciding(home: Path) -> Iterator[None]:
    """Keep other processes from deciding at the same time."""
    folder = home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "online.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(path: Path) -> Chosen | None:
    try:
        body = json.loads(path.read_bytes())
        return Chosen(RedisUrl.parse(str(body["url"])), str(body["store_id"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise StoreCorrupt(
            f"{path} is damaged ({error!r}); it names the online store of the home as "
            f'{{"url": "redis://…", "store_id": "…"}}: restore it from a backup'
        ) from error


def _write(path: Path, choice: Chosen) -> None:
    body = {"url": choice.url.text, "store_id": choice.store_id}
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w") as file:
        json.dump(body, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
