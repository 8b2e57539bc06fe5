"""Any interleaving of puts, deletes, loads, kills, flushes, backfills and losses: the stores agree.

Every row is offline once, however often its load was tried, and after a flush the online store
equals the offline one. What was not flushed when the online store was lost is lost, nothing else.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from featurestore import FeatureGroup, Ttl, TtlUnit, eventtime, feature_definitions
from featurestore.embedded import EmbeddedStore

START_US = 1_704_067_200_000_000
STEPS = ["staged", "noted", "files", "committed", "online", "recorded", "settled"]
NAMES = st.sampled_from(["a", "b", "c", "x" * 600])
TIMES = st.integers(0, 4)
MINUTE = Ttl(TtlUnit.MINUTES, 1)


class Killed(BaseException):
    """The process ends here."""


class Stores(RuleBasedStateMachine):
    """One group's two stores."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="featureline-load-"))
        self.now = START_US + 60_000_000
        self.store = self.opened()
        self.store.create_feature_group(
            FeatureGroup(
                "readings",
                record_identifier="id",
                event_time="at",
                features=feature_definitions(
                    [("id", "String"), ("at", "String"), ("count", "Integral")]
                ),
            )
        )
        self.count = 0
        self.waiting: list[int] = []
        self.offline: list[int] = []
        self.loads: dict[str, dict[str, list[Any]]] = {}
        self.broken = False  # the online store was lost, and is not yet rebuilt

    def opened(self) -> EmbeddedStore:
        return EmbeddedStore(self.home, now=lambda: self.now)

    def next(self) -> int:
        self.count += 1
        return self.count

    @rule(name=NAMES, time=TIMES, ttl=st.sampled_from([None, None, MINUTE]))
    def put(self, name: str, time: int, ttl: Ttl | None) -> None:
        number = self.next()
        self.store.put("readings", {"id": name, "at": at(time), "count": number}, ttl=ttl)
        self.waiting.append(number)

    @rule(name=NAMES, time=TIMES)
    def delete(self, name: str, time: int) -> None:
        self.store.delete("readings", name, event_time=at(time))

    @rule(seconds=st.integers(1, 40))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds * 1_000_000

    @rule()
    def flush(self) -> None:
        self.store.flush("readings")
        self.flushed()

    @rule()
    def sweep(self) -> None:
        self.store.sweep()

    @rule(rows=st.lists(st.tuples(NAMES, TIMES), min_size=1, max_size=5))
    def load(self, rows: list[tuple[str, int]]) -> None:
        assert not self.bring_in(self.new_load(rows))

    @rule(
        rows=st.lists(st.tuples(NAMES, TIMES), min_size=1, max_size=5),
        step=st.sampled_from(STEPS[:-1]),
    )
    def kill_a_load(self, rows: list[tuple[str, int]], step: str) -> None:
        self.killed(step, self.bring_in, self.new_load(rows))
        self.flushed()

    @precondition(lambda self: self.loads)
    @rule(data=st.data(), step=st.sampled_from([None, *STEPS[:-1]]))
    def load_again(self, data: st.DataObject, step: str | None) -> None:
        self.killed(step, self.bring_in, data.draw(st.sampled_from(sorted(self.loads))))
        self.flushed()

    @rule(step=st.sampled_from([None, "noted", "online", "settled"]))
    def backfill(self, step: str | None) -> None:
        self.broken &= self.killed(step, self.store.backfill, "readings")
        self.flushed()

    @rule(step=st.sampled_from([None, "noted", "online", "settled"]))
    def rebuild(self, step: str | None) -> None:
        self.broken &= self.killed(step, self.store.rebuild_online, "readings")
        self.flushed()

    @rule()
    def open_again(self) -> None:
        self.store.close()
        self.store = self.opened()

    @rule()
    def lose_the_online_store(self) -> None:
        self.store.close()
        shutil.rmtree(self.home / "online")
        self.store = self.opened()
        self.waiting = []
        self.broken = True

    @precondition(lambda self: not self.broken)
    @rule()
    def verify(self) -> None:
        # A load that was killed is in the table, and waits for its next try with the online part.
        for key in list(self.loads):
            self.bring_in(key)
        report = self.store.verify("readings")
        self.flushed()
        assert report.equal, report.differences
        rows = self.store.history("readings").read_all()
        counts = sorted(n for n in rows["count"].to_pylist() if n is not None)
        assert counts == sorted(self.offline)

    def new_load(self, rows: list[tuple[str, int]]) -> str:
        key = f"load {len(self.loads)}"
        self.loads[key] = {
            "id": [name for name, _ in rows],
            "at": [at(time) for _, time in rows],
            "count": [self.next() for _ in rows],
        }
        return key

    def bring_in(self, key: str) -> bool:
        rows = self.loads[key]
        result = self.store.load("readings", rows, key=key)
        self.flushed()
        self.offline += [count for count in rows["count"] if count not in self.offline]
        return result.already

    def flushed(self) -> None:
        if not self.store.online.outbox.pending():
            self.offline += self.waiting
            self.waiting = []

    def killed(self, step: str | None, verb: Any, *arguments: Any) -> bool:
        """Do something that ends before a step; say whether it did."""

        def call(name: str) -> None:
            if name == step:
                raise Killed

        stores = self.store.stores
        self.store.__dict__["stores"] = replace(stores, on_step=call)
        try:
            verb(*arguments)
        except Killed:
            return True
        finally:
            self.store.__dict__["stores"] = stores
        return False

    def teardown(self) -> None:
        try:
            if self.broken:
                self.rebuild(None)
            self.verify()
        finally:
            self.store.close()
            shutil.rmtree(self.home)


def at(second: int) -> str:
    return eventtime.format_iso(START_US + second * 1_000_000)


TestStores = Stores.TestCase
TestStores.settings = settings(max_examples=8, stateful_step_count=14, deadline=None)
