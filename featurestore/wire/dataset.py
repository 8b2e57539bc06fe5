"""Messages of datasets and offline tables: plans, kept datasets, the builder, history.

Plain functions that both clients and the server share, as `featurestore.wire` has them for records.
"""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, final

import pyarrow as pa
import pyarrow.ipc

from featurestore import eventtime
from featurestore.builder import (
    BuilderOptions,
    BuiltDataset,
    JoinComparatorEnum,
    JoinedGroup,
    JoinTypeEnum,
)
from featurestore.check import CheckReport
from featurestore.dataset import Dataset, FeatureSelection, Keeper
from featurestore.errors import InvalidRequest
from featurestore.offline.history import TableVersion
from featurestore.offline.maintenance import MaintenanceReport
from featurestore.plan import DatasetPlan, GroupPlan
from featurestore.saved import SavedDataset
from featurestore.v1 import control_pb2, dataset_pb2, offline_pb2
from featurestore.window import WindowedGroup
from featurestore.wire.offline import CHUNK_BYTES, selection_message, set_moment

__all__ = ["batches_from", "chunks_of", "dataset_from", "dataset_spec"]

_ROWS: Final = 16_384
_SPEC: Final = dataset_pb2.DatasetBuilderSpec
_TYPES: Final = {
    JoinTypeEnum.INNER_JOIN: _SPEC.INNER_JOIN,
    JoinTypeEnum.LEFT_JOIN: _SPEC.LEFT_JOIN,
    JoinTypeEnum.RIGHT_JOIN: _SPEC.RIGHT_JOIN,
    JoinTypeEnum.FULL_JOIN: _SPEC.FULL_JOIN,
    JoinTypeEnum.CROSS_JOIN: _SPEC.CROSS_JOIN,
}
_FROM_TYPES: Final[dict[int, JoinTypeEnum]] = {
    **{number: kind for kind, number in _TYPES.items()},
    _SPEC.JOIN_TYPE_UNSPECIFIED: JoinTypeEnum.INNER_JOIN,
}
_COMPARATORS: Final = {
    JoinComparatorEnum.EQUALS: _SPEC.EQUAL_TO,
    JoinComparatorEnum.GREATER_THAN: _SPEC.GREATER_THAN_VALUE,
    JoinComparatorEnum.GREATER_THAN_OR_EQUAL_TO: _SPEC.AT_LEAST,
    JoinComparatorEnum.LESS_THAN: _SPEC.LESS_THAN_VALUE,
    JoinComparatorEnum.LESS_THAN_OR_EQUAL_TO: _SPEC.AT_MOST,
    JoinComparatorEnum.NOT_EQUAL_TO: _SPEC.NOT_EQUAL_TO,
}
_FROM_COMPARATORS: Final[dict[int, JoinComparatorEnum]] = {
    **{number: sign for sign, number in _COMPARATORS.items()},
    _SPEC.JOIN_COMPARATOR_UNSPECIFIED: JoinComparatorEnum.EQUALS,
}
# What a manifest must have, and of which type, before anything is read by it.
_MANIFEST: Final[dict[str, type | tuple[type, ...]]] = {
    "fingerprint": str,
    "rule_version": int,
    "spine_digest": str,
    "rows_digest": str,
    "time": str,
    "as_of": (str, type(None)),
    "selections": list,
    "rows": int,
    "versions": dict,
    "tables": dict,
    "keys": list,
    "columns": dict,
}
_SELECTION: Final[dict[str, type | tuple[type, ...]]] = {
    "group": str,
    "features": dict,
    "key": str,
    "prefix": (str, type(None)),
    "lookback_us": (int, type(None)),
}


# -- rows -------------------------------------------------------------------------------------


def chunks_of(rows: pa.Table | pa.RecordBatchReader) -> Iterator[bytes]:
    """Write rows as the bytes of one Arrow IPC stream, in pieces of a bounded size.

    A reader is read as the pieces are asked for.
    """
    reader = rows.to_reader(_ROWS) if isinstance(rows, pa.Table) else rows
    sink = _Pieces()
    with pa.ipc.new_stream(pa.PythonFile(sink, "w"), reader.schema) as writer:
        for batch in reader:
            for start in range(0, max(len(batch), 1), _ROWS):
                writer.write_batch(batch.slice(start, _ROWS))
                yield from sink.full()
    yield from sink.rest()


def batches_from(chunks: Iterable[bytes], where: str) -> pa.RecordBatchReader:
    """Read the bytes of one Arrow IPC stream as they come in.

    Raises:
        InvalidRequest: the first bytes are no such stream; later ones raise it when they are read.
    """
    source = pa.PythonFile(_Stream(iter(chunks)), "r")

    def failed(error: Exception) -> InvalidRequest:
        return InvalidRequest(f"{where}: expected one Arrow IPC stream: {error}")

    try:
        reader = pa.ipc.open_stream(source)
    except (pa.ArrowInvalid, OSError) as error:
        raise failed(error) from error

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from reader
        except (pa.ArrowInvalid, OSError) as error:
            raise failed(error) from error

    return pa.RecordBatchReader.from_batches(reader.schema, batches())


def mapped(path: Path, where: str) -> pa.RecordBatchReader:
    """Read a file with the bytes of one Arrow IPC stream without holding them in memory.

    Raises:
        InvalidRequest: it is none; a fault further on raises it when it is read.
    """

    def failed(error: Exception) -> InvalidRequest:
        return InvalidRequest(f"{where}: expected one Arrow IPC stream: {error}")

    try:
        reader = pa.ipc.open_stream(pa.memory_map(str(path)))
    except (pa.ArrowInvalid, OSError) as error:
        raise failed(error) from error

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from reader
        except (pa.ArrowInvalid, OSError) as error:
            raise failed(error) from error

    return pa.RecordBatchReader.from_batches(reader.schema, batches())


@final
class _Pieces(io.RawIOBase):
    """Collects what is written, and hands it out in pieces."""

    def __init__(self) -> None:
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self._held += view
        return view.nbytes

    def full(self) -> Iterator[bytes]:
        start = 0
        while len(self._held) - start >= CHUNK_BYTES:
            yield bytes(self._held[start : start + CHUNK_BYTES])
            start += CHUNK_BYTES
        del self._held[:start]

    def rest(self) -> Iterator[bytes]:
        yield from self.full()
        if self._held:
            yield bytes(self._held)


@final
class _Stream(io.RawIOBase):
    """Reads pieces one after another as one file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._piece = b""
        self._start = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        wanted: list[bytes] = []
        left = size if size >= 0 else 1 << 62
        while left:
            if self._start == len(self._piece):
                piece = next(self._chunks, None)
                if piece is None:
                    break
                self._piece, self._start = piece, 0
                continue
            taken = self._piece[self._start : self._start + left]
            self._start += len(taken)
            left -= len(taken)
            wanted.append(taken)
        return b"".join(wanted)


# -- manifests --------------------------------------------------------------------------------


def read_manifest(text: str) -> dict[str, Any]:
    """Read a dataset's manifest as a client sent it.

    Raises:
        InvalidRequest: it lacks a member, or one has another type.
    """
    try:
        manifest = json.loads(text)
    except ValueError as error:
        raise InvalidRequest(f"manifest_json: expected JSON: {error}") from None
    _check_members("manifest_json", manifest, _MANIFEST)
    for place, selection in enumerate(manifest["selections"]):
        where = f"manifest_json: selections[{place}]"
        _check_members(where, selection, _SELECTION)
        _check_texts(where, selection["features"])
        if selection["group"] not in manifest["versions"]:
            raise InvalidRequest(f"{where}: {selection['group']!r} is not among the versions")
        if selection.get("windows") is not None:
            WindowedGroup.from_json(selection["windows"])
        lookback_us = selection["lookback_us"]
        if lookback_us is not None and not 0 <= lookback_us < 1 << 63:
            raise InvalidRequest(f"{where}: expected a lookback >= 0, got {lookback_us} µs")
    if manifest["as_of"] is not None:
        try:
            eventtime.parse_iso(manifest["as_of"])
        except ValueError as error:
            raise InvalidRequest(f"manifest_json: as_of: {error}") from None
    if manifest.get("part") is not None:
        _check_members("manifest_json: part", manifest["part"], {"fingerprint": str, "parent": str})
    _check_members("manifest_json: lineage", manifest.get("lineage", {}), {})
    _check_texts("manifest_json: columns", manifest["columns"])
    for name, version in manifest["versions"].items():
        if not isinstance(version, int | None):
            raise InvalidRequest(f"manifest_json: versions: {name}: expected a number or null")
        if version is not None:
            _check_members(
                f"manifest_json: tables: {name}",
                manifest["tables"].get(name),
                {"uri": str, "version": int, "content_hash": str},
            )
    return dict(manifest)


def manifest_features(
    manifest: Mapping[str, Any], windowed: Mapping[str, WindowedGroup]
) -> dict[str, tuple[str, ...]]:
    """Return the features that a dataset was made of, by the members its digest covers.

    Args:
        manifest: of the dataset, read by `read_manifest`.
        windowed: the windowed groups that there are. Who made them was allowed to; where a manifest
            has another definition, the features that it aggregates are returned as well.

    Returns:
        Group → names.
    """
    found: dict[str, dict[str, None]] = {}
    for selection in manifest["selections"]:
        found.setdefault(selection["group"], {}).update(dict.fromkeys(selection["features"]))
        if selection.get("windows") is None:
            continue
        defined = WindowedGroup.from_json(selection["windows"])
        if windowed.get(selection["group"]) != defined:
            inputs = (defined.by, *(one.of for one in defined.features if one.of is not None))
            found.setdefault(defined.source, {}).update(dict.fromkeys(inputs))
    return {group: tuple(features) for group, features in found.items()}


def dataset_from(manifest: str, rows: pa.Table, keeper: Keeper | None) -> Dataset:
    """Make the value of a dataset that came over the wire."""
    return Dataset(rows, json.loads(manifest), keeper)


def _check_members(where: str, found: Any, expected: Mapping[str, type | tuple[type, ...]]) -> None:
    if not isinstance(found, dict):
        raise InvalidRequest(f"{where}: expected an object, got {type(found).__name__}")
    for name, kind in expected.items():
        if name not in found or not isinstance(found[name], kind):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            names = " or ".join("null" if one is type(None) else one.__name__ for one in kinds)
            raise InvalidRequest(
                f"{where}: expected {name!r} of type {names}, "
                f"got {type(found[name]).__name__ if name in found else 'none'}"
            )


def _check_texts(where: str, found: Mapping[str, Any]) -> None:
    for name, value in found.items():
        if not isinstance(value, str):
            raise InvalidRequest(f"{where}: {name}: expected text, got {type(value).__name__}")


# -- requests and replies of datasets ---------------------------------------------------------


def dataset_spec(
    features: Sequence[FeatureSelection],
    time: str,
    *,
    as_of_us: int | None = None,
    spine_name: str = "",
    memory: int = 0,
) -> control_pb2.DatasetSpec:
    """Write what a dataset is built from, but for its spine."""
    spec = control_pb2.DatasetSpec(time_column=time, spine_name=spine_name, memory_bytes=memory)
    set_moment(spec.as_of, as_of_us)
    spec.selections.extend(map(selection_message, features))
    return spec


def build_requests(spec: Any, chunks: Iterable[bytes]) -> Iterator[control_pb2.BuildDatasetRequest]:
    """Write the requests of a build: the spec, then the spine."""
    yield control_pb2.BuildDatasetRequest(spec=spec)
    for chunk in chunks:
        yield control_pb2.BuildDatasetRequest(spine=chunk)


def plan_message(plan: DatasetPlan) -> dataset_pb2.ExplainDatasetResponse:
    """Write a plan."""
    groups = [asdict(group) for group in plan.groups]
    for body in groups:
        body["feature_group_name"] = body.pop("group")
    whole = {**asdict(plan), "groups": [dataset_pb2.GroupPlan(**body) for body in groups]}
    return dataset_pb2.ExplainDatasetResponse(**whole)


def plan_from(message: Any) -> DatasetPlan:
    """Read a plan."""
    groups = []
    for group in message.groups:
        body = _values(group)
        body["group"] = body.pop("feature_group_name")
        body["columns_read"] = tuple(body["columns_read"])
        groups.append(GroupPlan(**body))
    return DatasetPlan(**{**_values(message), "groups": tuple(groups)})


def saved_message(saved: SavedDataset, statistics: Mapping[str, Any]) -> dataset_pb2.SavedDataset:
    """Write a kept dataset, with these statistics of its columns."""
    message = dataset_pb2.SavedDataset(
        fingerprint=saved.fingerprint,
        manifest_json=json.dumps(saved.manifest),
        statistics_json=json.dumps(statistics),
        size_bytes=saved.size_bytes,
        path=str(saved.path),
    )
    message.saved.FromDatetime(saved.saved)
    return message


def saved_from(message: Any) -> SavedDataset:
    """Read a kept dataset."""
    return SavedDataset(
        message.fingerprint,
        Path(message.path),
        json.loads(message.manifest_json),
        json.loads(message.statistics_json),
        message.saved.ToDatetime(dt.UTC),
        message.size_bytes,
    )


def save_requests(dataset: Dataset) -> Iterator[dataset_pb2.SaveDatasetRequest]:
    """Write a dataset to be kept."""
    yield dataset_pb2.SaveDatasetRequest(manifest_json=json.dumps(dict(dataset.manifest)))
    for chunk in chunks_of(dataset.table):
        yield dataset_pb2.SaveDatasetRequest(rows=chunk)


def check_requests(
    dataset: Dataset, rows: int | None, seed: int
) -> Iterator[dataset_pb2.CheckDatasetRequest]:
    """Write a dataset to be checked."""
    spec = dataset_pb2.CheckDatasetRequest.Spec(
        manifest_json=json.dumps(dict(dataset.manifest)), rows=rows, seed=seed
    )
    yield dataset_pb2.CheckDatasetRequest(spec=spec)
    for chunk in chunks_of(dataset.table):
        yield dataset_pb2.CheckDatasetRequest(rows=chunk)


def check_message(report: CheckReport) -> dataset_pb2.CheckDatasetResponse:
    """Write the result of a check."""
    return dataset_pb2.CheckDatasetResponse(**asdict(report))


def check_from(message: Any) -> CheckReport:
    """Read the result of a check."""
    return CheckReport(**{**_values(message), "examples": tuple(message.examples)})


# -- the builder ------------------------------------------------------------------------------


def builder_requests(
    options: BuilderOptions, rows: pa.Table | None
) -> Iterator[dataset_pb2.CreateDatasetRequest]:
    """Write a builder's options, then the rows of its base."""
    spec = _SPEC(
        point_in_time_accurate_join=options.point_in_time,
        include_duplicated_records=options.duplicated,
        include_deleted_records=options.deleted,
        number_of_recent_records=options.recent,
        number_of_records=options.records,
        as_of_us=options.as_of_us,
        starting_us=options.start_us,
        ending_us=options.end_us,
        joined=[
            _SPEC.Joined(
                feature_group_name=joined.group,
                feature_names=joined.included,
                target_feature_name_in_base=joined.target or "",
                feature_name_in_target=joined.feature or "",
                join_comparator=_COMPARATORS[joined.comparator],
                join_type=_TYPES[joined.type],
            )
            for joined in options.joined
        ],
    )
    if options.base is not None:
        spec.feature_group.feature_group_name = options.base
        spec.feature_group.feature_names.extend(options.included)
    else:
        spec.rows.record_identifier_name = options.identifier or ""
        spec.rows.event_time_name = options.time or ""
        spec.rows.column_names.extend(options.included)
    yield dataset_pb2.CreateDatasetRequest(spec=spec)
    if rows is not None:
        for chunk in chunks_of(rows):
            yield dataset_pb2.CreateDatasetRequest(base=chunk)


def options_from(spec: Any) -> BuilderOptions:
    """Read a builder's options.

    Raises:
        InvalidRequest: no base, or an unknown join or comparator.
    """
    kind = spec.WhichOneof("base")
    if kind is None:
        raise InvalidRequest("create_dataset: expected a feature group or rows as the base")
    base: dict[str, Any] = {
        "base": spec.feature_group.feature_group_name,
        "included": tuple(spec.feature_group.feature_names),
    }
    if kind == "rows":
        base = {
            "identifier": spec.rows.record_identifier_name or None,
            "time": spec.rows.event_time_name or None,
            "included": tuple(spec.rows.column_names),
        }

    def number(name: str) -> int | None:
        return int(getattr(spec, name)) if spec.HasField(name) else None

    return BuilderOptions(
        **base,
        joined=tuple(map(_joined_from, spec.joined)),
        point_in_time=spec.point_in_time_accurate_join,
        duplicated=spec.include_duplicated_records,
        deleted=spec.include_deleted_records,
        recent=number("number_of_recent_records"),
        records=number("number_of_records"),
        as_of_us=number("as_of_us"),
        start_us=number("starting_us"),
        end_us=number("ending_us"),
    )


def _joined_from(message: Any) -> JoinedGroup:
    kind = _FROM_TYPES.get(message.join_type)
    comparator = _FROM_COMPARATORS.get(message.join_comparator)
    if kind is None or comparator is None:
        raise InvalidRequest(
            f"create_dataset: {message.feature_group_name}: unknown join_type or join_comparator, "
            f"got {message.join_type} and {message.join_comparator}"
        )
    return JoinedGroup(
        message.feature_group_name,
        message.target_feature_name_in_base or None,
        tuple(message.feature_names),
        message.feature_name_in_target or None,
        comparator,
        kind,
    )


def built_message(built: BuiltDataset) -> dataset_pb2.CreateDatasetResponse:
    """Write what a builder made, but for the rows."""
    return dataset_pb2.CreateDatasetResponse(
        built=dataset_pb2.CreateDatasetResponse.Built(
            query=built.query, manifest_json=json.dumps(dict(built.manifest))
        )
    )


# -- offline tables ---------------------------------------------------------------------------


def maintain_request(
    group: str, retention: dt.timedelta, *, zorder: bool
) -> offline_pb2.MaintainRequest:
    """Write what a maintenance shall do."""
    return offline_pb2.MaintainRequest(
        feature_group_name=group,
        retention_us=retention // dt.timedelta(microseconds=1),
        zorder=zorder,
    )


def maintenance_message(report: MaintenanceReport) -> offline_pb2.MaintainResponse:
    """Write what a maintenance did."""
    body = report.to_json()
    body["feature_group_name"] = body.pop("group")
    return offline_pb2.MaintainResponse(**body)


def maintenance_from(message: Any) -> MaintenanceReport:
    """Read what a maintenance did."""
    body = _values(message)
    body["group"] = body.pop("feature_group_name")
    return MaintenanceReport(**body)


def history_request(
    group: str, version: int | None, as_of_us: int | None, features: Sequence[str]
) -> offline_pb2.ReadHistoryRequest:
    """Write what to read of a group's table."""
    request = offline_pb2.ReadHistoryRequest(
        feature_group_name=group, feature_names=features, version=version
    )
    set_moment(request.as_of, as_of_us)
    return request


def versions_message(versions: Iterable[TableVersion]) -> offline_pb2.ListTableVersionsResponse:
    """Write the versions of a table."""
    response = offline_pb2.ListTableVersionsResponse()
    for one in versions:
        message = response.versions.add(
            version=one.version, operation=one.operation, files=one.files
        )
        message.time.FromDatetime(one.time)
    return response


def versions_from(message: Any) -> list[TableVersion]:
    """Read the versions of a table."""
    return [
        TableVersion(
            one.version,
            one.time.ToDatetime(dt.UTC),
            one.operation,
            one.files if one.HasField("files") else None,
        )
        for one in message.versions
    ]


def _values(message: Any) -> dict[str, Any]:
    """Read a message's fields by name; an optional one that is unset is None."""
    return {
        field.name: None
        if field.has_presence and not message.HasField(field.name)
        else getattr(message, field.name)
        for field in message.DESCRIPTOR.fields
    }
