"""Drawing a part of the lineage graph as one HTML page that needs no network."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Sequence, Set
from datetime import datetime
from html import escape
from importlib.resources import files
from typing import Final
from unicodedata import east_asian_width

from lineage.association import AssociationType
from lineage.change import to_json
from lineage.entity import Entity, Kind
from lineage.errors import InvalidQuery
from lineage.layout import Layout, Point, Sizes, layered
from lineage.render import Drawing

MOST_ENTITIES: Final = 3_000

_PAGE: Final = files("lineage").joinpath("page")
_MANY: Final = 70
_CARDS: Final = Sizes(
    width=186, height=64, layer_gap=52, column_gap=26, node_gap=18, line_gap=16, most_rows=40
)
_STRIPS: Final = Sizes(
    width=196, height=28, layer_gap=110, column_gap=26, node_gap=12, line_gap=8, most_rows=32
)
# Icons on a field of 16 by 16, by type and else by kind.
_ICONS: Final[dict[str, str]] = {
    Kind.ARTIFACT: "M4 1.8h5.2L12.5 5v9.2h-8.5zM9 2v3.4h3.4",
    Kind.TRIAL_COMPONENT: "M5.2 3.2 12.4 8l-7.2 4.8z",
    Kind.ACTION: "M8.8 1.6 3.6 9h3.8l-.6 5.4L12.4 7H8.4z",
    Kind.CONTEXT: "M1.8 4.2h4.4l1.4 1.8h6.6v7H1.8z",
    Kind.TRIAL: "M6.2 2h3.6M7 2v4.2L3.2 13a.8.8 0 0 0 .7 1.2h8.2a.8.8 0 0 0 .7-1.2L9 6.2V2",
    Kind.EXPERIMENT: "M6.2 2h3.6M7 2v4.2L3.2 13a.8.8 0 0 0 .7 1.2h8.2a.8.8 0 0 0 .7-1.2L9 6.2V2",
    "DataSet": "M2.5 4c0-1.2 2.4-2 5.5-2s5.5.8 5.5 2-2.4 2-5.5 2-5.5-.8-5.5-2zm0 0v8c0 1.2 2.4 2 "
    "5.5 2s5.5-.8 5.5-2V4M2.5 8c0 1.2 2.4 2 5.5 2s5.5-.8 5.5-2",
    "Model": "M8 1.6 13.6 4.8v6.4L8 14.4 2.4 11.2V4.8zM2.6 5 8 8l5.4-3M8 8v6.2",
    "Image": "M2 5.2h12v8H2zM2 5.2 4 2.6h8l2 2.6M8 2.6v2.6",
    "Endpoint": "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM2 8h12M8 2c3.6 3.4 3.6 8.6 0 12-3.6-3.4-3.6"
    "-8.6 0-12",
}


def to_html(drawing: Drawing, *, title: str | None = None) -> str:
    """The page; any character of a name, uri or property is harmless.

    Names enter it as escaped text and as JSON without `<`, and its content policy
    allows no script but the page's own.

    Raises:
        InvalidQuery: there are more than 3,000 entities to draw.
    """
    count = len(drawing.entities)
    if count > MOST_ENTITIES:
        raise InvalidQuery(
            f"a page draws at most {MOST_ENTITIES} entities, got {count}; ask for less with depth, "
            f"types, kinds or limit, or take to_networkx() or to_arrow()"
        )
    edges = drawing.edges()
    sizes = _CARDS if count <= _MANY else _STRIPS
    layout = layered(count, [(source, destination) for source, destination, _ in edges], sizes)
    style = _PAGE.joinpath("page.css").read_text("utf-8")
    script = _PAGE.joinpath("page.js").read_text("utf-8")
    parts = {
        "POLICY": f"default-src 'none'; style-src '{_source(style)}'; script-src "
        f"'{_source(script)}'; base-uri 'none'; form-action 'none'",
        "TITLE": escape(_title(drawing) if title is None else title),
        "SUMMARY": _summary(drawing),
        "STYLE": style,
        "SCRIPT": script,
        "DRAWING": _svg(drawing, edges, layout, sizes),
        "LEGEND": _legend(drawing.entities, {link for _, _, link in edges}),
        "DATA": _data(drawing, edges, layout, sizes),
    }
    # One pass, so that a name like @@DATA@@ is a name.
    page = _PAGE.joinpath("page.html").read_text("utf-8")
    return re.sub("@@([A-Z]+)@@", lambda found: parts[found[1]], page)


def _source(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _title(drawing: Drawing) -> str:
    names = (entity.name for entity in drawing.entities if entity.uid == drawing.start)
    start = next(names, drawing.start)
    return {
        "ascendants": f"Where {start} comes from",
        "descendants": f"What comes from {start}",
    }.get(drawing.direction, f"Lineage of {start}")


def _summary(drawing: Drawing) -> str:
    entities, associations = len(drawing.entities), len(drawing.edges())
    return (
        f"{entities:,} {'entity' if entities == 1 else 'entities'} · "
        f"{associations:,} {'association' if associations == 1 else 'associations'}"
    )


def _svg(
    drawing: Drawing,
    edges: Sequence[tuple[int, int, AssociationType]],
    layout: Layout,
    sizes: Sizes,
) -> str:
    compact = sizes is _STRIPS
    lines = [
        f'<svg id="drawing" class="{"compact" if compact else "roomy"}" role="img" '
        f'viewBox="0 0 {layout.width + 40:.0f} {layout.height + 40:.0f}" '
        f'aria-label="{escape(_title(drawing))}">',
        "<defs>",
        *(
            f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
            f'markerHeight="8" markerUnits="userSpaceOnUse" orient="auto">'
            f'<path d="M0 .8 7.4 4 0 7.2z"/></marker>'
            for name in ("tip", "tip-up", "tip-down")
        ),
        "</defs>",
        '<g id="world" transform="translate(20 20)">',
    ]
    lines.append('<g id="edges">')
    names = [escape(entity.name) for entity in drawing.entities]
    for (source, destination, link), route in zip(edges, layout.routes, strict=True):
        curve = _curve(route)
        lines.append(
            f'<g class="edge {_EDGE_STYLES[link]}"><path class="line" d="{curve}"/>'
            f'<path class="reach" d="{curve}"/>'
            f"<title>{names[source]} → {names[destination]}\n{link.value}</title></g>"
        )
    lines.append("</g>")
    for entity, (x, y) in zip(drawing.entities, layout.places, strict=True):
        start = " start" if entity.uid == drawing.start else ""
        draw = _strip if compact else _card
        lines.append(
            f'<g class="node kind-{entity.kind.value}{start}" tabindex="0" role="button" '
            f'transform="translate({x:.1f} {y:.1f})">{draw(entity, sizes)}'
            f"<title>{escape(_tooltip(entity))}</title></g>"
        )
    lines += ["</g>", "</svg>"]
    return "\n".join(lines)


_EDGE_STYLES: Final = {
    AssociationType.CONTRIBUTED_TO: "plain",
    AssociationType.PRODUCED: "plain",
    AssociationType.DERIVED_FROM: "derived",
    AssociationType.ASSOCIATED_WITH: "loose",
    AssociationType.SAME_AS: "loose",
}


def _card(entity: Entity, sizes: Sizes) -> str:
    """Type and version above, the name below in one line or two."""
    width, height = sizes.width, sizes.height
    version = f" · v{entity.version}" if _has_version(entity) else ""
    state = _state(entity.state, width - 13, 14.5) if entity.state else ""
    lines = _wrap(entity.name, 19)
    names = "".join(
        f'<text class="name" x="14" y="{y:g}">{escape(line)}</text>'
        for line, y in zip(lines, (44,) if len(lines) == 1 else (37.5, 54), strict=True)
    )
    bottom = height - 9
    return (
        f'<rect class="card" width="{width:g}" height="{height:g}" rx="9"/>'
        f'<path class="band" d="M5 .94A9 9 0 0 0 0 9V{bottom:g}A9 9 0 0 0 5 {bottom + 8.06:g}z"/>'
        f'<svg class="icon" x="13" y="7" width="15" height="15" viewBox="0 0 16 16">'
        f'<path d="{_icon(entity)}"/></svg>'
        f'<text class="what" x="33" y="18.5">{escape(_fit(entity.type, 19) + version)}</text>'
        f"{names}{state}"
    )


def _strip(entity: Entity, sizes: Sizes) -> str:
    width, height = sizes.width, sizes.height
    state = _state(entity.state, width - 11, height / 2) if entity.state else ""
    name = _fit(entity.name, 18 if state else 20)
    return (
        f'<rect class="card" width="{width:g}" height="{height:g}" rx="6"/>'
        f'<path class="band" d="M4 .34A6 6 0 0 0 0 6V{height - 6:g}A6 6 0 0 0 4 '
        f'{height - 0.34:g}z"/>'
        f'<svg class="icon" x="10" y="{height / 2 - 7:g}" width="14" height="14" '
        f'viewBox="0 0 16 16"><path d="{_icon(entity)}"/></svg>'
        f'<text class="name" x="30" y="{height / 2 + 4:g}">{escape(name)}</text>{state}'
    )


def _state(state: str, x: float, y: float) -> str:
    known = state if re.fullmatch("[A-Za-z]+", state) else "other"
    return f'<circle class="state state-{known}" cx="{x:g}" cy="{y:g}" r="4"/>'


def _icon(entity: Entity) -> str:
    return _ICONS.get(entity.type) or _ICONS[entity.kind]


def _has_version(entity: Entity) -> bool:
    return entity.kind is Kind.ARTIFACT or entity.version > 1


def _tooltip(entity: Entity) -> str:
    version = f" v{entity.version}" if _has_version(entity) else ""
    state = f"\n{entity.state}" if entity.state else ""
    return f"{entity.name}\n{entity.type}{version}{state}"


def _width(text: str) -> int:
    """The width in letters; those of East Asia count double."""
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def _fit(text: str, most: int) -> str:
    """The text cut in the middle to a width: names differ at their ends."""
    if _width(text) <= most:
        return text
    start, end = 1, len(text) - 1
    while _width(text[: start + 1]) + _width(text[end - 1 :]) < most:
        start, end = start + 1, end - 1
    return f"{text[:start]}…{text[end:]}"


def _wrap(text: str, most: int) -> list[str]:
    """One line or two, broken after the last mark that leaves no stub before or behind."""
    if _width(text) <= most:
        return [text]
    cut = len(text)
    while _width(text[:cut]) > most:
        cut -= 1
    places = range(cut // 3, min(cut, len(text) - 3) + 1)
    marks = [place for place in places if text[place - 1] in " -_./:@"]
    cut = marks[-1] if marks else cut
    return [text[:cut], _fit(text[cut:], most)]


def _curve(route: Sequence[Point]) -> str:
    (x, y), *rest = route
    path = [f"M{x:.1f} {y:.1f}"]
    for next_x, next_y in rest:
        if abs(next_y - y) < 0.05:
            path.append(f"H{next_x:.1f}")
        else:
            half = (x + next_x) / 2
            path.append(f"C{half:.1f} {y:.1f} {half:.1f} {next_y:.1f} {next_x:.1f} {next_y:.1f}")
        x, y = next_x, next_y
    return "".join(path)


def _legend(entities: Sequence[Entity], links: Set[AssociationType]) -> str:
    counts = Counter((entity.kind.value, entity.type) for entity in entities)
    items = [
        f'<li><button type="button" aria-pressed="false" class="kind-{kind}" '
        f'data-what="{escape(f"{kind} {what}")}"><svg viewBox="0 0 16 16">'
        f'<path d="{_ICONS.get(what) or _ICONS[kind]}"/></svg>'
        f"<span>{escape(_fit(what, 30))}</span><b>{number}</b></button></li>"
        for (kind, what), number in sorted(counts.items())
    ]
    styles: dict[str, list[str]] = {}
    for link in AssociationType:
        if link in links:
            styles.setdefault(_EDGE_STYLES[link], []).append(link.value)
    items += [
        f'<li class="{style}{"" if place else " lines"}"><svg class="sample" viewBox="0 0 30 8">'
        f'<path class="line" d="M1 4H29"/></svg>{", ".join(names)}</li>'
        for place, (style, names) in enumerate(styles.items())
    ]
    return "".join(items)


def _data(
    drawing: Drawing,
    edges: Sequence[tuple[int, int, AssociationType]],
    layout: Layout,
    sizes: Sizes,
) -> str:
    """What the script needs, as JSON that cannot end the element it stands in."""
    starts = [n for n, entity in enumerate(drawing.entities) if entity.uid == drawing.start]
    text = to_json(
        {
            "entities": [
                {
                    "uid": entity.uid,
                    "kind": entity.kind.value,
                    "type": entity.type,
                    "name": entity.name,
                    "source_uri": entity.source_uri,
                    "content_hash": entity.content_hash,
                    "version": entity.version,
                    "state": entity.state,
                    "properties": entity.properties,
                    "created": _time(entity.created),
                    "modified": _time(entity.modified),
                }
                for entity in drawing.entities
            ],
            "associations": [[source, target, link.value] for source, target, link in edges],
            "places": [[round(x, 1), round(y, 1)] for x, y in layout.places],
            "start": starts[0] if starts else -1,
            "node": [sizes.width, sizes.height],
            "width": round(layout.width, 1),
            "height": round(layout.height, 1),
        }
    )
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _time(time: datetime | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC") if time else ""
