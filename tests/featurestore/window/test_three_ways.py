"""Windowed features: from the offline store, from tiles, and by plain loops, always the same."""

from __future__ import annotations

import datetime as dt
import math
from itertools import product

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore import (
    FeatureGroup,
    WindowedFeature,
    WindowedGroup,
    feature_definitions,
    pointintime,
)
from featurestore.digest import table_digest
from featurestore.embedded import EmbeddedStore
from featurestore.window.check import events_by_key, window_value
from featurestore.window.history import window_join

NOW_US = 1_700_000_000_000_000
AGGREGATIONS = (
    "count",
    "sum",
    "mean",
    "std",
    "min",
    "max",
    "first",
    "last",
    "approx_unique",
    "top_k",
)
SPANS = (dt.timedelta(seconds=7), dt.timedelta(minutes=2), dt.timedelta(hours=5))
SOURCE = FeatureGroup(
    "payments",
    record_identifier="payment",
    event_time="at",
    features=feature_definitions(
        [
            ("payment", "String"),
            ("at", "Fractional"),
            ("card", "String"),
            ("amount", "Fractional"),
            ("items", "Integral"),
            ("shop", "String"),
        ]
    ),
)


def windowed(name: str, by: str, spans=SPANS) -> WindowedGroup:
    features = [WindowedFeature("count", over=span) for span in spans]
    for span, (of, aggregation) in product(
        spans, product(("amount", "items", "shop"), AGGREGATIONS)
    ):
        if of == "shop" and aggregation in ("sum", "mean", "std"):
            continue
        features.append(WindowedFeature(aggregation, of=of, over=span))
    return WindowedGroup(
        name, source="payments", by=by, features=features, retention=dt.timedelta(hours=6)
    )


@pytest.fixture
def clock():
    return [NOW_US]


def opened(folder, clock) -> EmbeddedStore:
    folder.mkdir(exist_ok=True)
    return EmbeddedStore(folder, now=lambda: clock[0])


def agree(store, group: WindowedGroup, keys, times_us) -> int:
    """Compare the three ways for every key and time; return how many values were compared."""
    entry = store.windowed.get(group.name)
    windows = entry.windows
    asked = [(key, time_us) for key in keys for time_us in times_us]
    spine = pa.table(
        {
            group.by: [key for key, _ in asked],
            "event_time": pa.array([t for _, t in asked], pa.timestamp("us", "UTC")),
        }
    )
    table = store.dataset(spine, [group.name]).table
    assert in_parts(store, windows, spine, held_bytes=30_000) == table_digest(
        table.select([feature.name for feature in group.features])
    )
    dataset = table.to_pylist()
    history = events_by_key(store.history("payments").read_all(), windows)
    for (key, time_us), row in zip(asked, dataset, strict=True):
        at = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=time_us)
        online = store.get_windows(group.name, [key], at=at)[0]
        for feature in group.features:
            kind = None if feature.of is None else SOURCE.types[feature.of]
            expected = window_value(history.get(key, []), feature, time_us, kind)
            for way, value in (
                ("offline", row[feature.name]),
                ("online", online.get(feature.name)),
            ):
                same = value == expected and type(value) is type(expected)
                assert same, f"{way} {feature.name} of {key} at {time_us}: {value} not {expected}"
    return len(asked) * len(group.features)


def in_parts(store, windows, spine: pa.Table, *, held_bytes: int | None = None) -> str:
    """Join with so much of the events held; return a digest of the features, to the last bit."""
    names = [feature.name for feature in windows.group.features]
    connection = pointintime.connect(threads=1)
    try:
        rows = window_join(
            spine.rename_columns(["key", "time"]),
            store.offline_table(store.registry.get("payments")).scan(),
            windows,
            names,
            connection=connection,
            held_bytes=held_bytes,
        )
    finally:
        connection.close()
    return table_digest(rows.select(names))


AMOUNTS = st.one_of(
    st.none(),
    st.sampled_from([0.1, 0.2, -0.3, 0.0, -0.0, 1e16, 1.0, -1e16, 1e300, 1e-300, math.inf, 5e-324]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-50, 50).map(float),
)
PAYMENTS = st.fixed_dictionaries(
    {
        "payment": st.sampled_from(["p1", "p2", "p3", "p10", "ä" * 300]),
        "offset": st.one_of(
            st.integers(0, 20), st.integers(0, 400), st.integers(0, 17_000), st.just(0)
        ),
        "card": st.sampled_from([None, "A", "B"]),
        "amount": AMOUNTS,
        "items": st.one_of(st.none(), st.integers(-3, 3), st.just(2**62)),
        "shop": st.sampled_from([None, "x", "y", "z" * 40, "é"]),
    }
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), PAYMENTS),
        st.tuples(st.just("batch"), st.lists(PAYMENTS, min_size=2, max_size=6)),
        st.tuples(st.just("delete"), PAYMENTS),
        st.tuples(st.just("flush"), st.none()),
        st.tuples(st.just("create"), st.none()),
    ),
    min_size=1,
    max_size=25,
)


def record_of(drawn: dict) -> dict:
    record = {name: value for name, value in drawn.items() if name != "offset"}
    record["at"] = (NOW_US - drawn["offset"] * 1_000_000) / 1e6
    return record


@settings(deadline=None, max_examples=25)
@given(steps=STEPS)
def test_all_ways_agree(tmp_path_factory, steps):
    clock = [NOW_US]
    with opened(tmp_path_factory.mktemp("home"), clock) as store:
        store.create_feature_group(SOURCE)
        groups = [windowed("by-card", "card"), windowed("by-payment", "payment")]
        created = False
        for step, drawn in [*steps, ("create", None)]:
            clock[0] += 1
            if step == "put":
                store.put("payments", record_of(drawn))
            elif step == "batch":
                rows = [record_of(entry) for entry in drawn]
                columns = {name: [row[name] for row in rows] for name in SOURCE.feature_names}
                store.put_table("payments", pa.table(columns))
            elif step == "delete":
                at = (NOW_US - drawn["offset"] * 1_000_000) / 1e6
                store.delete("payments", drawn["payment"], event_time=at)
            elif step == "flush":
                store.flush()
            elif not created:
                created = True
                for group in groups:
                    store.create_windowed_group(group)
        offsets = {entry["offset"] for step, entry in steps if step == "put"}
        times = {NOW_US, NOW_US - 7_000_000, NOW_US - 1}
        for offset in list(offsets)[:3]:
            at = NOW_US - offset * 1_000_000
            times |= {at, at - 1, at + 1, at + 7_000_000, at + 120_000_000, at + 120_000_001}
        limit = sorted(time for time in times if time <= NOW_US + 100)
        assert agree(store, groups[0], ["A", "B", "C"], limit)
        assert agree(store, groups[1], ["p1", "p2", "ä" * 300], limit)


@pytest.mark.parametrize("by", ["card", "payment"])
def test_a_limit_of_memory_changes_no_bit(tmp_path, clock, by):
    """Keys with many events and with few, corrected ones, and rows asked all over the time."""
    random = np.random.default_rng(5)
    n, asked = 2_000, 600
    amounts = random.normal(0, 1, n) * 10.0 ** random.integers(-9, 9, n)
    offsets = random.integers(0, 5 * 3_600_000_000, n) // 1_000 * 1_000
    rows = pa.table(
        {
            "payment": [f"p{number}" for number in random.integers(0, 500, n)],
            "at": (NOW_US - offsets) / 1e6,
            "card": [f"c{min(number, 9)}" for number in random.geometric(0.3, n)],
            "amount": pa.array(amounts, mask=random.random(n) < 0.1),
            "items": random.integers(-(2**62), 2**62, n),
            "shop": [f"s{number}" for number in random.integers(0, 700, n)],
        }
    )
    keys = {"card": [None, *(f"c{number}" for number in range(12))], "payment": rows["payment"]}
    chosen = random.integers(0, 13 if by == "card" else n, asked)
    spine = pa.table(
        {
            by: pa.array(keys[by]).take(pa.array(chosen)),
            "event_time": pa.array(
                NOW_US - random.integers(0, 5 * 3_600_000_000, asked), pa.timestamp("us", "UTC")
            ),
        }
    )
    with opened(tmp_path / "home", clock) as store:
        store.create_feature_group(SOURCE)
        for part in (rows.slice(0, 1_500), rows.slice(1_500)):
            store.put_table("payments", part)
            store.flush()
        store.create_windowed_group(windowed("limited", by, SPANS[2:]))
        windows = store.windowed.get("limited").windows
        whole = in_parts(store, windows, spine)
        for held_bytes in (20_000, 400_000):
            assert in_parts(store, windows, spine, held_bytes=held_bytes) == whole
        path = tmp_path / "written.parquet"
        written = store.write_dataset(spine, ["limited"], path, memory_limit="64MB")
        assert written.fingerprint == store.dataset(spine, ["limited"]).fingerprint


def test_a_long_stream_over_every_level_of_tiles(tmp_path, clock):
    """Events of 60 days in a random order, a tenth corrected, a few on their tiles' edges."""
    random = np.random.default_rng(11)
    spans = tuple(dt.timedelta(seconds=s) for s in (1, 60, 4000, 90_000, 40 * 86_400))
    group = WindowedGroup(
        "by-card",
        source="payments",
        by="card",
        features=[
            WindowedFeature(aggregation, of=of, over=span)
            for span in spans
            for of, aggregation in (
                ("amount", "sum"),
                ("amount", "std"),
                ("items", "mean"),
                ("shop", "top_k"),
                ("shop", "approx_unique"),
                ("amount", "last"),
                ("items", "min"),
            )
        ],
        retention=dt.timedelta(days=30),
    )
    n = 3_000
    edges = NOW_US // 600_000_000 * 600_000_000
    offsets = random.integers(0, 60 * 86_400 * 1_000_000, n)
    offsets[: n // 10] = NOW_US - edges + random.integers(0, 500, n // 10) * 600_000_000
    rows = pa.table(
        {
            "payment": [f"p{number}" for number in random.integers(0, n // 2, n)],
            "at": (NOW_US - offsets) / 1e6,
            "card": random.choice(["A", "B"], n),
            "amount": random.normal(0, 1, n) * 10.0 ** random.integers(-9, 9, n),
            "items": random.integers(-5, 5, n),
            "shop": [f"shop {number}" for number in random.zipf(1.3, n) % 2_000],
        }
    )
    corrected = rows.take(pa.array(random.integers(0, n, n // 10))).to_pydict()
    corrected["card"] = random.choice(["A", "B"], n // 10).tolist()
    with opened(tmp_path / "home", clock) as store:
        store.create_feature_group(SOURCE)
        store.put_table("payments", rows.slice(0, n // 3))
        store.create_windowed_group(group)
        store.put_table("payments", rows.slice(n // 3))
        store.put_table("payments", pa.table(corrected))
        times = [NOW_US - int(offset) for offset in offsets[:20] if offset < 29 * 86_400_000_000]
        # An event that a window just leaves out, with its tile's other events in it.
        left = [time - time % 600_000_000 + 1 for time in times[:6]]
        ends = [t + span // dt.timedelta(microseconds=1) for t in left for span in spans[1:4]]
        ends = [end for end in ends if end <= NOW_US]
        store.put_table(
            "payments",
            pa.table(
                {
                    "payment": [f"edge {number}" for number in range(2 * len(left))],
                    "at": [time / 1e6 for time in left for _ in "AB"],
                    "card": ["A", "B"] * len(left),
                    "amount": [1e9] * 2 * len(left),
                    "items": [-9] * 2 * len(left),
                    "shop": ["edge"] * 2 * len(left),
                }
            ),
        )
        assert agree(store, group, ["A", "B"], [NOW_US, edges, edges + 1, *times, *ends])

        clock[0] += 20 * 86_400_000_000
        assert store.online.windows.sweep(clock[0]) > 100
        assert agree(store, group, ["A", "B"], [clock[0], NOW_US])


def test_more_unique_values_than_the_sketch_counts(tmp_path, clock):
    group = WindowedGroup(
        "by-card",
        source="payments",
        by="card",
        features=[
            WindowedFeature("approx_unique", of=of, over=dt.timedelta(days=1))
            for of in ("shop", "items", "amount")
        ],
    )
    n = 4_000
    rows = pa.table(
        {
            "payment": [f"p{number}" for number in range(n)],
            "at": [(NOW_US - number * 10_000_000) / 1e6 for number in range(n)],
            "card": ["A"] * n,
            "amount": [number / 7 for number in range(n)],
            "items": [number % 600 for number in range(n)],
            "shop": [f"shop {number % 2_000}" for number in range(n)],
        }
    )
    with opened(tmp_path / "home", clock) as store:
        store.create_feature_group(SOURCE)
        store.create_windowed_group(group)
        store.put_table("payments", rows)
        assert agree(store, group, ["A"], [NOW_US])
        found = store.get_windows("by-card", ["A"])[0]
        assert found["shop_approx_unique_1d"] == pytest.approx(2_000, rel=0.13)
        assert found["items_approx_unique_1d"] == pytest.approx(600, rel=0.13)
        assert found["amount_approx_unique_1d"] == pytest.approx(n, rel=0.13)
