"""Moving a source's stored position, as one action of lineage."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

import lineage
from featurestore.errors import PositionConflict
from featurestore.position import SourcePosition, check_source, moved

__all__ = ["move_source"]


def move_source(
    graph: Any,
    read: Callable[[str], dict[str, int]],
    store: Callable[[SourcePosition], object],
    source: str,
    positions: Mapping[str, int],
    *,
    expected: Mapping[str, int],
    by: str = "",
) -> dict[str, int]:
    """Do `FeatureStore.move_source`.

    Args:
        graph: where the move is recorded: before it is done, and how it ended.
        read: gives the stored positions of a source.
        store: stores a position by compare-and-set, or raises PositionConflict.
        source: its name.
        positions: partition → the next position to read.
        expected: partition → where it was seen to stand.
        by: who moves it; "": the user of the process.
    """
    position = moved(check_source(source), positions, expected=expected)
    with lineage.Recorder(
        graph,
        "Seek",
        f"seek-{uuid.uuid4().hex[:12]}",
        kind=lineage.Kind.ACTION,
        properties={
            "source": source,
            "moved": {
                partition: {"from": expected.get(partition), "to": to}
                for partition, to in positions.items()
            },
            **({"by": by} if by else {}),
        },
        actor=by or None,
    ):
        stored = read(source)
        for partition in positions:
            # A batch may come first wherever nothing is stored; who expects a position saw one.
            if partition in expected and partition not in stored:
                raise PositionConflict(
                    f"position of {source} partition {partition}: expected it at "
                    f"{expected[partition]}, but it has none; read the stored position",
                    source=source,
                    stored=stored,
                )
        store(position)
    return read(source)
