"""What every source promises: the same rows in the same order, from wherever the store stands."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from ingest import (
    Batch,
    DeltaChanges,
    FileSource,
    FlightSource,
    Message,
    Pipeline,
    QuerySource,
    Source,
    SourceNotFound,
)

ROWS = 40
FEED = {"delta.enableChangeDataFeed": "true"}


class Input(NamedTuple):
    """An input with ROWS readings; a new source reads it from the store's position on."""

    source: Callable[[], Source]
    empty: Callable[[], Source]
    gone: Callable[[], Source]


@pytest.fixture
def readings(reading) -> Callable[..., pa.Table]:
    def make(first: int, count: int) -> pa.Table:
        return pa.Table.from_pylist([reading(n) for n in range(first, first + count)])

    return make


def _files(folder: Path, readings, kind: str, *, watch: bool = False) -> Input:
    for name, tables in (("in", [readings(0, 25), readings(25, 3), readings(28, 12)]), ("no", [])):
        (folder / name).mkdir()
        for number, table in enumerate(tables or [readings(0, 0)]):
            path = folder / name / f"{number}.{kind}"
            if kind == "parquet":
                pq.write_table(table, path, row_group_size=10)
            elif kind == "csv":
                lines = [",".join(table.schema.names)]
                lines += [",".join(map(str, row.values())) for row in table.to_pylist()]
                path.write_text("\n".join(lines) if table.num_rows else "station,time\n")
            elif kind == "jsonl":
                path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
            else:
                with pa.ipc.new_file(path, table.schema) as writer:
                    writer.write_table(table, max_chunksize=10)
    options = {"watch": watch, "settle_s": 0.0}
    return Input(
        lambda: FileSource(folder / "in", **options),
        lambda: FileSource(folder / "no", **options),
        lambda: FileSource(folder / "absent", **options),
    )


def _changes(folder: Path, readings, start: int | None, *, feed: bool = False) -> Input:
    for first, count in ((0, 12), (12, 3), (15, 25)):
        write_deltalake(
            folder / "in",
            readings(first, count),
            mode="append",
            partition_by=["station"],
            configuration=FEED if feed else None,
        )
        DeltaTable(folder / "in").optimize.compact()
    if feed:
        DeltaTable(folder / "in").update({"temp": "-1.0"}, predicate="sequence < 5")
        DeltaTable(folder / "in").delete("sequence = 7")
    write_deltalake(folder / "no", readings(0, 1).slice(1))
    return Input(
        lambda: DeltaChanges(str(folder / "in"), starting_version=start),
        lambda: DeltaChanges(str(folder / "no"), starting_version=start),
        lambda: DeltaChanges(str(folder / "absent"), starting_version=start),
    )


def _query(folder: Path, readings, **order: object) -> Input:
    for name, table in (("in.db", readings(0, ROWS)), ("no.db", readings(0, 1).slice(1))):
        with duckdb.connect(folder / name) as database:
            database.register("given", table)
            database.sql("CREATE TABLE readings AS SELECT * FROM given")
    sql = (
        "SELECT *, TIMESTAMPTZ '2024-01-01 00:00:00+00' + (sequence // 3) * INTERVAL 1 SECOND "
        "AS moment FROM readings"
    )
    if "increasing" not in order or order["increasing"] != "moment":
        sql = "SELECT * FROM readings"
    return Input(
        lambda: QuerySource(sql, database=folder / "in.db", **order),  # type: ignore[arg-type]
        lambda: QuerySource(sql, database=folder / "no.db", **order),  # type: ignore[arg-type]
        lambda: QuerySource(sql, database=folder / "absent.db", **order),  # type: ignore[arg-type]
    )


INPUTS: dict[str, Callable[[Path, Callable[..., pa.Table]], Input]] = {
    "parquet": lambda folder, readings: _files(folder, readings, "parquet"),
    "csv": lambda folder, readings: _files(folder, readings, "csv"),
    "jsonl": lambda folder, readings: _files(folder, readings, "jsonl"),
    "arrow": lambda folder, readings: _files(folder, readings, "arrow"),
    "watched": lambda folder, readings: _files(folder, readings, "parquet", watch=True),
    "changes": lambda folder, readings: _changes(folder, readings, 0),
    "changes with feed": lambda folder, readings: _changes(folder, readings, 0, feed=True),
    "table as it is": lambda folder, readings: _changes(folder, readings, None),
    "query": lambda folder, readings: _query(folder, readings, order_by=["sequence"]),
    "increasing integer": lambda folder, readings: _query(folder, readings, increasing="sequence"),
    "increasing time": lambda folder, readings: _query(folder, readings, increasing="moment"),
}
# The rows that each gives; the others give the readings 0 to ROWS.
COUNTS = {"changes with feed": ROWS + 5 + 1}

# Where it takes long to connect, not every row is tried.
EVERY = {
    "changes": 3,
    "changes with feed": 4,
    "table as it is": 3,
    "query": 15,
    "increasing integer": 15,
    "increasing time": 6,
    "flight": 9,
}


@pytest.fixture(params=[*INPUTS, "flight"])
def kind(request) -> str:
    return str(request.param)


@pytest.fixture
def given_input(kind, tmp_path, readings, request) -> Input:
    if kind == "flight":
        location = request.getfixturevalue("flight_server")
        return Input(
            lambda: FlightSource(location, path=["readings"]),
            lambda: FlightSource(location, path=["empty"]),
            lambda: FlightSource(location, path=["absent"]),
        )
    folder = tmp_path / "input"
    folder.mkdir()
    return INPUTS[kind](folder, readings)


def batches_of(source: Source, stored: dict[str, int], sizes: Sequence[int]) -> list[Batch]:
    """Read all there is, in polls of the given sizes, again and again."""
    source.seek(lambda: dict(stored))
    found: list[Batch] = []
    try:
        while True:
            batch = source.poll(sizes[len(found) % len(sizes)], 0.0)
            if batch.messages:
                found.append(batch)
            if batch.is_last or (batch.is_caught_up and not batch.messages):
                return found
    finally:
        source.close()


def messages_of(batches: Sequence[Batch]) -> list[Message]:
    return [message for batch in batches for message in batch.messages]


def test_stretches_join_and_cover_their_messages_and_inputs_are_named(given_input, kind):
    stands: dict[str, int] = {}
    source = given_input.source()
    batches = batches_of(source, {}, [5])
    for batch in batches:
        assert 0 < len(batch.messages) <= 5
        places = {part.partition: part for part in batch.position}
        assert len(places) == len(batch.position)
        for part in batch.position:
            assert part.start == stands.get(part.partition, part.start)
            stands[part.partition] = part.next
        last: dict[str, int] = {}
        for message in batch.messages:
            part = places[message.partition]
            assert max(part.start, last.get(message.partition, 0)) <= message.offset < part.next
            last[message.partition] = message.offset + 1
    assert len(messages_of(batches)) == COUNTS.get(kind, ROWS)
    named = {(entity.source_uri, entity.content_hash) for entity in source.inputs()}
    assert len(named) == len(source.inputs()) > 0


def test_goes_on_from_every_row_with_the_same_messages(given_input, kind):
    batches = batches_of(given_input.source(), {}, [3 if kind == "increasing time" else 1])
    stored: dict[str, int] = {}
    for number, batch in enumerate(batches):
        stored |= {part.partition: part.next for part in batch.position}
        if number % EVERY.get(kind, 1) == 0 or number >= len(batches) - 2:
            rest = batches_of(given_input.source(), stored, [7])
            assert messages_of(rest) == messages_of(batches[number + 1 :])
            for part in rest[0].position if rest else ():
                assert part.start == stored.get(part.partition, part.start)


def test_goes_back_to_the_stored_position_when_told_to(given_input):
    source = given_input.source()
    source.seek(dict)
    first = source.poll(4, 0.0)
    source.poll(4, 0.0)
    position = {part.partition: part.next for part in first.position}
    assert messages_of([first, *batches_of(source, position, [9])]) == messages_of(
        batches_of(given_input.source(), {}, [9])
    )


def test_input_may_be_empty_but_not_absent(given_input):
    assert batches_of(given_input.empty(), {}, [3]) == []
    assert given_input.empty().inputs() == ()
    source = given_input.gone()
    with pytest.raises(SourceNotFound):
        source.seek(dict)
    assert source.name
    source.close()
    source.close()


@pytest.mark.parametrize("kind", ["watched", "query", "flight"], indirect=True)
def test_each_row_is_stored_once_over_interrupted_runs(given_input, store, stored):
    for size in (1, 4, 9):
        stop = threading.Event()
        Pipeline(given_input.source(), store, "readings", batch_size=size).run(
            until_caught_up=True, stop=stop, on_progress=lambda report, stop=stop: stop.set()
        )
    Pipeline(given_input.source(), store, "readings").run(until_caught_up=True)
    assert stored() == list(range(ROWS))
