"""Folders that grow: each file once, when it is whole, whatever becomes of it afterwards."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import FileSource, IngestError, Message, Pipeline, SourceNotFound, SourceUnavailable

LONG = 3600.0


@pytest.fixture
def folder(tmp_path) -> Path:
    made = tmp_path / "landing"
    made.mkdir()
    return made


@pytest.fixture
def watched(folder):
    """Make a source that has begun to watch the folder."""
    made = []

    def make(*, stored: dict[str, int] | None = None, **options: object) -> FileSource:
        settings = {"pattern": "*.csv", "settle_s": 0.0, "look_s": 0.0}
        source = FileSource(folder, watch=True, **(settings | options))  # type: ignore[arg-type]
        source.seek(lambda: dict(stored or {}))
        made.append(source)
        return source

    yield make
    for source in made:
        source.close()


def write(path: Path, *stations: int, age_s: float = LONG) -> Path:
    """Write one row for each station, and say that it was a while ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("station\n" + "".join(f"{station}\n" for station in stations))
    moment = path.stat().st_mtime - age_s
    os.utime(path, (moment, moment))
    return path


def rows(source: FileSource, limit: int = 100) -> list[int]:
    """Return the stations that a poll gives."""
    return stations_of(source.poll(limit, 0.0).messages)


def stations_of(messages: list[Message]) -> list[int]:
    return [int(message.value["station"]) for message in messages]


def test_each_new_file_is_read_once(folder, watched):
    write(folder / "a.csv", 1, 2)
    source = watched()
    assert rows(source) == [1, 2]
    assert rows(source) == []
    write(folder / "deep/er/b.csv", 3)
    write(folder / "_SUCCESS.csv", 9)
    write(folder / ".c.csv", 4)
    assert rows(source) == [3]
    (folder / ".c.csv").rename(folder / "c.csv")
    assert rows(source) == [4]
    assert rows(source) == []


def test_file_is_left_until_it_has_settled(folder, watched):
    path = write(folder / "a.csv", 1, age_s=0)
    source = watched(settle_s=LONG)
    batch = source.poll(9, 0.0)
    assert (len(batch.messages), batch.is_caught_up) == (0, False)
    write(path, 1, 2)
    batch = source.poll(9, 0.0)
    assert stations_of(batch.messages) == [1, 2]
    assert source.poll(9, 0.0).is_caught_up


def test_file_that_settles_is_measured_by_what_is_seen_of_it(folder, monkeypatch):
    from ingest.sources import folder as module

    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    path = write(folder / "a.csv", 1, age_s=-LONG)  # the file server's clock is an hour ahead
    looked = module.Folder(folder, None, 5.0)
    assert looked.look() == []
    clock[0] += 4.9
    assert looked.look() == []
    write(path, 1, 2, age_s=-LONG)
    clock[0] += 4.9
    assert looked.look() == []
    clock[0] += 5.0
    assert looked.look() == [path]
    assert looked.look() == []


def test_file_that_changes_after_it_was_read_is_another_file(folder, watched, caplog):
    path = write(folder / "a.csv", 1, 2)
    source = watched()
    assert rows(source) == [1, 2]
    write(path, 1, 2, 3)
    with caplog.at_level(logging.WARNING):
        assert rows(source) == [1, 2, 3]
    assert "has changed since it was read: it is read as another file" in caplog.text
    os.utime(path, (1, 1))  # touched, but the same
    assert rows(source) == []


def test_file_that_is_written_to_while_it_is_read_is_read_anew_when_it_is_whole(
    folder, watched, caplog
):
    path = write(folder / "a.csv", 1, 2, 3)
    source = watched()
    assert rows(source, 1) == [1]
    write(path, 1, 2, 3, 4)
    with caplog.at_level(logging.WARNING):
        assert rows(source) == [1, 2, 3, 4]
    assert "the file changed while it was read, at about row 1" in caplog.text


def test_file_that_is_replaced_or_removed_while_it_is_read_is_read_to_its_end(folder, watched):
    path = write(folder / "a.csv", 1, 2, 3)
    source = watched()
    assert rows(source, 1) == [1]
    write(folder / ".new", 7, 8).replace(path)
    assert rows(source, 2) == [2, 3]
    assert rows(source, 1) == [7]
    path.unlink()
    assert rows(source) == [8]
    assert rows(source) == []


def test_file_that_is_removed_before_it_is_read_is_passed_over(folder, watched, caplog):
    write(folder / "a.csv", 1)
    source = watched()
    (folder / "a.csv").unlink()
    write(folder / "b.csv", 2)
    with caplog.at_level(logging.WARNING):
        assert rows(source) == [2]
    assert "removed before it was read" in caplog.text
    assert source.poll(1, 0.0).is_caught_up


def test_files_of_another_kind_are_left_out_and_named_once(folder, watched, caplog):
    write(folder / "a.csv", 1)
    (folder / "b.json").write_text('{"station": 9}')
    (folder / "notes.txt").write_text("hello")
    with caplog.at_level(logging.WARNING):
        source = watched(pattern=None)
        assert rows(source) == [1]
        assert rows(source) == []
    assert len(caplog.records) == 2
    assert "notes.txt: expected a file named" in caplog.text
    assert "expected a file of the kind 'csv', got 'jsonl'" in caplog.text


def test_pattern_with_a_slash_is_for_the_path(folder, watched):
    write(folder / "in/a.csv", 1)
    write(folder / "out/b.csv", 2)
    assert rows(watched(pattern="in/*.csv")) == [1]
    assert rows(watched(pattern="[ab].csv")) == [1, 2]


def test_damaged_file_ends_the_run_or_is_left_out(folder, watched, caplog):
    def damage() -> None:
        (folder / "b.parquet").write_bytes(b"PAR1 and no more")

    pq.write_table(pa.table({"station": [1]}), folder / "a.parquet")
    pq.write_table(pa.table({"station": [3]}), folder / "c.parquet")
    source = watched(pattern="*.parquet")
    damage()
    os.utime(folder / "b.parquet", (9, 9))
    assert sorted(rows(source)) == [1, 3]
    with pytest.raises(IngestError, match=r"b\.parquet: cannot be read"):
        rows(source)
    with pytest.raises(IngestError, match=r"b\.parquet: cannot be read"):
        watched(pattern="*.parquet")
    source = watched(pattern="*.parquet", on_unreadable="skip")
    with caplog.at_level(logging.ERROR):
        assert rows(source) == [1, 3]
    assert "left out" in caplog.text
    pq.write_table(pa.table({"station": [2]}), folder / "b.parquet")
    assert rows(source) == [2]


def test_small_files_share_a_batch(folder, watched):
    for number in range(300):
        write(folder / f"{number:03d}.csv", number)
    source = watched()
    first, second = source.poll(1000, 0.0), source.poll(1000, 0.0)
    assert [len(first.position), len(second.position)] == [256, 44]
    assert stations_of([*first.messages, *second.messages]) == list(range(300))
    assert [first.is_caught_up, second.is_caught_up] == [False, True]


def test_index_spares_reading_what_is_known(folder, watched, tmp_path, monkeypatch):
    for number in range(5):
        write(folder / f"{number}.csv", number)
    index = tmp_path / "home" / "index.jsonl"
    source = watched(index=index)
    batch = source.poll(100, 0.0)
    stored = {part.partition: part.next for part in batch.position}
    rows(source)
    write(folder / "5.csv", 5)
    with index.open("a") as file:
        file.write('["a write that was cut')
    digested = _counting_digests(monkeypatch)
    again = watched(index=index, stored=stored)
    assert rows(again) == [5]
    assert len(digested) == 1
    write(folder / "3.csv", 33)
    assert rows(again) == [33]


def _counting_digests(monkeypatch) -> list[object]:
    counted: list[object] = []
    digest: Callable[..., object] = hashlib.file_digest

    def counting(file: object, name: str) -> object:
        counted.append(file)
        return digest(file, name)

    monkeypatch.setattr(hashlib, "file_digest", counting)
    return counted


def test_index_does_not_believe_a_file_that_was_written_a_moment_ago(folder, watched, tmp_path):
    index = tmp_path / "index.jsonl"
    write(folder / "a.csv", 1, age_s=0)
    assert rows(watched(index=index)) == [1]
    assert not index.exists()


def test_folder_that_is_away_for_long_is_unavailable(folder, watched, caplog):
    write(folder / "a.csv", 1)
    source, patient = watched(unavailable_timeout_s=0.0), watched()
    assert (rows(source), rows(patient)) == ([1], [1])
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(SourceUnavailable, match="check that it is mounted"):
        rows(source)
    with caplog.at_level(logging.WARNING):
        assert rows(patient) == []
    folder.with_name("elsewhere").rename(folder)
    write(folder / "b.csv", 2)
    assert rows(patient) == [2]


def test_empty_folder_asks_for_a_pattern(folder, watched, store):
    with pytest.raises(IngestError, match=r"expected a pattern.*such as '\*\.parquet'"):
        watched(pattern=None)
    source = FileSource(folder, watch=True, pattern="*.csv", settle_s=0.0)
    mapping = {"station": "id"}
    assert Pipeline(source, store, "readings", mapping=mapping).run(until_caught_up=True).read == 0


def test_only_a_folder_is_watched(folder, watched):
    path = write(folder / "a.csv", 1)
    with pytest.raises(SourceNotFound, match="expected a folder to watch, got a file"):
        FileSource(path, watch=True).seek(dict)
    shutil.rmtree(folder)
    with pytest.raises(SourceNotFound, match="expected a folder, got none"):
        watched()


@pytest.mark.parametrize(
    "option", [{"settle_s": -1.0}, {"look_s": float("nan")}, {"on_unreadable": "ignore"}]
)
def test_options_are_checked(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        FileSource("landing", watch=True, **option)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["write", "rename", "remove", "read", "restart"]),
            st.sampled_from(["a.csv", "b.csv", "deep/c.csv"]),
            st.integers(1, 9),
        ),
        max_size=14,
    )
)
def test_every_content_is_read_once_whatever_happens(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("landing")
    options = {"watch": True, "pattern": "*.csv", "settle_s": 0.0, "look_s": 0.0}
    stored: dict[str, int] = {}
    contents: dict[Path, tuple[int, ...]] = {}
    seen: set[tuple[Path, tuple[int, ...]]] = set()
    expected: list[int] = []
    got: list[int] = []
    source = FileSource(folder, **options)  # type: ignore[arg-type]
    source.seek(stored.copy)
    for number, (what, name, count) in enumerate([*steps, ("read", "a.csv", 1)]):
        path = folder / name
        if what in ("write", "rename"):
            contents[path] = tuple(range(count))
            target = path if what == "write" else path.with_name("_new")
            write(target, *contents[path])
            os.utime(target, (number + 1, number + 1))  # each write has a time of its own
            target.replace(path)
        elif what == "remove":
            path.unlink(missing_ok=True)
            contents.pop(path, None)
        elif what == "read":
            expected += [
                station
                for file in sorted(contents)
                if (file, contents[file]) not in seen
                for station in contents[file]
            ]
            seen |= set(contents.items())
            while (batch := source.poll(4, 0.0)).messages:
                got += stations_of(list(batch.messages))
                stored |= {part.partition: part.next for part in batch.position}
        else:
            source.close()
            source = FileSource(folder, **options)  # type: ignore[arg-type]
            source.seek(stored.copy)
    source.close()
    assert sorted(got) == sorted(expected)
