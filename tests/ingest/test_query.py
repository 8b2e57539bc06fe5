"""Queries: an order that is total, answers that change, columns that grow, and no side effects."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import (
    IngestError,
    Message,
    Pipeline,
    PositionLost,
    QuerySource,
    SourceChanged,
    SourceNotFound,
    SourceUnavailable,
)

SPILL = "featureline-query-"


@pytest.fixture
def database(tmp_path) -> Path:
    """A database with a table of ids and values."""
    path = tmp_path / "own.db"
    sql(path, "CREATE TABLE t (id BIGINT, v VARCHAR)")
    return path


def sql(path: Path, text: str) -> None:
    with duckdb.connect(path) as connection:
        connection.sql(text)


def insert(path: Path, *ids: int) -> None:
    sql(path, f"INSERT INTO t VALUES {', '.join(f'({n}, {n}::VARCHAR)' for n in ids)}")


def drained(
    source: QuerySource, stored: dict[str, int] | None = None, size: int = 3
) -> list[Message]:
    """Read all there is now, and note the positions in `stored`."""
    stored = {} if stored is None else stored
    source.seek(stored.copy)
    found: list[Message] = []
    try:
        while (batch := source.poll(size, 0.0)).messages:
            found += batch.messages
            stored |= {part.partition: part.next for part in batch.position}
    finally:
        source.close()
    return found


def ids(messages: list[Message]) -> list[object]:
    return [message.value["id"] for message in messages]


@pytest.mark.parametrize(
    ("change", "is_seen"),
    [
        ("INSERT INTO t VALUES (2, 'between')", True),
        ("DELETE FROM t WHERE id = 3", True),
        ("DELETE FROM t WHERE id > 1", True),
        ("INSERT INTO t VALUES (100, 'after')", False),
    ],
)
def test_answer_that_changed_in_the_stored_part_is_recognised(database, change, is_seen):
    insert(database, *range(1, 20, 2))

    def source() -> QuerySource:
        return QuerySource("SELECT * FROM t", order_by=["id"], database=database)

    begun = source()
    begun.seek(dict)
    position = begun.poll(4, 0.0).position[0]
    begun.close()
    assert (position.partition, position.next >> 24) == ("answer", 4)
    stored = {position.partition: position.next}
    sql(database, change)
    if is_seen:
        with pytest.raises(PositionLost, match="changed in the 4 rows that are stored"):
            drained(source(), stored)
    else:
        assert ids(drained(source(), stored))[0] == 9


def test_key_must_order_totally(tmp_path, store, stored, reading):
    rows = [reading(n) for n in range(6)] + [reading(5, station=1)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "r.parquet")
    text = f"FROM '{tmp_path / 'r.parquet'}'"
    with pytest.raises(IngestError, match=r"rows 5 and 6 have the same key \(sequence=5\); order"):
        Pipeline(QuerySource(text, order_by=["sequence"]), store, "readings", batch_size=2).run()
    report = Pipeline(QuerySource(text, order_by=["sequence", "station"]), store, "readings").run()
    assert report.written == 7
    with pytest.raises(IngestError, match=r"row 0 has no key \(id=None, v=1\)"):
        drained(QuerySource("SELECT NULL::INT AS id, 1 AS v", order_by=["id", "v"]))


def test_higher_values_are_read_look_by_look(database):
    insert(database, 1, 5, 3)
    source = QuerySource("FROM t -- all", increasing="id", database=database, look_s=0.0)
    stored: dict[str, int] = {}
    assert ids(drained(source, stored)) == [1, 3, 5]
    assert stored == {"increasing": 6}
    source.seek(stored.copy)
    assert source.poll(9, 0.0).is_caught_up
    insert(database, 4, 6, 9)  # 4 comes too late: the docstring says so
    assert ids(list(source.poll(9, 0.0).messages)) == [6, 9]
    source.close()


def test_rows_with_the_same_time_are_kept_together(tmp_path):
    moments = [dt.datetime(2024, 1, 1, 0, 0, n // 4, tzinfo=dt.UTC) for n in range(10)]
    table = pa.table({"id": range(10), "at": pa.array(moments, pa.timestamp("us", "UTC"))})
    pq.write_table(table, tmp_path / "t.parquet")
    text = f"FROM '{tmp_path / 't.parquet'}'"
    source = QuerySource(text, increasing="at")
    source.seek(dict)
    batches = [source.poll(5, 0.0) for _ in range(3)]
    source.close()
    assert [ids(list(batch.messages)) for batch in batches] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9],
    ]
    first_us = int(moments[0].timestamp()) * 1_000_000
    assert [part.next for batch in batches for part in batch.position] == [
        (first_us + second * 1_000_000 + 1) << 11 for second in range(3)
    ]
    offsets = [message.offset for batch in batches for message in batch.messages]
    assert len(set(offsets)) == 10
    with pytest.raises(IngestError, match="more than 3 rows share the value"):
        drained(QuerySource(text, increasing="at"))
    crowd = "SELECT range AS id, TIMESTAMPTZ '2024-01-01 00:00:00+00' AS at FROM range(2049)"
    with pytest.raises(IngestError, match="at most 2,048 rows with the same 'at'"):
        drained(QuerySource(crowd, increasing="at"), size=5000)


def test_times_that_have_not_settled_are_left_for_later():
    text = "SELECT now() - INTERVAL 1 HOUR * id AS at, id FROM (VALUES (0), (1), (3)) AS t(id)"
    assert ids(drained(QuerySource(text, increasing="at", settle_s=7000.0))) == [3]
    assert ids(drained(QuerySource(text, increasing="at"))) == [3, 1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT 'x' AS id", "expected an integer or a timestamp with a zone, .* is string"),
        ("SELECT NULL::INT AS id", "expected a value in 'id' of each row, got null"),
        ("SELECT -1 AS id", r"from 0 .*to 2\*\*63, got -1"),
        ("SELECT 7 AS id FROM range(2)", "at most 1 rows with the same 'id', got more with 7"),
        ("SELECT 1 AS idd", "no column 'id'; did you mean 'idd'"),
        ("SELECT now()::TIMESTAMP AS id", "column 'id': expected timestamps with a zone"),
        ("SELECT error('boom')::INT AS id", "DuckDB gives up: .*boom"),
        ("FROM 'absent.parquet'", "DuckDB gives up: .*absent.parquet"),
        ("SELECT $n AS id", "DuckDB gives up"),
    ],
)
def test_what_cannot_be_followed_says_why(text, message):
    with pytest.raises(IngestError, match=message):
        drained(QuerySource(text, increasing="id"))


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("DROP TABLE t", "got DROP"),
        ("INSERT INTO t VALUES (1, 'x')", "got INSERT"),
        ("COPY (SELECT 1) TO 'x.csv'", "got COPY"),
        ("ATTACH 'x.db'", "got ATTACH"),
        ("SET threads = 1", "got SET"),
        ("SELECT 1; SELECT 2", "got SELECT, SELECT"),
        ("-- nothing", "got nothing"),
        ("SELEC 1", "syntax error"),
    ],
)
def test_only_one_select_is_taken(text, got):
    with pytest.raises(IngestError, match=got):
        QuerySource(text, order_by=["id"])


def test_nothing_is_written(database, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "spill"))
    (tmp_path / "spill").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    insert(database, *range(10))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    hidden = "WITH x AS (INSERT INTO t VALUES (77, 'x') RETURNING *) SELECT * FROM x"
    with pytest.raises(IngestError, match=r"data-modifying|read-only"):
        drained(QuerySource(hidden, order_by=["id"], database=database))
    assert len(drained(QuerySource("FROM t;", order_by=["id"], database=database))) == 10
    after = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert before.keys() == after.keys()
    assert before[database] == after[database]
    assert not os.listdir(tmp_path / "spill")


def test_database_is_held_only_while_the_query_runs(database):
    insert(database, 1)
    source = QuerySource("FROM t", increasing="id", database=database, look_s=0.0)
    source.seek(dict)
    insert(database, 2)
    assert ids(list(source.poll(9, 0.0).messages)) == [1, 2]
    assert source.poll(9, 0.0).is_caught_up
    with duckdb.connect(database), pytest.raises(SourceUnavailable, match="cannot be opened"):
        source.poll(9, 0.0)
    database.unlink()
    with pytest.raises(SourceNotFound, match="no such database file"):
        source.poll(9, 0.0)


def test_columns_that_change_while_followed_end_the_run(database):
    insert(database, 1)
    source = QuerySource("FROM t", increasing="id", database=database, look_s=0.0)
    source.seek(dict)
    assert len(source.poll(9, 0.0).messages) == 1
    assert source.poll(9, 0.0).is_caught_up
    sql(database, "ALTER TABLE t ADD COLUMN w INT")
    with pytest.raises(SourceChanged, match="columns of the answer have changed"):
        source.poll(9, 0.0)


def test_name_is_of_the_text_its_parameters_and_the_order(database, tmp_path):
    made = [
        QuerySource("FROM range($n)", order_by=["range"], parameters={"n": 5}),
        QuerySource("FROM range($n)", order_by=["range"], parameters={"n": 6}),
        QuerySource("FROM range($n)", increasing="range", parameters={"n": 5}),
        QuerySource("FROM range($n) ", order_by=["range"], database=database),
        QuerySource("SELECT * FROM range($n)", order_by=["range"], parameters={"n": 5}),
    ]
    assert len({source.name for source in made}) == len(made)
    again = QuerySource("FROM range($n);\n", order_by=["range"], parameters={"n": 5})
    assert again.name == made[0].name
    assert [message.value["range"] for message in drained(again)] == list(range(5))


def test_values_are_typed(store):
    text = """
        SELECT 7::HUGEINT AS station, TIMESTAMPTZ '2024-01-01 01:00:00+01' AS time,
               sum(range) AS sequence, 1.25::DECIMAL(5, 2) AS temp, NULL::VARCHAR AS note
        FROM range(5)
    """
    Pipeline(QuerySource(text, order_by=["station"]), store, "readings").run()
    assert store.get("readings", 7) == {
        "station": 7,
        "time": "2024-01-01T00:00:00Z",
        "sequence": 10,
        "temp": 1.25,
    }


@pytest.mark.parametrize(
    "options",
    [
        {"order_by": "id"},
        {"order_by": ["id"], "increasing": "id"},
        {"order_by": []},
        {"increasing": "id", "look_s": -1.0},
        {"increasing": "id", "settle_s": -1.0},
    ],
)
def test_options_are_checked(options):
    with pytest.raises(ValueError, match=r"expected"):
        QuerySource("SELECT 1 AS id", **options)


def test_setting_that_duckdb_refuses_says_so():
    with pytest.raises(IngestError, match="refuses a setting"):
        drained(QuerySource("SELECT 1 AS id", order_by=["id"], memory_limit="lots"))


@settings(max_examples=4, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.text(max_size=3)), unique=True, max_size=12),
    st.integers(1, 5),
    st.data(),
)
def test_any_part_that_is_stored_is_recognised(tmp_path_factory, rows, size, data):
    path = tmp_path_factory.mktemp("query") / "t.parquet"
    schema = pa.schema([("a", pa.int64()), ("b", pa.string())])
    pq.write_table(pa.Table.from_pylist([{"a": a, "b": b} for a, b in rows], schema), path)
    source = QuerySource(f"FROM '{path}'", order_by=["a", "b"])
    source.seek(dict)
    whole: list[Message] = []
    places = [0]
    while (batch := source.poll(size, 0.0)).messages:
        whole += batch.messages
        places.append(batch.position[0].next)
    source.close()
    assert [(m.value["a"], m.value["b"]) for m in whole] == sorted(
        rows, key=lambda row: (row[0], row[1].encode())
    )
    at = data.draw(st.integers(0, len(places) - 1))
    stored = {} if at == 0 else {"answer": places[at]}
    assert drained(source, stored, size=4) == whole[at * size :]
