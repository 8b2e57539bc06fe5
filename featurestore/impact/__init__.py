"""What one record reached, and what records reached a model: lineage down to rows."""

from featurestore.impact.report import DatasetHit, Downstream, HeldRow, ImpactReport
from featurestore.impact.tracing import Tracer

__all__ = ["DatasetHit", "Downstream", "HeldRow", "ImpactReport", "Tracer"]
