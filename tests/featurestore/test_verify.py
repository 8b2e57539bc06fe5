from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore import (
    Difference,
    InvalidRecord,
    InvalidRequest,
    Put,
    Ttl,
    TtlUnit,
    feature_definitions,
)
from featurestore.embedded import EmbeddedStore
from featurestore.online import MemoryStore
from featurestore.verify import VerifyReport

ONLINE, OFFLINE = ("OnlineStore",), ("OfflineStore",)


def test_nothing_was_put(store):
    assert store.verify("readings") == VerifyReport(True, 0, 0, ())


def test_both_stores_say_the_same(store, reading):
    for second in range(5):
        store.put("readings", reading("JFK", second, temp=second, count=second, note="x"))
        store.put("readings", reading("LGA", 10 - second, temp=second))
    assert store.verify("readings") == VerifyReport(True, 2, 2, ())


@pytest.mark.parametrize(
    ("puts", "difference"),
    [
        (
            [({"temp": 1.0}, 5, ONLINE)],
            Difference("JFK", "only in the online store"),
        ),
        (
            [({"temp": 1.0}, 5, OFFLINE)],
            Difference("JFK", "only in the offline store"),
        ),
        (
            [({"temp": 1.0}, 5, None), ({"temp": 1.0}, 6, OFFLINE)],
            Difference(
                "JFK",
                "event time: online 1704067205000000 µs, offline 1704067206000000 µs",
            ),
        ),
        (
            [({"temp": 1.0}, 5, None), ({"temp": 2.0}, 5, OFFLINE)],
            Difference("JFK", "temp: online 1.0, offline 2.0"),
        ),
        (
            [({"note": "a", "count": 3}, 5, None), ({"count": 3}, 5, OFFLINE)],
            Difference("JFK", "note: online 'a', offline None"),
        ),
        (
            [({}, 5, None), ({"count": 3}, 5, OFFLINE)],
            Difference("JFK", "count: online None, offline 3"),
        ),
    ],
    ids=["only online", "only offline", "event time", "value", "null offline", "null online"],
)
def test_a_planted_difference_is_named(store, reading, puts, difference):
    store.put("readings", reading("EWR", 5, temp=1.0))
    store.put("readings", reading("LGA", 5, temp=1.0))
    for features, second, stores in puts:
        store.put("readings", reading("JFK", second, **features), stores=stores)
    report = store.verify("readings")
    assert not report.equal
    assert report.differences == (difference,)
    assert report.to_json() == {
        "equal": False,
        "online": report.online,
        "offline": report.offline,
        "differences": [{"identifier": "JFK", "reason": difference.reason}],
    }
    assert report.online == 2 + (puts[0][2] != OFFLINE)
    assert report.offline == 2 + (puts[0][2] != ONLINE)


def test_differences_at_both_ends_and_between(store, reading):
    for station in "bdf":
        store.put("readings", reading(station, 1))
    for station in "aeg":
        store.put("readings", reading(station, 1), stores=ONLINE)
    for station in "ch":
        store.put("readings", reading(station, 1), stores=OFFLINE)
    report = store.verify("readings")
    assert [(d.identifier, d.reason.split()[3]) for d in report.differences] == [
        ("a", "online"),
        ("c", "offline"),
        ("e", "online"),
        ("g", "online"),
        ("h", "offline"),
    ]
    assert (report.online, report.offline) == (6, 5)


def test_only_the_first_thousand_differences_are_listed(store, reading):
    store.batch_write([Put("readings", reading(f"s{i}", 1), stores=ONLINE) for i in range(1_005)])
    report = store.verify("readings")
    assert (report.equal, report.online, report.offline) == (False, 1_005, 0)
    assert len(report.differences) == 1_000


def test_long_identifiers_are_compared_as_well(store, reading):
    # Longer than a key of the online store: those are found by their hash there.
    stations = ["a" * length for length in (1, 506, 507, 508, 511, 512, 600, 2048)] + [
        "ä" * 254,
        "😀" * 500,
        "\U0010ffff",
        "z",
    ]
    for second, station in enumerate(stations):
        store.put("readings", reading(station, second, temp=second))
    assert store.verify("readings") == VerifyReport(True, 12, 12, ())
    store.put("readings", reading("b" * 700, 1), stores=ONLINE)
    store.put("readings", reading("a" * 600, 99), stores=OFFLINE)
    store.put("readings", reading("ä" * 300, 1), stores=OFFLINE)
    report = store.verify("readings")
    assert {d.identifier: d.reason.split(":")[0] for d in report.differences} == {
        "a" * 600: "event time",
        "b" * 700: "only in the online store",
        "ä" * 300: "only in the offline store",
    }


def test_deletes(store, reading, at):
    for station in ("soft", "hard", "late", "back"):
        store.put("readings", reading(station, 10, temp=1.0))
    store.delete("readings", "soft", event_time=at(11))
    store.delete("readings", "hard", event_time=at(11), hard=True)
    store.delete("readings", "late", event_time=at(9))  # not later: the record stays
    store.delete("readings", "back", event_time=at(11))
    store.put("readings", reading("back", 12, temp=2.0))
    store.put("readings", reading("soft", 5, temp=0.0))  # a late put behind the tombstone
    store.delete("readings", "never", event_time=at(1))
    assert store.verify("readings") == VerifyReport(True, 2, 2, ())
    with pytest.raises(InvalidRecord):
        store.delete("readings", "late", event_time=at(10), hard=True)
    assert store.verify("readings").equal


def test_expired_records_are_absent_on_both_sides(store, reading, clock, at):
    hour = Ttl(TtlUnit.HOURS, 1)
    clock.us -= 86_400_000_000  # second 0
    store.put("readings", reading("a", 0), ttl=hour)
    store.put("readings", reading("b", 10), ttl=hour)
    store.put("readings", reading("c", 0))
    for seconds, count in ((3599, 3), (1, 2), (9, 2), (1, 1)):
        clock.advance(seconds)
        assert store.verify("readings") == VerifyReport(True, count, count, ())


def test_features_added_later(store, reading):
    store.put("readings", reading("a", 1, temp=1.0))
    store.flush()
    store.add_features("readings", feature_definitions([("wind", "Fractional")]))
    assert store.verify("readings").equal
    store.put("readings", reading("b", 1, wind=1.0))
    assert store.verify("readings") == VerifyReport(True, 2, 2, ())


@pytest.mark.parametrize("stores", [{"online": False}, {"offline": False}])
def test_a_group_with_one_store_has_nothing_to_compare(store, make_group, stores):
    store.create_feature_group(make_group("one", [("id", "String"), ("t", "String")], **stores))
    with pytest.raises(InvalidRequest, match="one: only a group with both stores"):
        store.verify("one")


# -- whatever happens, in whatever order ------------------------------------------------------

IDENTIFIERS = {
    "String": st.text(min_size=1, max_size=3)
    | st.builds(lambda c, n: c * n, st.sampled_from("aä😀"), st.integers(400, 510)),
    "Integral": st.integers(-(2**63), 2**63 - 1) | st.integers(-12, 12),
    "Fractional": st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0, 1.0, 10.0, 9.0]),
}


@pytest.mark.parametrize("kind", IDENTIFIERS)
@settings(max_examples=20)
@given(data=st.data())
def test_the_stores_stay_equal(tmp_path_factory, make_group, clock_class, kind, data):
    identifiers = data.draw(st.lists(IDENTIFIERS[kind], min_size=1, max_size=8))
    steps = data.draw(
        st.lists(
            st.tuples(
                st.sampled_from(["put", "put", "put", "soft", "hard", "flush", "wait"]),
                st.sampled_from(identifiers),
                st.integers(0, 5),
                st.none() | st.integers(1, 6),
            ),
            max_size=25,
        )
    )
    clock = clock_class(100_000_000)
    with EmbeddedStore(tmp_path_factory.mktemp("home"), online=MemoryStore(), now=clock) as store:
        store.create_feature_group(
            make_group("g", [("id", kind), ("t", "Fractional"), ("x", "Integral")])
        )
        for step, (verb, identifier, second, ttl) in enumerate(steps):
            time = 90.0 + second
            if verb == "put":
                duration = None if ttl is None else Ttl(TtlUnit.SECONDS, 5 + ttl)
                store.put("g", {"id": identifier, "t": time, "x": step}, ttl=duration)
            elif verb == "soft":
                store.delete("g", identifier, event_time=time)
            elif verb == "hard":
                with contextlib.suppress(InvalidRecord):  # not later than the record
                    store.delete("g", identifier, event_time=time, hard=True)
            elif verb == "flush":
                store.flush()
            else:
                clock.advance(2)
        report = store.verify("g")
        assert report.differences == ()
        readable = set(store.records("g"))
        assert report.online == report.offline == len(readable)
        for identifier in identifiers:
            found = store.get("g", identifier) is not None
            assert found == (_text(identifier) in readable)


def _text(identifier: object) -> str:
    return identifier if isinstance(identifier, str) else repr(identifier + 0)
