"""A cluster whose nodes die, fill up, and hand their slots over."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest

from featurestore import PartitionPosition, SourcePosition
from featurestore.codec import NEVER
from featurestore.errors import StoreFull, StoreUnavailable
from featurestore.online import Batch, Outcome, RedisStore, Write


def write(name: str, time_us: int = 1, group: int = 1, record: bytes = b"r") -> Write:
    return Write(group, name.encode(), time_us, record, 0, NEVER, 1, 1)


@pytest.fixture
def store(cluster_url):
    opened = RedisStore(f"{cluster_url()}&timeout_s=2")
    yield opened
    opened.close()


def owner(store: RedisStore, nodes, group: int):
    """The node that has a group, and its slot."""
    slot = store.link._slot_of(store.keys.of_group(group)[0])
    _, port = store.link._owner(slot)
    (found,) = (node for node in nodes if node.port == port)
    return found, slot


def test_a_node_that_is_killed_is_unavailable_until_it_is_back(store, redis_cluster):
    groups = range(1, 30)
    store.put([Batch([write("a", group=group) for group in groups])])
    dead, _ = owner(store, redis_cluster, 1)
    theirs = [g for g in groups if owner(store, redis_cluster, g)[0] is dead]
    others = [g for g in groups if g not in theirs]
    assert others
    dead.kill()
    try:
        with pytest.raises(StoreUnavailable, match=r"does not answer.*check that it runs"):
            store.get(theirs[0], [b"a"])
        with pytest.raises(StoreUnavailable):
            store.put([Batch([write("b", group=theirs[0])])])
        # The others have their groups still.
        assert store.get(others[0], [b"a"])[0] is not None
        answers = store.get_many([(g, [b"a"]) for g in groups])
        for group, answer in zip(groups, answers, strict=True):
            if group in theirs:
                assert isinstance(answer, StoreUnavailable)
            else:
                assert answer[0].identifier == b"a"
    finally:
        dead.start()
    deadline = time.monotonic() + 20
    while b"cluster_state:ok" not in dead.say("CLUSTER", "INFO"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for group in groups:
        assert store.get(group, [b"a"])[0] is not None
    assert store.put([Batch([write("b", group=theirs[0])])]) == [[Outcome.APPLIED]]


def test_a_slot_that_moves_is_followed(store, redis_cluster):
    store.put([Batch([write("0")])])
    source, slot = owner(store, redis_cluster, 1)
    target = next(node for node in redis_cluster if node is not source)
    names = {node: node.say("CLUSTER", "MYID").split(b"\r\n")[1].decode() for node in redis_cluster}
    told: list[int] = [0]
    end = threading.Event()

    def put() -> None:
        while not end.is_set():
            number = told[-1] + 1
            try:
                store.put([Batch([write(f"{number}")])])
            except StoreUnavailable:
                continue  # the slot is between the two for too long
            told.append(number)

    worker = threading.Thread(target=put)
    worker.start()
    try:
        time.sleep(0.05)
        target.say("CLUSTER", "SETSLOT", slot, "IMPORTING", names[source])
        source.say("CLUSTER", "SETSLOT", slot, "MIGRATING", names[target])
        time.sleep(0.05)
        before = len(told)
        for key in store.keys.of_group(1):
            answer = source.say("MIGRATE", "127.0.0.1", target.port, key.decode(), 0, 5000)
            assert answer.startswith(b"+"), answer
            time.sleep(0.02)
        time.sleep(0.2)
        assert len(told) > before, "the new node takes puts that are asked for"
        for node in (target, source, *redis_cluster):
            node.say("CLUSTER", "SETSLOT", slot, "NODE", names[target])
        time.sleep(0.1)
    finally:
        end.set()
        worker.join()
    # A client that knows the old owner follows too.
    with closing(RedisStore(store.url)) as late:
        slots = late.link._owners
        slots[slot] = ("127.0.0.1", source.port)
        (answer,) = late.get_many([(1, [f"{told[-1]}".encode()])])
        assert answer[0] is not None
    assert owner(store, redis_cluster, 1)[0] is target
    values = store.get(1, [f"{number}".encode() for number in told])
    assert None not in values
    entries = store.outbox.read(1, after=0, limit=10**6)
    sequences = [entry.sequence for entry in entries]
    assert sequences == sorted(set(sequences))
    assert set(sequences) >= {value.sequence for value in values}


def test_a_full_node_says_what_is_stored(store, redis_cluster):
    groups = list(range(1, 30))
    store.put([Batch([write("a", group=group) for group in groups])])
    full, _ = owner(store, redis_cluster, 1)
    others = [g for g in groups if owner(store, redis_cluster, g)[0] is not full]
    mine, other = 1, others[0]
    source = next(
        name
        for name in map(str, range(1000))
        if store.link._owner(store.link._slot_of(store.keys.positions(name)))[1] != full.port
    )
    where = SourcePosition(source, (PartitionPosition("0", 0, 2),))
    full.say("CONFIG", "SET", "maxmemory", "1mb")
    try:
        with pytest.raises(StoreFull, match="nothing was written"):
            store.put([Batch([write("b", group=mine)])])
        with pytest.raises(StoreUnavailable, match="other parts of the put are stored already"):
            store.put([Batch([write("b", group=other), write("b", group=mine)])])
        with pytest.raises(StoreUnavailable, match="waits in its redo log"):
            store.put([Batch([write("c", group=other), write("c", group=mine)], where)])
        with pytest.raises(StoreFull):
            store.source_position(source)
    finally:
        full.say("CONFIG", "SET", "maxmemory", "0")
    assert store.source_position(source) == {"0": 2}
    assert store.get(mine, [b"c"])[0] is not None
    assert store.get(other, [b"c"])[0] is not None
    assert store.put([Batch([write("b", group=other), write("b", group=mine)])])
