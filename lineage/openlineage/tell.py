"""The log told as events of OpenLineage: what was recorded behind a place in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Protocol, final

from lineage.change import Change
from lineage.errors import StoreCorrupt
from lineage.graph import Graph
from lineage.log import Event
from lineage.openlineage.outward import Outward, dataset_events, run_events

__all__ = ["Tells", "Told", "ToldEvents", "tell"]

MOST: Final = 100
"""Most events of the log in one answer."""

_ENOUGH_BYTES: Final = 4 << 20
_FOREIGN: Final = "OpenLineage"


@final
@dataclass(frozen=True)
class Told:
    """What one event of the log is told as: often nothing, as what came from OpenLineage.

    Args:
        sequence: of the event of the log.
        events: of OpenLineage, as JSON text.
    """

    sequence: int
    events: tuple[bytes, ...]


@final
@dataclass(frozen=True)
class ToldEvents:
    """A part of the log.

    Args:
        told: each event of it, in their order.
        last: sequence of the last event of the whole log.
    """

    told: tuple[Told, ...]
    last: int


class Tells(Protocol):
    """A graph somewhere else that tells its log."""

    def openlineage_events(
        self,
        after: int = 0,
        *,
        namespace: str = "featureline",
        producer: str = "",
        limit: int = MOST,
    ) -> ToldEvents:
        """The events behind one: see `tell`."""


def tell(graph: Graph, after: int, outward: Outward, *, limit: int = MOST) -> ToldEvents:
    """The events of the log behind one, as events of OpenLineage.

    Args:
        graph: whose log it is.
        after: sequence of the last event that is known; 0 for none.
        outward: names.
        limit: most events of the log; fewer come where they are large.

    Raises:
        StoreCorrupt: an event of the log cannot be read.
    """
    last = graph.store.head().sequence
    if limit <= 0 or after >= last:
        return ToldEvents((), last)
    with graph.store.log(after) as (logged, head):
        events, last = list(islice(logged, limit)), head.sequence
    told: list[Told] = []
    size = 0
    for event in events:
        if size >= _ENOUGH_BYTES:
            break
        said = tuple(map(_text, _told(graph, event, outward)))
        told.append(Told(event.sequence, said))
        size += sum(map(len, said))
    return ToldEvents(tuple(told), last)


def _told(graph: Graph, logged: Event, outward: Outward) -> Iterator[dict[str, Any]]:
    if logged.kind.startswith(_FOREIGN):
        return
    try:
        change = Change.decode(logged.body)
    except ValueError as error:
        raise StoreCorrupt("lineage log", f"event {logged.sequence}: {error}") from error
    yield from run_events(logged, change, graph.entity, outward)
    yield from dataset_events(logged, change, outward)


def _text(event: dict[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
