"""GraphML: what networkx, yEd, Gephi and igraph read."""

from __future__ import annotations

from typing import TextIO

from lineage.change import to_json
from lineage.entity import Entity
from lineage.exports.part import Part
from lineage.exports.xml import attribute, text

_NODE = (
    ("kind", "string"),
    ("type", "string"),
    ("name", "string"),
    ("source_uri", "string"),
    ("content_hash", "string"),
    ("version", "int"),
    ("state", "string"),
    ("created", "string"),
    ("modified", "string"),
    ("properties", "string"),
)
_EDGE = (
    ("source_column", "string"),
    ("column", "string"),
    ("by", "string"),
    ("transformation", "string"),
)


def write_graphml(part: Part, out: TextIO) -> None:
    """Nodes are uids with the fields of the entity; properties are JSON text.

    Edges run downstream and have their `type`: that of the association, or `Column` for an
    edge between two columns of the ends.
    """
    out.write('<?xml version="1.0" encoding="UTF-8"?>\n')
    out.write('<graphml xmlns="http://graphml.graphdrawing.org/xmlns">\n')
    for name, kind in _NODE:
        out.write(f'<key id="{name}" for="node" attr.name="{name}" attr.type="{kind}"/>\n')
    out.write('<key id="link" for="edge" attr.name="type" attr.type="string"/>\n')
    for name, kind in _EDGE:
        out.write(f'<key id="edge_{name}" for="edge" attr.name="{name}" attr.type="{kind}"/>\n')
    out.write('<graph id="lineage" edgedefault="directed">\n')
    for entity in part.entities():
        out.write(f"<node id={attribute(entity.uid)}>")
        for name, value in node_values(entity).items():
            if value != "":
                out.write(f'<data key="{name}">{text(str(value))}</data>')
        out.write("</node>\n")
    number = 0
    for source, destination, link in part.ties():
        out.write(
            f'<edge id="e{number}" source={attribute(source.uid)} '
            f'target={attribute(destination.uid)}><data key="link">{link.value}</data></edge>\n'
        )
        number += 1
    for said in part.columns():
        for edge in said.edges:
            values = {
                "source_column": edge.source_column,
                "column": edge.column,
                "by": said.by,
                "transformation": f"{edge.type} {edge.subtype}".strip(),
            }
            data = "".join(
                f'<data key="edge_{name}">{text(value)}</data>'
                for name, value in values.items()
                if value
            )
            out.write(
                f'<edge id="e{number}" source={attribute(str(edge.source))} '
                f'target={attribute(str(said.destination))}><data key="link">Column</data>'
                f"{data}</edge>\n"
            )
            number += 1
    out.write("</graph>\n</graphml>\n")


def node_values(entity: Entity) -> dict[str, str | int]:
    """The fields of an entity as text and numbers; what it has not is empty."""
    return {
        "kind": entity.kind.value,
        "type": entity.type,
        "name": entity.name,
        "source_uri": entity.source_uri,
        "content_hash": entity.content_hash,
        "version": entity.version,
        "state": entity.state,
        "created": entity.created.isoformat() if entity.created else "",
        "modified": entity.modified.isoformat() if entity.modified else "",
        "properties": to_json(entity.properties) if entity.properties else "",
    }
