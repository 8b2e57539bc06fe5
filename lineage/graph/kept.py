"""What the parts of a graph share: where it is kept."""

from __future__ import annotations

from abc import ABC, abstractmethod

from lineage.mirror import Mirroring
from lineage.questions import DataChanges
from lineage.spool import Spool
from lineage.store import LineageStore


class Kept(ABC):
    """A graph in a store; `Graph` opens and closes it.

    Each part of it is a class of its own: what it says of a method is what the graph promises.
    """

    _store: LineageStore
    _changes: DataChanges | None
    _spool: Spool | None
    _mirroring: Mirroring
    _away_until: float

    @abstractmethod
    def close(self) -> None:
        """Close the store."""
