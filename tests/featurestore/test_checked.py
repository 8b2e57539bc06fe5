"""Batches checked ahead of their transaction: by the column or one by one, the same rules."""

from __future__ import annotations

import datetime as dt
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore import Delete, FeatureGroup, InvalidRecord, check_batch, feature_definitions
from featurestore import record as record_rules
from featurestore.convert import checked_size, encode_record, message_to_values
from featurestore.v1 import record_pb2

NOW = 1_700_000_000_000_000
GROUP = FeatureGroup(
    "things",
    record_identifier="id",
    event_time="at",
    features=feature_definitions(
        [("id", "Integral"), ("at", "Fractional"), ("size", "Fractional"), ("name", "String")]
    ),
)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**66), 2**66),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["3.0", "1e3", "nan", "-0", "\ud800"]),
    st.datetimes(timezones=st.sampled_from([dt.UTC, dt.timezone(dt.timedelta(hours=3))])),
    st.datetimes(),
    st.lists(st.integers(), max_size=2),
    st.just({}),
)
NUMBERS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.none())
TIMES = st.one_of(st.floats(0, 1.8e9), st.integers(0, 2_000_000_000))
PLAIN = st.fixed_dictionaries(
    {"id": st.integers(-(2**63), 2**63 - 1), "at": TIMES},
    optional={"size": NUMBERS, "name": st.one_of(st.none(), st.text(max_size=5))},
)
STRANGE = st.dictionaries(st.sampled_from(["id", "at", "size", "name", "other"]), ODD, max_size=5)
DELETES = st.builds(Delete, st.just("things"), st.one_of(st.integers(0, 9), ODD), TIMES)


def _one(entry):
    """What the rules for one record say: its bytes read back, or the refusal's text."""
    try:
        if isinstance(entry, Delete):
            marker = {"id": entry.identifier, "at": entry.event_time}
            record_rules.check(GROUP, marker, now=NOW)
            return entry
        record = record_rules.check(GROUP, entry, now=NOW)
        data = checked_size(GROUP, encode_record(record.values, GROUP.collections))
    except InvalidRecord as error:
        return str(error)
    return record.identifier.encode(), record.event_time_us, _read(data)


def _read(data):
    values = message_to_values(record_pb2.Record.FromString(data))
    return {name: repr(value) for name, value in values.items()}


@given(
    st.lists(st.one_of(PLAIN, STRANGE, DELETES, st.just("no record")), max_size=12),
    st.lists(PLAIN, min_size=20, max_size=30),
)
def test_many_at_once_are_checked_like_each_alone(strange, plain):
    for entries in (strange, plain, [*plain, *strange], [*strange, *plain]):
        checked = check_batch(GROUP, entries, now=NOW)
        found = dict(checked.deletes)
        encoded = checked.encoded
        for number, identifier, moment, data in zip(
            encoded.rows.tolist(),
            encoded.identifiers,
            encoded.event_times_us.tolist(),
            encoded.records,
            strict=True,
        ):
            found[number] = (identifier, moment, _read(data))
        found.update((number, str(error)) for number, error in checked.refused)
        assert [found[number] for number in range(len(entries))] == [_one(e) for e in entries]
        assert len(checked) == len(encoded.records) + len(checked.deletes)


def test_a_refused_record_keeps_its_number_whichever_way_it_was_checked():
    good = [{"id": n, "at": 1.0} for n in range(30)]
    entries = [*good[:10], {"id": None, "at": 1.0}, *good[10:], {"id": "x", "at": 1.0}, {"id": 1}]
    checked = check_batch(GROUP, entries, now=NOW)
    assert [number for number, _ in checked.refused] == [10, 31, 32]
    moved = checked.renumbered(range(100, 133))
    assert [number for number, _ in moved.refused] == [110, 131, 132]
    assert moved.encoded.rows.tolist()[:11] == [*range(100, 110), 111]


def test_an_event_time_may_be_a_moment():
    moments = [dt.datetime(2020, 1, 1, tzinfo=dt.UTC) + dt.timedelta(hours=n) for n in range(20)]
    checked = check_batch(GROUP, [{"id": 1, "at": moment} for moment in moments], now=NOW)
    assert checked.encoded.event_times_us.tolist() == [
        int(moment.timestamp()) * 1_000_000 for moment in moments
    ]


@pytest.mark.parametrize("value", [math.nan, 2**53 + 1, 2**70, "\ud800"])
def test_a_value_that_no_column_holds_is_left_to_the_rules(value):
    entries = [{"id": n, "at": 1.0, "size": 1.0, "name": "a"} for n in range(20)]
    entries[7] = entries[7] | {"size": value}
    checked = check_batch(GROUP, entries, now=NOW)
    one = _one(entries[7])
    assert [str(error) for _, error in checked.refused] == ([one] if isinstance(one, str) else [])
