"""Offline tables of groups: where they lie, and the flush into them."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import final

from featurestore.engine import Engine
from featurestore.errors import InvalidRequest, StoreFull, StoreUnavailable
from featurestore.offline import DeltaOfflineTable, Flushed, Flusher, Snapshot
from featurestore.offline.cache import FileCache
from featurestore.offline.delta import environment_options
from featurestore.online import OnlineStore
from featurestore.registry import Registered, Registry

__all__ = ["Tables"]


@final
class Tables:
    """The offline tables of one home.

    Args:
        home: the folder.
        registry: of the home.
        online: the online store, whose outbox is flushed.
        flusher: of the home.
    """

    def __init__(
        self, home: Path, registry: Registry, online: OnlineStore, flusher: Flusher
    ) -> None:
        self._home = home
        self._registry = registry
        self._online = online
        self._flusher = flusher

    def open(self, entry: Registered, *, engine: Engine = "duckdb") -> DeltaOfflineTable:
        """Return the offline table of a group; Spark's executors read files where they lie."""
        uri = self.uri(entry)
        cache = FileCache(self._home / "cache" / "offline") if engine == "duckdb" else None
        return DeltaOfflineTable(uri, storage_options=environment_options(uri), cache=cache)

    def uri(self, entry: Registered) -> str:
        """Return where the table of a group lies."""
        place = entry.group.offline_place
        if not place:
            return str(self._home / "offline" / entry.offline_folder)
        # Several homes may share a prefix: the moment of creation tells their tables apart.
        return f"{place.rstrip('/')}/{entry.offline_folder}-{entry.created_us}"

    def with_offline(self, name: str) -> Registered:
        """Return a group by name, which has an offline store.

        Raises:
            FeatureGroupNotFound: no such group.
            InvalidRequest: it has none.
        """
        entry = self._registry.get(name)
        if not entry.group.offline:
            raise InvalidRequest(f"{name}: the group has no offline store; there is no table")
        return entry

    def flush(self, entry: Registered, table: DeltaOfflineTable | None = None) -> Flushed:
        """Take what waits for a group's table into it.

        Raises:
            StoreFull, StoreUnavailable: the table could not be written; the records wait.
        """
        name = entry.group.name
        # A writer that was killed in its commit may leave a state that readers of LMDB see only
        # after the next writer: without this a flush would miss what a later read returns.
        self._online.put(())
        try:
            return self._flusher.flush(lambda: self._registry.get(name), table or self.open(entry))
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            kind = StoreFull if full else StoreUnavailable
            raise kind(
                f"{name}: the flush could not write: {error}; the records wait in the outbox"
            ) from error

    def flushed(self, entry: Registered, engine: Engine = "duckdb") -> Snapshot | None:
        """Flush a group and return the newest version of its table; None: it has no table yet."""
        table = self.open(entry, engine=engine)
        with table.held():  # from the flush's first look at it on, which is under its lock
            self.flush(entry, table)
            return table.scan()
