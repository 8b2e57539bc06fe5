"""What of a home may be deleted: files that no replay of anything in use needs.

The lineage says what comes from what, and is itself never deleted; the home says which files belong
to which entity. An entity whose files are gone stays in the graph, in the state `Deleted`.
"""

from __future__ import annotations

import datetime as dt
import getpass
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import lineage
from featurestore.embedded import EmbeddedStore
from featurestore.errors import FeatureGroupNotFound, FeatureStoreError, InvalidRequest
from lineage import Entity, gc
from lineage.collection import KINDS, Collection, Item
from training.jobs.folder import JobFolder

__all__ = ["DELETED", "collect", "plan_collection"]

DELETED: Final = "Deleted"
_ENDED: Final = frozenset({"Completed", "Failed", "Stopped", DELETED})
_PLANS: Final = 5


def plan_collection(
    store: EmbeddedStore,
    *,
    keep: Iterable[str] = (),
    older_than: dt.timedelta = dt.timedelta(days=30),
    kinds: Iterable[str] = KINDS,
    now: dt.datetime | None = None,
) -> Collection:
    """Say what of a home may be deleted without breaking the replay of anything in use.

    In use is what is named, tagged `keep`, approved, an endpoint in service, a job that runs, and
    what is younger than `older_than`; and, to be trained or built again, all that it comes from.

    Args:
        store: the home.
        keep: uids of what is in use, too.
        older_than: what was recorded or changed since stays; >= 0.
        kinds: of `KINDS`: what may go at all.
        now: the time; default the clock.

    Raises:
        InvalidRequest: an unknown kind, or a negative age.
        EntityNotFound: what is to be kept does not exist.
    """
    chosen = tuple(kinds)
    if unknown := [kind for kind in chosen if kind not in KINDS]:
        raise InvalidRequest(f"kinds: expected some of {', '.join(KINDS)}, got {unknown[0]!r}")
    if older_than < dt.timedelta(0):
        raise InvalidRequest(f"older than: expected 0 or more, got {older_than}")
    graph = store.graph
    sequence = graph.store.head().sequence
    entities = {
        kind: graph.find(type=type_)
        for kind, type_ in (
            ("model", "Model"),
            ("dataset", "DataSet"),
            ("job", "TrainingJob"),
            ("table", "FeatureGroupVersion"),
        )
    }
    limit = (now or dt.datetime.now(dt.UTC)) - older_than
    used = gc.in_use(graph, since=limit, why=f"younger than {_days(older_than)}")
    needed = gc.needed(graph, used | dict.fromkeys(keep, "named to be kept"))
    home = store.home.resolve()
    items: list[Item] = []
    if "model" in chosen:
        items += _models(home, entities["model"], needed)
    if "dataset" in chosen:
        items += _datasets(home, entities["dataset"], needed)
    for entity in entities["job"]:
        items += _job(home, entity, needed, chosen)
    if "table" in chosen:
        items += _tables(store, home, entities["table"], needed, older_than)
    items = [replace(item, chain=_named(graph, item.chain)) for item in items]
    items.sort(key=lambda item: (not item.goes, -item.size_bytes, item.uri))
    return Collection(tuple(items), sequence)


def collect(
    store: EmbeddedStore,
    plan: Callable[[], Collection],
    *,
    older_than: dt.timedelta = dt.timedelta(days=30),
    by: str | None = None,
) -> Collection:
    """Delete what may go, and record that it was.

    Only files inside the home are deleted, and no link is followed. A kill in between leaves what
    is not deleted yet to the next collection, which also records what is gone.

    Args:
        store: the home.
        plan: makes the plan; made again as long as something is recorded meanwhile.
        older_than: as it was planned with: files of tables are kept so long in any case.
        by: who collects, for the record; None: the user of the process.

    Raises:
        InvalidRequest: the lineage does not come to rest: try again when fewer jobs run.
    """
    for _ in range(_PLANS):
        made = plan()
        if made.sequence == store.graph.store.head().sequence:
            break
    else:
        raise InvalidRequest(
            "the lineage does not come to rest: what is in use changes while it is looked at; "
            "collect when fewer jobs run"
        )
    if not made.going:
        return replace(made, applied=True)
    home = store.home.resolve()
    by = getpass.getuser() if by is None else by
    action = _begin(store, made.going, by)
    done: list[Item] = []
    state = "Failed"
    try:
        for item in made.going:
            if item.kind == "table":
                gone = store.vacuum_unpinned(
                    _group_of(store, item.uri), item.pinned, retention=older_than
                )
                done.append(replace(item, size_bytes=sum(gone.values())))
            else:
                for path in item.paths:
                    _delete(home, path)
                done.append(item)
        state = "Completed"
    finally:
        _end(store, action, done, state, by)
    return replace(
        made,
        items=(*done, *(item for item in made.items if not item.goes)),
        applied=True,
        recorded=action.uid,
    )


def _models(home: Path, models: Sequence[Entity], needed: gc.Needed) -> Iterator[Item]:
    for entity in models:
        folder = _inside(home / "artifacts" / "models", entity.source_uri)
        if folder is not None and folder.is_dir():
            yield _item("model", entity, entity.source_uri, needed, [folder])


def _datasets(home: Path, datasets: Sequence[Entity], needed: gc.Needed) -> Iterator[Item]:
    folder = home / "artifacts" / "datasets"
    saved = {
        entity.uid: (entity, str(entity.properties["fingerprint"]))
        for entity in datasets
        if entity.source_uri == f"dataset:{entity.properties.get('fingerprint')}"
    }
    # A spine that several datasets share goes with the last of them.
    staying = {
        str(entity.properties.get("spine_digest"))
        for entity, _ in saved.values()
        if entity.uid in needed
    }
    for entity, fingerprint in saved.values():
        rows = folder / f"{fingerprint}.parquet"
        paths = [rows.with_suffix(".json"), rows]
        digest = str(entity.properties.get("spine_digest"))
        if digest not in staying:
            paths.insert(0, home / "artifacts" / "spines" / f"{digest}.arrow")
        if rows.exists():
            yield _item("dataset", entity, rows.as_uri(), needed, paths)


def _job(home: Path, entity: Entity, needed: gc.Needed, chosen: Sequence[str]) -> Iterator[Item]:
    folder = _inside(home / "jobs", entity.source_uri)
    if folder is None or entity.state not in _ENDED:
        return
    goes = entity.uid not in needed
    if "job" in chosen and folder.is_dir():
        yield _item("job", entity, entity.source_uri, needed, [folder])
    checkpoints = JobFolder(folder).checkpoints
    if "checkpoint" in chosen and not (goes and "job" in chosen) and _size([checkpoints]):
        yield Item(
            "checkpoint",
            checkpoints.as_uri(),
            entity.uid,
            _size([checkpoints]),
            True,
            "the job has ended, and a replay begins anew",
            paths=(checkpoints,),
        )


def _tables(
    store: EmbeddedStore,
    home: Path,
    versions: Sequence[Entity],
    needed: gc.Needed,
    older_than: dt.timedelta,
) -> Iterator[Item]:
    by_uri: dict[str, list[Entity]] = {}
    for entity in filter(_is_numbered, versions):
        by_uri.setdefault(entity.source_uri, []).append(entity)
    for described in store.list_feature_groups():
        group = described.group.name
        table = store.offline_table(store.registry.get(group)) if described.group.offline else None
        if (
            table is None
            or not table.is_local
            or not Path(table.uri).resolve().is_relative_to(home)
        ):
            continue
        known = by_uri.get(table.uri, [])
        pinned = {_version(entity): entity for entity in known if entity.uid in needed}
        files = store.vacuum_unpinned(group, sorted(pinned), retention=older_than, dry_run=True)
        uid = lineage.derived_uid(lineage.context("FeatureGroup", group))
        why = (
            f"files of older versions; {len(pinned)} versions stay readable"
            if pinned
            else ("files of older versions, none of which anything in use has read")
        )
        if files:
            size = sum(files.values())
            yield Item("table", table.uri, uid, size, True, why, pinned=tuple(sorted(pinned)))
        for version, entity in sorted(pinned.items()):
            chain = needed.chain(entity.uid)
            reason = f"version {version} is needed: {needed.roots[chain[-1]]}"
            yield Item("table", table.uri, entity.uid, 0, False, reason, chain)


def _item(kind: str, entity: Entity, uri: str, needed: gc.Needed, paths: Sequence[Path]) -> Item:
    chain, size = needed.chain(entity.uid), _size(paths)
    if chain:
        return Item(kind, uri, entity.uid, size, False, needed.roots[chain[-1]], chain)
    why = "nothing in use comes from it"
    return Item(kind, uri, entity.uid, size, True, why, paths=tuple(paths))


def _inside(folder: Path, uri: str) -> Path | None:
    """The path of a file: URI that lies in a folder; links do not count."""
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        return None
    path = Path(os.path.normpath(unquote(parts.path)))
    real = path.parent.resolve() / path.name
    return real if real != folder and real.is_relative_to(folder) else None


def _size(paths: Iterable[Path]) -> int:
    total = 0
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            for root, _, names in os.walk(path):
                total += sum(os.lstat(os.path.join(root, name)).st_size for name in names)
        elif path.exists():
            total += path.lstat().st_size
    return total


def _delete(home: Path, path: Path) -> None:
    """Delete a file or folder of a home; a link in its place is not followed."""
    if path.is_symlink() or not path.parent.resolve().is_relative_to(home):
        raise InvalidRequest(f"{path}: a link, or outside the home; it is not deleted")
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _begin(store: EmbeddedStore, going: Sequence[Item], by: str) -> Entity:
    """Say what is about to be deleted: what a kill leaves there, the next collection deletes."""
    graph = store.graph
    uids = [item.uid for item in going if item.kind in ("model", "dataset")]
    gone = [replace(graph.entity(uid), state=DELETED) for uid in uids]
    action = lineage.action(
        "Collection",
        f"collection-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S.%fZ}",
        state="InProgress",
        properties={"by": by},
    )
    links = [(action, entity, lineage.AssociationType.ASSOCIATED_WITH) for entity in gone]
    started = graph.record([action, *gone], links, kind="CollectionStarted", actor=by)
    return started.entities[0]


def _end(store: EmbeddedStore, action: Entity, done: Sequence[Item], state: str, by: str) -> None:
    """Say what was deleted."""
    gone = [one for item in done if item.kind == "table" for one in _unreadable(store, item)]
    said: dict[str, lineage.JSON] = {
        "bytes": sum(item.size_bytes for item in done),
        "deleted": [[item.kind, item.uri, item.size_bytes] for item in done],
    }
    ended = replace(action, state=state, properties={**action.properties, **said})
    links = [(ended, entity, lineage.AssociationType.ASSOCIATED_WITH) for entity in gone]
    store.graph.record([ended, *gone], links, kind=f"Collection{state}", actor=by)


def _unreadable(store: EmbeddedStore, item: Item) -> list[Entity]:
    """The versions of a table that were read once, and cannot be any more."""
    table = store.offline_table(store.registry.get(_group_of(store, item.uri)))
    found = []
    for entity in store.graph.find(type="FeatureGroupVersion", source_uri=item.uri):
        if entity.state == DELETED or not _is_numbered(entity) or _version(entity) in item.pinned:
            continue
        try:
            table.scan(version=_version(entity))
        except FeatureStoreError:
            found.append(replace(entity, state=DELETED))
    return found


def _group_of(store: EmbeddedStore, uri: str) -> str:
    for described in store.list_feature_groups():
        entry = store.registry.get(described.group.name)
        if described.group.offline and store.offline_table(entry).uri == uri:
            return described.group.name
    raise FeatureGroupNotFound(uri)


def _is_numbered(entity: Entity) -> bool:
    """Whether a version of a table is one of Delta's, as datasets record them."""
    return isinstance(entity.properties.get("table_version"), int)


def _version(entity: Entity) -> int:
    return int(str(entity.properties["table_version"]))


def _named(graph: lineage.Graph, chain: Sequence[str]) -> tuple[str, ...]:
    entities = [graph.entity(uid) for uid in chain]
    return tuple(f"{entity.type} {entity.name}" for entity in entities)


def _days(age: dt.timedelta) -> str:
    days = age / dt.timedelta(days=1)
    return f"{days:g} day{'' if days == 1 else 's'}"
