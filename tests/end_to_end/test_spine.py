"""The path of a record in small: from a Kafka topic to a model, and back through the lineage graph.

topic ─► ingest ─┐
                 ├─► feature group ─► table version ─► dataset ─► training job ─► model
put over gRPC ───┘
"""

from __future__ import annotations

import json
import math
import os

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from kafka import KafkaProducer

import featurestore
import training
from featureline.broker import Broker, BrokerUnavailable
from featurestore import FeatureGroup, eventtime, feature_definitions, group_entity
from ingest import DeadLetters, KafkaSource, Pipeline
from lineage import derived_uid

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

START_US = eventtime.parse_iso("2024-01-01T00:00:00Z")
HOUR_US = 3_600_000_000
HOURS = 240
HYPERPARAMETERS = {"objective": "binary:logistic", "num_round": 10, "eval_metric": "auc"}
AIRPORTS = ("EWR", "JFK", "LGA")

WEATHER = FeatureGroup(
    "weather",
    record_identifier="origin",
    event_time="hour",
    features=feature_definitions(
        [("origin", "String"), ("hour", "String"), ("wind", "Fractional"), ("visib", "Fractional")]
    ),
)


@pytest.fixture(scope="module")
def broker():
    try:
        started = Broker().start()
    except BrokerUnavailable as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no Kafka broker: {error}")
    with started:
        yield started


def wind(airport, hour):
    return 10 + 8 * math.sin(hour / 5 + AIRPORTS.index(airport))


def observation(airport, hour):
    return {
        "origin": airport,
        "hour": eventtime.format_iso(START_US + hour * HOUR_US),
        "wind": wind(airport, hour),
        "visib": float(hour % 10),
    }


def test_from_a_topic_to_a_model_and_back(broker, serve, tmp_path):
    home = tmp_path / "home"
    server = serve(home).start()
    with featurestore.connect(server.address) as store:
        store.create_feature_group(WEATHER)

        # Given: the first half of the weather in a topic, the second half put over gRPC.
        broker.create_topic("weather")
        producer = KafkaProducer(bootstrap_servers=broker.address)
        for hour in range(HOURS // 2):
            for airport in AIRPORTS:
                producer.send("weather", json.dumps(observation(airport, hour)).encode())
        producer.send("weather", b"no observation")
        producer.flush()
        producer.close()
        source = KafkaSource(broker.address, "weather", consumer_group="spine", assignment="all")
        letters = DeadLetters(tmp_path / "dead")
        ingested = Pipeline(source, store, "weather", dead_letters=letters).run(
            until_caught_up=True
        )
        for hour in range(HOURS // 2, HOURS):
            for airport in AIRPORTS:
                store.put("weather", observation(airport, hour))

        assert (ingested.written, ingested.refused) == (HOURS // 2 * 3, 1)
        assert store.get("weather", "JFK") == observation("JFK", HOURS - 1)
        assert store.verify("weather").equal

        # When: a dataset is built of it, and a model trained on that.
        flights = [(airport, hour) for hour in range(HOURS) for airport in AIRPORTS]
        spine = pa.table(
            {
                "origin": [airport for airport, _ in flights],
                # Half an hour later: what was observed at the hour is known.
                "event_time": pa.array(
                    [START_US + hour * HOUR_US + HOUR_US // 2 for _, hour in flights],
                    pa.timestamp("us", "UTC"),
                ),
                "late": [int(wind(airport, hour) > 12) for airport, hour in flights],
            }
        )
        dataset = store.dataset(spine, ["weather"], spine_name="flights")
        assert dataset.table["wind"].to_pylist() == [wind(*flight) for flight in flights]
    assert server.end(15) == (0, "")

    file = dataset.write(tmp_path / "flights.parquet")
    job = training.TrainingJob(
        training_job_name="flights",
        algorithm_name="xgboost",
        hyper_parameters=HYPERPARAMETERS,
        input_data_config=[
            training.Channel(channel_name="train", path=str(file), label="late"),
        ],
        resource_config=training.ResourceConfig(threads=1, device="cpu"),
    )
    with featurestore.open(home) as store:
        result = training.train(store, job).check()

        # Then: the saved model has learned what there was to learn.
        assert result.metrics["train:auc"] > 0.99
        loaded = training.load_model(result.model)
        rows = dataset.table.select(["wind", "visib"])
        scores = loaded.predict(rows)["score"]
        late = pc.greater(scores, 0.5).cast(pa.int64())
        assert pc.mean(pc.equal(late, dataset.table["late"]).cast(pa.int64())).as_py() > 0.98
        # It answers as the model did before it was saved: one fitted here of the same data.
        data = training.Dataset.of(dataset.table.select(["late", "wind", "visib"]), label="late")
        fitted = (
            training.find_algorithm("xgboost")
            .of(HYPERPARAMETERS)
            .fit(data, training.Run(threads=1))
        )
        assert fitted.predict(rows)["score"].equals(scores)
        by_digest = training.load_model(result.digest, home=home)
        assert by_digest.predict(rows)["score"].equals(scores)

        # And the graph leads from the model to everything it came from, and there again.
        graph = store.graph
        (model,) = [e for e in graph.find(type="Model") if e.content_hash == result.digest]
        found = {(e.type, e.name) for e in graph.query(model, "ascendants").entities}
        assert {
            ("FeatureGroup", "weather"),
            ("FeatureGroupVersion", f"weather@{dataset.versions['weather']}"),
            ("DatasetBuild", f"dataset-{dataset.fingerprint[:12]}"),
            ("DataSet", f"dataset {dataset.fingerprint[:12]}"),
            ("Spine", "flights"),
            ("TrainingJob", "flights-aws-training-job"),
        } <= found
        assert {"Topic", "Ingest"} <= {kind for kind, _ in found}
        group = graph.entity(derived_uid(group_entity("weather")))
        reached = graph.query(group, "descendants")
        assert model.uid in {entity.uid for entity in reached.entities}
        assert "Topic" not in {entity.type for entity in reached.entities}
        assert graph.verify().intact
