"""The point-in-time join over identifiers and times alone; values are read of rows that match.

It needs memory for the history's identifiers and times, and twice the rows that match. Where those
do not fit, or the spine has few of the identifiers, `featurestore.pointintime` joins with SQL.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from featurestore import numpyview
from featurestore.errors import InternalError

__all__ = ["Matches", "find", "pick"]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_COMPOSITE_BITS: Final = 63


class Matches(NamedTuple):
    """What n spine rows see.

    Args:
        rows: number of the history row that each sees, in the order of reading; -1: none.
        times_us: its event time; 0 where there is none.
        read: how many history rows there were.
    """

    rows: Ints
    times_us: Ints
    read: int


class _History(NamedTuple):
    rows: Ints
    codes: Ints
    times: Ints
    is_record: Bools
    write_times: Ints
    sequences: Ints


def find(
    keys: pa.Array, times: Ints, history: Iterable[pa.RecordBatch], *, lookback_us: int | None
) -> Matches:
    """Find the history row that each spine row sees, by the rule of `featurestore.pointintime`.

    Args:
        keys: identifiers of n spine rows; null: no match.
        times: of the spine rows, µs.
        history: columns `_key`, `_event_time`, `is_deleted`, `write_time`, `_sequence`.
        lookback_us: how old a value may be; None: any age.
    """
    known = keys.unique().drop_null()
    rows = np.full(len(keys), -1, np.int64)
    seen_times = np.zeros(len(keys), np.int64)
    seen, read = _of_known(history, known)
    if not len(seen.rows):
        return Matches(rows, seen_times, read)
    spine_codes, has_key = _codes(keys, known)
    span = int(seen.times.max()) - int(seen.times.min()) + 1
    first, code_bits = int(seen.times.min()), len(known).bit_length()
    if code_bits + span.bit_length() <= _COMPOSITE_BITS:
        # Cut to the history's own times first: a difference of any two might not fit.
        moments, asked = seen.times - first, np.clip(times, first, first + span - 1) - first
        asked[times < first] = -1
        bits = span.bit_length()
    else:  # as the places of the times in their order: fewer bits
        distinct, moments = np.unique(seen.times, return_inverse=True)
        asked = np.searchsorted(distinct, times, side="right") - 1
        bits = len(distinct).bit_length()
    versions = (seen.codes << bits) | moments
    order = _ordered(versions, seen)
    versions = versions[order]
    place = np.searchsorted(versions, (spine_codes << bits) | np.maximum(asked, 0), side="right")
    found = has_key & (asked >= 0) & (place > 0)
    match = order[np.where(found, place - 1, 0)]
    found &= (seen.codes[match] == spine_codes) & seen.is_record[match]
    if lookback_us is not None:
        # As whole numbers without a sign: a value may be older than 63 bits tell.
        age = times.view(np.uint64) - seen.times[match].view(np.uint64)
        found &= age <= np.uint64(lookback_us)
    rows[found] = seen.rows[match[found]]
    seen_times[found] = seen.times[match[found]]
    return Matches(rows, seen_times, read)


def pick(matches: Matches, history: Iterable[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """Return the values that n spine rows see, in their order; nulls where there are none.

    Args:
        matches: what `find` gave.
        history: the same rows in the same order, with `_event_time` and the columns wanted.
        schema: of these; without `_event_time`.

    Raises:
        InternalError: the history was read in another order.
    """
    wanted, places = np.unique(matches.rows, return_inverse=True)
    has_none = bool(len(wanted)) and wanted[0] < 0
    wanted = wanted[1:] if has_none else wanted
    places = places - 1 if has_none else places
    picked: list[pa.RecordBatch] = []
    begin = 0
    for batch in history:
        low, high = np.searchsorted(wanted, [begin, begin + len(batch)])
        if high > low:
            picked.append(batch.take(numpyview.from_int64(wanted[low:high] - begin)))
        begin += len(batch)
    is_seen = matches.rows >= 0
    table = pa.Table.from_batches(picked) if picked else None
    times = np.zeros(0, np.int64)
    if table is not None:
        times = numpyview.int64(table["_event_time"].combine_chunks().cast(pa.int64()))
    if begin != matches.read or not np.array_equal(
        times[places[is_seen]], matches.times_us[is_seen]
    ):
        raise InternalError("the history was read twice in different orders; please report it")
    if table is None:
        return schema.empty_table().take(pa.nulls(len(places), pa.int64()))
    return (
        table.select(schema.names)
        .cast(schema)
        .combine_chunks()
        .take(numpyview.from_int64(places, is_valid=is_seen))
    )


def _of_known(history: Iterable[pa.RecordBatch], known: pa.Array) -> tuple[_History, int]:
    """Keep the rows whose identifiers the spine has."""
    parts: list[_History] = []
    read = 0
    for batch in history:
        codes, is_known = _codes(batch.column("_key"), known)
        (kept,) = np.nonzero(is_known)

        def column(name: str, batch: pa.RecordBatch = batch, kept: Ints = kept) -> Ints:
            return numpyview.int64(batch.column(name).cast(pa.int64()))[kept]

        parts.append(
            _History(
                kept + read,
                codes[kept],
                column("_event_time"),
                ~numpyview.booleans(batch.column("is_deleted"))[kept],
                column("write_time"),
                column("_sequence"),
            )
        )
        read += len(batch)
    none = np.zeros(0, np.int64)
    if not parts:
        return _History(none, none, none, none.astype(np.bool_), none, none), read
    columns: Any = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _History(*columns), read


def _codes(keys: pa.Array, known: pa.Array) -> tuple[Ints, Bools]:
    found = pc.index_in(keys, value_set=known, skip_nulls=True)
    is_known = numpyview.booleans(found.is_valid())
    codes = numpyview.int64(found.cast(pa.int64()))
    return np.where(is_known, codes, 0), is_known


def _ordered(versions: Ints, seen: _History) -> Ints:
    """Sort by identifier and time, and versions of one time by the rule for ties."""
    order = np.argsort(versions, kind="stable")
    ordered = versions[order]
    same = ordered[1:] == ordered[:-1]
    if same.any():
        (tied,) = np.nonzero(np.append(same, False) | np.insert(same, 0, False))
        rows = order[tied]
        order[tied] = rows[
            np.lexsort(
                (seen.sequences[rows], seen.write_times[rows], seen.is_record[rows], ordered[tied])
            )
        ]
    return order
