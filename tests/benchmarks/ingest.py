"""Ingestion from Kafka into both stores, exactly once, beside a bare poll loop."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import itertools
import json
import os
import statistics
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, final

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

import featurestore
from featureline.broker import Broker, BrokerUnavailable
from ingest import DeadLetters, KafkaSource, Pipeline, Report
from tests.benchmarks import decoders
from tests.benchmarks.child import ROOT, module_command, run_module
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
_BARE_CONFLUENT: Final = "bare confluent-kafka loop on the same topic"
_SETTLE_S: Final = 30.0
_CONNECT_S: Final = 2.0
_FETCH_WAIT_MS: Final = 50


@final
@dataclass(frozen=True)
class _Sizes:
    messages: int
    repeats: int
    steady_s: float


_SIZES: Final = {
    Size.TINY: _Sizes(1_000, 1, 1.0),
    Size.DEFAULT: _Sizes(100_000, 3, 5.0),
    Size.FULL: _Sizes(1_000_000, 3, 20.0),
}
_PARTITIONS: Final = 4
_STEADY_PER_S: Final = 4_000
_STEADY_PAUSE_S: Final = 0.01


def run(size: Size, work: Path) -> list[Figure]:
    """Measure from the connection to the last message, and to the Delta table."""
    sizes = _SIZES[size]
    count = sizes.messages
    with _broker() as address:
        topic, wide = (f"benchmark-{uuid.uuid4().hex[:12]}" for _ in range(2))
        _create(address, topic, 1)
        _create(address, wide, _PARTITIONS)
        note(f"producing {count:,} messages, twice")
        size_bytes = _produce(address, topic, count)
        _produce(address, wide, count)
        note(f"reading them {sizes.repeats} times each way")
        homes = (work / f"home-{number}" for number in itertools.count())
        memory: dict[str, dict[str, list[int]]] = {}

        def both_stores() -> tuple[float, float]:
            return _ingest(next(homes), address, topic, count)

        def bare() -> tuple[float, float]:
            seconds = _poll(address, topic, count)
            return seconds, seconds

        def bare_confluent() -> tuple[float, float]:
            seconds = _poll_confluent(address, topic, count)
            return seconds, seconds

        def processes(client: str, workers: int) -> tuple[float, float]:
            seconds, resident = _in_processes(next(homes), address, wide, count, client, workers)
            memory.setdefault(client, {})[str(workers)] = resident
            return seconds, seconds

        subjects: dict[str, Callable[[], tuple[float, float]]] = {
            "ingest": both_stores,
            "bare": bare,
            "two workers": partial(processes, "kafka-python", 2),
        }
        if importlib.util.find_spec("confluent_kafka") is not None:
            subjects |= {
                "confluent": partial(processes, "confluent", 1),
                "bare confluent": bare_confluent,
                "two workers, confluent": partial(processes, "confluent", 2),
            }
        samples = interleave(subjects, repeats=sizes.repeats)
        note(f"{_STEADY_PER_S:,} messages/s for {sizes.steady_s:g} s")
        waits = _steady(next(homes), address, sizes.steady_s)
    what = f"{count:,} messages of {size_bytes // count} bytes, {len(FEATURES)} features: Kafka"
    bar = None if size is Size.TINY else Bar("ratio", ">=", 0.6)

    def figure(
        name: str, subject: str, place: int = 0, base: str = "bare", bar: Bar | None = None
    ) -> Figure:
        return compare(
            f"{what} → {name}",
            "messages/s",
            [count / sample[place] for sample in samples[subject]],
            baseline=_BARE if base == "bare" else _BARE_CONFLUENT,
            baseline_values=[count / sample[place] for sample in samples[base]],
            bar=bar,
        )

    figures = [
        figure("both stores, exactly once", "ingest", bar=bar),
        figure("both stores, and flushed", "ingest", 1),
        figure("both stores, two workers", "two workers"),
    ]
    if "confluent" in samples:
        figures += [
            figure("both stores, confluent-kafka", "confluent"),
            figure("the same", "confluent", base="bare confluent"),
            figure("both stores, confluent-kafka, two workers", "two workers, confluent"),
        ]
    quantiles = statistics.quantiles(waits, n=100)
    figures.append(
        compare(
            f"steady {_STEADY_PER_S:,} messages/s: sent → durable in both stores, p99",
            "ms",
            [quantiles[98] * 1000],
            baseline="p50 of the same",
            baseline_values=[quantiles[49] * 1000],
        )
    )
    for client, by_workers in memory.items():
        for workers, resident in by_workers.items():
            figures.append(
                compare(
                    f"resident memory at the end, {client}, {workers} workers",
                    "MB",
                    [resident[-1] / 1e6],
                    baseline="after a quarter of the messages",
                    baseline_values=[resident[0] / 1e6],
                )
            )
    note("decoding")
    return figures + decoders.measure(size)


def _in_processes(
    home: Path, address: str, topic: str, count: int, client: str, workers: int
) -> tuple[float, list[int]]:
    """Ingest with some processes; return the seconds, and memory of the first by quarters."""
    with featurestore.open(home) as store:
        store.create_feature_group(GROUP)
    order = {
        "home": str(home),
        "address": address,
        "topic": topic,
        "consumer_group": home.name,
        "assignment": "all" if workers == 1 else "group",
        "client": client,
    }
    command = module_command("tests.benchmarks.ingest_process", json.dumps(order))
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen(
                    command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
            for _ in range(workers)
        ]
        for process in started:
            _line(process)
        began = time.perf_counter()
        for process in started:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        results = [_line(process) for process in started]
        seconds = time.perf_counter() - began
    written = sum(result["written"] for result in results)
    if written != count:
        raise AssertionError(f"of {count} messages {written} were written")
    return seconds, next(result["resident_bytes"] for result in results if result["written"])


def _line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args} ended early")
    body: dict[str, Any] = json.loads(line)
    return body


def _steady(home: Path, address: str, seconds: float) -> list[float]:
    """Ingest what another process sends at a steady rate; return seconds from sent to durable."""
    topic = f"benchmark-{uuid.uuid4().hex[:12]}"
    _create(address, topic, 1)
    durable: list[tuple[int, float]] = []
    stop = threading.Event()

    def stored(report: Report) -> None:
        durable.append((report.read, time.monotonic()))

    order = {"address": address, "topic": topic, "seconds": seconds, "per_s": _STEADY_PER_S}
    with featurestore.open(home) as store:
        store.create_feature_group(GROUP)
        source = KafkaSource(
            address,
            topic,
            consumer_group=home.name,
            assignment="all",
            # Our broker answers a read when this is over, also when there is something sooner.
            client_settings={"fetch_max_wait_ms": _FETCH_WAIT_MS},
        )
        letters = DeadLetters(home / "deadletters")
        pipeline = Pipeline(source, store, GROUP.name, dead_letters=letters)
        running = threading.Thread(target=partial(pipeline.run, stop=stop, on_progress=stored))
        running.start()
        try:
            time.sleep(_CONNECT_S)
            sent, _ = run_module("tests.benchmarks.produce_process", json.dumps(order))
            count = sent[-1][0]
            deadline = time.monotonic() + _SETTLE_S
            while (not durable or durable[-1][0] < count) and time.monotonic() < deadline:
                time.sleep(_STEADY_PAUSE_S)
        finally:
            stop.set()
            running.join()
    if not durable or durable[-1][0] < count:
        raise AssertionError(f"of {count} messages not all were stored within {_SETTLE_S:g} s")
    waits = []
    places = iter(durable)
    read, at = next(places)
    for number, when in sent:
        while read < number:
            read, at = next(places)
        if number:
            waits.append(at - when)
    return waits


def _poll_confluent(address: str, topic: str, count: int) -> float:
    confluent = importlib.import_module("confluent_kafka")
    began = time.perf_counter()
    settings = {"bootstrap.servers": address, "group.id": "bare", "enable.auto.commit": False}
    consumer = confluent.Consumer(settings)
    try:
        consumer.assign([confluent.TopicPartition(topic, 0, 0)])
        seen = 0
        while seen < count:
            for message in consumer.consume(_POLL_RECORDS, _POLL_MS / 1000):
                if message.error() is not None:
                    raise AssertionError(str(message.error()))
                seen += message.value() is not None
        return time.perf_counter() - began
    finally:
        consumer.close()


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


def _create(address: str, topic: str, partitions: int) -> None:
    with contextlib.closing(KafkaAdminClient(bootstrap_servers=address)) as admin:
        admin.create_topics([NewTopic(topic, partitions, 1)])


def _produce(address: str, topic: str, count: int) -> int:
    """Send the messages; return their size together."""
    size = 0
    with contextlib.closing(KafkaProducer(bootstrap_servers=address, linger_ms=20)) as producer:
        for message in make_messages(count, users=max(10, count // 100)):
            producer.send(topic, message)
            size += len(message)
        producer.flush()
    return size
