"""JSON with schema: the compiled check agrees with the library, which says what is wrong."""

from __future__ import annotations

import json
import sys

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import IngestError, JsonSchemaDecoder, Message, Reference, Undecodable

SCHEMA = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "Reading",
    "type": "object",
    "required": ["station", "time"],
    "additionalProperties": False,
    "properties": {
        "station": {"type": "integer", "minimum": 1},
        "time": {"type": "string", "format": "date-time", "minLength": 3},
        "temp": {"oneOf": [{"type": "null"}, {"type": "number", "exclusiveMaximum": 100}]},
        "kind": {"enum": ["old", "new", None]},
        "place": {"type": "object", "properties": {"city": {"type": "string"}}},
        "tags": {
            "type": "array",
            "items": {"type": "string", "pattern": "^[a-z]+$"},
            "maxItems": 3,
        },
    },
}


def decode(schema, value, **options):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return JsonSchemaDecoder(schema=schema, **options).decode(Message("0", 0, data))


def test_what_the_schema_allows_comes_back_as_it_was():
    reading = {
        "station": 7,
        "time": "2024-01-01T00:00:00Z",
        "temp": None,
        "kind": "new",
        "place": {"city": "Ulm"},
        "tags": ["a", "b"],
    }
    assert decode(SCHEMA, reading) == reading
    assert decode(json.dumps(SCHEMA), reading, mapping={"id": "station"}) == {"id": 7}


@pytest.mark.parametrize(
    ("changes", "where", "expected", "got"),
    [
        ({"station": "7"}, "$.station", "type 'integer'", "'7'"),
        ({"station": True}, "$.station", "type 'integer'", "True"),
        ({"station": 0}, "$.station", "minimum 1", "0"),
        ({"time": "x"}, "$.time", "minLength 3", "'x'"),
        ({"kind": "none"}, "$.kind", "enum ['old', 'new', None]", "'none'"),
        ({"place": {"city": 1}}, "$.place.city", "type 'string'", "1"),
        ({"tags": ["a", "B"]}, "$.tags[1]", "pattern '^[a-z]+$'", "'B'"),
        ({"tags": list("abcd")}, "$.tags", "maxItems 3", "['a', 'b', 'c', 'd']"),
        ({"tmp": 1}, "$", "an object that additionalProperties allows", "'tmp' was unexpected"),
    ],
)
def test_refusal_tells_the_path_of_what_is_wrong(changes, where, expected, got):
    with pytest.raises(Undecodable) as refusal:
        decode(SCHEMA, {"station": 7, "time": "2024"} | changes)
    assert (refusal.value.where, refusal.value.expected) == (where, expected)
    assert got in refusal.value.got


def test_missing_members_are_named():
    with pytest.raises(Undecodable, match=r"\$: expected members 'station', 'time', got none"):
        decode(SCHEMA, {})


def test_what_is_no_json_is_refused_as_json():
    with pytest.raises(Undecodable, match="line 1, column 2: expected JSON"):
        decode(SCHEMA, b"{")
    with pytest.raises(Undecodable, match="expected each name once"):
        decode(SCHEMA, b'{"station": 1, "station": 2}')


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.0, 1.0, -1.5, 2.5, 1e300]),
    st.sampled_from(["", "a", "b", "ab", "B"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=6,
)
TYPES = st.sampled_from(["string", "integer", "number", "boolean", "null", "object", "array"])


def _schemas(inner):
    return st.fixed_dictionaries(
        {},
        optional={
            "type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True),
            "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
            "required": st.lists(st.sampled_from("abc"), max_size=2, unique=True),
            "additionalProperties": inner,
            "enum": st.lists(SCALARS, min_size=1, max_size=3),
            "const": SCALARS,
            "minimum": st.integers(-2, 2),
            "maximum": st.sampled_from([-1.5, 0, 2]),
            "exclusiveMinimum": st.integers(-2, 2),
            "exclusiveMaximum": st.integers(-2, 2),
            "minLength": st.integers(0, 2),
            "maxLength": st.integers(0, 2),
            "pattern": st.sampled_from(["a", "^b?$"]),
            "items": inner,
            "minItems": st.integers(0, 2),
            "maxItems": st.integers(0, 2),
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "oneOf": st.lists(inner, min_size=1, max_size=2),
            "allOf": st.lists(inner, min_size=1, max_size=2),
            "not": inner,
            "title": st.just("remark"),
        },
    )


@given(
    st.recursive(st.booleans(), _schemas, max_leaves=5),
    st.lists(st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3), min_size=1, max_size=5),
    st.sampled_from(["http://json-schema.org/draft-07/schema#", None]),
)
def test_the_compiled_check_and_the_library_agree(schema, objects, draft):
    if draft is not None and isinstance(schema, dict):
        schema = {**schema, "$schema": draft}
    decoder = JsonSchemaDecoder(schema={"allOf": [schema], "$schema": draft} if draft else schema)
    judge = jsonschema.validators.validator_for(
        {"$schema": draft} if draft else {}, default=jsonschema.Draft202012Validator
    )(schema)
    for value in objects:
        message = Message("0", 0, json.dumps(value).encode())
        if judge.is_valid(value):
            assert decoder.decode(message) == value
        else:
            with pytest.raises(Undecodable):
                decoder.decode(message)


def test_by_the_registry_with_references(registry, wire, message):
    registry.register("json-city", '{"type": "string", "minLength": 2}', kind="JSON")
    schema = {
        "$id": "http://schemas/reading.json",
        "type": "object",
        "properties": {"city": {"$ref": "city.json"}},
    }
    number = registry.register(
        "json-reading",
        json.dumps(schema),
        kind="JSON",
        references=[Reference("city.json", "json-city", 1)],
    )
    decoder = JsonSchemaDecoder(registry=registry)
    assert decoder.decode(message(wire(number, b'{"city": "Ulm"}'))) == {"city": "Ulm"}
    with pytest.raises(Undecodable) as refusal:
        decoder.decode(message(wire(number, b'{"city": "U"}')))
    assert refusal.value.where == "$.city"
    assert refusal.value.schema == f"schema {number} (json-reading version 1)"
    assert decoder.schema_of(message(wire(number, b""))) == refusal.value.schema
    with pytest.raises(Undecodable, match="line 1, column 2: expected JSON") as no_json:
        decoder.decode(message(wire(number, b"{")))
    assert no_json.value.schema == refusal.value.schema


def test_references_to_elsewhere_are_not_followed(registry, wire, message):
    schema = {"properties": {"a": {"$ref": "http://127.0.0.1:9/a.json"}}}
    with pytest.raises(IngestError, match=r"refers to what is not there.*127\.0\.0\.1:9") as told:
        decode(schema, {"a": 1})
    assert not isinstance(told.value, Undecodable)
    number = registry.register("json-elsewhere", json.dumps(schema), kind="JSON")
    with pytest.raises(Undecodable, match="refers to what is not there"):
        JsonSchemaDecoder(registry=registry).decode(message(wire(number, b'{"a": 1}')))


def test_references_within_the_schema_are():
    schema = {"properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"type": "string"}}}
    assert decode(schema, {"a": "x"}) == {"a": "x"}
    with pytest.raises(Undecodable, match=r"\$\.a: expected type 'string', got 1"):
        decode(schema, {"a": 1})


def test_nesting_has_an_end():
    schema = {"properties": {"a": {"$ref": "#"}}}
    with pytest.raises(Undecodable, match=r"nested too deep|recursion"):
        decode(schema, b'{"a":' * 900 + b"1" + b"}" * 900)


def test_draft_4_has_its_own_rules():
    schema = {"$schema": "http://json-schema.org/draft-04/schema#"}
    schema |= {"properties": {"a": {"type": "integer", "maximum": 3, "exclusiveMaximum": True}}}
    assert decode(schema, {"a": 2}) == {"a": 2}
    for wrong in (2.0, 3):
        with pytest.raises(Undecodable):
            decode(schema, {"a": wrong})


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "expected a registry or a schema, got neither"),
        ({"schema": "{"}, "expected a schema in JSON"),
        ({"schema": "3"}, "expected an object, got 3"),
        ({"schema": {"type": "text"}}, r"expected a schema, got at \$\.type: .*text"),
    ],
)
def test_wrong_arguments(options, text):
    with pytest.raises(ValueError, match=text):
        JsonSchemaDecoder(**options)


def test_without_the_library_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(IngestError, match=r"pip install 'featureline\[json-schema\]'"):
        JsonSchemaDecoder(schema=SCHEMA)
