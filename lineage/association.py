"""Associations: the typed arrows between lineage entities."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import final

from lineage.entity import Kind
from lineage.errors import InvalidAssociation


class AssociationType(StrEnum):
    """What an arrow means; the source is always upstream of the destination.

    ContributedTo: input to its consumer. Produced: job to its output. DerivedFrom:
    the destination is a changed form of the source. AssociatedWith: a loose tie.
    SameAs: the same object in another place.
    """

    CONTRIBUTED_TO = "ContributedTo"
    ASSOCIATED_WITH = "AssociatedWith"
    DERIVED_FROM = "DerivedFrom"
    PRODUCED = "Produced"
    SAME_AS = "SameAs"


_TYPES: dict[str, AssociationType] = {value.value: value for value in AssociationType}
TYPE_TEXTS = {value: value.value for value in AssociationType}
"""The plain text of each type, at a fraction of what its `value` costs."""


@final
@dataclass(frozen=True)
class Association:
    """A typed arrow from the uid upstream (source) to the uid downstream (destination).

    Raises:
        InvalidAssociation: the type is unknown, or both ends are the same entity.

    >>> Association("a", "b", "Produces")
    Traceback (most recent call last):
    ...
    lineage.errors.InvalidAssociation: association type: expected one of ContributedTo,
    AssociatedWith, DerivedFrom, Produced, SameAs; got 'Produces', did you mean 'Produced'?
    """

    source: str
    destination: str
    type: AssociationType

    def __post_init__(self) -> None:
        object.__setattr__(self, "type", as_association_type(self.type))
        if self.source == self.destination:
            raise InvalidAssociation(
                f"association {self.type}: both ends are {self.source!r}; an entity is never "
                f"associated with itself"
            )


def stored_association(source: str, destination: str, type: str) -> Association:
    """An association from fields that were checked when it was recorded."""
    association = object.__new__(Association)
    fields = association.__dict__
    fields["source"] = source
    fields["destination"] = destination
    fields["type"] = _TYPES[type]
    return association


def as_association_type(value: AssociationType | str) -> AssociationType:
    """The association type with this value.

    Raises:
        InvalidAssociation: there is no such type; the text offers the nearest.
    """
    try:
        return _TYPES[value]
    except (KeyError, TypeError):
        near = get_close_matches(str(value), list(AssociationType), n=1)
        hint = f", did you mean {str(near[0])!r}?" if near else ""
        raise InvalidAssociation(
            f"association type: expected one of {', '.join(AssociationType)}; got {value!r}{hint}"
        ) from None


def check_kinds(source: Kind, destination: Kind, *, where: str) -> None:
    """Refuse an association between two experiment entities, as SageMaker does.

    Raises:
        InvalidAssociation: both kinds are Experiment, Trial or TrialComponent.
    """
    if source.is_experiment and destination.is_experiment:
        raise InvalidAssociation(
            f"{where}: a {source} is never associated with a {destination}; connect them through "
            f"an artifact, action or context"
        )
