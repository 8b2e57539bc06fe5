"""Events in the order of key and time, a part at a time, each with the spine rows it answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["in_parts"]

_Integers = npt.NDArray[np.int64]


def in_parts(
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    codes: _Integers,
    times: _Integers,
    *,
    longest_us: int,
    part_rows: int,
) -> Iterator[tuple[pa.Table, _Integers]]:
    """Cut sorted events into parts that hold all that some spine rows can see.

    A part ends anywhere, also between the events of one key: what the next rows still see is in
    the next part again.

    Args:
        batches: events, ordered by `_code` and `_time` (µs).
        schema: of the batches.
        codes: of n spine rows; -1: no key.
        times: of the spine rows, µs.
        longest_us: a row sees the events later than its time less this, up to its time.
        part_rows: about so many events are in a part, or twice those that one row sees.

    Yields:
        Events, and the places of the spine rows that need no others: each of the n in one part.

    >>> events = pa.table({"_code": [0, 0, 0, 1], "_time": [1, 2, 3, 1]})
    >>> codes, times = np.array([1, 0, 0]), np.array([5, 2, 9])
    >>> parts = in_parts(
    ...     events.to_batches(2), events.schema, codes, times, longest_us=7, part_rows=1
    ... )
    >>> [(len(part), rows.tolist()) for part, rows in parts]
    [(4, [1, 2]), (1, [0])]
    """
    order = np.lexsort((times, codes)).astype(np.int64)
    codes, times = codes[order], times[order]
    held: list[pa.RecordBatch] = []
    kept = came = done = 0
    for batch in batches:
        held.append(batch)
        came += len(batch)
        if came < max(part_rows, kept):
            continue  # else a row that sees many events would have them gone through ever again
        events = pa.Table.from_batches(held, schema)
        event_codes, event_times = events["_code"].to_numpy(), events["_time"].to_numpy()
        # Later events may still have the time of the last one.
        until = _place(codes, times, int(event_codes[-1]), int(event_times[-1]))
        if until > done:
            yield events, order[done:until]
            done = until
        if done == len(codes):
            return
        seen_from = _place(
            event_codes, event_times, int(codes[done]), int(times[done]) - longest_us + 1
        )
        held = events.slice(seen_from).to_batches()
        kept, came = len(events) - seen_from, 0
    yield pa.Table.from_batches(held, schema), order[done:]


def _place(codes: _Integers, times: _Integers, code: int, time: int) -> int:
    """Count the entries of two columns, sorted by both, that come before a code and a time."""
    first, end = np.searchsorted(codes, [code, code + 1])
    return int(first + np.searchsorted(times[first:end], time))
