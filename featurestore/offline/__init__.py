"""The offline store: every version of every record, one Delta table per feature group."""

from featurestore.offline.base import FileStatistics, OfflineTable, Snapshot
from featurestore.offline.delta import DeltaOfflineTable
from featurestore.offline.flusher import Flushed, Flusher

__all__ = [
    "DeltaOfflineTable",
    "FileStatistics",
    "Flushed",
    "Flusher",
    "OfflineTable",
    "Snapshot",
]
