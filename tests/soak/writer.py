"""Clients that put numbered records and remember what was acknowledged, and the check of it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, final

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

import featurestore
from featurestore import FeatureGroup, Get, Put, StoreUnavailable, eventtime, feature_definitions
from featurestore.embedded import EmbeddedStore

START_US: Final = eventtime.parse_iso("2024-01-01T00:00:00Z")
IDENTIFIERS: Final = 25  # of each writer: every one is put many times
GROUP: Final = FeatureGroup(
    "readings",
    record_identifier="id",
    event_time="at",
    features=feature_definitions([("id", "String"), ("at", "String"), ("n", "Integral")]),
)


@final
@dataclass
class Writer:
    """Puts numbered records, each with an event time of its own, and keeps what was acknowledged.

    A record is put once: when the answer is lost, nobody knows whether it was stored.

    Args:
        name: begins its identifiers.
        batch: records in a call.
    """

    name: str
    batch: int
    sent: int = 0
    acknowledged: set[int] = field(default_factory=set)
    failures: list[BaseException] = field(default_factory=list)

    def identifier(self, n: int) -> str:
        """Return the identifier of a record."""
        return f"{self.name}-{n % IDENTIFIERS}"

    def record(self, n: int) -> dict[str, object]:
        """Make the record of a number."""
        return {"id": self.identifier(n), "at": eventtime.format_iso(START_US + n), "n": n}

    def write(self, address: str, stop: threading.Event) -> None:
        """Put until told to stop; a server that is gone is asked again."""
        try:
            with featurestore.connect(address, timeout_s=5) as store:
                while not stop.is_set():
                    numbers = range(self.sent, self.sent + self.batch)
                    self.sent = numbers.stop
                    try:
                        if self.batch == 1:
                            store.put("readings", self.record(numbers[0]))
                        else:
                            puts = [Put("readings", self.record(n)) for n in numbers]
                            assert store.batch_write(puts) == []
                    except StoreUnavailable:
                        stop.wait(0.01)
                    else:
                        self.acknowledged.update(numbers)
        except BaseException as error:  # noqa: BLE001  # the thread's outermost frame
            self.failures.append(error)


def lost_online(
    store: featurestore.FeatureStore,
    writers: Sequence[Writer],
    known: Sequence[tuple[Writer, set[int]]] | None = None,
) -> int:
    """Count the identifiers whose stored record is older than the newest acknowledged one.

    Args:
        store: what is asked.
        writers: who put.
        known: what each has had acknowledged, while they go on; None: all of it.
    """
    lost = 0
    for writer, acknowledged in known or [(writer, writer.acknowledged) for writer in writers]:
        newest = {writer.identifier(n): n for n in sorted(acknowledged)}
        if not newest:
            continue
        found = store.batch_get([Get("readings", sorted(newest))])
        stored = {entry.identifier: entry.record for entry in found}
        for identifier, n in newest.items():
            record = stored.get(identifier)
            if record is None:
                lost += 1
                continue
            # One whose answer was lost may have been stored after it.
            number = record["n"]
            assert isinstance(number, int)
            lost += number < n or record != writer.record(number)
    return lost


class Faults(NamedTuple):
    """What is wrong offline."""

    missing: int  # acknowledged records that are not there
    repeated: int  # records that are there more than once
    differences: int  # between the stores
    parts: int  # batches of which some records are there and some are not


def offline_faults(store: EmbeddedStore, writers: Sequence[Writer]) -> Faults:
    """Flush, and count what is wrong offline."""
    store.flush("readings")
    report = store.verify("readings")
    table: pa.Table = pa.table(
        DeltaTable(store.offline_uri("readings")).to_pyarrow_table(columns=["id", "n"])
    )
    counted = table.group_by(["id", "n"]).aggregate([([], "count_all")])
    repeated = pc.sum(pc.greater(counted["count_all"], 1)).as_py() or 0
    there = set(zip(counted["id"].to_pylist(), counted["n"].to_pylist(), strict=True))
    missing = parts = 0
    for writer in writers:
        missing += sum((writer.identifier(n), n) not in there for n in writer.acknowledged)
        for start in range(0, writer.sent, writer.batch):
            numbers = range(start, start + writer.batch)
            stored = sum((writer.identifier(n), n) in there for n in numbers)
            parts += stored not in (0, writer.batch)
    return Faults(missing, int(repeated), len(report.differences), parts)
