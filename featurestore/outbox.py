"""The outbox: the durable log between the acknowledged put and the Delta commit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from featurestore.codec import OutboxEntry

__all__ = ["Outbox"]


class Outbox(ABC):
    """Entries in the order of their acknowledgement, by feature group.

    Written by the online store in the transaction that stores the record. Read in slices by the
    one flusher of a group, which removes a slice after its Delta commit.
    """

    @abstractmethod
    def read(self, group: int, *, after: int, limit: int) -> Sequence[OutboxEntry]:
        """Return up to `limit` entries of a group whose sequence is greater than `after`."""

    @abstractmethod
    def remove(self, group: int, *, through: int) -> int:
        """Remove the entries of a group up to a sequence, durably; return how many there were."""

    @abstractmethod
    def pending(self, group: int | None = None, *, limit: int | None = None) -> int:
        """Count the entries that wait, of one group or of all.

        Args:
            group: the group's number; None: all groups; cheap.
            limit: an engine that counts a group's entries one by one stops here.
        """

    def size_bytes(self) -> int | None:
        """Return about how many bytes wait, of all groups; cheap. None: the engine cannot tell."""
        return None
