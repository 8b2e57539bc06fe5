from __future__ import annotations

import contextlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.formats.records import dense_table, record, serialised, sparse_table
from training.errors import InvalidData
from training.formats import recordio_protobuf
from training.formats.recordio.framing import MAGIC, find_frames, framed
from training.formats.recordio.message import record_class
from training.formats.recordio.parse import Irregular, parse
from training.formats.recordio.slow import parse_slowly
from training.formats.recordio_protobuf import decode, encode

# Written by the writer of SageMaker's Python library, version 2.232.
GOLDEN = {
    "float32": (
        "0a23d7ce2c0000000a160a0676616c756573120c120a0a080000c03f000000c012120a0676616c75"
        "6573120812060a04000000000a23d7ce2c0000000a160a0676616c756573120c120a0a0800000000"
        "0000404012120a0676616c756573120812060a040000803f"
    ),
    "float64": (
        "0a23d7ce380000000a1e0a0676616c75657312141a120a10000000000000f83f00000000000000c0"
        "12160a0676616c756573120c1a0a0a0800000000000000000a23d7ce380000000a1e0a0676616c75"
        "657312141a120a100000000000000000000000000000084012160a0676616c756573120c1a0a0a08"
        "000000000000f03f"
    ),
    "int64": (
        "0a23d7ce2c0000000a190a0676616c756573120f3a0d0a0b01feffffffffffffffff01120f0a0676"
        "616c75657312053a030a01000a23d7ce240000000a110a0676616c75657312073a050a03ac020312"
        "0f0a0676616c75657312053a030a0101"
    ),
    "csr": (
        "0a23d7ce330000000a1d0a0676616c756573121312110a08000080400000803f120201031a010412"
        "120a0676616c756573120812060a0400000000000a23d7ce250000000a0f0a0676616c7565731205"
        "12031a010412120a0676616c756573120812060a040000803f000000"
    ),
}
TABLES = {
    "float32": dense_table(np.array([[1.5, -2], [0, 3]], "f4"), np.array([0, 1], "f4")),
    "float64": dense_table(np.array([[1.5, -2], [0, 3]], "f8"), np.array([0, 1], "f8")),
    "int64": dense_table(np.array([[1, -2], [300, 3]]), np.array([0, 1])),
    "csr": sparse_table(
        [(np.array([4, 1], "f4"), [1, 3]), (np.array([], "f4"), [])], 4, np.array([0, 1], "f4")
    ),
}


@pytest.mark.parametrize("name", list(GOLDEN))
def test_the_bytes_are_those_of_sagemakers_writer(name: str) -> None:
    golden = bytes.fromhex(GOLDEN[name])
    assert encode(TABLES[name]) == golden
    read = decode(golden)
    assert read["features"].to_pylist() == TABLES[name]["features"].to_pylist()
    assert read["label"].to_pylist() == [0.0, 1.0]
    assert read.schema.field("label").type == pa.float64()
    assert encode(read) == golden


def test_a_sparse_columns_dimensions_are_in_its_field() -> None:
    field = decode(bytes.fromhex(GOLDEN["csr"])).schema.field("features")
    assert field.metadata == {b"featureline.size": b"4"}
    assert [part.type for part in field.type] == [pa.list_(pa.int32()), pa.list_(pa.float32())]


def test_many_blocks_of_differing_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordio_protobuf, "_BLOCK_RECORDS", 64)
    random = np.random.default_rng(3)
    rows = [
        (random.normal(size=n).astype("f4"), np.sort(random.choice(5000, n, replace=False)))
        for n in random.integers(0, 40, 300)
    ]
    labels = random.integers(-2, 500, len(rows))
    table = sparse_table(rows, 5000, labels)
    path = tmp_path / "x.pbr"
    recordio_protobuf.write(table, path)
    assert path.read_bytes() == serialised([(v, k, 5000) for v, k in rows], labels)
    read = recordio_protobuf.read(path, {})
    assert read["features"].combine_chunks().equals(table["features"].combine_chunks())
    assert read["label"].to_pylist() == labels.tolist()
    with pytest.raises(InvalidData, match="record 301 at byte"):
        decode(path.read_bytes() + GOOD)


def test_records_without_a_label_and_with_texts() -> None:
    values = np.arange(6, dtype="f4").reshape(3, 2)
    uids = ["a", None, "größer"]
    data = serialised([(row, None, None) for row in values], uids=uids)
    read = decode(data)
    assert read.column_names == ["features", "uid"]
    assert read["uid"].to_pylist() == uids
    assert read.schema.field("uid").metadata == {b"featureline.role": b"uid"}
    assert encode(read) == data


def test_a_label_that_some_records_lack_is_null() -> None:
    table = dense_table(np.ones((3, 2), "f4"))
    table = table.append_column("label", pa.array([1.0, None, 3.0], pa.float32()))
    read = decode(encode(table))
    assert read["label"].to_pylist() == [1.0, None, 3.0]


def test_several_label_values_are_a_vector() -> None:
    def fill(made: Any) -> None:
        made.features["values"].float32_tensor.values.append(1)
        made.label["values"].float32_tensor.values.extend([1, 2])

    data = framed([record(fill).SerializeToString()] * 2)
    read = decode(data)
    assert read["label"].to_pylist() == [[1, 2], [1, 2]]
    assert encode(read) == data


def test_sequences_of_tokens_keep_their_names_and_lengths() -> None:
    def pair(source: list[int], target: list[int]) -> bytes:
        made = record_class()()
        made.features["source"].int32_tensor.values.extend(source)
        made.features["target"].int32_tensor.values.extend(target)
        return bytes(made.SerializeToString(deterministic=True))

    data = framed([pair([1, 2, 300], [4]), pair([5], [6, 70_000])])
    read = decode(data)
    assert read.to_pydict() == {"source": [[1, 2, 300], [5]], "target": [[4], [6, 70_000]]}
    assert read.schema.field("source").type == pa.list_(pa.int32())
    assert encode(read) == data


def test_bytes_are_a_column_of_binary() -> None:
    def fill(made: Any) -> None:
        made.features["values"].bytes.value.append(b"\xff\xd8")

    assert decode(framed([record(fill).SerializeToString()]))["features"].to_pylist() == [
        b"\xff\xd8"
    ]


def _unusual(payload: bytes, case: str) -> bytes:
    """Write the same record as another writer might."""
    match case:
        case "unpacked":  # 1.5 and 2.5 as single numbers
            tensor = b"\x0d" + struct.pack("<f", 1.5) + b"\x0d" + struct.pack("<f", 2.5)
            value = b"\x12" + bytes([len(tensor)]) + tensor
            entry = b"\x0a\x06values\x12" + bytes([len(value)]) + value
            return b"\x0a" + bytes([len(entry)]) + entry
        case "unknown field":
            return payload + b"\x78\x05"
        case "parts of values":
            part = b"\x0a\x04" + struct.pack("<f", 1.5) + b"\x0a\x04" + struct.pack("<f", 2.5)
            value = b"\x12" + bytes([len(part)]) + part
            entry = b"\x0a\x06values\x12" + bytes([len(value)]) + value
            return b"\x0a" + bytes([len(entry)]) + entry
        case "value before key":
            value = payload[payload.index(b"\x12") :]
            return b"\x0a" + bytes([len(payload) - 2]) + value + b"\x0a\x06values"
    raise AssertionError(case)


@pytest.mark.parametrize(
    "case", ["unpacked", "unknown field", "parts of values", "value before key"]
)
def test_what_other_writers_may_write_is_read_too(case: str) -> None:
    plain = serialised([(np.array([1.5, 2.5], "f4"), None, None)])
    payload = find_frames(plain).payload(0)
    data = framed([payload, _unusual(payload, case)])
    assert decode(data)["features"].to_pylist() == [[1.5, 2.5], [1.5, 2.5]]


def test_records_of_two_number_types_take_one_that_holds_both() -> None:
    rows = [(np.array([1.5], "f4"), None, None), (np.array([0.1], "f8"), None, None)]
    assert decode(serialised(rows))["features"].to_pylist() == [[1.5], [0.1]]


GOOD = serialised([(np.array([1, 2], "f4"), None, None)] * 3, np.array([0, 1, 2], "f4"))
STRIDE = len(GOOD) // 3


def _with(position: int, data: bytes) -> bytes:
    return GOOD[:position] + data + GOOD[position + len(data) :]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "expected records, got no data"),
        (GOOD[:-3], rf"record 3 at byte {2 * STRIDE}: expected 44 bytes of payload, got 41 bytes"),
        (GOOD[: STRIDE + 5], rf"record 2 at byte {STRIDE}: expected 8 bytes of a frame's header"),
        (_with(STRIDE, b"xxxx"), rf"record 2 at byte {STRIDE}: expected the magic .* 0x78787878"),
        (_with(STRIDE + 4, struct.pack("<I", 2**31)), rf"record 2 at byte {STRIDE}: expected 2147"),
        (_with(STRIDE + 9, b"\x7f"), rf"record 2 at byte {STRIDE}: expected a Record of aialgs"),
        (
            GOOD + serialised([(np.array([1, 2, 3], "f4"), None, None)]),
            rf"record 4 at byte {3 * STRIDE}: expected 2 values in features\['values'\] as before, "
            "got 3",
        ),
        (
            serialised([(np.array([1], "f4"), None, None)], uids=["abc"]).replace(
                b"abc", b"a\xff!"
            ),
            "record 1 at byte 0: expected a Record of aialgs.data, got 'utf-8' codec",
        ),
        (
            serialised([(np.array([], "f4"), None, None)]),
            r"record 1 at byte 0: expected values in features\['values'\], got none",
        ),
        (
            serialised([(np.array([1], "f4"), [4], 9), (np.array([1], "f4"), [9], 9)]),
            r"record 2 at byte 36: expected keys from 0 to 8 in features\['values'\], got 9",
        ),
        (
            serialised([(np.array([1], "f4"), [4], 9), (np.array([1], "f4"), [4], 8)]),
            r"record 2 at byte 36: expected shape 9 .*, got 8",
        ),
        (
            serialised([(np.array([1], "f4"), [4], 9), (np.array([1, 2], "f4"), [4], 9)]),
            r"record 2 at byte 36: expected a key for each of 2 values .*, got 1 keys",
        ),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,
)
def test_a_broken_record_is_named_with_its_offset(data: bytes, expected: str) -> None:
    with pytest.raises(InvalidData, match=expected):
        decode(data)


def test_a_sparse_record_without_shape_is_refused() -> None:
    def fill(made: Any) -> None:
        made.features["values"].float32_tensor.values.append(1)
        made.features["values"].float32_tensor.keys.append(1)

    with pytest.raises(InvalidData, match=r"record 1 at byte 0: expected the shape"):
        decode(framed([record(fill).SerializeToString()]))


def test_numbers_that_look_like_a_frame_are_numbers() -> None:
    values = np.array([[MAGIC, 8], [MAGIC, 4]], "<u4").view("f4")
    table = dense_table(values)
    read = decode(encode(table))
    assert read["features"].combine_chunks().flatten().to_numpy().tobytes() == values.tobytes()


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (pa.table({"features": [["a"]]}), "column 'features' is list<.*>, expected numbers"),
        (dense_table(np.array([[2**40]])), "column 'features' has 1099511627776, and records hold"),
        (
            pa.table({"features": pa.array([[1.0], None], pa.list_(pa.float32(), 1))}),
            "column 'features' is missing in row 2",
        ),
        (
            pa.table({"features": TABLES["csr"]["features"]}),
            "column 'features' is sparse, and its field has no 'featureline.size'",
        ),
        (sparse_table([(np.array([1], "f4"), [7])], 7), "has index 7, expected 0 to 6"),
    ],
)
def test_a_column_that_cannot_be_written_is_named(table: pa.Table, expected: str) -> None:
    with pytest.raises(InvalidData, match=expected):
        encode(table)


FLOATS = st.floats(width=32, allow_nan=False)
TENSORS = st.one_of(
    st.tuples(st.just("float32_tensor"), st.lists(FLOATS, max_size=5)),
    st.tuples(st.just("float64_tensor"), st.lists(st.floats(allow_nan=False), max_size=3)),
    st.tuples(st.just("int32_tensor"), st.lists(st.integers(-(2**31), 2**31 - 1), max_size=8)),
)
RECORDS = st.fixed_dictionaries(
    {
        "features": st.dictionaries(st.sampled_from(["values", "source", "ä"]), TENSORS),
        "label": st.dictionaries(st.sampled_from(["values", "score"]), TENSORS),
        "keys": st.lists(st.integers(0, 2**40), max_size=4),
        "shape": st.lists(st.integers(0, 2**20), max_size=2),
        "uid": st.sampled_from([None, "", "ä"]),
        "metadata": st.sampled_from([None, "x" * 200]),
    }
)


def _payload(parts: dict[str, Any]) -> bytes:
    made = record_class()()
    for side in ("features", "label"):
        for key, (kind, values) in parts[side].items():
            tensor = getattr(getattr(made, side)[key], kind)
            tensor.SetInParent()
            tensor.values.extend(values)
            if side == "features":
                tensor.keys.extend(parts["keys"])
                tensor.shape.extend(parts["shape"])
    for name in ("uid", "metadata"):
        if parts[name] is not None:
            setattr(made, name, parts[name])
    return bytes(made.SerializeToString(deterministic=True))


@settings(max_examples=30, deadline=None)
@given(st.lists(RECORDS, min_size=1, max_size=3))
def test_reading_many_at_once_equals_protobufs_objects(records: list[dict[str, Any]]) -> None:
    frames = find_frames(framed(_payload(parts) for parts in records))
    slow = parse_slowly(frames, 0)
    try:
        fast = parse(frames)
    except Irregular:
        # Only where the records have tensors of several types under one name.
        kinds = [
            {
                (side, key, kind)
                for side in ("features", "label")
                for key, (kind, _) in r[side].items()
            }
            for r in records
        ]
        names = {(side, key) for found in kinds for side, key, _ in found}
        assert len(set().union(*kinds)) > len(names)
        return
    assert set(fast.tensors) == set(slow.tensors)
    for name, tensors in fast.tensors.items():
        for part in ("values", "counts", "keys", "key_counts", "shape", "present"):
            ours, theirs = getattr(tensors, part), getattr(slow.tensors[name], part)
            np.testing.assert_array_equal(ours, theirs)
            assert ours.dtype == theirs.dtype
    assert {n: c.to_pylist() for n, c in fast.texts.items()} == {
        n: c.to_pylist() for n, c in slow.texts.items()
    }


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=4), st.integers(0, 8))
def test_garbled_bytes_are_read_or_refused(position: int, noise: bytes, cut: int) -> None:
    data = _with(position, noise)[: len(GOOD) - cut]
    with contextlib.suppress(InvalidData):
        decode(data)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["f4", "f8", "i4"]),
    st.integers(1, 40),
    st.integers(1, 6),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_what_is_written_is_what_protobuf_writes(
    dtype: str, width: int, count: int, seed: int, sparse: bool
) -> None:
    random = np.random.default_rng(seed)
    values = (random.normal(size=(count, width)) * 10.0 ** random.integers(0, 6)).astype(dtype)
    labels = random.integers(-3, 1000, count).astype(random.choice(["f4", "f8", "i8"]))
    if sparse:
        rows = []
        for row in values:
            keys = np.flatnonzero(random.random(width) < 0.3)
            rows.append((row[keys], keys.tolist(), width))
        table = sparse_table([(v, k) for v, k, _ in rows], width, labels)
    else:
        rows = [(row, None, None) for row in values]
        table = dense_table(values, labels)
    data = serialised(rows, labels)
    assert encode(table) == data
    read = decode(data)
    assert read["features"].combine_chunks().equals(table["features"].combine_chunks())
    assert encode(read) == data
