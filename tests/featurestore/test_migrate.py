"""Migration from LMDB to Redis while others write, killed at every step."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

import featurestore
from featurestore import PartitionPosition, SourcePosition, codec
from featurestore.codec import DELETED, HARD, NEVER
from featurestore.convert import entries_to_table
from featurestore.errors import InvalidRequest, StoreFull, StoreUnavailable
from featurestore.migrate import abort_migration, migrate
from featurestore.online import (
    Batch,
    LmdbStore,
    OnlineStore,
    Outcome,
    RedisStore,
    RedisUrl,
    Write,
    open_online,
)

STEPS = ["begun", "copied", "followed", "ready", "filled", "marked", "moved", "finished"]
LONG = b"x" * 700


class Killed(BaseException):
    """What a step raises in the place of a kill: nothing of ours catches it."""


@pytest.fixture
def home(tmp_path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture(params=["redis_url", "cluster_url"])
def url(request) -> str:
    return request.getfixturevalue(request.param)()


@pytest.fixture
def open_home(home):
    opened = []

    def make() -> OnlineStore:
        store = open_online(home)
        opened.append(store)
        return store

    yield make
    for store in opened:
        store.close()


def write(name: bytes, time_us: int, record: bytes = b"r", flags: int = 0, group: int = 1) -> Write:
    return Write(group, name, time_us, record, flags, NEVER, 1, 7)


def position(start: int, end: int, source: str = "topic") -> SourcePosition:
    return SourcePosition(source, (PartitionPosition("0", start, end),))


def content(store: OnlineStore, sources: tuple[str, ...] = ("topic", "other")) -> object:
    """All that a store holds."""
    return {
        "values": {group: store.scan(group, after=None, limit=10**6) for group in range(1, 5)},
        "outbox": {group: store.outbox.read(group, after=0, limit=10**6) for group in range(1, 5)},
        "positions": {source: store.source_position(source) for source in sources},
        "id": store.store_id,
    }


def fill(store: OnlineStore) -> None:
    store.put([Batch([write(f"{i}".encode(), i, b"x" * i) for i in range(300)])])
    store.put([Batch([write(LONG, 5), write(LONG, 6, flags=DELETED)], position(0, 2))])
    store.put([Batch([write(b"gone", 9, b"m", DELETED | HARD), write(b"a", 1, group=3)])])
    store.put([Batch([write(b"t", 5)._replace(expires_us=6)])])
    store.put([Batch([write(b"offline", 5, group=2)._replace(online=False)], position(2, 3))])
    store.outbox.remove(1, through=100)


# -- what is carried --------------------------------------------------------------------------


def test_all_is_carried(open_home, home, url):
    store = open_home()
    fill(store)
    before = content(store)
    done = migrate(home, url)
    assert (done.records, done.outbox) == (304, 206)
    assert done.to == RedisUrl.parse(url).location
    after = open_home()
    assert isinstance(after, RedisStore)
    assert content(after) == before
    assert not (home / "online").exists()


def test_sequences_go_on_in_every_group(open_home, home, url):
    store = open_home()
    fill(store)
    last = max(e.sequence for g in range(1, 4) for e in store.outbox.read(g, after=0, limit=999))
    migrate(home, url)
    after = open_home()
    for group in (1, 2, 3, 4):
        after.put([Batch([write(b"new", 99, group=group)])])
        assert after.outbox.read(group, after=last, limit=9)[0].sequence > last
    (stored,) = after.get(1, [b"299"])
    update = write(b"299", 0, b"updated")._replace(expected=stored.sequence)
    after.put([Batch([update])])
    assert after.get(1, [b"299"])[0].record == b"updated"


def test_an_empty_store_migrates_too(open_home, home, url):
    name = open_home().store_id
    assert migrate(home, url).records == 0
    assert open_home().store_id == name


def test_the_old_store_refuses_to_be_used(open_home, home, url):
    old = open_home()
    old.put([Batch([write(b"a", 1)])])
    migrate(home, url)
    for use in (
        lambda: old.put([Batch([write(b"a", 2)])]),
        lambda: old.get(1, [b"a"]),
        lambda: old.scan(1, after=None, limit=1),
        lambda: old.outbox.read(1, after=0, limit=1),
        lambda: old.outbox.remove(1, through=1),
        lambda: old.drop(1),
    ):
        with pytest.raises(StoreUnavailable, match=r"has migrated to redis.*restart this process"):
            use()


# -- kills ------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", STEPS)
def test_a_migration_that_is_killed_at_a_step_goes_on(open_home, home, redis_url, step):
    url = redis_url()

    def die(done: str) -> None:
        if done == step:
            raise Killed

    store = open_home()
    fill(store)
    with pytest.raises(Killed):
        migrate(home, url, on_step=die)

    # Others go on with what they find.
    found = open_home()
    committed = STEPS.index(step) > STEPS.index("marked")
    assert isinstance(found, RedisStore if committed else LmdbStore)
    found.put([Batch([write(b"5", 1000, b"later"), write(b"fresh", 1)], position(3, 5))])
    found.drop(3)
    found.outbox.remove(1, through=150)
    before = content(found)

    migrate(home, url)
    after = open_home()
    assert isinstance(after, RedisStore)
    assert content(after) == before
    assert after.get(1, [b"5"])[0].record == b"later"
    assert after.get(3, [b"a"]) == [None]


def test_erasures_are_carried_and_hold_in_the_new_store(open_home, home, url):
    store = open_home()
    fill(store)
    store.erase(1, b"7", through_us=500)

    def erase(done: str) -> None:
        if done == "copied":
            store.erase(1, b"8", through_us=500)

    migrate(home, url, on_step=erase)
    after = open_home()
    assert after.get(1, [b"7", b"8"]) == [None, None]
    assert after.put([Batch([write(b"7", 500), write(b"8", 500), write(b"8", 501)])]) == [
        [Outcome.ERASED, Outcome.ERASED, Outcome.APPLIED]
    ]


def test_changes_between_the_steps_are_carried(open_home, home, url):
    store = open_home()
    fill(store)

    def change(done: str) -> None:
        if done not in STEPS[: STEPS.index("filled")]:
            return
        at = STEPS.index(done)
        name = f"{at}".encode()
        store.put([Batch([write(name, 1000 + at, done.encode()), write(b"new " + name, 1)])])
        store.put([Batch([write(b"7", 2000 + at, b"m", DELETED)], position(3 + at, 4 + at))])
        if done == "copied":
            store.drop(3)
        if done == "followed":
            store.put([Batch([write(b"again", 1, group=3)], position(0, 1, "other"))])
        before.append(content(store))

    before: list[object] = []
    migrate(home, url, on_step=change)
    assert len(before) == 4
    assert content(open_home()) == before[-1]


def test_writers_wait_only_for_the_last_step(open_home, home, redis_url):
    store = open_home()
    fill(store)
    outcomes: list[object] = []

    def put() -> None:
        try:
            outcomes.append(store.put([Batch([write(b"late", 1)])]))
        except StoreUnavailable as error:
            outcomes.append(error)

    waiting = threading.Thread(target=put)

    def held(done: str) -> None:
        if done == "filled":
            waiting.start()
            time.sleep(0.1)
            assert not outcomes, "writers wait"

    migrate(home, redis_url(), on_step=held)
    waiting.join()
    assert isinstance(outcomes[0], StoreUnavailable)
    assert open_home().get(1, [b"late"]) == [None]


# -- refusals ---------------------------------------------------------------------------------


def test_a_place_in_use_is_refused_and_kept(open_home, home, redis_url):
    url = redis_url()
    with closing(RedisStore(url)) as theirs:
        theirs.put([Batch([write(b"theirs", 1)])])
    store = open_home()
    store.put([Batch([write(b"a", 1)])])
    with pytest.raises(StoreUnavailable, match=r"store of another home.*\?namespace=NAME"):
        migrate(home, url)
    assert store.put([Batch([write(b"b", 1)])])
    with closing(RedisStore(url)) as theirs:
        assert theirs.get(1, [b"theirs"])[0] is not None


def test_a_half_filled_store_is_not_opened(open_home, home, redis_url):
    url = redis_url()
    fill(open_home())

    def die(done: str) -> None:
        if done == "copied":
            raise Killed

    with pytest.raises(Killed):
        migrate(home, url, on_step=die)
    with pytest.raises(StoreUnavailable, match=r"has not ended; run `featureline migrate` again"):
        RedisStore(url)


def test_another_place_is_refused_until_aborted(open_home, home, redis_url):
    store = open_home()
    fill(store)
    first, second = redis_url(), redis_url()

    def die(done: str) -> None:
        if done == "copied":
            raise Killed

    with pytest.raises(Killed):
        migrate(home, first, on_step=die)
    with pytest.raises(StoreUnavailable, match=r"has begun; finish it, or end it by.*--abort"):
        migrate(home, second)
    assert abort_migration(home)
    assert not abort_migration(home)
    # What was copied before is not taken for what is there now.
    store.drop(1)
    before = content(store)
    migrate(home, first)
    assert content(open_home()) == before


def test_a_second_migration_says_where_the_store_is(open_home, home, redis_url):
    open_home()
    url = redis_url()
    migrate(home, url)
    assert migrate(home, url).records == 0
    with pytest.raises(StoreUnavailable, match="only a store in LMDB can be migrated"):
        migrate(home, redis_url())
    with pytest.raises(InvalidRequest, match="expected an online store in LMDB to migrate"):
        abort_migration(home)


def test_what_there_is_not_to_migrate(tmp_path, home, redis_url):
    with pytest.raises(InvalidRequest, match="found no folder"):
        migrate(tmp_path / "absent", redis_url())
    with pytest.raises(InvalidRequest, match=r"found none; a new home takes its URL when"):
        migrate(home, redis_url())
    with pytest.raises(InvalidRequest, match="expected a URL like redis://"):
        migrate(home, "lmdb")


def test_two_migrations_at_once(open_home, home, redis_url):
    fill(open_home())
    url = redis_url()

    def again(done: str) -> None:
        if done == "copied":
            with pytest.raises(StoreUnavailable, match="is under way in another process"):
                migrate(home, url)

    migrate(home, url, on_step=again)


def test_a_full_server_leaves_lmdb_in_use(open_home, home, own_redis):
    server = own_redis(maxmemory="8mb")
    store = open_home()
    store.put([Batch([write(f"{i}".encode(), 1, b"x" * 100_000) for i in range(100)])])
    with pytest.raises(StoreFull, match="has reached its maxmemory"):
        migrate(home, server.url)
    store.put([Batch([write(b"more", 1)])])
    server.say("CONFIG", "SET", "maxmemory", "0")
    before = content(store)
    migrate(home, server.url)
    assert content(open_home()) == before


# -- with the offline store -------------------------------------------------------------------


def test_what_delta_has_already_is_not_written_again(
    make_store, home, readings, reading, rows_of, redis_url
):
    store = make_store(home)
    store.create_feature_group(readings)
    number = store.registry.get("readings").number
    for second in range(5):
        store.put("readings", reading("a", second, count=second))
    kept = store.online.outbox.read(number, after=0, limit=3)
    store.flush("readings")
    # A kill between the Delta commit and the removal from the outbox leaves entries like these.
    with store.online.transaction(write=True) as txn:
        for entry in kept:
            key = codec.outbox_key(number, entry.sequence)
            txn.put(key, codec.encode_outbox(entry), db=store.online.outbox_database)
    store.put("readings", reading("b", 1, count=9))

    moved: list[int] = []

    def no_flush(done: str) -> None:
        if done == "followed":
            moved.append(store.online.outbox.pending(number))

    migrate(home, redis_url(), on_step=no_flush)
    assert moved == [4]
    after = make_store(home)
    assert isinstance(after.online, RedisStore)
    after.put("readings", reading("b", 2, count=10))
    assert after.verify("readings").equal
    assert [row["count"] for row in rows_of(after)] == [0, 1, 2, 3, 4, 9, 10]


def test_a_flush_under_way_on_the_old_store_harms_nothing(
    make_store, home, readings, reading, rows_of, redis_url
):
    """It has committed entries to Delta, and comes to remove them after the switch-over."""
    store = make_store(home)
    store.create_feature_group(readings)
    registered = store.registry.get("readings")
    for second in range(5):
        store.put("readings", reading("a", second, count=second))
    committed: list[int] = []

    def commit(done: str) -> None:
        if done == "filled":
            entries = store.online.outbox.read(registered.number, after=0, limit=99)
            rows = entries_to_table(registered.group, entries, write_time_us=1)
            committed.append(entries[-1].sequence)
            application = f"featureline:{store.online.store_id}"
            store.offline_table(registered).append(
                rows, application=application, sequence=committed[0]
            )

    # A put behind the migration's own flush, so that there is something to commit.
    def late(done: str) -> None:
        if done == "ready":
            store.put("readings", reading("a", 6, count=6))
        commit(done)

    migrate(home, redis_url(), on_step=late)
    with pytest.raises(StoreUnavailable, match="has migrated"):
        store.online.outbox.remove(registered.number, through=committed[0])
    after = make_store(home)
    assert after.online.outbox.pending(registered.number) == 1
    after.put("readings", reading("a", 9, count=9))
    assert after.verify("readings").equal
    assert [row["count"] for row in rows_of(after)] == [0, 1, 2, 3, 4, 6, 9]


WRITER = """
import os, sys
import featurestore
from featurestore.errors import StoreUnavailable
home, path = sys.argv[1:]
acknowledged = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
store = featurestore.open(home)
print("ready", flush=True)
number = refused = 0
while not os.path.exists(path + ".end"):
    minutes, second = divmod(number, 60)
    hour, minute = divmod(minutes, 60)
    time = f"2024-01-01T{hour % 24:02d}:{minute:02d}:{second:02d}Z"
    record = {"station": f"s{number % 50}", "time": time, "count": number}
    try:
        if number % 97 == 96:
            store.flush("readings")
        store.put("readings", record)
    except StoreUnavailable as error:
        assert "has migrated" in str(error), error
        refused += 1
        store.close()
        store = featurestore.open(home)  # as a restart does
        continue
    os.write(acknowledged, b"%d\\n" % number)
    number += 1
store.close()
print(refused, type(store.online).__name__)
"""


def test_nothing_acknowledged_is_lost_while_migrations_are_killed(
    run_python, home, tmp_path, readings, rows_of, redis_url
):
    url = redis_url()
    path = tmp_path / "acknowledged"
    with featurestore.open(home) as store:
        store.create_feature_group(readings)
    writer = run_python(["-c", WRITER, str(home), str(path)], stderr=subprocess.PIPE)
    program = str(Path(__file__).with_name("migrate_until_killed.py"))
    ends: list[str] = []
    try:
        with run_python([program, str(home)]) as migrating:
            assert writer.stdout.readline() == "ready\n"
            chance = random.Random(3)
            for attempt in range(12):
                time.sleep(0.05)
                migrating.stdin.write(f"{url}\n")
                migrating.stdin.flush()
                child = int(migrating.stdout.readline())
                if attempt < 11:
                    time.sleep(chance.uniform(0.002, 0.15))
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(child, signal.SIGKILL)
                ends.append(migrating.stdout.readline().strip())
            time.sleep(0.3)
            migrating.stdin.close()
    finally:
        (tmp_path / "acknowledged.end").touch()
        out, err = writer.communicate(timeout=60)
    assert set(ends) <= {"killed", "done"}
    assert ends[-1] == "done"
    assert ends.count("killed") > 3
    assert out.strip() == "1 RedisStore", err

    told = [int(line) for line in path.read_text().split()]
    assert len(told) > 100
    with featurestore.open(home) as store:
        assert isinstance(store.online, RedisStore)
        assert store.verify("readings").equal
        counts = [row["count"] for row in rows_of(store)]
        for station, newest in {number % 50: number for number in told}.items():
            assert store.get("readings", f"s{station}")["count"] == newest
    assert sorted(counts) == told, "each acknowledged record is offline exactly once"
