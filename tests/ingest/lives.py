"""Processes that ingest and are killed, numbered readings to ingest, and what must be stored."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, final

from featurestore import FeatureStore
from ingest import DeadLetters

STATIONS = 7
BAD_EVERY = 13


def numbered(sequence: int) -> bytes:
    """The message of a number: a reading, or now and then one that is none."""
    if sequence % BAD_EVERY == 0:
        return b"number %d" % sequence
    minutes, seconds = divmod(sequence, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return json.dumps(
        {
            "station": sequence % STATIONS,
            "time": f"2024-01-{1 + days:02d}T{hours:02d}:{minutes:02d}:{seconds:02d}Z",
            "sequence": sequence,
            "temp": sequence / 4,
        }
    ).encode()


def wait_until(holds: Callable[[], bool], timeout_s: float = 30.0) -> bool:
    """Wait until it holds; False when it does not within the time."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if holds():
            return True
        time.sleep(0.01)
    return holds()


def differences(
    store: FeatureStore, letters: DeadLetters, sent: int, offline: Iterable[int]
) -> dict[str, int]:
    """Compare both stores and the dead letters with the numbers that were sent.

    Args:
        store: what was ingested into.
        letters: what was refused.
        sent: how many numbers were sent, from 0.
        offline: the numbers of the Delta table's rows.
    """
    good = [number for number in range(sent) if number % BAD_EVERY]
    found = list(offline)
    bad = [int(letter.payload.decode().split()[1]) for letter in letters.read("readings")]
    newest = [max(n for n in good if n % STATIONS == station) for station in range(STATIONS)]
    records = [store.get("readings", station) for station in range(STATIONS)]
    online = [None if record is None else record["sequence"] for record in records]
    return {
        "lost offline": len(set(good) - set(found)),
        "offline more than once": len(found) - len(set(found)),
        "offline and never sent": len(set(found) - set(good)),
        "not the newest online": sum(a != b for a, b in zip(online, newest, strict=True)),
        "refused and not in the dead letters": len(set(range(0, sent, BAD_EVERY)) - set(bad)),
        "in the dead letters more than once": len(bad) - len(set(bad)),
        "online differs from offline": len(store.verify("readings").differences),
    }


@final
class Producing:
    """Sends numbered messages while it is entered.

    Args:
        send: takes values and the partition they are for.
        partitions: how many the topic has.
        backlog: how many are sent at once, before anything else.
        pause_s: between two batches of eight.
    """

    def __init__(
        self,
        send: Callable[[list[bytes], int], None],
        *,
        partitions: int,
        backlog: int,
        pause_s: float = 0.02,
    ) -> None:
        self.sent = 0
        self._send_values = send
        self._partitions = partitions
        self._backlog = backlog
        self._pause_s = pause_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stopped.wait(self._pause_s):
            self._send(8)

    def _send(self, count: int) -> None:
        numbers = range(self.sent, self.sent + count)
        self._send_values([numbered(n) for n in numbers], self.sent // 8 % self._partitions)
        self.sent = numbers.stop

    def __enter__(self) -> Producing:
        for _ in range(self._partitions):
            self._send(8 * (self._backlog // self._partitions // 8 + 1))
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._thread.join()


@final
class Lives:
    """Processes that ingest.

    Args:
        home: the store's, which has the group `readings`.
        address: the broker's.
        topic: what is read.
        batch_size: messages per transaction.
        options: further ones of KafkaSource.
    """

    def __init__(
        self, home: Path, address: str, topic: str, *, batch_size: int, options: Mapping[str, Any]
    ) -> None:
        root = Path(__file__).parents[2]
        script = Path(__file__).with_name("ingest_on_command.py")
        order = {"home": str(home), "address": address, "topic": topic, "batch_size": batch_size}
        self._parent = subprocess.Popen(
            [sys.executable, str(script), json.dumps(order | dict(options))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        self.alive: list[int] = []
        self._ended: list[int] = []

    def begin(self) -> int:
        """Start one, when those that were ended are gone."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(json.dumps(self._ended) + "\n")
        self._parent.stdin.flush()
        self._ended.clear()
        self.alive.append(int(self._parent.stdout.readline()))
        return self.alive[-1]

    def end(self, pid: int, number: signal.Signals = signal.SIGKILL) -> None:
        """Kill one, or tell it to end."""
        os.kill(pid, number)
        self.alive.remove(pid)
        self._ended.append(pid)

    def __enter__(self) -> Lives:
        self._parent.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        for pid in list(self.alive):
            os.kill(pid, signal.SIGCONT)
            self.end(pid)
        self._parent.__exit__(*error)  # type: ignore[arg-type]
        assert self._parent.returncode == 0
