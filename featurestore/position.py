"""Source positions: how far a stream or file has been stored, kept with the records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from featurestore.errors import InvalidRequest, PositionConflict

__all__ = ["PartitionPosition", "SourcePosition"]


@final
@dataclass(frozen=True, slots=True)
class PartitionPosition:
    """The part [start, next) of one partition that a batch covers."""

    partition: str
    start: int
    next: int


@final
@dataclass(frozen=True, slots=True)
class SourcePosition:
    """The part of a source that a batch covers.

    It is stored in the transaction that stores the batch's records, by compare-and-set: each
    partition must stand at `start`, or have no position yet. So a batch that is delivered twice,
    or comes late from a consumer that lost its partition, writes nothing.
    """

    source: str
    partitions: tuple[PartitionPosition, ...]

    def __post_init__(self) -> None:
        if not self.source or len(self.source.encode()) > 400:
            raise InvalidRequest(
                f"position: expected a source name of 1 to 400 bytes, got {self.source!r}"
            )
        for part in self.partitions:
            if part.next < part.start:
                raise InvalidRequest(
                    f"position of {self.source} partition {part.partition}: expected next >= "
                    f"start, got start {part.start} and next {part.next}"
                )

    def advance(self, stored: Mapping[str, int]) -> dict[str, int]:
        """Return the positions after this batch, given the stored ones.

        Raises:
            PositionConflict: a partition does not stand at the batch's start.
        """
        after = dict(stored)
        for part in self.partitions:
            at = after.get(part.partition)
            if at is not None and at != part.start:
                raise PositionConflict(
                    f"position of {self.source} partition {part.partition}: expected a batch "
                    f"from {at}, got one from {part.start} to {part.next}; read the stored "
                    f"position and go on from there",
                    source=self.source,
                    stored=dict(stored),
                )
            after[part.partition] = part.next
        return after
