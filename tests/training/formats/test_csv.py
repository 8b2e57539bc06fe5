from __future__ import annotations

import pyarrow as pa
import pytest

from training.data import Dataset
from training.errors import InvalidData
from training.formats.csv import decode


@pytest.mark.parametrize(
    ("text", "parameters", "expected"),
    [
        (b"1,2\n\n3,4,5\n", {}, "row 2: expected 2 fields as in row 1, got 3: '3,4,5'"),
        (b"1,2\n3\n", {}, "row 2: expected 2 fields as in row 1, got 1: '3'"),
        (
            b"0,2\n1,4\n0,n/k\n",
            {},
            r"row 3, column 2 \(f0\): expected a number as in 2 of 3 rows, got 'n/k'",
        ),
        (
            b"late,wind\n0,1\n1,2\n",
            {},
            r"row 1, column 1 \(label\): .* got 'late'; text/csv has no header row",
        ),
        (b"1,2\n\xff\n", {}, "row 2: expected 2 fields as in row 1, got 1"),
        (b"0,\xff\n", {}, r"column 2 \(f0\): expected text in UTF-8"),
        (b"1,2\n", {"label_size": "one"}, "label_size: expected a number of columns, got 'one'"),
        (b"1,2\n", {"label_size": "3"}, "expected 3 label columns, got 2 columns"),
        (b"1,x,2\n", {"label_size": "2"}, "row 1: expected a number in label column 2, got 'x'"),
        (b"1,2,0\n3,,1\n", {"label_size": "2"}, "row 2: expected a number in label column 2"),
        (b"1,2\n", {"weight_size": "2"}, "weight_size: expected 0 or 1, got 2"),
        (b"1\n0\n", {"weight_size": "1"}, "expected 1 label columns and a weight, got 1 columns"),
        (b"1,2,0\n3,,1\n", {"weight_size": "1"}, "row 2: expected a weight in column 2, got None"),
        (b"1,x,0\n", {"weight_size": "1"}, "row 1: expected a weight in column 2, got 'x'"),
    ],
)
def test_a_field_that_does_not_fit_is_named(
    text: bytes, parameters: dict[str, str], expected: str
) -> None:
    with pytest.raises(InvalidData, match=expected):
        decode(text, parameters)


def test_a_ragged_row_far_down_has_its_number() -> None:
    text = b"1,2\n" * 300_000 + b"1,2,3\n" + b"1,2\n" * 10
    with pytest.raises(InvalidData, match="row 300001: expected 2 fields as in row 1, got 3"):
        decode(text, {})


def test_words_and_words_with_a_few_numbers_are_categories() -> None:
    table = decode(b"0,12A,wet\n1,7,\n0,9B,dry\n", {})
    assert table.to_pydict()["f0"] == ["12A", "7", "9B"]
    assert table.schema.field("f1").type == pa.string()


def test_a_weight_behind_the_label_is_no_input() -> None:
    table = decode(b"1,2,0.5,wet\n0,1,1,dry\n", {"weight_size": "1"})
    assert table.column_names == ["label", "weight", "f0", "f1"]
    assert table["weight"].to_pylist() == [2.0, 1.0]
    assert Dataset.of(table).inputs.names == ("f0", "f1")


def test_several_label_columns_are_a_vector() -> None:
    table = decode(b"1,2,0.5\n3,4,1\n", {"label_size": "2"})
    assert table.to_pydict() == {"label": [[1, 2], [3, 4]], "f0": [0.5, 1]}
    assert table.schema.field("label").type == pa.list_(pa.float64(), 2)


@pytest.mark.parametrize("text", [b"1,2.5", b"1,2.5\n", b"1,2.5\r\n"])
def test_a_single_row_may_end_without_the_end_of_its_line(text: bytes) -> None:
    assert decode(text, {}).to_pydict() == {"label": [1], "f0": [2.5]}
