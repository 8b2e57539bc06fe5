"""From a feature group to a model: the lineage of a training job on a dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import featurestore
import lineage
from featurestore import Dataset, FeatureGroup, feature_definitions
from featurestore.embedded import EmbeddedStore
from training import Channel, InvalidData, TrainingJob, load_model, train, transform

MakeJob = Callable[..., TrainingJob]
HOURS = [f"2013-01-0{1 + i // 20}T{i % 20:02}:00:00Z" for i in range(60)]


@pytest.fixture
def store(home: Path) -> Iterator[EmbeddedStore]:
    store = featurestore.open(home)
    store.create_feature_group(
        FeatureGroup(
            "weather",
            record_identifier="origin",
            event_time="hour",
            features=feature_definitions(
                [
                    ("origin", "String"),
                    ("hour", "String"),
                    ("wind", "Fractional"),
                    ("sky", "String"),
                ]
            ),
        )
    )
    for i, hour in enumerate(HOURS):
        sky = "storm" if i % 3 == 0 else "clear"
        store.put("weather", {"origin": "JFK", "hour": hour, "wind": float(i % 7), "sky": sky})
    store.flush()
    yield store
    store.close()


@pytest.fixture
def dataset(store: EmbeddedStore) -> Dataset:
    times = pa.array(HOURS).cast(pa.timestamp("us", "UTC"))
    late = pa.array([int(i % 3 == 0) for i in range(60)])
    spine = pa.table({"origin": ["JFK"] * 60, "event_time": times, "late": late})
    return store.dataset(spine, ["weather"])


def job_on(make_job: MakeJob, path: Path, name: str = "flights-1") -> TrainingJob:
    return make_job(name, channels=[Channel(channel_name="train", path=str(path), label="late")])


def ascendants(store: EmbeddedStore, uid: str) -> dict[str, list[lineage.Entity]]:
    found: dict[str, list[lineage.Entity]] = {}
    for entity in store.graph.query(uid, "ascendants").entities:
        found.setdefault(entity.type, []).append(entity)
    return found


def test_one_walk_leads_from_the_model_to_the_feature_group(
    store: EmbeddedStore, dataset: Dataset, tmp_path: Path, make_job: MakeJob
) -> None:
    result = train(store, job_on(make_job, dataset.write(tmp_path / "d.parquet"))).check()
    (model,) = store.graph.find(type="Model", source_uri=result.model.as_uri())  # type: ignore[union-attr]
    walk = ascendants(store, model.uid)
    assert set(walk) == {
        *("Model", "TrainingJob", "Image", "DataSet", "DatasetBuild"),
        *("FeatureGroupVersion", "FeatureGroup", "Spine"),
    }
    (data,) = walk["DataSet"]
    assert data.content_hash == dataset.fingerprint
    assert data.uid == dataset.manifest["lineage"]["uid"]
    assert walk["FeatureGroup"][0].name == "weather"


def test_a_datasets_keys_and_time_are_no_inputs_of_the_model(
    store: EmbeddedStore, dataset: Dataset, tmp_path: Path, make_job: MakeJob
) -> None:
    result = train(store, job_on(make_job, dataset.write(tmp_path / "d.parquet"))).check()
    assert load_model(result.model).inputs.names == ("wind", "sky")  # type: ignore[arg-type]


def test_a_channel_may_be_a_fingerprint(
    store: EmbeddedStore, dataset: Dataset, home: Path, make_job: MakeJob
) -> None:
    dataset.write(home / "artifacts" / "datasets" / f"{dataset.fingerprint}.parquet")
    channel = Channel(channel_name="train", dataset=dataset.fingerprint, label="late")
    assert train(store, make_job(channels=[channel])).check().model is not None


def test_event_files_of_tensorboard_come_out_of_the_job(
    store: EmbeddedStore, dataset: Dataset, home: Path, tmp_path: Path, make_job: MakeJob
) -> None:
    path = dataset.write(tmp_path / "d.parquet")
    train(store, job_on(make_job, path, "without")).check()
    assert store.graph.find(type="TensorBoard") == []
    # As the job itself would write them.
    written = home / "jobs" / "with" / "output" / "tensorboard" / "run"
    written.mkdir(parents=True)
    (written / "events.out.tfevents.1.algo-1").write_bytes(b"scalars" * 20)
    train(store, job_on(make_job, path, "with")).check()
    (board,) = store.graph.find(type="TensorBoard")
    assert (board.name, board.source_uri) == ("with TensorBoard", written.parent.as_uri())
    walk = store.graph.query(board, depth=1)
    assert [edge.type for edge in walk.associations] == ["Produced"]
    (job,) = (one for one in walk if one.type == "TrainingJob")
    assert (job.properties["job"], job.properties["source_type"]) == (
        "with",
        "SageMakerTrainingJob",
    )


@pytest.mark.parametrize("cut", [True, False])
def test_a_dataset_file_that_was_changed_is_derived_from_the_dataset(
    store: EmbeddedStore, dataset: Dataset, tmp_path: Path, make_job: MakeJob, cut: bool
) -> None:
    table = pq.read_table(dataset.write(tmp_path / "d.parquet"))
    if cut:
        changed = table.slice(0, 50)
    else:
        place = table.column_names.index("wind")
        changed = table.set_column(place, "wind", pa.array([1.0] * 60))
    path = tmp_path / "changed.parquet"
    pq.write_table(changed, path)
    result = train(store, job_on(make_job, path)).check()
    (model,) = store.graph.find(type="Model", source_uri=result.model.as_uri())  # type: ignore[union-attr]
    walk = ascendants(store, model.uid)
    assert {entity.source_uri for entity in walk["DataSet"]} == {
        path.as_uri(),
        f"dataset:{dataset.fingerprint}",
    }
    edges = store.graph.query(model, "ascendants").associations
    assert [edge.type for edge in edges if edge.source == dataset.manifest["lineage"]["uid"]] == [
        "DerivedFrom"
    ]


def test_new_bytes_at_a_path_are_a_new_version(
    store: EmbeddedStore, tmp_path: Path, make_job: MakeJob, flights: pa.Table
) -> None:
    path = tmp_path / "plain.parquet"
    for number, table in enumerate((flights, flights.slice(100)), start=1):
        pq.write_table(table, path)
        train(store, job_on(make_job, path, f"flights-{number}")).check()
    found = store.graph.find(type="DataSet", source_uri=path.as_uri())
    assert sorted(entity.version for entity in found) == [1, 2]


def test_a_transform_goes_from_the_feature_group_to_the_replies(
    store: EmbeddedStore, dataset: Dataset, make_job: MakeJob, tmp_path: Path
) -> None:
    result = train(store, job_on(make_job, dataset.write(tmp_path / "d.parquet"))).check()
    rows = tmp_path / "rows.parquet"
    pq.write_table(dataset.table.drop_columns(["late"]), rows)

    assert transform(str(result.digest), rows, tmp_path / "out.jsonl", home=store) == 60

    (job,) = store.graph.find(type="TransformJob")
    assert job.name.endswith("-aws-transform-job")
    assert job.properties["source_type"] == "SageMakerTransformJob"
    assert (job.state, job.properties["rows_in"], job.properties["rows_out"]) == (
        "Completed",
        60,
        60,
    )
    replies = lineage.as_artifact(tmp_path / "out.jsonl")
    above = store.graph.query(replies, "ascendants")
    assert {"TrainingJob", "FeatureGroup", "Model"} <= {one.type for one in above}
    assert result.digest in {one.content_hash for one in above if one.type == "Model"}
    (group,) = store.graph.find(type="FeatureGroup")
    made = int(store.describe("weather").created.timestamp())
    assert store.graph.entity(f"weather-{made}") == group
    (pipeline,) = store.graph.find(type="FeatureGroupPipeline")
    assert [one.name for one in store.graph.query(pipeline, "descendants")] == [
        f"weather-{made}-feature-group-pipeline",
        f"weather-{made}-feature-group-pipeline-version",
    ]

    (tmp_path / "bad.csv").write_text("1,2\n")
    with pytest.raises(InvalidData):
        transform(str(result.digest), tmp_path / "bad.csv", tmp_path / "no.jsonl", home=store.home)
    assert not (tmp_path / "no.jsonl").exists()
    assert [one.state for one in store.graph.find(type="TransformJob")] == ["Completed", "Failed"]
