"""Records by the column: an Arrow batch as the bytes of its records, checked all at once.

Every rule and every message is that of `featurestore.record`: what a column's type does not settle
at once (text that is a number, a refused value, an event time with an offset) is left to it, row by
row. The bytes are those of `featurestore.convert.encode_record`, features in the order of columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Final, NamedTuple, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from featurestore import arrowtime, arrowwalk, convert
from featurestore import record as record_rules
from featurestore.errors import InvalidRecord
from featurestore.feature import FeatureType
from featurestore.schema import FeatureGroup

__all__ = ["Encoded", "check_records", "encode_batch"]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

_MAX_BATCH_BYTES: Final = 256 << 20
_BINARY: Final = pa.large_binary()
_TEXT: Final = pa.large_string()
_INT64: Final = 2.0**63
_STRING_TAG: Final = b"\x0a"
_INTEGRAL_TAG: Final = b"\x10"
_FRACTIONAL_TAG: Final = b"\x19"
_ENTRY: Final = b"\x0a"  # Record.values
_VALUE: Final = b"\x12"  # FeatureValue.value


@final
@dataclass(frozen=True, slots=True)
class Encoded:
    """The rows of a batch as the online store takes them.

    Args:
        rows: numbers of the accepted rows, rising; the three that follow have one entry for each.
        identifiers: UTF-8.
        event_times_us: microseconds since the epoch.
        records: bytes of a `featurestore.v1.Record`.
        refused: row number and reason of each refused row, by row number.
    """

    rows: Ints
    identifiers: list[bytes]
    event_times_us: Ints
    records: list[bytes]
    refused: list[tuple[int, InvalidRecord]]


def encode_batch(
    group: FeatureGroup, batch: pa.RecordBatch, *, now: int, tolerance_us: int
) -> Encoded:
    """Check the rows of a batch as records and write them.

    Nulls and NaN are left out, timestamps with a zone are event times, dictionaries count as their
    values.

    Args:
        group: the definition.
        batch: columns named like features, one record per row.
        now: the store's clock, µs since the epoch.
        tolerance_us: how far ahead of `now` an event time may lie.

    Raises:
        FeatureNotFound: a column is no feature of the group.
        InvalidRecord: a column is given twice, holds timestamps without a zone or for another
            feature than the event time, or text that is no UTF-8.

    >>> from featurestore.schema import FeatureGroup, feature_definitions
    >>> group = FeatureGroup(
    ...     "weather",
    ...     record_identifier="origin",
    ...     event_time="hour",
    ...     features=feature_definitions([("origin", "String"), ("hour", "Fractional")]),
    ... )
    >>> batch = pa.record_batch({"origin": ["JFK", None], "hour": [0.5, 1.0]})
    >>> encoded = encode_batch(group, batch, now=0, tolerance_us=10**9)
    >>> encoded.identifiers, encoded.event_times_us.tolist(), encoded.refused[0][0]
    ([b'JFK'], [500000], 1)
    """
    for _ in convert.table_to_records(group, batch.slice(0, 0)):
        pass  # no row: the columns alone are checked
    if len(batch) > 1 and _decoded_bytes(batch) > _MAX_BATCH_BYTES:
        half = len(batch) // 2
        parts = [
            encode_batch(group, part, now=now, tolerance_us=tolerance_us)
            for part in (batch.slice(0, half), batch.slice(half))
        ]
        return _joined(parts, half)
    columns = {
        name: _typed(group, name, column)
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    }
    pieces = list(chain.from_iterable(_pieces(name, c) for name, c in columns.items()))
    records: list[bytes] = [b""] * len(batch)
    sizes = np.zeros(len(batch), np.int64)
    if pieces:
        nothing = pa.scalar(b"", _BINARY)
        if all(piece.null_count for piece in pieces):
            # Arrow leaves a row out that has nothing but nulls.
            pieces.append(pa.repeat(nothing, len(batch)))
        joined = pc.binary_join_element_wise(*pieces, nothing, null_handling="skip")
        records = joined.to_pylist()
        sizes = np.diff(_offsets(joined))
    settled = sizes <= record_rules.MAX_RECORD_BYTES
    for column in columns.values():
        settled &= column.settled

    def slowly(rows: Ints) -> Iterable[Callable[[], _Checked]]:
        found: Iterable[dict[str, object]] = ({} for _ in rows)
        if batch.num_columns:
            found = convert.table_to_records(group, batch.take(pa.array(rows)))
        for record in found:
            yield partial(_check, group, record, now, tolerance_us)

    return _finished(
        group,
        columns.get(group.record_identifier),
        columns.get(group.event_time),
        records,
        settled,
        slowly,
        latest=now + tolerance_us,
    )


def check_records(
    group: FeatureGroup, records: Sequence[bytes], *, now: int, tolerance_us: int
) -> Encoded:
    """Check records as they came over the wire: `featurestore.convert.check_message` for many.

    Args:
        group: the definition.
        records: bytes of a `featurestore.v1.Record` each.
        now: the store's clock, µs since the epoch.
        tolerance_us: how far ahead of `now` an event time may lie.
    """
    walked = arrowwalk.walk(group.scalars, records)
    columns = {name: column.combine_chunks() for name, column in walked.columns.items()}
    settled = np.fromiter(map(len, records), np.int64) <= record_rules.MAX_RECORD_BYTES
    settled[walked.left] = False
    for name, kind in group.scalars.items():
        if kind is FeatureType.FRACTIONAL:
            numbers = columns[name].to_numpy(zero_copy_only=False)
            # What a NaN says is null, and the identifier -0.0 is 0.0: they are written anew.
            settled &= ~np.isnan(numbers) | columns[name].is_null().to_numpy(zero_copy_only=False)
            if name == group.record_identifier:
                settled &= numbers != 0.0

    def slowly(rows: Ints) -> Iterable[Callable[[], _Checked]]:
        for row in rows.tolist():
            yield partial(
                convert.check_bytes, group, records[row], now=now, tolerance_us=tolerance_us
            )

    identifier, moment = (
        _typed(group, name, columns[name]) for name in (group.record_identifier, group.event_time)
    )
    return _finished(
        group, identifier, moment, list(records), settled, slowly, latest=now + tolerance_us
    )


_Checked = tuple[str, int, bytes]
"""Identifier, event time and bytes of one record."""


class _Column(NamedTuple):
    """A column in its feature's type.

    Args:
        kind: the type.
        values: float64, int64, or an Arrow array of UTF-8.
        present: rows with a value: neither null nor NaN.
        settled: rows whose value, or lack of one, is right as it stands here.
    """

    kind: FeatureType
    values: Any
    present: Bools
    settled: Bools


def _check(group: FeatureGroup, record: dict[str, object], now: int, tolerance: int) -> _Checked:
    checked = record_rules.check(group, record, now=now, tolerance_us=tolerance)
    data = convert.encode_record(checked.values, group.collections)
    return checked.identifier, checked.event_time_us, convert.checked_size(group, data)


def _finished(
    group: FeatureGroup,
    identifier: _Column | None,
    moment: _Column | None,
    records: list[bytes],
    settled: Bools,
    slowly: Callable[[Ints], Iterable[Callable[[], _Checked]]],
    *,
    latest: int,
) -> Encoded:
    """Look at identifiers and event times, and leave to the rules what is not settled."""
    count = len(records)
    identifiers: list[bytes] = []
    us = np.zeros(count, np.int64)
    if identifier is None or moment is None:
        settled = np.zeros(count, np.bool_)
        identifiers = [b""] * count
    else:
        identifiers, fits = _identifiers(identifier)
        us, known = _moments(moment)
        settled = settled & fits & known & (us <= latest)
    (unsettled,) = np.nonzero(~settled)
    rows = np.arange(count)
    if not len(unsettled):
        return Encoded(rows, identifiers, us, records, [])
    refused: list[tuple[int, InvalidRecord]] = []
    for row, check in zip(unsettled.tolist(), slowly(unsettled), strict=True):
        try:
            text, us[row], records[row] = check()
        except InvalidRecord as error:
            refused.append((row, error))
        else:
            identifiers[row] = text.encode()
    if refused:
        kept = np.ones(count, np.bool_)
        kept[[row for row, _ in refused]] = False
        rows = rows[kept]
        chosen = rows.tolist()
        identifiers = [identifiers[row] for row in chosen]
        records = [records[row] for row in chosen]
        us = us[kept]
    return Encoded(rows, identifiers, us, records, refused)


def _joined(parts: Sequence[Encoded], start: int) -> Encoded:
    first, second = parts
    return Encoded(
        np.concatenate([first.rows, second.rows + start]),
        first.identifiers + second.identifiers,
        np.concatenate([first.event_times_us, second.event_times_us]),
        first.records + second.records,
        first.refused + [(row + start, error) for row, error in second.refused],
    )


def _decoded_bytes(batch: pa.RecordBatch) -> int:
    """Say how large a batch may be with its dictionaries replaced by their values."""
    size: int = batch.nbytes
    for column in batch.columns:
        if pa.types.is_dictionary(column.type) and _is_text(column.type.value_type):
            lengths = pc.binary_length(column.dictionary)
            size += len(batch) * (pc.max(lengths).as_py() or 0)
    return size


# -- values in their declared types -----------------------------------------------------------


def _typed(group: FeatureGroup, name: str, column: pa.Array) -> _Column:
    """Give a column its feature's type, where every value of the column's type has one."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    type_ = column.type
    present = column.is_valid().to_numpy(zero_copy_only=False)
    kind = group.scalars.get(name)
    if kind is FeatureType.STRING and _is_text(type_):
        text = _text(column)
        if text is not None:
            return _Column(kind, text, present, np.ones(len(column), np.bool_))
    elif kind is FeatureType.FRACTIONAL and pa.types.is_floating(type_):
        return _fractional(name, group, column.to_numpy(zero_copy_only=False), present)
    elif kind is FeatureType.FRACTIONAL and pa.types.is_integer(type_):
        return _fractional(name, group, _whole_numbers(column), present)
    elif kind is FeatureType.INTEGRAL and pa.types.is_integer(type_):
        counts = _whole_numbers(column)
        settled = counts < 2**63 if counts.dtype == np.uint64 else np.ones(len(column), np.bool_)
        return _Column(kind, counts.astype(np.int64), present, settled)
    elif kind is FeatureType.INTEGRAL and pa.types.is_floating(type_):
        numbers = column.to_numpy(zero_copy_only=False).astype(np.float64)
        present = present & ~np.isnan(numbers)
        whole = (numbers == np.floor(numbers)) & (numbers >= -_INT64) & (numbers < _INT64)
        values = np.where(whole, numbers, 0.0).astype(np.int64)
        return _Column(kind, values, present, whole | ~present)
    elif kind is not None and name == group.event_time and pa.types.is_timestamp(type_):
        return _timestamps(kind, column, present)
    return _Column(kind or FeatureType.STRING, None, present, ~present)


def _fractional(name: str, group: FeatureGroup, numbers: Any, present: Bools) -> _Column:
    values = numbers.astype(np.float64)
    if name == group.record_identifier:
        values = values + 0.0  # -0.0 and 0.0 name the same identifier
    present = present & ~np.isnan(values)
    return _Column(FeatureType.FRACTIONAL, values, present, np.ones(len(values), np.bool_))


def _whole_numbers(column: pa.Array) -> Any:
    filled = column.fill_null(0) if column.null_count else column
    return filled.to_numpy(zero_copy_only=False)


def _is_text(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(type_)
        or pa.types.is_large_string(type_)
        or pa.types.is_string_view(type_)
    )


def _text(column: pa.Array) -> Any:
    """Return text as bytes that are known to be UTF-8; None: they are not, or cannot be known."""
    try:
        text = column.cast(_TEXT)
        text.validate(full=True)
    except pa.ArrowInvalid:
        return None
    except pa.ArrowNotImplementedError:  # string views, in older versions of Arrow
        try:
            text = pa.array(column.to_pylist(), _TEXT)
        except UnicodeDecodeError:
            return None
    return text.cast(_BINARY)


def _timestamps(kind: FeatureType, column: pa.Array, present: Bools) -> _Column:
    """Write timestamps as the event times of a group."""
    counts = _whole_numbers(column.cast(pa.int64()))
    us, known = arrowtime.count_microseconds(counts, column.type.unit)
    if kind is FeatureType.STRING:
        matrix, lengths = arrowtime.format_iso(us)
        values = _rows([_Part(matrix, lengths)], np.ones(len(column), np.bool_))
        return _Column(kind, values, present, known | ~present)
    seconds, exact = arrowtime.seconds_of(us)
    return _Column(kind, seconds, present, (known & exact) | ~present)


def _identifiers(column: _Column) -> tuple[list[bytes], Bools]:
    """Return the identifiers as text, and which of them there are and may be."""
    fits = column.present & column.settled
    if column.values is None:
        return [b""] * len(fits), fits & False
    if column.kind is FeatureType.STRING:
        lengths = np.diff(_offsets(column.values))
        fits = fits & (lengths > 0) & (lengths <= record_rules.MAX_IDENTIFIER_BYTES)
        return column.values.to_pylist(), fits
    return [repr(value).encode() for value in column.values.tolist()], fits


def _moments(column: _Column) -> tuple[Ints, Bools]:
    """Return the event times in microseconds, and where they are known."""
    if column.values is None:
        return np.zeros(len(column.present), np.int64), column.present & False
    if column.kind is FeatureType.STRING:
        us, known = arrowtime.parse_iso(_data(column.values), _offsets(column.values))
    else:
        us, known = arrowtime.parse_fractional(column.values)
    return us, known & column.present & column.settled


# -- values as bytes --------------------------------------------------------------------------


class _Part(NamedTuple):
    """Bytes of a row: the first `lengths` of each row of a matrix; None: all of them.

    A matrix of one row is that of all rows.
    """

    matrix: Bytes
    lengths: Ints | None = None


def _pieces(name: str, column: _Column) -> list[pa.Array]:
    """Write a column as entries of `Record.values`, to be joined; null where there is none."""
    used = column.present & column.settled
    if column.values is None or not used.any():
        return []
    head = _constant(_ENTRY)
    title = name.encode()
    named = b"\x0a" + bytes((len(title),)) + title + _VALUE
    before_value = len(named)
    if column.kind is FeatureType.FRACTIONAL:
        numbers = np.ascontiguousarray(column.values, "<f8").view(np.uint8).reshape(-1, 8)
        before = _ENTRY + bytes((before_value + 10,)) + named + b"\x09" + _FRACTIONAL_TAG
        constant = _constant(before)
        return [_rows([constant, _Part(numbers)], used)]
    if column.kind is FeatureType.INTEGRAL:
        varint = _varints(column.values.view(np.uint64))
        width = varint.matrix.shape[1] if varint.lengths is None else varint.lengths
        sizes = _single(before_value + 2 + width), _single(1 + width)
        tag = _constant(_INTEGRAL_TAG)
        return [_rows([head, sizes[0], _constant(named), sizes[1], tag, varint], used)]
    lengths = np.where(used, np.diff(_offsets(column.values)), 0)
    value = 1 + _varint_bytes(lengths) + lengths
    entry = before_value + _varint_bytes(value) + value
    heads = [
        head,
        _varints(entry.view(np.uint64)),
        _constant(named),
        _varints(value.view(np.uint64)),
        _constant(_STRING_TAG),
        _varints(lengths.view(np.uint64)),
    ]
    text = pa.Array.from_buffers(
        _BINARY,
        len(used),
        [_validity(used), pa.py_buffer(_offsets(column.values)), column.values.buffers()[2]],
    )
    return [_rows(heads, used), text]


def _rows(parts: Sequence[_Part], used: Bools) -> pa.Array:
    """Put parts side by side, as one Arrow value per row."""
    count = len(used)
    width = sum(part.matrix.shape[1] for part in parts)
    matrix = np.empty((count, width), np.uint8)
    kept: Bools | None = None
    if any(part.lengths is not None for part in parts):
        kept = np.ones((count, width), np.bool_)
    lengths: Any = 0
    first = 0
    for part in parts:
        end = first + part.matrix.shape[1]
        matrix[:, first:end] = part.matrix
        if part.lengths is None:
            lengths = lengths + (end - first)
        else:
            assert kept is not None
            kept[:, first:end] = np.arange(end - first) < part.lengths[:, np.newaxis]
            lengths = lengths + part.lengths
        first = end
    offsets = np.zeros(count + 1, np.int64)
    np.cumsum(np.broadcast_to(lengths, count), out=offsets[1:])
    data = matrix if kept is None else matrix[kept]
    buffers = [_validity(used), pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(_BINARY, count, buffers)


def _constant(data: bytes) -> _Part:
    return _Part(np.frombuffer(data, np.uint8)[np.newaxis])


def _single(numbers: Any) -> _Part:
    """Write numbers below 128 as varints of one byte."""
    return _Part(np.asarray(numbers, np.uint8).reshape(-1, 1))


def _varints(numbers: npt.NDArray[np.uint64]) -> _Part:
    """Write numbers as protobuf's varints: seven bits a byte, the lowest first."""
    width = max(1, -(-int(numbers.max()).bit_length() // 7))
    if width == 1:
        return _single(numbers)
    lengths = _varint_bytes(numbers)
    matrix = np.empty((len(numbers), width), np.uint8)
    for place in range(width):
        seven = (numbers >> np.uint64(7 * place)).astype(np.uint8) & 0x7F
        matrix[:, place] = seven | np.where(place < lengths - 1, 0x80, 0).astype(np.uint8)
    return _Part(matrix, None if (lengths == width).all() else lengths)


def _varint_bytes(numbers: Any) -> Ints:
    """Count the bytes that numbers take as varints."""
    lengths = np.ones(len(numbers), np.int64)
    largest = int(numbers.max())
    bits = 7
    while largest >> bits:
        lengths += numbers >= numbers.dtype.type(1 << bits)
        bits += 7
    return lengths


def _validity(used: Bools) -> Any:
    return None if used.all() else pa.py_buffer(np.packbits(used, bitorder="little"))


def _offsets(array: pa.Array) -> Ints:
    """Return the n + 1 places of a large binary array's values in its data."""
    places = np.frombuffer(array.buffers()[1], np.int64)
    return places[array.offset : array.offset + len(array) + 1]


def _data(array: pa.Array) -> Bytes:
    data = array.buffers()[2]
    return np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
