"""Dead letters: durable before the transaction, each refused message once, whatever happens."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore import PartitionPosition, SourcePosition
from ingest import DeadLetter, DeadLetters, IngestError, Message

NOW = dt.datetime(2024, 5, 1, 12, 30, 0, 250, tzinfo=dt.UTC)


def letter(
    offset: int,
    payload=b"{bad",
    partition: str = "0",
) -> DeadLetter:
    return DeadLetter.of(
        Message(partition, offset, payload, b"key"),
        group="g",
        source="kafka://c/t",
        error="Undecodable",
        reason="no JSON",
        time=NOW,
    )


def position(*stretches: tuple[str, int, int]) -> SourcePosition:
    return SourcePosition("kafka://c/t", tuple(PartitionPosition(*s) for s in stretches))


@given(
    st.binary() | st.none() | st.dictionaries(st.text(), st.none() | st.text() | st.integers()),
    st.binary() | st.none(),
)
def test_letter_round_trips_through_json(payload, key):
    original = DeadLetter("g", "s", "p", 3, payload, key, "Undecodable", "why", NOW)
    assert DeadLetter.from_json(json.loads(json.dumps(original.to_json()))) == original


def test_text_stays_readable_and_other_bytes_are_base64():
    assert letter(1, b'{"a":').to_json()["payload"] == '{"a":'
    assert letter(1, b"\xff\x00").to_json()["payload_base64"] == "/wA="


def test_row_values_that_json_lacks_become_text():
    row = {"when": NOW, "x": float("nan"), "n": None}
    assert letter(1, row).to_json()["payload_row"] == {"when": str(NOW), "x": "nan", "n": None}


def test_letters_are_read_back_in_order(tmp_path):
    letters = DeadLetters(tmp_path / "dead")
    letters.write([letter(12)], position(("0", 10, 20)), group="g")
    letters.write(
        [letter(3), letter(1, partition="1")], position(("0", 0, 10), ("1", 0, 5)), group="g"
    )
    read = [(one.partition, one.offset) for one in letters.read("g")]
    assert sorted(read) == [("0", 3), ("0", 12), ("1", 1)]
    assert read.index(("0", 3)) < read.index(("0", 12))
    assert list(letters.read()) == list(letters.read("g"))
    assert list(letters.read("other")) == []


def test_written_again_a_batch_replaces_its_file(tmp_path):
    letters = DeadLetters(tmp_path)
    first = letters.write([letter(3), letter(4)], position(("0", 0, 10)), group="g")
    again = letters.write([letter(3)], position(("0", 0, 10)), group="g")
    assert first == again
    assert [one.offset for one in letters.read("g")] == [3]


def test_retry_with_another_end_leaves_each_message_once(tmp_path):
    DeadLetters(tmp_path).write([letter(3), letter(7)], position(("0", 0, 10)), group="g")
    # Killed here. The next process reads fewer messages from the same start.
    letters = DeadLetters(tmp_path)
    for part, refused in ((("0", 0, 5), [letter(3)]), (("0", 5, 10), [letter(7)])):
        stretch = position(part)
        written = letters.write(refused, stretch, group="g")
        letters.settle(stretch, group="g", written=written)
    assert [one.offset for one in letters.read("g")] == [3, 7]
    assert _lines(tmp_path) == 2


def test_retry_that_refuses_nothing_forgets_the_first_try(tmp_path):
    DeadLetters(tmp_path).write([letter(3)], position(("0", 0, 10)), group="g")
    letters = DeadLetters(tmp_path)
    letters.settle(position(("0", 0, 10)), group="g")
    assert list(letters.read("g")) == []


def test_settling_leaves_other_stretches_and_partitions_alone(tmp_path):
    letters = DeadLetters(tmp_path)
    letters.write([letter(3)], position(("0", 0, 10)), group="g")
    letters.write([letter(0, partition="1")], position(("1", 0, 10)), group="g")
    written = letters.write([letter(12)], position(("0", 10, 20)), group="g")
    letters.settle(position(("0", 10, 20)), group="g", written=written)
    assert {(one.partition, one.offset) for one in letters.read("g")} == {
        ("0", 3),
        ("0", 12),
        ("1", 0),
    }


def test_overlapping_files_of_two_processes_give_each_message_once(tmp_path):
    letters = DeadLetters(tmp_path)
    letters.write([letter(3), letter(7)], position(("0", 0, 10)), group="g")
    letters.write([letter(3)], position(("0", 0, 5)), group="g")
    assert [one.offset for one in letters.read("g")] == [3, 7]


def test_half_written_file_is_not_seen(tmp_path):
    letters = DeadLetters(tmp_path)
    (path,) = letters.write([letter(3)], position(("0", 0, 10)), group="g")
    path.rename(path.with_name(f".{path.name}.4242"))
    assert list(letters.read("g")) == []


def test_altered_file_is_an_error_that_names_the_line(tmp_path):
    letters = DeadLetters(tmp_path)
    (path,) = letters.write([letter(3)], position(("0", 0, 10)), group="g")
    path.write_bytes(path.read_bytes() + b'{"group": "g"}\n')
    with pytest.raises(IngestError, match=r"jsonl, line 2: expected a dead letter"):
        list(letters.read("g"))


def test_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "dead").write_text("a file in the folder's place")
    with pytest.raises(IngestError, match="dead letters cannot be written"):
        DeadLetters(tmp_path / "dead").write([letter(3)], position(("0", 0, 10)), group="g")


def _lines(folder) -> int:
    return sum(len(path.read_bytes().splitlines()) for path in folder.rglob("*.jsonl"))


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_every_part_of_a_letter_is_in_its_file(tmp_path, format):
    whole = [
        replace(
            letter(1, b"\x00\x00\x00\x00\x11\xff"),
            headers=(("trace", b"\xff"), ("trace", b"2")),
            timestamp_us=1_700_000_000_000_000,
            schema="id 17",
            attempt=3,
            replayed=NOW,
        ),
        letter(2, {"a": 1, "b": [1.5, None], "c": {"d": "é"}}),
        replace(letter(3, None), key=None),
        letter(4, b""),
    ]
    letters = DeadLetters(tmp_path, format=format)
    letters.write(whole, position(("0", 0, 10)), group="g")
    assert list(DeadLetters(tmp_path).read("g")) == whole


def test_parquet_files_are_one_table_for_duckdb(tmp_path):
    letters = DeadLetters(tmp_path, format="parquet")
    letters.write([letter(1, b"{"), letter(2, {"a": 1})], position(("0", 0, 10)), group="g")
    letters.write([letter(1, b"\xff", "1")], position(("1", 0, 10)), group="g")
    rows = duckdb.sql(
        f'SELECT "partition", "offset", payload, payload_row->>\'a\', headers, attempt '
        f"FROM '{tmp_path}/g/**/*.parquet' ORDER BY ALL"
    ).fetchall()
    assert rows == [
        ("0", 1, b"{", None, [], 1),
        ("0", 2, None, "1", [], 1),
        ("1", 1, b"\xff", None, [], 1),
    ]


def test_files_of_both_formats_replace_each_other(tmp_path):
    DeadLetters(tmp_path).write([letter(3)], position(("0", 0, 10)), group="g")
    letters = DeadLetters(tmp_path, format="parquet")
    written = letters.write([letter(3)], position(("0", 0, 10)), group="g")
    letters.settle(position(("0", 0, 10)), group="g", written=written)
    assert [path.suffix for path in tmp_path.rglob("0*")] == [".parquet"]


def test_damaged_parquet_file_is_named(tmp_path):
    letters = DeadLetters(tmp_path, format="parquet")
    (path,) = letters.write([letter(3)], position(("0", 0, 10)), group="g")
    path.write_bytes(b"PAR1")
    with pytest.raises(IngestError, match=r"\.parquet: expected a dead letter"):
        list(letters.read("g"))


def test_try_that_went_past_a_stored_batch_is_forgotten(tmp_path):
    DeadLetters(tmp_path).write([letter(3), letter(7)], position(("0", 0, 10)), group="g")
    # Killed here, and again between the transaction of a shorter batch and its settling.
    DeadLetters(tmp_path).write([letter(3)], position(("0", 0, 5)), group="g")
    letters = DeadLetters(tmp_path)
    letters.settle(position(("0", 5, 10)), group="g")  # now the other one is accepted
    assert [one.offset for one in letters.read("g")] == [3]


def test_unknown_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected 'jsonl' or 'parquet', got 'csv'"):
        DeadLetters(tmp_path, format="csv")
