"""Reading what others recorded into the graph."""

from lineage.imports.mlflow import import_mlflow
from lineage.imports.ndjson import Imported, import_ndjson

__all__ = ["Imported", "import_mlflow", "import_ndjson"]
