"""Which entity a person means by START."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import click

import lineage
from lineage import Entity

__all__ = ["find_model", "find_start"]

_DIGEST = re.compile(r"[0-9a-fA-F]{6,}")
_MOST_LISTED = 10


def find_model(graph: Any, start: str) -> Entity:
    """Find the model that a person means: for a training job, the one that it made last.

    Raises:
        EntityNotFound: nothing fits; with the nearest uid.
        UsageError: several fit; it lists them.
    """
    found = find_start(graph, start)
    if found.type != "TrainingJob":
        return found
    models = graph.query(
        found, "descendants", depth=1, types=["Model"], through=["Produced"], include_edges=False
    ).entities
    return max(models, key=lambda model: (model.modified, model.uid)) if models else found


def find_start(graph: Any, start: str) -> Entity:
    """Find the entity that a person means.

    Raises:
        EntityNotFound: nothing fits; with the nearest uid.
        UsageError: several fit; it lists them.
    """
    try:
        found: Entity = graph.entity(start)
    except lineage.EntityNotFound as missing:
        # Names that the product gives: they are unique.
        for candidate in (
            lineage.context("FeatureGroup", start),
            lineage.trial_component("TrainingJob", f"{start}-aws-training-job"),
            lineage.artifact("DataSet", f"dataset:{start}", content_hash=start),
        ):
            with contextlib.suppress(lineage.EntityNotFound):
                entity: Entity = graph.entity(lineage.derived_uid(candidate))
                return entity
        named: list[Entity] = graph.find(name=start) or _by_type(graph, start)
        named = named or _by_digest(graph, start)
        if not named:
            raise missing from None
        return _only(start, named)
    return found


def _by_type(graph: Any, start: str) -> list[Entity]:
    """Find what is meant by TYPE:NAME."""
    what, colon, name = start.partition(":")
    if not (what and colon and name):
        return []
    found: list[Entity] = graph.search(name=name, types=[what])
    return found


def _by_digest(graph: Any, start: str) -> list[Entity]:
    """Find models and datasets whose digest begins like this."""
    if not _DIGEST.fullmatch(start):
        return []
    found: list[Entity] = graph.search(
        kinds=["Artifact"], types=["Model", "DataSet"], content_hash=start.lower()
    )
    return found


def _only(start: str, named: list[Entity]) -> Entity:
    """Choose the newest version of the one thing that is named.

    Raises:
        UsageError: they are several things.
    """
    places: dict[object, Entity] = {}
    for entity in named:
        place = (entity.kind, entity.type, entity.source_uri or entity.uid)
        if place not in places or places[place].version < entity.version:
            places[place] = entity
    if len(places) == 1:
        return next(iter(places.values()))
    lines = [
        f"{entity.type}:{entity.name}  {entity.uid}"
        for entity in list(places.values())[:_MOST_LISTED]
    ]
    if len(places) > _MOST_LISTED:
        lines.append(f"… and {len(places) - _MOST_LISTED:,} more")
    listed = "\n  ".join(lines)
    raise click.UsageError(
        f"{start!r} stands for {len(places):,} things; give TYPE:NAME or a uid:\n  {listed}"
    )
