"""Figures of pipelines: rates and lag over workers that come and go, and the metrics page."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from ingest.fleet.progress import Meter, PartitionStatus, PipelineStatus, State, metrics_page
from ingest.fleet.worker import Progress


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.s = 1_000_000.0

    def __call__(self) -> float:
        return self.s


def progress(read: int, position: int, end: int | None, *, came_s: float | None = None) -> Progress:
    return Progress(
        read=read,
        bytes=100 * read,
        positions={"0": position},
        ends={"0": end},
        times={} if came_s is None else {"0": int(came_s * 1e6)},
    )


def test_rates_are_over_one_and_ten_minutes_and_over_restarts():
    clock = Clock()
    meter = Meter(clock=clock, now=clock)
    for second in range(1, 301):
        clock.s += 1
        meter.look([progress(10 * second, 10 * second, None)])
    meter.end(progress(3000, 3000, None))
    for second in range(1, 31):
        clock.s += 1
        assert meter.look([progress(20 * second, 0, None)])["read"] == 3000 + 20 * second
    messages, sizes = meter.rates()
    assert messages == (15.0, 3600 / 330)
    assert sizes == (1500.0, 360_000 / 330)


def test_lag_in_seconds_is_since_the_partition_was_last_even():
    clock = Clock()
    meter = Meter(clock=clock, now=clock)
    assert meter.partitions() == ()
    meter.look([progress(5, 5, 5, came_s=clock.s - 3600)])
    (part,) = meter.partitions()
    assert (part.lag, part.lag_s) == (0, 0.0)
    clock.s += 7
    meter.look([progress(5, 5, 9, came_s=clock.s - 3600)])  # the topic was silent for an hour
    (part,) = meter.partitions()
    assert (part.position, part.end, part.lag, part.lag_s) == (5, 9, 4, 7.0)
    meter.look([progress(7, 7, 9, came_s=clock.s - 2)])
    assert meter.partitions()[0].lag_s == 2.0


def test_what_nobody_reads_now_has_no_lag_that_is_known():
    meter = Meter()
    meter.look([progress(5, 5, 5)])
    meter.look([])
    (part,) = meter.partitions()
    assert (part.position, part.end, part.lag, part.lag_s) == (5, None, None, None)


def test_who_reads_a_partition_now_knows_better_than_who_did_before():
    meter = Meter()
    meter.look([progress(9, 9, 12), Progress(read=5, positions={"0": 5, "1": 7})])
    assert [(part.partition, part.position) for part in meter.partitions()] == [("0", 9), ("1", 7)]


def test_partitions_of_several_workers_are_in_their_order():
    meter = Meter()
    meter.look([Progress(ends={"10": 3, "2": 4}), Progress(ends={"1": None, "0": 7})])
    assert [part.partition for part in meter.partitions()] == ["0", "2", "10"]


def test_the_metrics_page_is_prometheus_text():
    one = PipelineStatus(
        'odd "name"\\',
        "weather",
        State.RUNNING,
        read=7,
        partitions=[PartitionStatus("0", 5, 9, 4, 1.5), PartitionStatus("1")],
    )
    families = {f.name: f for f in text_string_to_metric_families(metrics_page([one]))}
    (lag,) = families["featureline_ingest_lag_records"].samples
    assert (lag.labels, lag.value) == ({"pipeline": one.name, "partition": "0"}, 4.0)
    (state,) = families["featureline_ingest_state"].samples
    assert state.labels["state"] == "running"
    (messages,) = families["featureline_ingest_messages"].samples
    assert (messages.name, messages.value) == ("featureline_ingest_messages_total", 7.0)


def test_a_status_is_the_same_after_json():
    one = PipelineStatus("n", "g", partitions=[PartitionStatus("0", 5, 9, 4, 1.5)])
    assert PipelineStatus.from_json(one.to_json()) == one
    assert (one.to_json()["lag"], one.to_json()["lag_s"]) == (4, 1.5)
