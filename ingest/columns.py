"""Where each feature of a record comes from: fields of the message, features of other groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import lineage
from featurestore import group_entity
from ingest.transform import FieldOrigin, Transform

__all__ = ["feature_edges", "feature_origins"]

_IDENTITY = "IDENTITY"


def feature_origins(
    mapping: Mapping[str, str], transforms: Sequence[Transform], features: Iterable[str]
) -> dict[str, tuple[FieldOrigin, ...]]:
    """Follow each feature through the transforms back to the fields of a message.

    Args:
        mapping: of the decoder: feature → field; empty: each name is its own.
        transforms: open, in their order. What one that does not say makes comes from the
            message as a whole.
        features: of the group.
    """
    known: dict[str, tuple[FieldOrigin, ...]] = {
        name: (FieldOrigin(field),) for name, field in mapping.items()
    }
    # Names that nothing said anything of are fields of the message, as long as it has those.
    rest = not mapping
    whole: tuple[FieldOrigin, ...] = ()

    def before(name: str) -> tuple[FieldOrigin, ...]:
        return known.get(name) or whole or ((FieldOrigin(name),) if rest else ())

    for transform in transforms:
        made = transform.origins()
        if made is None:
            whole = (FieldOrigin("", subtype="TRANSFORMATION", detail=type(transform).__name__),)
            known.clear()
            continue
        then = {name: _followed(origins, before) for name, origins in made.names.items()}
        if made.keeps_others:
            known |= then
        else:
            known, rest, whole = then, False, ()
    return {name: before(name) for name in features}


def _followed(
    origins: Sequence[FieldOrigin], before: Callable[[str], tuple[FieldOrigin, ...]]
) -> tuple[FieldOrigin, ...]:
    found: dict[FieldOrigin, None] = {}
    for origin in origins:
        if origin.group:
            found[origin] = None
            continue
        for earlier in before(origin.name):
            plain = origin.subtype == _IDENTITY
            found[
                earlier._replace(
                    type=origin.type if earlier.type == "DIRECT" else earlier.type,
                    subtype=earlier.subtype if plain else origin.subtype,
                    detail=origin.detail or earlier.detail,
                )
            ] = None
    return tuple(found)


def feature_edges(
    origins: Mapping[str, Sequence[FieldOrigin]], inputs: Sequence[lineage.Entity]
) -> Iterator[lineage.ColumnEdge]:
    """The origins as edges: a message's fields are those of each input."""
    for feature, several in origins.items():
        for origin in several:
            for source in [group_entity(origin.group)] if origin.group else inputs:
                yield lineage.ColumnEdge(
                    source, origin.name, feature, origin.type, origin.subtype, origin.detail
                )
