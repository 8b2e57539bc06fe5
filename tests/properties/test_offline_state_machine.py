"""Any interleaving of puts, flushes, kills, maintenance, vacuum and restores, against plain lists.

Each acknowledged record is offline once: in the newest version, unless a restore took it out, and
in every version that the vacuum left.
"""

from __future__ import annotations

import datetime as dt
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from featurestore import FeatureGroup, feature_definitions
from featurestore.embedded import EmbeddedStore

KEPT = dt.timedelta(days=7)
NOT_KEPT = dt.timedelta(0)


class Killed(BaseException):
    """The process ends here."""


def killed_at(point: str) -> Any:
    """Make a pause that ends the process before one step."""

    def pause(step: str) -> bool:
        if step == point:
            raise Killed
        return True

    return pause


class OfflineTables(RuleBasedStateMachine):
    """One group's table beside the lists of what each of its versions holds."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="featureline-offline-"))
        self.store = EmbeddedStore(self.home)
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
        self.newest: list[int] = []
        self.versions: dict[int, list[int]] = {}

    @rule(records=st.integers(1, 3), day=st.integers(1, 2))
    def put(self, records: int, day: int) -> None:
        for _ in range(records):
            self.count += 1
            record = {"id": f"s{self.count % 3}", "at": f"2024-01-0{day}T00:00:00Z"}
            self.store.put("readings", record | {"count": self.count})
            self.waiting.append(self.count)

    @rule()
    def flush(self) -> None:
        self.store.flush("readings")
        self.settle()

    @precondition(lambda self: self.waiting)
    @rule(committed=st.booleans())
    def kill_a_flush(self, committed: bool) -> None:
        outbox, table = self.store.online.outbox, self.table()
        target, name = (outbox, "remove") if committed else (table, "append")
        kind = type(target)
        original = getattr(kind, name)

        def kill(*_: Any, **__: Any) -> Any:
            raise Killed

        setattr(kind, name, kill)
        try:
            self.store.flush("readings")
        except Killed:
            pass
        finally:
            setattr(kind, name, original)
        if committed:
            self.settle()

    @rule(retention=st.sampled_from([KEPT, NOT_KEPT]), zorder=st.booleans())
    def maintain(self, retention: dt.timedelta, zorder: bool) -> None:
        self.store.maintain("readings", retention=retention, zorder=zorder)
        self.forget(retention)

    @rule(
        point=st.sampled_from(["rewrite", "checkpoint", "vacuum"]),
        retention=st.sampled_from([KEPT, NOT_KEPT]),
    )
    def kill_a_maintenance(self, point: str, retention: dt.timedelta) -> None:
        try:
            self.store.maintain("readings", retention=retention, pause=killed_at(point))
        except Killed:
            return
        self.forget(retention)

    @precondition(lambda self: self.versions)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from(sorted(self.versions)))
        self.store.restore("readings", version)
        self.newest = self.versions[version]
        self.note()

    @precondition(lambda self: self.versions)
    @rule(data=st.data())
    def read_a_version(self, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from(sorted(self.versions)))
        assert self.read(version) == sorted(self.versions[version])

    @rule()
    def open_again(self) -> None:
        self.store.close()
        self.store = EmbeddedStore(self.home)

    @invariant()
    def each_record_is_offline_once(self) -> None:
        if self.versions:
            assert self.read(None) == sorted(self.newest)

    def table(self) -> Any:
        return self.store.offline_table(self.store.registry.get("readings"))

    def read(self, version: int | None) -> list[int]:
        if version is None:
            version = self.table().version()
        rows = self.store.history("readings", version=version).read_all()
        return sorted(rows["count"].to_pylist())

    def settle(self) -> None:
        """What waited is in the table now, by one commit."""
        if self.waiting:
            self.newest = [*self.newest, *self.waiting]
            self.waiting = []
        self.note()

    def note(self) -> None:
        version = self.table().version()
        if version is not None:
            self.versions[version] = self.newest

    def forget(self, retention: dt.timedelta) -> None:
        """After a vacuum only the newest version is sure to be there."""
        if retention == NOT_KEPT:
            self.versions.clear()
        self.note()

    def teardown(self) -> None:
        self.store.flush("readings")
        self.settle()
        self.each_record_is_offline_once()
        self.store.close()
        shutil.rmtree(self.home)


TestOfflineTables = OfflineTables.TestCase
TestOfflineTables.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)
