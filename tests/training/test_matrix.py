"""Encoded inputs as one matrix: what each kind of column becomes, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data import Dataset
from training.encoding import SIZE_KEY
from training.errors import InvalidData
from training.inputs import Inputs
from training.matrix import dimensions

SPARSE = pa.struct([("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.float32()))])


def sparse_column(rows: list[dict[int, float]]) -> pa.Array:
    return pa.array([{"indices": list(r), "values": list(r.values())} for r in rows], SPARSE)


def dataset(**columns: Any) -> Dataset:
    return Dataset.of(pa.table(columns), labels="optional")


def test_numbers_words_and_vectors_lie_side_by_side() -> None:
    data = dataset(
        wind=[1.5, 2.5],
        sky=["wet", "dry"],
        night=[True, False],
        place=pa.array([[1, 2], [3, 4]], pa.list_(pa.float32(), 2)),
    )
    assert data.matrix().tolist() == [[1.5, 0, 1, 1, 1, 2], [2.5, 1, 0, 0, 3, 4]]
    assert dimensions(data.inputs) == [
        *("wind", "sky=dry", "sky=wet", "night", "place[0]", "place[1]")
    ]
    assert data.csr().toarray().tolist() == data.matrix().tolist()
    assert data.target is None


def test_a_vector_of_float32_is_not_copied() -> None:
    flat = np.arange(6, dtype=np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(flat), 3)
    matrix = dataset(features=column).matrix()
    assert matrix.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert np.shares_memory(matrix, column.flatten().to_numpy())


def test_a_word_that_training_did_not_see_is_all_zeros() -> None:
    train = dataset(sky=["wet", "dry"])
    later = Dataset.of(pa.table({"sky": ["snow"]}), inputs=train.inputs, labels="optional")
    assert later.matrix().tolist() == [[0, 0]]
    assert later.csr().toarray().tolist() == [[0, 0]]


@given(
    rows=st.lists(
        st.dictionaries(st.integers(0, 9), st.floats(0.5, 9, width=32)), min_size=1, max_size=8
    ),
    cut=st.integers(0, 8),
)
def test_sparse_rows_are_the_same_dense_and_sparse_in_any_chunks(
    rows: list[dict[int, float]], cut: int
) -> None:
    column = sparse_column(rows)
    field = pa.field("features", SPARSE, metadata={SIZE_KEY: b"10"})
    chunks = pa.chunked_array([column.slice(0, cut), column.slice(cut)], SPARSE)
    data = Dataset.of(pa.table([chunks], schema=pa.schema([field])), labels="optional")
    expected = np.zeros((len(rows), 10), np.float32)
    for number, row in enumerate(rows):
        for place, value in row.items():
            expected[number, place] = value
    np.testing.assert_array_equal(data.matrix(), expected)
    np.testing.assert_array_equal(data.csr().toarray(), expected)


def test_sparse_data_without_a_size_has_that_of_its_largest_index() -> None:
    data = dataset(features=sparse_column([{0: 1.0}, {4: 2.0}]))
    assert data.inputs.is_sparse
    assert data.width == 5


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_sparse_number_that_is_not_finite_is_refused_by_row(bad: float) -> None:
    data = dataset(features=sparse_column([{0: 1.0}, {1: 1.0, 4: bad}]))
    for make in (data.csr, data.matrix):
        with pytest.raises(InvalidData, match=r"'features' has a value that .* in row 2"):
            make()


def test_a_number_beyond_single_precision_is_refused_by_row_and_not_made_infinite() -> None:
    vector = pa.array([[1, 2], [3, 1e300]], pa.list_(pa.float64(), 2))
    wide = pa.struct([("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.float64()))])
    stored = pa.array([{"indices": [0], "values": [1e300 * row]} for row in (0, 1)], wide)
    refused = "has a number in row 2 that is larger than single precision holds"
    for columns in ({"x": [1.0, -1e300]}, {"x": vector}, {"x": vector, "y": [1, 2]}):
        data = dataset(**columns)
        assert np.isfinite(data.matrix(np.float64)).all()
        for make in (data.matrix, data.csr):
            with pytest.raises(InvalidData, match=f"column 'x' {refused}"):
                make()
    with pytest.raises(InvalidData, match=refused):
        dataset(x=stored).csr()


def test_an_index_beyond_the_training_data_is_refused_by_row() -> None:
    train = dataset(features=sparse_column([{0: 1.0}, {4: 2.0}]))
    with pytest.raises(InvalidData, match="has index 7 in row 2, expected 0 to 4"):
        Dataset.of(
            pa.table({"features": sparse_column([{1: 1.0}, {7: 1.0}])}),
            inputs=train.inputs,
            labels="optional",
        )


def test_number_columns_and_a_vector_stand_for_each_other() -> None:
    columns = pa.table({"f0": [1.0, 2.0], "f1": [3.0, 4.0]})
    vector = pa.table({"features": pa.array([[1, 3], [2, 4]], pa.list_(pa.float32(), 2))})
    sparse = pa.table({"features": sparse_column([{0: 1.0, 1: 3.0}, {0: 2.0, 1: 4.0}])})
    for one in (columns, vector):
        for other in (columns, vector):
            inputs = Inputs.of(one)
            data = Dataset.of(other, inputs=inputs, labels="optional")
            assert data.matrix().tolist() == [[1, 3], [2, 4]]
    thinned = Dataset.of(vector, inputs=Inputs.of(sparse), labels="optional")
    assert thinned.csr().toarray().tolist() == [[1, 3], [2, 4]]


def test_columns_without_names_are_taken_by_position() -> None:
    inputs = Inputs.of(pa.table({"wind": [1.0, 2.0], "sky": ["wet", "dry"]}))
    unnamed = pa.table({"f0": [3], "f1": ["wet"]})
    assert inputs.encode(unnamed)["wind"].to_pylist() == [3]
    with pytest.raises(InvalidData, match="column 'wind' is missing"):
        inputs.encode(pa.table({"f0": [3], "f1": ["wet"], "f2": [1]}))


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"wind": [1.0, None]}, "column 'wind' has no value in row 2"),
        ({"wind": [1, None]}, "column 'wind' has no value in row 2"),
        ({"tokens": [[1, 2], [3]]}, "column 'tokens' is tokens, and this algorithm takes numbers"),
    ],
)
def test_what_is_no_number_is_refused_by_column(columns: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidData, match=expected):
        dataset(**columns).matrix()
    with pytest.raises(InvalidData, match=expected):
        dataset(**columns).csr()


def test_a_vector_with_a_hole_is_refused_by_row() -> None:
    column = pa.array([[1.0, 2.0], [1.0, None]], pa.list_(pa.float64(), 2))
    with pytest.raises(InvalidData, match="not finite in row 2"):
        dataset(features=column)


def test_missing_numbers_may_be_kept() -> None:
    assert np.isnan(dataset(wind=[1.0, None]).matrix(missing="nan")).tolist() == [[False], [True]]


def test_rows_are_taken_in_the_order_asked_for() -> None:
    data = Dataset.of(pa.table({"label": [0, 1, 2], "wind": [1.0, 2.0, 3.0]}))
    some = data.take(np.array([2, 0]), channel="held out")
    assert (some.labels().tolist(), some.matrix().tolist()) == ([2, 0], [[3], [1]])
    assert some.channel == "held out"
