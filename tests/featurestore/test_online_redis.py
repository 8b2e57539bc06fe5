"""What is Redis's own: settings, full memory, replicas, kills. The rest is in tests/contracts."""

from __future__ import annotations

import random
import re
import sys
import threading
import time

import pytest

from featurestore import PartitionPosition, SourcePosition
from featurestore.codec import DELETED, HARD, NEVER
from featurestore.errors import InvalidRequest, StoreCorrupt, StoreFull, StoreUnavailable
from featurestore.online import Batch, Outcome, RedisStore, Write

FAST = "timeout_s=2"


def write(
    identifier: str,
    event_time_us: int = 1,
    record: bytes = b"record",
    *,
    flags: int = 0,
    group: int = 1,
    expected: int | None = None,
) -> Write:
    return Write(
        group,
        identifier.encode(),
        event_time_us,
        record,
        flags,
        NEVER,
        1,
        1,
        expected=expected,
    )


def position(start: int, end: int) -> SourcePosition:
    return SourcePosition("topic", (PartitionPosition("0", start, end),))


@pytest.fixture
def open_store():
    opened = []

    def make(url: str, **options) -> RedisStore:
        store = RedisStore(url, **options)
        opened.append(store)
        return store

    yield make
    for store in opened:
        store.close()


# -- opening ----------------------------------------------------------------------------------


def test_it_is_all_there_when_opened_again(open_store, redis_url):
    url = redis_url()
    store = open_store(url)
    store.put([Batch([write("a")])])
    (entry,) = store.outbox.read(1, after=0, limit=9)
    store.outbox.remove(1, through=entry.sequence)
    store.close()

    again = open_store(url)
    assert again.store_id == store.store_id
    assert again.get(1, [b"a"])[0].record == b"record"
    again.put([Batch([write("b")])])
    assert again.outbox.read(1, after=0, limit=9)[0].sequence > entry.sequence


def test_another_homes_store_is_refused(open_store, redis_url):
    url = redis_url()
    store = open_store(url, store_id="a" * 32)
    assert store.store_id == "a" * 32
    with pytest.raises(StoreUnavailable, match=r"of another home \(aaa.*home has bbb.*\?names"):
        open_store(url, store_id="b" * 32)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"appendfsync": "everysec"}, r"appendfsync everysec.*\?durability=everysec.*last second"),
        ({"appendfsync": "no"}, r"got appendonly yes, appendfsync no.*\?durability=none"),
        ({"appendonly": "no"}, r"got appendonly no.*\?durability=none.*had not saved"),
        ({"no_appendfsync_on_rewrite": "yes"}, r"no-appendfsync-on-rewrite yes.*durability=none"),
        ({"maxmemory_policy": "allkeys-lru"}, r"throw records away.*`maxmemory-policy noeviction`"),
    ],
)
def test_settings_that_lose_records_are_refused(open_store, own_redis, settings, message):
    server = own_redis(**settings)
    with pytest.raises(StoreUnavailable, match=message) as refusal:
        open_store(server.url)
    assert str(server.port) in str(refusal.value)


@pytest.mark.parametrize(
    ("settings", "accepted"),
    [
        ({"appendfsync": "everysec"}, "everysec"),
        ({"appendonly": "no"}, "none"),
        ({"appendfsync": "always"}, "everysec"),
    ],
)
def test_what_is_accepted_by_name_is_taken(open_store, own_redis, settings, accepted):
    store = open_store(f"{own_redis(**settings).url}?durability={accepted}")
    assert store.put([Batch([write("a")])]) == [[Outcome.APPLIED]]


def test_settings_that_cannot_be_read_are_refused(open_store, own_redis):
    server = own_redis()
    server.say("ACL", "SETUSER", "default", "-config")
    with pytest.raises(StoreUnavailable, match=r"does not show its settings.*\?durability=none"):
        open_store(server.url)
    open_store(f"{server.url}?durability=none")


def test_a_database_of_another_program_is_refused_and_kept(open_store, own_redis):
    server = own_redis()
    server.say("SET", "theirs", "1")
    with pytest.raises(StoreCorrupt, match="belongs to another program: it has 1 keys"):
        open_store(server.url)
    assert server.say("DBSIZE") == b":1\r\n"
    open_store(server.url.replace("/0", "/1"))


def test_a_store_of_another_version_is_refused_by_its_form(open_store, own_redis):
    server = own_redis()
    server.say("SET", "featureline:format", "featureline-redis-2")
    with pytest.raises(StoreCorrupt, match=r"has the form 'featureline-redis-2', this version"):
        open_store(server.url)


def test_a_key_that_holds_something_else_is_named(open_store, redis_server, redis_url):
    store = open_store(redis_url())
    redis_server.say("SET", store.keys.of_group(1)[0].decode(), "theirs")
    with pytest.raises(StoreCorrupt, match="a key of the online store holds something else"):
        store.get(1, [b"a"])


def test_nobody_listens(open_store, own_redis):
    server = own_redis()
    server.kill()
    with pytest.raises(StoreUnavailable, match=rf"127.0.0.1:{server.port} does not answer.*check"):
        open_store(server.url)


def test_a_login_that_is_refused(open_store, own_redis):
    server = own_redis(requirepass="right")
    with pytest.raises(StoreUnavailable, match="refuses the login") as refusal:
        open_store(server.url.replace("//", "//:wrong-one@"))
    assert "wrong-one" not in str(refusal.value)
    open_store(server.url.replace("//", "//:right@"))


def test_a_single_server_is_no_cluster(open_store, redis_server):
    with pytest.raises(StoreUnavailable, match=r"is no node of a cluster.*write redis://"):
        open_store(redis_server.url.replace("redis:", "redis+cluster:"))


def test_the_absent_extra_is_named(open_store, monkeypatch, redis_url):
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(StoreUnavailable, match=r"pip install 'featureline\[redis\]'"):
        open_store(redis_url())


# -- numbers ----------------------------------------------------------------------------------

EDGES = [
    -(2**63),
    -(2**53) - 1,
    -(2**53),
    -(2**32) - 1,
    -(2**32),
    -(2**32) + 1,
    -1,
    0,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**53,
    2**53 + 1,
    2**63 - 2,
    2**63 - 1,
]


def test_event_times_of_64_bits_are_compared_exactly(open_store, redis_url):
    store = open_store(redis_url())
    for stored in EDGES:
        for time_us in EDGES:
            name = f"{stored} {time_us}"
            store.put([Batch([write(name, stored)])])
            for flags, loses in ((0, Outcome.HISTORIC), (DELETED | HARD, Outcome.REFUSED)):
                wins = time_us > stored or (time_us == stored and not flags)
                ((outcome,),) = store.put([Batch([write(name, time_us, flags=flags)])])
                assert outcome is (Outcome.APPLIED if wins else loses)
                if wins:
                    store.put([Batch([write(f"{name} again", stored)])])
                    name += " again"


@pytest.mark.parametrize("last", [2**32 - 2, 2**53 - 1, 2**53, 2**63 - 5])
def test_sequences_of_64_bits_are_counted_exactly(open_store, redis_url, last):
    store = open_store(redis_url())
    store.see(last)
    store.put([Batch([write(str(i)) for i in range(4)])])
    entries = store.outbox.read(1, after=last, limit=9)
    assert [entry.sequence for entry in entries] == [last + 1 + i for i in range(4)]
    assert store.outbox.read(1, after=last + 2, limit=9) == entries[2:]
    values = store.get(1, [b"0", b"3"])
    assert [value.sequence for value in values] == [last + 1, last + 4]
    wrong, right = write("3", 0, expected=last + 3), write("3", 0, expected=last + 4)
    assert store.put([Batch([wrong, right])]) == [[Outcome.CHANGED, Outcome.APPLIED]]
    assert store.outbox.remove(1, through=last + 2) == 2
    assert store.outbox.read(1, after=0, limit=9)[0].sequence == last + 3


# -- full, moved, lost ------------------------------------------------------------------------


def test_a_full_server_refuses_whole_and_recovers(open_store, own_redis):
    server = own_redis(maxmemory="8mb")
    store = open_store(server.url)
    chance = random.Random(1)
    stored: list[str] = []

    def fill() -> None:
        for at in range(10_000):
            record = b"x" * chance.choice([10, 1000, 20_000])
            store.put([Batch([write(f"{at}", record=record)], position(at, at + 1))])
            stored.append(f"{at}")

    with pytest.raises(StoreFull, match="has reached its maxmemory; nothing was written: flush"):
        fill()
    assert len(stored) > 50
    assert store.source_position("topic") == {"0": len(stored)}
    assert None not in store.get(1, [name.encode() for name in stored])
    assert store.get(1, [str(len(stored)).encode()]) == [None]
    assert store.outbox.pending(1) == len(stored)
    # A flush makes room again.
    assert store.outbox.remove(1, through=2**63) == len(stored)
    assert store.put([Batch([write("more")])]) == [[Outcome.APPLIED]]


def test_usage_is_the_servers(open_store, own_redis):
    server = own_redis()
    store = open_store(server.url)
    store.put([Batch([write("a"), write("b", group=2)])])
    usage = store.usage()
    assert (usage.records, usage.limit_bytes, usage.file_bytes) == (2, None, None)
    assert usage.used_bytes > 100_000
    server.say("CONFIG", "SET", "maxmemory", str(64 << 20))
    assert store.usage().limit_bytes == 64 << 20


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (("maxmemory-policy", "allkeys-lru"), "would throw records away"),
        (("appendonly", "no"), "keeps no append-only file any more.*set `appendonly yes`"),
    ],
)
def test_a_server_whose_settings_change_is_seen(open_store, own_redis, setting, message):
    server = own_redis()
    store = open_store(server.url)
    server.say("CONFIG", "SET", *setting)
    with pytest.raises(StoreUnavailable, match=message):
        store.usage()


def test_many_groups_share_one_round_trip(open_store, own_redis):
    server = own_redis()
    store = open_store(server.url)
    store.put([Batch([write(f"{n}", group=n) for n in range(1, 50)])])

    def round_trips() -> int:
        return int(re.search(rb"total_reads_processed:(\d+)", server.say("INFO", "stats"))[1])

    before = round_trips()
    answers = store.get_many([(n, [f"{n}".encode(), b"x"]) for n in range(1, 50)])
    # Besides it, the question before and its own connection's end.
    assert round_trips() - before <= 4
    assert [[value and value.identifier for value in answer] for answer in answers] == [
        [f"{n}".encode(), None] for n in range(1, 50)
    ]
    before = round_trips()
    assert store.outbox.pending() == 49
    assert round_trips() - before <= 5


def test_a_key_that_holds_something_else_spoils_only_its_group(open_store, redis_server, redis_url):
    store = open_store(redis_url())
    store.put([Batch([write("a"), write("a", group=2)])])
    redis_server.say("SET", store.keys.of_group(1)[0].decode(), "theirs")
    spoilt, whole = store.get_many([(1, [b"a"]), (2, [b"a"])])
    assert isinstance(spoilt, StoreCorrupt)
    assert whole[0].identifier == b"a"


def test_a_script_that_the_server_forgot_is_sent_again(open_store, redis_server, redis_url):
    store = open_store(redis_url())
    store.put([Batch([write("a")])])
    assert redis_server.say("SCRIPT", "FLUSH") == b"+OK\r\n"
    assert store.put([Batch([write("b")])]) == [[Outcome.APPLIED]]
    assert len(store.scan(1, after=None, limit=9)) == 2


def test_a_put_that_is_too_large_for_one_step(open_store, redis_url, monkeypatch):
    monkeypatch.setattr("featurestore.online.redis.MAX_CALL_BYTES", 1000)
    store = open_store(redis_url())
    with pytest.raises(InvalidRequest, match=r"a put of 1\d\d\d bytes: expected at most 1000"):
        store.put([Batch([write("a", record=b"x" * 1000)])])


def test_a_server_that_hangs_is_unavailable_after_the_timeout(open_store, own_redis):
    server = own_redis()
    store = open_store(f"{server.url}?timeout_s=0.3")
    store.put([Batch([write("a")])])
    server.pause()
    try:
        for use in (
            lambda: store.put([Batch([write("b")])]),
            lambda: store.get(1, [b"a"]),
            lambda: store.outbox.pending(),
        ):
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match="does not answer"):
                use()
            assert time.monotonic() - began < 5
    finally:
        server.resume()
    # The answer of the put that nobody waited for is not taken for the next one's.
    assert store.get(1, [b"a"])[0].identifier == b"a"
    assert store.put([Batch([write("c")])]) == [[Outcome.APPLIED]]


def test_a_primary_that_became_a_replica_takes_no_writes(open_store, own_redis):
    server, other = own_redis(), own_redis()
    store = open_store(server.url)
    store.put([Batch([write("a")])])
    server.say("REPLICAOF", "127.0.0.1", other.port)
    with pytest.raises(StoreUnavailable, match="is a replica and takes no writes; connect to its"):
        store.put([Batch([write("b")])])
    with pytest.raises(StoreUnavailable, match=rf"connect to its primary 127.0.0.1:{other.port}"):
        open_store(server.url)


def test_replicas_asked_for_must_have_the_put(open_store, own_redis):
    primary = own_redis(repl_diskless_sync_delay=0)
    replica = own_redis(replicaof=f"127.0.0.1 {primary.port}")
    deadline = time.monotonic() + 20
    while b"online" not in primary.say("INFO", "replication"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    store = open_store(f"{primary.url}?replicas=1&replica_timeout_ms=2000")
    assert store.put([Batch([write("a")])]) == [[Outcome.APPLIED]]
    assert b":1\r\n" in replica.say("EXISTS", store.keys.of_group(1)[0].decode())
    replica.kill()
    with pytest.raises(StoreUnavailable, match=r"stored, but only 0 of the 1 replicas.*put again"):
        open_store(f"{primary.url}?replicas=1&replica_timeout_ms=100")


# -- kills ------------------------------------------------------------------------------------


def test_what_was_acknowledged_is_there_after_kills_of_the_server(open_store, own_redis):
    server = own_redis()
    store = open_store(f"{server.url}?{FAST}")
    told: list[int] = []
    tried = 0
    end = threading.Event()

    def put() -> None:
        nonlocal tried
        while not end.is_set():
            tried += 1
            try:
                store.put([Batch([write(str(tried)), write("hot", tried, group=2)])])
            except StoreUnavailable:
                time.sleep(0.01)
                continue
            told.append(tried)

    worker = threading.Thread(target=put)
    worker.start()
    chance = random.Random(5)
    for _ in range(6):
        time.sleep(chance.uniform(0.05, 0.2))
        server.kill()
        server.start()
    time.sleep(0.1)
    end.set()
    worker.join()

    assert len(told) > 20
    assert None not in store.get(1, [str(number).encode() for number in told])
    entries = store.outbox.read(1, after=0, limit=10**6)
    others = store.outbox.read(2, after=0, limit=10**6)
    # Both groups of a put, or neither; the unacknowledged may be there too.
    assert len(entries) == len(others)
    assert len(told) <= len(entries) <= tried
    sequences = [entry.sequence for entry in entries]
    assert sequences == sorted(set(sequences))
    assert [entry.event_time_us for entry in others] == sorted({e.event_time_us for e in others})
    assert {entry.event_time_us for entry in others} >= set(told)
    assert store.get(2, [b"hot"])[0].event_time_us == others[-1].event_time_us


RACE = """
import random, sys
from featurestore.codec import NEVER
from featurestore.online import Batch, RedisStore, Write
store = RedisStore(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
chance = random.Random(int(sys.argv[1]))
for _ in range(150):
    time = chance.randrange(10**6)
    writes = [Write(1, name, time, b"%d" % time, 0, NEVER, 1, 1) for name in (b"a", b"b" * 600)]
    outcomes = store.put([Batch(writes)])[0]
    print(time, outcomes[0].name)
"""


@pytest.mark.parametrize("new_url", ["redis_url", "cluster_url"])
def test_two_processes_that_race_end_with_the_newest(run_both, open_store, request, new_url):
    url = request.getfixturevalue(new_url)()
    answers = run_both(RACE, url)
    times = [int(line.split()[0]) for answer in answers for line in answer]
    store = open_store(url)
    for value in store.get(1, [b"a", b"b" * 600]):
        assert (value.event_time_us, value.record) == (max(times), b"%d" % max(times))
    entries = store.outbox.read(1, after=0, limit=1000)
    assert sorted(entry.event_time_us for entry in entries) == sorted(times * 2)
    assert [entry.sequence for entry in entries] == list(range(1, 601))


def test_a_reader_of_the_outbox_never_misses_an_entry(open_store, redis_url):
    url = redis_url()
    reader = open_store(url)
    end = threading.Event()

    def put(worker: int) -> None:
        store = RedisStore(url)
        for step in range(100):
            store.put([Batch([write(f"{worker}-{step}"), write("x", group=2)])])
        store.close()

    threads = [threading.Thread(target=put, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    seen: list[int] = []
    while not end.is_set():
        if not any(thread.is_alive() for thread in threads):
            end.set()  # and one more look
        after = seen[-1] if seen else 0
        while entries := reader.outbox.read(1, after=after, limit=7):
            seen += [entry.sequence for entry in entries]
            after = seen[-1]
    for thread in threads:
        thread.join()
    assert len(seen) == 400
    assert seen == [entry.sequence for entry in reader.outbox.read(1, after=0, limit=1000)]
