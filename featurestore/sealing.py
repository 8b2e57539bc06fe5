"""The one way of records into the online store and out of it again, sealed where they must be.

Records of a group with a `kms_key` are sealed before a write goes to the engine, as the latest
value and in the outbox, and opened behind it. Those of other groups pass as they are. Engines,
migration, sweep and backup copy bytes and know nothing of it. Tombstones hold no record.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

from featurestore.codec import OutboxEntries, OutboxEntry, StoredValue
from featurestore.encryption import Cipher, KeyRing
from featurestore.errors import FeatureStoreError, StoreCorrupt, StoreUnavailable
from featurestore.registry import Registered

__all__ = ["Sealing"]


@final
class Sealing:
    """Seals and opens the records of a home's encrypted groups. May be used from many threads.

    Whether a group is encrypted the registry says, not the keys: where a key is missing, nothing
    is written or read in clear.

    Args:
        home: the home folder.
        environ: names the master key, see KeyRing.open.

    Raises:
        StoreUnavailable, InvalidRequest, StoreCorrupt: as for KeyRing.open.
    """

    def __init__(self, home: Path, *, environ: Mapping[str, str] = os.environ) -> None:
        self._ring = KeyRing.open(home, environ=environ)

    def create(self, entry: Registered) -> None:
        """Make the data key of a new group, if it is to be encrypted.

        Raises:
            InvalidRequest: there is no master key.
            StoreFull: no space for the key.
        """
        if entry.group.kms_key:
            self._ring.create(entry.number)

    def destroy(self, entry: Registered) -> None:
        """Destroy the keys of a group: what is left of its sealed bytes never opens again.

        Raises:
            StoreFull: no space to write; the keys are still there.
        """
        if entry.group.kms_key:
            self._ring.destroy(entry.number)

    def numbers(self) -> frozenset[int]:
        """Return the numbers of the groups that have keys."""
        return self._ring.numbers()

    def seal(self, entry: Registered, identifier: bytes, record: bytes) -> bytes:
        """Return a record's bytes as the online store takes them.

        Raises:
            StoreUnavailable: the group's key is missing, or the master key for it.
            StoreFull: no space to note that the key was used.
        """
        cipher = self._cipher(entry)
        return record if cipher is None else cipher.seal(record, identifier)

    def seal_all(
        self, entry: Registered, identifiers: Sequence[bytes], records: Sequence[bytes]
    ) -> Sequence[bytes]:
        """Return the bytes of many records as the online store takes them: `seal` by the column."""
        cipher = self._cipher(entry)
        return records if cipher is None else cipher.seal_all(records, identifiers)

    def open(
        self,
        entry: Registered,
        values: Sequence[StoredValue | None],
        *,
        refused: dict[int, FeatureStoreError] | None = None,
    ) -> Sequence[StoredValue | None]:
        """Return stored values with their records in clear.

        Args:
            entry: their group.
            values: as the online store has them.
            refused: gets the errors by the place of their value, which is None in the answer;
                without it the first one is raised.

        Raises:
            StoreCorrupt: sealed bytes were altered, or are another record's; it names the record.
            StoreUnavailable: the group's key is missing, or the master key for it.
        """
        try:
            cipher = self._cipher(entry)
        except FeatureStoreError as error:
            if refused is None:
                raise
            refused.update(dict.fromkeys(range(len(values)), error))
            return [None] * len(values)
        if cipher is None:
            return values
        opened = list(values)
        for place, value in enumerate(values):
            if value is None or value.is_deleted:
                continue
            try:
                record = cipher.open(value.record, value.identifier)
            except StoreCorrupt as error:
                if refused is None:
                    raise _named(entry, value.identifier, error) from error
                opened[place] = None
                refused[place] = _named(entry, value.identifier, error)
            else:
                opened[place] = StoredValue._make((*value[:-1], record))  # half of _replace's time
        return opened

    def open_entries(
        self, entry: Registered, entries: Sequence[OutboxEntry]
    ) -> Sequence[OutboxEntry]:
        """Return outbox entries with their records in clear.

        Raises:
            StoreCorrupt: sealed bytes were altered; it names the entry.
            StoreUnavailable: the group's key is missing, or the master key for it.
        """
        cipher = self._cipher(entry)
        if cipher is None:
            return entries
        sealed = OutboxEntries.of(entries)
        records: list[bytes] = []
        for place, record in enumerate(sealed.records):
            try:
                records.append(cipher.open(record))
            except StoreCorrupt as error:
                sequence = int(sealed.sequences[place])
                raise StoreCorrupt(
                    f"{entry.group.name}: outbox entry {sequence}: {error.message}",
                    group=entry.group.name,
                    sequence=sequence,
                ) from error
        return sealed.with_records(records)

    def close(self) -> None:
        """Close the keys' file; sealing and opening are refused afterwards."""
        self._ring.close()

    def _cipher(self, entry: Registered) -> Cipher | None:
        if not entry.group.kms_key:
            return None
        cipher = self._ring.cipher(entry.number)
        if cipher is None:
            raise StoreUnavailable(
                f"{entry.group.name}: the group is encrypted, and {self._ring.path} has no key of "
                f"it; restore that file from a backup"
            )
        return cipher


def _named(entry: Registered, identifier: bytes, error: StoreCorrupt) -> StoreCorrupt:
    return StoreCorrupt(
        f"{entry.group.name}: {error.message}",
        group=entry.group.name,
        identifier=identifier.decode(errors="replace"),
    )
