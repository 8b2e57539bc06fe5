"""Splits leak nothing: no group in two parts, no later time in train than in test."""

from __future__ import annotations

import datetime as dt
import itertools
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore import Dataset, InvalidRequest

START_US = 1_704_067_200_000_000
TIME = pa.timestamp("us", "UTC")
SECOND = dt.timedelta(seconds=1)


def dataset_of(keys, seconds, labels=None):
    n = len(keys)
    times = [START_US + second * 1_000_000 for second in seconds]
    table = pa.table(
        {
            "user": pa.array(keys, pa.string()),
            "event_time": pa.array(times, pa.int64()).cast(TIME),
            "label": pa.array(labels if labels is not None else [0] * n, pa.int64()),
            "number": pa.array(list(range(n)), pa.int64()),
        }
    )
    manifest = {"fingerprint": "f" * 64, "time": "event_time", "keys": ["user"]}
    return Dataset(table, manifest)


def seconds_of(part):
    times = part.table["event_time"].cast(pa.int64()).to_pylist()
    return [(us - START_US) // 1_000_000 for us in times]


KEYS = st.none() | st.sampled_from("abcdefgh")
ROWS = st.lists(st.tuples(KEYS, st.integers(0, 40), st.integers(0, 2)), max_size=60)
SHARES = st.lists(st.integers(1, 9), min_size=2, max_size=4).map(
    lambda weights: {f"p{i}": w / sum(weights) for i, w in enumerate(weights)}
)


def drawn(rows):
    return (
        dataset_of(*(list(column) for column in zip(*rows, strict=True)))
        if rows
        else dataset_of([], [])
    )


@given(rows=ROWS, shares=SHARES, gap=st.integers(0, 5))
def test_time_parts_follow_one_another(rows, shares, gap):
    whole = drawn(rows)
    parts = list(whole.split_by_time(shares, gap=gap * SECOND).values())
    for earlier, later in itertools.pairwise(parts):
        before, after = seconds_of(earlier), seconds_of(later)
        assert not before or not after or max(before) + gap < min(after)
    numbers = [n for part in parts for n in part.table["number"].to_pylist()]
    assert len(numbers) == len(set(numbers))
    if gap == 0:
        assert sorted(numbers) == list(range(len(rows)))


def test_time_shares_and_cuts():
    whole = dataset_of(["a"] * 10, [9, 3, 1, 0, 2, 4, 8, 7, 6, 5])
    parts = whole.split_by_time({"train": 0.6, "validation": 0.2, "test": 0.2})
    assert [sorted(seconds_of(part)) for part in parts.values()] == [
        *([0, 1, 2, 3, 4, 5], [6, 7], [8, 9])
    ]
    assert seconds_of(parts["train"]) == [3, 1, 0, 2, 4, 5], "the order of rows stays"
    cut = dt.datetime(2024, 1, 1, 0, 0, 4, tzinfo=dt.UTC)
    cutted = whole.split_by_time(cuts=[cut], gap=2 * SECOND)
    assert sorted(seconds_of(cutted["train"])) == [0, 1, 2, 3]
    assert sorted(seconds_of(cutted["test"])) == [6, 7, 8, 9]
    assert cutted["test"].manifest["part"]["split"]["cuts"] == ["2024-01-01T00:00:04Z"]
    tied = dataset_of(["a"] * 4, [1, 1, 1, 1]).split_by_time()
    assert [len(part) for part in tied.values()] == [0, 4]


@given(rows=ROWS, shares=SHARES, seed=st.integers(0, 3), order=st.randoms())
def test_groups_are_in_one_part_whatever_the_order_of_rows(rows, shares, seed, order):
    parts = drawn(rows).split_by_group("user", shares, seed=seed)
    users = [set(part.table["user"].to_pylist()) for part in parts.values()]
    assert sum(map(len, users)) == len(set().union(*users))
    assert sum(map(len, parts.values())) == len(rows)

    order.shuffle(rows)
    more = drawn([*rows, ("new", 1, 1)]).split_by_group("user", shares, seed=seed)
    for name, part in more.items():
        again = set(part.table["user"].to_pylist()) - {"new"}
        assert again == users[list(parts).index(name)]


def test_group_shares_come_out_and_the_seed_matters():
    whole = dataset_of([f"user-{i}" for i in range(4000)], [0] * 4000)
    sizes = {name: len(part) for name, part in whole.split_by_group("user").items()}
    assert sizes["train"] == pytest.approx(3200, abs=100)
    one, other = (whole.split_by_group("user", seed=seed)["test"] for seed in (0, 1))
    assert not one.table.equals(other.table)
    as_numbers = [
        Dataset(
            whole.table.append_column("id", pa.array(np.arange(4000)).cast(kind)), whole.manifest
        )
        .split_by_group("id")["test"]
        .table["number"]
        for kind in (pa.int64(), pa.int16(), pa.uint32())
    ]
    assert as_numbers[0].equals(as_numbers[1])
    assert as_numbers[0].equals(as_numbers[2])


@given(rows=ROWS, shares=SHARES, grouped=st.booleans(), order=st.randoms())
def test_stratified_parts_tear_no_group_and_do_not_depend_on_the_order(
    rows, shares, grouped, order
):
    group = "user" if grouped else None
    parts = drawn(rows).split_stratified("label", shares, group=group)

    def units(part):
        columns = ["user"] if grouped else ["user", "event_time"]
        return Counter(tuple(row.values()) for row in part.table.select(columns).to_pylist())

    held = [set(units(part)) for part in parts.values()]
    assert sum(map(len, held)) == len(set().union(*held))
    assert sum(map(len, parts.values())) == len(rows)
    order.shuffle(rows)
    again = drawn(rows).split_stratified("label", shares, group=group)
    assert [units(part) for part in again.values()] == [units(part) for part in parts.values()]


def test_each_stratum_has_its_share_in_every_part():
    labels = [1 if i % 10 == 0 else 0 for i in range(1000)]
    whole = dataset_of([f"u{i}" for i in range(1000)], [0] * 1000, labels)
    parts = whole.split_stratified("label", {"train": 0.7, "validation": 0.1, "test": 0.2})
    for part, ones, zeros in zip(parts.values(), (70, 10, 20), (630, 90, 180), strict=True):
        counts = Counter(part.table["label"].to_pylist())
        assert (counts[1], counts[0]) == (ones, zeros)


@given(rows=ROWS, folds=st.integers(2, 5), gap=st.integers(0, 5))
def test_time_folds_train_on_the_past(rows, folds, gap):
    made = drawn(rows).folds_by_time(folds, gap=gap * SECOND)
    assert len(made) == folds
    tested = []
    for train, test in made:
        if len(train) and len(test):
            assert max(seconds_of(train)) < min(seconds_of(test)) - gap or gap == 0
            assert max(seconds_of(train)) < min(seconds_of(test))
        tested.extend(test.table["number"].to_pylist())
    assert len(tested) == len(set(tested))


def test_time_folds_grow():
    made = dataset_of(["a"] * 8, list(range(8))).folds_by_time(3, gap=SECOND)
    assert [(seconds_of(train), seconds_of(test)) for train, test in made] == [
        ([0], [2, 3]),
        ([0, 1, 2], [4, 5]),
        ([0, 1, 2, 3, 4], [6, 7]),
    ]


@given(rows=ROWS, folds=st.integers(2, 5))
def test_group_folds_test_every_row_once(rows, folds):
    tested = []
    for train, test in drawn(rows).folds_by_group("user", folds):
        assert not set(train.table["user"].to_pylist()) & set(test.table["user"].to_pylist())
        assert len(train) + len(test) == len(rows)
        tested.extend(test.table["number"].to_pylist())
    assert sorted(tested) == list(range(len(rows)))


def test_parts_know_their_parent(store, at, tmp_path):
    spine = pa.table({"station": ["JFK", "LGA"], "event_time": [at(1), at(2)]})
    whole = store.dataset(spine, ["readings"])
    parts = whole.split_by_time({"train": 0.5, "test": 0.5})
    again = whole.split_by_time({"train": 0.5, "test": 0.5})
    train = Dataset.read(parts["train"].write(tmp_path / "train.parquet"))
    assert whole.parent is None
    assert train.parent == parts["test"].parent == whole.fingerprint
    assert train.fingerprint == again["train"].fingerprint
    assert len({whole.fingerprint, train.fingerprint, parts["test"].fingerprint}) == 3
    assert train.manifest["fingerprint"] == whole.fingerprint, "lineage finds the whole by it"
    nested = train.split_by_group("station")
    assert nested["train"].parent == train.fingerprint
    everything = whole.split_by_time(cuts=[dt.datetime(1990, 1, 1, tzinfo=dt.UTC)])["test"]
    assert everything.table.equals(whole.table)
    with pytest.raises(InvalidRequest, match=r"write a part with dataset\.write"):
        everything.save()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda d: d.split_by_time({"train": 1.0}), "two or more parts"),
        (lambda d: d.split_by_time({"a": 0.5, "b": 0.6}), "add up to 1"),
        (lambda d: d.split_by_group("user", {"a": 1.5, "b": -0.5}), "shares above 0"),
        (lambda d: d.split_by_time(gap=-SECOND), "a gap >= 0"),
        (
            lambda d: d.split_by_time(cuts=[dt.datetime(2024, 1, 1, tzinfo=dt.UTC)] * 2),
            "1 rising cuts",
        ),
        (lambda d: d.split_by_group("usr"), "did you mean 'user'"),
        (lambda d: d.folds_by_group("user", 1), "2 or more folds"),
        (lambda d: d.split_stratified("none"), "no column 'none'"),
    ],
)
def test_splits_that_make_no_sense(wrong, words):
    with pytest.raises(InvalidRequest, match=words):
        wrong(dataset_of(["a", "b"], [1, 2]))
