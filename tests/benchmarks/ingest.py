"""Ingestion from Kafka into both stores, exactly once, beside a bare poll loop."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

import featurestore
from featureline.broker import Broker, BrokerUnavailable
from ingest import DeadLetters, KafkaSource, Pipeline
from tests.benchmarks.harness import (
    Bar,
    BenchmarkSkipped,
    Figure,
    Size,
    compare,
    interleave,
    note,
)
from tests.benchmarks.records import FEATURES, GROUP, make_messages

__all__ = ["run"]

# As many as the pipeline takes by default.
_POLL_RECORDS: Final = 2_000
_POLL_MS: Final = 500
_BARE: Final = "bare kafka-python poll loop on the same topic"


@final
@dataclass(frozen=True)
class _Sizes:
    messages: int
    repeats: int


_SIZES: Final = {
    Size.TINY: _Sizes(1_000, 1),
    Size.DEFAULT: _Sizes(100_000, 3),
    Size.FULL: _Sizes(1_000_000, 3),
}


def run(size: Size, work: Path) -> list[Figure]:
    """Measure from the connection to the last message, and to the Delta table."""
    sizes = _SIZES[size]
    count = sizes.messages
    with _broker() as address:
        topic = f"benchmark-{uuid.uuid4().hex[:12]}"
        _create(address, topic)
        note(f"producing {count:,} messages")
        size_bytes = _produce(address, topic, count)
        note(f"reading them {sizes.repeats} times each way")
        homes = (work / f"home-{number}" for number in itertools.count())

        def both_stores() -> tuple[float, float]:
            return _ingest(next(homes), address, topic, count)

        def bare() -> tuple[float, float]:
            seconds = _poll(address, topic, count)
            return seconds, seconds

        samples = interleave({"ingest": both_stores, "bare": bare}, repeats=sizes.repeats)
    what = f"{count:,} messages of {size_bytes // count} bytes, {len(FEATURES)} features: Kafka"
    bar = None if size is Size.TINY else Bar("ratio", ">=", 0.6)
    return [
        compare(
            f"{what} → {end}",
            "messages/s",
            [count / sample[place] for sample in samples["ingest"]],
            baseline=_BARE,
            baseline_values=[count / sample[place] for sample in samples["bare"]],
            bar=bar if place == 0 else None,
        )
        for place, end in enumerate(("both stores, exactly once", "both stores, and flushed"))
    ]


def _ingest(home: Path, address: str, topic: str, count: int) -> tuple[float, float]:
    """Ingest the topic into a new home; return the seconds to durable, and to the Delta table."""
    with featurestore.open(home) as store:
        store.create_feature_group(GROUP)
        began = time.perf_counter()
        source = KafkaSource(address, topic, consumer_group=home.name, assignment="all")
        letters = DeadLetters(home / "deadletters")
        pipeline = Pipeline(source, store, GROUP.name, dead_letters=letters)
        report = pipeline.run(until_caught_up=True)
        durable = time.perf_counter()
        flushed = store.flush(GROUP.name)[GROUP.name].records
        ended = time.perf_counter()
    if (report.written, report.refused, flushed) != (count, 0, count):
        raise AssertionError(
            f"of {count} messages {report.written} were written, {report.refused} refused and "
            f"{flushed} flushed"
        )
    return durable - began, ended - began


def _poll(address: str, topic: str, count: int) -> float:
    began = time.perf_counter()
    consumer = KafkaConsumer(
        bootstrap_servers=address, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    try:
        consumer.assign([TopicPartition(topic, 0)])
        seen = 0
        while seen < count:
            polled = consumer.poll(timeout_ms=_POLL_MS, max_records=_POLL_RECORDS)
            seen += sum(map(len, polled.values()))
        return time.perf_counter() - began
    finally:
        consumer.close()


@contextmanager
def _broker() -> Iterator[str]:
    """The broker that KAFKA_BOOTSTRAP_SERVERS names, else one of our own."""
    named = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if named:
        yield named
        return
    try:
        broker = Broker().start()
    except BrokerUnavailable as error:
        raise BenchmarkSkipped(str(error)) from error
    with broker:
        yield broker.address


def _create(address: str, topic: str) -> None:
    with contextlib.closing(KafkaAdminClient(bootstrap_servers=address)) as admin:
        admin.create_topics([NewTopic(topic, 1, 1)])


def _produce(address: str, topic: str, count: int) -> int:
    """Send the messages; return their size together."""
    size = 0
    with contextlib.closing(KafkaProducer(bootstrap_servers=address, linger_ms=20)) as producer:
        for message in make_messages(count, users=max(10, count // 100)):
            producer.send(topic, message)
            size += len(message)
        producer.flush()
    return size
