"""Files: every row once, by whichever path and after whichever interruption."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import os
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurestore import FeatureNotFound
from ingest import (
    DeadLetters,
    FileSource,
    IngestError,
    JsonDecoder,
    MessageRefused,
    Pipeline,
    RowDecoder,
    SourceChanged,
    SourceNotFound,
)

HEADER = "station,time,sequence,temp,note\n"


def csv_line(record: dict[str, object]) -> str:
    return ",".join(str(record[name]) for name in ("station", "time", "sequence", "temp")) + ",\n"


@pytest.fixture
def write(tmp_path, reading):
    """Write readings 0 to n as a file of the kind that the name asks for."""

    def make(name: str, count: int, *, first: int = 0):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        records = [reading(sequence) for sequence in range(first, first + count)]
        if path.suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(records), path, row_group_size=40)
        elif ".csv" in name:
            text = HEADER + "".join(csv_line(record) for record in records)
            _write_text(path, text)
        else:
            _write_text(path, "".join(json.dumps(record) + "\n" for record in records))
        return path

    return make


def _write_text(path, text: str) -> None:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


KINDS = ["r.parquet", "r.csv", "r.csv.gz", "r.jsonl", "r.ndjson", "r.json", "r.jsonl.gz"]


@pytest.mark.parametrize("name", KINDS)
def test_every_row_is_stored_once(name, write, store, stored):
    path = write(name, 100)
    report = Pipeline(FileSource(path), store, "readings", batch_size=30).run()
    assert (report.read, report.written, report.refused) == (100, 100, 0)
    assert stored() == list(range(100))
    assert store.get("readings", 3)["sequence"] == 94


@pytest.mark.parametrize("name", KINDS)
def test_loading_again_stores_nothing(name, write, store, stored):
    path = write(name, 50)
    Pipeline(FileSource(path), store, "readings").run()
    report = Pipeline(FileSource(path), store, "readings").run()
    assert report.read == 0
    assert stored() == list(range(50))


@pytest.mark.parametrize("name", KINDS)
def test_load_that_was_stopped_goes_on_at_its_row(name, write, store, stored):
    path = write(name, 100)
    stop = threading.Event()
    first = Pipeline(FileSource(path), store, "readings", batch_size=17).run(
        stop=stop, on_progress=lambda report: stop.set() if report.read >= 51 else None
    )
    assert first.read == 51
    rest = Pipeline(FileSource(path), store, "readings", batch_size=17).run()
    assert rest.read == 49
    assert stored() == list(range(100))


def test_file_is_known_by_folder_and_by_name(write, store, stored, tmp_path):
    first = write("in/a.csv", 20)
    write("in/deep/b.csv", 20, first=20)
    Pipeline(FileSource(first), store, "readings").run()
    report = Pipeline(FileSource(tmp_path / "in"), store, "readings").run()
    assert report.read == 20
    assert stored() == list(range(40))


def test_changed_file_is_another_file(write, store):
    path = write("r.csv", 10)
    Pipeline(FileSource(path), store, "readings").run()
    write("r.csv", 5, first=10)
    assert Pipeline(FileSource(path), store, "readings").run().read == 5


def test_positions_belong_to_the_group(write, store):
    path = write("r.csv", 10)
    group = store.describe_feature_group("readings")
    store.create_feature_group(
        type(group)("copy", group.record_identifier, group.event_time, group.features)
    )
    Pipeline(FileSource(path), store, "readings").run()
    assert Pipeline(FileSource(path), store, "copy").run().written == 10


def test_group_made_anew_is_loaded_anew(write, store):
    path = write("r.csv", 10)
    group = store.describe_feature_group("readings")
    assert Pipeline(FileSource(path), store, "readings").run().written == 10
    store.delete_feature_group("readings")
    store.create_feature_group(group)
    assert Pipeline(FileSource(path), store, "readings").run().written == 10


def test_csv_text_gets_the_declared_types_and_empty_is_null(tmp_path, store):
    path = tmp_path / "r.csv"
    path.write_text(
        "\ufeffnote,station,time,sequence,temp\n"
        '"two\nlines, ""quoted""",1,2024-01-01T00:00:00Z,7.0,\n'
        "\n"
        ",2,2024-01-01T00:00:00Z,,1e3\n",
        encoding="utf-8",
    )
    assert Pipeline(FileSource(path), store, "readings").run().written == 2
    assert store.get("readings", 1) == {
        "note": 'two\nlines, "quoted"',
        "station": 1,
        "time": "2024-01-01T00:00:00Z",
        "sequence": 7,
    }
    assert store.get("readings", 2) == {
        "station": 2,
        "time": "2024-01-01T00:00:00Z",
        "temp": 1000.0,
    }


def test_bad_csv_rows_are_put_aside_with_row_and_reason(tmp_path, store, dead_letters):
    path = tmp_path / "r.csv"
    rows = [
        b"0,2024-01-01T00:00:00Z,0,1.5,\n",
        b"1,2024-01-01T00:00:00Z,x,1.5,\n",
        b"2,2024-01-01T00:00:00Z\n",
        b'3,2024-01-01T00:00:00Z,3,"1.5"x,\n',
        b"4,2024-01-01T00:00:00Z,4,1.5,\xff\n",
        b"5,2024-01-01T00:00:00Z,5,1.5,\n",
    ]
    path.write_bytes(HEADER.encode() + b"".join(rows))
    report = Pipeline(FileSource(path), store, "readings", dead_letters=dead_letters).run()
    assert (report.written, report.refused) == (2, 4)
    letters = list(dead_letters.read("readings"))
    assert [letter.offset for letter in letters] == [1, 2, 3, 4]
    assert "readings.sequence" in letters[0].reason
    assert letters[1].reason == "row: expected 5 fields, as the header has, got 2"
    assert letters[1].payload == rows[2]
    assert "RFC 4180" in letters[2].reason
    assert letters[2].payload == rows[3]
    assert "readings.note" in letters[3].reason
    assert all(letter.partition.startswith(path.as_uri()) for letter in letters)


def test_bad_rows_are_put_aside_once_over_resumed_loads(tmp_path, store, dead_letters, reading):
    path = tmp_path / "r.jsonl"
    lines = [json.dumps(reading(n)) if n % 5 else "{bad" for n in range(40)]
    path.write_text("\n".join(lines))
    for _ in range(20):
        stop = threading.Event()
        Pipeline(FileSource(path), store, "readings", dead_letters=dead_letters, batch_size=3).run(
            stop=stop, on_progress=lambda report, stop=stop: stop.set()
        )
    assert [letter.offset for letter in dead_letters.read()] == list(range(0, 40, 5))
    assert sum(len(file.read_bytes().splitlines()) for file in _files(dead_letters)) == 8


def _files(dead_letters: DeadLetters):
    return dead_letters.folder.rglob("*.jsonl")


def test_without_dead_letters_the_first_refusal_ends_the_load(tmp_path, store, stored, reading):
    path = tmp_path / "r.jsonl"
    path.write_text("".join(json.dumps(reading(n)) + "\n" for n in range(4)) + "{bad\n")
    with pytest.raises(
        MessageRefused, match=r"offset 4: line 1, column 2: expected JSON"
    ) as refusal:
        Pipeline(FileSource(path), store, "readings", batch_size=2).run()
    assert refusal.value.offset == 4
    assert stored() == [0, 1, 2, 3]


def test_mapping_renames_columns(tmp_path, store):
    path = tmp_path / "r.csv"
    path.write_text("id,at,extra\n5,2024-01-01T00:00:00Z,x\n")
    decoder = RowDecoder({"station": "id", "time": "at"})
    assert Pipeline(FileSource(path), store, "readings", decoder=decoder).run().written == 1
    assert store.get("readings", 5) == {"station": 5, "time": "2024-01-01T00:00:00Z"}


def test_default_decoder_takes_a_mapping(tmp_path, store):
    (tmp_path / "r.csv").write_text("id,at\n5,2024-01-01T00:00:00Z\n")
    (tmp_path / "r.jsonl").write_text('{"id": 6, "at": "2024-01-01T00:00:00Z"}\n')
    for name in ("r.csv", "r.jsonl"):
        mapping = {"station": "id", "time": "at"}
        Pipeline(FileSource(tmp_path / name), store, "readings", mapping=mapping).run()
    assert store.get("readings", 5) is not None
    assert store.get("readings", 6) is not None


def test_unknown_column_is_refused_before_any_row(tmp_path, store, dead_letters):
    path = tmp_path / "r.csv"
    path.write_text("station,time,tmp\n5,2024-01-01T00:00:00Z,3\n")
    with pytest.raises(FeatureNotFound, match="'tmp'; did you mean 'temp'"):
        Pipeline(FileSource(path), store, "readings", dead_letters=dead_letters).run()


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        (RowDecoder({"statoin": "station"}), "did you mean 'station'"),
        (RowDecoder({"station": "statoin"}), "no column 'statoin'; did you mean 'station'"),
    ],
)
def test_mapping_is_checked_before_any_row(decoder, message, write, store):
    with pytest.raises((FeatureNotFound, IngestError), match=message):
        Pipeline(FileSource(write("r.csv", 3)), store, "readings", decoder=decoder).run()


def test_parquet_timestamps_become_event_times(tmp_path, store):
    moment = dt.datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=dt.UTC)
    nanoseconds = pa.array([-1, 1_700_000_000_123_456_789], pa.int64())
    table = pa.table(
        {
            "station": [1, 2],
            "time": nanoseconds.cast(pa.timestamp("ns", "UTC")),
            "temp": pa.array([None, 2.5], pa.float32()),
        }
    )
    pq.write_table(table, tmp_path / "r.parquet")
    Pipeline(FileSource(tmp_path / "r.parquet"), store, "readings").run()
    assert store.get("readings", 1) == {"station": 1, "time": f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}"}
    assert store.get("readings", 2)["time"] == "2023-11-14T22:13:20.123456Z"
    assert store.get("readings", 2)["temp"] == 2.5


def test_parquet_timestamps_without_a_zone_are_refused(tmp_path, store):
    table = pa.table({"station": [1], "time": pa.array([0], pa.timestamp("us"))})
    pq.write_table(table, tmp_path / "r.parquet")
    with pytest.raises(IngestError, match=r"column 'time': expected timestamps with a zone"):
        Pipeline(FileSource(tmp_path / "r.parquet"), store, "readings").run()


def test_json_lines_use_the_given_decoder(tmp_path, store):
    path = tmp_path / "r.jsonl"
    path.write_text('\n{"id": 5, "at": "2024-01-01T00:00:00Z"}\n\n')
    decoder = JsonDecoder({"station": "id", "time": "at"})
    report = Pipeline(FileSource(path), store, "readings", decoder=decoder).run()
    assert list(report.positions.values()) == [2]
    assert store.get("readings", 5)["station"] == 5


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.txt", b"x", "expected a file named .parquet, .csv"),
        ("r.parquet.gz", b"x", "expected a file named"),
        ("r.csv", b"", "expected a header line"),
        ("r.csv", b"a,b,a\n1,2,3\n", "expected each column once, got 'a' twice"),
        ("r.parquet", b"not parquet at all", "cannot be read"),
        ("r.csv.gz", b"not gzip at all", "cannot be read"),
        ("r.json", b'[{"station": 1}]', "one JSON object per line, got a JSON array"),
    ],
)
def test_unreadable_file_is_an_error_that_names_it(name, content, message, tmp_path, store):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(IngestError, match=message) as error:
        Pipeline(FileSource(tmp_path / name), store, "readings").run()
    assert str(tmp_path / name) in str(error.value)


def test_folder_of_two_kinds_is_refused(write, store, tmp_path):
    write("in/a.csv", 1)
    write("in/b.jsonl", 1)
    with pytest.raises(IngestError, match=r"expected files of one kind, got \['csv', 'jsonl'\]"):
        Pipeline(FileSource(tmp_path / "in"), store, "readings").run()


def test_hidden_files_are_left_out(write, store, tmp_path):
    write("in/a.csv", 3)
    (tmp_path / "in" / "_SUCCESS").touch()
    (tmp_path / "in" / ".a.csv.crc").touch()
    assert Pipeline(FileSource(tmp_path / "in"), store, "readings").run().read == 3


def test_nothing_there_is_not_found(store, tmp_path):
    with pytest.raises(SourceNotFound, match="no such file or folder"):
        Pipeline(FileSource(tmp_path / "absent.csv"), store, "readings").run()
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceNotFound, match="no files in the folder"):
        Pipeline(FileSource(tmp_path / "empty"), store, "readings").run()


def test_file_without_rows_is_no_error(tmp_path, store):
    (tmp_path / "r.csv").write_text("station,time\n")
    assert Pipeline(FileSource(tmp_path / "r.csv"), store, "readings").run().read == 0


def test_file_that_changes_while_read_is_an_error(write, store, stored):
    path = write("r.csv", 40)

    def append(report: object) -> None:
        with path.open("a") as file:
            file.write("1,2024-01-01T00:00:00Z,999,1.0,\n")
        os.utime(path, ns=(1, 1))

    with pytest.raises(SourceChanged, match=r"at about row 10; .*rename them into place"):
        Pipeline(FileSource(path), store, "readings", batch_size=10).run(on_progress=append)
    assert stored() == list(range(10))
