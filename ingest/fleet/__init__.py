"""Many pipelines from one settings file: run, steered, and asked how far they are."""

from ingest.fleet.control import replay, seek, status
from ingest.fleet.fleet import Fleet
from ingest.fleet.settings import FleetSettings, PipelineSettings, StoreSettings, read_settings

__all__ = [
    "Fleet",
    "FleetSettings",
    "PipelineSettings",
    "StoreSettings",
    "read_settings",
    "replay",
    "seek",
    "status",
]
