from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_svmlight_file

from training.errors import InvalidData
from training.formats.libsvm import decode


def test_weights_and_queries_are_columns_that_are_no_inputs() -> None:
    table = decode(b"1:2.5 qid:3 4:1 2:7\n\n0:1 qid:4 # nothing\n", {})
    assert table.to_pydict() == {
        "label": [1.0, 0.0],
        "features": [{"indices": [2, 4], "values": [7.0, 1.0]}, {"indices": [], "values": []}],
        "weight": [2.5, 1.0],
        "qid": [3, 4],
    }
    assert table.schema.field("qid").metadata == {b"featureline.role": b"qid"}
    assert table.schema.field("features").type == pa.struct(
        [("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.float32()))]
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", "expected rows of 'label index:value …', got none"),
        (b"1 0:1\n0 3\n", "line 2: expected index:value, got '3'"),
        (b"1 0:1\n\nx 0:1\n", "line 3: expected a label, got 'x'"),
        (b"1 0:1\n0 a:1\n", "line 2: expected an index, got 'a'"),
        (b"1 0:1\n0 1:b\n", "line 2: expected a value, got 'b'"),
        (b"1 0:\xff\n", "line 1: expected a value, got '�'"),
        (b"1 -1:2\n", "line 1: expected an index from 0 on, got '-1'"),
        (b"1 0.5:2\n", "line 1: expected an index from 0 on, got '0.5'"),
        (b"1 0:1:2\n", "line 1: expected index:value, got '0:1:2'"),
        (b"1 0: 2\n", "line 1: expected index:value, got '0:'"),
        (b":1 2\n", "line 1: expected index:value, got ':1'"),
        (b"1 qid:1 0:1\n1 0:1\n", "line 2: expected a qid as in the first row"),
        (b"1 0:1\n1:2 0:1\n", "line 2: expected no weight as in the first row"),
        (b"1 qid:1.5 0:1\n", "line 1: expected a whole qid, got '1.5'"),
    ],
)
def test_a_line_of_another_form_is_named(text: bytes, expected: str) -> None:
    with pytest.raises(InvalidData, match=expected):
        decode(text, {})


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(-1e6, 1e6),
            st.dictionaries(
                st.integers(0, 30), st.floats(width=32, allow_nan=False, allow_infinity=False)
            ),
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from([" ", "  ", "\t"]),
)
def test_it_reads_what_scikit_learn_reads(
    rows: list[tuple[float, dict[int, float]]], blank: str
) -> None:
    lines = [
        blank.join([repr(label), *(f"{key}:{value!r}" for key, value in sorted(row.items()))])
        for label, row in rows
    ]
    text = ("\n".join(lines) + "\n").encode()
    table = decode(text, {})
    matrix, labels = load_svmlight_file(io.BytesIO(text), zero_based=True, n_features=31)
    assert table["label"].to_pylist() == labels.tolist()
    column = table["features"].combine_chunks()
    assert column.field("indices").flatten().to_pylist() == matrix.indices.tolist()
    values = column.field("values").flatten().to_numpy()
    np.testing.assert_array_equal(values, matrix.data.astype(np.float32))
