"""An independent check of a dataset: the values derived again without the join's engine.

It reads the Delta table's files with pyarrow and looks for each row's version with NumPy, sharing
no code with `featurestore.pointintime` but the rule itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from featurestore import eventtime
from featurestore.dataset import Dataset, Resolved
from featurestore.pointintime import spine_keys, spine_times
from featurestore.window.check import events_by_key, window_value

__all__ = ["CheckReport", "check_dataset"]

MAX_SHOWN: Final = 20


@final
@dataclass(frozen=True, slots=True)
class CheckReport:
    """The result of a check.

    Args:
        rows: rows of the dataset.
        checked: rows whose values were derived again.
        values: single values compared.
        future: wrong values that only a version newer than their row has.
        wrong: values that differ from the derived ones.
        examples: the first of them, in words.
    """

    rows: int
    checked: int
    values: int
    future: int
    wrong: int
    examples: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every checked value is right; a value from the future is a wrong one."""
        return self.wrong == 0

    def to_json(self) -> dict[str, Any]:
        """Write the report as JSON values."""
        return {
            "passed": self.passed,
            "rows": self.rows,
            "checked": self.checked,
            "values": self.values,
            "future": self.future,
            "wrong": self.wrong,
            "examples": list(self.examples),
        }


def check_dataset(
    dataset: Dataset, resolved: list[Resolved], *, rows: int | None = None, seed: int = 0
) -> CheckReport:
    """Derive a dataset's values again from the Delta tables and compare.

    Args:
        dataset: what to check.
        resolved: its selections, with the snapshots it was built from, in its order.
        rows: how many rows to check, chosen at random; None: all.
        seed: of the choice.

    Cost: reads each table once; a binary search per row and group.
    """
    n = len(dataset)
    chosen = np.arange(n)
    if rows is not None and rows < n:
        chosen = np.sort(np.random.default_rng(seed).choice(n, rows, replace=False))
    part = dataset.table.take(pa.array(chosen))
    manifest = dataset.manifest
    times = spine_times(part, manifest["time"]).cast(pa.int64()).to_numpy()
    as_of = manifest["as_of"]
    values = future = wrong = 0
    examples: list[str] = []
    for selection, entry in zip(manifest["selections"], resolved, strict=True):
        keys = spine_keys(part, selection["key"], entry.group)
        if entry.windows is not None:
            derived = _windows(entry, selection["features"], keys, times, as_of)
            for feature, output in selection["features"].items():
                got = part[output].combine_chunks().to_pylist()
                values += len(got)
                for row, (value, expected) in enumerate(zip(got, derived[feature], strict=True)):
                    if value != expected:
                        wrong += 1
                        if len(examples) < MAX_SHOWN:
                            examples.append(
                                f"row {chosen[row]}, {output}: expected {expected!r}, got {value!r}"
                            )
            continue
        history = history_of(entry, selection["features"], as_of)
        found = find_rows(history, keys, times, selection["lookback_us"])
        for feature, output in selection["features"].items():
            expected = _expected(history, feature, found, part[output].type)
            got = part[output].combine_chunks()
            differs = _differs(expected, got)
            values += len(got)
            for row in np.flatnonzero(differs).tolist():
                wrong += 1
                newer = _is_newer(history, feature, got[row], keys[row], times[row])
                future += newer
                if len(examples) < MAX_SHOWN:
                    examples.append(
                        f"row {chosen[row]}, {output}: expected {expected[row].as_py()!r}, "
                        f"got {got[row].as_py()!r}{' from the future' if newer else ''}"
                    )
    return CheckReport(n, len(chosen), values, future, wrong, tuple(examples))


def history_of(
    entry: Resolved, features: Mapping[str, str], as_of: str | None
) -> dict[str, Any] | None:
    """Read a table version, sorted by identifier and order of versions, oldest first.

    Args:
        entry: what is read.
        features: the columns to read beside those that order the rows.
        as_of: only what was written by then counts; None: all.
    """
    if entry.snapshot is None or not entry.snapshot.files:
        return None
    identifier = entry.group.record_identifier
    wanted = dict.fromkeys(
        [identifier, "_event_time", "write_time", "_sequence", "is_deleted", *features]
    )
    table = _rows(entry.snapshot.files, list(wanted), as_of)
    live = pc.invert(table["is_deleted"])
    table = table.append_column("_live", live).sort_by(
        [
            (identifier, "ascending"),
            ("_event_time", "ascending"),
            ("_live", "ascending"),
            ("write_time", "ascending"),
            ("_sequence", "ascending"),
        ]
    )
    encoded = table[identifier].combine_chunks().dictionary_encode()
    codes = encoded.indices.to_numpy()  # the table is sorted, so codes ascend
    return {
        "_table": table,
        "_dictionary": encoded.dictionary,
        "_starts": np.searchsorted(codes, np.arange(len(encoded.dictionary) + 1)),
        "_event_time": table["_event_time"].cast(pa.int64()).to_numpy(),
        "_live": table["_live"].to_numpy(),
    }


def _rows(files: Sequence[str], columns: Sequence[str], as_of: str | None) -> pa.Table:
    """Read columns of a table version's files, as far as they have them."""
    tables = []
    for file in files:
        parquet = pq.ParquetFile(file)
        tables.append(parquet.read([c for c in columns if c in parquet.schema_arrow.names]))
    table = pa.concat_tables(tables, promote_options="default")
    if as_of is None:
        return table
    limit = pa.scalar(eventtime.parse_iso(as_of), pa.int64()).cast(table["write_time"].type)
    return table.filter(pc.less_equal(table["write_time"], limit))


def _windows(
    entry: Resolved, features: Mapping[str, str], keys: pa.Array, times: Any, as_of: str | None
) -> dict[str, list[Any]]:
    """Derive windowed features, one event at a time."""
    windows = entry.windows
    assert windows is not None
    events: dict[Any, list[Any]] = {}
    if entry.snapshot is not None and entry.snapshot.files:
        internal = ("_event_time", "is_deleted", "write_time", "_sequence")
        history = _rows(entry.snapshot.files, [*windows.columns, *internal], as_of)
        for name in windows.columns:
            if name not in history.schema.names:
                history = history.append_column(name, pa.nulls(len(history)))
        events = events_by_key(history, windows)
    definitions = {feature.name: feature for feature in windows.group.features}
    kinds: dict[str | None, Any] = {None: None}
    kinds.update(windows.source.types.items())
    return {
        name: [
            window_value(
                events.get(key, []), definitions[name], time_us, kinds[definitions[name].of]
            )
            for key, time_us in zip(keys.to_pylist(), times.tolist(), strict=True)
        ]
        for name in features
    }


def find_rows(
    history: dict[str, Any] | None,
    keys: pa.Array,
    times: Any,
    lookback_us: int | None,
) -> Any:
    """Return the history row each spine row sees, -1 for none.

    Args:
        history: of `history_of`.
        keys: the spine's identifiers.
        times: its times, µs.
        lookback_us: how old a value may be; None: any age.
    """
    found = np.full(len(keys), -1, np.int64)
    if history is None:
        return found
    starts = history["_starts"]
    which = pc.index_in(keys, history["_dictionary"])
    valid = which.is_valid().to_numpy(zero_copy_only=False)
    code_of = which.fill_null(0).to_numpy()
    event_times = history["_event_time"]
    order = np.argsort(code_of, kind="stable")
    order = order[valid[order]]
    borders = np.flatnonzero(np.diff(code_of[order])) + 1
    for rows in np.split(order, borders):
        if len(rows) == 0:
            continue
        code = code_of[rows[0]]
        start, end = starts[code], starts[code + 1]
        # The last version at or before the row's time; the sort put the one that counts last.
        position = start + np.searchsorted(event_times[start:end], times[rows], side="right") - 1
        position[position < start] = -1
        found[rows] = position
    seen = found >= 0
    found[seen] = np.where(history["_live"][found[seen]], found[seen], -1)
    if lookback_us is not None:
        seen = found >= 0
        age = times[seen] - event_times[found[seen]]
        found[seen] = np.where(age <= lookback_us, found[seen], -1)
    return found


def _expected(
    history: dict[str, Any] | None, feature: str, found: Any, kind: pa.DataType
) -> pa.Array:
    if history is None or feature not in history["_table"].schema.names:
        return pa.nulls(len(found), kind)
    column = history["_table"][feature].combine_chunks()
    return column.take(pa.array(found, mask=found < 0)).cast(kind)


def _is_newer(
    history: dict[str, Any] | None, feature: str, value: pa.Scalar, key: pa.Scalar, time: int
) -> bool:
    """Whether a version newer than the row has this value."""
    if history is None or feature not in history["_table"].schema.names or not value.is_valid:
        return False
    code = pc.index_in(key, history["_dictionary"])
    if not code.is_valid:
        return False
    start, end = history["_starts"][code.as_py()], history["_starts"][code.as_py() + 1]
    later = start + np.searchsorted(history["_event_time"][start:end], time, side="right")
    newer = history["_table"][feature].slice(later, end - later)
    return bool(pc.any(pc.equal(newer, value)).as_py())


def _differs(expected: pa.Array, got: pa.Array) -> Any:
    same = pc.equal(expected, got).fill_null(False)
    both_null = pc.and_(expected.is_null(), got.is_null())
    return pc.invert(pc.or_(same, both_null)).to_numpy(zero_copy_only=False)
