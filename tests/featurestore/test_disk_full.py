"""A full disk: what cannot be stored is refused, what was acknowledged stays, and all goes on."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from deltalake import DeltaTable

import featurestore
from featurestore import Put
from featurestore.codec import NEVER
from featurestore.errors import StoreFull
from featurestore.online import Batch, LmdbStore, Write
from featurestore.server import native_is_available

ROOT = Path(featurestore.__file__).parents[1]
MB = 1 << 20


def write(identifier: str, record: bytes) -> Write:
    return Write(1, identifier.encode(), 1, record, 0, NEVER, 1, 1)


def fill(disk: Path, *, leave: int = 0) -> None:
    """Take all space but so many bytes."""
    chunk = bytes(4096)
    with (disk / "filler").open("ab", buffering=0) as file:
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            _write_on(file, chunk)
        if leave:
            file.truncate(max(0, file.tell() - leave))


def _write_on(file, chunk: bytes) -> None:
    while True:
        file.write(chunk)


def free(disk: Path) -> None:
    (disk / "filler").unlink()


def put_until_full(
    put: Callable[[str, int], None], chance: random.Random, prefix: str = ""
) -> dict[str, int]:
    """Put records of many sizes until not even a small one fits; return what was acknowledged."""
    stored: dict[str, int] = {}
    for sizes in ([10, 300, 3_000, 30_000, 100_000], [300], [10]):
        refused = 0
        while refused < 3:
            identifier, size = f"{prefix}{len(stored)}", chance.choice(sizes)
            try:
                put(identifier, size)
            except StoreFull:
                refused += 1
            else:
                stored[identifier] = size
    return stored


# -- the online store -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_lmdb_refuses_keeps_and_recovers(small_disk, seed):
    disk = small_disk(4 * MB)
    store = LmdbStore(disk / "online")
    fill(disk, leave=MB)
    chance = random.Random(seed)

    def put(identifier: str, size: int) -> None:
        store.put([Batch([write(identifier, b"x" * size)])])

    stored: dict[str, int] = {}
    for life in range(3):
        stored |= put_until_full(put, chance, f"{life}-")
        _check(store, stored)
        if life == 0:
            # As it stands on the disk, not only in this process's memory.
            store.close()
            store = LmdbStore(disk / "online")
            _check(store, stored)
        with pytest.raises(StoreFull, match=r"no space left for .*: free space and put again"):
            store.put([Batch([write("small", b"x")]), Batch([write("large", b"x" * MB)])])
        assert store.get(1, [b"small", b"large"]) == [None, None]
        free(disk)
        store.put([Batch([write(f"{life}-again", b"x" * 100_000)])])
        stored[f"{life}-again"] = 100_000
        _check(store, stored)
        fill(disk)
    assert len(stored) > 20
    free(disk)
    store.drop(1)
    assert store.outbox.pending() == 0
    store.put([Batch([write("after", b"x" * 1000)])])
    store.close()


def _check(store: LmdbStore, stored: dict[str, int]) -> None:
    values = store.get(1, [identifier.encode() for identifier in stored])
    assert [len(value.record) for value in values] == list(stored.values())
    entries = store.outbox.read(1, after=0, limit=100_000)
    assert [len(entry.record) for entry in entries] == list(stored.values())
    assert len(store.scan(1, after=None, limit=100_000)) == len(stored)


OPEN = """
import sys, threading
from featurestore.errors import StoreFull
from featurestore.online import LmdbStore
try:
    store = LmdbStore(sys.argv[1])
except StoreFull as error:
    print("full", error)
    sys.exit()
# Each thread takes a reader's slot of its own, in a file that is mapped.
together = threading.Barrier(100)
found = []
def read():
    together.wait()
    with store.transaction() as txn:
        together.wait()
        found.append(store.get(1, [b"a"])[0].record)
threads = [threading.Thread(target=read) for _ in range(100)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(found), set(found))
"""


@pytest.mark.parametrize("lock_file", ["kept", "absent", "hole"])
def test_opening_and_reading_on_a_full_disk_does_not_end_the_process(
    small_disk, run_python, lock_file
):
    disk = small_disk(4 * MB)
    store = LmdbStore(disk / "online")
    store.put([Batch([write("a", b"record")])])
    store.close()
    lock = disk / "online" / "lock.mdb"
    if lock_file != "kept":
        lock.unlink()
    if lock_file == "hole":
        lock.touch()
        os.truncate(lock, 65_536)
    fill(disk)
    process = run_python(["-c", OPEN, str(disk / "online")])
    out = process.communicate(timeout=60)[0]
    assert process.returncode == 0, "a negative one is a signal: SIGBUS"
    if lock_file == "kept":
        assert out == "100 {b'record'}\n"
    else:
        assert out.startswith("full no space left to open the online store")
    free(disk)
    process = run_python(["-c", OPEN, str(disk / "online")])
    assert process.communicate(timeout=60)[0] == "100 {b'record'}\n"


def test_a_limit_on_the_size_of_files_is_a_full_disk_too(run_python, tmp_path):
    code = (
        "import resource, signal, sys\n"
        "from featurestore.codec import NEVER\n"
        "from featurestore.errors import StoreFull\n"
        "from featurestore.online import Batch, LmdbStore, Write\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "store = LmdbStore(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))\n"
        "n = 0\n"
        "try:\n"
        "    while True:\n"
        "        write = Write(1, b'%d' % n, 1, bytes(10_000), 0, NEVER, 1, 1)\n"
        "        store.put([Batch([write])])\n"
        "        n += 1\n"
        "except StoreFull:\n"
        "    there = store.get(1, [b'%d' % i for i in range(n + 1)])\n"
        "    print(n > 20, None not in there[:n], there[n])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)\n"
        "store.put([Batch([write])])\n"
        "print(store.get(1, [b'%d' % n])[0] is not None)\n"
    )
    process = run_python(["-c", code, str(tmp_path / "online")])
    assert process.communicate(timeout=60)[0] == "True True None\nTrue\n"


# -- the registry and the flush ---------------------------------------------------------------


def test_the_registry_refuses_keeps_and_recovers(small_disk, make_store, readings, make_group):
    disk = small_disk(8 * MB)
    store = make_store(disk / "home")
    store.create_feature_group(readings)
    fill(disk)
    wide = make_group(
        "wide", [("id", "String"), ("at", "String"), *((f"f{n}", "Integral") for n in range(2000))]
    )
    for _ in range(3):
        with pytest.raises(StoreFull, match=r"(?i)no space left|disk is full"):
            store.create_feature_group(wide)
    assert [entry.group.name for entry in store.list_feature_groups()] == ["readings"]
    free(disk)
    store.create_feature_group(wide)
    assert [entry.group.name for entry in store.list_feature_groups()] == ["readings", "wide"]
    assert store.graph.verify().intact


def test_a_flush_waits_for_space_and_leaves_no_litter(
    small_disk, make_store, readings, reading, rows_of
):
    disk = small_disk(16 * MB)
    store = make_store(disk / "home")
    store.create_feature_group(readings)
    chance = random.Random(5)
    for n in range(300):
        # Noise, so that Parquet does not make it small.
        store.put("readings", reading(f"s{n % 40}", n, count=n, note=chance.randbytes(500).hex()))
    store.flush()
    for n in range(300, 600):
        store.put("readings", reading(f"s{n % 40}", n, count=n, note=chance.randbytes(500).hex()))
    fill(disk, leave=65_536)
    free_bytes = []
    for _ in range(5):
        with pytest.raises(StoreFull, match=r"no space left.*wait in the outbox"):
            store.flush()
        usage = os.statvfs(disk)
        free_bytes.append(usage.f_bavail * usage.f_frsize)
    assert store.online.outbox.pending() == 300
    assert store.get("readings", "s0")["count"] == 560
    assert free_bytes[-1] == free_bytes[0], "each refused flush leaves something"
    free(disk)
    store.flush()
    assert store.verify("readings").equal
    assert [row["count"] for row in rows_of(store)] == list(range(600))


@pytest.mark.parametrize("leave", [0, 4096, 8192, 12288, 16384, 24576, 32768])
def test_a_flush_that_finds_the_disk_full_at_any_step_is_exact(
    small_disk, make_store, readings, reading, rows_of, leave
):
    disk = small_disk(8 * MB)
    store = make_store(disk / "home")
    store.create_feature_group(readings)
    for n in range(40):
        store.put("readings", reading(f"s{n % 10}", n, count=n))
        if n % 10 == 5:
            store.flush()
    fill(disk, leave=leave)
    refused = 0
    for n in range(40, 60):
        try:
            store.put("readings", reading(f"s{n % 10}", n, count=n))
        except StoreFull:
            refused += 1
        try:
            store.flush()
        except StoreFull:
            refused += 1
    assert refused
    there = Counter(n for n in range(40))
    free(disk)
    store.flush()
    assert store.verify("readings").equal
    counts = Counter(row["count"] for row in rows_of(store))
    assert set(counts.values()) == {1}
    assert set(there) <= set(counts)


# -- the server -------------------------------------------------------------------------------

FRONTS = [
    "grpc",
    pytest.param(
        "native",
        marks=pytest.mark.skipif(
            not native_is_available() and os.environ.get("CI") != "true",
            reason="the extra `fast` is not installed",
        ),
    ),
]


@pytest.mark.parametrize("front", FRONTS)
def test_a_server_on_a_full_disk_stays_up_and_says_so(
    small_disk, tmp_path, readings, reading, front
):
    disk = small_disk(12 * MB)
    home = disk / "home"
    with featurestore.open(home) as store:
        store.create_feature_group(readings)
    log = (tmp_path / "server.log").open("w")
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "featureline", "serve", "--home", str(home)),
            *("--grpc", "127.0.0.1:0", "--front", front, "--flush-seconds", "0.2"),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    try:
        address = json.loads(server.stdout.readline())["grpc"]
        with featurestore.connect(address) as remote:
            stored = _fill_through(remote, disk, readings, reading)
            assert server.poll() is None
            # Killed on a full disk, it holds what it acknowledged.
            fill(disk)
            server.kill()
            server.wait()
    finally:
        server.kill()
        server.communicate()
        log.close()
    free(disk)
    with featurestore.open(home) as store:
        store.flush()
        report = store.verify("readings")
        assert report.equal, report.differences
        table = DeltaTable(store.offline_uri("readings")).to_pyarrow_table()
    rows = Counter(zip(table["station"].to_pylist(), table["count"].to_pylist(), strict=True))
    assert set(rows.values()) == {1}
    assert {(f"s{n}", n) for n in stored} <= set(rows)
    assert "Traceback" not in (tmp_path / "server.log").read_text()


def _fill_through(remote, disk: Path, readings, reading) -> list[int]:
    """Put over gRPC on a disk that fills, becomes free, and fills; return what was acknowledged."""
    chance = random.Random(7)
    stored: list[int] = []

    def put(n: int) -> None:
        note = chance.randbytes(chance.choice([10, 1_000, 20_000])).hex()
        remote.put("readings", reading(f"s{n}", n, count=n, note=note))
        stored.append(n)

    n = 0
    codes: set[grpc.StatusCode] = set()
    for _ in range(3):
        fill(disk, leave=MB // 2)
        refused = 0
        while refused < 3:
            try:
                put(n)
            except StoreFull as error:
                refused += 1
                codes.add(error.__cause__.code())
            n += 1
        with pytest.raises(StoreFull):
            remote.batch_write([Put("readings", reading("b", 1, note="x" * 300_000))] * 4)
        # Reads go on, also many at once.
        with ThreadPoolExecutor(20) as threads:
            found = list(threads.map(lambda i: remote.get("readings", f"s{i}"), stored[-20:]))
        assert [record["count"] for record in found] == stored[-20:]
        fill(disk)
        groups = (replace(readings, name=f"other-{n}-{number}") for number in range(20))
        for refused_call in (
            lambda: remote.flush("readings"),
            lambda groups=groups: list(map(remote.create_feature_group, groups)),
        ):
            with pytest.raises(StoreFull) as refusal:
                refused_call()
            codes.add(refusal.value.__cause__.code())
        free(disk)
        put(n)
        n += 1
        remote.flush("readings")
    assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    return stored
