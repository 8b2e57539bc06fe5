"""The background maintenance: one process of a home keeps its offline tables in few files."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, final

from featureline.server.rounds import Rounds
from featurestore.embedded import EmbeddedStore
from featurestore.errors import FeatureGroupNotFound, FeatureStoreError
from lineage.errors import LineageError

__all__ = ["EVERY_S", "Maintaining"]

EVERY_S: Final = 3600.0
_REST: Final = 3  # a quarter of its time: calls hardly notice it
_log = logging.getLogger(__name__)


@final
class Maintaining:
    """Maintains the offline tables in rounds, while this process is elected.

    Args:
        store: whose tables are maintained.
        is_elected: whether this process is the one of the home that does.
        every_s: seconds between two rounds over all groups; None: none is made.
    """

    def __init__(
        self,
        store: EmbeddedStore,
        is_elected: Callable[[], bool],
        *,
        every_s: float | None = EVERY_S,
    ) -> None:
        self._store = store
        self._rounds = Rounds(
            "the maintenance", self._maintain, is_elected, every_s=every_s, rest=_REST
        )
        self.run = self._rounds.run
        self.stop = self._rounds.stop

    def _maintain(self) -> None:
        try:
            groups = [entry for entry in self._store.registry.list() if entry.group.offline]
        except FeatureStoreError as error:
            _log.warning("maintenance: %s; trying again later", error)
            return
        for entry in groups:
            if self._rounds.is_stopping:
                return
            self._maintain_one(entry.group.name)

    def _maintain_one(self, name: str) -> None:
        try:
            report = self._store.maintain(name, pause=self._rounds.pause())
        except FeatureGroupNotFound:
            return  # deleted meanwhile
        except (FeatureStoreError, LineageError) as error:
            # What is wrong with one table does not keep the others waiting.
            _log.warning("maintenance of %s: %s; trying again later", name, error)
            return
        if report.dates or report.files_removed:
            _log.info(
                "maintained %s: %d files became %d, %d old ones were removed, in %.1f s",
                name,
                report.files_before,
                report.files_after,
                report.files_removed,
                report.seconds,
            )
