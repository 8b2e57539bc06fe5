"""What goes wrong around a pipeline, with a real broker: each has its end, and nothing is lost."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time

import boto3
import pytest
from confluent_kafka import Producer
from kafka import KafkaAdminClient
from moto.server import ThreadedMotoServer

import featurestore
from featureline.broker import Broker
from featurestore import StoreFull
from ingest import DeadLetters, KafkaSource, Pipeline, PositionLost, SourceNotFound
from tests.ingest.kafka_proxy import Proxy
from tests.ingest.test_remote import _Server

pytestmark = pytest.mark.kafka

BOTH = pytest.mark.parametrize("client", ["kafka-python", "confluent"])
FETCH = 1
# librdkafka 2.16 crashes where a broker answers a read by topic id for a topic that is gone.
BY_NAME = {FETCH: 12}


@pytest.fixture
def proxy(broker):
    with Proxy(broker, max_versions=BY_NAME) as made:
        yield made


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch):
    """Look at the topic every moment instead of every some seconds."""
    monkeypatch.setattr("ingest.sources.kafka._LOOK_S", 0.3)
    monkeypatch.setattr("ingest.sources.kafka._SILENT_LOOK_S", 0.3)
    monkeypatch.setattr("ingest.sources.kafka._LOOK_AGAIN_S", 0.1)
    monkeypatch.setattr("ingest.sources.kafka._BEHIND_S", 0.3)


@pytest.fixture
def run():
    """Run a pipeline in a thread; `wait` gives its report or raises its error."""
    running = []

    def start(pipeline, **options) -> _Run:
        running.append(_Run(pipeline, options))
        return running[-1]

    yield start
    for one in running:
        one.stop.set()
        one.thread.join(60)


class _Run:
    def __init__(self, pipeline: Pipeline, options: dict) -> None:
        self.stop = threading.Event()
        self.read = 0
        self._pipeline, self._options, self._result = pipeline, options, None
        self.thread = threading.Thread(target=self._go, daemon=True)
        self.thread.start()

    def _go(self) -> None:
        try:
            self._result = self._pipeline.run(
                stop=self.stop, on_progress=self._note, **self._options
            )
        except Exception as error:  # noqa: BLE001  # raised again in wait
            self._result = error

    def _note(self, report) -> None:
        self.read = report.read

    def reach(self, count: int, timeout_s: float = 60.0) -> None:
        until = time.monotonic() + timeout_s
        while self.read < count and self.thread.is_alive() and time.monotonic() < until:
            time.sleep(0.02)
        if self.read < count and isinstance(self._result, Exception):
            raise self._result
        assert self.read >= count

    def wait(self):
        self.thread.join(60)
        assert not self.thread.is_alive()
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


def through(proxy: Proxy, topic: str, client: str, **options) -> KafkaSource:
    settings = {
        "consumer_group": "faults",
        "assignment": "all",
        "max_poll_interval_s": 6.0,
        "session_timeout_s": 3.0,
        "heartbeat_interval_s": 0.5,
    }
    return KafkaSource(proxy.address, topic, client=client, **(settings | options))


@BOTH
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_broker_that_comes_back_is_read_on(
    client, proxy, store, stored, new_topic, produce, reading, run
):
    topic = new_topic()
    produce(topic, [reading(n) for n in range(20)])
    running = run(Pipeline(through(proxy, topic, client), store, "readings"))
    running.reach(20)
    proxy.go_down()
    produce(topic, [reading(n) for n in range(20, 40)])
    time.sleep(1.0)
    proxy.come_back()
    running.reach(40)
    running.stop.set()
    assert running.wait().read == 40
    assert stored() == list(range(40))


@pytest.fixture
def kept_broker():
    """A broker whose data outlive it."""
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
    url = f"http://{host}:{port}"
    s3 = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    s3.create_bucket(Bucket="kafka")
    s3.close()
    more = {"AWS_ENDPOINT": url, "AWS_ALLOW_HTTP": "true"}
    started = Broker(bucket="kafka", environment=keys | more).start()
    try:
        yield started
    finally:
        started.stop()
        server.stop()


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_broker_restarted_with_its_data_is_read_on(kept_broker, store, stored, reading, run):
    kept_broker.create_topic("weather")
    _send(kept_broker.address, "weather", [reading(n) for n in range(10)])
    with Proxy(kept_broker.address) as proxy:
        running = run(Pipeline(through(proxy, "weather", "kafka-python"), store, "readings"))
        running.reach(10)
        kept_broker.stop()
        kept_broker.start()
        proxy.come_back(kept_broker.address)
        _send(kept_broker.address, "weather", [reading(n) for n in range(10, 15)])
        running.reach(15)
        running.stop.set()
        running.wait()
    assert stored() == list(range(15))


@pytest.mark.parametrize(
    ("client", "is_made_anew"),
    [("kafka-python", False), ("kafka-python", True), ("confluent", True)],
    ids=["no topic", "shorter topic", "shorter topic, confluent"],
)
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_broker_restarted_without_its_data_is_an_error(
    client, is_made_anew, proxy, own_broker, store, stored, new_topic, produce, reading, run
):
    topic = new_topic()
    produce(topic, [reading(n) for n in range(20)])
    running = run(Pipeline(through(proxy, topic, client), store, "readings"))
    running.reach(20)
    proxy.go_down()
    if is_made_anew:
        own_broker.create_topic(topic)
        _send(own_broker.address, topic, [reading(n) for n in range(3)])
    proxy.come_back(own_broker.address)
    if is_made_anew:
        with pytest.raises(PositionLost, match="under another consumer group"):
            running.wait()
    else:
        with pytest.raises(SourceNotFound, match=f"topic '{topic}' .* was deleted while"):
            running.wait()
    assert stored() == list(range(20))


@pytest.mark.parametrize(
    ("client", "size"),
    # In Python alone the checksum of 10 MB takes seconds.
    [("kafka-python", 2_000_000), ("confluent", 10_000_000)],
)
def test_huge_message_is_read_and_refused_and_the_next_one_goes_on(
    client, size, broker, source, store, stored, new_topic, reading, dead_letters
):
    topic = new_topic()
    huge = json.dumps(reading(1, note="x" * size)).encode()
    _send(broker, topic, [reading(0), huge, reading(2)])
    pipeline = Pipeline(
        source(topic, client=client, max_buffer_bytes=1 << 16),
        store,
        "readings",
        dead_letters=dead_letters,
    )
    report = pipeline.run(until_caught_up=True)
    assert (report.written, report.refused) == (2, 1)
    (letter,) = dead_letters.read("readings")
    assert (letter.offset, letter.payload) == (1, huge)
    assert "358400 bytes" in letter.reason
    assert stored() == [0, 2]


def test_poison_among_good_messages(store, stored, source, new_topic, produce, reading):
    topic = new_topic()
    poison = [b"\x00\xff", b"{", b"[]", b'{"station": {}}']
    values = [poison[n // 100 % 4] if n % 100 == 7 else reading(n) for n in range(800)]
    produce(topic, values)
    letters = DeadLetters(store.home / "dead")
    report = Pipeline(source(topic), store, "readings", dead_letters=letters, batch_size=50).run(
        until_caught_up=True
    )
    assert (report.written, report.refused) == (792, 8)
    assert [letter.offset for letter in letters.read()] == list(range(7, 800, 100))
    assert stored() == [n for n in range(800) if n % 100 != 7]


def test_clock_that_jumps_ahead_is_refused_beyond_the_tolerance(
    store, stored, source, new_topic, produce, reading, dead_letters
):
    topic = new_topic()
    values = [reading(0), reading(1, time="2999-01-01T00:00:00Z"), reading(2)]
    produce(topic, values)
    report = Pipeline(source(topic), store, "readings", dead_letters=dead_letters).run(
        until_caught_up=True
    )
    assert (report.written, report.refused) == (2, 1)
    (letter,) = dead_letters.read("readings")
    assert letter.offset == 1
    assert "2999-01-01" in letter.reason
    assert stored() == [0, 2]


@BOTH
def test_topic_deleted_while_it_is_read_ends_the_run(
    client, proxy, broker, store, stored, new_topic, produce, reading, run
):
    topic = new_topic()
    produce(topic, [reading(n) for n in range(5)])
    running = run(Pipeline(through(proxy, topic, client), store, "readings"))
    running.reach(5)
    admin = KafkaAdminClient(bootstrap_servers=broker)
    admin.delete_topics([topic])
    admin.close()
    with pytest.raises(SourceNotFound, match=f"topic '{topic}' .* was deleted while it was read"):
        running.wait()
    assert stored() == list(range(5))


@BOTH
@pytest.mark.parametrize(
    "assignment",
    [
        "all",
        pytest.param(
            "group",
            marks=pytest.mark.skipif(
                "KAFKA_BOOTSTRAP_SERVERS" not in os.environ,
                reason="our own broker lets a lone member that joins again wait for ever",
            ),
        ),
    ],
)
def test_added_partition_is_read_from_its_beginning(
    client, assignment, proxy, store, stored, new_topic, produce, reading, run
):
    topic = new_topic(partitions=2)
    proxy.hidden = {1}
    produce(topic, [reading(n) for n in range(5)])
    source = through(proxy, topic, client, assignment=assignment)
    running = run(Pipeline(source, store, "readings"))
    running.reach(5)
    produce(topic, [reading(n) for n in range(5, 9)], partition=1)
    proxy.hidden = set()
    running.reach(9)
    running.stop.set()
    assert running.wait().positions == {"0": 5, "1": 4}
    assert stored() == list(range(9))


def test_server_that_is_killed_is_waited_for(
    source, store, stored, tmp_path, new_topic, produce, reading, run, monkeypatch
):
    monkeypatch.setattr("ingest.pipeline._LAST_RETRY_S", 0.5)
    topic = new_topic()
    server = _Server(tmp_path / "home")
    try:
        server.start()
        with featurestore.connect(server.address) as remote:
            pipeline = Pipeline(source(topic), remote, "readings", batch_size=4)
            running = run(pipeline)
            produce(topic, [reading(n) for n in range(20)])
            running.reach(20)
            server.kill()
            produce(topic, [reading(n) for n in range(20, 40)])
            time.sleep(0.5)
            server.start()
            running.reach(40)
            running.stop.set()
            assert running.wait().read == 40
    finally:
        server.kill()
    assert stored() == list(range(40))


def test_full_disk_ends_the_run_and_the_next_one_goes_on(
    small_disk, broker, source_of, store, new_topic, reading
):
    group = store.describe_feature_group("readings")
    disk = small_disk(4 << 20)
    topic = new_topic()
    count = 30
    _send(broker, topic, [reading(n, note="x" * 300_000) for n in range(count)])
    with featurestore.open(disk / "home") as full:
        full.create_feature_group(group)

        def ingest(batch_size: int):
            reader = source_of("confluent")(topic)
            pipeline = Pipeline(reader, full, "readings", batch_size=batch_size)
            return pipeline.run(until_caught_up=True)

        with pytest.raises(StoreFull):
            ingest(1)
        before = full.online.outbox.pending()
        assert 0 < before < count
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        report = ingest(10)
        assert report.read == count - before
        assert report.positions == {"0": count}
        assert full.online.outbox.pending() == count


def _send(address: str, topic: str, values) -> None:
    producer = Producer({"bootstrap.servers": address, "message.max.bytes": 20_000_000})
    for value in values:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        producer.produce(topic, body, partition=0)
    assert producer.flush(30) == 0
