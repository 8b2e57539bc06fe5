"""A backup is one instant of a home, whole or not there, and what is restored from it goes on."""

from __future__ import annotations

import base64
import errno
import json
import os
import random
import shutil
import signal
import sqlite3
import stat
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from deltalake import DeltaTable

import featurestore
import lineage
from featurestore import PartitionPosition, Put, SourcePosition
from featurestore.backup import take_backup
from featurestore.encryption import KeyRing
from featurestore.errors import InvalidRequest, StoreCorrupt, StoreFull, StoreUnavailable
from featurestore.manifest import MANIFEST, Manifest
from featurestore.online import LmdbStore, open_online
from featurestore.restore import check_backup, restore_backup
from tests.inprocess import run_command as run

ROOT = Path(featurestore.__file__).parents[1]


@pytest.fixture
def home(tmp_path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def restored(tmp_path, make_store):
    """Restore a backup into a new home and open it."""

    def restore(source: Path):
        home = tmp_path / f"restored-{len(list(tmp_path.glob('restored-*')))}"
        restore_backup(source, home)
        return make_store(home)

    return restore


def counts_of(rows: list[dict]) -> Counter:
    return Counter((row["station"], row["time"]) for row in rows)


# -- what is in it ----------------------------------------------------------------------------


def test_a_restored_home_is_the_home_of_that_instant(
    store, home, tmp_path, reading, restored, rows_of
):
    for n in range(50):
        store.put("readings", reading(f"s{n}", n, count=n))
    store.flush("readings")
    for n in range(30):
        store.put("readings", reading(f"s{n}", 100 + n, count=1000 + n))
    store.delete("readings", "s49", event_time="2024-01-01T02:00:00Z", hard=True)
    position = SourcePosition("topic", (PartitionPosition("0", 0, 7),))
    store.batch_write([Put("readings", reading("late", 1))], position=position)
    manifest = take_backup(home, tmp_path / "backup")
    store.put("readings", reading("afterwards", 1))
    store.flush()

    copy = restored(tmp_path / "backup")
    assert copy.online.store_id == store.online.store_id == manifest.store_id
    assert copy.get("readings", "s1")["count"] == 1001
    assert copy.get("readings", "s40")["count"] == 40
    assert copy.get("readings", "s49") is None
    assert copy.get("readings", "afterwards") is None
    assert copy.source_position("topic") == {"0": 7}
    assert copy.online.outbox.pending() == 32
    assert copy.describe("readings").group == store.describe("readings").group
    assert copy.verify("readings").equal
    assert copy.graph.verify().intact
    counts = counts_of(rows_of(copy))
    assert sum(counts.values()) == 82
    assert set(counts.values()) == {1}


def test_it_goes_on_as_the_old_one_would_have(store, home, tmp_path, reading, restored, rows_of):
    for n in range(10):
        store.put("readings", reading("s", n, count=n))
    store.flush()
    store.put("readings", reading("s", 20, count=20))
    take_backup(home, tmp_path / "backup")
    copy = restored(tmp_path / "backup")
    for n in range(21, 40):
        copy.put("readings", reading("s", n, count=n))
        copy.flush()
    assert copy.verify("readings").equal
    assert [row["count"] for row in rows_of(copy)] == [*range(10), *range(20, 40)]
    take_backup(copy.home, tmp_path / "again")
    assert restored(tmp_path / "again").get("readings", "s")["count"] == 39


@pytest.mark.parametrize("flushed_before", [True, False])
def test_a_flush_during_the_backup_is_neither_lost_nor_seen_too_early(
    store, home, tmp_path, reading, restored, rows_of, flushed_before
):
    for n in range(10):
        store.put("readings", reading("s", n, count=n))
        if flushed_before and n == 4:
            store.flush()
    moved = []

    def meanwhile(done: int, total: int) -> None:
        # Called first when the state of LMDB is held and before the tables are looked at.
        if not moved:
            for n in range(10, 20):
                store.put("readings", reading("s", n, count=n))
                moved.append(store.flush("readings")["readings"].version)

    manifest = take_backup(home, tmp_path / "backup", on_progress=meanwhile)
    assert len(moved) == 10
    assert [table.version for table in manifest.tables] == [0] * flushed_before
    copy = restored(tmp_path / "backup")
    assert copy.get("readings", "s")["count"] == 9
    assert copy.online.outbox.pending() == (5 if flushed_before else 10)
    # The numbers that the old store gave to 10 … 19 are given again here, to other records.
    for n in range(30, 35):
        copy.put("readings", reading("s", n, count=n))
    copy.flush()
    assert copy.verify("readings").equal
    assert [row["count"] for row in rows_of(copy)] == [*range(10), *range(30, 35)]


def test_older_table_versions_are_there_and_newer_ones_are_not(
    store, home, tmp_path, reading, restored
):
    for n in range(12):
        store.put("readings", reading("s", n, count=n))
        store.flush()
    table = DeltaTable(store.offline_uri("readings"))
    table.create_checkpoint()
    table.optimize.compact()
    manifest = take_backup(home, tmp_path / "backup")
    assert [table.version for table in manifest.tables] == [12]
    copy = restored(tmp_path / "backup")
    again = DeltaTable(copy.offline_uri("readings"))
    assert again.version() == 12
    for version in (0, 5, 11, 12):
        again.load_as_version(version)
        assert again.to_pyarrow_table().num_rows == min(version + 1, 12)
    copy.put("readings", reading("s", 50, count=50))
    assert copy.flush("readings")["readings"].version == 13


def test_a_log_is_cut_behind_its_checkpoint_too(store, home, tmp_path, reading, restored, rows_of):
    store.put("readings", reading("s", 0, count=0))
    store.flush()
    moved = []

    def meanwhile(done: int, total: int) -> None:
        if not moved:
            for n in range(1, 4):
                store.put("readings", reading("s", n, count=n))
                moved.append(store.flush())
            DeltaTable(store.offline_uri("readings")).create_checkpoint()

    take_backup(home, tmp_path / "backup", on_progress=meanwhile)
    log = tmp_path / "backup" / "offline" / "readings" / "_delta_log"
    assert [path.name for path in log.iterdir()] == ["00000000000000000000.json"]
    copy = restored(tmp_path / "backup")
    assert [row["count"] for row in rows_of(copy)] == [0]


def test_groups_that_come_and_go_during_a_backup_do_not_mix(
    store, home, tmp_path, readings, reading, restored
):
    store.put("readings", reading("s", 1))
    threads = []

    def meanwhile(done: int, total: int) -> None:
        if not threads:
            # It waits for the registry's lock, which the backup holds now.
            made = replace(readings, name="other")
            threads.append(threading.Thread(target=store.create_feature_group, args=(made,)))
            threads[0].start()
            time.sleep(0.1)
            assert threads[0].is_alive()

    take_backup(home, tmp_path / "backup", on_progress=meanwhile)
    threads[0].join()
    assert store.describe("other").version == 1
    copy = restored(tmp_path / "backup")
    assert [entry.group.name for entry in copy.list_feature_groups()] == ["readings"]
    copy.create_feature_group(replace(readings, name="third"))
    copy.put("third", reading("s", 1))
    assert copy.verify("third").equal
    assert copy.verify("readings").equal


def test_the_table_of_a_deleted_group_is_kept(store, home, tmp_path, reading, restored):
    store.put("readings", reading("s", 1))
    store.flush()
    store.delete_feature_group("readings")
    manifest = take_backup(home, tmp_path / "backup")
    assert [table.group for table in manifest.tables] == ["readings"]
    copy = restored(tmp_path / "backup")
    assert DeltaTable(str(copy.home / "offline" / "readings")).version() == 0


def test_other_files_are_copied_and_named(store, home, tmp_path):
    files = {
        "artifacts/models/abc/model.json": True,
        "artifacts/datasets/.x.parquet.12.part": False,
        "artifacts/datasets/x.parquet": True,
        "jobs/j/input/config/hyperparameters.json": True,
        "jobs/j/input/data/train/x.csv": False,
        "jobs/j/model/x": False,
        "jobs/j/checkpoints/x": False,
        "jobs/j/training.log": True,
        "jobs/j/output/failure": True,
        "deadletters/readings/a/0-1.jsonl": True,
        "locks/flush-1.lock": True,
        "locks/other.lock": False,
        "audit.log": True,
        "run/1-a.sock": False,
        "server.log": False,
    }
    for name in files:
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (home / "artifacts/models/abc/model.json").chmod(0o444)
    with sqlite3.connect(home / "access.db") as db:
        db.execute("CREATE TABLE token (a)")
    db.close()
    (home / "access.db").chmod(0o600)
    with lineage.open(home / "lineage.db") as graph:
        assert graph is not None

    manifest = take_backup(home, tmp_path / "backup")
    copied = {entry.path for entry in manifest.files}
    assert {name for name, is_copied in files.items() if is_copied} <= copied
    assert not {name for name, is_copied in files.items() if not is_copied} & copied
    assert {"meta.db", "lineage.db", "access.db", "online/data.mdb"} <= copied
    assert manifest.left_out == ("server.log",)
    assert manifest.not_covered == ()
    restore_backup(tmp_path / "backup", tmp_path / "restored")
    for name, is_copied in files.items():
        path = tmp_path / "restored" / name
        assert path.exists() == is_copied, name
        assert not is_copied or path.read_text() == name
    for name, mode in (("access.db", 0o600), ("artifacts/models/abc/model.json", 0o444)):
        assert stat.S_IMODE((tmp_path / "restored" / name).stat().st_mode) == mode


def test_the_write_times_go_on_from_where_they_were(
    store, home, tmp_path, reading, restored, clock, rows_of
):
    store.put("readings", reading("s", 1, count=1))
    store.flush()
    take_backup(home, tmp_path / "backup")
    clock.advance(-1000)
    copy = restored(tmp_path / "backup")
    copy.put("readings", reading("s", 1, count=2))
    copy.flush()
    first, second = (row["write_time"] for row in rows_of(copy))
    assert first < second
    assert copy.verify("readings").equal


def test_a_home_whose_records_are_elsewhere_says_so(store, home, tmp_path, reading):
    store.put("readings", reading("s", 1))
    store.flush()
    (home / "online.json").write_text("{}")
    manifest = take_backup(home, tmp_path / "backup")
    assert "source positions in Redis are not in this backup" in manifest.not_covered[0]
    assert manifest.store_id is None
    assert not (tmp_path / "backup" / "online").exists()
    assert {"online", "online.json"} <= set(manifest.left_out), "the address has a password in it"
    assert [table.version for table in manifest.tables] == [0]


def test_a_home_whose_lineage_is_elsewhere_says_so(store, home, tmp_path):
    assert store.graph.stats()["events"]
    (home / "lineage.json").write_text("{}")
    (home / "lineage.spool.ndjson").write_text("{}\n")
    manifest = take_backup(home, tmp_path / "backup")
    assert "lineage: it is in PostgreSQL" in manifest.not_covered[0]
    assert manifest.left_out == ("lineage.json",), "the address has a password in it"
    assert not (tmp_path / "backup" / "lineage.db").exists()
    assert (tmp_path / "backup" / "lineage.spool.ndjson").read_text() == "{}\n"


def test_a_home_with_redis_is_restored_without_its_records_and_finds_them_by_its_address(
    make_store, readings, reading, redis_url, restored, tmp_path, rows_of
):
    home = tmp_path / "home"
    home.mkdir()
    store = make_store(home, online=open_online(home, redis_url()))
    store.create_feature_group(readings)
    store.put("readings", reading("s", 1, count=1))
    store.flush()
    store.put("readings", reading("s", 2, count=2))
    manifest = take_backup(home, tmp_path / "backup")
    assert len(manifest.not_covered) == 1
    assert manifest.left_out == ("online.json",)
    store.close()

    # Alone it is a home whose online store is empty, and verify says what is missing there.
    alone = restored(tmp_path / "backup")
    assert isinstance(alone.online, LmdbStore)
    assert alone.get("readings", "s") is None
    assert [entry.reason for entry in alone.verify("readings").differences] == [
        "only in the offline store"
    ]
    # With the address it goes on with what Redis has, the waiting entries too.
    restore_backup(tmp_path / "backup", tmp_path / "addressed")
    shutil.copy2(home / "online.json", tmp_path / "addressed")
    copy = make_store(tmp_path / "addressed")
    assert copy.get("readings", "s")["count"] == 2
    assert copy.verify("readings").equal
    assert [row["count"] for row in rows_of(copy)] == [1, 2]


def test_keys_come_along_and_the_master_key_does_not(store, home, tmp_path):
    environ = {"FEATURELINE_MASTER_KEY": base64.b64encode(bytes(range(32))).decode()}
    with KeyRing.open(home, environ=environ) as ring:
        sealed = ring.create(1).seal(b"record", b"id")
    take_backup(home, tmp_path / "backup")
    restore_backup(tmp_path / "backup", tmp_path / "restored")
    with KeyRing.open(tmp_path / "restored", environ=environ) as ring:
        assert ring.cipher(1).open(sealed, b"id") == b"record"
    with pytest.raises(StoreUnavailable, match="no master key is given"):
        KeyRing.open(tmp_path / "restored", environ={})
    assert stat.S_IMODE((tmp_path / "restored" / "keys.db").stat().st_mode) == 0o600
    content = b"".join(p.read_bytes() for p in (tmp_path / "backup").rglob("*") if p.is_file())
    assert bytes(range(32)) not in content


def test_an_environment_that_lost_pages_is_copied_whole(store, home, tmp_path, reading, restored):
    # LMDB does not compact it: "page leak or corrupt DB".
    for n in range(100):
        store.put("readings", reading(f"s{n}", n, count=n))
    store.close()
    data = bytearray((home / "online" / "data.mdb").read_bytes())
    last_page = 16 + 24 + 2 * 48  # behind page header, magic to map size, and two databases
    for page in (0, 4096):
        (last,) = struct.unpack_from("<Q", data, page + last_page)
        struct.pack_into("<Q", data, page + last_page, last + 5)
    data += bytes(5 * 4096)
    (home / "online" / "data.mdb").write_bytes(data)
    manifest = take_backup(home, tmp_path / "backup")
    assert [entry.path for entry in manifest.files].count("online/data.mdb") == 1
    check_backup(tmp_path / "backup")
    copy = restored(tmp_path / "backup")
    assert copy.get("readings", "s99")["count"] == 99
    assert copy.verify("readings").equal


def test_free_pages_are_left_out(store, home, tmp_path, reading):
    for n in range(300):
        store.put("readings", reading(f"s{n}", 1, note="x" * 2000))
    store.flush()
    for n in range(300):
        store.put("readings", reading(f"s{n}", 2))
    store.flush()
    take_backup(home, tmp_path / "backup")
    before = (home / "online" / "data.mdb").stat().st_size
    after = (tmp_path / "backup" / "online" / "data.mdb").stat().st_size
    assert after < before / 5


def test_progress_ends_at_the_whole(store, home, tmp_path, reading):
    store.put("readings", reading("s", 1, note="x" * 100_000))
    store.flush()
    told: list[tuple[int, int]] = []
    manifest = take_backup(home, tmp_path / "b", on_progress=lambda *at: told.append(at))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert all(done <= total for done, total in told)
    told.clear()
    restore_backup(tmp_path / "b", tmp_path / "r", on_progress=lambda *at: told.append(at))
    assert told[-1] == (manifest.size_bytes, manifest.size_bytes)


# -- refusals ---------------------------------------------------------------------------------


def test_nothing_is_written_over(store, home, tmp_path):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "theirs").write_text("theirs")
    with pytest.raises(InvalidRequest, match="expected a folder that does not exist or is empty"):
        take_backup(home, taken)
    take_backup(home, tmp_path / "backup")
    with pytest.raises(InvalidRequest, match=r"the backup .* is empty; nothing is written over it"):
        take_backup(home, tmp_path / "backup")
    for not_empty in (home, taken, taken / "theirs"):
        with pytest.raises(InvalidRequest, match=r"the home .* nothing is written over it"):
            restore_backup(tmp_path / "backup", not_empty)
    assert [path.name for path in taken.iterdir()] == ["theirs"]
    (tmp_path / "empty").mkdir()
    restore_backup(tmp_path / "backup", tmp_path / "empty")
    assert (tmp_path / "empty" / "meta.db").exists()
    assert not list(tmp_path.glob("*.partial"))


def test_a_folder_that_is_no_home_is_refused(tmp_path):
    with pytest.raises(InvalidRequest, match=r"expected the home of a store, found no meta.db"):
        take_backup(tmp_path, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def test_a_folder_that_is_no_backup_is_refused(tmp_path, home, store):
    for source in (tmp_path, tmp_path / "absent", home):
        with pytest.raises(InvalidRequest, match="holds no whole backup"):
            restore_backup(source, tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


def change_byte(path: Path) -> None:
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["changed", "shorter", "missing"])
@pytest.mark.parametrize("pattern", ["meta.db", "online/data.mdb", "offline/**/*.parquet"])
def test_a_damaged_file_is_named_and_nothing_is_restored(
    store, home, tmp_path, reading, how, pattern
):
    store.put("readings", reading("s", 1))
    store.flush()
    take_backup(home, tmp_path / "backup")
    (path,) = (tmp_path / "backup").glob(pattern)
    if how == "changed":
        change_byte(path)
    elif how == "shorter":
        os.truncate(path, path.stat().st_size - 1)
    else:
        path.unlink()
    said = "is missing from the backup" if how == "missing" else "was altered: expected"
    with pytest.raises(StoreCorrupt, match=said) as refused:
        restore_backup(tmp_path / "backup", tmp_path / "restored")
    assert str(path) in str(refused.value)
    with pytest.raises(StoreCorrupt, match=said):
        check_backup(tmp_path / "backup")
    assert not (tmp_path / "restored").exists()
    assert not list(tmp_path.glob("*.partial"))


def test_a_damaged_manifest_is_refused(store, home, tmp_path):
    take_backup(home, tmp_path / "backup")
    path = tmp_path / "backup" / MANIFEST
    whole = path.read_bytes()
    body = json.loads(whole)
    for content in (
        whole[: len(whole) // 2],
        b"[]",
        json.dumps(body | {"store_id": "another"}).encode(),
        json.dumps({name: value for name, value in body.items() if name != "digest"}).encode(),
    ):
        path.write_bytes(content)
        with pytest.raises(StoreCorrupt, match=r"backup.json was altered"):
            restore_backup(tmp_path / "backup", tmp_path / "restored")
    path.write_text(json.dumps(body | {"form": "featureline-backup-9"}))
    with pytest.raises(InvalidRequest, match=r"expected the form .* got 'featureline-backup-9'"):
        restore_backup(tmp_path / "backup", tmp_path / "restored")


@pytest.mark.parametrize("name", ["../escaped", "/absolute", "a/../../escaped"])
def test_a_path_out_of_the_home_is_refused(store, home, tmp_path, name):
    manifest = take_backup(home, tmp_path / "backup")
    forged = replace(manifest, files=(manifest.files[0]._replace(path=name),))
    (tmp_path / "backup" / MANIFEST).write_bytes(forged.to_bytes())
    with pytest.raises(StoreCorrupt, match="was altered"):
        restore_backup(tmp_path / "backup", tmp_path / "restored")


def test_a_manifest_round_trips(store, home, tmp_path):
    manifest = take_backup(home, tmp_path / "backup")
    assert Manifest.read(tmp_path / "backup") == manifest
    assert manifest.began <= manifest.finished


# -- a backup that does not end ---------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.ENOSPC, "No space left")])
def test_an_interrupt_at_any_step_leaves_nothing(store, home, tmp_path, reading, error):
    for n in range(20):
        store.put("readings", reading(f"s{n}", 1, note="x" * 10_000))
        store.flush()
    steps = 0
    before = set(threading.enumerate())

    def count(done: int, total: int) -> None:
        nonlocal steps
        steps += 1

    take_backup(home, tmp_path / "whole", on_progress=count)
    expected = KeyboardInterrupt if error is KeyboardInterrupt else StoreFull
    for stop in sorted({1, 2, 3, 4, 5, steps // 2, steps - 1, steps}):
        left = stop

        def interrupt(done: int, total: int) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise error

        for work in (
            lambda call: take_backup(home, tmp_path / "backup", on_progress=call),
            lambda call: restore_backup(tmp_path / "whole", tmp_path / "backup", on_progress=call),
        ):
            left = stop
            try:
                work(interrupt)
            except expected:
                pass
            else:
                assert left > 0, "it had fewer steps"
                shutil.rmtree(tmp_path / "backup")
            assert sorted(p.name for p in tmp_path.iterdir()) == ["home", "whole"]
    assert set(threading.enumerate()) <= before, "LMDB's copy has ended too"
    store.put("readings", reading("s", 9))
    assert store.verify("readings").equal


BACK_UP = [sys.executable, "-m", "featureline", "backup"]


def start_backup(home: Path, destination: Path, **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*BACK_UP, "--home", str(home), str(destination)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_backup_that_is_killed_looks_like_none(store, home, tmp_path, reading, number):
    for n in range(200):
        store.put("readings", reading(f"s{n}", 1, note="x" * 50_000))
    store.flush()
    chance = random.Random(20240601)
    caught = 0
    for life in range(6):
        destination = tmp_path / "backup"
        process = start_backup(home, destination)
        while process.poll() is None and not list(tmp_path.glob("*.partial")):
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.05))
        process.send_signal(number)
        process.communicate(timeout=60)
        if destination.exists():
            check_backup(destination)  # it was whole before the signal came
            destination.rename(tmp_path / f"whole-{life}")
            continue
        caught += 1
        with pytest.raises(InvalidRequest, match="holds no whole backup"):
            restore_backup(destination, tmp_path / "restored")
        left = tmp_path / "backup.partial"
        assert not (left / MANIFEST).exists()
        if number == signal.SIGINT:
            assert process.returncode == 130
            assert not left.exists()
    assert caught, "no signal met a backup: the test shows nothing"
    take_backup(home, tmp_path / "backup")
    check_backup(tmp_path / "backup")
    assert not (tmp_path / "backup.partial").exists()


def test_two_backups_into_one_folder_do_not_mix(store, home, tmp_path):
    refused = []

    def meanwhile(done: int, total: int) -> None:
        if not refused:
            with pytest.raises(StoreUnavailable, match="is being written by another process"):
                take_backup(home, tmp_path / "backup")
            refused.append(True)

    take_backup(home, tmp_path / "backup", on_progress=meanwhile)
    assert refused
    check_backup(tmp_path / "backup")


def test_a_full_disk_ends_it_with_a_word_and_nothing_left(
    store, home, tmp_path, reading, small_disk
):
    for n in range(100):
        store.put("readings", reading(f"s{n}", 1, note=random.Random(n).randbytes(9_000).hex()))
    store.flush()
    disk = small_disk(1 << 20)
    with pytest.raises(StoreFull, match=r"no space left.* free space and try again"):
        take_backup(home, disk / "backup")
    assert list(disk.iterdir()) == []
    take_backup(home, tmp_path / "backup")
    with pytest.raises(StoreFull, match="no space left"):
        restore_backup(tmp_path / "backup", disk / "restored")
    assert list(disk.iterdir()) == []
    with pytest.raises(InvalidRequest, match="a mounted disk; name a folder in it"):
        take_backup(home, disk)


# -- while serving ----------------------------------------------------------------------------


def test_backups_of_a_home_under_load_hold_what_was_acknowledged(
    store, home, tmp_path, readings, reading, restored, rows_of
):
    """Writers put and flush in this process and over gRPC; some backups are killed."""
    store.create_feature_group(replace(readings, name="others"))
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "featureline", "serve", "--home", str(home)),
            *("--grpc", "127.0.0.1:0", "--flush-seconds", "0.1"),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    stop = threading.Event()
    acknowledged: dict[str, int] = {}
    failures: list[Exception] = []

    def write(name: str, group: str, address: str) -> None:
        n = 0
        try:
            with featurestore.connect(address) as remote:
                while not stop.is_set():
                    puts = [Put(group, reading(f"{name}-{i}", n, count=n)) for i in range(5)]
                    assert remote.batch_write(puts) == []
                    acknowledged[name] = n
                    n += 1
        except Exception as error:  # noqa: BLE001  # the thread's outermost frame
            failures.append(error)

    taken: list[tuple[Path, dict[str, int]]] = []
    try:
        address = json.loads(server.stdout.readline())["grpc"]
        writers = {"a": "readings", "b": "readings", "c": "others"}
        threads = [
            threading.Thread(target=write, args=(name, group, address))
            for name, group in writers.items()
        ]
        for thread in threads:
            thread.start()
        chance = random.Random(20240602)
        for life in range(5):
            time.sleep(chance.uniform(0.05, 0.3))
            killed = start_backup(home, tmp_path / "killed")
            time.sleep(chance.uniform(0.5, 1.2))
            killed.kill()
            killed.communicate()
            before = dict(acknowledged)
            take_backup(home, tmp_path / f"backup-{life}")
            taken.append((tmp_path / f"backup-{life}", before))
        stop.set()
        for thread in threads:
            thread.join()
    finally:
        stop.set()
        server.terminate()
        server.communicate(timeout=30)
    assert failures == []
    assert min(acknowledged.values()) > 20, "too little was put: the test shows nothing"

    for path, before in taken:
        copy = restored(path)
        for name, last in before.items():
            for i in range(5):
                assert copy.get(writers[name], f"{name}-{i}")["count"] >= last
        for group in ("readings", "others"):
            for n in range(3):
                copy.put(group, reading("afterwards", n, count=n))
                copy.flush(group)
            report = copy.verify(group)
            assert report.equal, report.differences
            counts = counts_of(rows_of(copy, group))
            assert set(counts.values()) == {1}, "a record is offline more than once"
            for name, last in before.items():
                for i in range(5 if writers[name] == group else 0):
                    wanted = {reading(f"{name}-{i}", n)["time"] for n in range(last + 1)}
                    found = {time for station, time in counts if station == f"{name}-{i}"}
                    assert wanted <= found, "an acknowledged record is not offline"
        copy.close()


# -- the command line -------------------------------------------------------------------------


def test_backup_and_restore_from_the_command_line(store, home, tmp_path, reading):
    store.put("readings", reading("s", 1, count=1))
    made = run("backup", tmp_path / "backup", "--home", home, "--json")
    assert (made.returncode, made.stderr) == (0, "")
    body = json.loads(made.stdout)
    assert body["files"] == 3
    assert body["not_covered"] == []

    checked = run("restore", tmp_path / "backup", "--check")
    assert checked.returncode == 0
    assert "whole; " in checked.stdout
    back = run("restore", tmp_path / "backup", "--home", tmp_path / "new", "--verify", "--json")
    assert (back.returncode, back.stderr) == (0, "")
    verified = json.loads(back.stdout)["verified"]
    assert verified == {"readings": {"equal": True, "online": 1, "offline": 1, "differences": []}}
    again = run("restore", tmp_path / "backup", "--home", tmp_path / "new")
    assert again.returncode == 1
    assert again.stderr.startswith("featureline: the home ")
    assert len(again.stderr.splitlines()) == 1
    assert run("get", "readings", "s", "--home", tmp_path / "new").returncode == 0
    refused = run("backup", tmp_path / "other", "--connect", "127.0.0.1:1")
    assert refused.returncode == 2
    assert "works on the files of a home; use --home" in refused.stderr


def test_keys_from_the_command_line(store, home, tmp_path):
    old, new = tmp_path / "old.key", tmp_path / "new.key"
    made = run("key", "new", old, "--json")
    assert made.returncode == 0
    fingerprint = json.loads(made.stdout)["fingerprint"]
    assert run("key", "new", old).returncode == 1
    assert "no keys" in run("key", "list", "--home", home).stdout
    with KeyRing.open(home, environ={"FEATURELINE_MASTER_KEY_FILE": str(old)}) as ring:
        ring.create(1)
    (row,) = json.loads(run("key", "list", "--home", home, "--json").stdout)
    assert (row["group"], row["version"], row["destroyed"]) == ("readings", 1, None)

    run("key", "new", new)
    rotate = ("key", "rotate", "--new-master-key-file", new, "--home", home)
    refused = run(*rotate)
    assert refused.returncode == 1
    assert f"to the file of master key {fingerprint}" in refused.stderr
    rotated = run(*rotate, FEATURELINE_MASTER_KEY_FILE=str(old))
    assert rotated.returncode == 0
    assert "1 data keys are wrapped with master key" in rotated.stdout
    with pytest.raises(StoreUnavailable, match="give the right one"):
        KeyRing.open(home, environ={"FEATURELINE_MASTER_KEY_FILE": str(old)})
    KeyRing.open(home, environ={"FEATURELINE_MASTER_KEY_FILE": str(new)}).close()
