"""Follows a record into tables, datasets and models, and a dataset back to its records."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import lineage
from featurestore import eventtime
from featurestore.check import find_rows, history_of
from featurestore.convert import ARROW_TYPES
from featurestore.dataset import Resolved
from featurestore.errors import DatasetNotFound, FeatureGroupNotFound, InvalidRequest
from featurestore.feature import FeatureType
from featurestore.impact.report import DatasetHit, Downstream, HeldRow, ImpactReport
from featurestore.offline.delta import DeltaOfflineTable
from featurestore.offline.holding import rows_held
from featurestore.pointintime import spine_keys, spine_times
from featurestore.provenance import dataset_entity
from featurestore.record import identifier_text
from featurestore.registry import Registered
from featurestore.saved import SavedDataset, SavedDatasets
from featurestore.window import WindowedGroup

__all__ = ["Tracer"]

_SCHEMA: Final = pa.schema(
    [
        ("dataset", pa.string()),
        ("feature_group", pa.string()),
        ("record_identifier", pa.string()),
        ("event_time", pa.timestamp("us", "UTC")),
        ("rows", pa.int64()),
    ]
)
_PARSE: Final[dict[FeatureType, Callable[[str], Any]]] = {
    FeatureType.INTEGRAL: int,
    FeatureType.FRACTIONAL: float,
}


@final
class Tracer:
    """Answers for one home, from its tables, its saved datasets and its lineage.

    Args:
        group: finds a feature group by name.
        table: opens a group's table.
        saved: the saved datasets.
        resolve: finds what a dataset's manifest names, at the versions it names.
        graph: the lineage graph.
    """

    def __init__(
        self,
        group: Callable[[str], Registered],
        table: Callable[[Registered], DeltaOfflineTable],
        saved: SavedDatasets,
        resolve: Callable[[Mapping[str, Any]], list[Resolved]],
        graph: Any,
    ) -> None:
        self._group = group
        self._table = table
        self._saved = saved
        self._resolve = resolve
        self._graph = graph

    def impact(
        self,
        group: str,
        identifier: object,
        event_time: dt.datetime | None = None,
        *,
        until: dt.datetime | None = None,
    ) -> ImpactReport:
        """Say where a record is kept, which datasets have it, and what was made of those.

        Saved datasets are looked into row by row, at the table versions they were built from. Of
        others it is known only that they read a version with the record.

        Args:
            group: the feature group.
            identifier: of the record, or its text.
            event_time: of the record; None: every record of the identifier.
            until: of the last record, the first being of `event_time`; None: one record.

        Raises:
            FeatureGroupNotFound: no such group.
            InvalidRequest: it has no offline store, the identifier is none, a time has no zone,
                or the last comes before the first.
            StoreUnavailable: the table cannot be read.
        """
        entry = self._group(group)
        if not entry.group.offline:
            raise InvalidRequest(f"{group}: the group has no offline store, and no history")
        kind = entry.group.types[entry.group.record_identifier]
        parse = _PARSE.get(kind, str)
        if isinstance(identifier, str) and parse is not str:
            try:
                identifier = parse(identifier)
            except ValueError:
                raise InvalidRequest(
                    f"{group}: expected a record identifier of type {kind.value}, got "
                    f"{identifier!r}"
                ) from None
        text = identifier_text(entry.group, identifier)
        first = _moment(group, "event_time", event_time)
        last = first if until is None else _moment(group, "until", until)
        if until is not None and (first is None or last is None or last < first):
            raise InvalidRequest(
                f"{group}: until: expected a time at or after event_time, got {until} and "
                f"{event_time}"
            )
        key = parse(text)
        table = self._table(entry)
        rows = rows_held(
            table,
            entry.group.record_identifier,
            ARROW_TYPES[kind],
            key,
            first_us=first,
            last_us=last,
        )
        datasets = self._datasets(entry, table.uri, key, {row.event_time_us for row in rows}, rows)
        return ImpactReport(
            group,
            text,
            event_time,
            until,
            tuple(
                HeldRow(
                    eventtime.to_datetime(row.event_time_us),
                    eventtime.to_datetime(row.write_time_us),
                    row.is_deleted,
                    row.versions,
                    row.files,
                )
                for row in rows
            ),
            datasets,
            self._downstream(datasets),
        )

    def records_behind(self, start: str) -> Iterator[pa.Table]:
        """Name the records whose values are in what comes from saved datasets.

        Args:
            start: uid of a model, a job, a dataset: whatever datasets lead to.

        Yields:
            for each dataset and group a table of `dataset` (its fingerprint), `feature_group`,
            `record_identifier`, `event_time`, and in how many `rows` it is. Windowed features are
            left out: they are made of every event in their window.

        Raises:
            InvalidRequest: the graph has no such entity.

        Cost: reads each table version once.
        """
        try:
            found = self._graph.query(start, "ascendants", types=["DataSet"], include_edges=False)
        except lineage.EntityNotFound as error:
            raise InvalidRequest(f"lineage: {error}") from error
        for entity in found:
            fingerprint = entity.properties.get("fingerprint")
            if not isinstance(fingerprint, str):
                continue
            try:
                saved = self._saved.find(fingerprint)
            except DatasetNotFound:
                continue
            for selection, resolved in self._selections(saved):
                if resolved.windows is None:
                    yield self._behind(saved, selection, resolved)

    def _behind(
        self, saved: SavedDataset, selection: Mapping[str, Any], resolved: Resolved
    ) -> pa.Table:
        history, found, _, _ = self._matched(saved, selection, resolved)
        place, rows = np.unique(found[found >= 0], return_counts=True)
        taken = (
            _SCHEMA.empty_table() if history is None else history["_table"].take(pa.array(place))
        )
        identifiers = taken[
            resolved.group.record_identifier if history is not None else "record_identifier"
        ].to_pylist()
        times = taken["_event_time" if history is not None else "event_time"]
        return pa.table(
            [
                pa.array([saved.fingerprint] * len(place), pa.string()),
                pa.array([resolved.table_group] * len(place), pa.string()),
                pa.array([identifier_text(resolved.group, one) for one in identifiers]),
                times.cast(pa.timestamp("us", "UTC")),
                pa.array(rows, pa.int64()),
            ],
            schema=_SCHEMA,
        )

    def _datasets(
        self,
        entry: Registered,
        uri: str,
        key: Any,
        times: set[int],
        rows: list[Any],
    ) -> tuple[DatasetHit, ...]:
        """The saved datasets with the record, then those that read a version with it."""
        certain: list[DatasetHit] = []
        examined: set[str] = set()
        if times:
            for saved in self._saved.list():
                count = self._count(saved, entry, key, times)
                if count is None:
                    continue
                uid = lineage.derived_uid(dataset_entity(saved.manifest))
                examined.add(uid)
                if count:
                    name = f"dataset {saved.fingerprint[:12]}"
                    certain.append(DatasetHit(uid, name, count))
        held = [stretch for row in rows for stretch in row.versions]
        possible: dict[str, DatasetHit] = {}
        for version in self._graph.find(type="FeatureGroupVersion", source_uri=uri) if held else ():
            number = version.properties.get("table_version")
            if not any(first <= number <= last for first, last in held):
                continue
            # What a dataset was made into is not another dataset that read the table.
            for one in self._graph.query(version, "descendants", depth=2, types=["DataSet"]):
                if one.uid not in examined:
                    possible[one.uid] = DatasetHit(one.uid, one.name, None)
        certain.sort(key=lambda hit: (-(hit.rows or 0), hit.uid))
        return (*certain, *(hit for _, hit in sorted(possible.items())))

    def _count(
        self, saved: SavedDataset, entry: Registered, key: Any, times: set[int]
    ) -> int | None:
        """How many rows of a dataset have values of any of the records; None: it cannot be told."""
        if not any(_reads(selection, entry) for selection in saved.manifest["selections"]):
            return 0
        rows: set[int] = set()
        try:
            for selection, resolved in self._selections(saved):
                if not _reads(selection, entry):
                    continue
                history, found, keys, moments = self._matched(saved, selection, resolved)
                own = np.flatnonzero(
                    pc.equal(keys, key).fill_null(False).to_numpy(zero_copy_only=False)
                )
                if resolved.windows is not None:
                    longest = resolved.lookback_us or 0
                    for moment in times:
                        age = moments[own] - moment
                        rows.update(own[(age >= 0) & (age < longest)].tolist())
                elif history is not None:
                    seen = own[found[own] >= 0]
                    hit = np.isin(history["_event_time"][found[seen]], list(times))
                    rows.update(seen[hit].tolist())
        except (InvalidRequest, FeatureGroupNotFound):
            return None  # a vacuum took the version away, or the group is another one by now
        return len(rows)

    def _selections(self, saved: SavedDataset) -> list[tuple[Mapping[str, Any], Resolved]]:
        resolved = self._resolve(saved.manifest)
        return list(zip(saved.manifest["selections"], resolved, strict=True))

    def _matched(
        self, saved: SavedDataset, selection: Mapping[str, Any], resolved: Resolved
    ) -> tuple[dict[str, Any] | None, Any, pa.Array, Any]:
        """The history, the place in it that each row of a dataset sees, and its keys and times."""
        spine = self._saved.spine(saved.manifest)
        times = spine_times(spine, saved.manifest["time"]).cast(pa.int64()).to_numpy()
        group = resolved.group if resolved.windows is None else resolved.windows.source
        keys = spine_keys(spine, selection["key"] or group.record_identifier, resolved.group)
        if resolved.windows is not None:
            return None, np.full(len(keys), -1, np.int64), keys, times
        history = history_of(resolved, {}, saved.manifest["as_of"])
        return history, find_rows(history, keys, times, selection["lookback_us"]), keys, times

    def _downstream(self, datasets: tuple[DatasetHit, ...]) -> tuple[Downstream, ...]:
        own = {hit.uid for hit in datasets}
        found: dict[str, Downstream] = {}
        for hit in datasets:
            try:
                result = self._graph.query(hit.uid, "descendants", include_edges=False)
            except lineage.EntityNotFound:
                continue  # a dataset file that came from another home
            for one in result:
                known = found.get(one.uid)
                certain = hit.is_certain or (known is not None and known.is_certain)
                if one.uid not in own:
                    found[one.uid] = Downstream(one.uid, one.type, one.name, one.state, certain)
        return tuple(
            sorted(found.values(), key=lambda one: (not one.is_certain, one.type, one.name))
        )


def _moment(group: str, name: str, time: dt.datetime | None) -> int | None:
    try:
        return None if time is None else eventtime.to_us(time)
    except ValueError as error:
        raise InvalidRequest(f"{group}: {name}: {error}") from None


def _reads(selection: Mapping[str, Any], entry: Registered) -> bool:
    """Whether a dataset's selection is of a group by its identifiers, or of windows over it."""
    definition = selection.get("windows")
    if definition is None:
        return bool(selection["group"] == entry.group.name)
    windowed = WindowedGroup.from_json(definition)
    return windowed.source == entry.group.name and windowed.by == entry.group.record_identifier
