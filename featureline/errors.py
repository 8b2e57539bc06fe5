"""Errors the command line prints as one paragraph instead of a traceback."""

from __future__ import annotations

from featurestore.errors import FeatureStoreError
from ingest.errors import IngestError
from lineage.errors import LineageError
from training.errors import TrainingError

__all__ = ["EXPECTED_ERRORS", "DemoError"]


class DemoError(Exception):
    """The demo cannot go on: something it needs is missing, or a check failed."""


EXPECTED_ERRORS = (FeatureStoreError, IngestError, LineageError, TrainingError, DemoError)
