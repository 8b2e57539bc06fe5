"""Feature groups as the input and the output of transform jobs.

offline table at one version ─► latest record of each identifier ─► lines of JSON ─► requests
joined answers ─► rows of features, checked ─► both stores, once under a key of their content
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import pyarrow as pa
import pyarrow.parquet as pq

import lineage
from featurestore.arrowcode import encode_batch
from featurestore.convert import arrow_type
from featurestore.embedded import EmbeddedStore
from featurestore.errors import FeatureStoreError, PositionConflict
from featurestore.latest import latest_versions
from featurestore.position import PartitionPosition, SourcePosition
from featurestore.provenance import record_table_version
from featurestore.schema import FeatureGroup
from training.errors import InvalidData, InvalidJob, nearest
from training.formats.text import to_json
from training.transforms.job import TransformJob, TransformOutput
from training.transforms.pointing import Pointer

__all__ = ["Stored", "check_groups", "store_answers", "write_records"]

_OUTPUT: Final = "SageMakerOutput"
_BATCH: Final = 8192


def check_groups(store: EmbeddedStore, job: TransformJob) -> None:
    """Refuse a job whose feature groups cannot be read or written as it says.

    Raises:
        InvalidJob: there is no such group or feature, or no offline store to read.
    """
    source, output = job.transform_input.feature_group, job.transform_output.feature_group
    try:
        if source is not None and not store.describe_feature_group(source).offline:
            raise InvalidJob(
                f"{source} has no offline store, which a transform job reads", field="FeatureGroup"
            )
        group = None if output is None else store.describe_feature_group(output)
    except FeatureStoreError as error:
        raise InvalidJob(str(error), field="FeatureGroup") from error
    for name in job.transform_output.features:
        if group is not None and name not in group.feature_names:
            raise InvalidJob(
                f"{output} has no feature {name!r}{nearest(name, group.feature_names)}; it has "
                f"{', '.join(group.feature_names)}",
                field="Features",
            )


def write_records(
    store: EmbeddedStore,
    group: str,
    path: Path,
    run: lineage.Recorder,
    *,
    version: int | None,
    spill: Path,
    check: Callable[[], None],
) -> int:
    """Write the latest record of each identifier as lines of JSON, in the order of identifiers.

    Deleted records and those whose time to live has ended are left out, and so are features that a
    record does not have.

    Args:
        store: of the home.
        group: the feature group.
        path: of the file; made, with its folder.
        run: told which table version was read.
        version: Delta version; None: the newest, after a flush.
        spill: a folder for what does not fit into memory.
        check: called now and then; what it raises ends the work.

    Returns:
        how many records were written.

    Raises:
        FeatureGroupNotFound: no such group.
        InvalidRequest: it has no offline store, or there is no such version.
    """
    entry = store.registry.get(group)
    # Refuses a group without an offline store in its own words.
    store.versions(group, limit=1)
    if version is None:
        store.flush(group)
    snapshot = store.offline_table(entry).scan(version=version)
    path.parent.mkdir(parents=True, exist_ok=True)
    now = dt.datetime.now(dt.UTC)
    count = 0
    with path.open("wb") as file:
        if snapshot is None:
            return 0
        record_table_version(run, group, snapshot)
        for batch in latest_versions(entry.group, snapshot.files, snapshot.columns, spill=spill):
            check()
            for row in batch.to_pylist():
                ends = row["_expires_at"]
                if row["is_deleted"] or (ends is not None and ends <= now):
                    continue
                record = {
                    name: row[name]
                    for name in entry.group.feature_names
                    if row.get(name) is not None
                }
                file.write(to_json(record) + b"\n")
                count += 1
    return count


@final
@dataclass(frozen=True)
class Stored:
    """What became of the answers.

    Attributes:
        rows: records under this key.
        key: names them by their content.
        already: whether an earlier job had stored them.
        source: uri of the rows, as lineage knows them.
    """

    rows: int
    key: str
    already: bool
    source: str


def store_answers(
    store: EmbeddedStore,
    output: TransformOutput,
    files: list[tuple[Path, str]],
    staged: Path,
    *,
    check: Callable[[], None] = lambda: None,
) -> Stored:
    """Store joined answers in a feature group, all of them or none, and each once.

    The same records again, from a repeated job, are found by their content and add nothing.

    Args:
        store: of the home.
        output: names the group and its features.
        files: lines of JSON, each with what errors call it.
        staged: where the rows are gathered.
        check: called now and then, until the first record is stored; what it raises ends the work.

    Raises:
        InvalidData: a record does not fit the group; the message has file and record, and nothing
            was stored.
        FeatureGroupNotFound: no such group.
    """
    group = store.describe_feature_group(str(output.feature_group))
    rows = _Rows(group, output)
    digest = hashlib.sha256()
    count = 0
    stores = store.stores
    staged.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(staged, rows.schema) as writer:
        for path, name in files:
            for first, batch in rows.batches(path, name, digest):
                check()
                refused = encode_batch(
                    group, batch, now=stores.now(), tolerance_us=stores.tolerance_us
                ).refused
                if refused:
                    row, error = refused[0]
                    raise InvalidData(f"{name}, record {first + row}: {error}; nothing was stored")
                writer.write_batch(batch)
                count += len(batch)
    key = f"transform:{digest.hexdigest()}"
    source = staged.absolute().parent.as_uri()
    if not count:
        return Stored(0, key, already=False, source=source)
    if group.offline:
        loaded = store.load(group.name, staged, key=key, source=source)
        return Stored(loaded.rows, key, already=loaded.already, source=source)
    position = SourcePosition(key, (PartitionPosition("0", 0, count),))
    try:
        put = store.put_table(group.name, pq.read_table(staged), position=position, source=source)
    except PositionConflict:
        return Stored(count, key, already=True, source=source)
    return Stored(put.rows, key, already=False, source=source)


@final
class _Rows:
    """Makes records of a group from joined answers."""

    def __init__(self, group: FeatureGroup, output: TransformOutput) -> None:
        self._group = group
        self._event_time = output.event_time
        self._paths: Mapping[str, Pointer] = {
            name: Pointer.parse(path, field="Features") for name, path in output.features.items()
        }
        self.schema = pa.schema(
            [(name, arrow_type(group.definitions[name])) for name in group.feature_names]
        )

    def batches(self, path: Path, name: str, digest: Any) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the records of a file, each batch with the number of its first."""
        waiting: list[dict[str, Any]] = []
        number = 0
        with path.open("rb") as file:
            for line in file:
                number += 1
                try:
                    record = self._record(json.loads(line))
                except InvalidData as error:
                    raise InvalidData(f"{name}, record {number}: {error.message}") from error
                digest.update(to_json(record) + b"\n")
                waiting.append(record)
                if len(waiting) == _BATCH:
                    yield number - _BATCH + 1, self._batch(waiting, name, number - _BATCH + 1)
                    waiting = []
        if waiting:
            first = number - len(waiting) + 1
            yield first, self._batch(waiting, name, first)

    def _record(self, joined: dict[str, Any]) -> dict[str, Any]:
        group = self._group
        answer = joined.get(_OUTPUT)
        found: dict[str, Any] = {}
        for feature in group.feature_names:
            if feature in self._paths:
                found[feature] = self._paths[feature].pick(joined)
            elif feature == group.event_time and self._event_time:
                found[feature] = self._event_time
            elif self._paths and feature not in (group.record_identifier, group.event_time):
                found[feature] = None
            elif isinstance(answer, dict) and feature in answer:
                found[feature] = answer[feature]
            else:
                found[feature] = joined.get(feature)
        if self._event_time and group.scalars[group.event_time].value == "Fractional":
            found[group.event_time] = _seconds(self._event_time)
        for feature, hint in (
            (group.record_identifier, "give its path in Features"),
            (group.event_time, "give its path in Features, or set EventTime"),
        ):
            if found[feature] is None:
                raise InvalidData(
                    f"neither the answer nor its input has {feature!r}, which each record of "
                    f"{group.name} needs; {hint}"
                )
        if all(
            found[f] is None for f in found.keys() - {group.record_identifier, group.event_time}
        ):
            raise InvalidData(
                f"no feature of {group.name} but its identifier and event time is found in "
                f"{', '.join(map(repr, joined))}"
                + (f" and the answer's {', '.join(map(repr, answer))}" if answer else "")
                + "; say with Features where the values are, such as score=$.SageMakerOutput.score"
            )
        return found

    def _batch(self, records: list[dict[str, Any]], name: str, first: int) -> pa.RecordBatch:
        arrays = []
        for field in self.schema:
            values = [_fitting(record[field.name], field.type) for record in records]
            try:
                arrays.append(pa.array(values, field.type))
            except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
                row = next(n for n, value in enumerate(values) if not _fits(value, field.type))
                raise InvalidData(
                    f"{name}, record {first + row}: {field.name}: expected {field.type}, got "
                    f"{values[row]!r:.80}; nothing was stored"
                ) from error
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def _fitting(value: Any, kind: pa.DataType) -> Any:
    """Write what is no text as text where a feature is one; JSON has whole numbers as such."""
    if pa.types.is_string(kind) and isinstance(value, int | float) and not isinstance(value, bool):
        return json.dumps(value)
    if pa.types.is_integer(kind) and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _fits(value: Any, kind: pa.DataType) -> bool:
    try:
        pa.array([value], kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
    return True


def _seconds(text: str) -> float:
    try:
        return dt.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError as error:
        raise InvalidData(
            f"EventTime: expected a time such as 2026-01-01T00:00:00Z, got {text!r}"
        ) from error
