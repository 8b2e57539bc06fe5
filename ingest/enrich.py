"""Enrichment: features of another feature group, as they were at the time of each message."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, final

import pyarrow as pa

from featurestore import (
    FeatureGroup,
    FeatureGroupNotFound,
    FeatureStore,
    InvalidRecord,
    Overloaded,
    StoreUnavailable,
    Throttled,
    eventtime,
)
from featurestore.record import identifier_text, shown
from ingest.decode import Decoded
from ingest.errors import IngestError, InvalidMapping, Undecodable
from ingest.source import Message
from ingest.transform import FieldOrigin, FieldOrigins, Transform, Transformed

__all__ = ["Lookup"]

_TIMESTAMP: Final = "@timestamp"
_TIME: Final = pa.timestamp("us", "UTC")
_FIRST_PAUSE_S: Final = 0.05
_LAST_PAUSE_S: Final = 2.0


@final
class Lookup(Transform):
    """Adds features of another feature group, as of each record's time.

    The rule is that of datasets: the newest version of the other group's record whose event time is
    at or before the record's; a deletion counts from its event time on; a null feature stays
    null. A record whose key is null, or of whom nothing was known, gets nothing added. What the
    record has already under a looked-up name is replaced. Deletions pass through as they are.

    **What is guaranteed.** A batch sees every record of the other group that was acknowledged
    before it is looked up. Read again, a message gives the same record as long as the other group
    has got no version since then with an event time at or before the message's. Such a late version
    changes what a replay finds, as it changes what a dataset finds: the history is what it is when
    one looks. So do an erasure, and a record put into one of the two stores only. Where streams
    race, let the messages come later than what they are looked up in, or set `wait_s`. Nothing is
    kept from one batch to the next, so no answer is stale.

    **Time to live.** A dataset takes no notice of it, and neither does a lookup, until `max_age`
    says so: an age up to which a version is seen, inclusive, or `"ttl"` for what was readable
    online at the record's time: younger than the other group's ttl, as that is when the run begins.
    The ttl of a single record is not looked at.

    **Which groups.** Feature groups with an offline store, encrypted ones too, and windowed groups
    (as of the message's time, each batch computed from the history; no `max_age`). Groups that
    have only an online store know no past and are refused.

    Args:
        group: the other group.
        on: one pair: name in the record → the other group's record identifier.
        features: what to add; none: all but the record identifier and the event time.
        prefix: put before each feature's name.
        as_of: where the record's time is: a name in the record, or `@timestamp` for when the source
            got the message; None: the event time of the group that records go to. In any form that
            an event time may have.
        missing: `null`: a message of whose key nothing was known then goes on without; `refuse`:
            it is refused. A null key is no key, and is refused too.
        wait_s: how long a batch waits for records that are missing, ≥ 0; later ones are missing.
        max_age: how old a version may be; None: any age.
        retry_s: how long to try again while the store is unavailable.

    Raises:
        InvalidMapping: the arguments do not go together.

    Cost: one call a batch for all its keys; those whose latest version is later than their
    message, and those that are not online, take a flush of the other group and a join with its
    history, some 50 ms a batch.
    """

    def __init__(
        self,
        group: str,
        on: Mapping[str, str],
        *,
        features: Sequence[str] = (),
        prefix: str = "",
        as_of: str | None = None,
        missing: Literal["null", "refuse"] = "null",
        wait_s: float = 0.0,
        max_age: dt.timedelta | Literal["ttl"] | None = None,
        retry_s: float = 60.0,
    ) -> None:
        where = f"lookup {group!r}"
        if len(on) != 1:
            raise InvalidMapping(
                where,
                expected="on: one name of the record → the record identifier",
                got=shown(dict(on)),
            )
        if missing not in ("null", "refuse"):
            raise InvalidMapping(where, expected="missing: null or refuse", got=shown(missing))
        if wait_s < 0:
            raise InvalidMapping(where, expected="wait_s: 0 or more", got=shown(wait_s))
        if isinstance(features, str) or len(set(features)) != len(features):
            raise InvalidMapping(where, expected="features, each once", got=shown(features))
        if isinstance(max_age, str) and max_age != "ttl":
            raise InvalidMapping(where, expected='max_age: a length of time or "ttl"', got=max_age)
        if isinstance(max_age, dt.timedelta) and max_age < dt.timedelta(0):
            raise InvalidMapping(where, expected="max_age: 0 or more", got=str(max_age))
        self.group = group
        ((self._key, self._identifier),) = on.items()
        self._features = tuple(features)
        self._prefix = prefix
        self._as_of = as_of
        self._missing = missing
        self._wait_s = wait_s
        self._max_age = max_age
        self._retry_s = retry_s
        self._where = where
        self._open: _Open | None = None

    def open(self, store: FeatureStore, group: FeatureGroup) -> None:
        """Look at the other group.

        Raises:
            InvalidMapping: `on` names another feature than the record identifier, the group has
                only an online store or no ttl to go by.
            FeatureGroupNotFound, FeatureNotFound: the group or a feature does not exist.
        """
        other, is_windowed = _reads_as(store, self.group)
        if self._identifier != other.record_identifier:
            raise InvalidMapping(
                self._where,
                expected=f"on: the record identifier {other.record_identifier!r}",
                got=repr(self._identifier),
            )
        if not is_windowed and not other.offline:
            raise InvalidMapping(
                self._where, expected="a group with an offline store", got="only an online store"
            )
        names = self._features or tuple(
            name
            for name in other.feature_names
            if name not in (other.record_identifier, other.event_time)
        )
        for name in names:
            other.feature_type(name)
        lookback: dt.timedelta | None = None
        if self._max_age is not None and is_windowed:
            raise InvalidMapping(
                self._where, expected="no max_age for a windowed group", got=str(self._max_age)
            )
        if isinstance(self._max_age, dt.timedelta):
            lookback = self._max_age
        elif self._max_age is not None:
            if other.ttl is None:
                raise InvalidMapping(
                    self._where, expected="a group with a ttl for max_age", got="none"
                )
            # Readable is what has not reached its end; a lookback includes it.
            lookback = dt.timedelta(microseconds=other.ttl.us - 1)
        self._open = _Open(store, other, names, lookback, self._as_of or group.event_time)

    def apply(
        self, records: Sequence[Decoded], messages: Sequence[Message]
    ) -> Sequence[Transformed]:
        """Return the records with the features added, in the same order.

        Raises:
            StoreUnavailable: the store was away for `retry_s`.
        """
        opened = self._open
        if opened is None:
            raise IngestError(f"{self._where} is not open: call open(store, group) before apply")
        out: list[Transformed] = list(records)
        asked: list[tuple[int, str, int]] = []
        for place, (record, message) in enumerate(zip(records, messages, strict=True)):
            if not isinstance(record, Mapping):
                continue
            try:
                key = self._key_of(record, opened.group)
                if key is not None:
                    asked.append((place, key, self._time_of(record, message, opened)))
                elif self._missing == "refuse":
                    raise Undecodable(
                        f"{self._where} on {self._key!r}", expected="a key", got="none"
                    )
            except Undecodable as error:
                out[place] = error
        if not asked:
            return out
        rows = self._rows(asked, opened)
        names = [self._prefix + name for name in opened.names]
        for (place, key, time_us), row in zip(asked, rows, strict=True):
            record = records[place]
            assert isinstance(record, Mapping)
            if row is None:
                if self._missing == "refuse":
                    out[place] = Undecodable(
                        f"{self._where} on {self._key!r}",
                        expected=f"a record known at {eventtime.format_iso(time_us)}",
                        got=f"none of {shown(key)}",
                    )
                continue
            enriched = dict(record)
            for name, value in zip(names, row, strict=True):
                if value is None:
                    enriched.pop(name, None)
                else:
                    enriched[name] = value
            out[place] = enriched
        return out

    def origins(self) -> FieldOrigins | None:
        """Say which features are looked up, and by which key."""
        if self._open is None:
            return None
        key = FieldOrigin(self._key, type="INDIRECT", subtype="JOIN", detail=f"key of {self.group}")
        return FieldOrigins(
            {
                f"{self._prefix}{name}": (FieldOrigin(name, self.group), key)
                for name in self._open.names
            },
            keeps_others=True,
        )

    def describe(self) -> Mapping[str, object]:
        """Return the arguments in plain values."""
        body: dict[str, object] = {
            "transform": "lookup",
            "group": self.group,
            "on": {self._key: self._identifier},
            "features": list(self._features),
            "prefix": self._prefix,
            "as_of": self._as_of,
            "missing": self._missing,
            "wait_s": self._wait_s,
        }
        if self._max_age is not None:
            body["max_age"] = (
                self._max_age if isinstance(self._max_age, str) else self._max_age.total_seconds()
            )
        return body

    def close(self) -> None:
        """Forget the store."""
        self._open = None

    def _key_of(self, record: Mapping[str, object], other: FeatureGroup) -> str | None:
        value = record.get(self._key)
        if value is None or value != value:  # NaN is null too
            return None
        try:
            return identifier_text(other, value)
        except InvalidRecord as error:
            raise Undecodable(
                f"{self._where} on {self._key!r}",
                expected=f"an identifier of {other.name}: {error.expected or 'of its length'}",
                got=shown(value),
            ) from None

    def _time_of(self, record: Mapping[str, object], message: Message, opened: _Open) -> int:
        where = f"{self._where} as of {opened.as_of!r}"
        if opened.as_of == _TIMESTAMP:
            if message.timestamp_us is None:
                raise Undecodable(where, expected="a timestamp", got="none")
            return message.timestamp_us
        value = record.get(opened.as_of)
        try:
            if isinstance(value, dt.datetime):
                return eventtime.to_us(value)
            if isinstance(value, str):
                return eventtime.parse_iso(value)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return eventtime.parse_fractional(float(value))
        except (ValueError, OverflowError) as error:
            raise Undecodable(
                where, expected="an event time", got=f"{shown(value)}: {error}"
            ) from None
        raise Undecodable(where, expected="an event time", got=shown(value))

    def _rows(
        self, asked: Sequence[tuple[int, str, int]], opened: _Open
    ) -> list[tuple[Any, ...] | None]:
        """Return the features of each, None where nothing was known; waits as long as it may."""
        rows: list[tuple[Any, ...] | None] = [None] * len(asked)
        waiting = list(range(len(asked)))
        deadline = time.monotonic() + self._wait_s
        pause_s = _FIRST_PAUSE_S
        while True:
            found = self._read([asked[number] for number in waiting], opened)
            still = []
            for number, row in zip(waiting, found, strict=True):
                if row is None:
                    still.append(number)
                rows[number] = row
            left_s = deadline - time.monotonic()
            if not still or left_s <= 0:
                return rows
            waiting = still
            time.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, _LAST_PAUSE_S)

    def _read(
        self, asked: Sequence[tuple[int, str, int]], opened: _Open
    ) -> list[tuple[Any, ...] | None]:
        # A pair that comes again is asked for once. Whether something was known the identifier
        # tells, which every version has.
        pairs = list(dict.fromkeys((key, time_us) for _, key, time_us in asked))
        names = (opened.group.record_identifier, *opened.names)
        table = self._tried(opened, pairs, names)
        columns = [table[number].to_pylist() for number in range(len(names))]
        known = dict(zip(pairs, zip(*columns, strict=True), strict=True))
        return [
            None if row[0] is None else row[1:]
            for row in (known[key, time_us] for _, key, time_us in asked)
        ]

    def _tried(
        self, opened: _Open, pairs: Sequence[tuple[str, int]], names: Sequence[str]
    ) -> pa.Table:
        """Read, trying again while the store is unavailable."""
        deadline = time.monotonic() + self._retry_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return opened.store.get_as_of(
                    self.group,
                    [key for key, _ in pairs],
                    pa.array([time_us for _, time_us in pairs], pa.int64()).cast(_TIME),
                    features=names,
                    lookback=opened.lookback,
                )
            except (StoreUnavailable, Overloaded, Throttled):
                if time.monotonic() + pause_s > deadline:
                    raise
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LAST_PAUSE_S)


@final
class _Open:
    """What a lookup has found out at the beginning of a run."""

    def __init__(
        self,
        store: FeatureStore,
        group: FeatureGroup,
        names: Sequence[str],
        lookback: dt.timedelta | None,
        as_of: str,
    ) -> None:
        self.store = store
        self.group = group
        self.names = tuple(names)
        self.lookback = lookback
        self.as_of = as_of


def _reads_as(store: FeatureStore, name: str) -> tuple[FeatureGroup, bool]:
    """Return what a group reads as, and whether it is windowed."""
    try:
        return store.describe_feature_group(name), False
    except FeatureGroupNotFound:
        windowed = {entry.group.name: entry.group for entry in store.list_windowed_groups()}
        if name not in windowed:
            raise
        source = store.describe_feature_group(windowed[name].source)
        return windowed[name].schema(source), True
