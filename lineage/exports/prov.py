"""The graph in the words of W3C PROV: what each entity is, and what each association says.

Artifacts are entities, trial components and actions activities, everything that groups
(contexts, trials, experiments) collections, who recorded something agents.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final, NamedTuple
from urllib.parse import quote

from lineage.association import AssociationType
from lineage.change import to_json
from lineage.column import ColumnLineage
from lineage.entity import Entity, Kind
from lineage.exports.part import Part, Tie

PREFIXES: Final = {
    "fs": "urn:fs:",
    "fl": "urn:featureline:lineage:",
    "other": "urn:featureline:lineage:uid:",
    "column": "urn:featureline:lineage:column:",
    "who": "urn:featureline:lineage:actor:",
}
ENDS: Final = {
    "used": ("activity", "entity"),
    "wasGeneratedBy": ("entity", "activity"),
    "wasInformedBy": ("informed", "informant"),
    "wasDerivedFrom": ("generatedEntity", "usedEntity"),
    "wasInfluencedBy": ("influencee", "influencer"),
    "hadMember": ("collection", "entity"),
    "alternateOf": ("alternate1", "alternate2"),
    "specializationOf": ("specificEntity", "generalEntity"),
    "wasAttributedTo": ("entity", "agent"),
    "wasAssociatedWith": ("activity", "agent"),
}
"""The relations used, each with the names of its two ends."""

BARE: Final = ("hadMember", "alternateOf", "specializationOf")
"""Relations that take no attributes."""

_ACTIVITIES = (Kind.TRIAL_COMPONENT, Kind.ACTION)
_ENDED = ("Completed", "Failed", "Stopped", "Aborted")
_A = AssociationType


class Value(NamedTuple):
    """An attribute; the type is `xsd:…`, or `qname` for a qualified name, or empty for text."""

    name: str
    value: str
    type: str = ""


class Element(NamedTuple):
    """An entity, activity or agent."""

    what: str
    id: str
    start: datetime | None
    end: datetime | None
    values: tuple[Value, ...]


class Relation(NamedTuple):
    """A relation, its ends in the order of `ENDS`."""

    name: str
    first: str
    second: str
    values: tuple[Value, ...] = ()


def identifier(uid: str) -> str:
    """The qualified name of a uid; no two share one.

    >>> identifier("urn:fs:context:FeatureGroup:flights")
    'fs:context%3AFeatureGroup%3Aflights'
    """
    if uid.startswith("urn:fs:"):
        return f"fs:{_local(uid.removeprefix('urn:fs:'))}"
    return f"other:{_local(uid)}"


def statements(part: Part) -> Iterator[Element | Relation]:
    """All that is to be said of a part, each element before the relations that name it.

    Columns that lineage knows of are entities of their own, specialised from what has them.
    """
    activities = set()
    for entity in part.entities():
        element = _element(entity)
        if element.what == "activity":
            activities.add(element.id)
        yield element
    for tie in part.ties():
        yield relation(tie)
    named: set[str] = set()
    for said in part.columns():
        yield from _columns(said, named)
    for uid, actor in part.actors():
        if agent_id(actor) not in named:
            named.add(agent_id(actor))
            yield Element("agent", agent_id(actor), None, None, (Value("prov:label", actor),))
        name = "wasAssociatedWith" if identifier(uid) in activities else "wasAttributedTo"
        yield Relation(name, identifier(uid), agent_id(actor))


def agent_id(actor: str) -> str:
    """The qualified name of who records."""
    return f"who:{_local(actor)}"


def relation(tie: Tie) -> Relation:
    """What an association says."""
    source, destination, link = tie
    upstream, downstream = identifier(source.uid), identifier(destination.uid)
    said = (Value("prov:type", f"fl:{link.value}", "qname"),)
    from_activity, to_activity = source.kind in _ACTIVITIES, destination.kind in _ACTIVITIES
    if link is _A.SAME_AS and not (from_activity or to_activity):
        return Relation("alternateOf", downstream, upstream)
    if link is _A.ASSOCIATED_WITH and not (from_activity or to_activity):
        if source.kind is not Kind.ARTIFACT:
            return Relation("hadMember", upstream, downstream)
        if destination.kind is not Kind.ARTIFACT:
            return Relation("hadMember", downstream, upstream)
    elif link in (_A.CONTRIBUTED_TO, _A.PRODUCED, _A.DERIVED_FROM):
        if to_activity and not from_activity and link is not _A.DERIVED_FROM:
            return Relation("used", downstream, upstream, said)
        if from_activity and to_activity:
            return Relation("wasInformedBy", downstream, upstream, said)
        if from_activity and link is _A.PRODUCED:
            return Relation("wasGeneratedBy", downstream, upstream, said)
        if not from_activity and not to_activity and link is not _A.CONTRIBUTED_TO:
            return Relation("wasDerivedFrom", downstream, upstream, said)
    return Relation("wasInfluencedBy", downstream, upstream, said)


def _columns(said: ColumnLineage, named: set[str]) -> Iterator[Element | Relation]:
    for edge in said.edges:
        ends = ((str(said.destination), edge.column), (str(edge.source), edge.source_column))
        generated, used = (
            _column_id(uid, column) if column else identifier(uid) for uid, column in ends
        )
        for (uid, column), name in zip(ends, (generated, used), strict=True):
            if column and name not in named:
                named.add(name)
                yield Element("entity", name, None, None, (Value("prov:label", column),))
                yield Relation("specializationOf", name, identifier(uid))
        values = [Value("prov:type", "fl:Column", "qname"), Value("fl:transformation", edge.type)]
        more = {"subtype": edge.subtype, "description": edge.description, "by": said.by}
        values += [Value(f"fl:{name}", text) for name, text in more.items() if text]
        if edge.masking:
            values.append(Value("fl:masking", "true", "xsd:boolean"))
        if generated != used:
            yield Relation("wasDerivedFrom", generated, used, tuple(values))


def _element(entity: Entity) -> Element:
    what = "activity" if entity.kind in _ACTIVITIES else "entity"
    values = [Value("prov:label", entity.name), Value("prov:type", entity.type)]
    if entity.kind not in (*_ACTIVITIES, Kind.ARTIFACT):
        values.append(Value("prov:type", "prov:Collection", "qname"))
    if entity.source_uri:
        # An activity's location is where it ran; what it was started from is another thing.
        name = "prov:location" if what == "entity" else "fl:source_uri"
        values.append(Value(name, entity.source_uri))
    values += [
        Value("fl:uid", entity.uid),
        Value("fl:kind", entity.kind.value),
        Value("fl:version", str(entity.version), "xsd:int"),
    ]
    if entity.content_hash:
        values.append(Value("fl:content_hash", entity.content_hash))
    if entity.state:
        values.append(Value("fl:state", entity.state))
    if what == "entity":
        values += [
            Value(f"fl:{name}", time.isoformat(), "xsd:dateTime")
            for name, time in (("created", entity.created), ("modified", entity.modified))
            if time
        ]
    if entity.properties:
        values.append(Value("fl:properties", to_json(entity.properties)))
    end = entity.modified if entity.state in _ENDED else None
    return Element(what, identifier(entity.uid), entity.created, end, tuple(values))


def _column_id(uid: str, column: str) -> str:
    return f"column:{_local(uid)}/{_local(column)}"


def _local(text: str) -> str:
    """The local part of a qualified name, everything that needs it in percent signs."""
    quoted = quote(text, safe="")
    # A full stop may not end it, and neither it nor a hyphen may begin it.
    if quoted[:1] in (".", "-"):
        quoted = f"%{ord(quoted[0]):02X}{quoted[1:]}"
    return f"{quoted[:-1]}%2E" if quoted.endswith(".") else quoted
