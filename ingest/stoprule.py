"""When refusals are no longer single bad messages, and a pipeline has to stop."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, final

from ingest.errors import TooManyRefusals
from ingest.source import Message
from ingest.validate import Refusal

__all__ = ["RefusalWatch", "StopRule"]

_SHOWN_CHARS: Final = 300
_SHOWN_KINDS: Final = 5
_EXAMPLES: Final = 3


@final
@dataclass(frozen=True, slots=True)
class StopRule:
    """How many refusals are too many: any one of the conditions stops a pipeline.

    A wrong mapping or a producer's new format refuses everything. Without a rule the whole topic
    would go to the dead letters before somebody looks.

    Args:
        share: so much of the last `of_last` messages, in (0, 1]; None: any share. With fewer
            messages so far, those to come are taken for good ones: 900 refusals of 1,000.
        of_last: that many messages, of all partitions as they were read.
        count: so many refusals within `within_s`; None: any number.
        within_s: seconds; None: of the run.

    Raises:
        ValueError: an argument is out of range.

    >>> StopRule(share=0.5, of_last=10).watch().limit
    '5 of the last 10 messages'
    """

    share: float | None = 0.9
    of_last: int = 1000
    count: int | None = None
    within_s: float | None = None

    def __post_init__(self) -> None:
        if self.share is not None and not 0 < self.share <= 1:
            raise ValueError(f"share: expected more than 0 and at most 1, got {self.share}")
        for what, value in (("of_last", self.of_last), ("count", self.count)):
            if value is not None and value < 1:
                raise ValueError(f"{what}: expected at least 1, got {value}")
        if self.within_s is not None and self.within_s <= 0:
            raise ValueError(f"within_s: expected more than 0, got {self.within_s}")
        if self.within_s is not None and self.count is None:
            raise ValueError("within_s: it bounds the time of `count`, which is not given")

    def watch(self, *, clock: Callable[[], float] = time.monotonic) -> RefusalWatch:
        """Begin to count, from nothing."""
        return RefusalWatch(self, clock)


class _Seen(NamedTuple):
    at: int
    time: float
    kind: str
    partition: str
    offset: int
    reason: str


@final
class RefusalWatch:
    """Counts the refusals of one run against a rule.

    Args:
        rule: when to stop.
        clock: seconds that only grow.

    Cost: nothing per message, but per refusal; memory for the refusals that a limit takes.
    """

    def __init__(self, rule: StopRule, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._of_last = rule.of_last
        self._within_s = rule.within_s
        self._most = None if rule.share is None else max(1, round(rule.share * rule.of_last))
        self._count = rule.count
        self._read = 0
        self._recent: deque[_Seen] = deque()
        self._timed: deque[_Seen] = deque()

    @property
    def limit(self) -> str:
        """The rule in words."""
        parts = []
        if self._most is not None:
            parts.append(f"{self._most:,} of the last {self._of_last:,} messages")
        if self._count is not None:
            within = "of a run" if self._within_s is None else f"within {self._within_s:g} s"
            parts.append(f"{self._count:,} {within}")
        return " or ".join(parts)

    def see(self, messages: Sequence[Message], refused: Sequence[Refusal]) -> None:
        """Count a batch, before it is stored.

        Args:
            messages: all of the batch, in order.
            refused: those that were refused.

        Raises:
            TooManyRefusals: the rule says stop. The batch must not be stored: its messages are
                read again.
        """
        before, self._read = self._read, self._read + len(messages)
        if not refused:
            return
        places = {(m.partition, m.offset): place for place, m in enumerate(messages)}
        now = self._clock()
        seen = [
            _Seen(
                before + places[refusal.message.partition, refusal.message.offset],
                now,
                _kind(refusal),
                refusal.message.partition,
                refusal.message.offset,
                refusal.reason[:_SHOWN_CHARS],
            )
            for refusal in refused
        ]
        for one in sorted(seen):
            if self._most is not None:
                self._recent.append(one)
                while self._recent[0].at <= one.at - self._of_last:
                    self._recent.popleft()
                if len(self._recent) >= self._most:
                    read = min(one.at + 1, self._of_last)
                    raise _stopped(self._recent, f"of the last {read:,} messages")
            if self._count is not None:
                self._timed.append(one)
                if self._within_s is not None:
                    while self._timed[0].time < one.time - self._within_s:
                        self._timed.popleft()
                if len(self._timed) >= self._count:
                    within = "of this run" if self._within_s is None else "within "
                    within += "" if self._within_s is None else f"{self._within_s:g} s"
                    raise _stopped(self._timed, f"messages {within}")


def _stopped(seen: Sequence[_Seen], of: str) -> TooManyRefusals:
    kinds = Counter(one.kind for one in seen)
    examples: dict[str, _Seen] = {}
    for one in seen:  # different ones first
        examples.setdefault(one.kind, one)
    shown = [*examples.values(), *(one for one in seen if one not in examples.values())]
    return TooManyRefusals(
        refused=len(seen),
        of=of,
        reasons=dict(kinds.most_common(_SHOWN_KINDS)),
        other=sum(count for _, count in kinds.most_common()[_SHOWN_KINDS:]),
        examples=[(one.partition, one.offset, one.reason) for one in shown[:_EXAMPLES]],
    )


def _kind(refusal: Refusal) -> str:
    """Return a reason without the values of its message, so that equal ones can be counted."""
    head = refusal.reason.partition(", got ")[0]
    return f"{refusal.error}: {head[:_SHOWN_CHARS]}"
