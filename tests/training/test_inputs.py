from __future__ import annotations

import decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from training.errors import InvalidData
from training.inputs import Input, Inputs


def test_categories_are_sorted_whatever_the_order_of_rows() -> None:
    one = Inputs.of(pa.table({"origin": ["LGA", "JFK", None, "EWR"]}))
    other = Inputs.of(pa.table({"origin": ["EWR", "LGA", "JFK", "JFK"]}))
    assert one == other == Inputs((Input("origin", "category", ("EWR", "JFK", "LGA")),))


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["b", "a", None]),
        pa.array(["b", "a", None], pa.large_string()),
        pa.array(["b", "a", None], pa.string_view()),
        pa.array(["b", "a", None]).dictionary_encode(),
        pa.chunked_array([["b"], ["a", None]]),
    ],
)
def test_text_in_any_form_gets_the_same_codes(column: Any) -> None:
    inputs = Inputs((Input("sky", "category", ("a", "b", "c")),))
    encoded = inputs.encode(pa.table({"sky": column}))["sky"].combine_chunks()
    assert encoded.indices.to_pylist() == [1, 0, None]
    assert encoded.dictionary.to_pylist() == ["a", "b", "c"]


def test_a_word_that_training_did_not_see_is_missing() -> None:
    inputs = Inputs.of(pa.table({"sky": ["dry", "wet"]}))
    assert inputs.encode(pa.table({"sky": ["wet", "snow"]}))["sky"].to_pylist() == ["wet", None]


def test_numbers_and_booleans_pass_as_they_are() -> None:
    table = pa.table({"i": pa.array([1, None], pa.int16()), "f": [0.5, None], "b": [True, None]})
    encoded = Inputs.of(table).encode(table)
    assert encoded.schema.types == [pa.int16(), pa.float64(), pa.bool_()]
    assert encoded.to_pydict() == table.to_pydict()


def test_decimals_and_columns_of_nulls_become_floats() -> None:
    table = pa.table({"d": [decimal.Decimal("1.5")], "n": pa.nulls(1)})
    encoded = Inputs.of(table).encode(table)
    assert encoded.to_pydict() == {"d": [1.5], "n": [None]}
    assert encoded.schema.types == [pa.float64(), pa.float64()]


def test_text_without_a_single_value_is_a_column_of_nulls() -> None:
    inputs = Inputs.of(pa.table({"sky": pa.nulls(2, pa.string())}))
    assert inputs.encode(pa.table({"sky": ["wet", "dry"]}))["sky"].to_pylist() == [None, None]


def test_columns_come_in_the_models_order_and_others_are_dropped() -> None:
    inputs = Inputs.of(pa.table({"a": [1], "b": [2]}))
    encoded = inputs.encode(pa.table({"z": ["x"], "b": [4], "a": [3]}))
    assert encoded.to_pydict() == {"a": [3], "b": [4]}


def test_a_missing_column_is_named_with_its_nearest() -> None:
    inputs = Inputs.of(pa.table({"wind": [1], "delay": [2]}))
    with pytest.raises(InvalidData) as caught:
        inputs.encode(pa.table({"wnd": [1], "delay": [2]}), channel="validation")
    assert str(caught.value) == (
        "validation: column 'wind' is missing; did you mean 'wnd'?; "
        "the model takes wind, delay and the data has wnd, delay"
    )
    assert caught.value.column == "wind"


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ({"wind": ["strong"]}, "column 'wind' is string, and the model takes numbers there"),
        ({"wind": [1.0], "sky": [3]}, "column 'sky' is int64, and the model takes text there"),
        ({"wind": [float("inf")]}, "column 'wind' has an infinite value in row 1"),
    ],
)
def test_a_column_of_the_wrong_kind_is_named(column: dict[str, Any], expected: str) -> None:
    inputs = Inputs.of(pa.table({"wind": [1.0], "sky": ["wet"]}))
    with pytest.raises(InvalidData, match=expected):
        inputs.encode(pa.table({"sky": ["wet"], **column}))


@pytest.mark.parametrize(
    "type", [pa.timestamp("us", "UTC"), pa.date32(), pa.list_(pa.float32()), pa.binary()]
)
def test_a_type_that_is_no_input_is_refused_by_name(type: pa.DataType) -> None:
    with pytest.raises(InvalidData, match=r"train: column 'when' is .*features="):
        Inputs.of(pa.table({"when": pa.nulls(1, type)}))


def test_inputs_survive_a_file(tmp_path: Path) -> None:
    inputs = Inputs.of(
        pa.table(
            {
                "größe": [1.0],
                "sky": [
                    "wet",
                ],
            }
        )
    )
    inputs.save(tmp_path)
    assert Inputs.load(tmp_path) == inputs


@pytest.mark.parametrize(
    "table",
    [
        {"a": ["ann", "bob"], "b": ["10.0.0.1", None]},
        {"a": ["ann", "bob"], "n": [0.5, 1.5], "b": ["10.0.0.1", None]},
        {"features": [["ann", "10.0.0.1"], ["bob", None]]},
    ],
)
def test_columns_of_words_are_taken_by_position_where_no_name_is_known(table: Any) -> None:
    inputs = Inputs((Input("user", "text"), Input("address", "text")))
    encoded = inputs.encode(pa.table(table))
    assert encoded.to_pydict() == {"user": ["ann", "bob"], "address": ["10.0.0.1", None]}
    with pytest.raises(InvalidData, match="column 'user' is missing"):
        inputs.encode(pa.table({"address": ["10.0.0.1"], "name": ["ann"]}))


def test_whole_numbers_are_words_where_words_are_taken() -> None:
    inputs = Inputs((Input("user", "text"),))
    assert inputs.encode(pa.table({"user": [7, None]}))["user"].to_pylist() == ["7", None]
    with pytest.raises(InvalidData, match="column 'user' is double, and the model takes text"):
        inputs.encode(pa.table({"user": [0.5]}))
