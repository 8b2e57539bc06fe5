"""Decoders: what is a record, and what the refusal of everything else says."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import JsonDecoder, Message, RowDecoder, Undecodable


def decode(value: object, **mapping: str) -> object:
    return JsonDecoder(mapping).decode(Message("0", 0, value))  # type: ignore[arg-type]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values))
def test_every_json_object_comes_back_as_it_was(members):
    assert decode(json.dumps(members).encode()) == members
    assert decode(json.dumps(members, ensure_ascii=False).encode(errors="replace")) is not None


def test_values_keep_their_types():
    assert decode(b'{"i": 3, "f": 3.0, "s": "3", "n": null}') == {
        "i": 3,
        "f": 3.0,
        "s": "3",
        "n": None,
    }


def test_mapping_takes_named_fields_only_and_absent_ones_are_null():
    assert decode(b'{"airport": "JFK", "x": 1}', origin="airport", temp="t") == {"origin": "JFK"}


@pytest.mark.parametrize(
    ("value", "where", "expected", "got"),
    [
        (b'{"a": 1,}', "line 1, column 9", "JSON", "'}'"),
        (b'{"a": 1}\n{"b": 2}', "line 2, column 1", "JSON", "{"),
        (b"[1, 2]", "line 1, column 1", "a JSON object", "[1, 2]"),
        (b"3", "line 1, column 1", "a JSON object", "3"),
        (b"", "line 1, column 1", "JSON", "the end"),
        (b'{"a": 1, "a": 2}', "JSON object", "each name once", "'a' twice"),
        (b'{"o": {"b": 1, "b": 2}}', "JSON object", "each name once", "'b' twice"),
        (b'{"a": NaN}', "JSON number", "a finite number", "NaN"),
        (b'{"a": -Infinity}', "JSON number", "a finite number", "-Infinity"),
        (b'{"a": "\xff"}', "byte 7", "UTF-8", "0xff"),
        (b"\xef\xbb\xbf{}", "line 1, column 1", "JSON", "ufeff"),
        ('{"a": 1}'.encode("utf-16"), "byte 0", "UTF-8", "0xff"),
        (b'{"a": ' + b"9" * 5000 + b"}", "message", "within the limits", "4300"),
        (b'{"a": ' + b"[" * 200_000, "message", "within the limits", "recursion"),
        (None, "message", "a JSON object", "no value"),
        ({"a": 1}, "message", "a JSON object", "a row"),
    ],
)
def test_refusal_says_where_what_was_expected_and_what_came(value, where, expected, got):
    with pytest.raises(Undecodable) as refusal:
        decode(value)
    assert refusal.value.where == where
    assert expected in refusal.value.expected
    assert got in refusal.value.got
    assert len(str(refusal.value)) < 300


@given(st.binary(max_size=200))
def test_any_bytes_give_a_record_or_a_refusal(value):
    with contextlib.suppress(Undecodable):
        assert isinstance(decode(value), dict)


def test_rows_pass_and_are_mapped():
    row = Message("f", 3, {"carrier": "UA", "dep": "4"})
    assert RowDecoder().decode(row) == {"carrier": "UA", "dep": "4"}
    assert RowDecoder({"delay": "dep"}).decode(row) == {"delay": "4"}


def test_row_decoder_refuses_bytes():
    with pytest.raises(Undecodable, match="row: expected columns, got 'abc'"):
        RowDecoder().decode(Message("f", 0, b"abc"))
