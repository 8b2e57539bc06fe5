"""The seam for whatever else of a home holds records by their identifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from featurestore.registry import Registered

__all__ = ["Holder"]


class Holder(Protocol):
    """Something beside the online and offline store that holds records of feature groups.

    An erasure calls each holder that the store has (`EmbeddedStore.eraser.holders`), behind the
    stores themselves: from then on no record that it covers comes in any more.
    """

    @property
    def name(self) -> str:
        """What the report calls it; it must not change, since a resumed erasure looks for it."""

    def erase(
        self, entry: Registered, identifiers: Sequence[str], through_us: Sequence[int]
    ) -> Mapping[str, Any]:
        """Erase identifiers of a group. It may be called again with the same, after a kill.

        Args:
            entry: the group.
            identifiers: as texts.
            through_us: for each, the event time up to which it is erased; a later record stays.

        Returns:
            For the report, as JSON values without any identifier: what was removed, and, under
            `not_reached`, a list of texts on what could not be looked into. `found`: for each
            identifier, how many of its records.
        """
