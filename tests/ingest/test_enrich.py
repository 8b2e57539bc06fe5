"""Lookups: what another group knew at a message's time, against a naive double loop."""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import featurestore
from featurestore import (
    FeatureGroup,
    FeatureGroupNotFound,
    FeatureNotFound,
    Ttl,
    TtlUnit,
    feature_definitions,
)
from ingest import (
    Deleted,
    FileSource,
    InvalidMapping,
    Lookup,
    Message,
    Pipeline,
    Undecodable,
    transforms_of,
)

ORDERS = FeatureGroup(
    "orders",
    record_identifier="order",
    event_time="at",
    features=feature_definitions(
        [
            ("order", "Integral"),
            ("at", "String"),
            ("customer", "String"),
            ("tier", "String"),
            ("credit", "Integral"),
        ]
    ),
)
CUSTOMERS = FeatureGroup(
    "customers",
    record_identifier="id",
    event_time="since",
    features=feature_definitions(
        [("id", "String"), ("since", "String"), ("tier", "String"), ("credit", "Integral")]
    ),
)


def at(minute: int) -> str:
    hours, minutes = divmod(minute, 60)
    return f"2024-01-01T{hours:02d}:{minutes:02d}:00Z"


@pytest.fixture
def shop(tmp_path):
    with featurestore.open(tmp_path / "home") as opened:
        opened.create_feature_group(ORDERS)
        opened.create_feature_group(CUSTOMERS)
        yield opened


def looked_up(store, lookup, *records, group=ORDERS, messages=None):
    lookup.open(store, group)
    given = messages or [Message("0", n, b"") for n in range(len(records))]
    found = lookup.apply(list(records), given)
    lookup.close()
    assert len(found) == len(records)
    return found


def order(minute, customer="ann", **fields):
    return {"order": 1, "at": at(minute), "customer": customer, **fields}


@pytest.fixture
def ann(shop):
    for minute in (10, 30):
        shop.put(
            "customers", {"id": "ann", "since": at(minute), "tier": f"t{minute}", "credit": minute}
        )
    return shop


# -- the rule ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minute", "tier"), [(9, None), (10, "t10"), (20, "t10"), (29, "t10"), (30, "t30"), (90, "t30")]
)
def test_a_message_sees_what_was_known_at_its_time(minute, tier, ann):
    (found,) = looked_up(
        ann, Lookup("customers", {"customer": "id"}, features=["tier"]), order(minute)
    )

    assert found.get("tier") == tier
    assert "credit" not in found


def test_a_deletion_counts_from_its_event_time_on(ann):
    ann.delete("customers", "ann", event_time=at(40))

    found = looked_up(ann, Lookup("customers", {"customer": "id"}), order(39), order(40), order(50))

    assert [record.get("tier") for record in found] == ["t30", None, None]


def test_of_equal_event_times_the_later_write_counts(ann):
    ann.put("customers", {"id": "ann", "since": at(10), "tier": "late"})

    found = looked_up(ann, Lookup("customers", {"customer": "id"}), order(15, credit=9))

    assert found == [order(15, tier="late")], "a null feature replaces what was there"


def test_what_has_no_key_or_is_unknown_gets_nothing(ann):
    records = [order(50, None), order(50, "bob", tier="kept"), order(50, float("nan")), None]

    assert looked_up(ann, Lookup("customers", {"customer": "id"}), *records) == records
    strict = looked_up(ann, Lookup("customers", {"customer": "id"}, missing="refuse"), *records)
    assert str(strict[0]) == "lookup 'customers' on 'customer': expected a key, got none"
    assert str(strict[1]) == (
        "lookup 'customers' on 'customer': expected a record known at 2024-01-01T00:50:00Z, "
        "got none of 'bob'"
    )


def test_deletions_pass_through(ann):
    gone = Deleted({"order": 1}, event_time=at(5))

    assert looked_up(ann, Lookup("customers", {"customer": "id"}), gone, order(30))[0] is gone


def test_a_message_that_cannot_be_looked_up_is_refused_alone(ann):
    found = looked_up(
        ann,
        Lookup("customers", {"customer": "id"}, features=["tier"]),
        order(30, 7),
        order(30, at="noon"),
        order(30) | {"at": None},
        order(30),
    )

    assert "expected an identifier of customers: String, got 7" in str(found[0])
    assert str(found[1]).startswith(
        "lookup 'customers' as of 'at': expected an event time, got 'noon'"
    )
    assert "expected an event time, got None" in str(found[2])
    assert found[3] == order(30, tier="t30")


def test_several_lookups_with_prefixes_and_times_of_their_own(ann):
    declared = transforms_of(
        {
            "lookup": [
                {"group": "customers", "on": {"customer": "id"}, "prefix": "now_"},
                {
                    "group": "customers",
                    "on": {"friend": "id"},
                    "features": ["tier"],
                    "prefix": "friend_",
                    "as_of": "met",
                },
                {
                    "group": "customers",
                    "on": {"customer": "id"},
                    "features": ["tier"],
                    "as_of": "@timestamp",
                },
            ]
        }
    )
    records = [order(30, friend="ann", met=dt.datetime(2024, 1, 1, 0, 10, tzinfo=dt.UTC))]
    messages = [Message("0", 0, b"", timestamp_us=1_704_067_800_000_000)]  # at(10)

    for lookup in declared:
        records = looked_up(ann, lookup, *records, messages=messages)

    assert {name: value for name, value in records[0].items() if "_" in name or name == "tier"} == {
        "now_tier": "t30", "now_credit": 30, "friend_tier": "t10", "tier": "t10",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "stored", "asked"),
    [("Integral", 7, ["7", 7.0, 7]), ("Fractional", 0.0, [-0.0, "0", 0]), ("String", "é", ["é"])],
)
def test_identifiers_of_every_type(kind, stored, asked, shop):
    shop.create_feature_group(
        FeatureGroup(
            "things",
            record_identifier="id",
            event_time="at",
            features=feature_definitions([("id", kind), ("at", "Fractional"), ("tier", "String")]),
        )
    )
    for second in (10.0, 20.5):
        shop.put("things", {"id": stored, "at": second, "tier": f"{second}"})
    records = [
        {"order": 1, "at": moment, "customer": key}
        for key in asked
        for moment in ("1970-01-01T00:00:20Z", 20.5)
    ]

    found = looked_up(shop, Lookup("things", {"customer": "id"}), *records)

    assert [record["tier"] for record in found] == ["10.0", "20.5"] * len(asked)


# -- ages and ttl -----------------------------------------------------------------------------


def test_a_ttl_hides_nothing_until_it_is_asked_to(shop):
    shop.set_ttl("customers", Ttl(TtlUnit.MINUTES, 10))
    shop.put("customers", {"id": "ann", "since": at(10), "tier": "t10"})
    assert shop.get("customers", "ann") is None, "it expired long ago"

    as_datasets = looked_up(shop, Lookup("customers", {"customer": "id"}), order(10), order(99))
    as_served = looked_up(
        shop,
        Lookup("customers", {"customer": "id"}, max_age="ttl"),
        order(9), order(10), order(19), order(19, at="2024-01-01T00:19:59.999999Z"), order(20),
    )  # fmt: skip
    inclusive = looked_up(
        shop,
        Lookup("customers", {"customer": "id"}, max_age=dt.timedelta(minutes=10)),
        order(20),
        order(20, at="2024-01-01T00:20:00.000001Z"),
    )

    assert [record.get("tier") for record in as_datasets] == ["t10", "t10"]
    assert [record.get("tier") for record in as_served] == [None, "t10", "t10", "t10", None]
    assert [record.get("tier") for record in inclusive] == ["t10", None]


def test_a_record_whose_space_was_swept_is_found_in_the_history(shop):
    shop.set_ttl("customers", Ttl(TtlUnit.MINUTES, 10))
    shop.put("customers", {"id": "ann", "since": at(10), "tier": "t10"})
    assert shop.sweep() == 1

    (found,) = looked_up(shop, Lookup("customers", {"customer": "id"}), order(30))

    assert found["tier"] == "t10"


# -- waiting, and being refused ---------------------------------------------------------------


def test_a_batch_waits_for_what_is_missing(ann):
    lookup = Lookup("customers", {"customer": "id"}, missing="refuse", wait_s=30)

    def later():
        time.sleep(0.1)
        ann.put("customers", {"id": "bob", "since": at(1), "tier": "new"})

    writer = threading.Thread(target=later)
    writer.start()
    found = looked_up(ann, lookup, order(30, "bob"), order(30))
    writer.join()

    assert [record["tier"] for record in found] == ["new", "t30"]
    short = Lookup("customers", {"customer": "id"}, missing="refuse", wait_s=0.05)
    assert isinstance(looked_up(ann, short, order(30, "eve"))[0], Undecodable)


def test_what_cannot_work_is_refused_at_the_beginning(shop):
    def opened(*arguments, **options):
        Lookup(*arguments, **options).open(shop, ORDERS)

    on = {"customer": "id"}
    with pytest.raises(FeatureGroupNotFound, match="did you mean 'customers'"):
        opened("custmers", on)
    with pytest.raises(FeatureNotFound, match="did you mean 'tier'"):
        opened("customers", on, features=["teir"])
    with pytest.raises(InvalidMapping, match="on: the record identifier 'id', got 'customer'"):
        opened("customers", {"id": "customer"})
    with pytest.raises(InvalidMapping, match="expected a group with a ttl for max_age, got none"):
        opened("customers", on, max_age="ttl")
    for broken in (
        {"missing": "wait"},
        {"wait_s": -1},
        {"features": "tier"},
        {"features": ["tier", "tier"]},
        {"max_age": "day"},
        {"max_age": dt.timedelta(-1)},
    ):
        with pytest.raises(InvalidMapping, match=r"lookup 'customers': expected .*, got "):
            Lookup("customers", on, **broken)
    with pytest.raises(InvalidMapping, match="one name of the record"):
        Lookup("customers", {})
    for table in (
        {"group": "customers"},
        {"group": "customers", "on": on, "features": [1]},
        {"group": "customers", "on": on, "wait_s": True},
        {"group": "customers", "on": on, "prefx": "x"},
        "customers",
    ):
        with pytest.raises(InvalidMapping, match=r"lookup 1: expected .*, got "):
            transforms_of({"lookup": [table]})
    shop.create_feature_group(
        FeatureGroup(
            "online-only",
            record_identifier="id",
            event_time="at",
            features=feature_definitions([("id", "String"), ("at", "String")]),
            offline=False,
        )
    )
    with pytest.raises(InvalidMapping, match="a group with an offline store"):
        opened("online-only", on)


# -- other kinds of groups --------------------------------------------------------------------


def test_a_windowed_group_is_computed_as_of_the_message(ann):
    ann.create_windowed_group(
        featurestore.WindowedGroup(
            "habits",
            source="orders",
            by="customer",
            features=[featurestore.WindowedFeature("count", None, dt.timedelta(hours=1))],
        )
    )
    for minute in (0, 10, 30):
        ann.put("orders", order(minute, order=minute))

    lookup = Lookup("habits", {"customer": "customer"}, missing="refuse")
    found = looked_up(ann, lookup, order(20), order(30), order(95), order(20, "bob"))

    (name,) = set(found[0]) - set(order(0))
    assert [record[name] for record in found[:2]] == [2, 3]
    assert isinstance(found[2], Undecodable), "there is nothing in its windows"
    assert isinstance(found[3], Undecodable)


# -- property ---------------------------------------------------------------------------------

KEYS = ("a", "b", "c")
events = st.lists(
    st.tuples(st.sampled_from(KEYS), st.integers(0, 12), st.sampled_from(["put", "put", "delete"])),
    max_size=14,
)
asked = st.lists(
    st.tuples(st.sampled_from((*KEYS, "z")), st.integers(-1, 13)), min_size=1, max_size=8
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """One store; every example has identifiers of its own, its history grows."""
    with featurestore.open(tmp_path_factory.mktemp("world")) as opened:
        opened.create_feature_group(ORDERS)
        opened.create_feature_group(CUSTOMERS)
        yield opened, iter(range(10**6))


@settings(max_examples=12)
@given(events, asked, st.one_of(st.none(), st.integers(0, 6)))
def test_lookups_agree_with_a_double_loop(world, events, asked, max_age):
    store, numbers = world
    run = next(numbers)
    history: dict[str, list[tuple[int, bool, int]]] = {}
    for write, (key, minute, what) in enumerate(events):
        if what == "put":
            store.put("customers", {"id": f"{run}-{key}", "since": at(minute), "credit": write})
        else:
            store.delete("customers", f"{run}-{key}", event_time=at(minute))
        history.setdefault(key, []).append((minute, what == "put", write))

    age = None if max_age is None else dt.timedelta(minutes=max_age)
    found = looked_up(
        store,
        Lookup("customers", {"customer": "id"}, features=["credit"], max_age=age),
        *(order(minute, f"{run}-{key}") if minute >= 0 else
          order(0, f"{run}-{key}", at="2023-12-31T23:59:59Z") for key, minute in asked),
    )  # fmt: skip

    for (key, minute), record in zip(asked, found, strict=True):
        # Event time, then a record before a deletion, then the later write.
        versions = sorted(version for version in history.get(key, []) if version[0] <= minute)
        known = None
        if (
            versions
            and versions[-1][1]
            and (max_age is None or minute - versions[-1][0] <= max_age)
        ):
            known = versions[-1][2]
        assert record.get("credit") == known, (key, minute, history.get(key))


# -- in a pipeline ----------------------------------------------------------------------------


def test_a_stream_is_mapped_and_enriched(ann, tmp_path: Path):
    path = tmp_path / "orders.jsonl"
    rows = [{"n": n, "ms": 1_704_067_200_000 + n * 60_000, "who": "ann"} for n in (5, 15, 45)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    declaration = {
        "features": {
            "order": "n",
            "at": {"path": "ms", "type": "timestamp", "from": "millis"},
            "customer": "who",
            "tier": {"sql": "upper(tier)"},
        },
        "lookup": [
            {
                "group": "customers",
                "on": {"who": "id"},
                "features": ["tier"],
                "as_of": "seconds",
                "before_mapping": True,
            },
            {"group": "customers", "on": {"customer": "id"}, "features": ["credit"]},
        ],
    }
    for row in rows:
        row["seconds"] = row["ms"] / 1000
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    report = Pipeline(
        FileSource(path), ann, "orders", transforms=transforms_of(declaration), batch_size=2
    ).run()

    assert report.written == 3
    records = [ann.get("orders", n) for n in (5, 15, 45)]
    assert [(record.get("tier"), record.get("credit")) for record in records] == [
        (None, None), ("T10", 10), ("T30", 30),
    ]  # fmt: skip
