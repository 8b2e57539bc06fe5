"""What every engine of the online store promises. An engine is done when it passes this file."""

from __future__ import annotations

import itertools
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore import PartitionPosition, SourcePosition
from featurestore.codec import DELETED, ERASED, HARD, MAX_KEY, NEVER, StoredValue
from featurestore.errors import PositionConflict, StoreUnavailable
from featurestore.online import (
    ENGINES,
    Batch,
    Erased,
    LmdbStore,
    MemoryStore,
    OnlineStore,
    Outcome,
    PutColumns,
    RedisStore,
    Write,
)
from featurestore.position import moved

APPLIED, HISTORIC, REFUSED = Outcome.APPLIED, Outcome.HISTORIC, Outcome.REFUSED
SOFT = DELETED
HARDLY = DELETED | HARD
LONGEST_IN_KEY = MAX_KEY - 4


@contextmanager
def open_memory() -> Iterator[OnlineStore]:
    store = MemoryStore()
    yield store
    store.close()


@contextmanager
def open_lmdb() -> Iterator[OnlineStore]:
    with tempfile.TemporaryDirectory() as folder:
        store = LmdbStore(Path(folder) / "online", map_bytes=64 << 20)
        yield store
        store.close()


@contextmanager
def open_redis(new_url: Callable[[], str]) -> Iterator[OnlineStore]:
    store = RedisStore(new_url())
    yield store
    store.close()


# Engines, and for those that need a server the fixture that names one.
OPEN = {"lmdb": open_lmdb, "memory": open_memory, "redis": open_redis, "redis cluster": open_redis}
SERVERS = {"redis": "redis_url", "redis cluster": "cluster_url"}


@pytest.fixture(params=sorted(OPEN), scope="module")
def new_store(request) -> Callable[[], AbstractContextManager[OnlineStore]]:
    if request.param in SERVERS:
        return partial(OPEN[request.param], request.getfixturevalue(SERVERS[request.param]))
    return OPEN[request.param]


@pytest.fixture
def store(new_store) -> Iterator[OnlineStore]:
    with new_store() as opened:
        yield opened


def write(
    identifier: bytes | str = b"a",
    event_time_us: int = 10,
    record: bytes = b"record",
    flags: int = 0,
    *,
    group: int = 1,
    expires_us: int = NEVER,
    schema_version: int = 1,
    invocation_us: int = 0,
    online: bool = True,
    offline: bool = True,
    expected: int | None = None,
) -> Write:
    return Write(
        group,
        identifier.encode() if isinstance(identifier, str) else identifier,
        event_time_us,
        record,
        flags,
        expires_us,
        schema_version,
        invocation_us,
        online,
        offline,
        expected,
    )


def put(store: OnlineStore, *writes: Write) -> list[Outcome]:
    (answer,) = store.put([Batch(writes)])
    assert isinstance(answer, list)
    return answer


def latest(store: OnlineStore, identifier: bytes = b"a", group: int = 1) -> StoredValue | None:
    (value,) = store.get(group, [identifier])
    return value


def state(store: OnlineStore, group: int = 1) -> dict[bytes, tuple[int, int, bytes]]:
    return {
        value.identifier: (value.event_time_us, value.flags, value.record)
        for _, value in store.scan(group, after=None, limit=10_000)
    }


def waiting(store: OnlineStore, group: int = 1) -> list[tuple[int, int, bytes]]:
    entries = store.outbox.read(group, after=0, limit=10_000)
    return [(entry.event_time_us, entry.flags, entry.record) for entry in entries]


# -- the table of engines ---------------------------------------------------------------------


def test_this_suite_opens_every_engine_there_is():
    assert {name.split()[0] for name in OPEN} == ENGINES.keys()


# -- put and get ------------------------------------------------------------------------------


def test_a_value_comes_back_as_it_was_put(store):
    assert put(
        store, write("a", 10, b"bytes", expires_us=99, schema_version=3, invocation_us=7)
    ) == [APPLIED]
    value = latest(store)
    assert value is not None
    assert value == StoredValue(b"a", 0, 3, 10, 99, value.sequence, b"bytes")
    (entry,) = store.outbox.read(1, after=0, limit=9)
    assert entry.sequence == value.sequence
    assert (entry.flags, entry.schema_version, entry.event_time_us) == (0, 3, 10)
    assert (entry.expires_us, entry.invocation_us, entry.record) == (99, 7, b"bytes")


def test_nothing_was_put(store):
    assert store.get(1, [b"a"]) == [None]
    assert store.get(1, []) == []
    assert store.scan(1, after=None, limit=10) == []
    assert store.outbox.read(1, after=0, limit=10) == []
    assert store.source_position("s") == {}


def test_get_answers_in_the_order_asked(store):
    put(store, write("a", record=b"1"), write("b", record=b"2"))
    values = store.get(1, [b"b", b"x", b"a", b"b"])
    assert [value and value.record for value in values] == [b"2", None, b"1", b"2"]


def test_many_groups_answer_as_each_alone(store):
    put(store, write("a", record=b"1"), write("a", group=2, record=b"2"), write("b", group=3))
    wanted = [(2, [b"a", b"x"]), (1, [b"a"]), (9, [b"a"]), (3, []), (2, [b"a"])]
    assert store.get_many(wanted) == [store.get(*each) for each in wanted]
    assert store.get_many([]) == []
    store.close()
    answers = store.get_many(wanted)
    assert [type(answer) for answer in answers] == [StoreUnavailable] * len(wanted)


def test_usage_counts_records_where_the_engine_can(store):
    before = store.usage()
    put(store, *(write(f"{n}", record=b"x" * 1000) for n in range(100)), write("a", group=2))
    after = store.usage()
    assert before.records in (0, None)
    assert after.records in (101, None)
    if after.used_bytes is not None:
        assert after.used_bytes > before.used_bytes


def test_groups_are_apart(store):
    put(store, write("a", group=1, record=b"1"), write("a", group=256, record=b"2"))
    assert latest(store, group=1).record == b"1"
    assert latest(store, group=256).record == b"2"
    assert latest(store, group=2) is None
    assert waiting(store, 1) == [(10, 0, b"1")]
    assert waiting(store, 256) == [(10, 0, b"2")]


def test_there_is_one_outcome_per_write_and_one_list_per_batch(store):
    answers = store.put(
        [
            Batch([write("a", 10), write("a", 9), write("a", 5, flags=HARDLY)]),
            Batch([]),
            Batch([write("a", 11)]),
        ]
    )
    assert answers == [[APPLIED, HISTORIC, REFUSED], [], [APPLIED]]
    assert store.put([]) == []


def test_expired_values_are_kept_for_the_reader_to_judge(store):
    put(store, write("a", 10, expires_us=10))
    value = latest(store)
    assert value is not None
    assert not value.is_readable(10)


@pytest.mark.parametrize(
    "length", [1, LONGEST_IN_KEY - 1, LONGEST_IN_KEY, LONGEST_IN_KEY + 1, 600, 2048]
)
def test_identifiers_of_any_length(store, length):
    one, other = b"x" * (length - 1) + b"a", b"x" * (length - 1) + b"b"
    put(store, write(one, record=b"1"), write(other, record=b"2"))
    assert latest(store, one).identifier == one
    assert [value.record for value in store.get(1, [one, other])] == [b"1", b"2"]
    assert put(store, write(one, 9)) == [HISTORIC]
    assert state(store).keys() == {one, other}


# -- the rule of order ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "outcome", "stays"),
    [
        (write("a", 10, b"1"), write("a", 11, b"2"), APPLIED, b"2"),
        (write("a", 10, b"1"), write("a", 9, b"2"), HISTORIC, b"1"),
        (write("a", 10, b"1"), write("a", 10, b"2"), APPLIED, b"2"),
        # A delete must be later than what it deletes.
        (write("a", 10, b"1"), write("a", 11, b"m", SOFT), APPLIED, b""),
        (write("a", 10, b"1"), write("a", 10, b"m", SOFT), HISTORIC, b"1"),
        (write("a", 10, b"1"), write("a", 9, b"m", SOFT), HISTORIC, b"1"),
        (write("a", 10, b"1"), write("a", 11, b"m", HARDLY), APPLIED, b""),
        (write("a", 10, b"1"), write("a", 10, b"m", HARDLY), REFUSED, b"1"),
        (write("a", 10, b"1"), write("a", 9, b"m", HARDLY), REFUSED, b"1"),
        # A tombstone keeps late puts out; at its own time the record wins.
        (write("a", 10, b"m", SOFT), write("a", 9, b"2"), HISTORIC, b""),
        (write("a", 10, b"m", SOFT), write("a", 10, b"2"), APPLIED, b"2"),
        (write("a", 10, b"m", SOFT), write("a", 11, b"2"), APPLIED, b"2"),
        (write("a", 10, b"m", HARDLY), write("a", 9, b"2"), HISTORIC, b""),
        (write("a", 10, b"m", HARDLY), write("a", 10, b"2"), APPLIED, b"2"),
        (write("a", 10, b"m", SOFT), write("a", 10, b"n", HARDLY), REFUSED, b""),
        (write("a", -5, b"1"), write("a", -6, b"2"), HISTORIC, b"1"),
    ],
)
def test_the_newest_event_time_wins(store, first, second, outcome, stays):
    assert put(store, first) == [APPLIED]
    assert put(store, second) == [outcome]
    assert latest(store).record == stays
    offline = [first] if outcome is REFUSED else [first, second]
    assert waiting(store) == [(w.event_time_us, w.flags, w.record) for w in offline]


def test_a_tombstone_holds_no_features_but_its_marker_does(store):
    put(store, write("a", 10, b"features"), write("a", 11, b"marker", SOFT))
    value = latest(store)
    assert (value.record, value.flags, value.event_time_us) == (b"", SOFT, 11)
    assert waiting(store)[-1] == (11, SOFT, b"marker")


def test_the_first_delete_of_an_unknown_identifier_leaves_a_tombstone(store):
    assert put(store, write("a", 10, b"m", HARDLY)) == [APPLIED]
    assert latest(store).flags == HARDLY
    assert put(store, write("a", 9)) == [HISTORIC]


@st.composite
def histories(draw):
    """Draw writes of few identifiers: at one time, at most one record and one delete."""
    writes = []
    for identifier in draw(st.lists(st.sampled_from("ab"), min_size=1, max_size=2, unique=True)):
        for time in draw(st.lists(st.integers(0, 5), max_size=4, unique=True)):
            kinds = draw(st.sampled_from([[0], [SOFT], [HARDLY], [0, SOFT], [0, HARDLY]]))
            writes.extend(
                write(identifier, time, f"{identifier}{time}{flags}".encode(), flags)
                for flags in kinds
            )
    return writes


@given(histories(), st.data())
def test_any_order_of_arrival_ends_in_the_same_state(new_store, writes, data):
    shuffled = data.draw(st.permutations(writes))
    batches = data.draw(st.lists(st.integers(0, len(writes)), max_size=2).map(sorted))
    edges = [0, *batches, len(writes)]
    with new_store() as one, new_store() as other:
        put(one, *writes)
        for a, b in itertools.pairwise(edges):
            other.put([Batch(shuffled[a:b])])
        assert state(other) == state(one)
        # The state is the one that the rule names: the newest, a record before a delete.
        for identifier, (time, flags, _) in state(one).items():
            newest = max(
                (w for w in writes if w.identifier == identifier),
                key=lambda w: (w.event_time_us, not w.flags),
            )
            assert (time, flags) == (newest.event_time_us, newest.flags)
        # And offline is everything that was not refused.
        kept = {(w.event_time_us, w.flags, w.record) for w in writes if w.flags != HARDLY}
        assert kept <= set(waiting(other))


@given(st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=2)), min_size=1, max_size=8))
def test_of_equal_event_times_the_later_write_wins(new_store, writes):
    with new_store() as store:
        for time, record in writes:
            put(store, write("a", time, record))
        newest = max(time for time, _ in writes)
        last = [record for time, record in writes if time == newest][-1]
        assert latest(store).record == last


# -- erasure ----------------------------------------------------------------------------------


@pytest.mark.parametrize("identifier", [b"ann", b"x" * LONGEST_IN_KEY, b"x" * 2000])
def test_an_erased_identifier_leaves_only_a_hash(store, identifier):
    put(store, write(identifier, 10), write("b", 10))
    assert store.erase(1, identifier, through_us=20) == Erased(True, 20)
    assert latest(store, identifier) is None
    (_, kept), (key, tombstone) = store.scan(1, after=None, limit=9)
    assert kept.identifier == b"b"
    assert tombstone.flags == DELETED | HARD | ERASED
    assert (tombstone.event_time_us, tombstone.record) == (20, b"")
    assert identifier not in key[4:]
    assert identifier not in tombstone.identifier
    assert store.scan(1, after=key, limit=9) == []


def test_writes_an_erasure_covers_are_stored_nowhere(store):
    put(store, write("a", 10))
    store.erase(1, b"a", through_us=20)
    before = waiting(store)
    covered = [
        write("a", 9),
        write("a", 20),
        write("a", 15, b"m", SOFT),
        write("a", 15, b"m", HARDLY),
        write("a", 15, online=False),
        write("a", 15, offline=False),
    ]
    assert put(store, *covered) == [Outcome.ERASED] * len(covered)
    assert latest(store) is None
    assert waiting(store) == before
    assert put(store, write("b", 9), write("a", 9, group=2)) == [APPLIED, APPLIED]


def test_a_later_record_lives_and_the_tombstone_stays(store):
    put(store, write("a", 10))
    store.erase(1, b"a", through_us=20)
    assert put(store, write("a", 21, b"new"), write("a", 20), write("a", 22, b"newer")) == [
        APPLIED,
        Outcome.ERASED,
        APPLIED,
    ]
    assert latest(store).record == b"newer"
    assert put(store, write("a", 21, b"late")) == [HISTORIC]
    assert put(store, write("a", 19)) == [Outcome.ERASED]
    # Done again, as after a kill, it takes nothing that came since; a later erasure does.
    assert store.erase(1, b"a", through_us=20) == Erased(False, 20)
    assert latest(store).record == b"newer"
    assert store.erase(1, b"a", through_us=30) == Erased(True, 30)
    assert latest(store) is None


def test_an_erasure_covers_at_least_the_record_that_is_there(store):
    put(store, write("a", 30), write("t", 5, b"m", SOFT))
    assert store.erase(1, b"a", through_us=20) == Erased(True, 30)
    assert put(store, write("a", 30)) == [Outcome.ERASED]
    assert store.erase(1, b"t", through_us=20) == Erased(True, 20)
    assert store.erase(1, b"never", through_us=-7) == Erased(False, -7)
    assert put(store, write("never", -7), write("never", -6)) == [Outcome.ERASED, APPLIED]


def test_it_says_up_to_when_identifiers_are_erased(store):
    names = [b"a", b"never", b"x" * 900]
    assert store.erased_through(1, names) == [None, None, None]
    store.erase(1, b"a", through_us=20)
    store.erase(1, b"x" * 900, through_us=-5)
    assert store.erased_through(1, names) == [20, None, -5]
    assert store.erased_through(2, names) == [None, None, None]
    assert store.erased_through(1, []) == []


def test_compare_and_set_does_not_bring_an_erased_record_back(store):
    put(store, write("a", 10))
    sequence = latest(store).sequence
    store.erase(1, b"a", through_us=20)
    assert put(store, write("a", 10, expected=sequence)) == [Outcome.ERASED]
    assert put(store, write("a", 25, expected=sequence)) == [Outcome.CHANGED]


def test_columns_of_puts_leave_the_erased_ones_out(store):
    put(store, write("b", 50))
    store.erase(1, b"a", through_us=20)
    columns = PutColumns(
        1,
        [b"a", b"b", b"c"],
        np.array([20, 40, 5]),
        [b"1", b"2", b"3"],
        np.full(3, NEVER),
        1,
        0,
    )
    assert store.put([Batch(columns)]) == [[Outcome.ERASED, HISTORIC, APPLIED]]
    assert [record for _, _, record in waiting(store)] == [b"record", b"2", b"3"]
    assert latest(store) is None


@given(
    st.lists(
        st.tuples(st.sampled_from(["put", SOFT, HARDLY, "erase"]), st.integers(0, 6)), max_size=10
    )
)
def test_erasures_and_writes_in_any_order(new_store, steps):
    """Against a model: the record by the rule of order, and one time up to which all is erased."""
    stored, erased, offline = None, None, []
    with new_store() as store:
        for kind, time in steps:
            if kind == "erase":
                done = store.erase(1, b"a", through_us=time)
                if erased is not None and erased >= time:
                    assert done == Erased(False, erased)
                    continue
                erased = max(t for t in (time, stored and stored[0], erased) if t is not None)
                assert done == Erased(stored is not None, erased)
                stored = None
                continue
            flags = 0 if kind == "put" else kind
            (outcome,) = put(store, write("a", time, flags=flags))
            assert (outcome is Outcome.ERASED) == (erased is not None and time <= erased)
            if outcome is Outcome.ERASED:
                continue
            newest = stored is None or time > stored[0] or (time == stored[0] and not flags)
            assert (outcome is APPLIED) == newest
            if newest:
                stored = (time, flags)
            if outcome is not REFUSED:
                offline.append((time, flags))
        value = latest(store)
        assert (value and (value.event_time_us, value.flags)) == stored
        assert [(time, flags) for time, flags, _ in waiting(store)] == offline


def test_scrubbing_leaves_everything_else_as_it_is(store):
    names = [f"user-{number:05d}" for number in range(500)]
    put(store, *(write(name, 10, f"\x0a\x0a{name}".encode() * 9) for name in names))
    store.outbox.remove(1, through=latest(store, names[-1].encode()).sequence)
    put(store, write("waits", 10), write("other", 10, group=2))
    gone = [names[0], names[250], names[-1]]
    before = {name: kept for name, kept in state(store).items() if name.decode() not in gone}
    for name in gone:
        store.erase(1, name.encode(), through_us=20)
    left = store.scrub(1, [name.encode() for name in gone])
    assert left is None or 0 <= left <= 3
    assert store.scrub(1, [b"never"]) in (0, None)
    after = {name: kept for name, kept in state(store).items() if name[:1] != b"\xfe"}
    assert after == before
    assert len(waiting(store)) == 1
    assert latest(store, b"other", group=2) is not None
    assert put(store, write("later", 10)) == [APPLIED]


# -- compare-and-set --------------------------------------------------------------------------


def test_a_write_made_from_the_stored_version_replaces_it_whatever_its_event_time(store):
    put(store, write("a", 10, b"1"))
    for time, flags, stays in ((5, 0, b"2"), (5, SOFT, b""), (5, HARDLY, b""), (20, 0, b"2")):
        stored = latest(store).sequence
        change = write("a", time, b"2", flags, expected=stored)
        assert put(store, change) == [APPLIED]
        value = latest(store)
        assert (value.event_time_us, value.flags, value.record) == (time, flags, stays)
        assert value.sequence > stored
    assert len(waiting(store)) == 5


def test_a_write_made_from_another_version_changes_nothing(store):
    assert put(store, write("a", 10, expected=1)) == [Outcome.CHANGED], "there is none"
    put(store, write("a", 10, b"1"), write("a", 10, b"2"))
    stored = latest(store).sequence
    for expected in (0, stored - 1, stored + 1, 2**40):
        change = write("a", 20, b"3", expected=expected)
        assert put(store, change) == [Outcome.CHANGED]
    assert latest(store).record == b"2"
    assert latest(store).sequence == stored
    assert waiting(store) == [(10, 0, b"1"), (10, 0, b"2")]


def test_of_two_writes_made_from_one_version_the_first_wins(store):
    put(store, write("a", 10, b"1"))
    stored = latest(store).sequence
    answers = store.put([Batch([write("a", 10, bytes([n]), expected=stored)]) for n in range(2)])
    assert answers == [[APPLIED], [Outcome.CHANGED]]
    assert latest(store).record == b"\0"
    assert put(store, write("b" * 600, 1, expected=stored)) == [Outcome.CHANGED]


def test_a_write_that_expects_nothing_is_stored_where_nothing_is(store):
    for name in ("a", "b" * 600):
        assert put(store, write(name, 10, expected=0)) == [APPLIED]
        assert put(store, write(name, 20, expected=0)) == [Outcome.CHANGED]
        assert store.get(1, [name.encode()])[0].event_time_us == 10
    assert put(store, write("c", 5, b"", SOFT, expected=0)) == [APPLIED]
    assert put(store, write("c", 9, expected=0)) == [Outcome.CHANGED], "a tombstone is something"
    assert [entry.event_time_us for entry in store.outbox.read(1, after=0, limit=9)] == [10, 10, 5]


def test_puts_by_the_column_are_compare_and_set_too(store):
    put(store, write("a", 10), write("b", 10))
    sequences = [value.sequence for value in store.get(1, [b"a", b"b"])]
    columns = PutColumns(
        1,
        [b"a", b"b", b"c", b"d" * 600],
        np.array([5, 50, 5, 5]),
        [b"new"] * 4,
        np.full(4, NEVER),
        1,
        0,
        offline=False,
        expected=np.array([sequences[0], sequences[0], 0, 0]),
    )
    CHANGED = Outcome.CHANGED
    assert put(store, *columns[:3]) == [APPLIED, CHANGED, APPLIED]
    (answer,) = store.put([Batch(columns)])
    assert answer == [CHANGED, CHANGED, CHANGED, APPLIED]
    found = store.get(1, [b"a", b"b", b"c"])
    assert [value.record for value in found] == [b"new", b"record", b"new"]
    assert store.outbox.pending() == 2
    again = replace(columns, expected=np.array([found[0].sequence, 0, 0, 0]), offline=True)
    (answer,) = store.put([Batch(again)])
    assert answer == [APPLIED, CHANGED, CHANGED, CHANGED]
    assert store.outbox.pending() == 3, "what is refused has no entry"


def test_the_last_sequence_lies_between_earlier_and_later_writes(store):
    assert store.last_sequence(1) >= 0
    for number in range(3):
        before = store.last_sequence(1)
        put(store, write(f"k{number}", 10), write("a", 1), group_two := write("a", 1, group=2))
        value = store.get(1, [f"k{number}".encode()])[0]
        assert before < value.sequence <= store.last_sequence(1)
        assert store.get(2, [b"a"])[0].sequence <= store.last_sequence(group_two.group)


# -- stores chosen by the write ---------------------------------------------------------------


def test_a_write_for_the_offline_store_only(store):
    put(store, write("a", 10, b"1"))
    assert put(store, write("a", 11, b"2", online=False)) == [APPLIED]
    assert put(store, write("a", 5, b"3", online=False)) == [APPLIED]
    assert latest(store).record == b"1"
    assert [record for _, _, record in waiting(store)] == [b"1", b"2", b"3"]


def test_a_write_for_the_online_store_only(store):
    assert put(store, write("a", 10, b"1", offline=False)) == [APPLIED]
    assert latest(store).record == b"1"
    assert waiting(store) == []


def test_a_delete_for_the_offline_store_only_meets_nothing_online(store):
    put(store, write("a", 10, b"1"))
    assert put(store, write("a", 5, b"m", HARDLY, online=False)) == [APPLIED]
    assert latest(store).record == b"1"
    assert waiting(store)[-1] == (5, HARDLY, b"m")


# -- source positions -------------------------------------------------------------------------


def position(*parts: tuple[str, int, int], source: str = "topic") -> SourcePosition:
    return SourcePosition(source, tuple(PartitionPosition(*part) for part in parts))


def test_a_position_is_stored_with_its_records(store):
    assert store.put([Batch([write("a")], position(("0", 5, 8)))]) == [[APPLIED]]
    assert store.source_position("topic") == {"0": 8}
    assert store.put([Batch([write("b")], position(("0", 8, 9), ("1", 0, 2)))]) == [[APPLIED]]
    assert store.source_position("topic") == {"0": 9, "1": 2}
    assert store.source_position("other") == {}


@pytest.mark.parametrize("start", [0, 7, 9])
def test_a_batch_that_starts_elsewhere_writes_nothing(store, start):
    store.put([Batch([write("a", record=b"1")], position(("0", 0, 8)))])
    (answer,) = store.put([Batch([write("a", 20), write("b")], position(("0", start, start + 5)))])
    assert isinstance(answer, PositionConflict)
    assert answer.stored == {"0": 8}
    assert answer.source == "topic"
    assert f"expected a batch from 8, got one from {start}" in str(answer)
    assert latest(store).record == b"1"
    assert latest(store, b"b") is None
    assert len(waiting(store)) == 1
    assert store.source_position("topic") == {"0": 8}


def test_a_conflict_in_one_partition_moves_none(store):
    store.put([Batch([], position(("0", 0, 8), ("1", 0, 3)))])
    (answer,) = store.put([Batch([write("a")], position(("1", 3, 4), ("0", 0, 9)))])
    assert isinstance(answer, PositionConflict)
    assert store.source_position("topic") == {"0": 8, "1": 3}


def test_other_batches_of_the_call_are_stored_all_the_same(store):
    store.put([Batch([], position(("0", 0, 8)))])
    answers = store.put(
        [
            Batch([write("a")]),
            Batch([write("b")], position(("0", 0, 8))),
            Batch([write("c")], position(("0", 8, 9))),
            Batch([write("d")], position(("0", 8, 9))),
            Batch([write("e")], position(("0", 8, 9), source="other")),
        ]
    )
    assert [isinstance(answer, PositionConflict) for answer in answers] == [
        False,
        True,
        False,
        True,
        False,
    ]
    assert state(store).keys() == {b"a", b"c", b"e"}
    assert store.source_position("topic") == {"0": 9}
    assert store.source_position("other") == {"0": 9}


def test_a_position_is_moved_back_and_on_by_compare_and_set(store):
    store.put([Batch([], position(("0", 0, 8), ("1", 0, 3)))])
    assert store.put([Batch([], moved("topic", {"0": 2}, expected={"0": 8}))]) == [[]]
    assert store.source_position("topic") == {"0": 2, "1": 3}
    assert store.put([Batch([], moved("topic", {"0": 9, "2": 4}, expected={"0": 2}))]) == [[]]
    assert store.source_position("topic") == {"0": 9, "1": 3, "2": 4}


@pytest.mark.parametrize("expected", [{"0": 7}, {}], ids=["elsewhere", "nowhere"])
def test_a_move_from_a_place_where_the_source_does_not_stand_moves_nothing(store, expected):
    store.put([Batch([], position(("0", 0, 8)))])
    (answer,) = store.put([Batch([], moved("topic", {"0": 2, "1": 5}, expected=expected))])
    assert isinstance(answer, PositionConflict)
    assert answer.stored == {"0": 8}
    assert store.source_position("topic") == {"0": 8}


def test_a_batch_from_before_a_move_writes_nothing(store):
    store.put([Batch([], position(("0", 0, 8)))])
    store.put([Batch([], moved("topic", {"0": 2}, expected={"0": 8}))])
    (answer,) = store.put([Batch([write("a")], position(("0", 8, 9)))])
    assert isinstance(answer, PositionConflict)
    assert store.get(1, [b"a"]) == [None]
    assert store.put([Batch([write("a")], position(("0", 2, 8)))]) == [[APPLIED]]


def test_positions_of_a_refused_write_move_on(store):
    put(store, write("a", 10))
    answers = store.put([Batch([write("a", 5, b"", HARDLY)], position(("0", 0, 1)))])
    assert answers == [[REFUSED]]
    assert store.source_position("topic") == {"0": 1}


# -- the outbox -------------------------------------------------------------------------------


def test_the_outbox_is_read_in_slices(store):
    put(store, *(write(str(i), record=bytes([i])) for i in range(5)))
    put(store, write("x", group=2))
    first = store.outbox.read(1, after=0, limit=2)
    rest = store.outbox.read(1, after=first[-1].sequence, limit=10)
    entries = [*first, *rest]
    assert [entry.record for entry in entries] == [bytes([i]) for i in range(5)]
    sequences = [entry.sequence for entry in entries]
    assert sequences == sorted(set(sequences))
    assert sequences[0] > 0
    assert store.outbox.read(1, after=sequences[-1], limit=10) == []


def test_entries_are_removed_up_to_a_sequence_in_one_group(store):
    put(store, *(write(str(i)) for i in range(5)))
    put(store, write("x", group=2))
    assert (store.outbox.pending(), store.outbox.pending(1), store.outbox.pending(2)) == (6, 5, 1)
    entries = store.outbox.read(1, after=0, limit=10)
    assert store.outbox.remove(1, through=entries[2].sequence) == 3
    assert store.outbox.remove(1, through=entries[2].sequence) == 0
    assert store.outbox.read(1, after=0, limit=10) == entries[3:]
    assert (store.outbox.pending(), store.outbox.pending(1), store.outbox.pending(2)) == (3, 2, 1)
    assert store.outbox.remove(1, through=2**63) == 2
    assert store.outbox.pending(3) == 0
    assert latest(store, b"0") is not None, "the value stays when its entry goes"


def test_a_sequence_is_never_used_again(store):
    put(store, write("a"), write("b"))
    last = store.outbox.read(1, after=0, limit=10)[-1].sequence
    store.outbox.remove(1, through=last)
    put(store, write("c", group=2))
    put(store, write("a", 11))
    assert store.outbox.read(2, after=0, limit=1)[0].sequence > last
    assert [entry.record for entry in store.outbox.read(1, after=last, limit=10)] == [b"record"]


# -- scan -------------------------------------------------------------------------------------


def test_a_scan_goes_through_all_pages_in_the_order_of_bytes(store):
    identifiers = [b"b", b"a", b"\xc3\xa4", b"ab", b"\x00", b"B", b"aa"]
    put(store, *(write(i) for i in identifiers), write("other", group=2))
    seen: list[bytes] = []
    after = None
    while page := store.scan(1, after=after, limit=3):
        assert len(page) <= 3
        seen.extend(value.identifier for _, value in page)
        after = page[-1][0]
    assert seen == sorted(identifiers)


def test_a_scan_shows_tombstones_and_goes_on_behind_a_key_that_is_gone(store):
    put(store, write("a"), write("b", flags=SOFT), write("c"))
    page = store.scan(1, after=None, limit=1)
    assert [value.identifier for _, value in page] == [b"a"]
    key = page[-1][0]
    rest = store.scan(1, after=key + b"\x00", limit=10)
    assert [(value.identifier, value.flags) for _, value in rest] == [(b"b", SOFT), (b"c", 0)]


def test_long_identifiers_come_last(store):
    long = [b"a" * 600, b"b" * 2048]
    put(store, *(write(i) for i in [*long, b"z", "\U0010ffff".encode()]))
    page = store.scan(1, after=None, limit=10)
    assert [value.identifier for _, value in page][:2] == [b"z", "\U0010ffff".encode()]
    assert {value.identifier for _, value in page[2:]} == set(long)


@given(
    st.sets(st.text(min_size=1, max_size=3) | st.just("x" * 600), max_size=12), st.integers(1, 5)
)
def test_pages_of_any_size_show_each_identifier_once(new_store, texts, limit):
    with new_store() as store:
        put(store, *(write(text) for text in texts))
        seen: list[str] = []
        after = None
        while page := store.scan(1, after=after, limit=limit):
            seen.extend(value.identifier.decode() for _, value in page)
            after = page[-1][0]
    assert seen == sorted(texts, key=lambda text: (len(text.encode()) > 507, text.encode()))


# -- drop -------------------------------------------------------------------------------------


def test_drop_removes_one_group_and_its_outbox(store):
    put(store, write("a"), write("b" * 600), write("a", group=2), write("a", group=0))
    store.put([Batch([], position(("0", 0, 3)))])
    store.drop(1)
    store.drop(1)
    store.drop(77)
    assert state(store, 1) == {}
    assert store.outbox.pending(1) == 0
    for group in (0, 2):
        assert state(store, group).keys() == {b"a"}
        assert store.outbox.pending(group) == 1
    assert store.source_position("topic") == {"0": 3}


def test_drop_of_many(store):
    put(store, *(write(str(i)) for i in range(10_005)))
    put(store, write("a", group=2))
    store.drop(1)
    assert store.scan(1, after=None, limit=1) == []
    assert store.outbox.pending() == 1
    assert put(store, write("0", 1)) == [APPLIED], "nothing is left that would be newer"


# -- many threads, names, end -----------------------------------------------------------------


def test_threads_end_with_the_newest(store):
    def work(worker: int) -> None:
        for step in range(25):
            time = step * 4 + worker
            put(store, write("a", time, str(time).encode()), write(f"{worker}", time))

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert latest(store).record == b"99"
    entries = store.outbox.read(1, after=0, limit=1000)
    assert len({entry.sequence for entry in entries}) == len(entries) == 200


def test_a_store_has_a_name_of_its_own(new_store):
    with new_store() as one, new_store() as other:
        assert one.store_id
        assert one.store_id == one.store_id
        assert one.store_id != other.store_id


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.put([Batch([write("a")])]),
        lambda store: store.get(1, [b"a"]),
        lambda store: store.scan(1, after=None, limit=1),
        lambda store: store.drop(1),
        lambda store: store.source_position("s"),
        lambda store: store.outbox.read(1, after=0, limit=1),
        lambda store: store.outbox.remove(1, through=1),
        lambda store: store.outbox.pending(),
    ],
    ids=["put", "get", "scan", "drop", "position", "read", "remove", "pending"],
)
def test_a_closed_store_is_unavailable(store, use):
    use(store)
    store.close()
    store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        use(store)
