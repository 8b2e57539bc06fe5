"""Source positions: how far a stream or file has been stored, kept with the records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

from featurestore.errors import InvalidRequest, PositionConflict

__all__ = ["PartitionPosition", "SourcePosition", "check_source", "moved"]

_MAX_SOURCE_BYTES: Final = 400
_NOWHERE: Final = -1  # the start of a move of a partition that has no position yet
_MAX_POSITION: Final = 2**63 - 1


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

    Args:
        source: its name.
        partitions: the parts of its partitions.
        is_move: the position is moved, maybe back, with no records; see `moved`.
    """

    source: str
    partitions: tuple[PartitionPosition, ...]
    is_move: bool = False

    def __post_init__(self) -> None:
        check_source(self.source)
        for part in self.partitions:
            if part.next < part.start and not self.is_move:
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
                what = "a move" if self.is_move else "a batch"
                raise PositionConflict(
                    f"position of {self.source} partition {part.partition}: expected {what} "
                    f"from {at}, got one from {part.start} to {part.next}; read the stored "
                    f"position and go on from there",
                    source=self.source,
                    stored=dict(stored),
                )
            after[part.partition] = part.next
        return after


def moved(
    source: str, positions: Mapping[str, int], *, expected: Mapping[str, int]
) -> SourcePosition:
    """Return the position that moves partitions of a source, with no records.

    Args:
        source: its name.
        positions: partition → the next position to read.
        expected: partition → where it was seen to stand; a partition that is moved and is not in
            it must have no position yet.

    Raises:
        InvalidRequest: no partition is moved, or one to a place that is none.

    >>> moved("topic", {"0": 5}, expected={"0": 9}).advance({"0": 9, "1": 2})
    {'0': 5, '1': 2}
    """
    if not positions:
        raise InvalidRequest(f"move of {source}: expected at least one partition, got none")
    for partition, to in positions.items():
        if not 0 <= to <= _MAX_POSITION:
            raise InvalidRequest(
                f"move of {source} partition {partition}: expected a position from 0 to "
                f"{_MAX_POSITION}, got {to}"
            )
    return SourcePosition(
        source,
        tuple(
            PartitionPosition(partition, expected.get(partition, _NOWHERE), to)
            for partition, to in positions.items()
        ),
        is_move=True,
    )


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
