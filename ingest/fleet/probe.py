"""Looking into a source without storing anything: its name, its ends, offsets by time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, final

from ingest.errors import SourceUnavailable
from ingest.source import Message, Source

__all__ = ["Head", "Probe"]

_POLL_S: Final = 0.2
_PATIENCE_S: Final = 10.0
_AT_ONCE: Final = 500


@final
@dataclass(frozen=True, slots=True)
class Head:
    """What a partition has from some offset on.

    Args:
        end: of the partition; None: the source cannot say.
        message: the first message there; None: there is none.
    """

    end: int | None
    message: Message | None


@final
class Probe:
    """A source that is read beside its pipeline, as no member of its consumer group.

    Args:
        source: not connected yet; closed at the end of the `with` block.

    Raises:
        SourceNotFound, SourceUnavailable: on entering.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._patience_s = _PATIENCE_S

    @property
    def name(self) -> str:
        """The source's name."""
        return self._source.name

    def heads(self, positions: Mapping[str, int]) -> dict[str, Head]:
        """Return what each partition has from a position on.

        Args:
            positions: partition → offset; others are looked at from their beginning.

        Raises:
            PositionLost: the source no longer has what comes after one of the positions.
            SourceUnavailable: a message that is there does not come.
        """
        self._source.seek(lambda: positions)
        found: dict[str, Message] = {}
        deadline = time.monotonic() + self._patience_s
        while True:
            batch = self._source.poll(_AT_ONCE, _POLL_S)
            for message in batch.messages:
                found.setdefault(message.partition, message)
            ends = self._source.ends()
            waiting = [
                partition
                for partition, end in ends.items()
                if partition not in found
                and (end is None or (positions.get(partition, 0) < end and not batch.is_caught_up))
            ]
            if ends and not waiting:
                return {p: Head(end, found.get(p)) for p, end in ends.items()}
            if not ends and (batch.messages or batch.is_last):
                return {p: Head(None, message) for p, message in found.items()}
            if time.monotonic() > deadline:
                raise SourceUnavailable(
                    f"{self.name}: nothing came from partitions {', '.join(waiting) or 'at all'} "
                    f"for {self._patience_s:g} s; try again"
                )

    def offsets_at(self, time_us: int) -> dict[str, int]:
        """Return the first offset of each partition whose message is of a time or later.

        The messages themselves are searched, by halves and all partitions at once: not every
        broker's own answer looks at their times. Times that jump back and forth are found only
        nearly. A partition without such a message has its end, one whose messages have no times
        is left out.

        Args:
            time_us: µs UTC.

        Raises:
            SourceUnavailable: a message that is there does not come.

        Cost: about as many reads as the longest partition's length has binary digits.
        """
        heads = self.heads({})
        low = {p: head.message.offset for p, head in heads.items() if head.message is not None}
        high = {p: head.end for p, head in heads.items() if head.end is not None}
        found = {p: end for p, end in high.items() if p not in low}
        for partition in [p for p in low if p not in high]:
            del low[partition]
        while low:
            middle = {p: (low[p] + high[p]) // 2 for p in low}
            heads = self.heads({**high, **middle})
            for partition, offset in middle.items():
                message = heads[partition].message
                if message is None:
                    high[partition] = offset
                elif message.timestamp_us is None:
                    low.pop(partition)
                    continue
                elif message.timestamp_us >= time_us:
                    high[partition] = offset
                else:
                    low[partition] = message.offset + 1
                if low[partition] >= high[partition]:
                    found[partition] = high[partition]
                    del low[partition]
        return found

    def __enter__(self) -> Self:
        self._source.seek(_nothing)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._source.close()


_nothing: Final[Callable[[], Mapping[str, int]]] = dict
