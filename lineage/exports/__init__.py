"""The graph, or a part of it, in the forms that other tools read."""

from lineage.exports.file import FORMATS, as_format, export_part, export_text
from lineage.exports.ndjson import ndjson_schema
from lineage.exports.part import Part, Tie

__all__ = ["FORMATS", "Part", "Tie", "as_format", "export_part", "export_text", "ndjson_schema"]
