"""Which lineage store a home has: the file in its folder, or the database it was given once."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from lineage import graph as graphs
from lineage.errors import InvalidLog, NotALineageFile, StoreUnavailable
from lineage.graph import Graph
from lineage.questions import DataChanges
from lineage.spool import Replayed, Spool
from lineage.store.postgres import PostgresStore
from lineage.store.postgres_link import without_password
from lineage.store.sqlite import SQLiteStore

_CHOSEN = "lineage.json"
_FILE = "lineage.db"
_SPOOL = "lineage.spool.ndjson"


def open_home(
    home: str | Path, url: str | None = None, *, changes: DataChanges | None = None
) -> Graph:
    """Open the lineage graph of a home.

    Without a URL it is the file `home/lineage.db`. A URL given once is remembered in
    `home/lineage.json`, which only its user may read, for every later process. While the
    store is away, events wait in `home/lineage.spool.ndjson`; they are recorded by the next
    process that reaches it.

    Args:
        home: the folder.
        url: `postgresql://...`; None: `$FEATURELINE_LINEAGE`, else what the home remembers.
        changes: as for `Graph`.

    Raises:
        InvalidLog: the home has events already that are not in the database.
        NotALineageFile: lineage.json is damaged, or the place holds something else.
        StoreUnavailable: the place cannot be read, or the database is away.
    """
    home = Path(home)
    known = chosen(home)
    url = url or os.environ.get("FEATURELINE_LINEAGE") or None
    if url is None or url == known:
        return _spooled(home, known, changes)
    graph = graphs.open(url)
    try:
        _check_same_log(home, graph, known)
        _remember(home, url)
    finally:
        graph.close()
    return _spooled(home, url, changes)


def replay_spool(home: str | Path) -> Replayed:
    """Record what waits in the spool of a home; `open_home` does so too, and goes on without.

    Raises:
        NotALineageFile: lineage.json is damaged, or the place holds something else.
        StoreUnavailable: the store is still away.
    """
    home = Path(home)
    if not spool_of(home):
        return Replayed(0, 0)
    with _opened(home, chosen(home)) as graph:
        return graph.replay_spool()


def spool_of(home: str | Path) -> Spool:
    """Where the events of a home wait while its store is away."""
    return Spool(Path(home) / _SPOOL)


def chosen(home: Path) -> str | None:
    """The URL that a home remembers, with its login; None: its lineage is in a file.

    Raises:
        NotALineageFile: lineage.json is damaged.
    """
    path = home / _CHOSEN
    try:
        return str(json.loads(path.read_text("utf-8"))["url"])
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreUnavailable(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise NotALineageFile(
            str(path), f"something else ({error!r})", "give the URL of the lineage again"
        ) from error


def _spooled(home: Path, url: str | None, changes: DataChanges | None) -> Graph:
    """The graph of a home, behind what waited for it."""
    graph = _opened(home, url, changes)
    if graph.spool:
        with suppress(StoreUnavailable):
            graph.replay_spool()
    return graph


def _opened(home: Path, url: str | None, changes: DataChanges | None = None) -> Graph:
    store = SQLiteStore.open(home / _FILE) if url is None else PostgresStore.open(url, wait=True)
    return Graph(store, changes=changes, spool=spool_of(home))


def _check_same_log(home: Path, graph: Graph, known: str | None) -> None:
    """Refuse a database that does not have what the home has recorded."""
    place = known or (home / _FILE if (home / _FILE).exists() else None)
    if place is None:
        return
    with graphs.open(place) as before:
        head = before.store.head()
    if not head.sequence:
        return
    with graph.store.log(head.sequence - 1) as (events, _):
        same = next(events, None)
    if same is None or same.hash != head.hash:
        where = without_password(known) if known else str(home / _FILE)
        raise InvalidLog(
            f"{home} has {head.sequence} lineage events in {where} that are not in the database; "
            f"copy them first: featureline lineage copy --home {home} --to URL"
        )


def _remember(home: Path, url: str) -> None:
    part = home / f".{_CHOSEN}.{os.getpid()}.part"
    try:
        home.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({"url": url}, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(home / _CHOSEN)
    except OSError as error:
        raise StoreUnavailable(
            f"{home / _CHOSEN}: cannot be written: {error.strerror or error}"
        ) from error
