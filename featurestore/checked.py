"""Records and deletions checked ahead of the transaction that stores them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import NoneType
from typing import Any, Final, final

import numpy as np
import pyarrow as pa

from featurestore import arrowwalk, convert
from featurestore import record as record_rules
from featurestore.arrowcode import Encoded, encode_batch
from featurestore.errors import InvalidRecord
from featurestore.feature import FeatureType
from featurestore.record import FUTURE_TOLERANCE_US, Delete, now_us
from featurestore.schema import FeatureGroup

__all__ = ["CheckedBatch", "check_batch"]

# Values of these types are a column of Arrow as they are; all others are looked at one by one.
_PLAIN: Final[dict[FeatureType, frozenset[type]]] = {
    FeatureType.INTEGRAL: frozenset({int, NoneType}),
    FeatureType.FRACTIONAL: frozenset({float, int, NoneType}),
    FeatureType.STRING: frozenset({str, NoneType}),
}
_TIME: Final = frozenset({dt.datetime})
_TIMESTAMP: Final = pa.timestamp("us", "UTC")
_FEW: Final = 16  # so few records are looked at one by one sooner than made into columns


@final
@dataclass(frozen=True, slots=True)
class CheckedBatch:
    """Records of one group in the form in which they are stored, for `FeatureStore.put_checked`.

    Args:
        group: the definition they were checked against.
        encoded: the records; `encoded.rows` are their numbers in what was checked.
        deletes: number and deletion, by number.
        refused: number and reason of all the others, by number.
    """

    group: FeatureGroup
    encoded: Encoded
    deletes: Sequence[tuple[int, Delete]] = ()
    refused: Sequence[tuple[int, InvalidRecord]] = field(default=())

    def __len__(self) -> int:
        return len(self.encoded.records) + len(self.deletes)

    def renumbered(self, numbers: Sequence[int]) -> CheckedBatch:
        """Return it with other numbers, such as those of messages that some entries came from.

        Args:
            numbers: rising, one for each entry that was checked.
        """
        of = np.array(numbers, np.int64)
        return replace(
            self,
            encoded=replace(self.encoded, rows=of[self.encoded.rows]),
            deletes=[(numbers[number], delete) for number, delete in self.deletes],
            refused=[(numbers[number], error) for number, error in self.refused],
        )


def check_batch(
    group: FeatureGroup,
    entries: Sequence[Mapping[str, object] | Delete],
    *,
    now: int | None = None,
    tolerance_us: int = FUTURE_TOLERANCE_US,
) -> CheckedBatch:
    """Check records and deletions by the rules of `put` and `delete`, and encode them.

    Records whose values have the types that their features are declared with are checked by the
    column, all at once; the others one by one.

    Args:
        group: the definition.
        entries: records by feature name, and deletions in the group.
        now: the clock, µs since the epoch; None: this machine's.
        tolerance_us: how far ahead of it an event time may lie.

    >>> from featurestore.schema import FeatureGroup, feature_definitions
    >>> group = FeatureGroup(
    ...     "weather",
    ...     record_identifier="origin",
    ...     event_time="hour",
    ...     features=feature_definitions([("origin", "String"), ("hour", "Fractional")]),
    ... )
    >>> checked = check_batch(group, [{"origin": "JFK", "hour": 1.0}, {"origin": "EWR"}])
    >>> checked.encoded.identifiers, checked.refused[0][0]
    ([b'JFK'], 1)
    """
    moment = now_us() if now is None else now
    deletes: list[tuple[int, Delete]] = []
    refused: list[tuple[int, InvalidRecord]] = []
    plain: list[int] = []
    singly: list[int] = []
    names = group.scalars.keys()
    for number, entry in enumerate(entries):
        if type(entry) is dict and entry.keys() <= names:
            plain.append(number)
        elif isinstance(entry, Delete):
            try:
                _check_delete(group, entry, moment, tolerance_us)
            except InvalidRecord as error:
                refused.append((number, error))
            else:
                deletes.append((number, entry))
        else:
            singly.append(number)
    columns: dict[str, pa.Array] = {}
    if len(plain) >= _FEW:
        columns, plain, others = _columns(group, entries, plain)
        singly = sorted([*singly, *others]) if others else singly
    else:
        singly = sorted([*singly, *plain])
        plain = []
    parts: list[Encoded] = []
    if plain:
        batch = pa.RecordBatch.from_pydict(columns)
        encoded = encode_batch(group, batch, now=moment, tolerance_us=tolerance_us)
        numbers = np.array(plain, np.int64)
        refused += [(plain[row], error) for row, error in encoded.refused]
        parts.append(
            Encoded(
                numbers[encoded.rows],
                encoded.identifiers,
                encoded.event_times_us,
                encoded.records,
                [],
            )
        )
    if singly:
        encoded = _one_by_one(group, entries, singly, moment, tolerance_us)
        refused += encoded.refused
        parts.append(encoded)
    refused.sort(key=_number)
    return CheckedBatch(group, _merged(parts), deletes, refused)


def _number(numbered: tuple[int, object]) -> int:
    return numbered[0]


def _check_delete(group: FeatureGroup, delete: Delete, now: int, tolerance_us: int) -> None:
    marker: dict[str, object] = {
        group.record_identifier: delete.identifier,
        group.event_time: delete.event_time,
    }
    record_rules.check(group, marker, now=now, tolerance_us=tolerance_us)


def _columns(
    group: FeatureGroup, entries: Sequence[Any], numbers: list[int]
) -> tuple[dict[str, pa.Array], list[int], list[int]]:
    """Make columns of the records whose values all have plain types.

    Returns:
        The columns, the numbers of their records, and those of the records left out.
    """
    left_out: set[int] = set()
    names = set().union(*(entries[number] for number in numbers))
    values: dict[str, tuple[list[object], pa.DataType]] = {}
    for name, kind in group.scalars.items():
        if name not in names:
            continue
        column = [entries[number].get(name) for number in numbers]
        kinds = set(map(type, column))
        if name == group.event_time and kinds == _TIME and all(map(_has_zone, column)):
            values[name] = column, _TIMESTAMP
            continue
        values[name] = column, arrowwalk.ARROW_TYPES[kind]
        if not kinds <= _PLAIN[kind]:
            plain = _PLAIN[kind]
            left_out.update(place for place, value in enumerate(column) if type(value) not in plain)
    if left_out:
        kept = [place for place in range(len(numbers)) if place not in left_out]
        values = {
            name: ([column[place] for place in kept], kind)
            for name, (column, kind) in values.items()
        }
        others = [numbers[place] for place in sorted(left_out)]
        numbers = [numbers[place] for place in kept]
    else:
        others = []
    try:
        columns = {name: pa.array(column, kind) for name, (column, kind) in values.items()}
    except (pa.ArrowInvalid, OverflowError, UnicodeError):
        # A number beyond its type, or text that is no Unicode: whose it is, each says itself.
        return {}, [], sorted([*numbers, *others])
    return columns, numbers, others


def _has_zone(moment: Any) -> bool:
    return moment.tzinfo is not None


def _one_by_one(
    group: FeatureGroup, entries: Sequence[Any], numbers: Sequence[int], now: int, tolerance_us: int
) -> Encoded:
    rows: list[int] = []
    identifiers: list[bytes] = []
    event_times: list[int] = []
    records: list[bytes] = []
    refused: list[tuple[int, InvalidRecord]] = []
    for number in numbers:
        try:
            record = record_rules.check(group, entries[number], now=now, tolerance_us=tolerance_us)
            data = convert.checked_size(
                group, convert.encode_record(record.values, group.collections)
            )
        except InvalidRecord as error:
            refused.append((number, error))
            continue
        rows.append(number)
        identifiers.append(record.identifier.encode())
        event_times.append(record.event_time_us)
        records.append(data)
    return Encoded(
        np.array(rows, np.int64), identifiers, np.array(event_times, np.int64), records, refused
    )


def _merged(parts: Sequence[Encoded]) -> Encoded:
    """Bring records that were checked apart back into the order in which they came."""
    if len(parts) == 1 and not parts[0].refused:
        return parts[0]
    rows = np.concatenate([np.zeros(0, np.int64), *(part.rows for part in parts)])
    times = np.concatenate([np.zeros(0, np.int64), *(part.event_times_us for part in parts)])
    identifiers = [identifier for part in parts for identifier in part.identifiers]
    records = [record for part in parts for record in part.records]
    order = np.argsort(rows, kind="stable")
    places = order.tolist()
    return Encoded(
        rows[order],
        [identifiers[place] for place in places],
        times[order],
        [records[place] for place in places],
        [],
    )
