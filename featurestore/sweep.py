"""The sweep: expired records give their space back.

A get never returns an expired record, swept or not. The sweep replaces it by a tombstone that holds
its event time and no features, so that a late, older put still cannot bring anything back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from featurestore.codec import DELETED, HARD, NEVER
from featurestore.online.base import Batch, OnlineStore, Outcome, Write

__all__ = ["sweep_group"]

SLICE: Final = 2_000


def sweep_group(
    online: OnlineStore,
    put: Callable[[Batch], list[Outcome]],
    number: int,
    *,
    now: int,
    pause: Callable[[int], bool] | None = None,
) -> int:
    """Replace the expired records of one group by tombstones.

    Args:
        online: the online store.
        put: stores a batch; writes of others share its transaction.
        number: the group's.
        now: µs since the epoch.
        pause: called with the number of versions looked at, after each slice: a background sweep
            rests there, and goes on if it returns True.

    Returns:
        How many records were swept.
    """
    swept = 0
    after: bytes | None = None
    while versions := online.scan(number, after=after, limit=SLICE):
        after = versions[-1][0]
        writes = [
            Write(
                number,
                value.identifier,
                value.event_time_us,
                b"",
                DELETED | HARD,  # an expired record counts as hard-deleted: it is not listed
                NEVER,
                value.schema_version,
                now,
                offline=False,
                expected=value.sequence,  # a record put meanwhile stays
            )
            for _, value in versions
            if not value.is_deleted and value.expires_us <= now
        ]
        if writes:
            swept += put(Batch(writes)).count(Outcome.APPLIED)
        if pause is not None and not pause(len(versions)):
            break
    return swept
