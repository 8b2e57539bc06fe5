"""Records read many at once: one step of NumPy per field instead of one object per record.

All records are walked beside each other: the first step reads the first field of each, the second
step the second, whatever field that is. Forms that writers do not produce (unpacked numbers,
unknown fields, one key twice) are left to protobuf's own objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from training.formats.recordio.framing import Frames
from training.formats.recordio.varint import decode_varints, gather
from training.formats.tensor import DTYPES, NO_SHAPE, Tensors

__all__ = ["MAPS", "TEXTS", "Irregular", "Located", "Records", "locate", "parse"]

MAPS: Final = {1: "features", 2: "label"}
TEXTS: Final = {3: "uid", 4: "metadata", 5: "configuration"}

_LENGTH_DELIMITED: Final = 2
_MOST_KEYS: Final = 64
_INT32: Final = 7
_Integers = npt.NDArray[np.int64]


class Irregular(Exception):
    """Records are not of a form that is read many at once."""


@final
@dataclass(frozen=True)
class Span:
    """Stretches of a buffer that belong to some of n records.

    Attributes:
        rows: which records, ascending, each at most once.
        starts: where each stretch begins.
        ends: where it ends.
    """

    rows: _Integers
    starts: _Integers
    ends: _Integers

    @property
    def lengths(self) -> _Integers:
        """How many bytes each has."""
        return self.ends - self.starts

    def spread(self, values: npt.NDArray[Any], count: int, default: int = 0) -> npt.NDArray[Any]:
        """Return one value for each of n records: those of this span, else the default."""
        if len(self.rows) == count:
            return values
        out = np.full(count, default, values.dtype)
        out[self.rows] = values
        return out


@final
@dataclass(frozen=True)
class Located:
    """Where the tensors of one name lie.

    Attributes:
        kind: the tensor's field number in `Value`.
        rows: the records that have it.
        fields: the stretches of values (1), keys (2) and shape (3).
    """

    kind: int
    rows: _Integers
    fields: Mapping[int, Span]


@final
@dataclass(frozen=True)
class Records:
    """The content of n records.

    Attributes:
        tensors: by map (`features`, `label`) and name.
        texts: `uid`, `metadata` and `configuration`, those that a record has.
        blobs: values that are bytes, by map and name.
    """

    tensors: Mapping[tuple[str, str], Tensors]
    texts: Mapping[str, pa.Array]
    blobs: Mapping[tuple[str, str], pa.Array] = field(default_factory=dict)


def parse(frames: Frames) -> Records:
    """Read the records of frames.

    Raises:
        Irregular: they are of a form that is not read here, or broken.
    """
    located, texts = locate(frames)
    count = len(frames)
    return Records(
        {name: _tensors(frames.buffer, place, count) for name, place in located.items()},
        {name: _texts(frames.buffer, span, count) for name, span in texts.items()},
    )


def locate(frames: Frames) -> tuple[dict[tuple[str, str], Located], dict[str, Span]]:
    """Find the tensors and texts of records, without reading their values.

    Raises:
        Irregular: see `parse`.
    """
    data = frames.buffer
    whole = Span(np.arange(len(frames)), frames.starts, frames.ends)
    entries: dict[int, list[Span]] = {}
    for number, span in _fields(data, whole):
        entries.setdefault(number, []).append(span)
    tensors: dict[tuple[str, str], Located] = {}
    texts: dict[str, Span] = {}
    for number, spans in entries.items():
        if number in MAPS:
            for key, values in _entries(data, spans):
                tensors[MAPS[number], key] = _located(data, values)
        elif number in TEXTS:
            texts[TEXTS[number]] = _only(spans)
        else:
            raise Irregular
    return tensors, texts


def _fields(data: npt.NDArray[np.uint8], within: Span) -> Iterator[tuple[int, Span]]:
    """Give the fields of messages, all the first ones, then all the second ones and so on."""
    rows, at, end = within.rows, within.starts, within.ends
    while True:
        live = at < end
        if not live.all():
            rows, at, end = rows[live], at[live], end[live]
        if not len(rows):
            return
        tags = data[at]
        starts, lengths = _varint(data, at + 1, end)
        ends = starts + lengths
        if (ends > end).any() or (tags & 0x87 != _LENGTH_DELIMITED).any():
            raise Irregular
        first = tags[0]
        if (tags == first).all():
            yield int(first) >> 3, Span(rows, starts, ends)
        else:
            for tag in np.unique(tags):
                chosen = tags == tag
                yield int(tag) >> 3, Span(rows[chosen], starts[chosen], ends[chosen])
        at = ends


def _varint(
    data: npt.NDArray[np.uint8], at: _Integers, end: _Integers
) -> tuple[_Integers, _Integers]:
    """Read one length at each position; return where each ends, and the lengths."""
    if (at >= end).any():
        raise Irregular
    number = data[at].astype(np.int64)
    behind = at + 1
    longer = np.flatnonzero(number >= 0x80)
    number[longer] &= 0x7F
    bits = 7
    while len(longer):
        place = behind[longer]
        # A length of more than 35 bits does not fit into a frame.
        if bits > 28 or (place >= end[longer]).any():
            raise Irregular
        byte = data[place].astype(np.int64)
        number[longer] |= (byte & 0x7F) << bits
        behind[longer] += 1
        longer = longer[byte >= 0x80]
        bits += 7
    return behind, number


def _entries(data: npt.NDArray[np.uint8], spans: list[Span]) -> Iterator[tuple[str, Span]]:
    """Give the entries of maps by their keys."""
    by_key: dict[str, list[Span]] = {}
    for span in spans:
        parts: dict[int, Span] = {}
        for number, part in _fields(data, span):
            if number in parts or number not in (1, 2) or len(part.rows) != len(span.rows):
                raise Irregular
            parts[number] = part
        if len(parts) != 2:
            raise Irregular
        value = parts[2]
        for key, chosen in _keys(data, parts[1]):
            by_key.setdefault(key, []).append(
                Span(value.rows[chosen], value.starts[chosen], value.ends[chosen])
            )
    for key, found in by_key.items():
        yield key, _only(found)


def _keys(data: npt.NDArray[np.uint8], span: Span) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Give the different texts of a span, and which of its rows have each."""
    left = np.ones(len(span.rows), np.bool_)
    lengths = span.lengths
    for _ in range(_MOST_KEYS):
        if not left.any():
            return
        first = int(left.argmax())
        key = data[span.starts[first] : span.ends[first]]
        same = left & (lengths == len(key))
        for place, byte in enumerate(key):
            same[same] = data[span.starts[same] + place] == byte
        try:
            yield key.tobytes().decode("utf-8"), same
        except UnicodeDecodeError:
            raise Irregular from None
        left &= ~same
    raise Irregular


def _located(data: npt.NDArray[np.uint8], values: Span) -> Located:
    tensors = list(_fields(data, values))
    if len(tensors) != 1:
        raise Irregular
    kind, span = tensors[0]
    if kind not in DTYPES or len(span.rows) != len(values.rows):
        raise Irregular
    fields: dict[int, list[Span]] = {}
    for number, part in _fields(data, span):
        fields.setdefault(number, []).append(part)
    if not set(fields) <= {1, 2, 3}:
        raise Irregular
    return Located(kind, span.rows, {number: _only(parts) for number, parts in fields.items()})


def _only(spans: list[Span]) -> Span:
    """Join spans of different rows into one."""
    if len(spans) == 1:
        return spans[0]
    rows = np.concatenate([span.rows for span in spans])
    order = np.argsort(rows, kind="stable")
    rows = rows[order]
    if (rows[1:] == rows[:-1]).any():
        raise Irregular
    return Span(
        rows,
        np.concatenate([span.starts for span in spans])[order],
        np.concatenate([span.ends for span in spans])[order],
    )


def _tensors(data: npt.NDArray[np.uint8], located: Located, count: int) -> Tensors:
    dtype = DTYPES[located.kind]
    values: npt.NDArray[Any] = np.zeros(0, dtype)
    counts: _Integers = np.zeros(count, np.int64)
    span = located.fields.get(1)
    if span is not None and located.kind == _INT32:
        numbers, found = _packed(data, span)
        values = numbers.view(np.int64).astype(dtype)
        counts = span.spread(found, count)
    elif span is not None:
        lengths = span.lengths
        if (lengths % dtype.itemsize).any():
            raise Irregular
        values = gather(data, span.starts, lengths).view(dtype)
        counts = span.spread(lengths // dtype.itemsize, count)
    keys, key_counts = np.zeros(0, np.uint64), np.zeros(count, np.int64)
    if 2 in located.fields:
        keys, found = _packed(data, located.fields[2])
        key_counts = located.fields[2].spread(found, count)
    shape = np.full(count, NO_SHAPE)
    if 3 in located.fields:
        shape = _shapes(data, located.fields[3], count)
    present = np.zeros(count, np.bool_)
    present[located.rows] = True
    return Tensors(values, counts, keys, key_counts, shape, present)


def _shapes(data: npt.NDArray[np.uint8], span: Span, count: int) -> _Integers:
    numbers, counts = _packed(data, span)
    sizes = np.minimum(numbers, np.uint64(2**62)).astype(np.int64)
    if (counts == 1).all():
        return span.spread(sizes, count, NO_SHAPE)
    if (counts == 0).any():
        raise Irregular
    products = np.multiply.reduceat(sizes, np.cumsum(counts) - counts)
    return span.spread(products, count, NO_SHAPE)


def _packed(
    data: npt.NDArray[np.uint8], span: Span
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    lengths = span.lengths
    found = decode_varints(gather(data, span.starts, lengths), lengths)
    if found is None:
        raise Irregular
    return found


def _texts(data: npt.NDArray[np.uint8], span: Span, count: int) -> pa.Array:
    lengths = span.lengths
    offsets = np.zeros(count + 1, np.int64)
    np.cumsum(span.spread(lengths, count), out=offsets[1:])
    present = np.zeros(count, np.bool_)
    present[span.rows] = True
    texts = pa.LargeStringArray.from_buffers(
        count,
        pa.py_buffer(offsets),
        pa.py_buffer(gather(data, span.starts, lengths)),
        pa.array(present).buffers()[1],
    )
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        raise Irregular from None
    return texts.cast(pa.string())
