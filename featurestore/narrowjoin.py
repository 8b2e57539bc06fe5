"""The point-in-time join over identifiers and times alone; values are read of rows that match.

The spine's rows are sorted by identifier and time. Each row of the history falls into the slot of
the first spine row that sees it, and each slot keeps the newest version that fell into it: so the
history is read once, in pieces, in any order and by several threads, and nothing is held of it but
one version a slot. At the end a spine row sees what is in its slot or in the nearest one before it
of its identifier.

Files that say that they are sorted by identifier and time are taken as they come, run by run, once
their rows were compared one with the next; where they are not, they are sorted as any others.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from featurestore import numpyview
from featurestore.historyfiles import HistoryFiles, Piece
from featurestore.workers import Workers

__all__ = ["Matches", "find", "pick"]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_COMPOSITE_BITS: Final = 63
_BEFORE_ALL: Final = np.iinfo(np.int64).min
_NOTHING: Final = -1
_TIME: Final = pa.timestamp("us", "UTC")
# A lot of the history has so many rows: enough that looking the spine's identifiers up, which
# hashes all of them for each lot, does not count.
_LOT_ROWS: Final = 1 << 17
_LARGEST_LOT: Final = 1 << 21
# Of so few identifiers it is looked whether a row group can have one.
_FEW_IDENTIFIERS: Final = 1_000
# Numbers in the order of identifiers cost a sort of these; it pays with so many rows of each.
_ROWS_TO_RANK: Final = 8
_TIES_HELD: Final = 1 << 20
_TIE: Final = pa.schema(
    [
        ("is_deleted", pa.bool_()),
        ("write_time", _TIME),
        ("_sequence", pa.int64()),
    ]
)


class Matches(NamedTuple):
    """What n spine rows see.

    Args:
        rows: number of the history row that each sees; -1: none.
        times_us: its event time; 0 where there is none.
        pieces: of the history that were read.
    """

    rows: Ints
    times_us: Ints
    pieces: Sequence[Piece]


def find(
    keys: pa.Array,
    times: Ints,
    history: HistoryFiles,
    identifier: str,
    *,
    lookback_us: int | None,
    as_of_us: int | None,
    workers: Workers,
) -> Matches:
    """Find the history row that each spine row sees, by the rule of `featurestore.pointintime`.

    Args:
        keys: identifiers of n spine rows, n > 0; null: no match.
        times: of the spine rows, µs.
        history: the group's rows.
        identifier: the column of the record identifier.
        lookback_us: how old a value may be; None: any age.
        as_of_us: only rows whose write time is at or before it count; None: all.
        workers: take the pieces.

    Cost: memory for the spine and, on each thread, for a piece of the history.
    """
    slots = workers.run(lambda: _Slots(keys, times, sorted_rows=history.sorted_rows))
    pieces = history.pieces(slots.few_identifiers())
    oldest_us = None if lookback_us is None else int(times.min()) - lookback_us

    def look(lot: Sequence[Piece]) -> None:
        slots.add(_read(lot, history, identifier, slots.known, as_of_us), oldest_us)
        if slots.ties_held > _TIES_HELD:
            slots.settle_ties(history, pieces)

    rows = min(max(_LOT_ROWS, 2 * len(slots.known)), _LARGEST_LOT)
    workers.each(look, history.lots(pieces, rows) if len(slots.known) else [])
    if slots.ties_held:
        workers.run(lambda: slots.settle_ties(history, pieces))
    return workers.run(lambda: slots.matches(pieces, lookback_us))


def pick(
    matches: Matches, history: HistoryFiles, schema: pa.Schema, *, workers: Workers
) -> dict[str, pa.Array | pa.ChunkedArray]:
    """Return the values that n spine rows see, in their order; nulls where there are none.

    Args:
        matches: what `find` gave.
        history: the same rows.
        schema: of the columns wanted.
        workers: take the pieces.
    """
    n = len(matches.rows)

    def ordered() -> tuple[Ints, Ints]:
        order = np.argsort(matches.rows)
        wanted = matches.rows[order]
        unseen = int(np.searchsorted(wanted, 0))
        places = np.empty(n, np.int64)
        places[order] = np.arange(-unseen, n - unseen)
        return wanted[unseen:], places

    wanted, places = workers.run(ordered)
    if not len(wanted):
        return {field.name: pa.nulls(n, field.type) for field in schema}
    tasks = history.wanted(wanted, matches.pieces)
    tables = [
        t for some in workers.each(lambda task: history.take(task, schema), tasks) for t in some
    ]
    columns = {
        field.name: pa.chunked_array(
            [chunk for table in tables for chunk in table[field.name].chunks], field.type
        )
        for field in schema
    }
    tables.clear()
    has_none = len(wanted) < n
    indices = numpyview.from_int64(places, is_valid=places >= 0 if has_none else None)

    def arranged(name: str) -> pa.Array | pa.ChunkedArray:
        return columns.pop(name).combine_chunks().take(indices)

    return dict(zip(schema.names, workers.each(arranged, schema.names), strict=True))


class _Lot(NamedTuple):
    """Rows of the history whose identifiers the spine has.

    Args:
        rows: their numbers.
        codes: places of the identifiers among the spine's.
        times: event times, µs.
        is_record: whether each is no delete marker; None: all are none.
        runs: in how many runs they are said to be sorted by identifier and time; 0: in none.
    """

    rows: Ints
    codes: Ints
    times: Ints
    is_record: Bools | None
    runs: int


def _read(
    pieces: Sequence[Piece],
    history: HistoryFiles,
    identifier: str,
    known: pa.Array,
    as_of_us: int | None,
) -> _Lot:
    columns = [identifier, "_event_time", "is_deleted"]
    if as_of_us is not None:
        columns.append("write_time")
    keys: list[pa.Array] = []
    rows, times, records, kept = [], [], [], []
    has_markers = any(piece.has_markers for piece in pieces)
    for piece in pieces:
        table = history.read(
            piece, columns if has_markers else [c for c in columns if c != "is_deleted"]
        )
        keys += table[identifier].chunks
        times += [_whole_numbers(chunk) for chunk in table["_event_time"].chunks]
        rows.append(np.arange(piece.first, piece.first + piece.rows))
        if has_markers:
            records += [~numpyview.booleans(chunk) for chunk in table["is_deleted"].chunks]
        if as_of_us is not None:
            kept += [_whole_numbers(chunk) <= as_of_us for chunk in table["write_time"].chunks]
    codes = _codes(keys, known)
    is_kept = codes >= 0
    if kept:
        is_kept &= np.concatenate(kept)
    lot = _Lot(
        np.concatenate(rows),
        codes,
        np.concatenate(times),
        np.concatenate(records) if has_markers else None,
        len(pieces) if all(piece.is_sorted for piece in pieces) else 0,
    )
    return lot if is_kept.all() else _some(lot, is_kept)


def _some(lot: _Lot, which: Any) -> _Lot:
    is_record = None if lot.is_record is None else lot.is_record[which]
    return _Lot(lot.rows[which], lot.codes[which], lot.times[which], is_record, lot.runs)


def _whole_numbers(times: pa.Array) -> Ints:
    if times.type != _TIME:
        times = times.cast(_TIME)
    return numpyview.int64(times.cast(pa.int64()))


def _codes(keys: Sequence[pa.Array], known: pa.Array) -> Ints:
    """Return the place of each identifier among the known ones; -1 where it is none of them."""
    values = [array.dictionary if pa.types.is_dictionary(array.type) else array for array in keys]
    values = [array if array.type == known.type else array.cast(known.type) for array in values]
    found = pc.index_in(pa.concat_arrays(values), value_set=known, skip_nulls=True)
    places = _filled(found)
    codes = []
    begin = 0
    for array, array_values in zip(keys, values, strict=True):
        of_values = places[begin : begin + len(array_values)]
        begin += len(array_values)
        if pa.types.is_dictionary(array.type):
            indices = _filled(array.indices)
            # A null is the last one, which is put behind.
            of_values = np.append(of_values, _NOTHING)[indices]
        codes.append(of_values)
    return np.concatenate(codes)


def _filled(numbers: pa.Array) -> Ints:
    """Return the numbers of places, with -1 for nulls."""
    places = numpyview.int32(numbers).astype(np.int64)
    if numbers.null_count:
        places[~numpyview.booleans(numbers.is_valid())] = _NOTHING
    return places


@final
class _Slots:
    """The spine's rows by identifier and time, each with the newest version it is first to see.

    Args:
        keys: identifiers of the spine's rows; null: no match.
        times: of the rows, µs.
        sorted_rows: so many rows of the history are said to be in the order of identifiers.
    """

    def __init__(self, keys: pa.Array, times: Ints, *, sorted_rows: int) -> None:
        encoded = keys.dictionary_encode()
        self.known: pa.Array = encoded.dictionary
        codes = _filled(encoded.indices)
        self._is_ranked = sorted_rows >= _ROWS_TO_RANK * len(self.known) > 0
        if self._is_ranked:
            order = pc.sort_indices(self.known)
            self.known = self.known.take(order)
            ranks = np.full(len(order) + 1, _NOTHING, np.int64)  # the last one is that of a null
            ranks[numpyview.int64(order)] = np.arange(len(order))
            codes = ranks[codes]
        self._n = len(codes)
        self._rows: Ints | None = None
        if encoded.null_count:
            (self._rows,) = np.nonzero(codes >= 0)
            codes, times = codes[self._rows], times[self._rows]
        self._lock = threading.Lock()
        self._code_bits = max(1, len(self.known)).bit_length()
        self._first, self._last = (int(times.min()), int(times.max())) if len(times) else (0, 0)
        span = self._last - self._first + 2
        self._distinct: Ints | None = None
        self._bits = span.bit_length()
        if self._code_bits + self._bits > _COMPOSITE_BITS:  # by the places of the times: fewer bits
            self._distinct = np.unique(times)
            self._bits = (len(self._distinct) + 1).bit_length()
        keyed = (codes << self._bits) | self._moments(times)
        order = np.argsort(keyed)
        self._keys, self._codes, self._times = keyed[order], codes[order], times[order]
        self._rows = order if self._rows is None else self._rows[order]
        self._best_rows = np.full(len(codes), _NOTHING, np.int64)
        self._best_times = np.full(len(codes), _BEFORE_ALL, np.int64)
        self._best_records = np.zeros(len(codes), np.bool_)
        self._ties: list[tuple[Ints, Ints, Ints]] = []
        self.ties_held = 0

    def few_identifiers(self) -> list[Any] | None:
        """Return the identifiers in order, where they are few and have one order everywhere."""
        if len(self.known) > _FEW_IDENTIFIERS or pa.types.is_floating(self.known.type):
            return None
        return sorted(self.known.to_pylist())

    def _moments(self, times: Ints) -> Ints:
        """Map times, none later than the last, to numbers of `bits` bits in the same order."""
        if self._distinct is not None:
            return np.searchsorted(self._distinct, times)
        before = self._first - 1
        return np.maximum(times, before) - before

    def add(self, lot: _Lot, oldest_us: int | None) -> None:
        """Take rows of the history in.

        Args:
            lot: the rows.
            oldest_us: earlier ones are seen by no row; None: all may be.
        """
        is_seen = lot.times <= self._last
        if oldest_us is not None:
            is_seen &= lot.times >= oldest_us
        if not is_seen.all():
            lot = _some(lot, is_seen)
        if len(lot.rows):
            for run in _in_order(lot, self._code_bits, self._is_ranked):
                self._add(run)

    def _add(self, lot: _Lot) -> None:
        """Take rows in that are sorted by identifier and time."""
        places = np.searchsorted(self._keys, (lot.codes << self._bits) | self._moments(lot.times))
        # A row that is later than all of its identifier's falls into the next one's slot.
        inside = np.minimum(places, len(self._keys) - 1)
        is_seen = (self._codes[inside] == lot.codes) & (places < len(self._keys))
        is_last = np.append(places[1:] != places[:-1], True)
        same = (lot.codes[1:] == lot.codes[:-1]) & (lot.times[1:] == lot.times[:-1])
        (newest,) = np.nonzero(is_last & is_seen)
        if not len(newest):
            return
        ties = None
        if same.any():
            versions = np.cumsum(np.append(True, ~same)) - 1
            is_tied = np.zeros(int(versions[-1]) + 1, np.bool_)
            is_tied[versions[newest[np.append(False, same)[newest]]]] = True
            (tied,) = np.nonzero(is_tied[versions])
            if len(tied):
                ties = places[tied], lot.times[tied], lot.rows[tied]
        slots, times, rows = places[newest], lot.times[newest], lot.rows[newest]
        with self._lock:
            best = self._best_times[slots]
            equal = times == best
            if equal.any():
                self._hold(slots[equal], times[equal], rows[equal])
            if ties is not None:
                self._hold(*ties)
            newer = times > best
            if not newer.all():
                slots, times, rows, newest = (c[newer] for c in (slots, times, rows, newest))
            self._best_times[slots] = times
            self._best_rows[slots] = rows
            self._best_records[slots] = True if lot.is_record is None else lot.is_record[newest]

    def _hold(self, slots: Ints, times: Ints, rows: Ints) -> None:
        self._ties.append((slots, times, rows))
        self.ties_held += len(slots)

    def settle_ties(self, history: HistoryFiles, pieces: Sequence[Piece]) -> None:
        """Of versions of one time, let the rule for ties choose."""
        with self._lock:
            if not self._ties:  # another thread was faster
                return
            held: Any = zip(*self._ties, strict=True)
            slots, times, rows = map(np.concatenate, held)
            self._ties, self.ties_held = [], 0
            matter = times == self._best_times[slots]
            contested = np.unique(slots[matter])
            if not len(contested):
                return
            slots = np.concatenate([slots[matter], contested])
            rows = np.concatenate([rows[matter], self._best_rows[contested]])
            order = np.argsort(rows)
            slots, rows = slots[order], rows[order]
            wanted = history.wanted(rows, pieces)
            tables = [table for task in wanted for table in history.take(task, _TIE)]
            tied = pa.concat_tables(tables).combine_chunks()
            is_record = ~numpyview.booleans(_array(tied["is_deleted"]))
            written = _whole_numbers(_array(tied["write_time"]))
            sequence = numpyview.int64(_array(tied["_sequence"]))
            ranked = np.lexsort((rows, sequence, written, is_record, slots))
            slots, rows, is_record = slots[ranked], rows[ranked], is_record[ranked]
            is_last = np.append(slots[1:] != slots[:-1], True)
            self._best_rows[slots[is_last]] = rows[is_last]
            self._best_records[slots[is_last]] = is_record[is_last]

    def matches(self, pieces: Sequence[Piece], lookback_us: int | None) -> Matches:
        """Return what the spine's rows see, in their order, of all that was added."""
        rows = np.full(self._n, _NOTHING, np.int64)
        seen_times = np.zeros(self._n, np.int64)
        slots = np.arange(len(self._codes))
        slots[self._best_rows < 0] = -1
        slots = np.maximum.accumulate(slots) if len(slots) else slots
        found = slots >= 0
        found &= (self._codes[slots] == self._codes) & self._best_records[slots]
        times = self._best_times[slots]
        if lookback_us is not None:
            # As whole numbers without a sign: a value may be older than 63 bits tell.
            age = self._times.view(np.uint64) - times.view(np.uint64)
            found &= age <= np.uint64(lookback_us)
        assert self._rows is not None
        if found.all():
            rows[self._rows], seen_times[self._rows] = self._best_rows[slots], times
        else:
            seen = self._rows[found]
            rows[seen], seen_times[seen] = self._best_rows[slots[found]], times[found]
        return Matches(rows, seen_times, pieces)


def _in_order(lot: _Lot, code_bits: int, is_ranked: bool) -> Sequence[_Lot]:
    """Return rows in lots that are sorted by identifier and time."""
    first = int(lot.times.min())
    bits = (int(lot.times.max()) - first).bit_length()
    if code_bits + bits > _COMPOSITE_BITS:
        return [_some(lot, np.lexsort((lot.times, lot.codes)))]
    keyed = (lot.codes << bits) | (lot.times - first)
    if lot.runs and is_ranked:
        (ends,) = np.nonzero(keyed[1:] < keyed[:-1])
        if len(ends) < lot.runs:
            bounds = [0, *(ends + 1).tolist(), len(keyed)]
            return [_some(lot, slice(*ends)) for ends in pairwise(bounds)]
    return [_some(lot, np.argsort(keyed))]


def _array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
