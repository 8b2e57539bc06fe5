"""A drawing as one HTML page that needs no network."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from html import escape
from importlib.resources import files
from typing import Final

from lineage.association import AssociationType
from lineage.change import to_json
from lineage.entity import JSON, Entity, Kind, to_us
from lineage.errors import InvalidQuery
from lineage.render.drawing import Drawing

MOST_ENTITIES: Final = 20_000

_SCRIPTS: Final = ("model.js", "layout.js", "canvas.js", "panel.js", "page.js")
# A value of many megabytes would make the page unusable, and nobody reads it there.
_LONGEST_VALUE: Final = 4_000


def to_html(drawing: Drawing, *, title: str | None = None) -> str:
    """The page; any character of a name, uri or property is harmless.

    Names enter it as escaped text and as JSON without `<`, and its content policy
    allows no script but the page's own. The page lays the graph out itself; where a
    layer has very many entities of one type, it begins with them folded into a stack.
    A property whose JSON has more than 4,000 characters is cut.

    Raises:
        InvalidQuery: there are more than 20,000 entities to draw.
    """
    count = len(drawing.entities)
    if count > MOST_ENTITIES:
        raise InvalidQuery(
            f"a page draws at most {MOST_ENTITIES} entities, got {count}; ask for less with depth, "
            f"types, kinds or limit, or export it as GraphML, GEXF or Parquet"
        )
    style, script = _style_and_script()
    parts = {
        "POLICY": f"default-src 'none'; style-src '{_source(style)}'; script-src "
        f"'{_source(script)}'; base-uri 'none'; form-action 'none'",
        "TITLE": escape(_title(drawing) if title is None else title),
        "SUMMARY": _summary(drawing),
        "STYLE": style,
        "SCRIPT": script,
        "DATA": _data(drawing),
    }
    # One pass, so that a name like @@DATA@@ is a name.
    return re.sub("@@([A-Z]+)@@", lambda found: parts[found[1]], _read("page.html"))


@cache
def _read(name: str) -> str:
    return files("lineage.render").joinpath("page", name).read_text("utf-8")


@cache
def _style_and_script() -> tuple[str, str]:
    code = "".join(map(_read, _SCRIPTS))
    return _read("page.css"), f'"use strict";\n(() => {{\n{code}}})();\n'


def _source(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _title(drawing: Drawing) -> str:
    names = (entity.name for entity in drawing.entities if entity.uid == drawing.start)
    start = next(names, drawing.start)
    return {
        "ascendants": f"Where {start} comes from",
        "descendants": f"What comes from {start}",
    }.get(drawing.direction, f"Lineage of {start}" if start else "Lineage")


def _summary(drawing: Drawing) -> str:
    entities, associations = len(drawing.entities), len(drawing.edges())
    return (
        f"{entities:,} {'entity' if entities == 1 else 'entities'} · "
        f"{associations:,} {'association' if associations == 1 else 'associations'}"
    )


def _data(drawing: Drawing) -> str:
    """What the script needs, as JSON that cannot end the element it stands in."""
    starts = [n for n, entity in enumerate(drawing.entities) if entity.uid == drawing.start]
    edges = drawing.edges()
    types = [link for link in AssociationType if any(edge[2] is link for edge in edges)]
    places = {link: place for place, link in enumerate(types)}
    text = to_json(
        {
            "entities": [_fields(entity) for entity in drawing.entities],
            "associations": [[source, target, places[link]] for source, target, link in edges],
            "types": [link.value for link in types],
            "kinds": {kind.value: True for kind in Kind},
            "columns": _columns(drawing),
            "start": starts[0] if starts else -1,
        }
    )
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _columns(drawing: Drawing) -> list[JSON]:
    """Each edge between columns: places of its ends among the entities, names and how."""
    places = {entity.uid: place for place, entity in enumerate(drawing.entities)}
    return [
        [
            places[str(edge.source)],
            edge.source_column,
            places[str(said.destination)],
            edge.column,
            (edge.subtype or edge.type).lower(),
            _short(edge.description),
        ]
        for said in drawing.columns
        for edge in said.edges
        if str(said.destination) in places and str(edge.source) in places
    ]


def _fields(entity: Entity) -> Mapping[str, JSON]:
    return {
        "uid": entity.uid,
        "kind": entity.kind.value,
        "type": entity.type,
        "name": entity.name,
        "source_uri": entity.source_uri,
        "content_hash": entity.content_hash,
        "version": entity.version,
        "state": entity.state,
        "properties": {name: _short(value) for name, value in entity.properties.items()},
        "created": _time(entity.created),
        "modified": _time(entity.modified),
    }


def _short(value: JSON) -> JSON:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else to_json(value)
    if len(text) <= _LONGEST_VALUE:
        return value
    return f"{text[:_LONGEST_VALUE]}… ({len(text):,} characters)"


def _time(time: datetime | None) -> int:
    return to_us(time) if time else 0
