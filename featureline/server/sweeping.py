"""The background sweep: one process of a home gives the space of expired records back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, final

from featureline.server.rounds import Rounds
from featurestore.embedded import EmbeddedStore
from featurestore.errors import FeatureStoreError

__all__ = ["Sweeping"]

EVERY_S: Final = 60.0
_REST: Final = 9  # a tenth of its time: calls hardly notice it
_log = logging.getLogger(__name__)


@final
class Sweeping:
    """Sweeps the store in rounds, while this process is the elected one.

    Args:
        store: what is swept.
        is_elected: whether this process is the one of the home that does.
        every_s: seconds between two sweeps.
        metrics: counts what was swept; None: nobody does.
    """

    def __init__(
        self,
        store: EmbeddedStore,
        is_elected: Callable[[], bool],
        *,
        every_s: float = EVERY_S,
        metrics: Any = None,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._rounds = Rounds("the sweep", self._sweep, is_elected, every_s=every_s, rest=_REST)
        self.run = self._rounds.run
        self.stop = self._rounds.stop

    def _sweep(self) -> None:
        try:
            swept = self._store.sweep(pause=self._rounds.pause())
        except FeatureStoreError as error:
            _log.warning("sweep: %s; trying again later", error)
            return
        if swept:
            _log.info("swept %d expired records", swept)
            if self._metrics is not None:
                self._metrics.swept(swept)
