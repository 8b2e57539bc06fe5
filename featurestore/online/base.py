"""What every online store promises, and the one rule of order they share."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from featurestore.codec import DELETED, HARD, StoredValue
from featurestore.errors import FeatureStoreError
from featurestore.outbox import Outbox
from featurestore.position import SourcePosition

if TYPE_CHECKING:
    from featurestore.online.windows import WindowStore

__all__ = [
    "Batch",
    "Erased",
    "OnlineStore",
    "Outcome",
    "Usage",
    "Version",
    "Write",
    "decide",
    "decide_erasure",
]


class Outcome(enum.IntEnum):
    """What became of one write."""

    APPLIED = 0  # it is the latest version online (or went to the offline store only, as asked)
    HISTORIC = 1  # older than the stored version: offline only
    REFUSED = 2  # a hard delete that is not later than the stored record: nothing was written
    CHANGED = 3  # the stored version is not the `expected` one: nothing was written
    ERASED = 4  # at or before an erasure of its identifier: erased on arrival, nothing was written


class Write(NamedTuple):
    """One checked put or delete.

    A named tuple, like the other values here, since one is made for every put.

    Args:
        group: the feature group's number.
        identifier: UTF-8, at most 2 KiB.
        event_time_us: orders versions.
        record: bytes of a `featurestore.v1.Record`; for a delete, of its offline marker.
        flags: 0 for a put; DELETED for a soft delete, DELETED | HARD for a hard one.
        expires_us: first microsecond at which the record cannot be read online.
        schema_version: of the group, at the time of the put.
        invocation_us: when the call came in.
        online: it goes to the online store.
        offline: it goes to the outbox.
        expected: compare-and-set: sequence of the stored version that this write was made from.
            It then replaces that version whatever its event time, and no other. 0: it is stored
            where nothing is.
    """

    group: int
    identifier: bytes
    event_time_us: int
    record: bytes
    flags: int
    expires_us: int
    schema_version: int
    invocation_us: int
    online: bool = True
    offline: bool = True
    expected: int | None = None


class Version(NamedTuple):
    """What the rule of order needs to know of a stored version."""

    event_time_us: int
    sequence: int


class Erased(NamedTuple):
    """What an erasure of one identifier did online.

    Args:
        found: whether a version was there, a tombstone too, and was removed.
        through_us: writes of an event time at or before it are erased on arrival from now on.
    """

    found: bool
    through_us: int


class Batch(NamedTuple):
    """Writes that are stored together, with the source position they came from."""

    writes: Sequence[Write]
    position: SourcePosition | None = None


class Usage(NamedTuple):
    """How much room an online store takes; None where its engine does not know.

    Args:
        records: versions of all groups, tombstones too.
        used_bytes: in use.
        file_bytes: of the file; what is free in it is used again.
        limit_bytes: what it cannot grow beyond.
        readers: places for readers taken, by all processes.
    """

    records: int | None = None
    used_bytes: int | None = None
    file_bytes: int | None = None
    limit_bytes: int | None = None
    readers: int | None = None


class OnlineStore(ABC):
    """Latest values by identifier, the outbox, and source positions, in one transaction.

    A store may be used from many threads. Every implementation passes
    `tests/contracts/test_online_store.py`.

    `reads_block` says whether a read waits for others, as for the network: who must not wait
    reads in another thread then.
    """

    reads_block: ClassVar[bool] = False

    @abstractmethod
    def put(self, batches: Sequence[Batch]) -> list[list[Outcome] | FeatureStoreError]:
        """Store batches in one durable transaction, in their order.

        Each batch is stored whole, or not at all when its position conflicts: then its place in
        the answer holds the PositionConflict, and the other batches are stored all the same.

        Returns:
            One list of outcomes per batch, one outcome per write.

        Raises:
            StoreFull: nothing of the call was written.
        """

    @abstractmethod
    def get(self, group: int, identifiers: Sequence[bytes]) -> list[StoredValue | None]:
        """Return the stored version of each identifier, tombstones and expired ones too."""

    def get_many(
        self, wanted: Sequence[tuple[int, Sequence[bytes]]]
    ) -> list[Sequence[StoredValue | None] | FeatureStoreError]:
        """Do `get` for several groups; where reads cost a round trip, they share it.

        Args:
            wanted: groups and identifiers; a group may come twice.

        Returns:
            What `get` returns for each, or its FeatureStoreError where that group cannot be read.
        """
        found: list[Sequence[StoredValue | None] | FeatureStoreError] = []
        for group, identifiers in wanted:
            try:
                found.append(self.get(group, identifiers))
            except FeatureStoreError as error:
                found.append(error)
        return found

    @abstractmethod
    def scan(
        self, group: int, *, after: bytes | None, limit: int
    ) -> list[tuple[bytes, StoredValue]]:
        """Return up to `limit` versions whose key sorts behind `after`, with their keys.

        Keys sort as the identifiers' bytes; identifiers longer than a key come last.
        """

    @abstractmethod
    def erase(self, group: int, identifier: bytes, *, through_us: int) -> Erased:
        """Replace the version of an identifier by a tombstone that holds only a hash of it.

        From then on a write of the identifier with an event time at or before `through_us`, or
        that of the removed version when it is later, is stored nowhere (Outcome.ERASED), offline
        neither. A later one is stored as ever; the tombstone stays. Events of the identifier leave
        the windows in the same transaction. Done again with the same time it removes nothing that
        came meanwhile. `get` returns None for an erased identifier, `scan` the tombstone, with the
        flags DELETED, HARD and ERASED and the hash as its identifier.

        Raises:
            StoreFull: nothing was changed.
        """

    @abstractmethod
    def erased_through(self, group: int, identifiers: Sequence[bytes]) -> list[int | None]:
        """Return up to which event time, µs, each identifier was erased; None: it was not."""

    def scrub(self, group: int, identifiers: Sequence[bytes]) -> int | None:
        """Overwrite what erased identifiers left in the engine's free space, as far as it can.

        Returns:
            In how many places they still are, or may be; None where the engine cannot tell.
        """
        return None

    @abstractmethod
    def drop(self, group: int) -> None:
        """Remove all versions and waiting outbox entries of a group."""

    @abstractmethod
    def source_position(self, source: str) -> dict[str, int]:
        """Return the stored next position of each partition of a source."""

    @abstractmethod
    def last_sequence(self, group: int) -> int:
        """Return a sequence that each later write of the group exceeds, and no earlier one."""

    @property
    @abstractmethod
    def outbox(self) -> Outbox:
        """The entries that wait for the offline store."""

    @property
    @abstractmethod
    def store_id(self) -> str:
        """A name of this store that no other store has, kept for its life."""

    @property
    def windows(self) -> WindowStore | None:
        """What keeps windowed features here; None: the engine cannot."""
        return None

    def usage(self) -> Usage:
        """Return how much room the store takes, as far as the engine knows; it costs little."""
        return Usage()

    @abstractmethod
    def close(self) -> None:
        """Release the store; using it afterwards raises StoreUnavailable."""


def decide(write: Write, stored: Version | None) -> Outcome:
    """Say what becomes of a write: the one rule of order of every engine.

    An engine asks it for writes that no erasure covers.

    The newest event time wins. At equal event times the later write wins, but a delete does not
    win over a record: a delete must be later than what it deletes. So any order of arrival ends
    in the same version.

    Args:
        write: the write; it goes to the online store.
        stored: the version that is there, or None.

    >>> write = Write(1, b"k", 5, b"", 0, 9, 1, 5)
    >>> decide(write, None), decide(write, Version(6, 1)), decide(write, Version(5, 1))
    (<Outcome.APPLIED: 0>, <Outcome.HISTORIC: 1>, <Outcome.APPLIED: 0>)
    """
    if write.expected is not None:
        found = 0 if stored is None else stored.sequence
        return Outcome.APPLIED if found == write.expected else Outcome.CHANGED
    if stored is None or write.event_time_us > stored.event_time_us:
        return Outcome.APPLIED
    if write.event_time_us == stored.event_time_us and not write.flags & DELETED:
        return Outcome.APPLIED
    return Outcome.REFUSED if write.flags & HARD else Outcome.HISTORIC


def decide_erasure(through_us: int, stored_us: int | None, erased_us: int | None) -> Erased | None:
    """Say what an erasure does: the one rule of every engine. None: it was done before.

    Args:
        through_us: event time up to which is erased.
        stored_us: event time of the version that is there, or None.
        erased_us: of the tombstone that an earlier erasure left, or None.

    >>> decide_erasure(5, 3, None), decide_erasure(5, 9, None)
    (Erased(found=True, through_us=5), Erased(found=True, through_us=9))
    >>> decide_erasure(5, 9, 5)  # what came after the first of two equal erasures stays
    >>> decide_erasure(6, 9, 5)
    Erased(found=True, through_us=9)
    """
    if erased_us is not None and erased_us >= through_us:
        return None
    known = [time for time in (stored_us, erased_us) if time is not None]
    return Erased(stored_us is not None, max([through_us, *known]))
