"""A broker, topics, a store and a feature group for the tests of ingestion."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic

import featurestore
from featureline.broker import Broker, BrokerUnavailable
from featurestore import FeatureGroup, FeatureStore, feature_definitions
from ingest import DeadLetters, KafkaSource

_FETCH_WAIT_MS = {"kafka-python": "fetch_max_wait_ms", "confluent": "fetch.wait.max.ms"}
Value = bytes | Mapping[str, object]


@pytest.fixture(scope="session")
def broker() -> Iterator[str]:
    """The address of a Kafka broker: the one that KAFKA_BOOTSTRAP_SERVERS names, or our own."""
    named = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if named:
        yield named
        return
    try:
        started = Broker().start()
    except BrokerUnavailable as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no Kafka broker: {error}")
    with started:
        yield started.address


@pytest.fixture
def new_topic(broker: str) -> Callable[..., str]:
    """Make a topic with a name of its own."""

    def make(*, partitions: int = 1) -> str:
        name = f"test-{uuid.uuid4().hex[:12]}"
        admin = KafkaAdminClient(bootstrap_servers=broker)
        admin.create_topics([NewTopic(name, partitions, 1)])
        admin.close()
        return name

    return make


@pytest.fixture
def produce(broker: str) -> Iterator[Callable[..., None]]:
    """Send values to a topic; returns when the broker has them."""
    producer = KafkaProducer(bootstrap_servers=broker)

    def send(topic: str, values: Iterable[Value], *, partition: int = 0) -> None:
        for value in values:
            sent = value if isinstance(value, bytes) else json.dumps(value).encode()
            producer.send(topic, sent, partition=partition)
        producer.flush()

    yield send
    producer.close()


@pytest.fixture
def client() -> str:
    """The Kafka client library of `source`."""
    return "kafka-python"


@pytest.fixture
def source_of(broker: str) -> Callable[[str], Callable[..., KafkaSource]]:
    """Make sources of a client, with timings that let a group come together in seconds."""

    def of(client: str) -> Callable[..., KafkaSource]:
        def make(topic: str, **options: object) -> KafkaSource:
            settings: dict[str, object] = {
                "consumer_group": "tests",
                "client": client,
                "assignment": "all",
                "max_poll_interval_s": 3.0,
                "session_timeout_s": 3.0,
                "heartbeat_interval_s": 0.5,
                "client_settings": {_FETCH_WAIT_MS[client]: 50},
            }
            return KafkaSource(broker, topic, **(settings | options))  # type: ignore[arg-type]

        return make

    return of


@pytest.fixture
def source(source_of, client: str) -> Callable[..., KafkaSource]:
    """Make a source."""
    return source_of(client)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    """An embedded store with the group `readings`."""
    with featurestore.open(tmp_path / "home") as opened:
        opened.create_feature_group(
            FeatureGroup(
                "readings",
                record_identifier="station",
                event_time="time",
                features=feature_definitions(
                    [
                        ("station", "Integral"),
                        ("time", "String"),
                        ("sequence", "Integral"),
                        ("temp", "Fractional"),
                        ("note", "String"),
                    ]
                ),
            )
        )
        yield opened


@pytest.fixture
def dead_letters(tmp_path: Path) -> DeadLetters:
    """An empty folder of dead letters."""
    return DeadLetters(tmp_path / "dead")


@pytest.fixture
def reading() -> Callable[..., dict[str, object]]:
    """Make the reading with a sequence number: seven stations take turns, second by second."""

    def make(sequence: int, /, **changes: object) -> dict[str, object]:
        minutes, seconds = divmod(sequence, 60)
        hours, minutes = divmod(minutes, 60)
        return {
            "station": sequence % 7,
            "time": f"2024-01-01T{hours:02d}:{minutes:02d}:{seconds:02d}Z",
            "sequence": sequence,
            "temp": sequence / 4,
        } | changes

    return make


@pytest.fixture
def stored(store: FeatureStore) -> Callable[[], list[int]]:
    """Flush, and return the sequence numbers of all rows of the Delta table, sorted."""

    def read() -> list[int]:
        store.flush("readings")
        table = pa.table(DeltaTable(store.offline_uri("readings")).to_pyarrow_table())
        return sorted(table["sequence"].to_pylist())

    return read


@pytest.fixture
def position_name(store: FeatureStore) -> Callable[[KafkaSource], str]:
    """Return the name under which a source's positions in `readings` are stored."""

    def of(source: KafkaSource) -> str:
        source.seek(dict)
        created = store.describe("readings").created
        return f"ingest/readings@{created:%Y%m%dT%H%M%S.%f}/{source.name}"

    return of


@pytest.fixture
def own_broker() -> Iterator[Broker]:
    """A broker that the test may end."""
    if os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        pytest.skip("the named broker must not be ended")
    try:
        started = Broker().start()
    except BrokerUnavailable as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no Kafka broker: {error}")
    with started:
        yield started


@pytest.fixture(scope="session")
def flight_server() -> Iterator[str]:
    """The location of a Flight server with 40 readings in two endpoints."""
    script = Path(__file__).with_name("flight_server.py")
    with subprocess.Popen(
        [sys.executable, str(script), "40", "0", ""], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        yield f"grpc+tcp://127.0.0.1:{server.stdout.readline().strip()}"
        server.kill()
