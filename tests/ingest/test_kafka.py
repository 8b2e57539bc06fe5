"""Kafka end to end with a real broker: the store's position decides, membership only assigns."""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
import threading
import time

import pytest
from confluent_kafka import Producer
from kafka import (
    KafkaAdminClient,
    KafkaConsumer,
    KafkaProducer,
    OffsetAndMetadata,
    TopicPartition,
)

import lineage
from featurestore import PositionConflict, Put, SourcePosition
from ingest import (
    IngestError,
    JsonDecoder,
    KafkaSource,
    Pipeline,
    SourceNotFound,
    SourceUnavailable,
)

pytestmark = pytest.mark.kafka


@pytest.fixture(params=["kafka-python", "confluent"])
def client(request) -> str:
    """Every test of the source holds for both libraries."""
    return request.param


@pytest.mark.parametrize("assignment", ["all", "group"])
def test_every_message_of_every_partition_is_stored_once(
    assignment, store, stored, source, new_topic, produce, reading
):
    topic = new_topic(partitions=3)
    for partition in range(3):
        produce(topic, [reading(n) for n in range(partition, 300, 3)], partition=partition)
    pipeline = Pipeline(source(topic, assignment=assignment), store, "readings", batch_size=64)
    report = pipeline.run(until_caught_up=True)
    assert (report.read, report.written, report.refused) == (300, 300, 0)
    assert report.positions == {"0": 100, "1": 100, "2": 100}
    assert report.bytes > 300 * 50
    assert stored() == list(range(300))
    assert [store.get("readings", n)["sequence"] for n in range(7)] == [
        max(range(n, 300, 7)) for n in range(7)
    ]


def test_next_run_goes_on_where_the_store_stands(
    store, stored, source, new_topic, produce, reading
):
    topic = new_topic()
    produce(topic, [reading(n) for n in range(10)])
    assert Pipeline(source(topic), store, "readings").run(until_caught_up=True).read == 10
    assert Pipeline(source(topic), store, "readings").run(until_caught_up=True).read == 0
    produce(topic, [reading(n) for n in range(10, 15)])
    assert Pipeline(source(topic), store, "readings").run(until_caught_up=True).read == 5
    assert stored() == list(range(15))


def test_offsets_of_the_consumer_group_are_written_but_never_trusted(
    broker, store, stored, source, new_topic, produce, reading
):
    topic = new_topic()
    produce(topic, [reading(n) for n in range(20)])
    liar = KafkaConsumer(bootstrap_servers=broker, group_id="tests", enable_auto_commit=False)
    partition = TopicPartition(topic, 0)
    liar.assign([partition])
    liar.seek(partition, 15)
    liar.commit({partition: OffsetAndMetadata(15)})
    report = Pipeline(source(topic, assignment="group"), store, "readings").run(
        until_caught_up=True
    )
    assert report.read == 20
    assert stored() == list(range(20))
    assert _eventually(lambda: liar.committed(partition) == 20)
    liar.close()


def test_another_consumer_group_reads_from_the_beginning(
    store, source, new_topic, produce, reading
):
    topic = new_topic()
    produce(topic, [reading(n) for n in range(5)])
    Pipeline(source(topic), store, "readings").run(until_caught_up=True)
    again = Pipeline(source(topic, consumer_group="others"), store, "readings")
    assert again.run(until_caught_up=True).read == 5


def test_refused_messages_are_put_aside_with_partition_and_offset(
    store, stored, source, new_topic, produce, reading, dead_letters
):
    topic = new_topic(partitions=2)
    produce(topic, [reading(0), b"{bad", reading(1), b"\xff\xfe"], partition=0)
    produce(topic, [reading(2, colour="red")], partition=1)
    report = Pipeline(source(topic), store, "readings", dead_letters=dead_letters).run(
        until_caught_up=True
    )
    assert (report.written, report.refused) == (2, 3)
    assert stored() == [0, 1]
    letters = {(one.partition, one.offset): one for one in dead_letters.read("readings")}
    assert set(letters) == {("0", 1), ("0", 3), ("1", 0)}
    assert letters["0", 3].payload == b"\xff\xfe"
    assert letters["0", 3].reason == "byte 0: expected UTF-8, got 0xff"
    assert "readings.colour" in letters["1", 0].reason
    assert topic in letters["0", 1].source


def test_mapping_renames_fields(store, source, new_topic, produce):
    topic = new_topic()
    produce(topic, [{"id": "5", "at": "2024-01-01T00:00:00Z", "secret": "x"}])
    decoder = JsonDecoder({"station": "id", "time": "at"})
    Pipeline(source(topic), store, "readings", decoder=decoder).run(until_caught_up=True)
    assert store.get("readings", 5) == {"station": 5, "time": "2024-01-01T00:00:00Z"}


def test_key_headers_and_timestamp_come_with_the_message(broker, source, new_topic):
    topic = new_topic()
    producer = KafkaProducer(bootstrap_servers=broker)
    headers = [("a", b"1"), ("b", b"\xff"), ("a", b"2")]
    producer.send(
        topic, b"value", key=b"key", headers=headers, partition=0, timestamp_ms=1_700_000_000_123
    )
    producer.send(topic, None, key=b"gone", partition=0)
    producer.close()
    reader = source(topic)
    reader.seek(dict)
    messages = []
    while len(messages) < 2:
        messages += reader.poll(10, 1.0).messages
    reader.close()
    first, second = messages
    assert (first.partition, first.offset, first.value, first.key) == ("0", 0, b"value", b"key")
    assert list(first.headers) == headers
    assert first.timestamp_us == 1_700_000_000_123_000
    assert (second.value, second.key, list(second.headers)) == (None, b"gone", [])


@pytest.mark.parametrize(
    "aborts",
    [
        False,
        pytest.param(
            True,
            marks=pytest.mark.skipif(
                "KAFKA_BOOTSTRAP_SERVERS" not in os.environ,
                reason="our own broker does not say which transactions were aborted",
            ),
        ),
    ],
)
def test_marks_of_transactions_and_what_was_aborted_are_left_out(
    aborts, broker, store, stored, source, new_topic, reading
):
    topic = new_topic()
    producer = Producer({"bootstrap.servers": broker, "transactional.id": topic})
    producer.init_transactions(10)
    for number in range(4):
        producer.begin_transaction()
        producer.produce(topic, json.dumps(reading(number)).encode(), partition=0)
        producer.flush()
        if aborts and number % 2:
            producer.abort_transaction(10)
        else:
            producer.commit_transaction(10)
    Pipeline(source(topic), store, "readings").run(until_caught_up=True)
    assert stored() == ([0, 2] if aborts else [0, 1, 2, 3])


def test_empty_topic_is_caught_up_at_once(store, source, new_topic):
    topic = new_topic(partitions=2)
    assert Pipeline(source(topic), store, "readings").run(until_caught_up=True).read == 0


def test_stop_ends_an_endless_run(store, source, new_topic, produce, reading):
    topic = new_topic()
    stop = threading.Event()
    run = _Running(Pipeline(source(topic), store, "readings"), stop)
    produce(topic, [reading(n) for n in range(3)])
    assert _eventually(lambda: store.get("readings", 2) is not None)
    stop.set()
    assert run.report().read == 3


def test_run_is_one_action_from_topic_to_group(broker, store, source, new_topic, produce, reading):
    topic = new_topic()
    produce(topic, [reading(n) for n in range(3)])
    Pipeline(source(topic), store, "readings").run(until_caught_up=True)
    (action,) = store.graph.find(kind=lineage.Kind.ACTION, type="Ingest")
    assert action.properties["offsets"] == {"0": {"start": 0, "next": 3}}
    (entity,) = store.graph.find(type="Topic")
    assert entity.source_uri == f"kafka://{broker}/{topic}"
    reached = store.graph.query(entity, "descendants").entities
    assert "readings" in [found.name for found in reached if found.type == "FeatureGroup"]


def test_partitions_move_between_members_with_different_clients(
    store, stored, new_topic, produce, reading, source_of
):
    topic = new_topic(partitions=4)
    sent = 0

    def send(count: int) -> None:
        nonlocal sent
        for partition in range(4):
            numbers = range(sent + partition, sent + count, 4)
            produce(topic, [reading(n) for n in numbers], partition=partition)
        sent += count

    stops = [threading.Event(), threading.Event()]
    pipelines = [
        Pipeline(source_of(client)(topic, assignment="group"), store, "readings", batch_size=5)
        for client in ("kafka-python", "confluent")
    ]
    send(40)
    first = _Running(pipelines[0], stops[0])
    assert _eventually(lambda: first.moved == {"0", "1", "2", "3"})
    second = _Running(pipelines[1], stops[1])
    deadline = time.monotonic() + 30
    while not second.moved and time.monotonic() < deadline:
        send(8)
        time.sleep(0.2)
    assert second.moved, "the second member never got a partition"
    stops[0].set()
    first.report()
    send(40)
    assert _eventually(lambda: sum(run.read for run in (first, second)) == sent)
    stops[1].set()
    second.report()
    assert stored() == list(range(sent))


def test_member_that_lost_its_partitions_writes_nothing(
    store, stored, source, new_topic, produce, reading, position_name
):
    """A batch is held longer than the group allows; another member stores it meanwhile."""
    topic = new_topic()
    produce(topic, [reading(n) for n in range(20)])
    late = source(topic, assignment="group", max_poll_interval_s=1.0)
    late.seek(dict)
    batch = late.poll(20, 10.0)
    while not batch.messages:
        batch = late.poll(20, 1.0)
    other = Pipeline(source(topic, assignment="all"), store, "readings", batch_size=7)
    assert other.run(until_caught_up=True).read == 20
    name = position_name(late)
    with pytest.raises(PositionConflict) as conflict:
        store.batch_write(
            [Put("readings", reading(n)) for n in range(20)],
            position=SourcePosition(name, batch.position),
        )
    assert conflict.value.stored == {"0": 20}
    late.seek(lambda: store.source_position(name))
    produce(topic, [reading(20)])
    after = late.poll(20, 10.0)
    while not after.messages:
        after = late.poll(20, 1.0)
    late.close()
    assert [message.offset for message in after.messages] == [20]
    assert stored() == list(range(20))


def test_full_outbox_is_waited_for_beyond_the_poll_interval_by_a_member(
    client, store, stored, source, new_topic, produce, reading, monkeypatch, dead_letters, caplog
):
    caplog.set_level("INFO", "ingest.sources.kafka")
    monkeypatch.setattr("featurestore.online.bound._LOOK_S", 0.0)
    monkeypatch.setattr("ingest.pipeline._LAST_RETRY_S", 0.5)
    topic = new_topic()
    produce(topic, [reading(n) for n in range(40)])
    store.limit_outbox(records=10)
    interval_s = 1.0 if client == "kafka-python" else 3.0  # not below the session's timeout
    reader = source(topic, assignment="group", max_poll_interval_s=interval_s)
    pipeline = Pipeline(
        reader, store, "readings", batch_size=10, dead_letters=dead_letters, retry_s=0.0
    )
    reports, refused = [], threading.Event()
    monkeypatch.setattr(
        "ingest.pipeline._log.warning", lambda message, *facts: refused.set() if facts else None
    )
    thread = threading.Thread(target=lambda: reports.append(pipeline.run(until_caught_up=True)))
    thread.start()
    try:
        assert refused.wait(60)
        time.sleep(interval_s + 0.7)  # without a sign of life it would be out of its consumer group
        assert store.online.outbox.pending() == 10
    finally:
        store.limit_outbox()
        thread.join()
    assert reports[0].refused == 0
    assert caplog.text.count(": partitions [0] from") == 1, "it was assigned once, at the start"
    assert stored() == list(range(40))
    assert not list(dead_letters.read("readings"))


def test_missing_topic_is_an_error_and_is_not_made(broker, store, source, new_topic):
    topic = new_topic()
    with pytest.raises(SourceNotFound, match=f"'{topic}x' does not exist .*mean '{topic}'"):
        Pipeline(source(f"{topic}x"), store, "readings").run(until_caught_up=True)
    admin = KafkaAdminClient(bootstrap_servers=broker)
    assert f"{topic}x" not in admin.list_topics()
    admin.close()


def test_absent_broker_is_an_error_with_its_address(store, monkeypatch):
    monkeypatch.setattr("ingest.sources.kafka._CONNECT_TIMEOUT_S", 0.5)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        source = KafkaSource(address, "weather", consumer_group="tests")
        with pytest.raises(SourceUnavailable, match=f"no Kafka broker answers at {address}"):
            Pipeline(source, store, "readings").run()


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_broker_that_goes_away_ends_the_run_after_a_while(own_broker, store, monkeypatch, caplog):
    caplog.set_level("CRITICAL")  # log records would hold on to the sockets
    monkeypatch.setattr("ingest.sources.kafka._SILENT_LOOK_S", 0.2)
    monkeypatch.setattr("ingest.sources.kafka_python._LOOK_TIMEOUT_MS", 300)
    own_broker.create_topic("weather")
    source = KafkaSource(
        own_broker.address,
        "weather",
        consumer_group="tests",
        assignment="all",
        unavailable_timeout_s=1.0,
    )
    run = _Running(Pipeline(source, store, "readings"), threading.Event())
    time.sleep(1.5)  # silence of a broker that is there is no reason to end
    assert run.is_alive()
    own_broker.stop()
    with pytest.raises(SourceUnavailable, match=r"no Kafka broker answers at .* for"):
        run.report()
    # kafka-python forgets to close the socket of an attempt that failed. Let go of them here,
    # where the warning is expected.
    del run, source
    gc.collect()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topic": ""}, "topic: expected a name"),
        ({"consumer_group": ""}, "consumer_group: expected a name"),
        ({"assignment": "some"}, "assignment: expected 'group' or 'all', got 'some'"),
        ({"client": "java"}, "client: expected one of kafka-python, confluent, auto, got 'java'"),
        ({"max_buffer_bytes": 10}, "max_buffer_bytes: expected at least 65536, got 10"),
        ({"on_gap": "ignore"}, "on_gap: expected 'fail' or 'skip', got 'ignore'"),
    ],
)
def test_wrong_options_are_refused(options, message):
    given = {"bootstrap": "localhost:9092", "topic": "t", "consumer_group": "g"} | options
    with pytest.raises(ValueError, match=message):
        KafkaSource(**given)


def test_absent_library_is_an_error_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    monkeypatch.delitem(sys.modules, "ingest.sources.confluent", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'featureline\[confluent\]'"):
        KafkaSource("localhost:9092", "t", consumer_group="g", client="confluent")
    chosen = KafkaSource("localhost:9092", "t", consumer_group="g", client="auto")
    assert chosen.client == "kafka-python"


def test_wrong_security_setting_is_an_error(broker, store):
    source = KafkaSource(
        broker, "t", consumer_group="g", client_settings={"sasl_mechanics": "PLAIN"}
    )
    with pytest.raises(IngestError, match="sasl_mechanics"):
        Pipeline(source, store, "readings").run()


class _Running(threading.Thread):
    """A pipeline's run in a thread of its own, and how far it is."""

    def __init__(self, pipeline: Pipeline, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.moved: set[str] = set()
        self.read = 0
        self._pipeline = pipeline
        self._stop_event = stop
        self._result: object = None
        self.start()

    def run(self) -> None:
        try:
            self._result = self._pipeline.run(stop=self._stop_event, on_progress=self._note)
        except Exception as error:  # noqa: BLE001  # raised again in report
            self._result = error

    def _note(self, report) -> None:
        self.moved |= set(report.positions)
        self.read = report.read

    def report(self):
        self.join(30)
        assert not self.is_alive()
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


def _eventually(holds, timeout_s: float = 30.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.05)
    return bool(holds())
