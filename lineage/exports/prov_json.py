"""PROV-JSON: W3C PROV for programs."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from typing import TextIO, final

from lineage.change import to_json
from lineage.entity import JSON
from lineage.exports.part import Part
from lineage.exports.prov import BARE, ENDS, PREFIXES, Element, Relation, Value, statements


def write_prov_json(part: Part, out: TextIO) -> None:
    """One document; its sections grow in temporary files, so that any graph has room."""
    with ExitStack() as stack:
        sections = _Sections(stack)
        for one in statements(part):
            if isinstance(one, Element):
                sections.element(one)
            else:
                sections.relation(one)
        out.write(f'{{"prefix":{to_json(PREFIXES)}')
        sections.write(out)
        out.write("}\n")


@final
class _Sections:
    """The members of the document, each an object by identifier."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._files: dict[str, TextIO] = {}
        self._relations = 0

    def element(self, element: Element) -> None:
        """Add an entity, activity or agent."""
        fields = _fields(element.values)
        if element.what == "activity":
            if element.start:
                fields["prov:startTime"] = element.start.isoformat()
            if element.end:
                fields["prov:endTime"] = element.end.isoformat()
        self._add(element.what, element.id, fields)

    def relation(self, one: Relation) -> None:
        """Add a relation, under a number of its own."""
        first, second = ENDS[one.name]
        self._relations += 1
        ends: dict[str, JSON] = {f"prov:{first}": one.first, f"prov:{second}": one.second}
        values = {} if one.name in BARE else _fields(one.values)
        self._add(one.name, f"_:r{self._relations}", ends | values)

    def write(self, out: TextIO) -> None:
        """Write all of them behind what is there."""
        for name, file in self._files.items():
            file.seek(0)
            out.write(f',\n"{name}":{{')
            shutil.copyfileobj(file, out)
            out.write("}")

    def _add(self, section: str, id: str, fields: dict[str, JSON]) -> None:
        file = self._files.get(section)
        if file is None:
            file = self._stack.enter_context(_temporary())
            self._files[section] = file
        else:
            file.write(",")
        file.write(f"\n{to_json(id)}:{to_json(fields)}")


def _temporary() -> TextIO:
    return tempfile.TemporaryFile("w+", encoding="utf-8", newline="")


def _fields(values: tuple[Value, ...]) -> dict[str, JSON]:
    fields: dict[str, JSON] = {}
    for name, value, kind in values:
        literal: JSON = value
        if kind:
            literal = {"$": value, "type": "prov:QUALIFIED_NAME" if kind == "qname" else kind}
        known = fields.get(name)
        if name not in fields:
            fields[name] = literal
        elif isinstance(known, list):
            fields[name] = [*known, literal]
        else:
            fields[name] = [known, literal]
    return fields
