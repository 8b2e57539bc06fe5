"""The offline store: every version of every record, one Delta table per feature group."""

from featurestore.offline.base import FileStatistics, OfflineTable, Snapshot
from featurestore.offline.delta import DeltaOfflineTable
from featurestore.offline.flusher import Flushed, Flusher
from featurestore.offline.maintenance import DEFAULT_RETENTION, MaintenanceReport

__all__ = [
    "DEFAULT_RETENTION",
    "DeltaOfflineTable",
    "FileStatistics",
    "Flushed",
    "Flusher",
    "MaintenanceReport",
    "OfflineTable",
    "Snapshot",
]
