"""JSON messages with a JSON Schema: by a schema registry, or with a given document.

Needs jsonschema (extra `json-schema`), which is the judge. It takes some 70 µs for a record of ten
features, so schemas of plain keywords are compiled to a check that takes some µs; what that does
not accept is judged by the library, which says why.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeAlias, final
from urllib.parse import urljoin

from featurestore.record import shown
from ingest.decode import Decoder, JsonDecoder
from ingest.decoders.plain import bytes_of
from ingest.decoders.wire import HEADER_BYTES, WireSchemas
from ingest.errors import IngestError, Undecodable
from ingest.registry import RegisteredSchema, SchemaRegistry
from ingest.source import Message

__all__ = ["JsonSchemaDecoder"]

_NO_MAPPING: Final[Mapping[str, str]] = MappingProxyType({})
_Accept: TypeAlias = Callable[[Any], bool]


@final
class JsonSchemaDecoder(Decoder):
    """Reads a message as one JSON object (see `JsonDecoder`) that its schema allows.

    The schema's `$schema` names its draft; without one it is draft 2020-12. `format` is a remark,
    as the specification has it. Only references within the schema, and to what the registry names
    as its references, are followed: nothing is fetched from elsewhere.

    Args:
        mapping: feature name → name in the object.
        registry: where the schemas of messages are; a message begins with its schema's id.
        schema: the schema of all messages, as JSON text or the object it stands for.

    Raises:
        ValueError: neither or both of registry and schema are given, or the schema is none.
        IngestError: jsonschema is not installed.

    >>> schema = {"type": "object", "properties": {"temp": {"type": "number"}}}
    >>> decoder = JsonSchemaDecoder(schema=schema)
    >>> decoder.decode(Message("0", 0, b'{"temp": 3.5}'))
    {'temp': 3.5}
    >>> decoder.decode(Message("0", 1, b'{"temp": "cold"}'))
    Traceback (most recent call last):
    ingest.errors.Undecodable: $.temp: expected type 'number', got 'cold'
    """

    def __init__(
        self,
        mapping: Mapping[str, str] = _NO_MAPPING,
        *,
        registry: SchemaRegistry | None = None,
        schema: str | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(mapping)
        if (registry is None) == (schema is None):
            what = "neither" if registry is None else "both"
            raise ValueError(f"json-schema: expected a registry or a schema, got {what}")
        library = _library()
        self._json = JsonDecoder()
        self._only: _Judge | None = None
        self._schemas: WireSchemas[_Judge] | None = None
        if schema is not None:
            self._only = _Judge(library, _parsed(schema))
        elif registry is not None:

            def prepare(
                schema: RegisteredSchema, references: Sequence[tuple[str, RegisteredSchema]]
            ) -> _Judge:
                others = {name: _parsed(other.text) for name, other in references}
                return _Judge(library, _parsed(schema.text), others, name=str(schema))

            self._schemas = WireSchemas(registry, "JSON", prepare)

    def decode(self, message: Message) -> Mapping[str, object]:
        """Return the object's members.

        Raises:
            Undecodable: the bytes are no JSON object, or not what the schema allows, or the
                registry does not have the schema.
            RegistryUnavailable, RegistryRefused: the registry cannot be asked.
            IngestError: the given schema refers to another that is not there.
        """
        judge = self._only
        if self._schemas is not None:
            value = bytes_of(message, "a JSON object with a schema id")
            judge = self._schemas.get(value[:HEADER_BYTES]) or self._schemas.learn(value)
            message = message._replace(value=value[HEADER_BYTES:])
        assert judge is not None
        try:
            members = self._json.decode(message)
        except Undecodable as refusal:
            if judge.name is None:
                raise
            raise Undecodable(
                refusal.where, expected=refusal.expected, got=refusal.got, schema=judge.name
            ) from None
        if not judge.accepts(members):
            judge.explain(members)
        return self._mapped(members)

    def schema_of(self, message: Message) -> str | None:
        """Name the schema of the registry that a message begins with."""
        return None if self._schemas is None else self._schemas.name_of(message.value)


@final
class _Judge:
    """Tells whether objects are what one schema allows."""

    def __init__(
        self,
        library: Any,
        schema: Any,
        others: Mapping[str, Any] = MappingProxyType({}),
        *,
        name: str | None = None,
    ) -> None:
        from referencing import Registry, Resource
        from referencing.exceptions import Unresolvable
        from referencing.jsonschema import DRAFT202012

        kind = library.validators.validator_for(schema, default=library.Draft202012Validator)
        try:
            kind.check_schema(schema)
        except library.SchemaError as error:
            raise ValueError(
                f"json-schema: expected a schema, got at {error.json_path}: {shown(error.message)}"
            ) from None
        base = str(schema.get("$id", "")) if isinstance(schema, Mapping) else ""
        resources = []
        for uri, other in others.items():
            resource = Resource.from_contents(other, default_specification=DRAFT202012)
            resources += [(uri, resource), (urljoin(base, uri), resource)]
        self._validator = kind(schema, registry=Registry().with_resources(resources))
        self._best_match = library.exceptions.best_match
        self._unresolvable = Unresolvable
        self.name = name
        draft = kind.META_SCHEMA.get("$schema", "")
        # Before draft 6 a 1.0 is no integer, and limits are excluded by a keyword of their own.
        has_plain_keywords = "draft-03" not in draft and "draft-04" not in draft
        accept = _accept(schema, frozenset(kind.VALIDATORS)) if has_plain_keywords else None
        self.accepts: _Accept = accept or (lambda members: False)

    def explain(self, members: Mapping[str, object]) -> None:
        """Let the library judge.

        Raises:
            Undecodable: the object is not allowed; with the place of what is most wrong.
        """
        try:
            error = self._best_match(self._validator.iter_errors(members))
        except self._unresolvable as reference:
            problem = f"the schema refers to what is not there: {reference}"
            if self.name is None:
                raise IngestError(f"json-schema: {problem}") from None
            raise Undecodable(
                "schema", expected="one whose references are there", got=problem, schema=self.name
            ) from None
        except RecursionError:
            raise Undecodable(
                "message",
                expected="JSON within the limits",
                got="it nested too deep",
                schema=self.name,
            ) from None
        if error is not None:
            expected, got = _told(error)
            raise Undecodable(error.json_path, expected=expected, got=got, schema=self.name)


def _told(error: Any) -> tuple[str, str]:
    keyword, value = error.validator, error.validator_value
    if keyword == "required":
        missing = [name for name in value if name not in error.instance]
        return f"members {', '.join(map(repr, missing))}", "none"
    if keyword in ("additionalProperties", "unevaluatedProperties", "dependentRequired"):
        return f"an object that {keyword} allows", shown(error.message)
    return f"{keyword} {shown(value)}", shown(error.instance)


# Keywords that the compiled check knows. Of the others a validator's own keyword leaves the
# schema to the library; what no validator knows is a remark.
_KNOWN: Final = frozenset(
    {
        "type",
        "properties",
        "required",
        "additionalProperties",
        "enum",
        "const",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "minLength",
        "maxLength",
        "pattern",
        "items",
        "minItems",
        "maxItems",
        "anyOf",
        "oneOf",
        "allOf",
        "format",
    }
)
_OF_TYPE: Final[Mapping[str, _Accept]] = {
    "string": lambda value: type(value) is str,
    "integer": lambda value: type(value) is int or (type(value) is float and value.is_integer()),
    "number": lambda value: type(value) is int or type(value) is float,
    "boolean": lambda value: type(value) is bool,
    "null": lambda value: value is None,
    "object": lambda value: type(value) is dict,
    "array": lambda value: type(value) is list,
}


def _accept(schema: Any, keywords: frozenset[str]) -> _Accept | None:
    """Compile a schema to a check that is as exact as the library's; None: it has to judge."""
    if schema is True:
        return _always
    if schema is False:
        return _never
    if (keywords & schema.keys()) - _KNOWN or "$ref" in schema or "$dynamicRef" in schema:
        return None
    checks: list[_Accept | None] = []
    if "type" in schema:
        types = schema["type"]
        if isinstance(types, str):
            checks.append(_OF_TYPE[types])
        else:
            checks.append(_any_of([_OF_TYPE[one] for one in types]))
    if "enum" in schema:
        checks.append(_one_of(schema["enum"]))
    if "const" in schema:
        checks.append(_one_of([schema["const"]]))
    checks += [_limit(keyword, schema[keyword]) for keyword in _LIMITS if keyword in schema]
    if "pattern" in schema:
        checks.append(_matching(schema["pattern"]))
    if "items" in schema:
        checks.append(_items(schema["items"], keywords))
    if schema.keys() & {"properties", "required", "additionalProperties"}:
        checks.append(_members(schema, keywords))
    for keyword in ("anyOf", "oneOf", "allOf"):
        if keyword in schema:
            branches = [_accept(branch, keywords) for branch in schema[keyword]]
            checks.append(_combined(keyword, branches))
    if None in checks:
        return None
    known = [check for check in checks if check is not None]
    if len(known) == 1:
        return known[0]
    return (lambda value: all(check(value) for check in known)) if known else _always


_LIMITS: Final = (
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
)


def _limit(keyword: str, limit: Any) -> _Accept:
    if keyword.endswith("Length"):
        if keyword == "minLength":
            return lambda value: type(value) is not str or len(value) >= limit
        return lambda value: type(value) is not str or len(value) <= limit
    if keyword.endswith("Items"):
        if keyword == "minItems":
            return lambda value: type(value) is not list or len(value) >= limit
        return lambda value: type(value) is not list or len(value) <= limit
    is_number = _OF_TYPE["number"]
    if keyword == "minimum":
        return lambda value: not is_number(value) or value >= limit
    if keyword == "maximum":
        return lambda value: not is_number(value) or value <= limit
    if keyword == "exclusiveMinimum":
        return lambda value: not is_number(value) or value > limit
    return lambda value: not is_number(value) or value < limit


def _one_of(values: Sequence[Any]) -> _Accept | None:
    """Compare with text and null only: equality of numbers and truth values has its own rules."""
    if not all(type(value) is str or value is None for value in values):
        return None
    texts = frozenset(values)
    return lambda value: (type(value) is str or value is None) and value in texts


def _matching(pattern: str) -> _Accept:
    search = re.compile(pattern).search
    return lambda value: type(value) is not str or search(value) is not None


def _items(schema: Any, keywords: frozenset[str]) -> _Accept | None:
    if isinstance(schema, list):  # one schema per place, as before draft 2020-12
        return None
    accept = _accept(schema, keywords)
    if accept is None:
        return None
    return lambda value: type(value) is not list or all(map(accept, value))


def _members(schema: Mapping[str, Any], keywords: frozenset[str]) -> _Accept | None:
    required = tuple(schema.get("required", ()))
    known: dict[str, _Accept] = {}
    for name, of_member in schema.get("properties", {}).items():
        accept = _accept(of_member, keywords)
        if accept is None:
            return None
        known[name] = accept
    others = _accept(schema.get("additionalProperties", True), keywords)
    if others is None:
        return None
    accept_of = known.get

    def check(value: Any) -> bool:
        if type(value) is not dict:
            return True
        for name in required:
            if name not in value:
                return False
        for name, member in value.items():  # noqa: SIM110  # a generator costs half as much again
            if not accept_of(name, others)(member):
                return False
        return True

    return check


def _combined(keyword: str, branches: Sequence[_Accept | None]) -> _Accept | None:
    known = [branch for branch in branches if branch is not None]
    if len(known) < len(branches):
        return None
    if keyword == "anyOf":
        return _any_of(known)
    if keyword == "allOf":
        return lambda value: all(branch(value) for branch in known)
    return lambda value: sum(branch(value) for branch in known) == 1


def _any_of(branches: Sequence[_Accept]) -> _Accept:
    return lambda value: any(branch(value) for branch in branches)


def _always(value: Any) -> bool:
    return True


def _never(value: Any) -> bool:
    return False


def _parsed(schema: str | Mapping[str, Any]) -> Any:
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"json-schema: expected a schema in JSON, got {error}") from None
    if not isinstance(schema, bool | Mapping):
        raise ValueError(f"json-schema: expected an object, got {shown(schema)}")
    return schema


def _library() -> Any:
    try:
        import jsonschema
        import jsonschema.exceptions
        import jsonschema.validators
    except ImportError:
        raise IngestError(
            "JSON with schema needs jsonschema: pip install 'featureline[json-schema]'"
        ) from None
    return jsonschema
