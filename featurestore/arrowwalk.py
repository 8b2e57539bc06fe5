"""Records read by the column: one feature at a time, over thousands of records at once.

Records of one producer have their features in one order, some of them absent. The walk takes a
feature of that order, compares its name at the place where each record stands, reads the value
where it is there, and goes on behind it. Records that keep no common order, or are written in
another way than the shortest, are left to the protobuf parser.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featurestore.feature import FeatureType

__all__ = ["ARROW_TYPES", "Walked", "walk"]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Words = npt.NDArray[np.uint64]

ARROW_TYPES: Final = {
    FeatureType.INTEGRAL: pa.int64(),
    FeatureType.FRACTIONAL: pa.float64(),
    FeatureType.STRING: pa.string(),
}
_SLICE: Final = 8192  # records at a time: their places stay in the processor's cache
_SLICE_BYTES: Final = 64 << 20
_PADDING: Final = bytes(128)  # behind the last record: a name and a number may be looked for there
_SAMPLE: Final = 16
_MAX_ORDERS: Final = 8
_FEW: Final = 32  # so few records are parsed sooner than walked over
_MAX_STRING: Final = 1 << 21  # lengths of one to three bytes; a record is smaller
_ENTRY: Final = 0x0A
_STRING_TAG: Final = b"\x0a"
_INTEGRAL_TAG: Final = b"\x10"
_FRACTIONAL_TAG: Final = b"\x19"


class Walked(NamedTuple):
    """What was read.

    Args:
        columns: feature name → one value per record; null where it is absent, or not read.
        left: rows of the records that were not read.
    """

    columns: dict[str, pa.ChunkedArray]
    left: Ints


def walk(
    types: Mapping[str, FeatureType], records: Sequence[bytes], names: Sequence[str] | None = None
) -> Walked:
    """Read the features of many records.

    Args:
        types: the group's features that are no collections.
        records: bytes of a `featurestore.v1.Record` each.
        names: the features to return; None: all of `types`.
    """
    wanted = list(types) if names is None else [name for name in names if name in types]
    order: list[str] = []
    chunks: dict[str, list[pa.Array]] = {name: [] for name in wanted}
    left: list[Ints] = []
    for first, end in _slices(records):
        walker = _Walker(types, wanted, records[first:end])
        order = walker.walk(order)
        for name, column in walker.columns().items():
            chunks[name].append(column)
        left.append(walker.left + first)
    return Walked(
        {name: pa.chunked_array(parts, ARROW_TYPES[types[name]]) for name, parts in chunks.items()},
        np.concatenate(left) if left else np.zeros(0, np.int64),
    )


def _slices(records: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Cut records into slices that are walked over at once."""
    ends = np.cumsum(np.fromiter(map(len, records), np.int64, len(records)))
    first = 0
    while first < len(records):
        before = int(ends[first - 1]) if first else 0
        end = int(np.searchsorted(ends, before + _SLICE_BYTES, side="right"))
        end = max(first + 1, min(end, first + _SLICE))
        yield first, end
        first = end


class _Column(NamedTuple):
    """A feature of all records of a slice: numbers, or where texts begin and end."""

    values: Any
    ends: Ints | None
    present: Bools


@final
class _Walker:
    """The records of one slice, and where each stands."""

    def __init__(
        self, types: Mapping[str, FeatureType], wanted: Sequence[str], records: Sequence[bytes]
    ) -> None:
        self._types = types
        self._data = b"".join([*records, _PADDING])
        self._bytes = np.frombuffer(self._data, np.uint8)
        # The eight bytes from any place on, as one number.
        self._words: Words = np.ndarray(
            (len(self._data) - 7,), np.dtype("<u8"), self._data, strides=(1,)
        )
        count = len(records)
        sizes = np.fromiter(map(len, records), np.int64, count)
        self._end = np.cumsum(sizes)
        self._start = self._end - sizes
        self._found = {name: self._empty(types[name]) for name in wanted}
        self.left: Ints = np.arange(count)

    def walk(self, order: list[str]) -> list[str]:
        """Read the records that keep one of few common orders; begin with a known one.

        Returns:
            The order that most of them keep.
        """
        best, most = order, 0
        if order:
            self._walk_along(order)
            most = len(self._start) - len(self.left)
        for _ in range(_MAX_ORDERS):
            before = len(self.left)
            if before <= _FEW:
                break
            order = self._order()
            self._walk_along(order)
            read = before - len(self.left)
            if read > most:
                best, most = order, read
            if read < before // 8:
                break  # no order that many records share
        return best

    def columns(self) -> dict[str, pa.Array]:
        """Return what was read; when a text is no UTF-8, that is nothing."""
        try:
            return {name: self._array(column) for name, column in self._found.items()}
        except pa.ArrowInvalid:
            count = len(self._start)
            self.left = np.arange(count)
            return {name: pa.nulls(count, ARROW_TYPES[self._types[name]]) for name in self._found}

    def _walk_along(self, order: Sequence[str]) -> None:
        rows = self.left
        place = self._start[rows]
        end = self._end[rows]
        read: list[tuple[str, Bools, Any, Ints | None]] = []
        for name in order:
            kind = self._types[name]
            if kind is FeatureType.FRACTIONAL:
                there, after, values, ends = self._fractional(name, place, end)
            elif kind is FeatureType.INTEGRAL:
                there, after, values, ends = self._integral(name, place, end)
            else:
                there, after, values, ends = self._string(name, place, end)
            read.append((name, there, values, ends))
            place = after if there.all() else np.where(there, after, place)
        done = place == end
        whole = bool(done.all())
        for name, there, values, ends in read:
            column = self._found.get(name)
            if column is None:
                continue
            chosen = there if whole else there & done
            if len(rows) == len(self._start) and whole:
                self._found[name] = _Column(values, ends, chosen)
                continue
            kept = rows[chosen]
            column.present[kept] = True
            column.values[kept] = values[chosen]
            if ends is not None and column.ends is not None:
                column.ends[kept] = ends[chosen]
        self.left = rows[~done]

    # Each of the three says for which records the feature stands at their place, in the shortest
    # form, and where it ends; and gives its values, which mean nothing for the other records.

    def _fractional(
        self, name: str, place: Ints, end: Ints
    ) -> tuple[Bools, Ints, Any, Ints | None]:
        # entry · size · name · value · 9 · tag · eight bytes
        title = _title(name)
        head = bytes((_ENTRY, len(title) + 10)) + title + b"\x09" + _FRACTIONAL_TAG
        after = place + (len(head) + 8)
        there = self._stands(head, place) & (after <= end)
        values = self._words[np.where(there, place, 0) + len(head)].view(np.float64)
        return there, after, values, None

    def _integral(self, name: str, place: Ints, end: Ints) -> tuple[Bools, Ints, Any, Ints | None]:
        # entry · size · name · value · size · tag · varint
        title = _title(name)
        head = bytes((_ENTRY, 0)) + title + b"\x00" + _INTEGRAL_TAG
        there = self._stands(head, place, free=(1, len(head) - 2))
        safe = np.where(there, place, 0)
        width = self._bytes[safe + (len(head) - 2)].astype(np.int64) - 1
        after = safe + len(head) + width
        there &= (width >= 1) & (width <= 10) & (after <= end)
        there &= self._bytes[safe + 1] == len(title) + 2 + width
        values, taken = self._varints(safe + len(head))
        there &= taken == width
        return there, after, values.view(np.int64), None

    def _string(self, name: str, place: Ints, end: Ints) -> tuple[Bools, Ints, Any, Ints | None]:
        # entry · size · name · value · size · tag · size · text
        title = _title(name)
        head = bytes((_ENTRY, 0)) + title + b"\x00" + _STRING_TAG
        there = self._stands(head, place, free=(1, len(head) - 2))
        safe = np.where(there, place, 0)
        length = self._bytes[safe + len(head)].astype(np.int64)
        begin = safe + (len(head) + 1)
        after = begin + length
        there &= (self._bytes[safe + 1] == length + (len(title) + 3)) & (after <= end)
        there &= (self._bytes[safe + (len(head) - 2)] == length + 2) & (length < 0x80)
        there &= length + (len(title) + 3) < 0x80
        (longer,) = np.nonzero(~there & (self._bytes[place] == _ENTRY) & (place < end))
        if len(longer):
            found, long_begin, long_after = self._long_string(title, place[longer], end[longer])
            there[longer] = found
            begin[longer] = np.where(found, long_begin, begin[longer])
            after[longer] = np.where(found, long_after, after[longer])
        return there, after, begin, after

    def _long_string(self, title: bytes, place: Ints, end: Ints) -> tuple[Bools, Ints, Ints]:
        """Read a text whose lengths may take more than a byte."""
        entry, taken = self._varints(place + 1)
        at = place + 1 + taken
        there = (entry < _MAX_STRING) & (taken > 0) & (at + len(title) + 8 <= end)
        at = np.where(there, at, 0)
        there &= self._stands(title, at)
        at = np.where(there, at + len(title), 0)
        value, taken = self._varints(at)
        at = at + taken
        there &= (value < _MAX_STRING) & (taken > 0) & (self._bytes[at] == _STRING_TAG[0])
        length, taken_by_length = self._varints(at + 1)
        begin = at + 1 + taken_by_length
        there &= (length < _MAX_STRING) & (taken_by_length > 0)
        after = begin + np.where(there, length, 0).astype(np.int64)
        there &= (value.astype(np.int64) == after - at) & (after <= end)
        there &= entry.astype(np.int64) == len(title) + taken + value.astype(np.int64)
        return there, begin, after

    def _stands(self, head: bytes, place: Ints, free: Sequence[int] = ()) -> Bools:
        """Say where bytes stand at their place; those at the `free` ones may be any."""
        mask = bytearray(b"\xff" * len(head))
        for byte in free:
            mask[byte] = 0
        there: Bools | None = None
        for first in range(0, len(head), 8):
            # The last word overlaps the one before, so that nothing behind the head is looked at.
            begin = max(0, min(first, len(head) - 8))
            kept = int.from_bytes(mask[begin : begin + 8], "little")
            expected = int.from_bytes(head[begin : begin + 8], "little") & kept
            words = self._words[place + begin] if begin else self._words[place]
            equal = (words & np.uint64(kept)) == np.uint64(expected)
            there = equal if there is None else there & equal
        assert there is not None
        return there

    def _varints(self, place: Ints) -> tuple[Words, Ints]:
        """Read varints in their shortest form; of another form the size is given as 0."""
        byte = self._bytes[place].astype(np.uint64)
        values = byte & np.uint64(0x7F)
        more = byte >= 0x80
        taken = np.ones(len(place), np.int64)
        width = 1
        while more.any() and width < 10:
            byte = np.where(more, self._bytes[place + width], 0).astype(np.uint64)
            values |= (byte & np.uint64(0x7F)) << np.uint64(7 * width)
            taken += more
            # A last byte of zero says nothing: the number has a shorter form.
            taken[more & (byte == 0)] = 0
            more = byte >= 0x80
            width += 1
        taken[more] = 0
        if width == 10:
            # Of the tenth byte one bit is left.
            taken[(taken == 10) & (self._bytes[place + 9] > 1)] = 0
        return values, taken

    def _order(self) -> list[str]:
        """Find an order of features that many of the records left keep, from a sample of them."""
        step = max(1, len(self.left) // _SAMPLE)
        rows = self.left[::step].tolist()
        sample = [self._names(int(self._start[row]), int(self._end[row])) for row in rows]
        order = max(sample, key=len)
        for names in sample:
            if names == order:
                continue
            places = {name: place for place, name in enumerate(order)}
            known = [places[name] for name in names if name in places]
            if known != sorted(known):
                continue  # of a producer with another order
            after = 0
            for name in names:
                if name in places:
                    after = order.index(name) + 1
                else:
                    order.insert(after, name)
                    after += 1
        return order

    def _names(self, place: int, end: int) -> list[str]:
        """Return the known features of one record, each once, as far as it can be read."""
        data = self._data
        names: dict[str, None] = {}
        while place < end and data[place] == _ENTRY:
            size, shift = 0, 0
            place += 1
            while data[place] >= 0x80 and shift < 28:
                size |= (data[place] & 0x7F) << shift
                shift += 7
                place += 1
            size |= data[place] << shift
            place += 1
            name = data[place + 2 : place + 2 + data[place + 1]].decode(errors="replace")
            if name in self._types:
                names.setdefault(name)
            place += size
        return list(names)

    def _empty(self, kind: FeatureType) -> _Column:
        count = len(self._start)
        present = np.zeros(count, np.bool_)
        if kind is FeatureType.STRING:
            # As they stand in the data, texts are in the order of the records: so are these.
            return _Column(self._start.copy(), self._start.copy(), present)
        number = np.float64 if kind is FeatureType.FRACTIONAL else np.int64
        return _Column(np.zeros(count, number), None, present)

    def _array(self, column: _Column) -> pa.Array:
        everywhere = bool(column.present.all())
        if column.ends is None:
            return pa.array(column.values, mask=None if everywhere else ~column.present)
        # Arrow values one behind the other: each text, then what is between it and the next.
        count = len(column.present)
        places = np.empty(2 * count + 1, np.int64)
        places[0:-1:2] = np.where(column.present, column.values, self._start)
        places[1::2] = np.where(column.present, column.ends, self._start)
        places[-1] = len(self._data)
        pieces = pa.Array.from_buffers(
            pa.large_string(),
            2 * count,
            [None, pa.py_buffer(places), pa.py_buffer(self._data)],
        )
        chosen = np.arange(0, 2 * count, 2)
        texts = pieces.take(pa.array(chosen, mask=None if everywhere else ~column.present))
        texts.validate(full=True)
        return texts.cast(pa.string())


def _title(name: str) -> bytes:
    """Return what stands between the sizes of an entry and its value."""
    data = name.encode()
    return b"\x0a" + bytes((len(data),)) + data + b"\x12"
