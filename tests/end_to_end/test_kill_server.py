"""What was acknowledged is there: the server is killed again and again while clients put."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest
from deltalake import DeltaTable

import featurestore
from featurestore import FeatureGroup, Get, Put, StoreUnavailable, eventtime, feature_definitions

pytestmark = pytest.mark.timeout(150)

START_US = eventtime.parse_iso("2024-01-01T00:00:00Z")
IDENTIFIERS = 25  # of each writer: every one is put many times
BATCH = 20
GROUP = FeatureGroup(
    "readings",
    record_identifier="id",
    event_time="at",
    features=feature_definitions([("id", "String"), ("at", "String"), ("n", "Integral")]),
)


@dataclass
class Writer:
    """Puts numbered records, each with an event time of its own, and keeps what was acknowledged.

    A record is put once: when the answer is lost, nobody knows whether it was stored.
    """

    name: str
    batch: int  # records in a call
    sent: int = 0
    acknowledged: set[int] = field(default_factory=set)
    failure: Exception | None = None

    def record(self, n: int) -> dict[str, object]:
        return {"id": self.identifier(n), "at": eventtime.format_iso(START_US + n), "n": n}

    def identifier(self, n: int) -> str:
        return f"{self.name}-{n % IDENTIFIERS}"

    def latest(self) -> dict[str, int]:
        """The newest acknowledged record of each identifier."""
        newest: dict[str, int] = {}
        for n in sorted(self.acknowledged):
            newest[self.identifier(n)] = n
        return newest

    def write(self, address: str) -> None:
        """Put until the server is gone."""
        try:
            with featurestore.connect(address) as store:
                while True:
                    numbers = range(self.sent, self.sent + self.batch)
                    self.sent = numbers.stop
                    if self.batch == 1:
                        store.put("readings", self.record(numbers[0]))
                    else:
                        puts = [Put("readings", self.record(n)) for n in numbers]
                        assert store.batch_write(puts) == []
                    self.acknowledged.update(numbers)
        except StoreUnavailable:
            return
        except Exception as error:  # noqa: BLE001  # the thread's outermost frame
            self.failure = error


@pytest.mark.parametrize(("rounds", "flushing"), [(20, False), (8, True)], ids=["puts", "flushes"])
def test_acknowledged_records_outlive_kill_9(serve, tmp_path, rounds, flushing):
    home = tmp_path / "home"
    writers = [Writer(f"one{i}", 1) for i in range(3)] + [Writer(f"many{i}", BATCH) for i in (0, 1)]
    chance = random.Random(20240507 + flushing)
    busy = 0
    flushes = Counter()

    def flush(address):
        try:
            with featurestore.connect(address) as store:
                while True:
                    flushes["begun"] += 1
                    store.flush("readings")
                    flushes["answered"] += 1
        except StoreUnavailable:
            return

    with featurestore.open(home) as store:
        store.create_feature_group(GROUP)
    for _ in range(rounds):
        server = serve(home).start()
        with featurestore.connect(server.address) as store:
            _read_back(store, writers)
        before = sum(len(writer.acknowledged) for writer in writers)
        threads = [threading.Thread(target=w.write, args=(server.address,)) for w in writers]
        threads += [threading.Thread(target=flush, args=(server.address,))] * flushing
        for thread in threads:
            thread.start()
        time.sleep(chance.uniform(0.2, 0.6))
        server.kill()
        for thread in threads:
            thread.join()
        assert [writer.failure for writer in writers] == [None] * len(writers)
        busy += sum(len(writer.acknowledged) for writer in writers) > before

    with featurestore.open(home) as store:
        _read_back(store, writers)
        store.flush("readings")
        report = store.verify("readings")
        table = DeltaTable(store.offline_uri("readings")).to_pyarrow_table()
    assert report.equal, report.differences
    assert busy >= rounds // 2, "too few lives stored anything: the test shows nothing"
    if flushing:
        assert flushes["begun"] > flushes["answered"], "no kill met a flush"
    rows = Counter(zip(table["id"].to_pylist(), table["n"].to_pylist(), strict=True))
    assert set(rows.values()) == {1}, "a record is offline more than once"
    times = table["_event_time"].cast("int64").to_pylist()
    assert times == [START_US + n for n in table["n"].to_pylist()]
    known = set()
    for writer in writers:
        here = {(writer.identifier(n), n) for n in range(writer.sent)} & set(rows)
        known |= here
        assert here >= {(writer.identifier(n), n) for n in writer.acknowledged}
        for start in range(0, writer.sent, writer.batch):
            stored = sum(
                (writer.identifier(n), n) in here for n in range(start, start + writer.batch)
            )
            assert stored in (0, writer.batch), "a batch is stored in part"
    assert set(rows) == known, "something is offline that nobody put"


def _read_back(store, writers):
    for writer in writers:
        wanted = writer.latest()
        found = store.batch_get([Get("readings", sorted(wanted))]) if wanted else []
        stored = {entry.identifier: entry.record for entry in found}
        assert stored.keys() >= wanted.keys(), "an acknowledged record is gone"
        for identifier, n in wanted.items():
            # One whose answer was lost may have been stored after it.
            record = stored[identifier]
            assert n <= record["n"] < writer.sent
            assert record == writer.record(record["n"])
