"""The worked examples of `docs/ingest-kafka.md` run, one after another, as a reader would."""

from __future__ import annotations

import json
import os

import pytest
from kafka import KafkaProducer

import featurestore
from featureline.broker import Broker, BrokerUnavailable
from featurestore import FeatureGroup, feature_definitions
from tests.docs.pages import run_examples

GROUP = FeatureGroup(
    "weather",
    record_identifier="origin",
    event_time="hour",
    features=feature_definitions(
        [("origin", "String"), ("hour", "String"), ("temp", "Fractional")]
    ),
)


@pytest.mark.kafka
def test_the_pages_examples_run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    try:
        broker = Broker().start()
    except BrokerUnavailable as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no Kafka broker: {error}")
    with broker, featurestore.open(tmp_path / "home") as store:
        store.create_feature_group(GROUP)
        broker.create_topic("weather", partitions=2)
        producer = KafkaProducer(bootstrap_servers=broker.address)
        for number in range(3):
            record = {"origin": "JFK", "hour": f"2013-01-01T0{number}:00:00Z", "temp": 39.0}
            producer.send("weather", json.dumps(record).encode(), partition=number % 2)
        producer.flush()
        producer.close()
        names = {"address": broker.address, "store": store}
        run_examples("ingest-kafka", expected=3, names=names)
