"""GEXF 1.2: what Gephi plays through time."""

from __future__ import annotations

from datetime import datetime
from typing import TextIO

from lineage.entity import Entity
from lineage.exports.graphml import node_values
from lineage.exports.part import Part
from lineage.exports.xml import attribute
from lineage.render.drawing import COLOURS

_NODE = {
    "kind": "string",
    "type": "string",
    "source_uri": "string",
    "content_hash": "string",
    "version": "integer",
    "state": "string",
    "created": "string",
    "modified": "string",
    "properties": "string",
}
_EDGE = ("type", "source_column", "column", "by", "transformation")


def write_gexf(part: Part, out: TextIO) -> None:
    """A dynamic graph: nodes begin when they were created, edges when both of their ends were.

    Nodes are uids, labelled by name, coloured by kind, with the fields of the entity.
    """
    out.write('<?xml version="1.0" encoding="UTF-8"?>\n')
    out.write(
        '<gexf xmlns="http://www.gexf.net/1.2draft" xmlns:viz="http://www.gexf.net/1.2draft/viz" '
        'version="1.2">\n'
        '<graph mode="dynamic" timeformat="date" defaultedgetype="directed">\n'
        '<attributes class="node" mode="static">\n'
    )
    for name, kind in _NODE.items():
        out.write(f'<attribute id="{name}" title="{name}" type="{kind}"/>\n')
    out.write('</attributes>\n<attributes class="edge" mode="static">\n')
    for name in _EDGE:
        out.write(f'<attribute id="edge_{name}" title="{name}" type="string"/>\n')
    out.write("</attributes>\n<nodes>\n")
    for entity in part.entities():
        out.write(
            f"<node id={attribute(entity.uid)} label={attribute(entity.name)}"
            f"{_since(entity.created)}><attvalues>"
        )
        values = node_values(entity)
        for name in _NODE:
            if values[name] != "":
                out.write(f'<attvalue for="{name}" value={attribute(str(values[name]))}/>')
        colour = COLOURS[entity.kind]
        red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
        out.write(f'</attvalues><viz:color r="{red}" g="{green}" b="{blue}"/></node>\n')
    out.write("</nodes>\n<edges>\n")
    number = 0
    for source, destination, link in part.ties():
        out.write(
            f'<edge id="{number}" source={attribute(source.uid)} '
            f"target={attribute(destination.uid)}{_since(_both(source, destination))}>"
            f'<attvalues><attvalue for="edge_type" value="{link.value}"/></attvalues></edge>\n'
        )
        number += 1
    for said in part.columns():
        for edge in said.edges:
            values = {
                "type": "Column",
                "source_column": edge.source_column,
                "column": edge.column,
                "by": said.by,
                "transformation": f"{edge.type} {edge.subtype}".strip(),
            }
            out.write(
                f'<edge id="{number}" source={attribute(str(edge.source))} '
                f"target={attribute(str(said.destination))}><attvalues>"
            )
            for name in _EDGE:
                if values[name]:
                    out.write(f'<attvalue for="edge_{name}" value={attribute(str(values[name]))}/>')
            out.write("</attvalues></edge>\n")
            number += 1
    out.write("</edges>\n</graph>\n</gexf>\n")


def _both(source: Entity, destination: Entity) -> datetime | None:
    times = [entity.created for entity in (source, destination) if entity.created]
    return max(times, default=None)


def _since(time: datetime | None) -> str:
    return f' start="{time.isoformat(timespec="microseconds")}"' if time else ""
