"""Puts by the column: what a bulk load hands to the online store, without an object per record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import final, overload

import numpy as np

from featurestore.codec import Integers
from featurestore.online.base import Write

__all__ = ["PutColumns"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class PutColumns(Sequence[Write]):
    """Puts into one group: a sequence of writes, each made when it is asked for.

    Args:
        group: see Write, as the others that all have in common.
        identifiers: UTF-8 of each record.
        event_times_us: of each record.
        records: bytes of each record.
        expires_us: of each record.
        schema_version: of the group.
        invocation_us: when the load came in.
        online: they go to the online store.
        offline: they go to the outbox.
        expected: see Write, of each record; None: none is compare-and-set.
    """

    group: int
    identifiers: Sequence[bytes]
    event_times_us: Integers
    records: Sequence[bytes]
    expires_us: Integers
    schema_version: int
    invocation_us: int
    online: bool = True
    offline: bool = True
    expected: Integers | None = None

    @classmethod
    def join(cls, parts: Sequence[PutColumns]) -> PutColumns:
        """Return the puts of all parts, one or more, with what the first has in common."""
        first = parts[0]
        if len(parts) == 1:
            return first
        return replace(
            first,
            identifiers=list(chain.from_iterable(part.identifiers for part in parts)),
            event_times_us=np.concatenate([part.event_times_us for part in parts]),
            records=list(chain.from_iterable(part.records for part in parts)),
            expires_us=np.concatenate([part.expires_us for part in parts]),
            expected=_joined([part.expected for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.identifiers)

    def __iter__(self) -> Iterator[Write]:
        columns = zip(
            repeat(self.group),
            self.identifiers,
            self.event_times_us.tolist(),
            self.records,
            repeat(0),
            self.expires_us.tolist(),
            repeat(self.schema_version),
            repeat(self.invocation_us),
            repeat(self.online),
            repeat(self.offline),
            repeat(None) if self.expected is None else self.expected.tolist(),
            strict=False,  # what all have in common repeats without end
        )
        return map(Write._make, columns)

    @overload
    def __getitem__(self, place: int) -> Write: ...

    @overload
    def __getitem__(self, place: slice) -> PutColumns: ...

    def __getitem__(self, place: int | slice) -> Write | PutColumns:
        if isinstance(place, slice):
            return replace(
                self,
                identifiers=self.identifiers[place],
                event_times_us=self.event_times_us[place],
                records=self.records[place],
                expires_us=self.expires_us[place],
                expected=None if self.expected is None else self.expected[place],
            )
        return Write(
            self.group,
            self.identifiers[place],
            int(self.event_times_us[place]),
            self.records[place],
            0,
            int(self.expires_us[place]),
            self.schema_version,
            self.invocation_us,
            self.online,
            self.offline,
            None if self.expected is None else int(self.expected[place]),
        )


def _joined(parts: Sequence[Integers | None]) -> Integers | None:
    given = [part for part in parts if part is not None]
    return np.concatenate(given) if given else None
