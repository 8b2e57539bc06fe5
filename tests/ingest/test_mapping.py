"""Declared mappings: paths, casts, expressions, and that a message gives the same in any batch."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore import (
    CollectionType,
    FeatureDefinition,
    FeatureGroup,
    FeatureNotFound,
    FeatureType,
    feature_definitions,
)
from ingest import Deleted, FeatureMapping, FileSource, InvalidMapping, Message, Pipeline
from ingest.errors import IngestError, Undecodable
from ingest.mapping.path import Path

AT = "2024-01-01T00:00:00Z"
HALF_PAST = "2024-01-01T00:00:00.500000Z"
AT_US = 1_704_067_200_000_000
GROUP = FeatureGroup(
    "orders",
    record_identifier="id",
    event_time="at",
    features=(
        *feature_definitions(
            [
                ("id", "Integral"),
                ("at", "String"),
                ("amount", "Fractional"),
                ("total", "Fractional"),
                ("count", "Integral"),
                ("note", "String"),
            ]
        ),
        FeatureDefinition("tags", FeatureType.STRING, CollectionType.LIST),
        FeatureDefinition("kinds", FeatureType.INTEGRAL, CollectionType.SET),
        FeatureDefinition("place", FeatureType.FRACTIONAL, CollectionType.VECTOR, 2),
    ),
)


def message(offset=0, **parts):
    return Message("3", offset, b"", **parts)


@pytest.fixture
def mapped():
    """Map records as a declaration says; one result, or a list of them."""
    opened = []

    def run(declaration, *records, group=GROUP, messages=None, **options):
        mapping = FeatureMapping(declaration, **options)
        opened.append(mapping)
        mapping.open(None, group)
        given = messages or [message(offset) for offset in range(len(records))]
        found = mapping.apply(list(records), given)
        assert len(found) == len(records)
        return found[0] if len(records) == 1 else list(found)

    yield run
    for mapping in opened:
        mapping.close()


def only(**features):
    return {"features": features}


# -- paths ------------------------------------------------------------------------------------


FOUND = {
    "a field": ("amount", {"amount": 1.5}, 1.5),
    "a nested one": ("a.b.c", {"a": {"b": {"c": 1.5}}}, 1.5),
    "an element": ("items[0].price", {"items": [{"price": 1.5}, {"price": 2.5}]}, 1.5),
    "the last element": ("items[-1].price", {"items": [{"price": 1.5}, {"price": 2.5}]}, 2.5),
    "a name with dots": ('"a.b"', {"a.b": 1.5, "a": {"b": 9.0}}, 1.5),
    "a name with a quote": ('"a""b"[0]', {'a"b': [1.5]}, 1.5),
    "a name with an at": ('"@offset"', {"@offset": 1.5}, 1.5),
    "a name with spaces": ("Unit price (EUR)", {"Unit price (EUR)": 1.5}, 1.5),
    "absent": ("a.b", {}, None),
    "null on the way": ("a.b", {"a": None}, None),
    "beyond the end": ("items[2]", {"items": [1.0]}, None),
}


@pytest.mark.parametrize("case", FOUND)
def test_a_path_finds(case, mapped):
    path, fields, expected = FOUND[case]

    assert mapped(only(amount=path), fields).get("amount") == expected


def test_the_parts_of_a_message_are_found(mapped):
    declaration = only(
        id="@offset", at="@timestamp", note="@header.trace", count="@key.n", total="@partition"
    )
    given = message(
        7,
        key=b'{"n": 4}',
        timestamp_us=AT_US,
        headers=[("trace", b"old"), ("trace", b"new"), ("other", b"x")],
    )

    assert mapped(declaration, {}, messages=[given]) == {
        "id": 7,
        "at": AT,
        "note": "new",
        "count": 4,
        "total": "3",
    }
    assert mapped(only(note="@key"), {}, messages=[given]) == {"note": '{"n": 4}'}
    assert mapped(only(note="@topic"), {}, topic="sales") == {"note": "sales"}
    assert mapped(only(note="@key", at="@timestamp"), {}) == {}


def test_an_event_time_of_numbers_gets_the_timestamp_in_seconds(mapped):
    seconds = replace(
        GROUP,
        features=tuple(
            replace(f, type=FeatureType.FRACTIONAL) if f.name == "at" else f for f in GROUP.features
        ),
    )

    found = mapped(
        only(at="@timestamp"), {}, group=seconds, messages=[message(timestamp_us=1_500_000)]
    )

    assert found == {"at": 1.5}


@pytest.mark.parametrize(
    "path",
    ["", ".a", "a.", "a..b", "a[", "a[x]", "a]b", 'a"b', '"a', "@nothing", "@offset.x", "@header",
     "@header.a.b", "@header[0]", "@key[0]", " a", "a ", 7, None],
)  # fmt: skip
def test_a_path_that_is_none_or_ambiguous_is_refused(path):
    with pytest.raises(InvalidMapping, match=r"feature 'note': expected "):
        FeatureMapping({"features": {"note": {"path": path} if path is None else path, "id": "id"}})


names = st.text(min_size=1, max_size=8)


@settings(max_examples=25)
@given(st.lists(st.one_of(names, st.integers(-9, 9)), max_size=4), names)
def test_every_path_reads_as_it_is_spelled(steps, first):
    path = Path(Path.of_field(first).text, None, (first,))
    spelled = path.text
    for step in steps:
        spelled += f"[{step}]" if isinstance(step, int) else '."' + step.replace('"', '""') + '"'

    read = Path.parse(spelled, where="test")

    assert read.steps == (first, *steps)
    assert Path.parse(read.text, where="test") == read


def test_what_is_of_another_kind_on_the_way_refuses_the_message(mapped):
    found = mapped(only(note="a.b[0]"), {"a": 7}, {"a": {"b": "text"}}, {"a": {"b": ["x"]}})

    assert str(found[0]) == (
        "feature 'note' from a.b[0]: expected an object with a member 'b' at a, got 7"
    )
    assert str(found[1]) == "feature 'note' from a.b[0]: expected an array at a.b, got 'text'"
    assert found[2] == {"note": "x"}


# -- casts ------------------------------------------------------------------------------------


ZONED = dt.datetime(2024, 1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1)))
BERLIN = {"type": "timestamp", "from": "%d.%m.%Y %H:%M", "zone": "Europe/Berlin"}
CASTS = {
    "number as text": ("note", {"type": "string"}, 7, "7"),
    "object as text": ("note", {"type": "string"}, {"é": [1, None]}, '{"é":[1,null]}'),
    "truth as text": ("note", {"type": "string"}, True, "true"),
    "text as whole": ("count", {"type": "integral"}, " 12.0 ", 12),
    "decimal as whole": ("count", {"type": "integral"}, Decimal("3"), 3),
    "numpy as whole": ("count", {"type": "integral"}, np.int32(3), 3),
    "text as number": ("amount", {"type": "fractional"}, "1e3", 1000.0),
    "whole for a fractional": ("amount", {"type": "integral"}, "4", 4),
    "yes": ("count", {"type": "boolean"}, "Yes", 1),
    "false": ("count", {"type": "boolean"}, False, 0),
    "seconds": ("at", {"type": "timestamp", "from": "seconds"}, 1_704_067_200, AT),
    "seconds as text": ("at", {"type": "timestamp", "from": "seconds"}, "1704067200.5", HALF_PAST),
    "millis": ("at", {"type": "timestamp", "from": "millis"}, 1_704_067_200_000, AT),
    "micros": ("at", {"type": "timestamp", "from": "micros"}, AT_US, AT),
    "nanos, floored": ("at", {"type": "timestamp", "from": "nanos"}, AT_US * 1000 + 999, AT),
    "iso": ("at", {"type": "timestamp"}, "2024-01-01T01:00:00+01:00", AT),
    "a datetime": ("at", {"type": "timestamp"}, ZONED, AT),
    "a pattern in a zone": ("at", BERLIN, "01.01.2024 01:00", AT),
    "a pattern with its zone": ("at", {"type": "timestamp", "from": "%Y%m%d %H%z"},
        "20240101 01+0100", AT),
    "list": ("tags", {"type": "list"}, ["a", 1], ["a", "1"]),
    "list of text": ("tags", {"type": "list", "separator": "|"}, "a| b", ["a", "b"]),
    "list of JSON": ("tags", {"type": "list"}, '["a", "b"]', ["a", "b"]),
    "empty list": ("tags", {"type": "list", "separator": ","}, "", []),
    "set": ("kinds", {"type": "set", "of": "integral"}, [3, "1", 3.0], [3, 1]),
    "vector": ("place", {"type": "vector"}, np.array([1, 2]), [1.0, 2.0]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASTS)
def test_a_cast_gives(case, mapped):
    feature, cast, value, expected = CASTS[case]

    found = mapped(only(**{feature: {"path": "x", **cast}}), {"x": value})

    assert found == {feature: expected}
    assert type(found[feature]) is type(expected)
    complete = {"id": 1, "at": AT, **found}
    assert GROUP.validate(complete)[feature] == expected


UNCASTABLE = {
    "whole": ("count", {"type": "integral"}, "1.5", "a whole number of 64 bits"),
    "too large": ("count", {"type": "integral"}, 2**63, "a whole number of 64 bits"),
    "number": ("amount", {"type": "fractional"}, "nan", "a finite number"),
    "truth for a number": ("amount", {"type": "fractional"}, True, "a finite number"),
    "truth": ("count", {"type": "boolean"}, "2", "true or false"),
    "time": ("at", {"type": "timestamp"}, "2024-01-01", "ISO-8601 text with a zone"),
    "time without a zone": ("at", {"type": "timestamp"}, dt.datetime(2024, 1, 1), "with a zone"),  # noqa: DTZ001
    "unit": ("at", {"type": "timestamp", "from": "millis"}, 10**17, "between the years 0000 and"),
    "pattern": ("at", BERLIN, "2024-01-01", "a time as %d.%m.%Y %H:%M"),
    "a skipped hour": ("at", BERLIN, "31.03.2024 02:30", "clocks were put forward"),
    "list": ("tags", {"type": "list"}, 7, "a list"),
    "nulls": ("tags", {"type": "list"}, ["a", None], "a list without nulls"),
    "elements": ("kinds", {"type": "set"}, [1, "x"], "a set, each element a whole number"),
}


@pytest.mark.parametrize("case", UNCASTABLE)
def test_a_value_that_cannot_be_cast_refuses_its_message_alone(case, mapped):
    feature, cast, value, expected = UNCASTABLE[case]

    bad, good = mapped(only(**{feature: {"path": "x", **cast}}), {"x": value}, {})

    assert isinstance(bad, Undecodable)
    assert bad.where == f"feature {feature!r} from x"
    assert expected in bad.expected
    assert good == {}


def test_defaults_constants_and_what_is_required(mapped):
    declaration = only(
        id={"path": "id", "required": True},
        amount={"path": "x", "default": 2},
        note={"value": "shop"},
        count={"path": "n", "type": "integral", "default": 0},
    )

    empty, null, full = mapped(
        declaration, {"x": 1.0}, {"id": 1, "x": None, "n": None}, {"id": 2, "x": 1.0, "n": "4"}
    )

    assert str(empty) == "feature 'id' from id: expected a value, got none"
    assert null == {"id": 1, "amount": 2.0, "note": "shop", "count": 0}
    assert full == {"id": 2, "amount": 1.0, "note": "shop", "count": 4}


def test_the_rest_comes_by_name(mapped):
    found = mapped({"features": {"note": "text"}, "rest": True}, {"id": 1, "text": "x", "more": 2})

    assert found == {"id": 1, "note": "x"}


def test_the_short_form_takes_names_as_they_are(mapped):
    found = mapped({"id": "order.id", "note": "@key"}, {"order.id": 1, "@key": "x", "n": None})

    assert found == {"id": 1, "note": "x"}


# -- expressions ------------------------------------------------------------------------------


def test_expressions_are_computed_row_by_row(mapped):
    declaration = {
        "features": {
            "id": "id",
            "amount": "amount",
            "total": {"sql": "amount * coalesce(rate, 1)"},
            "count": {"sql": "CASE WHEN amount > 2 THEN true ELSE false END"},
            "note": {"sql": "regexp_extract(text, '[a-z]+') -- the word", "default": "none"},
            "at": {"sql": "sent + INTERVAL 1 HOUR"},
            "tags": {"sql": "list_sort(labels)"},
        },
        "inputs": {
            "rate": {"path": "deep.rate", "type": "fractional"},
            "sent": {"path": "ms", "type": "timestamp", "from": "millis"},
            "labels": {"path": "labels", "type": "list"},
        },
    }

    first, second = mapped(
        declaration,
        {
            "id": 1,
            "amount": 3,
            "deep": {"rate": "2"},
            "text": "7abc",
            "ms": 0,
            "labels": ["b", "a"],
        },
        {"id": 2, "amount": 1.5},
    )

    assert first == {
        "id": 1, "amount": 3, "total": 6.0, "count": 1, "note": "abc",
        "at": "1970-01-01T01:00:00Z", "tags": ["a", "b"],
    }  # fmt: skip
    assert second == {"id": 2, "amount": 1.5, "total": 1.5, "count": 0, "note": "none"}


def test_a_field_that_is_not_declared_is_text(mapped):
    found = mapped(
        only(note={"sql": "concat(a, '|', b, '|', c)"}), {"a": "x", "b": 1, "c": {"d": [True]}}
    )

    assert found == {"note": 'x|1|{"d":[true]}'}
    with pytest.raises(InvalidMapping, match="a, b: text here; declare another type under inputs"):
        mapped(only(total={"sql": "a * b"}), {})


def test_in_its_own_expression_a_feature_is_the_field_of_that_name(mapped):
    declaration = only(id="id", note={"sql": "upper(note)"}, total={"sql": "CAST(Total AS DOUBLE)"})

    assert mapped(declaration, {"note": "x", "Total": "2"}) == {"note": "X", "total": 2.0}


def test_a_row_without_a_value_is_refused_alone_with_its_reason(mapped):
    declaration = only(
        id="id",
        total={"sql": "CAST(a AS DOUBLE)"},
        count={"sql": "CAST(b AS BIGINT) * 2"},
    )
    rows = [{"id": n, "a": str(n), "b": n} for n in range(300)]
    rows[7]["a"] = "x"
    rows[8] = {"id": 8}
    rows[299]["b"] = 2**62

    found = mapped(declaration, *rows)

    assert found[6] == {"id": 6, "total": 6.0, "count": 12}
    assert found[8] == {"id": 8}
    assert [n for n, record in enumerate(found) if isinstance(record, Undecodable)] == [7, 299]
    assert found[7].where == "feature 'total': CAST(a AS DOUBLE)"
    assert found[7].expected == "a value for a = 'x'"
    assert "Could not convert string 'x' to DOUBLE" in found[7].got
    assert "Overflow in multiplication" in found[299].got


def test_text_that_is_no_unicode_refuses_its_message(mapped):
    good, bad = mapped(only(note={"sql": "upper(a)"}), {"a": "x"}, {"a": "\ud800"})

    assert good == {"note": "X"}
    assert "expected valid Unicode" in str(bad)


REFUSED = {
    "now()": "now, which does not always give the same",
    "today()": "today, which",
    "current_timestamp": "current_timestamp, which SQL takes from the session",
    "age(CAST(x AS TIMESTAMP))": "age, which",
    "ago(INTERVAL 1 DAY)": "ago, which",
    "random()": "random, which",
    "CAST(uuid() AS VARCHAR)": "uuid, which",
    "nextval('s')": "nextval, which",
    "current_setting('threads')": "current_setting, which",
    "getvariable('x')": "getvariable, which",
    "sum(x)": "the aggregate function sum",
    "count(*)": "the aggregate function count_star",
    "wavg(x, y)": "the aggregate function sum",
    "row_number() OVER ()": "window",
    "lag(x) OVER ()": "window",
    "(SELECT 1)": "subquery",
    "x IN (SELECT y FROM batch)": "subquery",
    "EXISTS (FROM read_text('/etc/passwd'))": "subquery",
    "read_text('/etc/passwd')": "the table function read_text",
    "unnest(x)": "the table function unnest",
    "*": "star",
    "COLUMNS('x')": "star",
    "$1": "parameter",
    "x FROM batch": "syntax error",
    "x; DROP TABLE y": "syntax error",
    "x) FROM batch, (SELECT 1": "a query",
    "x.y": "x.y",
    "no_such(x)": "no_such, unknown",
    "": "''",
    "1 +": "syntax error",
    "(1, 2)": "(INTEGER, INTEGER)",
    "DATE '2024-01-01'": "DATE",
    "1.5": "DECIMAL",
}


@pytest.mark.parametrize("sql", REFUSED)
def test_an_expression_of_more_than_its_row_is_refused(sql, mapped):
    with pytest.raises(InvalidMapping) as caught:
        mapped(only(note={"sql": sql}), {})

    assert caught.value.where.startswith("feature 'note'")
    assert REFUSED[sql] in caught.value.got


def test_the_engine_reaches_nothing_outside(mapped, tmp_path):
    mapping = FeatureMapping(only(note={"sql": "upper(x)"}))
    mapping.open(None, GROUP)
    connection = mapping._plans.engine._connection
    for statement in (
        "FROM read_text('/etc/hostname')",
        f"COPY (SELECT 1) TO '{tmp_path / 'x'}'",
        "ATTACH 'x.db'",
        "SET enable_external_access = true",
        "SET TimeZone = 'Europe/Berlin'",
    ):
        with pytest.raises(Exception, match=r"disabled|locked|Cannot"):
            connection.execute(statement)
    mapping.close()


TYPES = {
    ("total", "1"): 1.0,
    ("total", "1.5::DECIMAL(3, 1)"): 1.5,
    ("total", "make_timestamptz(1500000)"): 1.5,
    ("count", "1::HUGEINT"): 1,
    ("count", "x IS NULL"): 1,
    ("at", "TIMESTAMP '2024-01-01' AT TIME ZONE 'UTC'"): AT,
    ("note", "'a' || 'b'"): "ab",
    ("tags", "['a', 'b']"): ["a", "b"],
    ("place", "[1, 2.5]"): [1.0, 2.5],
    ("note", "NULL"): None,
}


@pytest.mark.parametrize(("feature", "sql"), TYPES)
def test_a_value_fits_its_feature(feature, sql, mapped):
    assert mapped(only(**{feature: {"sql": sql}}), {}).get(feature) == TYPES[feature, sql]


@pytest.mark.parametrize(
    ("feature", "sql", "got"),
    [
        ("count", "1.5", "say how to round"),
        ("note", "1", "CAST(… AS VARCHAR)"),
        ("at", "TIMESTAMP '2024-01-01'", "say which zone"),
        ("amount", "true", "BOOLEAN"),
        ("count", "'x'", "VARCHAR"),
        ("tags", "[1]", "INTEGER[]"),
        ("note", "['x']", "VARCHAR[]"),
    ],
)
def test_a_type_that_does_not_fit_is_refused_at_the_beginning(feature, sql, got, mapped):
    with pytest.raises(InvalidMapping) as caught:
        mapped(only(**{feature: {"sql": sql}}), {})
    assert got in caught.value.got


# -- leaving out, deleting --------------------------------------------------------------------


def test_what_is_dropped_is_not_looked_at(mapped):
    declaration = {
        "features": {"id": {"path": "id", "required": True}, "total": {"sql": "CAST(a AS DOUBLE)"}},
        "drop": "kind <> 'order'",
    }

    found = mapped(
        declaration, {"kind": "order", "id": 1, "a": "2"}, {"kind": "ping", "a": "x"}, {"id": 2}
    )

    assert found == [{"id": 1, "total": 2.0}, None, {"id": 2}]


def test_a_condition_that_cannot_be_computed_refuses_its_message(mapped):
    found = mapped(
        {"features": {"id": "id"}, "drop": "CAST(n AS BIGINT) > 1"}, {"id": 1, "n": "x"}, {"n": 2}
    )

    assert str(found[0]).startswith("drop: CAST(n AS BIGINT) > 1: expected a value for n = 'x'")
    assert found[1] is None
    with pytest.raises(InvalidMapping, match="expected a condition, got a value of VARCHAR"):
        mapped({"features": {"id": "id"}, "drop": "n"}, {})


def test_of_a_deletion_identifier_and_event_time_are_mapped(mapped):
    declaration = only(
        id={"sql": "CAST(key AS BIGINT)"},
        at={"path": "ms", "type": "timestamp", "from": "millis"},
        note={"path": "note", "required": True},
    )
    with_time = Deleted({"key": "7", "ms": 0}, event_time=AT)

    found = mapped(
        declaration, with_time, Deleted({"key": 8, "ms": 0}), Deleted({"key": "x"}), None
    )

    assert found[0] == Deleted({"id": 7}, event_time=AT)
    assert found[1] == Deleted({"id": 8, "at": "1970-01-01T00:00:00Z"})
    assert isinstance(found[2], Undecodable)
    assert found[3] is None
    renamed = mapped({"id": "key"}, {"key": 1}, Deleted({"key": 2, "x": 3}, AT), None)
    assert renamed == [{"id": 1}, Deleted({"id": 2}, AT), None]


# -- declarations -----------------------------------------------------------------------------


BROKEN = {
    "nothing": {},
    "no features": {"drop": "true", "rest": False},
    "an unknown member": {"features": {"id": "id"}, "dorp": "x > 1"},
    "an unknown member of a feature": only(id={"path": "id", "typ": "string"}),
    "two origins": only(id={"path": "id", "value": 1}),
    "no origin": only(id={"type": "integral"}),
    "a type of sql": only(id={"sql": "1", "type": "integral"}),
    "a default that is required": only(id={"path": "id", "default": 1, "required": True}),
    "an unknown type": only(id={"path": "id", "type": "int"}),
    "a pattern without a zone": only(at={"path": "x", "type": "timestamp", "from": "%Y"}),
    "a zone twice": only(at={"path": "x", "type": "timestamp", "from": "%Y%z", "zone": "UTC"}),
    "an unknown zone": only(at={"path": "x", "type": "timestamp", "from": "%Y", "zone": "Mars"}),
    "an unknown unit": only(at={"path": "x", "type": "timestamp", "from": "days"}),
    "a unit of text": only(note={"path": "x", "type": "string", "from": "millis"}),
    "an input that is a feature": {"features": {"id": "id"}, "inputs": {"id": "x"}},
    "a required input": {
        "features": {"id": "id"}, "inputs": {"x": {"path": "x", "required": True}},
    },
    "a topic of a file": only(note="@topic"),
    "a text of rest": {"features": {"id": "id"}, "rest": "yes"},
}  # fmt: skip
UNFIT = {
    "text for a number": only(count={"path": "x", "type": "string"}),
    "fractions for whole": only(count={"path": "x", "type": "fractional"}),
    "truth for a fraction": only(amount={"path": "x", "type": "boolean"}),
    "a time for whole": only(count={"path": "x", "type": "timestamp"}),
    "one for many": only(tags={"path": "x", "type": "string"}),
    "many for one": only(note={"path": "x", "type": "list"}),
    "a set for a list": only(tags={"path": "x", "type": "set"}),
    "elements of another type": only(kinds={"path": "x", "type": "set", "of": "string"}),
    "a default of another type": only(count={"path": "x", "default": "many"}),
    "a constant of another type": only(count={"value": 1.5}),
    "an expression of an expression": only(
        total={"sql": "1.0"}, amount={"sql": "total * 2"}
    ),
    "fields that differ by case": only(note={"sql": "A || a"}),
    "names that differ by case": {
        "features": {"amount": "x", "total": {"sql": "AMOUNT"}}, "inputs": {"Amount": "y"},
    },
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_declaration_that_breaks_a_rule_is_refused(case):
    with pytest.raises(InvalidMapping, match=r"expected .*, got "):
        FeatureMapping(BROKEN[case])


@pytest.mark.parametrize("case", UNFIT)
def test_a_declaration_that_does_not_fit_the_group_is_refused(case, mapped):
    with pytest.raises(InvalidMapping, match=r"expected .*, got "):
        mapped(UNFIT[case], {})


def test_names_are_suggested():
    with pytest.raises(InvalidMapping, match="did you mean 'features'"):
        FeatureMapping({"feature": {"id": "id"}})
    with pytest.raises(FeatureNotFound, match="did you mean 'amount'"):
        FeatureMapping(only(amout="x")).open(None, GROUP)


def test_a_mapping_that_is_not_open_says_so():
    with pytest.raises(IngestError, match="not open"):
        FeatureMapping(only(id="id")).apply([{}], [message()])


def test_equal_declarations_have_an_equal_digest():
    one = FeatureMapping({"features": {"id": {"path": '"id"'}, "note": '"a".b'}, "drop": "x > 1"})
    same = FeatureMapping({"drop": "x > 1", "features": {"note": "a.b", "id": "id"}})
    other = FeatureMapping({"features": {"id": "id", "note": "a.c"}, "drop": "x > 1"})

    assert one.describe() == same.describe()
    assert one.digest == same.digest != other.digest
    assert json.loads(json.dumps(one.describe())) == one.describe()


# -- any batch, the same ----------------------------------------------------------------------


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5),
    st.sampled_from(["1", "2.5", "x", AT]),
)  # fmt: skip
objects = st.dictionaries(
    st.sampled_from(["id", "a", "b", "kind"]), st.one_of(scalars, st.lists(scalars, max_size=2))
)
EVERYTHING = {
    "features": {
        "id": {"path": "id", "type": "integral"},
        "total": {"sql": "a / b"},
        "count": {"sql": "CAST(a AS BIGINT) * 3"},
        "note": {"sql": "upper(kind)", "default": "-"},
    },
    "inputs": {"a": {"path": "a", "type": "fractional"}, "b": {"path": "b", "type": "integral"}},
    "drop": "CAST(kind AS DOUBLE) > 1",
}


@pytest.fixture(scope="module")
def everything():
    mapping = FeatureMapping(EVERYTHING)
    mapping.open(None, GROUP)
    yield mapping
    mapping.close()


@settings(max_examples=20)
@given(st.lists(objects, max_size=12), st.lists(st.integers(0, 12), max_size=3))
def test_a_message_gives_the_same_in_any_batch(everything, fields, cuts):
    messages = [message(n) for n in range(len(fields))]

    whole = everything.apply(fields, messages)

    parts = []
    edges = sorted({0, len(fields), *(min(cut, len(fields)) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        parts += everything.apply(fields[start:end], messages[start:end])
    assert list(map(_plain, whole)) == list(map(_plain, parts))


def _plain(result):
    return str(result) if isinstance(result, Undecodable) else repr(result)


# -- in a pipeline ----------------------------------------------------------------------------


def test_a_pipeline_maps_and_puts_aside_what_cannot_be(tmp_path, store, dead_letters):
    path = tmp_path / "r.jsonl"
    rows = [
        {"kind": "reading", "at": {"ms": 1_704_067_200_000 + n}, "who": str(n), "f": "50"}
        for n in range(5)
    ]
    rows[1]["f"] = "warm"
    rows[2]["kind"] = "ping"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    mapping = FeatureMapping(
        {
            "drop": "kind = 'ping'",
            "features": {
                "station": {"path": "who", "type": "integral"},
                "time": {"path": "at.ms", "type": "timestamp", "from": "millis"},
                "sequence": "@offset",
                "temp": {"sql": "(CAST(f AS DOUBLE) - 32) / 1.8"},
            },
        }
    )

    report = Pipeline(
        FileSource(path), store, "readings", transforms=[mapping], dead_letters=dead_letters
    ).run()

    assert (report.written, report.refused, report.skipped) == (3, 1, 1)
    assert store.get("readings", 4) == {
        "station": 4, "time": "2024-01-01T00:00:00.004000Z", "sequence": 4, "temp": 10.0,
    }  # fmt: skip
    (letter,) = dead_letters.read("readings")
    assert letter.offset == 1
    assert "Could not convert string 'warm' to DOUBLE" in letter.reason
