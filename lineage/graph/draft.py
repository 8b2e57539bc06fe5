"""Events before they are recorded: checked by themselves, not yet against the graph."""

from __future__ import annotations

import getpass
import os
from collections.abc import Sequence
from functools import cache
from typing import Literal

from lineage.association import AssociationType, as_association_type
from lineage.change import Draft
from lineage.column import ColumnLineage
from lineage.entity import End, Entity
from lineage.errors import InvalidEntity
from lineage.log import new_uid
from lineage.run import Run

_MAX_CHARACTERS = 256


def as_draft(
    entities: Sequence[Entity] = (),
    associations: Sequence[tuple[End, End, str]] = (),
    *,
    kind: str,
    event_uid: str | None = None,
    actor: str | None = None,
    columns: Sequence[ColumnLineage] = (),
    runs: Sequence[Run] = (),
    tags: Sequence[tuple[End, str, str | None]] = (),
    aliases: Sequence[tuple[str, End]] = (),
    retract: Sequence[tuple[End, End, str]] = (),
    cycles: Literal["refuse", "allow"] = "refuse",
) -> Draft:
    """An event to hand to `Graph.record_all`; the arguments are those of `Graph.record`.

    Raises:
        InvalidEntity: `kind`, `actor` or `event_uid` is no short text.
        InvalidAssociation: an unknown type.
    """
    return Draft(
        kind=_short_text(kind, "kind"),
        actor=_short_text(_user() if actor is None else actor, "actor"),
        event_uid=new_uid() if event_uid is None else _short_text(event_uid, "event_uid"),
        entities=tuple(entities),
        associations=_typed(associations),
        columns=tuple(columns),
        runs=tuple(runs),
        tags=tuple(tags),
        aliases=tuple(aliases),
        retractions=_typed(retract),
        cycles=cycles == "allow",
    )


def _typed(
    associations: Sequence[tuple[End, End, str]],
) -> tuple[tuple[End, End, AssociationType], ...]:
    return tuple(
        (source, destination, as_association_type(link))
        for source, destination, link in associations
    )


def _short_text(value: str, name: str) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > _MAX_CHARACTERS:
        raise InvalidEntity(
            f"event {name}: expected text of 1 to {_MAX_CHARACTERS} characters, got {value!r:.300}"
        )
    if not value.isprintable():
        raise InvalidEntity(f"event {name}: expected printable text, got {value!a}")
    return value


@cache
def _user() -> str:
    """The user of the process, as a number where the system has no name for it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
