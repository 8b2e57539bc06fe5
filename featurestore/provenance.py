"""What the feature store tells the lineage graph.

    feature group (Context) ─► table version (Artifact) ─► dataset build (Action) ─► dataset

A table version enters the graph when a dataset reads it, not at every flush: the graph grows with
what was used, and the Delta log has the rest.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, final

import lineage
from featurestore.dataset import Resolved
from featurestore.errors import FeatureStoreError, StoreFull, StoreUnavailable
from featurestore.manifest import Manifest
from featurestore.offline.base import Snapshot
from featurestore.offline.changes_between import changes_between
from featurestore.registry import Registered, is_disk_full
from featurestore.window import WindowedGroup
from lineage import gc
from lineage.sagemaker import feature_group_pipeline

__all__ = [
    "Work",
    "dataset_entity",
    "group_entity",
    "record_builder",
    "record_dataset",
    "record_feature_group",
    "record_home_restore",
    "record_table_version",
    "record_windowed_group",
    "recorded_load",
    "recorded_migration",
    "recorded_work",
    "recorded_work_that_begins",
    "table_change",
    "versions_in_use",
]


def group_entity(name: str) -> lineage.Entity:
    """Return the lineage context of a feature group, as ingest and training refer to it."""
    return lineage.context("FeatureGroup", name)


def dataset_entity(manifest: Mapping[str, Any]) -> lineage.Entity:
    """Return the lineage artifact of a dataset."""
    fingerprint = str(manifest["fingerprint"])
    return lineage.artifact(
        "DataSet",
        f"dataset:{fingerprint}",
        content_hash=fingerprint,
        name=f"dataset {fingerprint[:12]}",
        properties={
            "fingerprint": fingerprint,
            "spine_digest": manifest["spine_digest"],
            "rows": manifest["rows"],
            "versions": dict(manifest["versions"]),
            "features": {
                name: origin for name, origin in manifest["columns"].items() if origin != "spine"
            },
        },
    )


def table_change(a: lineage.Entity, b: lineage.Entity) -> lineage.DataChange | None:
    """Say which files and how many rows differ between two versions of a group's table.

    What `lineage.Graph.diff` asks of its `changes`; None for any other entities.
    """
    old, new = (entity.properties.get("table_version") for entity in (a, b))
    if {a.type, b.type} != {"FeatureGroupVersion"} or a.source_uri != b.source_uri:
        return None
    if not isinstance(old, int) or not isinstance(new, int):
        return None
    try:
        change = changes_between(a.source_uri, old, new)
    except FeatureStoreError as error:
        # The graph outlives tables and their logs.
        return lineage.DataChange(f"version {old} → {new}; {error}", 0.5)
    return lineage.DataChange(
        change.summary(),
        change.share,
        change.to_json(),
        tuple(
            f"version {commit.version}: {commit.operation}"
            f"{'' if commit.time is None else f', {commit.time:%Y-%m-%d %H:%M:%S} UTC'}"
            for commit in change.commits
        ),
    )


def versions_in_use(graph: lineage.Graph, uri: str, *, younger_than: dt.timedelta) -> list[int]:
    """Find the versions of a table that a replay of what is in use reads.

    In use is what `lineage.gc.in_use` names, and all that it comes from.

    Args:
        graph: that has the datasets which were built from the table.
        uri: of the table.
        younger_than: models, datasets and jobs younger than this are in use, too; >= 0.

    Raises:
        StoreUnavailable: the graph cannot be read.

    Cost: none where no dataset has read the table; else it grows with what is in use.
    """
    with _explained():
        read = {
            entity.uid: version
            for entity in graph.find(type="FeatureGroupVersion", source_uri=uri)
            if isinstance(version := entity.properties.get("table_version"), int)
        }
        if not read:
            return []
        now = dt.datetime.now(dt.UTC)
        since = now - min(younger_than, now - dt.datetime.min.replace(tzinfo=dt.UTC))
        needed = gc.needed(graph, gc.in_use(graph, since=since))
    return sorted({version for uid, version in read.items() if uid in needed})


@contextmanager
def recorded_load(
    graph: Any, group: str, source: str, *, name: str = "", key: str = ""
) -> Iterator[lineage.Recorder]:
    """Record the load of a table into a feature group as one action.

    Args:
        graph: a lineage graph, or the client of a server's.
        group: the feature group.
        source: uri or path of where the rows came from; "" when the caller did not say.
        name: of the action; one that was recorded goes on. By default it is a new one.
        key: of a load that may be tried again; "" when it has none.
    """
    name = name or f"load-{group}-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S.%fZ}"
    properties = {"key": key} if key else {}
    with lineage.Recorder(
        graph, "Load", name, kind=lineage.Kind.ACTION, properties=properties
    ) as job:
        if source:
            job.input(lineage.artifact("DataSet", source))
        try:
            yield job
        finally:
            job.output(group_entity(group))  # a load that fails has stored its first rows


@contextmanager
def recorded_work(
    graph: Any, type: str, group: str, *, changes: bool, **properties: object
) -> Iterator[lineage.Recorder]:
    """Record work on a feature group, such as a backfill, as one action.

    Args:
        graph: a lineage graph, or the client of a server's.
        type: of the work.
        group: the feature group.
        changes: whether the group's history changes by it, so that what is read later comes from
            it too.
        properties: what was asked for.
    """
    name = f"{type.lower()}-{group}-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S.%fZ}"
    with lineage.Recorder(
        graph, type, name, kind=lineage.Kind.ACTION, properties=properties
    ) as job:
        try:
            yield job
        finally:
            if changes:
                job.output(group_entity(group))
            else:
                job.input(group_entity(group), "AssociatedWith")


@final
class Work:
    """Work that may find nothing to do: it is recorded from its first change on.

    Args:
        enter: begins the record.
    """

    def __init__(self, enter: Callable[[], lineage.Recorder]) -> None:
        self._enter = enter
        self.job: lineage.Recorder | None = None

    def begin(self) -> None:
        """Say that the first change comes; once that is said, nothing more.

        Raises:
            lineage.LineageError: it cannot be recorded, so the change must not be made.
        """
        if self.job is None:
            self.job = self._enter()


@contextmanager
def recorded_work_that_begins(
    graph: Callable[[], Any], type: str, group: str, **properties: object
) -> Iterator[Work]:
    """Record work on a feature group as `recorded_work` does, if there is something to do.

    Args:
        graph: returns a lineage graph, or the client of a server's; asked when the work begins.
        type: of the work, which changes no history.
        group: the feature group.
        properties: what was asked for.
    """
    with ExitStack() as stack:
        yield Work(
            lambda: stack.enter_context(
                recorded_work(graph(), type, group, changes=False, **properties)
            )
        )


@contextmanager
def recorded_migration(home: Path, to: str) -> Iterator[lineage.Recorder]:
    """Record in a home's lineage that its online store moves.

    Args:
        home: the folder.
        to: where, without login.
    """
    name = f"migration-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S.%fZ}"
    with (
        lineage.open_home(home) as graph,
        lineage.Recorder(
            graph, "Migration", name, kind=lineage.Kind.ACTION, properties={"to": to}
        ) as job,
    ):
        yield job


def record_home_restore(home: Path, source: Path, manifest: Manifest) -> None:
    """Record in a home's lineage that it is made from a backup.

    Args:
        home: the folder, with the lineage of the backup in it.
        source: the backup's folder.
        manifest: of the backup.
    """
    name = f"restore-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S.%fZ}"
    properties = {"files": len(manifest.files), "bytes": manifest.size_bytes}
    with (
        lineage.open_home(home) as graph,
        lineage.Recorder(
            graph, "HomeRestore", name, kind=lineage.Kind.ACTION, properties=properties
        ) as job,
    ):
        job.input(lineage.artifact("Backup", source.absolute().as_uri()))


def record_feature_group(graph: lineage.Graph, entry: Registered, offline_uri: str) -> None:
    """Record a feature group's new version."""
    group = entry.group
    made = f"{group.name}-{entry.created_us // 1_000_000}"
    entity = lineage.context(
        "FeatureGroup",
        group.name,
        source_uri=offline_uri,
        properties={
            "version": entry.version,
            "record_identifier": group.record_identifier,
            "event_time": group.event_time,
            "features": {feature.name: feature.type.value for feature in group.features},
        },
    )
    # By these SageMaker's feature processors find the group.
    created = dt.datetime.fromtimestamp(entry.created_us / 1e6, dt.UTC)
    pipeline, version = feature_group_pipeline(group.name, created, entry.version)
    links = [(entity, pipeline, "AssociatedWith"), (pipeline, version, "AssociatedWith")]
    if entry.version > 1:
        _, before = feature_group_pipeline(group.name, created, entry.version - 1)
        links.append((before, version, "DerivedFrom"))
    with _explained():
        graph.record(
            [entity, pipeline, version],
            links,
            kind="FeatureGroupVersion",
            aliases=[(made, entity)],
        )


def record_windowed_group(graph: lineage.Graph, group: WindowedGroup) -> None:
    """Record a windowed group, derived from the feature group it is made of."""
    entity = lineage.context(
        "FeatureGroup",  # it is read as one
        group.name,
        properties={
            "source": group.source,
            "by": group.by,
            "features": {feature.name: feature.to_json() for feature in group.features},
        },
    )
    with _explained():
        graph.record(
            [entity],
            [(group_entity(group.source), entity, "DerivedFrom")],
            kind="WindowedGroupCreated",
            columns=[
                lineage.ColumnLineage(
                    entity, "definition", tuple(_windowed(group)), time.time_ns() // 1_000
                )
            ],
        )


def _windowed(group: WindowedGroup) -> Iterator[lineage.ColumnEdge]:
    """Which feature of its source each windowed feature aggregates."""
    source = group_entity(group.source)
    for feature in group.features:
        yield lineage.ColumnEdge(
            source,
            feature.of or group.by,
            feature.name,
            subtype="AGGREGATION",
            description=f"{feature.aggregation} over {feature.over}",
        )


def record_dataset(
    graph: lineage.Graph,
    manifest: Mapping[str, Any],
    resolved: Sequence[Resolved],
    *,
    spine_name: str,
    rebuilt: bool = False,
) -> str:
    """Record a dataset build with everything it read; return the dataset's uid.

    Args:
        graph: where to record.
        manifest: of what was built.
        resolved: what it was built from.
        spine_name: names the spine; "": its digest does.
        rebuilt: whether it was built again from its manifest.
    """
    digest = str(manifest["spine_digest"])
    spine = lineage.artifact(
        "Spine",
        _spine_uri(spine_name, digest),
        content_hash=digest,
        name=Path(spine_name).name if spine_name else f"spine {digest[:12]}",
        properties={"rows": manifest["rows"], "time": manifest["time"]},
    )
    with (
        _explained(),
        lineage.Recorder(
            graph,
            "DatasetBuild",
            f"dataset-{manifest['fingerprint'][:12]}",
            kind=lineage.Kind.ACTION,
            parameters={
                "selections": manifest["selections"],
                "as_of": manifest["as_of"],
                "rule_version": manifest["rule_version"],
            },
            properties={"rebuilt": rebuilt},
        ) as job,
    ):
        job.input(spine)
        _read(job, resolved)
        job.property("proof", manifest["proof"])
        made = job.output(dataset_entity(manifest))
        job.columns(made, _columns(manifest, spine))
        return made.uid


def record_builder(
    graph: lineage.Graph, manifest: Mapping[str, Any], resolved: Sequence[Resolved]
) -> str:
    """Record what a `DatasetBuilder` built with everything it read; return the dataset's uid.

    Args:
        graph: where to record.
        manifest: see `featurestore.builder.BuiltDataset`.
        resolved: the groups it was built from.
    """
    fingerprint = str(manifest["fingerprint"])
    digest = manifest["base_digest"]
    base = group_entity(str(manifest["builder"]["base"]))
    with (
        _explained(),
        lineage.Recorder(
            graph,
            "DatasetBuild",
            f"dataset-{fingerprint[:12]}",
            kind=lineage.Kind.ACTION,
            parameters={"builder": manifest["builder"]},
        ) as job,
    ):
        if digest is not None:
            uri, name = f"spine:{digest}", f"spine {digest[:12]}"
            base = job.input(lineage.artifact("Spine", uri, content_hash=digest, name=name))
        _read(job, resolved)
        made = lineage.artifact(
            "DataSet",
            f"dataset:{fingerprint}",
            content_hash=fingerprint,
            name=f"dataset {fingerprint[:12]}",
            properties={
                "fingerprint": fingerprint,
                "rows": manifest["rows"],
                "versions": dict(manifest["versions"]),
                "features": {n: o for n, o in manifest["columns"].items() if o != "base"},
            },
        )
        made = job.output(made)
        job.columns(made, _built(manifest, base, resolved))
        return made.uid


def _built(
    manifest: Mapping[str, Any], base: lineage.Entity, resolved: Sequence[Resolved]
) -> Iterator[lineage.ColumnEdge]:
    """Which column of what each column of a builder's dataset is, and what rows were joined by."""
    for output, origin in manifest["columns"].items():
        group, _, feature = origin.partition(".")
        source = base if origin == "base" else group_entity(group)
        yield lineage.ColumnEdge(source, feature or output, output, subtype="IDENTITY")
    options = manifest["builder"]
    identifiers = {entry.group.name: entry.group.record_identifier for entry in resolved}
    own = options["identifier"] or identifiers.get(str(options["base"]), "")
    for joined in options["joined"]:
        how = f"{joined['comparator']} of {joined['group']}"
        yield lineage.ColumnEdge(base, joined["target"] or own, "", "INDIRECT", "JOIN", how)
        compared = joined["feature"] or identifiers[joined["group"]]
        other = group_entity(joined["group"])
        yield lineage.ColumnEdge(other, compared, "", "INDIRECT", "JOIN", how)


def _columns(manifest: Mapping[str, Any], spine: lineage.Entity) -> Iterator[lineage.ColumnEdge]:
    """Which column of what each column of a dataset is, as the join had it."""
    for output, origin in manifest["columns"].items():
        if origin == "spine":
            yield lineage.ColumnEdge(spine, output, output, subtype="IDENTITY")
    for selection in manifest["selections"]:
        group = group_entity(selection["group"])
        for feature, output in selection["features"].items():
            yield lineage.ColumnEdge(group, feature, output, subtype="IDENTITY")
        # Key and time say which value is seen in which row, of every column.
        key = selection["key"]
        if key:
            yield lineage.ColumnEdge(spine, key, "", "INDIRECT", "JOIN", f"key of {group.name}")
    yield lineage.ColumnEdge(spine, manifest["time"], "", "INDIRECT", "JOIN", "as of this time")


def record_table_version(job: lineage.Recorder, group: str, snapshot: Snapshot) -> None:
    """Name a version of a group's offline table as an input of a job."""
    version = job.input(_table_version(group, snapshot))
    job.associate(group_entity(group), version, "AssociatedWith")


def _read(job: lineage.Recorder, resolved: Sequence[Resolved]) -> None:
    """Name the table versions that a build read."""
    for entry in resolved:
        group = group_entity(entry.table_group)
        if entry.windows is not None:
            job.input(group_entity(entry.group.name))
        if entry.snapshot is None:
            job.input(group)
            continue
        record_table_version(job, entry.table_group, entry.snapshot)


@contextmanager
def _explained() -> Iterator[None]:
    """Raise the feature store's own error when its lineage cannot be recorded: callers know it."""
    try:
        yield
    except lineage.StoreUnavailable as error:
        full = is_disk_full(error.__cause__)
        raise (StoreFull if full else StoreUnavailable)(str(error)) from error


def _spine_uri(name: str, digest: str) -> str:
    if not name:
        return f"spine:{digest}"
    path = Path(name)
    return path.absolute().as_uri() if path.suffix else f"spine:{name}"


def _table_version(name: str, snapshot: Snapshot) -> lineage.Entity:
    return lineage.artifact(
        "FeatureGroupVersion",
        snapshot.uri,
        content_hash=snapshot.content_hash,
        name=f"{name}@{snapshot.version}",
        # Delta counts from 0, lineage from 1. Said here, an older table version that is read later
        # is not taken for a new one.
        version=snapshot.version + 1,
        properties={"table_version": snapshot.version, "files": len(snapshot.files)},
    )
