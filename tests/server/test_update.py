"""UpdateRecord: some features change, the others stay, in both stores."""

from __future__ import annotations

import datetime as dt
import threading

import pytest
from deltalake import DeltaTable

import featurestore
from featurestore import InvalidRecord, RecordConflict, RecordNotFound, Ttl, TtlUnit

KEY, LATER = "2013-01-01T06:00:00Z", "2013-01-01T07:00:00Z"


@pytest.fixture
def updated(record_store, reading):
    """Every kind of store with one record."""
    record_store.put("weather", reading("JFK", 6, temp=39.0, wind=7))
    return record_store


def soon(seconds: int = 0) -> str:
    moment = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_named_features_change_and_the_others_stay(updated):
    before = updated.get("weather", "JFK")

    updated.update("weather", "JFK", {"temp": 41.5})

    assert updated.get("weather", "JFK") == before | {"temp": 41.5}


def test_none_makes_a_feature_null(updated):
    updated.update("weather", "JFK", {"temp": None, "wind": float("nan")})

    assert set(updated.get("weather", "JFK")) & {"temp", "wind"} == set()


def test_an_event_time_moves_the_record_on(updated):
    updated.update("weather", "JFK", {"hour": LATER, "wind": "9"})

    found = updated.get("weather", "JFK")
    assert (found["hour"], found["wind"], found["temp"]) == (LATER, 9, 39.0)


def test_an_equal_event_time_is_applied(updated):
    updated.update("weather", "JFK", {"hour": KEY, "wind": 8})

    assert updated.get("weather", "JFK")["wind"] == 8


def test_an_older_event_time_conflicts_and_changes_nothing(updated):
    before = updated.get("weather", "JFK")

    with pytest.raises(RecordConflict, match="later event time 2013-01-01T06:00:00Z") as caught:
        updated.update("weather", "JFK", {"hour": "2013-01-01T05:59:59Z", "wind": 1})

    assert (caught.value.group, caught.value.identifier) == ("weather", "JFK")
    assert updated.get("weather", "JFK") == before


@pytest.mark.parametrize("how", ["absent", "soft", "hard"])
def test_what_is_not_there_cannot_be_updated(record_store, reading, how):
    if how != "absent":
        record_store.put("weather", reading("JFK", 6))
        record_store.delete("weather", "JFK", event_time=LATER, hard=how == "hard")

    with pytest.raises(RecordNotFound, match="no record 'JFK' to update; put a whole record"):
        record_store.update("weather", "JFK", {"wind": 1})

    assert record_store.get("weather", "JFK") is None


def test_an_expired_record_cannot_be_updated(record_store, reading):
    record_store.put("weather", reading("JFK", 6), ttl=Ttl(TtlUnit.DAYS, 1))

    with pytest.raises(RecordNotFound):
        record_store.update("weather", "JFK", {"wind": 1})


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({}, "expected 1 to 100 features in an update, got 0"),
        ({"tempp": 1.0}, "no such feature in the group; did you mean 'temp'"),
        ({"wind": "strong"}, "weather.wind: expected Integral, got 'strong'"),
        ({"origin": "EWR"}, "cannot change the record identifier 'JFK', got 'EWR'"),
        ({"hour": None}, "the event time cannot become null"),
        ({"hour": "2013-01-01"}, "weather.hour"),
    ],
)
def test_a_change_that_does_not_fit_is_refused(updated, features, message):
    before = updated.get("weather", "JFK")

    with pytest.raises(InvalidRecord, match=message):
        updated.update("weather", "JFK", features)

    assert updated.get("weather", "JFK") == before


def test_more_than_a_hundred_features_are_refused(updated):
    with pytest.raises(InvalidRecord, match="1 to 100 features in an update, got 101"):
        updated.update("weather", "JFK", {f"f{number}": 1 for number in range(101)})


def test_the_identifier_may_be_repeated(updated):
    updated.update("weather", "JFK", {"origin": "JFK", "wind": 2})

    assert updated.get("weather", "JFK")["wind"] == 2


def test_a_ttl_needs_an_event_time(updated):
    with pytest.raises(InvalidRecord, match="a ttl needs an event time in the same update"):
        updated.update("weather", "JFK", {"wind": 1}, ttl=Ttl(TtlUnit.HOURS, 1))


def test_the_stored_ttl_stays_and_counts_from_the_event_time(store, weather):
    store.create_feature_group(weather)
    record = {"origin": "JFK", "hour": soon(-3600), "temp": 1.0}
    store.put("weather", record, ttl=Ttl(TtlUnit.HOURS, 2))

    store.update("weather", "JFK", {"temp": 2.0})
    assert store.get("weather", "JFK")["temp"] == 2.0
    store.update("weather", "JFK", {"hour": soon()})
    assert store.get("weather", "JFK")["temp"] == 2.0
    store.update("weather", "JFK", {"hour": soon(), "temp": 3.0}, ttl=Ttl(TtlUnit.SECONDS, 1))
    store.flush("weather")

    rows = (
        DeltaTable(store.offline_uri("weather")).to_pyarrow_table().sort_by("_sequence").to_pylist()
    )
    lives = [(row["_expires_at"] - row["_event_time"]).total_seconds() for row in rows]
    assert lives == [7200, 7200, 7200, 1]


def test_the_offline_store_gets_the_whole_record(store, weather, reading):
    store.create_feature_group(weather)
    store.put("weather", reading("JFK", 6, temp=39.0, wind=7, note="calm"))

    store.update("weather", "JFK", {"wind": 8})
    store.update("weather", "JFK", {"hour": LATER, "note": None})
    store.flush("weather")

    table = DeltaTable(store.offline_uri("weather")).to_pyarrow_table().sort_by("_sequence")
    found = [(r["hour"], r["temp"], r["wind"], r["note"]) for r in table.to_pylist()]
    assert found == [
        (KEY, 39.0, 7, "calm"),
        (KEY, 39.0, 8, "calm"),
        (LATER, 39.0, 8, None),
    ]
    assert store.verify("weather").equal


def test_one_target_store_is_enough(store, weather, reading):
    store.create_feature_group(weather)
    store.put("weather", reading("JFK", 6, wind=7))

    store.update("weather", "JFK", {"wind": 8}, stores=("OnlineStore",))

    assert store.get("weather", "JFK")["wind"] == 8
    assert store.flush("weather")["weather"].records == 1


def test_updates_of_one_record_at_once_lose_nothing(server, weather, reading):
    with featurestore.connect(server.address) as store:
        store.create_feature_group(weather)
        store.put("weather", reading("JFK", 6, temp=0.0, wind=0, note=""))
        failures: list[BaseException] = []

        def change(feature: str, values: list[object]) -> None:
            try:
                for value in values:
                    store.update("weather", "JFK", {feature: value})
            except BaseException as error:  # noqa: BLE001  # shown by the test
                failures.append(error)

        threads = [
            threading.Thread(target=change, args=(name, values))
            for name, values in (
                ("temp", [float(number) for number in range(1, 41)]),
                ("wind", list(range(1, 41))),
                ("note", [str(number) for number in range(1, 41)]),
            )
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert not failures
        found = store.get("weather", "JFK")
        assert (found["temp"], found["wind"], found["note"]) == (40.0, 40, "40")
        assert store.flush("weather")["weather"].records == 121
        assert store.verify("weather").equal


def test_updates_from_two_processes_of_one_home_lose_nothing(tmp_path, weather, reading):
    with featurestore.open(tmp_path) as first, featurestore.open(tmp_path) as second:
        first.create_feature_group(weather)
        first.put("weather", reading("JFK", 6, temp=0.0, wind=0))

        def change(store: featurestore.FeatureStore, feature: str) -> None:
            for number in range(1, 61):
                store.update("weather", "JFK", {feature: number})

        other = threading.Thread(target=change, args=(second, "wind"))
        other.start()
        change(first, "temp")
        other.join()

        found = first.get("weather", "JFK")
        assert (found["temp"], found["wind"]) == (60.0, 60)
