"""What is LMDB's own: damaged files, a full map, processes. The rest is in tests/contracts."""

from __future__ import annotations

import random

import lmdb
import pytest

from featurestore.codec import NEVER
from featurestore.errors import StoreCorrupt, StoreFull, StoreUnavailable
from featurestore.online import Batch, LmdbStore, Write


def write(identifier: str, event_time_us: int = 1, record: bytes = b"record") -> Write:
    return Write(1, identifier.encode(), event_time_us, record, 0, NEVER, 1, 1)


@pytest.fixture
def open_store(tmp_path):
    opened = []

    def make(name: str = "online", **options: int) -> LmdbStore:
        store = LmdbStore(tmp_path / name, **options)
        opened.append(store)
        return store

    yield make
    for store in opened:
        store.close()


# -- opening ----------------------------------------------------------------------------------


def test_it_is_all_there_when_opened_again(open_store):
    store = open_store()
    name = store.store_id
    store.put([Batch([write("a")])])
    (entry,) = store.outbox.read(1, after=0, limit=9)
    store.outbox.remove(1, through=entry.sequence)
    store.close()

    again = open_store()
    assert again.store_id == name
    assert again.get(1, [b"a"])[0].record == b"record"
    assert again.outbox.pending() == 0
    again.put([Batch([write("b")])])
    assert again.outbox.read(1, after=0, limit=9)[0].sequence > entry.sequence


def test_stores_of_one_folder_in_one_process_share_it(open_store, tmp_path):
    one = open_store()
    (tmp_path / "link").symlink_to(tmp_path / "online")
    other = open_store("link")
    one.put([Batch([write("a")])])
    assert other.get(1, [b"a"])[0] is not None
    one.close()
    assert other.get(1, [b"a"])[0] is not None, "the other's end is not this one's"


@pytest.mark.parametrize(
    "content",
    [random.Random(1).randbytes(20_000), bytes(20_000), b"abc", b"some other file\n" * 1000],
    ids=["noise", "zeros", "short", "text"],
)
def test_a_foreign_file_is_refused_and_kept(tmp_path, open_store, content):
    data = tmp_path / "online" / "data.mdb"
    data.parent.mkdir()
    data.write_bytes(content)
    with pytest.raises(StoreCorrupt, match="damaged or belongs to another program"):
        open_store()
    assert data.read_bytes() == content


@pytest.mark.parametrize("database", [None, b"theirs"])
def test_an_environment_of_another_program_is_refused(tmp_path, open_store, database):
    with (
        lmdb.open(str(tmp_path / "online"), max_dbs=2) as environment,
        environment.begin(write=True, db=environment.open_db(database)) as txn,
    ):
        txn.put(b"key", b"value")
    with pytest.raises(StoreCorrupt, match="damaged or belongs to another program"):
        open_store()


def test_a_store_of_another_version_is_refused_by_its_form(tmp_path, open_store):
    open_store().close()
    with (
        lmdb.open(str(tmp_path / "online"), max_dbs=8) as environment,
        environment.begin(write=True, db=environment.open_db(b"meta")) as txn,
    ):
        txn.put(b"format", b"featureline-online-2")
    with pytest.raises(StoreCorrupt, match=r"has the form 'featureline-online-2', this version"):
        open_store()


@pytest.fixture
def filled(tmp_path, open_store) -> bytes:
    """The bytes of an environment with 400 records."""
    store = open_store("filled")
    for step in range(20):
        store.put([Batch([write(f"{step}-{i}", record=b"x" * 300) for i in range(20)])])
    store.close()
    return (tmp_path / "filled" / "data.mdb").read_bytes()


PAGE = 4096


def zeroed(data: bytes, first: int, last: int | None = None) -> bytes:
    end = len(data) if last is None else last * PAGE
    return data[: first * PAGE] + bytes(end - first * PAGE) + data[end:]


def version_9(data: bytes) -> bytes:
    changed = bytearray(data)
    for page in (0, 1):
        changed[page * PAGE + 20] = 9
    return bytes(changed)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: zeroed(data, 0, 1),
        lambda data: zeroed(data, 1, 2),
        lambda data: zeroed(data, 0, 2),
        lambda data: zeroed(data, 2),  # on which LMDB itself would end the process
        lambda data: data[: 2 * PAGE] + random.Random(2).randbytes(len(data) - 2 * PAGE),
        lambda data: random.Random(3).randbytes(len(data)),
        version_9,
    ],
    ids=["meta-0", "meta-1", "metas", "all-but-metas", "noise-behind", "noise", "version"],
)
def test_damage_is_refused_at_the_start_and_the_file_is_kept(tmp_path, open_store, filled, change):
    (tmp_path / "online").mkdir()
    data = tmp_path / "online" / "data.mdb"
    data.write_bytes(change(filled))
    with pytest.raises(StoreCorrupt, match=r"move the folder away and restore a backup") as refused:
        open_store()
    assert str(data.parent) in str(refused.value)
    assert data.read_bytes() == change(filled)


@pytest.mark.parametrize("pages", [*range(2, 12), *range(12, 100, 8)])
def test_a_file_that_was_cut_off_anywhere_is_refused_at_the_start(
    tmp_path, open_store, filled, pages
):
    (tmp_path / "online").mkdir()
    (tmp_path / "online" / "data.mdb").write_bytes(filled[: pages * PAGE])
    for _ in range(2):  # also when it was given its length again
        with pytest.raises(StoreCorrupt, match="move the folder away and restore a backup"):
            read_all(open_store())


def test_a_file_that_lacks_only_free_pages_is_whole(tmp_path, open_store):
    store = open_store()
    store.put([Batch([write("a")])])
    store.close()
    data = tmp_path / "online" / "data.mdb"
    content = bytearray(data.read_bytes())
    for page in (0, 1):  # as if pages behind the end had been freed before they were written
        last = page * PAGE + 136
        content[last] += 3
    data.write_bytes(content)
    store = open_store()
    assert store.get(1, [b"a"])[0].record == b"record"
    assert data.stat().st_size > len(content)
    store.put([Batch([write("b", record=bytes(10_000))])])
    assert store.get(1, [b"b"])[0].record == bytes(10_000)


def test_a_folder_without_rights_is_named(tmp_path, run_python, open_store):
    open_store().close()
    code = (
        "import os, sys\n"
        "from featurestore.errors import StoreUnavailable\n"
        "from featurestore.online import LmdbStore\n"
        "if os.getuid() == 0:\n"
        "    os.seteuid(65534)  # root has rights everywhere\n"
        "try:\n"
        "    LmdbStore(sys.argv[1])\n"
        "except StoreUnavailable as error:\n"
        "    print(error)\n"
    )
    tmp_path.parent.chmod(0o755)
    tmp_path.chmod(0o755)
    for mode, path in ((0o500, tmp_path / "online"), (0o000, tmp_path / "online")):
        (tmp_path / "online" / "data.mdb").chmod(0o400)
        path.chmod(mode)
        said = run_python(["-c", code, str(tmp_path / "online")]).communicate(timeout=60)[0]
        path.chmod(0o700)
        assert "cannot be opened: [Errno 13] Permission denied" in said
        assert "check that it is a folder this process may write to" in said


def test_a_folder_in_the_files_place_is_named(tmp_path, open_store):
    (tmp_path / "online" / "data.mdb").mkdir(parents=True)
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        open_store()


@pytest.mark.parametrize("part", [0.02, 0.5, 0.98])
def test_a_file_that_was_cut_off_is_damage_and_not_a_crash(tmp_path, open_store, part):
    store = open_store()
    for step in range(20):
        store.put([Batch([write(f"{step}-{i}", record=b"x" * 300) for i in range(20)])])
    store.close()
    data = tmp_path / "online" / "data.mdb"
    whole = data.read_bytes()
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "data.mdb").write_bytes(whole[: max(8192, int(len(whole) * part))])
    with pytest.raises(StoreCorrupt, match="damaged"):
        read_all(open_store("cut"))


def read_all(store: LmdbStore) -> None:
    # Some of it may be whole; all of it cannot be.
    assert len(store.scan(1, after=None, limit=1000)) == 400
    assert len(store.outbox.read(1, after=0, limit=1000)) == 400


def test_a_file_in_the_folders_place_is_named(tmp_path, open_store):
    (tmp_path / "online").write_text("a file")
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        open_store()


# -- a full map -------------------------------------------------------------------------------


def fill(store: LmdbStore, chance: random.Random) -> dict[bytes, int]:
    """Put until not even a small record fits; return what was acknowledged."""
    stored: dict[bytes, int] = {}
    for sizes in ([10, 300, 3000, 6000], [10]):
        while True:
            identifier = f"{chance.random()}"
            batch = Batch([write(identifier, record=b"x" * chance.choice(sizes))])
            try:
                store.put([batch])
            except StoreFull:
                break
            stored[identifier.encode()] = len(batch.writes[0].record)
    return stored


@pytest.mark.parametrize("seed", range(3))
def test_a_full_store_refuses_whole_and_recovers(open_store, seed):
    store = open_store(map_bytes=1 << 20)
    stored = fill(store, random.Random(seed))
    assert len(stored) > 50
    waiting = store.outbox.pending(1)

    with pytest.raises(StoreFull, match="has reached its size limit; flush the outbox"):
        store.put([Batch([write("small")]), Batch([write("large", record=b"x" * 100_000)])])
    assert store.get(1, [b"small", b"large"]) == [None, None]
    assert store.outbox.pending(1) == waiting == len(stored)
    # What was acknowledged is still there, all of it.
    values = store.get(1, list(stored))
    assert [len(value.record) for value in values] == list(stored.values())

    # A flush makes room again, although removing needs pages too.
    assert store.outbox.remove(1, through=2**63) == len(stored)
    store.put([Batch([write("small")])])
    assert store.get(1, [b"small"])[0] is not None
    store.drop(1)
    store.put([Batch([write(f"{i}", record=b"x" * 3000) for i in range(50)])])


def test_a_full_store_can_be_opened_larger(open_store):
    store = open_store(map_bytes=1 << 20)
    stored = fill(store, random.Random(9))
    store.close()
    larger = open_store(map_bytes=4 << 20)
    larger.put([Batch([write("more", record=b"x" * 100_000)])])
    assert all(value is not None for value in larger.get(1, list(stored)))


# -- processes --------------------------------------------------------------------------------

FORK = """
import os, sys
from featurestore.codec import NEVER
from featurestore.errors import StoreUnavailable
from featurestore.online import Batch, LmdbStore, Write
store = LmdbStore(sys.argv[1])
write = Write(1, b"a", 1, b"record", 0, NEVER, 1, 1)
store.put([Batch([write])])
uses = [
    lambda: store.get(1, [b"a"]),
    lambda: store.put([Batch([write])]),
    lambda: store.outbox.pending(),
    lambda: LmdbStore(sys.argv[1]),
]
child = os.fork()
if child == 0:
    for use in uses:
        try:
            use()
            print("used")
        except StoreUnavailable as error:
            print(error)
    store.close()
    sys.stdout.flush()
    os._exit(0)
os.waitpid(child, 0)
print("parent", store.get(1, [b"a"])[0].record.decode(), store.outbox.pending())
store.put([Batch([write])])
print("parent", store.outbox.pending())
"""


def test_use_after_a_fork_is_refused_and_hurts_nobody(run_python, tmp_path):
    process = run_python(["-c", FORK, str(tmp_path / "online")])
    lines = process.communicate(timeout=60)[0].splitlines()
    assert process.returncode == 0
    assert lines[-2:] == ["parent record 1", "parent 2"]
    refusals = lines[:-2]
    assert len(refusals) == 4
    for refusal in refusals:
        assert "was opened before this process was forked" in refusal
        assert "open it in the child only, or start the child by spawning" in refusal


RACE = """
import random, sys
from featurestore.codec import NEVER
from featurestore.online import Batch, LmdbStore, Outcome, Write
print("ready", flush=True)
sys.stdin.readline()
store = LmdbStore(sys.argv[2])   # both also make the store
chance = random.Random(int(sys.argv[1]))
for _ in range(150):
    time = chance.randrange(10**6)
    writes = [Write(1, name, time, b"%d" % time, 0, NEVER, 1, 1) for name in (b"a", b"b" * 600)]
    outcomes = store.put([Batch(writes)])[0]
    print(time, outcomes[0].name)
"""


def test_two_processes_that_race_end_with_the_newest(run_both, tmp_path, open_store):
    answers = run_both(RACE, str(tmp_path / "online"))
    times = [int(line.split()[0]) for answer in answers for line in answer]
    assert len(times) == 300
    store = open_store()
    for value in store.get(1, [b"a", b"b" * 600]):
        assert (value.event_time_us, value.record) == (max(times), b"%d" % max(times))
    entries = store.outbox.read(1, after=0, limit=1000)
    assert sorted(entry.event_time_us for entry in entries) == sorted(times * 2)
    assert [entry.sequence for entry in entries] == list(range(1, 601))
    # Each process saw the other's puts: an outcome of its own alone would differ.
    for answer in answers:
        alone, newest = [], -1
        for line in answer:
            time = int(line.split()[0])
            alone.append("APPLIED" if time >= newest else "HISTORIC")
            newest = max(newest, time)
        applied = [line.split()[1] for line in answer].count("APPLIED")
        assert applied <= alone.count("APPLIED")


def test_readers_that_were_killed_do_not_stay(run_python, tmp_path, open_store):
    code = (
        "import os, sys, lmdb\n"
        "environment = lmdb.open(sys.argv[1], max_dbs=8)\n"
        "txn = environment.begin()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    open_store().close()
    run_python(["-c", code, str(tmp_path / "online")]).communicate(timeout=60)
    store = open_store()
    with lmdb_environment(store).begin():
        readers = lmdb_environment(store).readers().splitlines()
    assert len(readers) <= 2, "a head line and ourselves"


def lmdb_environment(store: LmdbStore):
    return store._shared.env
