"""Erasure of identifiers from an offline table: from every version, the log and the cache.

The rows leave the newest version by a commit. Then every data file that held one is deleted, of
whatever version it was: a version that needs such a file cannot be read any more, and no other
version is touched. Last the log is cleaned: statistics of files that are not there any more may
tell an identifier, and so does the condition of the commit. A log entry keeps its place, its
files and its counts; only these texts go.

All of it may be done twice. The caller holds off the flusher and other maintenance.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, final
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pa_fs
import pyarrow.parquet as pq
from deltalake import CommitProperties
from deltalake.exceptions import CommitFailedError, DeltaError

from featurestore import eventtime
from featurestore.feature import FeatureType
from featurestore.offline.delta import DeltaOfflineTable

__all__ = ["OfflinePlan", "Target", "clean_log", "delete_files", "delete_rows", "look"]

_TRIES: Final = 5
_LOG: Final = "_delta_log"
_COMMIT: Final = re.compile(r"(\d{20})\.json\Z")
_CHECKPOINT: Final = re.compile(r"(\d{20})\.checkpoint(\..*)?\.parquet\Z")
_LEFT_S: Final = 3600.0  # a younger part may be a file that is being written
_MARK: Final = "featurelineErasure"
_CLEANED: Final = "erased"
_ARROW: Final = {
    FeatureType.INTEGRAL: pa.int64(),
    FeatureType.FRACTIONAL: pa.float64(),
    FeatureType.STRING: pa.string(),
}


@final
@dataclass(frozen=True, slots=True)
class Target:
    """What is erased from a table.

    Args:
        column: of the record identifier.
        kind: its type.
        identifiers: as texts.
        through_us: rows with an event time at or before it, for each identifier.
    """

    column: str
    kind: FeatureType
    identifiers: tuple[str, ...]
    through_us: tuple[int, ...]

    @property
    def values(self) -> list[Any]:
        """The identifiers in their type."""
        types: dict[FeatureType, Callable[[str], Any]] = {
            FeatureType.INTEGRAL: int,
            FeatureType.FRACTIONAL: float,
        }
        return [types.get(self.kind, str)(text) for text in self.identifiers]


@final
@dataclass(frozen=True)
class OfflinePlan:
    """What an erasure finds in a table.

    Args:
        rows: of the newest version, for each identifier.
        files: data files with such rows, of any version or of none, as paths in the table.
        held: first and last number of the versions, in stretches, that had such a file.
        unreadable: how many files could not be looked into: what killed writers left.
    """

    rows: tuple[int, ...] = ()
    files: tuple[str, ...] = ()
    held: tuple[tuple[int, int], ...] = ()
    unreadable: int = 0

    def merged(self, earlier: OfflinePlan) -> OfflinePlan:
        """Return what this look and an earlier one, before a kill, have found together."""
        if not earlier.rows:
            return self
        return replace(
            self,
            rows=tuple(map(max, self.rows or (0,) * len(earlier.rows), earlier.rows)),
            files=tuple(sorted({*self.files, *earlier.files})),
            held=stretches(
                {
                    version
                    for first, last in (*self.held, *earlier.held)
                    for version in range(first, last + 1)
                }
            ),
        )


def look(table: DeltaOfflineTable, target: Target) -> OfflinePlan:
    """Find the rows, files and versions that an erasure concerns.

    Raises:
        StoreUnavailable: the table cannot be read.

    Cost: the statistics of every data file there is; the identifiers of those whose range fits.
    """
    try:
        opened = table.open()
        if opened is None:
            return OfflinePlan((0,) * len(target.identifiers))
        system = table.folder()
        active = set(table.names(opened))
        rows = [0] * len(target.identifiers)
        files: list[str] = []
        unreadable = 0
        for name in sorted(table.present() | active):
            try:
                counts = _counts(system, name, target)
            except (pa.ArrowInvalid, FileNotFoundError):
                if name in active:
                    raise
                unreadable += 1
                continue
            if any(counts):
                files.append(name)
                if name in active:
                    rows = [a + b for a, b in zip(rows, counts, strict=True)]
        held = _held(system, int(opened.version()), set(files)) if files else ()
        return OfflinePlan(tuple(rows), tuple(files), held, unreadable + len(_leftovers(table)))
    except (DeltaError, OSError, pa.ArrowInvalid) as error:
        raise table.failure(error) from error


def delete_rows(table: DeltaOfflineTable, target: Target, *, erasure: str) -> int | None:
    """Take the rows out of the newest version, if it has any; return the newest version.

    Raises:
        StoreUnavailable, StoreFull: the commit failed; the table is as it was.
    """
    properties = CommitProperties(custom_metadata={_MARK: erasure})
    try:
        for attempt in range(1, _TRIES + 1):
            opened = table.open()
            if opened is None:
                return None
            system = table.folder()
            if not any(any(_counts(system, name, target)) for name in table.names(opened)):
                break
            try:
                opened.delete(_condition(target), commit_properties=properties)
            except CommitFailedError:
                if attempt == _TRIES:
                    raise
                time.sleep(0.05 * 2**attempt)
        opened = table.open()
        return None if opened is None else int(opened.version())
    except (DeltaError, OSError) as error:
        raise table.failure(error) from error


def delete_files(table: DeltaOfflineTable, files: Iterable[str]) -> int:
    """Delete data files, also from the cache; return how many were there.

    And what writers left that were killed more than an hour ago.

    Raises:
        StoreUnavailable: one cannot be deleted.
    """
    names = list(files)
    deleted = 0
    try:
        system = table.folder()
        table.forget(names)
        for info in system.get_file_info(names) if names else ():
            if info.type == pa_fs.FileType.File:
                system.delete_file(info.path)
                deleted += 1
        for part in _leftovers(table):
            if part.stat().st_mtime < time.time() - _LEFT_S:
                part.unlink()
    except OSError as error:
        raise table.failure(error) from error
    if table.is_local:
        for folder in {os.path.dirname(name) for name in names}:
            with contextlib.suppress(OSError):  # it is not empty
                os.rmdir(Path(table.uri, folder))
    return deleted


def clean_log(table: DeltaOfflineTable) -> int:
    """Take out of the log what may tell an identifier; return how many of its files changed.

    That is the range of values in files that are gone, and the conditions of erasures.

    Raises:
        StoreUnavailable, StoreFull: the log cannot be read or written.

    Cost: reads every file of the log.
    """
    try:
        if table.open() is None:
            return 0
        system = table.folder()
        present = table.present()
        changed = 0
        for name in _log_files(system):
            base = name.rpartition("/")[2]
            with system.open_input_stream(name) as file:
                data = file.read()
            if _COMMIT.match(base):
                cleaned = _cleaned_commit(data, present)
            elif _CHECKPOINT.match(base):
                cleaned = _cleaned_checkpoint(data, present)
            else:
                continue
            if cleaned is not None:
                _replace(table, system, name, cleaned)
                if _CHECKPOINT.match(base):
                    _note_size(table, system, base, len(cleaned))
                changed += 1
        return changed
    except (DeltaError, OSError, pa.ArrowInvalid) as error:
        raise table.failure(error) from error


# -- rows and files -------------------------------------------------------------------------------


def _condition(target: Target) -> str:
    column = '"' + target.column.replace('"', '""') + '"'
    parts = []
    for value, through in zip(target.values, target.through_us, strict=True):
        literal = "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)
        moment = eventtime.to_datetime(through).strftime("%Y-%m-%dT%H:%M:%S.%f").rjust(26, "0")
        parts.append(
            f"({column} = {literal} AND _event_time <= "
            f"arrow_cast('{moment}', 'Timestamp(Microsecond, Some(\"UTC\"))'))"
        )
    return " OR ".join(parts)


def _counts(system: Any, name: str, target: Target) -> list[int]:
    """Count the rows of one file that are to go, for each identifier."""
    totals = [0] * len(target.identifiers)
    with system.open_input_file(name) as opened, pq.ParquetFile(opened) as file:
        if target.column not in file.schema_arrow.names:
            return totals
        names = [target.column, "_event_time"]
        place = next(
            at for at in range(len(file.schema)) if file.schema.column(at).path == target.column
        )
        for group in range(file.num_row_groups):
            statistics = file.metadata.row_group(group).column(place).statistics
            if not may_have(statistics, target.values):
                continue
            rows = file.read_row_group(group, columns=names)
            # delta-rs writes texts of a kind (string_view) that Arrow cannot compare.
            found = rows[target.column].cast(_ARROW[target.kind])
            times = rows["_event_time"].cast(pa.timestamp("us", "UTC")).cast(pa.int64())
            for at, (value, through) in enumerate(
                zip(target.values, target.through_us, strict=True)
            ):
                covered = pc.and_(pc.equal(found, value), pc.less_equal(times, through))
                totals[at] += int(pc.sum(covered).as_py() or 0)
    return totals


def may_have(statistics: Any, values: Sequence[Any]) -> bool:
    """Whether a part of a file may have one of the values, by its smallest and largest."""
    if statistics is None or not statistics.has_min_max:
        return True
    least, most = statistics.min, statistics.max
    if type(least) is not type(values[0]):
        return True
    return any(least <= value <= most for value in values)


def _leftovers(table: DeltaOfflineTable) -> list[Path]:
    """Return the parts of files that killed writers left: nobody can look into them."""
    if not table.is_local:
        return []
    parts = [
        *(path for path in Path(table.uri).glob("_event_date=*/*") if path.suffix != ".parquet"),
        *(path for path in Path(table.uri, _LOG).glob("*") if path.suffix in (".tmp", ".part")),
        *Path(table.uri, _LOG).glob("*.json#*"),
    ]
    return [path for path in parts if path.is_file()]


# -- the log --------------------------------------------------------------------------------------


def _log_files(system: Any) -> list[str]:
    found = system.get_file_info(pa_fs.FileSelector(_LOG, allow_not_found=True))
    return sorted(info.path for info in found if info.type == pa_fs.FileType.File)


def versions_by_file(system: Any, newest: int, files: set[str]) -> dict[str, set[int]]:
    """Return the versions that have each of the files, as the log tells it.

    Cost: reads the log once.
    """
    since: dict[str, int] = {}
    held: dict[str, set[int]] = {name: set() for name in files}
    first = newest
    for name in _log_files(system):  # in order of versions, a checkpoint before its commit
        base = name.rpartition("/")[2]
        commit, checkpoint = _COMMIT.match(base), _CHECKPOINT.match(base)
        found = commit or checkpoint
        if found is None:
            continue
        version = int(found[1])
        first = min(first, version)
        with system.open_input_stream(name) as file:
            data = file.read()
        actions = _actions(data) if commit else _checkpoint_actions(data)
        for kind, path in actions:
            if path not in files:
                continue
            if kind == "add":
                since.setdefault(path, version)
            elif path in since:
                held[path].update(range(since.pop(path), version))
            elif commit:
                held[path].update(range(first, version))  # it was there before the log begins
    for path, version in since.items():
        held[path].update(range(version, newest + 1))
    return held


def _held(system: Any, newest: int, files: set[str]) -> tuple[tuple[int, int], ...]:
    """Return the versions that have any of the files."""
    return stretches(set().union(*versions_by_file(system, newest, files).values()))


def _actions(data: bytes) -> Iterable[tuple[str, str]]:
    for line in data.splitlines():
        action = json.loads(line) if line.strip() else {}
        for kind in ("add", "remove"):
            if kind in action:
                yield kind, unquote(action[kind]["path"])


def _checkpoint_actions(data: bytes) -> Iterable[tuple[str, str]]:
    # What a checkpoint removes a commit has removed before.
    table = pq.ParquetFile(io.BytesIO(data)).read(columns=["add.path"])
    paths = pc.struct_field(table["add"], "path").drop_null().to_pylist()
    return [("add", unquote(path)) for path in paths]


def stretches(versions: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Put numbers together into stretches.

    >>> stretches([1, 2, 3, 7])
    ((1, 3), (7, 7))
    """
    found: list[tuple[int, int]] = []
    for version in sorted(set(versions)):
        if found and found[-1][1] == version - 1:
            found[-1] = (found[-1][0], version)
        else:
            found.append((version, version))
    return tuple(found)


def _cleaned_commit(data: bytes, present: set[str]) -> bytes | None:
    """Return a commit without what may tell an identifier; None when it tells nothing."""
    changed = False
    lines = []
    for line in data.splitlines():
        action: dict[str, Any] = json.loads(line) if line.strip() else {}
        said = False
        for kind in ("add", "remove"):
            body = action.get(kind)
            if body is None or unquote(body["path"]) in present:
                continue
            cleaned = _cleaned_statistics(body.get("stats"))
            if cleaned is not None:
                body["stats"] = cleaned
                said = True
            if "stats_parsed" in body:
                del body["stats_parsed"]
                said = True
        info = action.get("commitInfo", {})
        asked = info.get("operationParameters", {})
        if _MARK in info and asked.get("predicate", _CLEANED) != _CLEANED:
            asked["predicate"] = _CLEANED
            said = True
        lines.append(json.dumps(action, separators=(",", ":")).encode() if said else line)
        changed |= said
    return b"\n".join(lines) + b"\n" if changed else None


def _cleaned_checkpoint(data: bytes, present: set[str]) -> bytes | None:
    table = pq.read_table(io.BytesIO(data))
    changed = False
    for place, name in enumerate(table.schema.names):
        if name not in ("add", "remove"):
            continue
        column = table.column(place).combine_chunks()
        kept = [entry.name for entry in column.type]
        if "stats" not in kept:
            continue
        paths, statistics = column.field("path").to_pylist(), column.field("stats").to_pylist()
        valid = column.is_valid().to_pylist()
        cleaned = [
            _cleaned_statistics(text) if is_there and unquote(path) not in present else None
            for path, text, is_there in zip(paths, statistics, valid, strict=True)
        ]
        if not any(text is not None for text in cleaned):
            continue
        changed = True
        children = {entry: column.field(entry) for entry in kept}
        children["stats"] = pa.array(
            [new if new is not None else old for new, old in zip(cleaned, statistics, strict=True)],
            column.type.field("stats").type,
        )
        if "stats_parsed" in children:  # a second copy of the same
            parsed = column.type.field("stats_parsed").type
            children["stats_parsed"] = pa.nulls(len(column), parsed)
        rebuilt = pa.StructArray.from_arrays(
            list(children.values()),
            fields=list(column.type),
            mask=pc.invert(column.is_valid()),
        )
        table = table.set_column(place, table.schema.field(place), rebuilt)
    if not changed:
        return None
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _cleaned_statistics(text: str | None) -> str | None:
    """Return a file's statistics without values; None when they have none.

    >>> _cleaned_statistics('{"numRecords":2,"minValues":{"id":"ada"},"maxValues":{"id":"bob"}}')
    '{"numRecords":2}'
    """
    if not text:
        return None
    known: dict[str, Any] = json.loads(text)
    if "minValues" not in known and "maxValues" not in known:
        return None
    return json.dumps({"numRecords": known.get("numRecords")}, separators=(",", ":"))


def _note_size(table: DeltaOfflineTable, system: Any, base: str, size: int) -> None:
    """Let the log's hint at its newest checkpoint name the new size."""
    name = f"{_LOG}/_last_checkpoint"
    (info,) = system.get_file_info([name])
    if info.type != pa_fs.FileType.File:
        return
    with system.open_input_stream(name) as file:
        hint: dict[str, Any] = json.loads(file.read())
    if f"{hint.get('version', -1):020d}.checkpoint.parquet" == base and "sizeInBytes" in hint:
        _replace(table, system, name, json.dumps({**hint, "sizeInBytes": size}).encode())


def _replace(table: DeltaOfflineTable, system: Any, name: str, data: bytes) -> None:
    """Put other bytes into a file of the table, whole or not at all."""
    if not table.is_local:
        with system.open_output_stream(name) as file:
            file.write(data)
        return
    path = Path(table.uri, name)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("wb") as local:
            local.write(data)
            local.flush()
            os.fsync(local.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
