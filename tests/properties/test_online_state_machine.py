"""Hypothesis plays put, update, delete, expire, flush, reopen and crash against a plain dict."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from featurestore import PartitionPosition, SourcePosition
from featurestore.codec import DELETED, HARD, NEVER
from featurestore.errors import PositionConflict
from featurestore.online import (
    Batch,
    LmdbStore,
    MemoryStore,
    OnlineStore,
    Outcome,
    RedisStore,
    Write,
)

IDENTIFIERS = [b"a", b"b", "ä€".encode(), b"x" * 507, b"x" * 508, b"x" * 507 + b"y" * 100]
identifiers = st.sampled_from(IDENTIFIERS)
groups = st.integers(1, 2)
times = st.integers(0, 6)


@dataclass
class Latest:
    """What the model knows of one identifier."""

    event_time_us: int
    flags: int
    record: bytes
    expires_us: int


def _position(start: int, end: int) -> SourcePosition:
    return SourcePosition("topic", (PartitionPosition("0", start, end),))


class OnlineMachine(RuleBasedStateMachine):
    """The rules; a subclass says which store they are played on."""

    def __init__(self) -> None:
        super().__init__()
        self.store = self.open()
        self.store_id = self.store.store_id
        self.latest: dict[tuple[int, bytes], Latest] = {}
        self.outbox: dict[int, list[tuple[int, int, bytes]]] = {1: [], 2: []}
        self.position = 0
        self.store.put([Batch([], _position(0, 0))])
        self.now = 0
        self.writes = 0

    def open(self) -> OnlineStore:
        raise NotImplementedError

    # -- the model ------------------------------------------------------------------------

    def expect(self, write: Write) -> Outcome:
        """Do to the model what the store must do, and say with which outcome."""
        key = (write.group, write.identifier)
        old = self.latest.get(key)
        if write.expected is not None:
            if write.expected != self.sequence(*key):  # 0: only where nothing is stored
                return Outcome.CHANGED
            newest = True
        elif old is None:
            newest = True
        elif write.flags:
            newest = write.event_time_us > old.event_time_us
        else:
            newest = write.event_time_us >= old.event_time_us
        if write.flags & HARD and not newest:
            return Outcome.REFUSED
        self.outbox[write.group].append((write.event_time_us, write.flags, write.record))
        if not newest:
            return Outcome.HISTORIC
        record = b"" if write.flags else write.record
        self.latest[key] = Latest(write.event_time_us, write.flags, record, write.expires_us)
        return Outcome.APPLIED

    def sequence(self, group: int, identifier: bytes) -> int:
        """Return the sequence of the stored version, 0 when there is none."""
        (value,) = self.store.get(group, [identifier])
        return 0 if value is None else value.sequence

    def make(
        self, group: int, identifier: bytes, time: int, flags: int, ttl: int | None = None
    ) -> Write:
        self.writes += 1
        expires = NEVER if ttl is None else time + ttl
        record = f"{self.writes}".encode()
        return Write(group, identifier, time, record, flags, expires, 1, self.now)

    # -- the rules ------------------------------------------------------------------------

    @rule(group=groups, identifier=identifiers, time=times, ttl=st.none() | st.integers(1, 6))
    def put(self, group: int, identifier: bytes, time: int, ttl: int | None) -> None:
        write = self.make(group, identifier, time, 0, ttl)
        assert self.store.put([Batch([write])]) == [[self.expect(write)]]

    @rule(
        group=groups,
        identifier=identifiers,
        time=times,
        flags=st.sampled_from([DELETED, DELETED | HARD]),
    )
    def delete(self, group: int, identifier: bytes, time: int, flags: int) -> None:
        write = self.make(group, identifier, time, flags)
        assert self.store.put([Batch([write])]) == [[self.expect(write)]]

    @rule(
        group=groups,
        identifier=identifiers,
        time=times,
        flags=st.sampled_from([0, 0, DELETED]),
        behind=st.sampled_from([0, 0, 1, -1]),
    )
    def update(self, group: int, identifier: bytes, time: int, flags: int, behind: int) -> None:
        expected = max(0, self.sequence(group, identifier) - behind)
        write = self.make(group, identifier, time, flags)._replace(expected=expected)
        outcome = self.expect(write)
        assert self.store.put([Batch([write])]) == [[outcome]]

    @rule(
        batches=st.lists(
            st.tuples(
                st.booleans(),
                st.lists(
                    st.tuples(groups, identifiers, times, st.sampled_from([0, 0, 1, 3])),
                    max_size=3,
                ),
            ),
            min_size=1,
            max_size=3,
        )
    )
    def put_from_a_source(
        self, batches: list[tuple[bool, list[tuple[int, bytes, int, int]]]]
    ) -> None:
        sent: list[Batch] = []
        expected: list[list[Outcome] | None] = []
        for in_place, writes in batches:
            made = [self.make(*write) for write in writes]
            start = self.position if in_place else self.position + 1
            sent.append(Batch(made, _position(start, start + len(writes))))
            if in_place:
                expected.append([self.expect(write) for write in made])
                self.position += len(writes)
            else:
                expected.append(None)
        answers = self.store.put(sent)
        for answer, outcomes in zip(answers, expected, strict=True):
            if outcomes is None:
                assert isinstance(answer, PositionConflict)
            else:
                assert answer == outcomes

    @rule(us=st.integers(1, 4))
    def expire(self, us: int) -> None:
        self.now += us

    @rule(group=groups, count=st.integers(0, 3))
    def flush(self, group: int, count: int) -> None:
        entries = self.store.outbox.read(group, after=0, limit=count)
        if entries:
            removed = self.store.outbox.remove(group, through=entries[-1].sequence)
            assert removed == len(entries)
            del self.outbox[group][:removed]

    @rule(group=groups)
    def drop(self, group: int) -> None:
        self.store.drop(group)
        self.outbox[group].clear()
        for key in [key for key in self.latest if key[0] == group]:
            del self.latest[key]

    @precondition(lambda self: self.reopens)
    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = self.open()
        assert self.store.store_id == self.store_id

    reopens = True

    @precondition(lambda self: self.crashes)
    @rule()
    def crash(self) -> None:
        self.kill_and_start()

    crashes = False

    def kill_and_start(self) -> None:
        raise NotImplementedError

    # -- what must hold after each -------------------------------------------------------

    @invariant()
    def the_latest_are_those_of_the_model(self) -> None:
        for group in (1, 2):
            for identifier, value in zip(
                IDENTIFIERS, self.store.get(group, IDENTIFIERS), strict=True
            ):
                expected = self.latest.get((group, identifier))
                if expected is None:
                    assert value is None
                    continue
                assert value is not None
                found = Latest(value.event_time_us, value.flags, value.record, value.expires_us)
                assert (value.identifier, found) == (identifier, expected)
                assert value.is_readable(self.now) == (
                    not expected.flags and self.now < expected.expires_us
                )

    @invariant()
    def a_scan_shows_them_all(self) -> None:
        for group in (1, 2):
            scanned = [
                value.identifier for _, value in self.store.scan(group, after=None, limit=99)
            ]
            assert sorted(scanned) == sorted(i for g, i in self.latest if g == group)

    @invariant()
    def the_outbox_waits_in_order(self) -> None:
        for group in (1, 2):
            entries = self.store.outbox.read(group, after=0, limit=10_000)
            assert [
                (entry.event_time_us, entry.flags, entry.record) for entry in entries
            ] == self.outbox[group]
            assert self.store.outbox.pending(group) == len(entries)

    @invariant()
    def the_position_is_where_the_source_stands(self) -> None:
        assert self.store.source_position("topic") == {"0": self.position}

    def teardown(self) -> None:
        self.store.close()


class MemoryMachine(OnlineMachine):
    reopens = False  # it ends with the process

    def open(self) -> OnlineStore:
        return MemoryStore()


class LmdbMachine(OnlineMachine):
    crashes = True

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.lives = 0
        self.abandoned: list[OnlineStore] = []
        super().__init__()

    @property
    def path(self) -> Path:
        return Path(self.folder.name) / f"online-{self.lives}"

    def open(self) -> OnlineStore:
        return LmdbStore(self.path, map_bytes=64 << 20)

    def kill_and_start(self) -> None:
        # What a killed process leaves are its files as they are, and nobody who closed them.
        self.abandoned.append(self.store)
        left = self.path / "data.mdb"
        self.lives += 1
        self.path.mkdir()
        shutil.copy(left, self.path)
        self.store = self.open()

    def teardown(self) -> None:
        super().teardown()
        for store in self.abandoned:
            store.close()
        self.folder.cleanup()


TestMemoryStore = MemoryMachine.TestCase
TestMemoryStore.settings = settings(stateful_step_count=30)
TestLmdbStore = LmdbMachine.TestCase
TestLmdbStore.settings = settings(stateful_step_count=30)


class RedisMachine(OnlineMachine):
    new_url: ClassVar[Callable[[], str]]

    def __init__(self) -> None:
        self.url = self.new_url()
        super().__init__()

    def open(self) -> OnlineStore:
        return RedisStore(self.url)


class CrashingRedisMachine(RedisMachine):
    crashes = True
    server: ClassVar[Any]

    def kill_and_start(self) -> None:
        self.server.kill()
        self.server.start()


# Servers are slower than files: fewer examples, of the same rules.
SERVED = settings(stateful_step_count=30, max_examples=25)


def test_redis_store_with_crashes(own_redis):
    CrashingRedisMachine.server = server = own_redis()
    names = iter(range(10**6))
    CrashingRedisMachine.new_url = staticmethod(lambda: f"{server.url}?namespace={next(names)}")
    run_state_machine_as_test(CrashingRedisMachine, settings=SERVED)


def test_redis_cluster_store(cluster_url):
    RedisMachine.new_url = staticmethod(cluster_url)
    run_state_machine_as_test(RedisMachine, settings=SERVED)
