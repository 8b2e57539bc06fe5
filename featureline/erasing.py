"""What an erasure reaches beside the stores: the shell knows all that holds records of a home."""

from __future__ import annotations

import logging

from featurestore.embedded import EmbeddedStore
from featurestore.errors import FeatureStoreError
from ingest.erasure import DeadLetterHolder
from ingest.errors import IngestError
from ingest.letters.folder import DeadLetters
from lineage import Entity, LineageError

__all__ = ["finish_erasures", "reach_everything"]

_log = logging.getLogger(__name__)


def reach_everything(store: EmbeddedStore) -> None:
    """Let erasures of a store reach what packages above it keep in the home."""
    letters = DeadLetters(store.home / "deadletters")

    def elsewhere(group: str) -> list[Entity]:
        known = [
            entity
            for kind in ("DeadLetterFolder", "DeadLetterTopic")
            for entity in store.graph.find(type=kind)
        ]
        return [entity for entity in known if entity.properties.get("group") == group]

    store.eraser.holders.append(DeadLetterHolder(letters, elsewhere=elsewhere))


def finish_erasures(store: EmbeddedStore) -> None:
    """Finish the erasures of a home that were cut; what cannot be finished now is logged."""
    try:
        for report in store.eraser.resume():
            _log.info("finished erasure %s, which was cut", report.erasure)
    except (FeatureStoreError, IngestError, LineageError) as error:
        _log.warning("erasures that were cut cannot be finished yet: %s", error)
