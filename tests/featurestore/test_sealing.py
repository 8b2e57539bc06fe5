"""An encrypted group keeps every verb, and no record lies in clear in the online store."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

import featurestore
from featurestore import FeatureGroupNotFound, Get, Put, Ttl, TtlUnit
from featurestore.backup import take_backup
from featurestore.encryption import MASTER_KEY, MASTER_KEY_FILE, KeyRing, MasterKey, data_keys
from featurestore.errors import InvalidRequest, StoreCorrupt, StoreFull, StoreUnavailable
from featurestore.migrate import migrate
from featurestore.online import Batch, MemoryStore, Outcome, RedisStore, Write, open_online
from featurestore.restore import restore_backup

ROOT = Path(featurestore.__file__).parents[1]
SECRET = "unmistakable"


@pytest.fixture
def master(tmp_path, monkeypatch) -> Path:
    """The file of the master key that stores find in the environment."""
    path = tmp_path / "master.key"
    MasterKey.generate(path)
    monkeypatch.setenv(MASTER_KEY_FILE, str(path))
    return path


@pytest.fixture
def sealed(readings):
    return replace(readings, kms_key="master")


@pytest.fixture
def store(master, make_store, sealed):
    """A store whose group `readings` is encrypted."""
    made = make_store()
    made.create_feature_group(sealed)
    return made


def clear_in(folder: Path, text: str = SECRET) -> list[str]:
    """Name the files of a folder that hold a text as it is."""
    return [
        path.name
        for path in folder.rglob("*")
        if path.is_file() and text.encode() in path.read_bytes()
    ]


def stored(store, identifier: str):
    number = store.registry.get("readings").number
    (value,) = store.online.get(number, [identifier.encode()])
    return number, value


def tamper(store, identifier: str, record: bytes | None = None) -> None:
    """Change one bit of what is stored of a record, or put other bytes in its place."""
    number, value = stored(store, identifier)
    if record is None:
        record = value.record[:-20] + bytes((value.record[-20] ^ 1,)) + value.record[-19:]
    write = Write(
        number,
        value.identifier,
        value.event_time_us,
        record,
        0,
        value.expires_us,
        value.schema_version,
        1,
        offline=False,
        expected=value.sequence,
    )
    assert store.online.put([Batch([write])]) == [[Outcome.APPLIED]]


def fill(disk: Path, *, leave: int) -> None:
    """Take all space but so many bytes."""
    with (disk / "filler").open("ab", buffering=0) as file:
        with contextlib.suppress(OSError):  # no space left: that is the aim
            while True:
                file.write(bytes(4096))
        file.truncate(max(0, file.tell() - leave))


# -- verbs ------------------------------------------------------------------------------------


def put_all_ways(store, reading, group: str) -> None:
    store.put(group, reading("put", 1, note=SECRET, temp=1.5))
    store.put(group, reading("put", 0, note=f"{SECRET} historic"))
    store.put(group, reading("x" * 1500, 2, note=SECRET))
    store.put(group, reading("short", 3, note=SECRET), ttl=Ttl(TtlUnit.SECONDS, 1))
    store.put(group, reading("batch", 0.5, note=f"{SECRET} offline"), stores=("OfflineStore",))
    refused = store.batch_write(
        [Put(group, reading("batch", n, note=SECRET, count=n)) for n in range(3)]
        + [Put(group, reading("batch", 9, note=SECRET, count="many"))]
    )
    assert [error.index for error in refused] == [3]
    rows = [reading(f"row{n}", n, note=f"{SECRET} {n}") for n in range(200)]
    assert store.put_table(group, pa.Table.from_pylist(rows)).rows == 200
    store.update(group, "put", {"count": 7, "temp": None})
    store.update(group, "row5", {"note": f"{SECRET} twice", "time": reading("row5", 99)["time"]})
    store.delete(group, "row1", event_time=reading("row1", 50)["time"])
    store.delete(group, "row2", event_time=reading("row2", 50)["time"], hard=True)


def seen(store, group: str) -> list[object]:
    """All that reads tell of a group."""
    names = ["put", "x" * 1500, "short", "batch", "row1", "row2", "row5", "row199", "no"]
    found = store.batch_get([Get(group, names), Get(group, ["put"], ("note",))])
    return [
        [(entry.identifier, entry.record) for entry in found],
        store.get(group, "batch"),
        store.get(group, "put", features=["station", "count"]),
        store.get_table(group, names).to_pylist(),
        store.get_table(group, names, features=["note"]).to_pylist(),
        list(store.records(group, include_soft_deleted=True)),
    ]


def test_every_verb_is_that_of_a_group_in_clear(store, readings, reading, rows_of):
    store.create_feature_group(replace(readings, name="clear"))
    for group in ("readings", "clear"):
        put_all_ways(store, reading, group)
    assert seen(store, "readings") == seen(store, "clear")
    assert store.get("readings", "put")["note"] == SECRET
    assert store.sweep() == 2
    for group in ("readings", "clear"):
        report = store.verify(group)
        assert report.equal, report.differences
        assert (report.online, report.offline) == (201, 201)
    left = [{k: v for k, v in row.items() if k != "_sequence"} for row in rows_of(store)]
    right = [{k: v for k, v in row.items() if k != "_sequence"} for row in rows_of(store, "clear")]
    for row in left + right:
        row.pop("write_time")
    assert left == right
    assert seen(store, "readings") == seen(store, "clear")


def test_nothing_lies_in_clear_in_the_online_store_and_its_outbox(store, reading):
    online = store.home / "online"
    put_all_ways(store, reading, "readings")
    number = store.registry.get("readings").number
    waiting = store.online.outbox.read(number, after=0, limit=1000)
    assert len(waiting) == 212
    assert not [entry for entry in waiting if SECRET.encode() in entry.record]
    assert not [entry for entry in waiting if b"station" in entry.record], "markers are sealed too"
    assert clear_in(online) == []
    store.flush()
    store.sweep()
    assert clear_in(online) == []
    assert clear_in(store.home, "station"), "the definition says what there is"

    store.put("readings", reading("put", 60, note=SECRET))
    assert clear_in(online) == []


def test_a_group_beside_it_stays_in_clear(store, readings, reading):
    store.create_feature_group(replace(readings, name="clear"))
    store.put("clear", reading("a", 1, note=SECRET))
    assert clear_in(store.home / "online") == ["data.mdb"]


def test_it_reads_on_after_it_was_opened_again(store, make_store, reading):
    store.put("readings", reading("a", 1, note=SECRET))
    store.close()
    again = make_store()
    assert again.get("readings", "a")["note"] == SECRET
    again.update("readings", "a", {"count": 1})
    assert again.verify("readings").equal


def test_an_offline_only_group_waits_sealed(master, make_store, sealed, reading, rows_of):
    store = make_store()
    store.create_feature_group(replace(sealed, online=False))
    store.put("readings", reading("a", 1, note=SECRET))
    assert clear_in(store.home / "online") == []
    store.flush()
    assert [row["note"] for row in rows_of(store)] == [SECRET]


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_other_engines_hold_sealed_bytes_too(
    kind, request, master, make_store, sealed, reading, tmp_path
):
    if kind == "memory":
        store = make_store(online=MemoryStore())
    else:
        (tmp_path / "home").mkdir()
        url = request.getfixturevalue("redis_url")()
        store = make_store(online=open_online(tmp_path / "home", url))
    store.create_feature_group(sealed)
    put_all_ways(store, reading, "readings")
    _, value = stored(store, "batch")
    assert SECRET.encode() not in value.record
    assert store.get("readings", "batch")["note"] == SECRET
    assert store.verify("readings").equal
    tamper(store, "batch")
    with pytest.raises(StoreCorrupt, match="of 'batch'"):
        store.get("readings", "batch")


# -- altered bytes ----------------------------------------------------------------------------


def test_altered_bytes_are_refused_by_every_read_and_name_the_record(store, reading):
    for name in ("a", "b"):
        store.put("readings", reading(name, 1, note=SECRET))
    tamper(store, "b")
    said = r"readings: the sealed record of 'b' .* cannot be opened: .* restore it from a backup"
    for read in (
        lambda: store.get("readings", "b"),
        lambda: store.batch_get([Get("readings", ["a", "b"])]),
        lambda: store.get_table("readings", ["a", "b"]),
        lambda: store.update("readings", "b", {"count": 1}),
        lambda: store.verify("readings"),
    ):
        with pytest.raises(StoreCorrupt, match=said) as caught:
            read()
        assert (caught.value.group, caught.value.identifier) == ("readings", "b")
    assert store.get("readings", "a")["note"] == SECRET
    store.put("readings", reading("b", 2, note="mended"))
    assert store.get("readings", "b")["note"] == "mended"
    assert store.verify("readings").equal


def test_bytes_of_another_record_or_group_or_in_clear_are_refused(store, sealed, reading):
    store.create_feature_group(replace(sealed, name="other"))
    for group, name in (("readings", "a"), ("readings", "b"), ("other", "a")):
        store.put(group, reading(name, 1, note=SECRET))
    _, other_record = stored(store, "b")
    (other_group,) = store.online.get(store.registry.get("other").number, [b"a"])
    for record in (other_record.record, other_group.record, b"\x0a\x00", b""):
        tamper(store, "a", record)
        with pytest.raises(StoreCorrupt, match="readings: the sealed record of 'a'"):
            store.get("readings", "a")


def test_an_altered_outbox_entry_stops_the_flush_and_is_named(store, reading, rows_of):
    store.put("readings", reading("a", 1, note=SECRET))
    number, value = stored(store, "a")
    write = Write(number, b"a", 1, value.record[:-1] + b"?", 0, 9, 1, 1, online=False)
    store.online.put([Batch([write])])
    (_, entry) = store.online.outbox.read(number, after=0, limit=9)
    for _ in range(2):
        with pytest.raises(
            StoreCorrupt, match=rf"readings: outbox entry {entry.sequence}: .* of 'a'"
        ):
            store.flush("readings")
    assert store.online.outbox.pending(number) == 2


# -- keys -------------------------------------------------------------------------------------


def test_without_a_master_key_no_group_is_made(make_store, sealed, readings, monkeypatch):
    monkeypatch.delenv(MASTER_KEY_FILE, raising=False)
    store = make_store()
    with pytest.raises(InvalidRequest, match="needs a master key: make one with `featureline key"):
        store.create_feature_group(sealed)
    assert store.list_feature_groups() == []
    assert store.graph.stats()["entities"] == 0
    assert not (store.home / "keys.db").exists()
    store.create_feature_group(readings)


def test_a_group_that_could_not_be_told_of_is_not_made_and_its_key_serves_the_next(
    master, small_disk, make_store, sealed, reading
):
    disk = small_disk(4 << 20)
    store = make_store(disk / "home")
    assert store.graph.stats()["entities"] == 0
    fill(disk, leave=0)
    with pytest.raises(StoreFull):
        store.create_feature_group(sealed)
    assert store.list_feature_groups() == []
    (disk / "filler").unlink()
    store.create_feature_group(sealed)
    store.put("readings", reading("a", 1, note=SECRET))
    assert store.verify("readings").equal


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "no master key is given; set FEATURELINE_MASTER_KEY_FILE to the file of master key"),
        ({MASTER_KEY: base64.b64encode(bytes(32)).decode()}, "give the right one"),
        ({MASTER_KEY: "short"}, "32 bytes in base64"),
        ({MASTER_KEY_FILE: "/absent"}, "the master key cannot be read"),
    ],
    ids=["none", "wrong", "malformed", "unreadable"],
)
def test_a_home_with_encrypted_groups_does_not_open_without_its_master_key(
    store, make_store, reading, monkeypatch, environ, said
):
    store.put("readings", reading("a", 1, note=SECRET))
    store.close()
    with monkeypatch.context() as changed:
        changed.delenv(MASTER_KEY_FILE)
        for name, value in environ.items():
            changed.setenv(name, value)
        with pytest.raises((StoreUnavailable, InvalidRequest), match=said):
            featurestore.open(store.home)
    assert make_store().get("readings", "a")["note"] == SECRET


def test_a_server_does_not_start_without_the_master_key(store):
    store.close()
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "featureline", "serve", "--home", str(store.home)),
            *("--grpc", "127.0.0.1:0"),
        ],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != MASTER_KEY_FILE},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert re.match(r"featureline: .*keys\.db: .* set FEATURELINE_MASTER_KEY_FILE to", line)


def test_a_process_without_the_master_key_serves_its_other_groups(
    make_store, sealed, readings, reading, monkeypatch, tmp_path
):
    """The encrypted group is made by another process, which has the key."""
    monkeypatch.delenv(MASTER_KEY_FILE, raising=False)
    without = make_store()
    without.create_feature_group(replace(readings, name="clear"))
    MasterKey.generate(tmp_path / "master.key")
    with monkeypatch.context() as changed:
        changed.setenv(MASTER_KEY_FILE, str(tmp_path / "master.key"))
        other = make_store()
        other.create_feature_group(sealed)
        other.put("readings", reading("a", 1, note=SECRET))
    for refused in (
        lambda: without.get("readings", "a"),
        lambda: without.put("readings", reading("a", 2)),
        lambda: without.flush("readings"),
    ):
        with pytest.raises(StoreUnavailable, match="no master key is given"):
            refused()
    without.put("clear", reading("a", 1, note="n"))
    assert without.verify("clear").equal
    assert other.verify("readings").equal


def test_lost_keys_never_mean_values_in_clear(store, make_store, reading):
    store.put("readings", reading("a", 1, note=SECRET))
    store.close()
    (store.home / "keys.db").unlink()
    again = make_store()
    for refused in (
        lambda: again.get("readings", "a"),
        lambda: again.put("readings", reading("b", 1, note=SECRET)),
        lambda: again.update("readings", "a", {"count": 1}),
        lambda: again.delete("readings", "a", event_time=reading("a", 2)["time"]),
        lambda: again.flush("readings"),
    ):
        with pytest.raises(StoreUnavailable, match=r"readings: .*has no key of it; restore that"):
            refused()
    assert clear_in(store.home / "online") == []


def test_a_rotation_while_a_store_is_open(store, master, sealed, reading, tmp_path, make_store):
    store.put("readings", reading("a", 1, note=SECRET))
    new = tmp_path / "new.key"
    with KeyRing.open(store.home) as ring:
        assert ring.rotate(MasterKey.generate(new)) == 1
    store.put("readings", reading("b", 1, note=SECRET))
    assert store.get("readings", "a")["note"] == SECRET
    with pytest.raises(StoreUnavailable, match="give the right one"):
        store.create_feature_group(replace(sealed, name="other"))
    assert [entry.group.name for entry in store.list_feature_groups()] == ["readings"]
    new.replace(master)
    store.create_feature_group(replace(sealed, name="other"))
    store.close()
    again = make_store()
    assert [again.get("readings", name)["note"] for name in "ab"] == [SECRET] * 2


def test_deleting_a_group_flushes_it_and_destroys_its_keys(
    store, make_store, sealed, reading, monkeypatch
):
    store.put("readings", reading("a", 1, note=SECRET))
    uri = store.offline_uri("readings")
    store.delete_feature_group("readings")
    assert [entry.destroyed_us is None for entry in data_keys(store.home)] == [False]
    assert DeltaTable(uri).to_pyarrow_table()["note"].to_pylist() == [SECRET]
    with pytest.raises(FeatureGroupNotFound):
        store.get("readings", "a")
    store.create_feature_group(sealed)
    store.put("readings", reading("a", 1, note=SECRET))
    assert store.get("readings", "a")["note"] == SECRET
    assert [entry.destroyed_us is None for entry in data_keys(store.home)] == [False, True]
    store.delete_feature_group("readings")
    store.close()
    # No key is left: the master key may go, and another one come.
    monkeypatch.delenv(MASTER_KEY_FILE)
    make_store().close()
    monkeypatch.setenv(MASTER_KEY, base64.b64encode(bytes(range(32))).decode())
    again = make_store()
    again.create_feature_group(sealed)
    again.put("readings", reading("a", 1, note=SECRET))
    again.close()
    assert make_store().get("readings", "a")["note"] == SECRET


def test_a_full_disk_refuses_puts_and_loses_none(master, small_disk, make_store, sealed, reading):
    disk = small_disk(4 << 20)
    store = make_store(disk / "home")
    store.create_feature_group(sealed)
    acknowledged: list[str] = []
    refused: list[str] = []

    def put(name: str) -> None:
        try:
            store.put("readings", reading(name, 1, note=SECRET * 20))
        except StoreFull as error:
            refused.append(error.message)
        else:
            acknowledged.append(name)

    fill(disk, leave=256 << 10)
    while len(refused) < 3:
        put(f"filling-{len(acknowledged)}")
    assert len(acknowledged) > 20
    assert all("free space and put again" in message for message in refused), refused
    # A process that begins on the full disk cannot even note that it is about to use the key.
    store.close()
    store = make_store(disk / "home")
    fill(disk, leave=0)
    put("begun")
    assert "keys.db; free space and try again" in refused[-1]
    assert store.get("readings", acknowledged[-1])["note"] == SECRET * 20
    (disk / "filler").unlink()
    put("begun")
    assert len(refused) == 4
    values = store.get_table("readings", acknowledged, features=["note"])["note"].to_pylist()
    assert values == [SECRET * 20] * len(acknowledged)
    assert store.verify("readings").equal


def test_a_delete_that_was_killed_half_way_is_ended_by_the_next_sweep(
    store, make_store, sealed, reading, clock
):
    store.create_feature_group(replace(sealed, name="stays"))
    for group in ("readings", "stays"):
        store.put(group, reading("a", 1, note=SECRET))
    uri = store.offline_uri("readings")
    number = store.registry.delete("readings", now=clock()).number  # and the process ends here
    store.close()
    again = make_store()
    again.sweep()
    assert [entry.destroyed_us is None for entry in data_keys(again.home)] == [True, True]
    clock.advance(3600)
    again.sweep()
    assert [entry.destroyed_us is None for entry in data_keys(again.home)] == [False, True]
    assert DeltaTable(uri).to_pyarrow_table()["note"].to_pylist() == [SECRET]
    assert again.online.get(number, [b"a"]) == [None]
    assert again.get("stays", "a")["note"] == SECRET


# -- with what keeps a home -------------------------------------------------------------------


def test_a_backup_is_taken_without_the_master_key_and_restored_with_it(
    store, make_store, reading, tmp_path, monkeypatch
):
    for n in range(20):
        store.put("readings", reading(f"s{n}", n, note=f"{SECRET} {n}"))
    store.flush()
    store.put("readings", reading("s0", 50, note=SECRET))
    with monkeypatch.context() as changed:
        changed.delenv(MASTER_KEY_FILE)
        take_backup(store.home, tmp_path / "backup")
        restore_backup(tmp_path / "backup", tmp_path / "restored")
        with pytest.raises(StoreUnavailable, match="no master key is given"):
            featurestore.open(tmp_path / "restored")
    assert clear_in(tmp_path / "backup" / "online") == []
    assert not clear_in(tmp_path / "backup", base64.b64encode(bytes(32)).decode())
    copy = make_store(tmp_path / "restored")
    assert copy.get("readings", "s7")["note"] == f"{SECRET} 7"
    assert copy.online.outbox.pending() == 1
    assert copy.verify("readings").equal
    copy.put("readings", reading("s0", 60, note=SECRET))
    assert copy.verify("readings").equal


@pytest.mark.parametrize("has_key", [True, False])
def test_a_migration_copies_sealed_bytes(
    store, make_store, reading, redis_url, monkeypatch, has_key
):
    put_all_ways(store, reading, "readings")
    before = seen(store, "readings")
    home = store.home
    store.close()
    with monkeypatch.context() as changed:
        if not has_key:
            changed.delenv(MASTER_KEY_FILE)
        moved = migrate(home, redis_url())
    assert moved.outbox == (0 if has_key else 212)
    again = make_store()
    assert isinstance(again.online, RedisStore)
    assert SECRET.encode() not in stored(again, "put")[1].record
    assert seen(again, "readings") == before
    assert again.verify("readings").equal
