"""Throwing dead letters away, as one action of lineage."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable
from typing import Any

import lineage
from featurestore import group_entity
from ingest.letters.folder import DeadLetters
from ingest.letters.letter import LetterFilter

__all__ = ["purge"]


def purge(letters: DeadLetters, graph: Any, groups: Iterable[str], wanted: LetterFilter) -> int:
    """Remove letters of some groups for good.

    Args:
        letters: where they are.
        graph: a lineage graph, or the client of a server's.
        groups: feature groups; one action of each.
        wanted: which letters of theirs go.

    Returns:
        How many letters were removed.

    Raises:
        IngestError: a file is not one of dead letters, or cannot be written; done again, it goes
            on.
        lineage.RecordingFailed: it cannot be recorded; of that group nothing was removed.
    """
    removed = 0
    for group in groups:
        name = f"purge-{group}-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"
        with lineage.Recorder(
            graph, "Purge", name, kind=lineage.Kind.ACTION, properties={"asked": wanted.text}
        ) as job:
            for entity in letters.artifacts(group):
                job.input(entity)
            job.input(group_entity(group), "AssociatedWith")
            gone = letters.retain(group, lambda letter: not wanted(letter))[0]
            job.property("removed", gone)
        removed += gone
    return removed
