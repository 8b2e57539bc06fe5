"""Sources: where messages come from, and how far they have been read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

from featurestore import PartitionPosition
from ingest.errors import Undecodable
from lineage import Entity

__all__ = ["Batch", "Message", "Source", "StoredPositions"]

StoredPositions = Callable[[], Mapping[str, int]]
"""Reads the store's positions now: partition → the next offset to read."""


class Message(NamedTuple):
    """One message as it came, before decoding.

    A named tuple where a frozen dataclass would be the rule: one is made per message, and this
    one costs a third.

    Args:
        partition: the part of the source it came from.
        offset: its place in the partition, counted from 0.
        value: bytes as sent, or a row by column name where the format has columns.
        key: bytes as sent.
        timestamp_us: when the source got it, µs UTC, where the source says so.
        headers: name and bytes as sent, in order; a name may come more than once.
        fault: why the source could not split it into columns; `value` is then its raw bytes.
    """

    partition: str
    offset: int
    value: bytes | Mapping[str, object] | None
    key: bytes | None = None
    timestamp_us: int | None = None
    headers: Sequence[tuple[str, bytes]] = ()
    fault: Undecodable | None = None


@final
@dataclass(frozen=True, slots=True)
class Batch:
    """What one poll brought.

    `position` says which stretch of each partition the messages cover: `start` is where the last
    batch of the partition ended, so that stretches join without a gap even where the source left
    offsets out. Without messages there are no stretches.

    Args:
        messages: in order of offset within each partition.
        position: one entry per partition that gave messages.
        size_bytes: size of the messages' keys and values, where they are bytes.
        is_caught_up: everything that was there when reading began has been handed out.
        is_last: nothing can follow, ever.
    """

    messages: Sequence[Message] = ()
    position: tuple[PartitionPosition, ...] = ()
    size_bytes: int = 0
    is_caught_up: bool = False
    is_last: bool = False


class Source(ABC):
    """Something that hands out messages in order, partition by partition.

    The store decides where reading begins: a source keeps no position of its own that outlives
    it. A source is used by one thread; making one touches nothing, the first `seek` connects.
    `columns` names the columns that all messages share; it is None where each message has its own
    fields.
    """

    columns: Sequence[str] | None = None

    @property
    @abstractmethod
    def name(self) -> str:
        """The name under which the store keeps this source's positions, known once connected.

        Equal for all processes that read the same input for the same purpose, and for no others.
        """

    @abstractmethod
    def inputs(self) -> Sequence[Entity]:
        """Name what has been read so far, as lineage artifacts."""

    @abstractmethod
    def seek(self, stored: StoredPositions) -> None:
        """Go on where the store stands, now and whenever a partition is taken over later.

        A partition without a stored position is read from its beginning. Connects when it is the
        first call; a later one drops what was fetched and not yet handed out.

        Raises:
            SourceNotFound: there is no such input.
            SourceUnavailable: it does not answer.
        """

    @abstractmethod
    def poll(self, max_records: int, timeout_s: float) -> Batch:
        """Return the next messages, at most `max_records`, waiting up to `timeout_s` for one.

        Raises:
            PositionLost: the messages after the stored position are gone.
            SourceUnavailable: the input has not answered for long.
        """

    @abstractmethod
    def commit(self, position: Sequence[PartitionPosition]) -> None:
        """Tell the source's own tools what the store has committed. Never read back."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the input. May be called twice."""
