"""Source positions: how far a stream or file has been stored, kept with the records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

from featurestore.errors import InvalidRequest, PositionConflict

__all__ = ["PartitionPosition", "SourcePosition", "check_source"]

_MAX_SOURCE_BYTES: Final = 400


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
        check_source(self.source)
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


def check_source(source: str) -> str:
    """Return a source's name when the store can keep a position under it.

    Raises:
        InvalidRequest: it is empty or too long.
    """
    size = len(source.encode())
    if not 1 <= size <= _MAX_SOURCE_BYTES:
        raise InvalidRequest(
            f"position: expected a source name of 1 to {_MAX_SOURCE_BYTES} bytes, got "
            f"{source[:80]!r} of {size} bytes"
        )
    return source
