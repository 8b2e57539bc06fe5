from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.errors import InvalidData
from training.formats import jsonlines
from training.formats.jsonlines import decode, decode_document

SPARSE = (
    b'{"data":{"features":{"keys":[26,18],"shape":[2000],"values":[1,4]}},"label":3}\n'
    b'{"data":{"features":{"keys":[],"shape":[2000],"values":[]}},"label":4}\n'
)


def test_sparse_rows_have_ascending_indices_and_dimensions() -> None:
    table = decode(SPARSE)
    assert table.to_pydict() == {
        "features": [{"indices": [18, 26], "values": [4.0, 1.0]}, {"indices": [], "values": []}],
        "label": [3.0, 4.0],
    }
    assert table.schema.field("features").metadata == {b"featureline.size": b"2000"}


def test_dense_rows_are_vectors_of_float32() -> None:
    table = decode(b'{"features":[1,2.5],"label":1}\n{"features":[3,4],"label":null}\n')
    assert table.schema.types == [pa.list_(pa.float32(), 2), pa.float64()]
    assert table.to_pydict() == {"features": [[1, 2.5], [3, 4]], "label": [1, None]}


def test_lines_of_both_forms_fit_together() -> None:
    one = b'{"features":[1,2],"label":[1,2]}\n'
    other = b'{"data":{"features":{"values":[3,4]}},"label":{"values":[5,6]}}'
    assert decode(one + other).to_pydict() == {
        "features": [[1, 2], [3, 4]],
        "label": [[1, 2], [5, 6]],
    }


def test_pairs_of_tokens_are_lists_of_whole_numbers() -> None:
    table = decode(b'{"label":0,"in0":[6,17],"in1":[16,21]}\n{"label":1,"in0":[],"in1":[1,2,3]}\n')
    assert table.to_pydict() == {
        "label": [0, 1],
        "in0": [[6, 17], []],
        "in1": [[16, 21], [1, 2, 3]],
    }
    assert table.schema.field("in0").type == pa.list_(pa.int32())


def test_plain_objects_are_named_columns_and_words_stay_words() -> None:
    table = decode(b'{"wind":3.5,"day":"2020-01-01","n":1}\n\n{"wind":null,"day":null,"n":2}\n')
    assert table.to_pydict() == {"wind": [3.5, None], "day": ["2020-01-01", None], "n": [1, 2]}


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (b'[{"wind":1},{"wind":2}]', [1, 2]),
        (b' {"instances": [{"wind":1}]}', [1]),
        (b'{\n "wind": 1\n}', [1]),
        (b'{"wind":1}\n{"wind":2}\n', [1, 2]),
    ],
)
def test_a_document_is_rows_in_any_of_its_forms(text: bytes, rows: list[int]) -> None:
    assert decode_document(text)["wind"].to_pylist() == rows


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b" \n", "expected JSON lines, got none"),
        (b'{"a":1}\n\n{"a":1\n', "line 3: expected a JSON object: "),
        (b'{"a":"x"}\n{"a":"\xff"}\n', "line 2: expected a JSON object: 'utf-8' codec"),
        (b'{"\xff":1}\n', "line 1: expected a JSON object: 'utf-8' codec"),
        (b'{"a":1}\n[1]\n', r"line 2: expected an object with features, got \[1\]"),
        (b'{"a":1}\n\n{"a":"x"}\n', "line 3: expected 'a' like the first, 1, got 'x'"),
        (b'{"features":[1]}\n\n{"features":[1,2]}\n', "line 3: expected 1 values in features"),
        (b'{"features":[1]}\n{"features":["x"]}\n', r"line 2: expected a number as features\[0\]"),
        (b'{"features":[1,null]}\n', r"line 1: expected a number as features\[1\], got None"),
        (b'{"features":[1]}\n{"label":1}\n', "line 2: expected 'features', got none"),
        (b'{"features":{"keys":[1]}}\n', "line 1: expected values, keys and shape in 'features'"),
        (SPARSE.replace(b"26", b"2000"), "line 1: expected keys from 0 to 1999 .*, got 2000"),
        (SPARSE.replace(b"26", b"-1"), "line 1: expected whole numbers as keys of 'features'"),
        (SPARSE.replace(b'"shape":[2000],', b""), "line 1: expected the shape of the sparse"),
        (b'{"in0":[1]}\n{"in0":[[1]]}\n', r"line 2: expected a number as in0\[0\], got \[1\]"),
    ],
)
def test_a_line_that_does_not_fit_is_named(text: bytes, expected: str) -> None:
    with pytest.raises(InvalidData, match=expected):
        decode(text)


def test_a_broken_document_says_where() -> None:
    with pytest.raises(InvalidData, match=r"expected JSON: .* line 1 column 2"):
        decode_document(b"[x]")
    with pytest.raises(InvalidData, match="expected a list of rows, got none"):
        decode_document(b"[]")


NUMBERS = st.integers(-1000, 1000) | st.floats(-1e6, 1e6, width=32)


@st.composite
def lines(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows of one form, so that both readers take them."""
    form = draw(st.sampled_from(["dense", "deep", "sparse", "named"]))
    width = draw(st.integers(1, 4))
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        values = draw(st.lists(NUMBERS, min_size=width, max_size=width))
        row: dict[str, Any] = {"label": draw(NUMBERS)}
        match form:
            case "dense":
                row["features"] = values
            case "deep":
                row["data"] = {"features": {"values": values}}
            case "sparse":
                keys = draw(st.permutations(range(width)))
                row["data"] = {"features": {"keys": keys, "shape": [width], "values": values}}
            case "named":
                row |= {"x": draw(NUMBERS), "word": draw(st.text(max_size=3)), "in0": values}
        rows.append(row)
    return rows


@settings(max_examples=50, deadline=None)
@given(lines())
def test_reading_by_columns_equals_reading_line_by_line(rows: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    by_lines = jsonlines._by_lines(text)
    table = decode(text)
    assert table.select(by_lines.column_names).to_pydict() == by_lines.to_pydict()
    for field in by_lines.schema:
        assert table.schema.field(field.name).type == field.type
        assert table.schema.field(field.name).metadata == field.metadata
