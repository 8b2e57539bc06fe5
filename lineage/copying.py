"""A log copied from one store into another, as it is."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from lineage.errors import InvalidLog
from lineage.store import LineageStore

_AT_ONCE = 500


def copy_log(
    source: LineageStore,
    target: LineageStore,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> int:
    """Copy the events that a store lacks, with their hashes, and project them there.

    What is copied is checked against its hashes. An interrupted copy goes on where it ended,
    and a copy repeated later brings what came since.

    Args:
        source: to read.
        target: empty, or with the beginning of the same log.
        on_progress: called with how many events are in, and how many there will be.

    Returns:
        how many events were copied.

    Raises:
        InvalidLog: the target has another log, or an event was altered.

    >>> from lineage import Graph, MemoryStore, action
    >>> graph, copy = Graph(MemoryStore()), MemoryStore()
    >>> recorded = graph.record([action("Put", "p")], kind="T")
    >>> copy_log(graph.store, copy), copy_log(graph.store, copy)
    (1, 0)
    """
    head = target.head()
    if head.sequence:
        with source.log(head.sequence - 1) as (events, end):
            same = next(events, None)
        if same is None or same.hash != head.hash:
            raise InvalidLog(
                f"the target ends with an event {head.sequence} that is not the one of the source "
                f"(which has {end.sequence} events): it is another log; name an empty target"
            )
    copied = 0
    with source.log(head.sequence) as (events, end):
        while part := list(islice(events, _AT_ONCE)):
            target.adopt(part)
            copied += len(part)
            if on_progress is not None:
                on_progress(head.sequence + copied, end.sequence)
    return copied
