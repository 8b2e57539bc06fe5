"""From records to writes: what is checked before the online store's transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from featurestore import convert, eventtime
from featurestore import record as record_rules
from featurestore.arrowcode import Encoded, check_records
from featurestore.codec import DELETED, HARD, NEVER
from featurestore.embedded.reads import Reader
from featurestore.errors import InvalidRecord, InvalidRequest
from featurestore.load import expiries
from featurestore.online import PutColumns, Write
from featurestore.record import Delete, Put
from featurestore.registry import Registered, named
from featurestore.requested import targets
from featurestore.schema import Ttl
from featurestore.sealing import Sealing
from featurestore.update import merge

__all__ = ["Preparer"]


@final
class Preparer:
    """Checks records and makes the writes of them; nothing is stored.

    Args:
        reader: reads what is stored, for partial updates.
        sealing: of the home.
        now: the clock, µs since the epoch.
        tolerance_us: how far ahead of the clock an event time may lie.
    """

    def __init__(
        self, reader: Reader, sealing: Sealing, *, now: Callable[[], int], tolerance_us: int
    ) -> None:
        self._reader = reader
        self._sealing = sealing
        self._now = now
        self._tolerance_us = tolerance_us

    def put(self, groups: Mapping[str, Registered], put: Put) -> Write:
        """Check one record and make the write of it.

        Raises:
            FeatureGroupNotFound: no such group.
            InvalidRecord: the record does not fit it.
        """
        ttl = put.ttl
        if ttl is not None and not isinstance(ttl, Ttl):
            raise InvalidRequest(f"{put.group}: expected a Ttl, got {ttl!r}")
        return self._record(named(groups, put.group), put.record, ttl, put.stores, self._now())

    def message(
        self, entry: Registered, message: Any, ttl: Ttl | None, stores: tuple[str, ...] | None
    ) -> Write:
        """Check one record as it came over the wire and make the write of it."""
        now = self._now()
        identifier, event_time, data = convert.check_message(
            entry.group, message, now=now, tolerance_us=self._tolerance_us
        )
        return self._write(entry, identifier, event_time, data, ttl, stores, now)

    def records(
        self, entry: Registered, records: Sequence[bytes], ttl: Ttl | None
    ) -> tuple[PutColumns, list[tuple[int, InvalidRecord]]]:
        """Check many records as they came over the wire and make the writes of them.

        Returns:
            The writes, in order, and number and reason of each refused record.
        """
        now = self._now()
        checked = check_records(entry.group, records, now=now, tolerance_us=self._tolerance_us)
        return self.columns(entry, checked, ttl, now), checked.refused

    def columns(self, entry: Registered, encoded: Encoded, ttl: Ttl | None, now: int) -> PutColumns:
        """Make the writes of many checked records of one group: `put` by the column."""
        group = entry.group
        return PutColumns(
            entry.number,
            encoded.identifiers,
            encoded.event_times_us,
            self._sealing.seal_all(entry, encoded.identifiers, encoded.records),
            expiries(ttl or group.ttl, encoded.event_times_us),
            entry.version,
            now,
            group.online,
            group.offline,
        )

    def update(
        self,
        entry: Registered,
        identifier: object,
        features: Mapping[str, object],
        ttl: Ttl | None,
        stores: tuple[str, ...] | None,
    ) -> Write:
        """Apply a partial update to the stored version and make the write of it.

        The write is compare-and-set: where it comes out as CHANGED, prepare it again.
        """
        group = entry.group
        online, offline = targets(group, stores)
        if not group.online:
            raise InvalidRequest(
                f"{group.name}: the group has no online store, so there is no record to update; "
                f"put whole records"
            )
        text = record_rules.identifier_text(group, identifier)
        stored = self._reader.stored(entry, [text.encode()])[0]
        now = self._now()
        updated = merge(
            group, text, stored, features, ttl, now=now, tolerance_us=self._tolerance_us
        )
        assert stored is not None
        return Write(
            entry.number,
            text.encode(),
            updated.event_time_us,
            self._sealing.seal(entry, text.encode(), updated.record),
            0,
            updated.expires_us,
            entry.version,
            now,
            online,
            offline,
            stored.sequence,
        )

    def delete(
        self,
        entry: Registered,
        identifier: object,
        event_time: object,
        *,
        hard: bool,
        stores: tuple[str, ...] | None = None,
    ) -> Write:
        """Make the write of a delete: a tombstone online, a marker offline."""
        group = entry.group
        online, offline = targets(group, stores)
        marker = record_rules.check(
            group,
            {
                group.record_identifier: identifier,
                group.event_time: event_time,
            },
            now=self._now(),
            tolerance_us=self._tolerance_us,
        )
        key = marker.identifier.encode()
        data = convert.encode_record(marker.values, group.collections)
        return Write(
            entry.number,
            key,
            marker.event_time_us,
            self._sealing.seal(entry, key, data),
            DELETED | HARD if hard else DELETED,
            NEVER,
            entry.version,
            self._now(),
            online,
            offline,
        )

    def soft_delete(self, entry: Registered, delete: Delete) -> Write:
        """Make the write of a delete as a batch has it."""
        return self.delete(
            entry, delete.identifier, delete.event_time, hard=False, stores=delete.stores
        )

    def _record(
        self,
        entry: Registered,
        record: Mapping[str, object],
        ttl: Ttl | None,
        stores: tuple[str, ...] | None,
        now: int,
    ) -> Write:
        checked = record_rules.check(entry.group, record, now=now, tolerance_us=self._tolerance_us)
        data = convert.checked_size(
            entry.group, convert.encode_record(checked.values, entry.group.collections)
        )
        return self._write(entry, checked.identifier, checked.event_time_us, data, ttl, stores, now)

    def _write(
        self,
        entry: Registered,
        identifier: str,
        event_time_us: int,
        data: bytes,
        ttl: Ttl | None,
        stores: tuple[str, ...] | None,
        now: int,
    ) -> Write:
        """Make the write of a checked record."""
        online, offline = targets(entry.group, stores)
        ttl = ttl or entry.group.ttl
        # A ttl that ends after the last event time there is never ends.
        ends = None if ttl is None else event_time_us + ttl.us
        key = identifier.encode()
        return Write(
            entry.number,
            key,
            event_time_us,
            self._sealing.seal(entry, key, data) if entry.group.kms_key else data,
            0,
            NEVER if ends is None or ends > eventtime.MAX_US else ends,
            entry.version,
            now,
            online,
            offline,
        )
