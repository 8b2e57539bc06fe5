"""CSV messages: quoting, null text, and what is not one row of the header's columns."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import CsvDecoder, Message, Undecodable


def decode(value, **options):
    decoder = CsvDecoder(**{"header": ["a", "b", "c"], **options})
    return decoder.decode(Message("0", 0, value))


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@given(
    fields=st.lists(st.text().map(lambda text: text.replace("\0", "")), min_size=2, max_size=5),
    delimiter=st.sampled_from(",;\t|"),
    quote=st.sampled_from("\"'"),
)
def test_every_row_comes_back(end, fields, delimiter, quote):
    line = io.StringIO()
    # Left alone, the writer quotes only the line break that it writes itself.
    quoting = csv.QUOTE_ALL if any(map(_has_line_break, fields)) else csv.QUOTE_MINIMAL
    csv.writer(
        line, delimiter=delimiter, quotechar=quote, quoting=quoting, lineterminator=end
    ).writerow(fields)
    header = [f"c{n}" for n in range(len(fields))]
    decoded = decode(
        line.getvalue().encode(errors="replace"), header=header, delimiter=delimiter, quote=quote
    )
    sent = [field.encode(errors="replace").decode() or None for field in fields]
    assert decoded == dict(zip(header, sent, strict=True))


def _has_line_break(field):
    return "\r" in field or "\n" in field


def test_null_text_no_quotes_and_a_mapping():
    assert decode(b'x,"",NA', null_text="NA") == {"a": "x", "b": "", "c": None}
    assert decode(b'x,"q",', quote=None) == {"a": "x", "b": '"q"', "c": None}
    assert decode(b"1,2,3", mapping={"temp": "c"}) == {"temp": "3"}


@pytest.mark.parametrize(
    ("value", "where", "expected", "got"),
    [
        (b"1,2", "row", "3 fields", "2"),
        (b"1,2,3,4", "row", "3 fields", "4"),
        (b"", "row", "3 fields", "0"),
        (b"1,2,3\n4,5,6", "row", "one row of CSV", "new-line"),
        (b'1,2,"3', "row", "one row of CSV", "unexpected end"),
        (b'1,2,"3"x', "row", "one row of CSV", "expected after"),
        (b"1,\xff,3", "byte 2", "UTF-8", "0xff"),
        (None, "message", "a row of CSV", "no value"),
        ({"a": 1}, "message", "a row of CSV", "a row of columns"),
    ],
)
def test_refusal_says_where_what_was_expected_and_what_came(value, where, expected, got):
    with pytest.raises(Undecodable) as refusal:
        decode(value)
    assert (refusal.value.where, refusal.value.expected) == (where, expected)
    assert got in refusal.value.got
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"header": []}, "expected the columns' names"),
        ({"header": "a,b"}, "expected the columns' names"),
        ({"header": ["a", ""]}, "expected the columns' names"),
        ({"header": ["a", "b", "a"]}, "expected each column once, got 'a' twice"),
        ({"mapping": {"x": "z"}}, "mapping of 'x': expected a column of the header, got 'z'"),
        ({"delimiter": ", "}, "expected one character"),
        ({"quote": "\n"}, "expected one character"),
        ({"delimiter": '"'}, "expected delimiter and quote to differ"),
    ],
)
def test_wrong_arguments(options, text):
    with pytest.raises(ValueError, match=text):
        decode(b"", **options)


def test_a_field_may_be_long():
    found = CsvDecoder(header=["a", "b"]).decode(Message("0", 0, b"1," + b"x" * 200_000))
    assert found == {"a": "1", "b": "x" * 200_000}
