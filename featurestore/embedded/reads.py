"""Reads of records from the online store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import final

import pyarrow as pa

from featurestore import convert
from featurestore import record as record_rules
from featurestore.batches import TABLE_CHUNK, arrow_values, identifier_texts
from featurestore.codec import HARD, StoredValue
from featurestore.errors import FeatureStoreError
from featurestore.online import OnlineStore
from featurestore.registry import Registered, Registry
from featurestore.requested import check_readable, readable
from featurestore.sealing import Sealing
from featurestore.store import Found, Get
from featurestore.windowed import WindowedGroups

__all__ = ["Reader"]


@final
class Reader:
    """Reads records of feature groups, and of windowed groups beside them.

    Args:
        registry: of the home.
        online: the online store.
        sealing: of the home.
        windowed: the windowed groups of the home.
        now: the clock, µs since the epoch.
    """

    def __init__(
        self,
        registry: Registry,
        online: OnlineStore,
        sealing: Sealing,
        windowed: WindowedGroups,
        *,
        now: Callable[[], int],
    ) -> None:
        self._registry = registry
        self._online = online
        self._sealing = sealing
        self._windowed = windowed
        self._now = now

    def many(self, requests: Sequence[Get]) -> list[Found]:
        """See FeatureStore.batch_get."""
        now = self._now()
        groups = self._registry.current()
        if any(asked.group not in groups for asked in requests):
            return self._many_with_windows(requests, groups)
        entries = [readable(groups, asked.group, asked.features) for asked in requests]
        texts = [
            [record_rules.identifier_text(entry.group, i) for i in asked.identifiers]
            for entry, asked in zip(entries, requests, strict=True)
        ]
        wanted = [
            (entry.number, [text.encode() for text in names])
            for entry, names in zip(entries, texts, strict=True)
        ]
        found: list[Found] = []
        for entry, asked, identifiers, answer in zip(
            entries, requests, texts, self._online.get_many(wanted), strict=True
        ):
            if isinstance(answer, FeatureStoreError):
                raise answer
            features = asked.features or None
            found.extend(
                Found(asked.group, text, convert.decode_record(value.record, features))
                for text, value in zip(identifiers, self._sealing.open(entry, answer), strict=True)
                if value is not None and value.is_readable(now)
            )
        return found

    def table(
        self, group: str, identifiers: Iterable[object], *, features: Sequence[str] = ()
    ) -> pa.Table:
        """See FeatureStore.get_table."""
        groups = self._registry.current()
        windowed = None if group in groups else self._registry.windows().get(group)
        if windowed is not None:
            schema = windowed.windows.schema
            check_readable(schema, features)
            texts = self._windowed.texts(windowed, arrow_values(identifiers))
            return convert.records_to_table(
                schema, texts, list(self._windowed.records(windowed, texts, features)), features
            )
        entry = readable(groups, group, features)
        texts = identifier_texts(entry.group, identifiers)
        now = self._now()
        records: list[bytes | None] = []
        for start in range(0, len(texts), TABLE_CHUNK):
            keys = [text.encode() for text in texts[start : start + TABLE_CHUNK]]
            records.extend(
                value.record if value is not None and value.is_readable(now) else None
                for value in self.stored(entry, keys)
            )
        return convert.records_to_table(entry.group, texts, records, features)

    def stored(
        self, entry: Registered, identifiers: Sequence[bytes]
    ) -> Sequence[StoredValue | None]:
        """Return the stored versions of identifiers, with their records in clear."""
        return self._sealing.open(entry, self._online.get(entry.number, identifiers))

    def page(
        self, entry: Registered, *, after: bytes | None, limit: int, include_soft_deleted: bool
    ) -> tuple[list[str], bytes | None]:
        """Return one page of identifiers and the key to go on from, None at the end."""
        now = self._now()
        values = self._online.scan(entry.number, after=after, limit=limit)
        identifiers = [
            value.identifier.decode()
            for _, value in values
            if value.is_readable(now)
            or (include_soft_deleted and value.is_deleted and not value.flags & HARD)
        ]
        return identifiers, values[-1][0] if len(values) == limit else None

    def _many_with_windows(
        self, requests: Sequence[Get], groups: Mapping[str, Registered]
    ) -> list[Found]:
        """Read windowed groups one by one; what is neither kind of group is not found."""
        windowed = self._registry.windows()
        found: list[Found] = []
        for asked in requests:
            entry = None if asked.group in groups else windowed.get(asked.group)
            if entry is None:
                readable(groups, asked.group, asked.features)
                found.extend(self.many([asked]))
                continue
            check_readable(entry.windows.schema, asked.features)
            texts = self._windowed.texts(entry, arrow_values(asked.identifiers))
            wanted = asked.features
            for text, record in zip(texts, self._windowed.read(entry, texts), strict=True):
                chosen = {n: v for n, v in record.items() if not wanted or n in wanted}
                found.append(Found(asked.group, text, chosen))
        return found
