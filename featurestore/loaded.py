"""What loads, backfills and rebuilds say of themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from featurestore.store import WriteError

__all__ = ["BackfillReport", "LoadResult", "Progress"]

Progress = Callable[[str, int], None]
"""Called with the step of some work and the number of rows done in it."""


@final
@dataclass(frozen=True, slots=True)
class LoadResult:
    """What a load did.

    Args:
        group: the feature group.
        key: of the load.
        rows: in the offline table under this key.
        errors: of the refused rows, by their number.
        already: whether an earlier try had brought the rows into the offline table.
        version: of the offline table with them; None where all rows were refused.
    """

    group: str
    key: str
    rows: int
    errors: list[WriteError]
    already: bool
    version: int | None

    def to_json(self) -> dict[str, Any]:
        """Write it as JSON values."""
        return {
            "group": self.group,
            "key": self.key,
            "stored": self.rows,
            "already": self.already,
            "version": self.version,
            "refused": [
                {"index": error.index, "code": error.code, "message": error.message}
                for error in self.errors
            ],
        }


@final
@dataclass(frozen=True, slots=True)
class BackfillReport:
    """What a backfill or a rebuild did.

    Args:
        group: the feature group.
        version: of the offline table that was read; None: nothing was ever written.
        identifiers: that were compared, by all tries together.
        written: versions that were brought online, tombstones too.
        removed: records online of which the offline table knows nothing; only a rebuild hides them.
        resumed: whether it went on where a killed one had stopped.
        was_empty: whether the online store had nothing of the group: it is new or was lost, and
            what had waited in its outbox is lost.
    """

    group: str
    version: int | None
    identifiers: int = 0
    written: int = 0
    removed: int = 0
    resumed: bool = False
    was_empty: bool = False

    def to_json(self) -> dict[str, Any]:
        """Write it as JSON values."""
        return asdict(self)
