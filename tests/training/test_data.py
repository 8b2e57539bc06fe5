from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training.data import METADATA_KEY, Dataset, read_dataset, read_table
from training.errors import InvalidData

TABLE = pa.table({"late": [0, 1, 1], "wind": [3.5, None, 20.0], "origin": ["EWR", "JFK", "EWR"]})


def write(path: Path, table: pa.Table = TABLE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix:
        case ".parquet":
            pq.write_table(table, path)
        case ".arrow":
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
        case _:
            raise AssertionError(path)
    return path


@pytest.mark.parametrize("ending", [".parquet", ".arrow"])
def test_a_file_with_named_columns(tmp_path: Path, ending: str) -> None:
    data = read_dataset(write(tmp_path / f"x{ending}"), channel="train", label="late")
    assert data.target is not None
    assert data.target.tolist() == [0, 1, 1]
    assert data.features["wind"].to_pylist() == [3.5, None, 20.0]
    assert data.inputs.names == ("wind", "origin")


def test_an_arrow_stream_is_read_like_an_arrow_file(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)
    assert read_table(path, channel="train").equals(TABLE)


@pytest.mark.parametrize("packed", [False, True])
def test_csv_has_no_header_and_the_label_first(tmp_path: Path, packed: bool) -> None:
    text = b"0,3.5,EWR\n1,,JFK\n1,20,\n"
    path = tmp_path / ("x.csv.gz" if packed else "x.csv")
    path.write_bytes(gzip.compress(text) if packed else text)
    data = read_dataset(path, channel="train")
    assert data.target is not None
    assert data.target.tolist() == [0, 1, 1]
    assert data.features.to_pydict() == {"f0": [3.5, None, 20.0], "f1": ["EWR", "JFK", None]}


def test_csv_without_a_label_has_the_same_input_names(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("3.5,EWR\n")
    table = read_table(path, channel="input", content_type="text/csv;label_size=0")
    assert table.column_names == ["f0", "f1"]


def test_a_csv_column_whose_kind_shows_late_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("1,2\n" * 400_000 + "1,2.5\n")
    table = read_table(path, channel="train")
    assert table.schema.field("f0").type == pa.float64()
    assert len(table) == 400_001


def test_a_csv_with_a_header_is_refused_with_advice(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("late,wind\n0,3.5\n")
    with pytest.raises(InvalidData, match=r"'late' in row 1; text/csv has no header row"):
        read_dataset(path, channel="train")


def test_a_folder_is_its_files_in_order_of_name(tmp_path: Path) -> None:
    write(tmp_path / "part" / "b=2" / "b.parquet", TABLE.slice(1))
    write(tmp_path / "part" / "a.parquet", TABLE.slice(0, 1))
    (tmp_path / "part" / "_SUCCESS").touch()
    (tmp_path / "part" / ".b.parquet.crc").touch()
    assert read_table(tmp_path / "part", channel="train").equals(TABLE.combine_chunks())


def test_files_of_a_folder_may_differ_in_their_number_type(tmp_path: Path) -> None:
    write(tmp_path / "p" / "a.parquet", pa.table({"late": [0], "wind": [3]}))
    write(tmp_path / "p" / "b.parquet", pa.table({"late": [1], "wind": [3.5]}))
    assert read_table(tmp_path / "p", channel="t").to_pydict() == {"late": [0, 1], "wind": [3, 3.5]}


def test_files_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "p" / "a.parquet", pa.table({"late": [0], "wind": [3]}))
    write(tmp_path / "p" / "b.parquet", pa.table({"late": [1], "wind": ["strong"]}))
    with pytest.raises(
        InvalidData,
        match=r"'b\.parquet': row 1, column 2 \(wind\): expected int64 as in 'a\.parquet'",
    ):
        read_table(tmp_path / "p", channel="train")


@pytest.mark.parametrize(
    ("name", "content_type", "expected"),
    [
        ("x.dat", None, "the ending of 'x.dat' does not tell its content type"),
        ("x.csv", "text/plain", "content type 'text/plain' cannot be read; allowed are"),
        ("x.parquet", None, "'x.parquet' cannot be read as application/x-parquet"),
        ("x.arrow", None, "'x.arrow' cannot be read as application/vnd.apache.arrow.file"),
        ("x.csv", None, "'x.csv' cannot be read as text/csv: .*Empty CSV file"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(
    tmp_path: Path, name: str, content_type: str | None, expected: str
) -> None:
    (tmp_path / name).write_text("" if name == "x.csv" else "rubbish")
    with pytest.raises(InvalidData, match=f"train: {expected}"):
        read_table(tmp_path / name, channel="train", content_type=content_type)


def test_a_path_that_is_not_there_and_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match=r"train: .*nothing does not exist"):
        read_table(tmp_path / "nothing", channel="train")
    with pytest.raises(InvalidData, match=r"train: folder .* is empty"):
        read_table(tmp_path, channel="train")


def test_files_of_two_kinds_are_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet")
    write(tmp_path / "b.arrow")
    with pytest.raises(InvalidData, match=r"'a\.parquet' and 'b\.arrow' are of different"):
        read_table(tmp_path, channel="train")


@pytest.mark.parametrize(
    ("columns", "label", "chosen"),
    [
        (["a", "label", "b"], None, "label"),
        (["a", "b"], None, "a"),
        (["a", "b"], "b", "b"),
    ],
)
def test_the_label_is_named_or_called_label_or_first(
    columns: list[str], label: str | None, chosen: str
) -> None:
    data = Dataset.of(pa.table({name: [1, 2] for name in columns}), label=label)
    assert data.label == chosen
    assert set(data.inputs.names) == set(columns) - {chosen}


def test_a_dataset_files_keys_and_time_are_no_inputs() -> None:
    manifest = {"keys": ["origin", "tail"], "time": "event_time"}
    table = pa.table(
        {
            "origin": ["EWR"],
            "tail": ["N1"],
            "event_time": pa.array([0], pa.timestamp("us", "UTC")),
            "late": [1],
            "wind": [2.0],
        }
    ).replace_schema_metadata({METADATA_KEY: json.dumps(manifest)})
    assert Dataset.of(table).label == "late"
    assert Dataset.of(table).inputs.names == ("wind",)
    chosen = Dataset.of(table, label="late", features=["wind", "origin"])
    assert chosen.inputs.names == ("wind", "origin")


def test_pandas_and_other_arrow_streams_are_taken() -> None:
    frame = pd.DataFrame({"late": [0, 1], "wind": [1.0, 2.0]})
    assert Dataset.of(frame, label="late").features["wind"].to_pylist() == [1.0, 2.0]
    assert len(Dataset.of(TABLE.to_reader(), label="late")) == 3
    assert len(Dataset.of(TABLE.to_batches()[0], label="late")) == 3


def test_validation_data_is_encoded_like_training_data() -> None:
    train = Dataset.of(TABLE, label="late")
    validation = Dataset.of(
        pa.table({"late": [True], "origin": ["LGA"], "wind": [1]}),
        label="late",
        inputs=train.inputs,
        channel="validation",
    )
    assert validation.features.column_names == ["wind", "origin"]
    assert validation.features["origin"].to_pylist() == [None]


@pytest.mark.parametrize(
    ("table", "options", "expected"),
    [
        ({"late": []}, {}, "there are no rows"),
        ({"late": [1]}, {}, "there is no input column beside the label 'late'"),
        ({"late": [1], "w": [1]}, {"label": "lat"}, "label column 'lat' is missing; did you mean"),
        ({"late": ["yes"], "w": [1]}, {}, "label column 'late' is string, expected numbers, got"),
        ({"late": [1, None], "w": [1, 2]}, {}, "has 1 missing values, the first in row 2"),
        ({"late": [0.0, float("nan")], "w": [1, 2]}, {}, "label column 'late' is nan in row 2"),
        ({"late": [1], "w": [1]}, {"features": ["wd"]}, "column 'wd' is missing"),
        ({"late": [1], "w": [1]}, {"features": ["late"]}, "'late' is the label, so it cannot be"),
        ({"late": [1, 0], "w": [[1.0], [1.0, 2.0]]}, {}, "column 'w' is list"),
    ],
)
def test_a_table_that_does_not_suit_is_refused_by_column(
    table: dict[str, Any], options: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InvalidData, match=f"train: .*{expected}"):
        Dataset.of(pa.table(table), **options)


def test_two_columns_of_one_name_are_refused() -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([1])], names=["a", "a"])
    with pytest.raises(InvalidData, match="two columns are called 'a'"):
        Dataset.of(table)


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(InvalidData, match="expected a table as Arrow"):
        Dataset.of([1, 2, 3])
