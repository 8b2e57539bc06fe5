"""A record followed into tables, datasets and what was made of them, and the way back."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest

import lineage
from featurestore import FeatureGroupNotFound, InvalidRecord, InvalidRequest
from featurestore.impact import DatasetHit, ImpactReport
from featurestore.window import WindowedFeature, WindowedGroup

MOMENT = pa.timestamp("us", "UTC")
NEW_YEAR = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)


def at(hour: int) -> dt.datetime:
    return NEW_YEAR + dt.timedelta(hours=hour)


def spine(*rows: tuple[str, int]) -> pa.Table:
    keys, hours = zip(*rows, strict=True)
    return pa.table({"origin": keys, "event_time": pa.array(map(at, hours), MOMENT)})


@pytest.fixture
def filled(store, weather, reading):
    """Two datasets over three flushes: one has the reading of six o'clock, one has not."""
    store.create_feature_group(weather)
    return in_three_flushes(store, reading)


@pytest.fixture
def every_filled(record_store, reading):
    """As `filled`, the asynchronous client too."""
    return in_three_flushes(record_store, reading)


def in_three_flushes(store, reading):
    store.put("weather", reading("JFK", 6, temp=6.0))
    store.flush("weather")
    store.put("weather", reading("JFK", 8, temp=8.0))
    store.put("weather", reading("EWR", 6, temp=1.0))
    store.flush("weather")
    return store


def save(store, rows, *features) -> str:
    dataset = store.dataset(rows, features or ("weather[temp]",))
    store.save_dataset(dataset)
    return dataset.fingerprint


def trained(store, fingerprint: str, name: str) -> None:
    """What a training job records of its input and its model."""
    uid = next(
        one.uid
        for one in store.graph.find(type="DataSet")
        if one.properties.get("fingerprint") == fingerprint
    )
    job = lineage.trial_component("TrainingJob", name, state="Completed")
    model = lineage.artifact("Model", f"file:///models/{name}", content_hash=name, name=name)
    store.graph.record(
        [job, model], [(uid, job, "ContributedTo"), (job, model, "Produced")], kind="JobCompleted"
    )


def test_a_record_is_followed_to_its_models(filled):
    seen = save(filled, spine(("JFK", 7), ("JFK", 7), ("JFK", 9), ("EWR", 7)))
    unseen = save(filled, spine(("JFK", 9), ("EWR", 7), ("JFK", 5)))
    trained(filled, seen, "with")
    trained(filled, unseen, "without")

    report = filled.impact("weather", "JFK", at(6))

    assert [(row.event_time, row.is_deleted, row.versions) for row in report.rows] == [
        (at(6), False, ((0, 1),))
    ]
    assert len(report.rows[0].files) == 1
    assert report.rows[0].files[0].startswith("_event_date=2013-01-01/")
    assert [(hit.name, hit.rows) for hit in report.datasets] == [(f"dataset {seen[:12]}", 2)]
    assert [(one.name, one.is_certain) for one in report.models] == [("with", True)]
    assert {one.type for one in report.downstream} == {"Model", "TrainingJob"}
    assert ImpactReport.from_json(report.to_json()) == report
    text = report.to_text()
    assert "2 row(s) of it" in text
    assert "Model with" in text

    some = filled.impact("weather", "JFK", at(5), until=at(7))
    assert [row.event_time for row in some.rows] == [at(6)]
    assert some.datasets == report.datasets
    with pytest.raises(InvalidRequest, match="until: expected a time at or after"):
        filled.impact("weather", "JFK", at(7), until=at(5))
    every = filled.impact("weather", "JFK")
    assert [row.event_time for row in every.rows] == [at(6), at(8)]
    assert {hit.name: hit.rows for hit in every.datasets} == {
        f"dataset {seen[:12]}": 3,
        f"dataset {unseen[:12]}": 1,
    }
    assert {one.name for one in every.models} == {"with", "without"}


def test_the_way_back_names_the_records_of_a_model(every_filled):
    seen = save(every_filled, spine(("JFK", 7), ("JFK", 7), ("JFK", 9), ("EWR", 7), ("LGA", 9)))
    trained(every_filled, seen, "model")
    model = every_filled.graph.find(type="Model")[0]

    tables = list(every_filled.records_behind(model.uid))

    assert [table.to_pylist() for table in tables] == [
        [
            {
                "dataset": seen,
                "feature_group": "weather",
                "record_identifier": identifier,
                "event_time": at(hour),
                "rows": rows,
            }
            for identifier, hour, rows in (("EWR", 6, 1), ("JFK", 6, 2), ("JFK", 8, 1))
        ]
    ]
    with pytest.raises(InvalidRequest, match="does not exist"):
        list(every_filled.records_behind("urn:fs:none"))


def test_a_dataset_that_was_not_saved_may_have_it(filled):
    filled.dataset(spine(("JFK", 9)), ["weather[temp]"])
    report = filled.impact("weather", "JFK", at(6))
    assert [(hit.rows, hit.is_certain) for hit in report.datasets] == [(None, False)]
    assert "may have it" in report.to_text()


def test_a_reading_of_another_version_is_not_in_a_dataset(store, weather, reading):
    store.create_feature_group(weather)
    store.put("weather", reading("JFK", 6, temp=6.0))
    store.flush("weather")
    fingerprint = save(store, spine(("JFK", 9)))
    # It came later than the dataset, with an event time before the dataset's.
    store.put("weather", reading("JFK", 7, temp=7.0))
    store.flush("weather")
    assert store.impact("weather", "JFK", at(7)).datasets == ()
    assert [hit.name for hit in store.impact("weather", "JFK", at(6)).datasets] == [
        f"dataset {fingerprint[:12]}"
    ]


def test_compaction_keeps_the_way(filled):
    fingerprint = save(filled, spine(("JFK", 7)))
    before = filled.impact("weather", "JFK", at(6))
    filled.maintain("weather")
    after = filled.impact("weather", "JFK", at(6))
    assert after.datasets == before.datasets
    assert after.datasets[0].name == f"dataset {fingerprint[:12]}"
    assert after.rows[0].write_time == before.rows[0].write_time
    assert after.rows[0].versions[0][0] == 0
    assert set(before.rows[0].files) <= set(after.rows[0].files)


def test_a_windowed_feature_has_every_event_of_its_window(filled):
    hours = dt.timedelta(hours=3)
    mean = WindowedFeature("mean", of="temp", over=hours)
    filled.create_windowed_group(
        WindowedGroup("airports", "weather", by="origin", features=[mean], retention=hours)
    )
    fingerprint = save(filled, spine(("JFK", 8), ("JFK", 12)), "airports")
    report = filled.impact("weather", "JFK", at(6))
    assert report.datasets == (
        DatasetHit(report.datasets[0].uid, f"dataset {fingerprint[:12]}", 1),
    )


def test_what_cannot_be_traced_is_refused(filled):
    with pytest.raises(FeatureGroupNotFound):
        filled.impact("nothing", "JFK")
    with pytest.raises(InvalidRequest, match="zone"):
        filled.impact("weather", "JFK", dt.datetime(2013, 1, 1))  # noqa: DTZ001
    with pytest.raises(InvalidRecord):
        filled.impact("weather", "")
    nothing = filled.impact("weather", "LGA")
    assert (nothing.rows, nothing.datasets, nothing.downstream) == ((), (), ())
