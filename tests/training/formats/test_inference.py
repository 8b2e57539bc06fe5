from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.formats.records import dense_table, sparse_table
from training.errors import InvalidData
from training.formats import recordio_protobuf
from training.formats.column import TENSOR_KEY, role_field
from training.formats.inference import Accept, decode_request, encode_reply, encode_request

RECORDIO = "application/x-recordio-protobuf"
TYPES = ["text/csv", "application/json", "application/jsonlines", RECORDIO]


@pytest.mark.parametrize(
    ("text", "content_type", "verbose"),
    [
        (None, "application/json", False),
        ("*/*", "application/json", False),
        ("application/jsonlines; verbose=true", "application/jsonlines", True),
        ("APPLICATION/JSON;Verbose=TRUE", "application/json", True),
        ("text/csv;verbose=false", "text/csv", False),
        ("text/html, application/json;q=0.5, text/csv;q=0.9", "text/csv", False),
        ("text/html;q=x, */*;q=0.1", "application/json", False),
    ],
)
def test_accept_is_read_in_any_case(text: str, content_type: str, verbose: bool) -> None:
    assert Accept.parse(text) == Accept(content_type, verbose)


def test_nothing_that_can_be_written_is_refused() -> None:
    with pytest.raises(InvalidData, match="Accept: 'text/html' cannot be written; allowed are"):
        Accept.parse("text/html")


def test_csv_has_no_label() -> None:
    assert decode_request(b"1,0.5\n2,\n", "text/csv").to_pydict() == {
        "f0": [1, 2],
        "f1": [0.5, None],
    }
    labelled = decode_request(b"1,0.5\n", "text/csv; label_size=1")
    assert labelled.column_names == ["label", "f0"]


@pytest.mark.parametrize(
    "instance",
    ['{"features":[1.5,16]}', '{"data":{"features":{"values":[1.5,16]}}}'],
)
def test_json_in_both_forms(instance: str) -> None:
    for body, kind in (
        (f'{{"instances":[{instance}]}}', "application/json"),
        (f"{instance}\n", "application/jsonlines"),
    ):
        table = decode_request(body.encode(), kind)
        assert table.to_pydict() == {"features": [[1.5, 16.0]]}
        assert table.schema.field("features").type == pa.list_(pa.float32(), 2)


def test_json_of_sparse_features() -> None:
    body = b'{"instances":[{"data":{"features":{"keys":[26,182],"shape":[2000],"values":[1,4]}}}]}'
    table = decode_request(body, "application/json")
    assert table["features"].to_pylist() == [{"indices": [26, 182], "values": [1.0, 4.0]}]
    assert table.schema.field("features").metadata == {b"featureline.size": b"2000"}


def test_a_configuration_is_beside_the_instances_or_in_one() -> None:
    body = {
        "instances": [{"features": [1]}, {"features": [2], "configuration": {"k": 9}}],
        "configuration": {"num_samples": 5, "k": 1},
    }
    table = decode_request(json.dumps(body).encode(), "application/json")
    assert table["configuration"].to_pylist() == ['{"k":1,"num_samples":5}', '{"k":9}']
    assert table.schema.field("configuration").metadata == {b"featureline.role": b"configuration"}


def test_instances_of_names_are_columns_of_those_names() -> None:
    body = b'{"instances":[{"in0":[6,17],"in1":[16]},{"in0":[1],"in1":[]}]}'
    table = decode_request(body, "application/json")
    assert table.to_pydict() == {"in0": [[6, 17], [1]], "in1": [[16], []]}


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b"1", "image/png", "content type 'image/png' cannot be read; allowed are application/js"),
        (b" ", "text/csv", "expected a request of text/csv, got an empty body"),
        (b"1,2\n3\n", "text/csv", "row 2: expected 2 fields as in row 1, got 1"),
        (b"{", "application/json", "expected JSON: "),
        (b"[]", "application/json", r"expected \{\"instances\":\[…\]\} with one instance or more"),
        (b'{"instances":[]}', "application/json", "with one instance or more"),
        (b'{"instances":[{"features":[1]},3]}', "application/json", "instance 2: expected an obj"),
        (
            b'{"configuration":{},"instances":[{"features":[1]},3]}',
            "application/json",
            "instance 2: expected an object with features, got 3",
        ),
        (b'{"features":[1]}\n{"features":[]}', "application/jsonlines", "line 2: expected 1 val"),
        (b"abcd", RECORDIO, "record 1 at byte 0: expected 8 bytes of a frame's header"),
    ],
)
def test_a_request_that_does_not_fit_is_named(
    body: bytes, content_type: str, expected: str
) -> None:
    with pytest.raises(InvalidData, match=expected):
        decode_request(body, content_type)


REPLIES = pa.table({"score": [0.5, float("nan")], "labels": [[1.0, 0.0], [float("inf"), 2.0]]})


def test_json_has_null_for_what_is_no_number_and_the_algorithms_word() -> None:
    rows = [{"score": 0.5, "labels": [1.0, 0.0]}, {"score": None, "labels": [None, 2.0]}]
    assert json.loads(encode_reply(REPLIES, "application/json")) == {"predictions": rows}
    body = encode_reply(REPLIES, "application/json", word="projections")
    assert json.loads(body) == {"projections": rows}
    lines = encode_reply(REPLIES, "application/jsonlines").decode().splitlines()
    assert [json.loads(line) for line in lines] == rows


@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        ({"score": [0.5, 2.0]}, "0.5\n2\n"),
        ({"score": pa.array([0.1], pa.float32()), "predicted_label": [1]}, "0.1,1\n"),
        ({"projection": pa.array([[1.5, 2], [3, 4]], pa.list_(pa.float32(), 2))}, "1.5,2\n3,4\n"),
        ({"labels": [[1], [2, 3]]}, "1\n2,3\n"),
        ({"label": ["a,b", None], "score": [0.5, 1.0]}, '"a,b",0.5\n,1.0\n'),
        ({"label": [0], "probabilities": [[0.25, 0.75]]}, '0,"[0.25,0.75]"\n'),
    ],
)
def test_csv_has_a_field_for_each_column(replies: dict[str, Any], expected: str) -> None:
    assert encode_reply(pa.table(replies), "text/csv").decode() == expected


def test_records_have_the_results_as_labels_and_return_uid_and_metadata() -> None:
    request = dense_table(np.ones((2, 3), "f4"))
    for name, values in (("uid", ["a", None]), ("metadata", ["m", "n"])):
        column = pa.array(values, pa.string())
        request = request.append_column(role_field(name, pa.string()), column)
    replies = pa.table({"score": [0.1, 1e300], "predicted_label": [1, 0], "labels": [[1.0], [2.0]]})
    body = encode_reply(replies, RECORDIO, request=request)
    read = recordio_protobuf.decode(body)
    assert read.to_pydict() == {
        "labels": [1.0, 2.0],
        "predicted_label": [1.0, 0.0],
        "score": [float(np.float32(0.1)), math.inf],
        "uid": ["a", None],
        "metadata": ["m", "n"],
    }
    assert read.schema.field("score").metadata == {TENSOR_KEY: b"float32"}
    assert recordio_protobuf.encode(read) == body


def test_words_cannot_be_in_records() -> None:
    with pytest.raises(InvalidData, match="reply 'word' is string, and records hold numbers"):
        encode_reply(pa.table({"word": ["a"]}), RECORDIO)
    with pytest.raises(InvalidData, match="content type 'text/html' cannot be written"):
        encode_reply(REPLIES, "text/html")
    with pytest.raises(InvalidData, match="content type 'text/html' cannot be written"):
        encode_request(REPLIES, "text/html")


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def requests(draw: st.DrawFn) -> pa.Table:
    count, width = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    values = np.array(
        draw(st.lists(FLOATS, min_size=count * width, max_size=count * width)), "f4"
    ).reshape(count, width)
    if not draw(st.booleans()):
        return dense_table(values)
    rows = []
    for row in values:
        keys = np.flatnonzero(draw(st.lists(st.booleans(), min_size=width, max_size=width)))
        rows.append((row[keys], keys.tolist()))
    return sparse_table(rows, width)


@settings(max_examples=80, deadline=None)
@given(requests(), st.sampled_from(TYPES))
def test_requests_round_trip(table: pa.Table, content_type: str) -> None:
    if content_type == "text/csv":
        if pa.types.is_struct(table.schema.field("features").type):
            with pytest.raises(
                InvalidData, match=r"'features' is struct.*, and text/csv holds one"
            ):
                encode_request(table, content_type)
            return
        read = decode_request(encode_request(table, content_type), content_type)
        rows = [
            [float(value) for value in row] for row in zip(*read.to_pydict().values(), strict=True)
        ]
        assert np.array(rows, "f4").tolist() == table["features"].to_pylist()
        return
    read = decode_request(encode_request(table, content_type), content_type)
    assert read.schema.equals(table.schema, check_metadata=True)
    assert read.equals(table)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 4).flatmap(
        lambda count: st.fixed_dictionaries(
            {
                "score": st.lists(st.floats(width=32), min_size=count, max_size=count),
                "labels": st.lists(
                    st.lists(FLOATS, min_size=2, max_size=2), min_size=count, max_size=count
                ),
            }
        )
    ),
    st.sampled_from(TYPES),
)
def test_replies_round_trip(replies: dict[str, Any], content_type: str) -> None:
    body = encode_reply(pa.table(replies).select(["score", "labels"]), content_type)
    finite = [value if math.isfinite(value) else None for value in replies["score"]]
    expected = list(zip(finite, replies["labels"], strict=True))
    match content_type:
        case "application/json":
            rows = json.loads(body)["predictions"]
        case "application/jsonlines":
            rows = [json.loads(line) for line in body.splitlines()]
        case "text/csv":
            fields = decode_request(body, content_type).to_pydict()
            labels = [json.loads(text) for text in fields["f1"]]
            scores = [None if v is None or math.isinf(v) else v for v in fields["f0"]]
            assert list(zip(scores, labels, strict=True)) == expected
            return
        case _:
            read = recordio_protobuf.decode(body).to_pydict()
            np.testing.assert_array_equal(
                np.array(read["score"], "f4"), np.array(replies["score"], "f4")
            )
            assert read["labels"] == replies["labels"]
            return
    assert [(row["score"], row["labels"]) for row in rows] == expected


def test_features_may_be_words() -> None:
    lines = b'{"features":["ann","10.0.0.1"]}\n{"features":[17,null]}\n'
    table = decode_request(lines, "application/jsonlines")
    assert table["features"].to_pylist() == [["ann", "10.0.0.1"], ["17", None]]
    mixed = b'{"instances":[{"features":["ann","10.0.0.1"]},{"features":[0.5,1]}]}'
    with pytest.raises(InvalidData, match=r"instance 2: expected a list of words in 'features'"):
        decode_request(mixed, "application/json")
