"""Transforms: what becomes of decoded records before they are checked and stored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from ingest.decode import Decoded
from ingest.errors import Undecodable
from ingest.source import Message

if TYPE_CHECKING:
    from featurestore import FeatureGroup, FeatureStore

__all__ = ["FieldOrigin", "FieldOrigins", "Transform", "Transformed"]

Transformed: TypeAlias = Decoded | Undecodable
"""A record, a deletion, nothing (left out), or why this one message is refused."""


class FieldOrigin(NamedTuple):
    """One thing that a name of a record is made of.

    Args:
        name: of the record as it was before, or of a feature of `group`; "": the whole message.
        group: another feature group that it was looked up in; "": the record.
        type: `DIRECT`, or `INDIRECT` where it only chose the value.
        subtype: IDENTITY, TRANSFORMATION, JOIN.
        detail: how, for people.
    """

    name: str
    group: str = ""
    type: str = "DIRECT"
    subtype: str = "IDENTITY"
    detail: str = ""


class FieldOrigins(NamedTuple):
    """What a transform makes of what.

    Args:
        names: each name that it sets → what that is made of.
        keeps_others: whether other names stay in the record as they are.
    """

    names: Mapping[str, Sequence[FieldOrigin]]
    keeps_others: bool


class Transform(ABC):
    """Changes a batch of records: renames, casts, computes, looks up.

    A transform sees whole batches, so that one call of an engine serves thousands of records. The
    same messages always give the same records, whatever else is in their batch: a batch that is
    read again may be cut elsewhere.
    """

    def open(self, store: FeatureStore, group: FeatureGroup) -> None:  # noqa: B027  # optional
        """Get ready for a run, and refuse at once what could never work.

        Args:
            store: where records go; other groups can be read from it.
            group: the group they go to.

        Raises:
            IngestError: the transform does not fit the group.
        """

    @abstractmethod
    def apply(
        self, records: Sequence[Decoded], messages: Sequence[Message]
    ) -> Sequence[Transformed]:
        """Return what becomes of each record, in the same order.

        Args:
            records: as decoded, or as the transform before left them.
            messages: what they were decoded from, one each.
        """

    def describe(self) -> Mapping[str, object]:
        """Say in plain values what it does, for lineage and the mapping's digest."""
        return {"transform": type(self).__name__}

    def origins(self) -> FieldOrigins | None:
        """Say, once open, what each name that it sets is made of; None: that is not known."""
        return None

    def close(self) -> None:  # noqa: B027  # optional
        """Let go of what `open` took. May be called twice."""
