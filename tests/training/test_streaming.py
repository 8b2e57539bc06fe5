"""Channels that are larger than memory, a part at a time."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from tests.training.flights import make_flights
from training.data import Dataset, read_dataset
from training.errors import InvalidData
from training.streaming import Stream

ROWS = 600


@pytest.fixture(scope="module")
def flights() -> pa.Table:
    return make_flights(ROWS, seed=1)


def opened(path: Path, **options: Any) -> Stream:
    folder = path.parent / "scratch"
    folder.mkdir(exist_ok=True)
    return Stream.open(
        path, channel="train", folder=folder, part_bytes=options.pop("part_bytes", 4000), **options
    )


def whole(stream: Stream) -> pa.Table:
    return pa.concat_tables([part.features for part in stream.parts()])


def write(table: pa.Table, path: Path) -> Path:
    match path.suffix:
        case ".parquet":
            pq.write_table(table, path, row_group_size=100)
        case ".arrow":
            pyarrow.feather.write_feather(table, path, compression="uncompressed")
        case _:
            with path.open("w", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                for row in table.to_pylist():
                    writer.writerow("" if value is None else value for value in row.values())
    return path


@pytest.mark.parametrize("ending", [".parquet", ".arrow", ".csv"])
def test_the_parts_are_the_dataset(flights: pa.Table, tmp_path: Path, ending: str) -> None:
    table = flights.select(["late", "wind", "delay", "origin", "seats"])
    path = write(table, tmp_path / f"flights{ending}")
    label = None if ending == ".csv" else "late"
    stream = opened(path, label=label)
    data = read_dataset(path, channel="train", label=label)
    assert stream.inputs == data.inputs
    assert (stream.target == data.target).all()
    assert len(stream.bounds) > 4
    assert whole(stream).equals(whole(stream))
    for name in data.features.column_names:
        assert whole(stream)[name].to_pylist() == data.features[name].to_pylist()
    assert stream.head(7).features.to_pylist() == data.head(7).features.to_pylist()


def test_files_of_a_folder_need_not_have_the_same_columns(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    pq.write_table(pa.table({"y": [0, 1], "a": [1, 2], "w": ["x", "y"]}), folder / "1.parquet")
    pq.write_table(pa.table({"w": ["b", None], "y": [1.5, 0], "a": [0.5, 1]}), folder / "2.parquet")
    pq.write_table(pa.table({"a": [3], "y": [2]}), folder / "3.parquet")
    stream = opened(folder, label="y", part_bytes=1)
    assert (
        whole(stream).to_pydict()
        == read_dataset(folder, channel="train", label="y").features.to_pydict()
    )
    assert stream.target.tolist() == [0, 1, 1.5, 0, 2]
    pq.write_table(pa.table({"a": ["no"], "y": [2]}), folder / "4.parquet")
    with pytest.raises(InvalidData, match=r"the files of .* do not fit together"):
        opened(folder, label="y")


def test_a_quoted_end_of_line_is_no_end_of_a_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("".join(f'{n},"a\nb{n % 3}",{n}\n' for n in range(50)))
    stream = opened(path, part_bytes=64)
    assert stream.inputs.columns[0].categories == ("a\nb0", "a\nb1", "a\nb2")
    assert stream.target.tolist() == list(range(50))


def test_libsvm_has_the_dimensions_of_all_its_parts(tmp_path: Path) -> None:
    path = tmp_path / "a.libsvm"
    path.write_text("".join(f"{n % 2}:2 {n % 7}:1 {n}:0.5\n" for n in range(60)))
    stream = opened(path, part_bytes=100)
    assert stream.width == 60
    assert stream.weights is not None
    assert stream.weights.tolist() == [2] * 60
    assert len(list(stream.parts())) > 2


def test_a_part_holds_whole_queries(tmp_path: Path) -> None:
    queries = np.repeat(np.arange(40), np.arange(40) % 5 + 1)
    table = pa.table({"y": np.zeros(len(queries)), "qid": queries, "x": np.arange(len(queries))})
    pq.write_table(table, tmp_path / "a.parquet")
    beside = {"qid": "qid"}
    stream = opened(tmp_path / "a.parquet", label="y", beside=beside, part_bytes=70)
    parts = [set(part.groups.tolist()) for part in stream.parts() if part.groups is not None]
    assert sum(len(part) for part in parts) == 40
    assert len(parts) > 5
    pq.write_table(table.take(pa.array(np.arange(len(table))[::-1])), tmp_path / "b.parquet")
    with pytest.raises(InvalidData, match=r"order of their queries, and query 38 in row 6 follows"):
        opened(tmp_path / "b.parquet", label="y", beside=beside)


def test_what_is_wrong_in_a_part_is_named(tmp_path: Path) -> None:
    values = np.arange(300.0)
    values[280] = np.inf
    pq.write_table(pa.table({"y": np.zeros(300), "x": values}), tmp_path / "a.parquet")
    stream = opened(tmp_path / "a.parquet", label="y", part_bytes=800)
    reason = r"counted from row (\d+): column 'x' has an infinite value in row (\d+);"
    with pytest.raises(InvalidData, match=reason) as caught:
        whole(stream)
    found = re.search(reason, str(caught.value))
    assert found is not None
    assert int(found[1]) + int(found[2]) - 1 == 281
    path = tmp_path / "a.csv"
    path.write_text("".join(f"{n},1\n" for n in range(100)) + "1\n")
    with pytest.raises(InvalidData, match=r"train: 'a.csv', rows counted from byte \d+: "):
        opened(path, part_bytes=100)
    pq.write_table(pa.table({"y": [None, 1.0], "x": [1, 2]}), tmp_path / "c.parquet")
    with pytest.raises(InvalidData, match="1 missing values, the first in row 1"):
        opened(tmp_path / "c.parquet", label="y")


def test_a_stream_has_the_inputs_of_the_training_data(flights: pa.Table, tmp_path: Path) -> None:
    train = Dataset.of(flights, label="late")
    path = write(make_flights(50, seed=9), tmp_path / "later.parquet")
    stream = opened(path, label="late", inputs=train.inputs)
    assert stream.inputs is train.inputs
    assert whole(stream).column_names == list(train.inputs.names)
