"""The point-in-time rule: named cases, and the naive double loop as the judge of random ones."""

from __future__ import annotations

import datetime as dt
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore import (
    FeatureGroup,
    feature_definitions,
    historyfiles,
    narrowjoin,
    pointintime,
)
from featurestore.convert import ARROW_TYPES, offline_schema
from featurestore.errors import InvalidSpine
from featurestore.eventtime import MAX_US, MIN_US
from featurestore.offline import FileStatistics, Snapshot
from featurestore.offline.files import ORDER_KEY, order_of
from featurestore.offline.rewrite import _arranged
from featurestore.pointintime import as_of_join, connect, spine_keys, spine_times
from featurestore.workers import Workers

UTC = dt.UTC
TIME = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class Version:
    """One row of a history."""

    key: object
    event_time: int
    value: int | None = None
    write_time: int = 0
    is_deleted: bool = False


def history_table(group: FeatureGroup, versions: list[Version]) -> pa.Table:
    columns: dict[str, list[object]] = {name: [] for name in offline_schema(group).names}
    for sequence, version in enumerate(versions):
        row = {
            group.record_identifier: version.key,
            "value": version.value,
            "_event_time": version.event_time,
            "write_time": version.write_time,
            "is_deleted": version.is_deleted,
            "_sequence": sequence,
        }
        for name, column in columns.items():
            column.append(row.get(name))
    return pa.table(
        {
            field.name: pa.array(columns[field.name], pa.int64()).cast(TIME)
            if field.type == TIME
            else pa.array(columns[field.name], field.type)
            for field in offline_schema(group)
        }
    )


def snapshot_of(folder: Path, *tables: pa.Table) -> Snapshot:
    files = []
    for table in tables:
        files.append(str(folder / f"{len(list(folder.iterdir()))}.parquet"))
        pq.write_table(table, files[-1], row_group_size=7 if len(table) < 100 else 2_000)
    names = dict.fromkeys(name for table in tables for name in table.schema.names)
    known = tuple(FileStatistics(len(table), 1) for table in tables)
    return Snapshot(str(folder), 0, tuple(files), tuple(names), known)


@pytest.fixture(scope="module", autouse=True, params=["narrow", "sql", "sql of few"])
def engine(request):
    """Make every test with each of the ways to join."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pointintime, "_FEW", 2.0 if request.param == "sql of few" else -1.0)
        # Several lots, and several batches of one, out of a few rows.
        patch.setattr(narrowjoin, "_LOT_ROWS", 4)
        patch.setattr(narrowjoin, "_LARGEST_LOT", 8)
        patch.setattr(narrowjoin, "_TIES_HELD", 3)
        patch.setattr(narrowjoin, "_ROWS_TO_RANK", 1)
        patch.setattr(historyfiles, "_WHOLE_ROWS", 5)
        patch.setattr(historyfiles, "_BATCH_ROWS", 3)
        patch.setattr(historyfiles, "_KEPT_OPEN", 1)
        yield request.param


@pytest.fixture(scope="module")
def group(make_group):
    return make_group("g", [("id", "String"), ("t", "String"), ("value", "Integral")])


@pytest.fixture(scope="module")
def connection(engine):
    if engine == "narrow":
        yield None
        return
    with connect(threads=2) as opened:
        yield opened


@pytest.fixture
def join(tmp_path, group, connection):
    """Join (key, time) rows with a history; give [(value, event time)]."""

    def run(versions, rows, *, of=group, features=("value",), **options):
        snapshot = snapshot_of(tmp_path, history_table(of, versions))
        spine = pa.table(
            {
                "key": pa.array([key for key, _ in rows], ARROW_TYPES[of.features[0].type]),
                "time": pa.array([time for _, time in rows], pa.int64()).cast(TIME),
            }
        )
        joined = as_of_join(spine, snapshot, of, features, connection=connection, **options)
        times = joined["_event_time"].cast(pa.int64()).to_pylist()
        return list(zip(joined["value"].to_pylist(), times, strict=True))

    return run


NOTHING = (None, None)
HISTORY = [Version("a", 10, 1), Version("a", 20, 2), Version("b", 15, 9)]


# -- the named cases --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "seen"),
    [
        pytest.param(("a", 9), NOTHING, id="before the first value"),
        pytest.param(("a", 10), (1, 10), id="exactly at the first value"),
        pytest.param(("a", 11), (1, 10), id="between two values"),
        pytest.param(("a", 19), (1, 10), id="1 µs before a value"),
        pytest.param(("a", 20), (2, 20), id="exactly at a value"),
        pytest.param(("a", 10**15), (2, 20), id="after the last value"),
        pytest.param(("b", 20), (9, 15), id="another identifier"),
        pytest.param(("c", 20), NOTHING, id="an unknown identifier"),
        pytest.param((None, 20), NOTHING, id="a null identifier"),
        pytest.param(("", 20), NOTHING, id="an empty identifier"),
    ],
)
def test_what_a_row_sees(join, row, seen):
    assert join(HISTORY, [row]) == [seen]


@pytest.mark.parametrize(
    ("age", "seen"),
    [
        pytest.param(5, (1, 10), id="exactly at the maximum age"),
        pytest.param(4, NOTHING, id="1 µs beyond the maximum age"),
        pytest.param(6, (1, 10), id="within the maximum age"),
        pytest.param(10**15, (1, 10), id="any age"),
    ],
)
def test_the_maximum_age_is_inclusive(join, age, seen):
    assert join(HISTORY, [("a", 15)], lookback_us=age) == [seen]


def test_a_maximum_age_of_zero_sees_only_the_moment_itself(join):
    assert join(HISTORY, [("a", 10), ("a", 11)], lookback_us=0) == [(1, 10), NOTHING]


def test_a_delete_hides_older_values_that_the_maximum_age_would_show(join):
    versions = [Version("a", 10, 1), Version("a", 12, is_deleted=True)]
    assert join(versions, [("a", 13)], lookback_us=100) == [NOTHING]


def test_a_tie_in_event_time_goes_to_the_later_write_time(join):
    versions = [Version("a", 10, 1, write_time=7), Version("a", 10, 2, write_time=5)]
    assert join(versions, [("a", 10)]) == [(1, 10)]


def test_a_tie_in_both_times_goes_to_the_later_sequence(join):
    versions = [Version("a", 10, 1), Version("a", 10, 2), Version("a", 9, 3)]
    assert join(versions, [("a", 10)]) == [(2, 10)]


@pytest.mark.parametrize("marker_first", [True, False])
@pytest.mark.parametrize("marker_write_time", [1, 2, 3])
def test_a_tie_of_record_and_marker_goes_to_the_record(join, marker_first, marker_write_time):
    record = Version("a", 10, 1, write_time=2)
    marker = Version("a", 10, is_deleted=True, write_time=marker_write_time)
    versions = [marker, record] if marker_first else [record, marker]
    assert join(versions, [("a", 10)]) == [(1, 10)]


def test_after_a_delete_nothing_is_known_until_the_next_record(join):
    versions = [
        Version("a", 10, 1),
        Version("a", 20, is_deleted=True),
        Version("a", 30, 3),
    ]
    rows = [("a", 19), ("a", 20), ("a", 29), ("a", 30)]
    assert join(versions, rows) == [(1, 10), NOTHING, NOTHING, (3, 30)]


def test_a_null_value_is_the_newest_version_all_the_same(join):
    versions = [Version("a", 10, 1), Version("a", 20, None)]
    assert join(versions, [("a", 25)]) == [(None, 20)]


def test_equal_spine_rows_stay_rows_and_the_order_is_the_spines(join):
    rows = [("b", 20), ("a", 15), ("a", 15), ("c", 1), ("a", 5), ("a", 15)]
    assert join(HISTORY, rows) == [(9, 15), (1, 10), (1, 10), NOTHING, NOTHING, (1, 10)]


@pytest.mark.parametrize("rows", [[], [("a", 15)]])
def test_tables_of_no_and_of_one_row(join, rows):
    assert join(HISTORY, rows) == [(1, 10)] * len(rows)
    assert join([], rows) == [NOTHING] * len(rows)


def test_only_null_keys(join):
    assert join(HISTORY, [(None, 15), (None, 16)]) == [NOTHING, NOTHING]


def test_as_known_at_a_write_time(join):
    versions = [
        Version("a", 10, 1, write_time=100),
        Version("a", 10, 2, write_time=200),  # a correction that came later
        Version("a", 5, 3, write_time=300),
    ]
    asked = [("a", 10), ("a", 9)]
    assert join(versions, asked, as_of_us=99) == [NOTHING, NOTHING]
    assert join(versions, asked, as_of_us=100) == [(1, 10), NOTHING]
    assert join(versions, asked, as_of_us=199) == [(1, 10), NOTHING]
    assert join(versions, asked, as_of_us=200) == [(2, 10), NOTHING]
    assert join(versions, asked, as_of_us=300) == [(2, 10), (3, 5)]
    assert join(versions, asked) == [(2, 10), (3, 5)]


def test_times_before_the_epoch_and_at_the_ends_of_time(join):
    versions = [Version("a", MIN_US, 1), Version("a", -5, 2), Version("a", MAX_US, 3)]
    rows = [("a", MIN_US), ("a", -6), ("a", -5), ("a", 0), ("a", MAX_US - 1), ("a", MAX_US)]
    assert [value for value, _ in join(versions, rows)] == [1, 1, 2, 2, 2, 3]


# -- identifiers of other types ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "keys"),
    [("Integral", [2**63 - 1, -(2**63), 0]), ("Fractional", [1.5, -1e300, 0.0])],
)
def test_number_identifiers(join, make_group, kind, keys):
    of = make_group("n", [("id", kind), ("t", "Fractional"), ("value", "Integral")])
    versions = [Version(key, 10, i) for i, key in enumerate(keys)]
    rows = [*((key, 10) for key in keys), (keys[0], 9), (None, 10)]
    assert join(versions, rows, of=of) == [(0, 10), (1, 10), (2, 10), NOTHING, NOTHING]


def test_minus_zero_is_the_identifier_zero(make_group):
    of = make_group("n", [("id", "Fractional"), ("t", "String")])
    keys = spine_keys(pa.table({"k": [-0.0, 0.0, None]}), "k", of)
    assert [repr(key) for key in keys.to_pylist()] == ["0.0", "0.0", "None"]


# -- features ---------------------------------------------------------------------------------


def test_a_feature_added_later_is_null_before(tmp_path, group, connection):
    wide = group.with_features(feature_definitions([("later", "Fractional"), ("text", "String")]))
    old = history_table(group, [Version("a", 10, 1)])
    new = history_table(wide, [Version("a", 20, 2)])
    new = new.set_column(new.schema.get_field_index("later"), "later", pa.array([2.5]))
    spine = pa.table({"key": ["a", "a"], "time": pa.array([15, 25], pa.int64()).cast(TIME)})
    features = ("later", "value", "text")

    only_old = snapshot_of(tmp_path, old)
    joined = as_of_join(spine, only_old, wide, features, connection=connection)
    assert joined["later"].to_pylist() == [None, None]
    assert joined.schema.types == [pa.float64(), pa.int64(), pa.string(), TIME]

    both = snapshot_of(tmp_path, old, new)
    joined = as_of_join(spine, both, wide, features, connection=connection)
    assert joined["later"].to_pylist() == [None, 2.5]
    assert joined["value"].to_pylist() == [1, 2]
    assert joined["text"].to_pylist() == [None, None]


AWKWARD = [
    "time", "key", "t", "s", "h", "j", "v", "spine", "history", "joined", "visible", "row",
    "select", "order", "group", "files", "lookback", "a-b", "0", "NULL", "row_number", "max",
]  # fmt: skip


def test_a_feature_may_have_any_name(tmp_path, make_group, connection):
    of = make_group("g", [("id", "String"), ("at", "String"), *((n, "String") for n in AWKWARD)])
    table = history_table(of, [Version("a", 10), Version("b", 10)])
    for name in AWKWARD:
        table = table.set_column(
            table.schema.get_field_index(name), name, pa.array([f"{name} of a", f"{name} of b"])
        )
    spine = pa.table({"key": ["b", "a"], "time": pa.array([20, 20], pa.int64()).cast(TIME)})
    joined = as_of_join(
        spine, snapshot_of(tmp_path, table), of, AWKWARD, lookback_us=50, connection=connection
    )
    assert joined.schema.names == [*AWKWARD, "_event_time"]
    for name in AWKWARD:
        assert joined[name].to_pylist() == [f"{name} of b", f"{name} of a"]


def test_identifier_and_event_time_may_be_asked_for_as_features(tmp_path, make_group, connection):
    of = make_group("g", [("key", "String"), ("time", "String"), ("value", "Integral")])
    table = history_table(of, [Version("a", 10, 1)])
    table = table.set_column(table.schema.get_field_index("time"), "time", pa.array(["then"]))
    spine = pa.table({"key": ["a", "b"], "time": pa.array([20, 20], pa.int64()).cast(TIME)})
    joined = as_of_join(
        spine, snapshot_of(tmp_path, table), of, ("time", "key"), connection=connection
    )
    assert joined.select(["time", "key"]).to_pylist() == [
        {"time": "then", "key": "a"},
        {"time": None, "key": None},
    ]


def test_nothing_was_ever_written(group, connection):
    spine = pa.table({"key": ["a"], "time": pa.array([20], pa.int64()).cast(TIME)})
    for snapshot in (None, Snapshot("uri", 3, (), ())):
        joined = as_of_join(spine, snapshot, group, ("value",), connection=connection)
        assert joined.to_pylist() == [{"value": None, "_event_time": None}]
        assert joined.schema.types == [pa.int64(), TIME]


# -- against the naive double loop ------------------------------------------------------------


def naive(
    versions: list[Version], key: object, time: int, lookback: int | None, as_of: int | None
) -> tuple[int | None, int | None]:
    """Look at every version; remember the one that counts."""
    best: tuple[tuple[int, bool, int, int], Version] | None = None
    for sequence, version in enumerate(versions):
        if key is None or version.key != key or version.event_time > time:
            continue
        if as_of is not None and version.write_time > as_of:
            continue
        rank = (version.event_time, not version.is_deleted, version.write_time, sequence)
        if best is None or rank > best[0]:
            best = (rank, version)
    if best is None or best[1].is_deleted:
        return NOTHING
    if lookback is not None and time - best[1].event_time > lookback:
        return NOTHING
    return best[1].value, best[1].event_time


keys = st.sampled_from(["a", "b", "c"])
versions = st.builds(
    Version,
    key=keys,
    event_time=st.integers(0, 6),
    value=st.none() | st.integers(0, 99),
    write_time=st.integers(0, 3),
    is_deleted=st.sampled_from([False, False, True]),
)


@settings(max_examples=150)
@given(
    history=st.lists(versions, max_size=25),
    cut=st.integers(0, 25),
    rows=st.lists(st.tuples(keys | st.none(), st.integers(-1, 8)), max_size=15),
    lookback=st.none() | st.integers(0, 6),
    as_of=st.none() | st.integers(-1, 3),
)
def test_the_join_equals_the_naive_double_loop(
    group, connection, history, cut, rows, lookback, as_of
):
    history = [
        Version(v.key, v.event_time, None if v.is_deleted else v.value, v.write_time, v.is_deleted)
        for v in history
    ]
    table = history_table(group, history)
    spine = pa.table(
        {
            "key": pa.array([key for key, _ in rows], pa.string()),
            "time": pa.array([time for _, time in rows], pa.int64()).cast(TIME),
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        snapshot = snapshot_of(Path(folder), table.slice(0, cut), table.slice(cut))
        joined = as_of_join(
            spine,
            snapshot,
            group,
            ("value",),
            lookback_us=lookback,
            as_of_us=as_of,
            connection=connection,
        )
    got = list(
        zip(
            joined["value"].to_pylist(),
            joined["_event_time"].cast(pa.int64()).to_pylist(),
            strict=True,
        )
    )
    assert got == [naive(history, key, time, lookback, as_of) for key, time in rows]


kinds = st.sampled_from(["in any order", "sorted", "sorted", "said to be sorted"])


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    files=st.lists(st.tuples(kinds, st.integers(1, 25)), min_size=1, max_size=6),
    lookback=st.none() | st.integers(0, 6),
    as_of=st.none() | st.integers(-1, 3),
)
def test_sorted_files_and_others_mixed(group, connection, seed, files, lookback, as_of):
    """And such that only say so: as the naive double loop has it."""
    chance = np.random.default_rng(seed)
    names = np.array(["a", "b", "c", "d"])

    def version() -> Version:
        key, is_deleted = str(chance.choice(names[1:])), bool(chance.random() < 0.2)
        time, value, written = map(int, chance.integers(0, [9, 99, 4]))
        return Version(key, time, None if is_deleted else value, written, is_deleted)

    history = [version() for _ in range(sum(size for _, size in files))]
    table = history_table(group, history)
    tables, start = [], 0
    for kind, size in files:
        part = table.slice(start, size)
        start += size
        if kind == "sorted":
            part = _arranged(part, "id")
        if kind != "in any order":
            part = part.replace_schema_metadata({ORDER_KEY: order_of("id")})
        tables.append(part)
    rows = [(str(chance.choice(names)), int(chance.integers(-1, 11))) for _ in range(12)]
    spine = pa.table(
        {
            "key": [key for key, _ in rows],
            "time": pa.array([time for _, time in rows], pa.int64()).cast(TIME),
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        joined = as_of_join(
            spine,
            snapshot_of(Path(folder), *tables),
            group,
            ("value",),
            lookback_us=lookback,
            as_of_us=as_of,
            connection=connection,
        )
    times = joined["_event_time"].cast(pa.int64()).to_pylist()
    assert list(zip(joined["value"].to_pylist(), times, strict=True)) == [
        naive(history, key, time, lookback, as_of) for key, time in rows
    ]


def test_it_agrees_with_pandas_merge_asof(tmp_path, group, connection):
    chance = np.random.default_rng(5)
    n, m = 3_000, 1_000
    history = pd.DataFrame(
        {"key": chance.integers(0, 50, n), "time": chance.permutation(100_000)[:n]}
    )
    history["value"] = np.arange(n)
    spine = pd.DataFrame({"key": chance.integers(0, 60, m), "time": chance.integers(0, 100_000, m)})
    expected = (
        pd.merge_asof(
            spine.reset_index().sort_values("time"),
            history.sort_values("time"),
            on="time",
            by="key",
            tolerance=20_000,
        )
        .sort_values("index")["value"]
        .astype("Int64")
    )
    table = history_table(
        group,
        [Version(f"k{row.key}", row.time, row.value) for row in history.itertuples(index=False)],
    )
    rows = pa.table(
        {
            "key": [f"k{key}" for key in spine["key"]],
            "time": pa.array(spine["time"], pa.int64()).cast(TIME),
        }
    )
    joined = as_of_join(
        rows,
        snapshot_of(tmp_path, table),
        group,
        ("value",),
        lookback_us=20_000,
        connection=connection,
    )
    assert joined["value"].to_pylist() == [
        None if value is pd.NA else int(value) for value in expected
    ]


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_the_number_of_threads_does_not_show(tmp_path, group, engine, threads, monkeypatch):
    monkeypatch.setattr(historyfiles, "_BATCH_ROWS", 500)
    monkeypatch.setattr(narrowjoin, "_TIES_HELD", 1_000)
    chance = np.random.default_rng(7)
    n = 20_000
    table = history_table(
        group,
        [
            Version(f"k{k}", int(t), int(t) * 7, int(w), bool(d))
            for k, t, w, d in zip(
                chance.integers(0, 100, n),
                chance.integers(0, 500, n),
                chance.integers(0, 3, n),
                chance.random(n) < 0.1,
                strict=True,
            )
        ],
    )
    spine = pa.table(
        {
            "key": [f"k{k}" for k in chance.integers(0, 120, 5000)],
            "time": pa.array(chance.integers(0, 600, 5000)).cast(TIME),
        }
    )
    snapshot = snapshot_of(tmp_path, *(table.slice(start, 2500) for start in range(0, n, 2500)))

    def join(workers: Workers) -> pa.Table:
        with nullcontext() if engine == "narrow" else connect(threads=workers.threads) as opened:
            return as_of_join(
                spine, snapshot, group, ("value",), connection=opened, workers=workers
            )

    with Workers(1) as one, Workers(threads) as many:
        expected = join(one)
        for _ in range(2):
            assert join(many).equals(expected)


# -- the spine's columns ----------------------------------------------------------------------


def times_of(array: pa.Array) -> list[int]:
    times = spine_times(pa.table({"t": array}), "t")
    assert times.type == TIME
    return times.cast(pa.int64()).to_pylist()


@pytest.mark.parametrize(
    ("kind", "counts", "us"),
    [
        (pa.timestamp("s", "UTC"), [2, -1], [2_000_000, -1_000_000]),
        (pa.timestamp("ms", "UTC"), [2], [2_000]),
        (pa.timestamp("us", "UTC"), [2], [2]),
        (pa.timestamp("us", "America/New_York"), [2], [2]),
        # Finer than ours: floored, before the epoch too.
        (pa.timestamp("ns", "UTC"), [1_999, 2_000, -1, -1_000, -1_001], [1, 2, -1, -1, -2]),
        (pa.timestamp("ns", "Europe/Berlin"), [1_999], [1]),
    ],
)
def test_timestamps_of_any_unit_and_zone(kind, counts, us):
    assert times_of(pa.array(counts, pa.int64()).cast(kind)) == us


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_times_as_text(kind):
    texts = ["1970-01-01T00:00:01Z", "1970-01-01T01:00:00.0000019+01:00", "0000-01-01T00:00:00Z"]
    assert times_of(pa.array(texts, kind)) == [1_000_000, 1, -62_167_219_200_000_000]


def test_times_in_a_dictionary_and_in_chunks():
    texts = pa.chunked_array([["1970-01-01T00:00:01Z"], ["1970-01-01T00:00:02Z"]])
    assert times_of(texts.dictionary_encode()) == [1_000_000, 2_000_000]
    assert times_of(pa.chunked_array([], TIME)) == []


def test_times_of_pandas():
    stamps = pd.Series(pd.to_datetime(["1970-01-01T00:00:00.0000015Z"], format="ISO8601"))
    assert times_of(pa.array(stamps.astype("datetime64[ns, UTC]"))) == [1]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            pa.array([1], pa.timestamp("us")),
            r"expected timestamps with a zone, got timestamp\[us\]",
        ),
        (pa.array([1], pa.timestamp("ns")), r"casting to timestamp\[us, UTC\]"),
        (pa.array([1]), "expected timestamps with a zone or ISO-8601 text, got int64"),
        (pa.array([1.5]), "got double"),
        (pa.array([dt.date(2024, 1, 1)]), "got date32"),
        (pa.nulls(1), "got null"),
        (pa.array([5, None], TIME), "row 1: expected a time, got null"),
        (pa.array([5, None], pa.timestamp("ns", "UTC")), "row 1: expected a time, got null"),
        (pa.array(["1970-01-01T00:00:01Z", None]), "row 1: expected a time, got null"),
        (
            pa.array(["1970-01-01T00:00:01Z", "1970-01-01"]),
            "row 1: expected ISO-8601 text with a zone, .* got '1970-01-01'",
        ),
        (pa.array(["1970-01-01T00:00:01"]), "row 0: expected ISO-8601 text with a zone"),
    ],
)
def test_other_times_are_refused_with_their_place(array, message):
    with pytest.raises(InvalidSpine, match=f"spine column 't'.*{message}"):
        times_of(array)


def test_a_column_that_is_missing_is_named_with_the_nearest(group):
    spine = pa.table({"event_tim": [1], "id": ["a"]})
    with pytest.raises(
        InvalidSpine,
        match="the spine has no column 'event_time' for the time; it has 'event_tim', 'id'; "
        "did you mean 'event_tim'",
    ):
        spine_times(spine, "event_time")
    with pytest.raises(InvalidSpine, match="no column 'key' for the record identifier of 'g'"):
        spine_keys(spine, "key", group)


@pytest.mark.parametrize(
    ("kind", "array", "keys"),
    [
        ("String", pa.array(["a", None]), ["a", None]),
        ("String", pa.array(["a", None], pa.large_string()), ["a", None]),
        ("String", pa.array(["a", None]).dictionary_encode(), ["a", None]),
        ("Integral", pa.array([1, None], pa.int8()), [1, None]),
        ("Integral", pa.array([2**63 - 1], pa.uint64()), [2**63 - 1]),
        ("Fractional", pa.array([1.5, None], pa.float32()), [1.5, None]),
        ("Fractional", pa.array([1, 2]), [1.0, 2.0]),
        ("String", pa.nulls(2), [None, None]),
        ("Integral", pa.nulls(2), [None, None]),
        ("Fractional", pa.nulls(2), [None, None]),
    ],
)
def test_keys_take_the_type_of_the_record_identifier(make_group, kind, array, keys):
    of = make_group("g", [("id", kind), ("t", "String")])
    got = spine_keys(pa.table({"k": array}), "k", of)
    assert got.type == ARROW_TYPES[of.feature_type("id")]
    assert got.to_pylist() == keys


@pytest.mark.parametrize(
    ("kind", "array"),
    [
        ("String", pa.array([1])),
        ("Integral", pa.array(["1"])),
        ("Integral", pa.array([1.0])),
        ("Fractional", pa.array(["1"])),
        ("String", pa.array([b"a"])),
        ("Integral", pa.array([True])),
    ],
)
def test_keys_of_another_type_are_refused(make_group, kind, array):
    of = make_group("g", [("id", kind), ("t", "String")])
    with pytest.raises(InvalidSpine, match=f"expected {kind} like the record identifier g.id, got"):
        spine_keys(pa.table({"k": array}), "k", of)


@pytest.mark.parametrize(
    ("kind", "array"),
    [("Integral", pa.array([2**63], pa.uint64())), ("Fractional", pa.array([2**53 + 1]))],
)
def test_keys_that_their_type_cannot_hold_are_refused(make_group, kind, array):
    of = make_group("g", [("id", kind), ("t", "String")])
    with pytest.raises(InvalidSpine, match="spine column 'k': expected"):
        spine_keys(pa.table({"k": array}), "k", of)


def test_times_that_microseconds_cannot_hold_are_refused():
    with pytest.raises(InvalidSpine, match="spine column 't': expected timestamp"):
        times_of(pa.array([2**62], pa.timestamp("s", "UTC")))
