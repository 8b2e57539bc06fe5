"""Avro schemas: read, made safe to read messages by, and told by their fingerprint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, Final, TypeAlias, final

from featurestore.record import shown
from ingest.errors import IngestError

__all__ = [
    "SCALE",
    "AvroSchema",
    "ParsedSchema",
    "contains_itself",
    "fastavro_library",
    "fingerprint",
    "parsed_schema",
    "refuse_empty_elements",
]

AvroSchema: TypeAlias = str | Mapping[str, Any]
"""An Avro schema as JSON text or as the object it stands for: a record."""

SCALE: Final = "featureline.scale"
"""The attribute that a decimal's scale has in a parsed schema."""

_NAMED: Final = ("record", "error", "enum", "fixed")


@final
class ParsedSchema:
    """A schema that fastavro has read, with the types it names."""

    def __init__(self, schema: Any, named: Mapping[str, Any]) -> None:
        self.schema = schema
        self.named = named


def parsed_schema(
    library: ModuleType, schema: AvroSchema, others: Sequence[AvroSchema] = ()
) -> ParsedSchema:
    """Read a schema and those it builds on.

    Raises:
        ValueError: it is no Avro schema of a record.
    """
    named: dict[str, Any] = {}
    try:
        for other in others:
            library.parse_schema(_object(other), named_schemas=named)
        parsed = library.parse_schema(_object(schema), named_schemas=named)
    except RecursionError:
        raise ValueError("avro: expected a schema, got one that is nested too deep") from None
    except (
        library.schema.SchemaParseException,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
    ) as error:
        raise ValueError(f"avro: expected a schema, got {shown(str(error))}") from error
    if not isinstance(parsed, Mapping) or parsed.get("type") != "record":
        raise ValueError("avro: expected the schema of a record, got another type's")
    return ParsedSchema(parsed, named)


def _object(schema: AvroSchema) -> Any:
    return _own_decimals(json.loads(schema) if isinstance(schema, str) else schema)


def _own_decimals(schema: Any) -> Any:
    """Copy a schema with its decimals as bytes that have a scale.

    fastavro would make them, without a limit to their length.
    """
    if isinstance(schema, list):
        return [_own_decimals(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    copy = {name: _own_decimals(part) for name, part in schema.items()}
    if copy.get("logicalType") == "decimal" and copy.get("type") in ("bytes", "fixed"):
        scale = copy.get("scale", 0)
        if type(scale) is not int or scale < 0:
            raise ValueError(f"a decimal with a scale of {scale!r}")
        del copy["logicalType"]
        copy[SCALE] = scale
    return copy


def fingerprint(library: ModuleType, parsed: ParsedSchema) -> bytes:
    """Return the CRC-64-AVRO of the canonical form, little end first as messages have it."""
    canonical = library.schema.to_parsing_canonical_form(parsed.schema)
    return bytes.fromhex(library.schema.fingerprint(canonical, "CRC-64-AVRO"))


def refuse_empty_elements(parsed: ParsedSchema) -> None:
    """Refuse arrays whose elements take no bytes: nine bytes could ask for 2⁶² of them."""

    def takes_nothing(schema: Any, within: frozenset[str]) -> bool:
        if isinstance(schema, list):
            return False
        if isinstance(schema, str):
            if schema in within:
                return False
            found = parsed.named.get(schema)
            return schema == "null" if found is None else takes_nothing(found, within)
        kind = schema["type"]
        if kind == "fixed":
            return not schema["size"]
        if kind in ("record", "error"):
            inner = within | {schema["name"]}
            return all(takes_nothing(field["type"], inner) for field in schema["fields"])
        return kind not in ("array", "map", "enum") and takes_nothing(kind, within)

    for schema in _every_schema(parsed):
        if schema["type"] == "array" and takes_nothing(schema["items"], frozenset()):
            raise ValueError("avro: an array of elements without a byte cannot be read safely")


def contains_itself(parsed: ParsedSchema) -> bool:
    """Whether a type of the schema can be nested in itself without end."""

    def reaches(schema: Any, open_names: frozenset[str]) -> bool:
        if isinstance(schema, list):
            return any(reaches(branch, open_names) for branch in schema)
        if isinstance(schema, str):
            if schema in open_names:
                return True
            found = parsed.named.get(schema)
            return found is not None and reaches(found, open_names)
        kind = schema["type"]
        if kind in ("record", "error"):
            inner = open_names | {schema["name"]}
            return any(reaches(field["type"], inner) for field in schema["fields"])
        if kind in ("array", "map"):
            return reaches(schema["items" if kind == "array" else "values"], open_names)
        return kind not in ("enum", "fixed") and reaches(kind, open_names)

    return reaches(parsed.schema, frozenset())


def _every_schema(parsed: ParsedSchema) -> list[Any]:
    """List the schema and all that it is made of, each named type once."""
    found: list[Any] = []
    waiting: list[Any] = [parsed.schema]
    seen: set[str] = set()
    while waiting:
        schema = waiting.pop()
        if isinstance(schema, list):
            waiting += schema
            continue
        if isinstance(schema, str):
            if schema not in seen and schema in parsed.named:
                waiting.append(parsed.named[schema])
            continue
        found.append(schema)
        kind = schema["type"]
        if kind in _NAMED:
            if schema["name"] in seen:
                continue
            seen.add(schema["name"])
        if kind in ("record", "error"):
            waiting += [field["type"] for field in schema["fields"]]
        elif kind in ("array", "map"):
            waiting.append(schema["items" if kind == "array" else "values"])
        elif kind not in _NAMED:
            waiting.append(kind)
    return found


def fastavro_library() -> ModuleType:
    """Return fastavro.

    Raises:
        IngestError: it is not installed.
    """
    try:
        import fastavro
        import fastavro.read
        import fastavro.schema
    except ImportError:
        raise IngestError("Avro needs fastavro: pip install 'featureline[avro]'") from None
    return fastavro
