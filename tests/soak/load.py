"""A mixed load that may run for hours: memory, the size of LMDB's file, and the outbox must level.

Puts, updates, soft and hard deletes, records with a short ttl, gets and batch gets on a fixed set
of identifiers, while the server flushes every second.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

import featurestore
from featurestore import (
    FeatureGroup,
    Get,
    Put,
    RecordConflict,
    RecordNotFound,
    Ttl,
    TtlUnit,
    eventtime,
    feature_definitions,
)
from featurestore.embedded import open_store
from featurestore.record import now_us
from tests.soak.figure import Figure
from tests.soak.server import ServerProcess

_GROUP: Final = FeatureGroup(
    "mixed",
    record_identifier="id",
    event_time="at",
    features=feature_definitions(
        [("id", "String"), ("at", "String"), *((f"f{n}", "Fractional") for n in range(10))]
    ),
)
_IDENTIFIERS: Final = 5_000
_CLIENTS: Final = 4
_SAMPLE_S: Final = 0.5
_DRAIN_S: Final = 20.0


@final
@dataclass
class _Samples:
    times: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    file: list[int] = field(default_factory=list)
    outbox: list[int] = field(default_factory=list)


def run(seconds: float, work: Path, seed: int) -> list[Figure]:
    """Load one server for so long."""
    work.mkdir(parents=True)
    with open_store(work / "home") as store:
        store.create_feature_group(_GROUP)
    done: Counter[str] = Counter()
    failures: list[BaseException] = []
    samples = _Samples()
    server = ServerProcess(work / "home", work / "server.log", "--flush-seconds", 1)
    code = -1
    try:
        stop = threading.Event()
        threads = [
            threading.Thread(target=_work, args=(server.address, stop, seed + i, done, failures))
            for i in range(_CLIENTS)
        ]
        for thread in threads:
            thread.start()
        with open_store(work / "home") as looking:
            until = time.monotonic() + seconds
            while time.monotonic() < until and not failures:
                time.sleep(_SAMPLE_S)
                samples.times.append(time.monotonic())
                samples.memory.append(server.anonymous_bytes())
                samples.file.append((work / "home" / "online" / "data.mdb").stat().st_size)
                samples.outbox.append(looking.online.outbox.pending())
            stop.set()
            for thread in threads:
                thread.join()
            drained = time.monotonic()
            while looking.online.outbox.pending() and time.monotonic() < drained + _DRAIN_S:
                time.sleep(0.05)
            drain_s = time.monotonic() - drained
            left = looking.online.outbox.pending()
        code = server.stop()
    finally:
        if server.is_up:
            server.kill()
    with open_store(work / "home") as store:
        differences = len(store.verify("mixed").differences)
    for failure in failures[:3]:
        print(f"  load: {failure!r}")
    return [
        *_figures(samples, done, seconds),
        Figure("outbox left after the load", left, "records", most=0),
        Figure("outbox drained in", drain_s, "s", most=_DRAIN_S),
        Figure("online differs from offline", differences, most=0),
        Figure("unexpected errors", len(failures), most=0),
        Figure("exit code after SIGTERM", code, most=0, least=0),
    ]


def _figures(samples: _Samples, done: Counter[str], seconds: float) -> list[Figure]:
    third = max(1, len(samples.times) // 3)
    memory = [statistics.median(part) / 1e6 for part in _thirds(samples.memory, third)]
    file = [max(part) / 1e6 for part in _thirds(samples.file, third)]
    outbox = [max(part) for part in _thirds(samples.outbox, third)]
    # The slope over the last two thirds: caches and pools have filled by then.
    minutes = [at / 60 for at in samples.times[third:]]
    slope = 0.0
    if len(minutes) > 2:
        slope = statistics.linear_regression(
            minutes, [size / 1e6 for size in samples.memory[third:]]
        ).slope
    return [
        Figure("seconds", seconds, "s"),
        *(Figure(f"{verb} per second", count / seconds, "/s") for verb, count in done.items()),
        Figure("memory, middle third", memory[1], "MB"),
        Figure("memory, last third", memory[2], "MB", most=memory[1] * 1.15 + 15),
        Figure("memory, slope after the first third", slope, "MB/min"),
        Figure("data.mdb, middle third", file[1], "MB"),
        Figure("data.mdb, last third", file[2], "MB", most=file[1] * 1.25 + 2),
        Figure("outbox, most in the middle third", outbox[1], "records"),
        Figure("outbox, most in the last third", outbox[2], "records", most=outbox[1] * 2 + 5_000),
    ]


def _thirds(values: list[int], third: int) -> list[list[int]]:
    return [values[:third] or [0], values[third : 2 * third] or [0], values[2 * third :] or [0]]


def _work(
    address: str,
    stop: threading.Event,
    seed: int,
    done: Counter[str],
    failures: list[BaseException],
) -> None:
    chance = random.Random(seed)
    mine: Counter[str] = Counter()
    try:
        with featurestore.connect(address) as store:
            while not stop.is_set():
                verb = chance.choices(
                    ("put", "batch_write", "put_ttl", "get", "batch_get", "update", "delete"),
                    (30, 5, 10, 30, 5, 10, 10),
                )[0]
                _do(store, verb, chance)
                mine[verb] += 1
    except BaseException as error:  # noqa: BLE001  # the thread's outermost frame
        failures.append(error)
    done.update(mine)


def _do(store: featurestore.FeatureStore, verb: str, chance: random.Random) -> None:
    identifier = f"i{chance.randrange(_IDENTIFIERS)}"
    if verb == "put":
        store.put("mixed", _record(identifier, chance))
    elif verb == "put_ttl":
        # Ends before long: the sweep and the next put take its place.
        ttl = Ttl(TtlUnit.SECONDS, chance.choice([1, 5]))
        store.put("mixed", _record(identifier, chance), ttl=ttl)
    elif verb == "batch_write":
        puts = [
            Put("mixed", _record(f"i{chance.randrange(_IDENTIFIERS)}", chance)) for _ in range(25)
        ]
        assert store.batch_write(puts) == []
    elif verb == "get":
        store.get("mixed", identifier)
    elif verb == "batch_get":
        wanted = [f"i{chance.randrange(_IDENTIFIERS)}" for _ in range(50)]
        store.batch_get([Get("mixed", wanted)])
    elif verb == "update":
        try:
            store.update("mixed", identifier, {"f1": chance.random()})
        except (RecordNotFound, RecordConflict):
            return  # deleted, expired, or never put
    else:
        try:
            store.delete("mixed", identifier, event_time=_now(), hard=chance.random() < 0.5)
        except featurestore.InvalidRecord:
            return  # another client put a newer record meanwhile


def _record(identifier: str, chance: random.Random) -> dict[str, object]:
    values = {f"f{n}": chance.random() for n in range(10)}
    return {"id": identifier, "at": _now(), **values}


def _now() -> str:
    return eventtime.format_iso(now_us())
