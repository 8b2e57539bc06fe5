"""One JSON document, written piece by piece."""

from __future__ import annotations

import json
from typing import TextIO

from lineage.change import to_json
from lineage.entity import JSON
from lineage.exports.part import Part


def write_json(part: Part, out: TextIO) -> None:
    """`{"entities": [...], "associations": [...], "columns": [...]}`."""
    depths = part.depths
    out.write('{"entities":[')
    comma = ""
    for entity in part.entities():
        fields: dict[str, JSON] = {
            "uid": entity.uid,
            "kind": entity.kind.value,
            "type": entity.type,
            "name": entity.name,
            "version": entity.version,
            "state": entity.state,
            "source_uri": entity.source_uri,
            "content_hash": entity.content_hash,
            "created": entity.created.isoformat() if entity.created else None,
            "modified": entity.modified.isoformat() if entity.modified else None,
            "properties": entity.properties,
        }
        if entity.uid in depths:
            fields["depth"] = depths[entity.uid]
        out.write(f"{comma}\n{json.dumps(fields, ensure_ascii=False)}")
        comma = ","
    out.write('],\n"associations":[')
    comma = ""
    for source, destination, link in part.ties():
        ends = {"source": source.uid, "destination": destination.uid, "type": link.value}
        out.write(f"{comma}\n{to_json(ends)}")
        comma = ","
    out.write('],\n"columns":[')
    comma = ""
    for said in part.columns():
        for edge in said.edges:
            column = {
                "source": str(edge.source),
                "source_column": edge.source_column,
                "destination": str(said.destination),
                "column": edge.column,
                "by": said.by,
                "type": edge.type,
                "subtype": edge.subtype,
            }
            out.write(f"{comma}\n{to_json(column)}")
            comma = ","
    out.write("]}\n")
