from __future__ import annotations

import contextlib
import sqlite3
import threading

import pytest

from featurestore import FeatureType, Ttl, TtlUnit, feature_definitions
from featurestore.errors import (
    FeatureGroupExists,
    FeatureGroupNotFound,
    InvalidFeatureGroup,
    StoreCorrupt,
    StoreUnavailable,
)
from featurestore.registry import Registry


def nothing(_: object) -> None:
    pass


@pytest.fixture
def open_registry(tmp_path):
    opened = []

    def make(path=None):
        registry = Registry(path or tmp_path / "meta.db")
        opened.append(registry)
        return registry

    yield make
    for registry in opened:
        registry.close()


@pytest.fixture
def registry(open_registry):
    return open_registry()


def add(name: str, kind: str = "String"):
    return lambda group: group.with_features(feature_definitions([(name, kind)]))


def test_a_group_is_created_and_found(registry, readings):
    made = registry.create(readings, now=5, also=nothing)
    assert made.group == readings
    assert (made.version, made.created_us, made.modified_us) == (1, 5, 5)
    assert made.offline_folder == "readings"
    assert registry.get("readings") == made
    assert registry.list() == [made]


def test_groups_are_listed_by_name(registry, make_group):
    for name in ("b", "a", "C"):
        registry.create(make_group(name, [("id", "String"), ("t", "String")]), now=1, also=nothing)
    assert [entry.group.name for entry in registry.list()] == ["C", "a", "b"]


def test_an_unknown_group_is_named_with_the_nearest(registry, readings):
    with pytest.raises(FeatureGroupNotFound, match="feature group 'readings' does not exist"):
        registry.get("readings")
    registry.create(readings, now=1, also=nothing)
    for call in (
        lambda: registry.get("reading"),
        lambda: registry.update("reading", add("x"), now=1, also=nothing),
        lambda: registry.delete("reading", now=1),
        lambda: registry.versions("reading"),
    ):
        with pytest.raises(FeatureGroupNotFound, match="did you mean 'readings'"):
            call()


def test_a_name_is_taken_once(registry, readings):
    registry.create(readings, now=1, also=nothing)
    with pytest.raises(FeatureGroupExists, match="'readings' exists already") as caught:
        registry.create(readings, now=2, also=nothing)
    assert caught.value.group == "readings"


def test_a_change_is_the_next_version(registry, readings):
    first = registry.create(readings, now=1, also=nothing)
    second = registry.update("readings", add("wind"), now=2, also=nothing)
    third = registry.update(
        "readings", lambda group: group.with_ttl(Ttl(TtlUnit.DAYS, 1)), now=3, also=nothing
    )
    assert [entry.version for entry in (first, second, third)] == [1, 2, 3]
    assert third.number == first.number
    assert (third.created_us, third.modified_us) == (1, 3)
    assert third.group.feature_type("wind") is FeatureType.STRING
    assert registry.get("readings") == third
    assert registry.versions("readings") == {1: first.group, 2: second.group, 3: third.group}


def test_a_change_that_is_refused_changes_nothing(registry, readings):
    before = registry.create(readings, now=1, also=nothing)
    with pytest.raises(InvalidFeatureGroup):
        registry.update("readings", add("temp"), now=2, also=nothing)
    assert registry.get("readings") == before
    assert list(registry.versions("readings")) == [1]


class LineageFailed(Exception):
    pass


def fail(_: object) -> None:
    raise LineageFailed


def test_what_must_happen_with_a_change_decides_over_it(registry, readings):
    with pytest.raises(LineageFailed):
        registry.create(readings, now=1, also=fail)
    assert registry.list() == []
    before = registry.create(readings, now=1, also=nothing)
    with pytest.raises(LineageFailed):
        registry.update("readings", add("wind"), now=2, also=fail)
    assert registry.get("readings") == before


def test_a_deleted_name_is_free_again_with_another_number_and_folder(registry, readings):
    first = registry.create(readings, now=1, also=nothing)
    assert registry.delete("readings", now=2) == first
    with pytest.raises(FeatureGroupNotFound):
        registry.get("readings")
    second = registry.create(readings, now=3, also=nothing)
    assert second.number > first.number
    assert second.version == 1
    assert second.offline_folder != first.offline_folder
    registry.delete("readings", now=4)
    third = registry.create(readings, now=5, also=nothing)
    assert third.number > second.number
    assert len({entry.offline_folder for entry in (first, second, third)}) == 3


def test_no_two_groups_ever_share_a_folder(registry, make_group):
    features = [("id", "String"), ("t", "String")]
    folders = []
    for name in ("a", "a", "a-2", "a-3", "a", "a-2"):
        group = make_group(name, features)
        if name in {entry.group.name for entry in registry.list()}:
            registry.delete(name, now=1)
        folders.append(registry.create(group, now=1, also=nothing).offline_folder)
    assert len(set(folders)) == len(folders)


def test_it_is_all_there_when_opened_again(open_registry, readings):
    first = open_registry()
    first.create(readings, now=1, also=nothing)
    entry = first.update("readings", add("wind"), now=2, also=nothing)
    first.close()
    again = open_registry()
    assert again.get("readings") == entry
    assert list(again.versions("readings")) == [1, 2]


def test_another_connection_sees_a_change_at_once(open_registry, readings):
    one, two = open_registry(), open_registry()
    assert two.list() == []
    entry = one.create(readings, now=1, also=nothing)
    assert two.get("readings") == entry
    entry = two.update("readings", add("wind"), now=2, also=nothing)
    assert one.get("readings") == entry
    one.delete("readings", now=3)
    with pytest.raises(FeatureGroupNotFound):
        two.get("readings")


def test_threads_of_one_registry_take_turns(open_registry, readings):
    registry = open_registry()
    registry.create(readings, now=1, also=nothing)
    errors = []

    def change(worker: int) -> None:
        try:
            for step in range(5):
                registry.update("readings", add(f"f{worker}x{step}"), now=2, also=nothing)
                registry.get("readings")
        except Exception as error:  # noqa: BLE001  # shown below
            errors.append(error)

    threads = [threading.Thread(target=change, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert registry.get("readings").version == 21
    assert len(registry.get("readings").group.features) == 25


RACE = """
import sys
from pathlib import Path
from featurestore import FeatureGroup, FeatureGroupExists, feature_definitions
from featurestore.registry import Registry
print("ready", flush=True)
sys.stdin.readline()
registry = Registry(Path(sys.argv[2]))   # both also make the file
for name in map(str, range(20)):
    group = FeatureGroup(name, record_identifier="id", event_time="t",
                         features=feature_definitions([("id", "String"), ("t", "String")]))
    try:
        registry.create(group, now=1, also=lambda entry: None)
        print("won", name)
    except FeatureGroupExists:
        print("lost", name)
for step in range(10):
    features = feature_definitions([(f"f{sys.argv[1]}x{step}", "String")])
    registry.update("0", lambda group: group.with_features(features), now=2,
                    also=lambda entry: None)
"""


def test_of_two_processes_that_create_a_group_exactly_one_wins(run_both, tmp_path, open_registry):
    path = tmp_path / "race.db"
    answers = run_both(RACE, str(path))
    for name in map(str, range(20)):
        outcomes = sorted(
            line for answer in answers for line in answer if line.endswith(f" {name}")
        )
        assert outcomes == [f"lost {name}", f"won {name}"]
    entry = open_registry(path).get("0")
    assert entry.version == 21
    assert len(entry.group.features) == 22
    assert len({e.number for e in open_registry(path).list()}) == 20


OPEN = """
import sys
from pathlib import Path
from featurestore.registry import Registry
print("ready", flush=True)
sys.stdin.readline()
me, folder = int(sys.argv[1]), Path(sys.argv[2])
for number in range(100):
    (folder / f"{number}.{me}").touch()
    while not (folder / f"{number}.{1 - me}").exists():
        pass   # both begin each file in the same moment
    Registry(folder / f"{number}.db").close()
"""


def test_two_processes_may_make_one_file_at_once(run_both, tmp_path):
    assert run_both(OPEN, str(tmp_path)) == [[], []]


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"\0" * 8192, b"SQLite"])
def test_a_foreign_file_is_refused(tmp_path, content):
    path = tmp_path / "meta.db"
    path.write_bytes(content)
    with pytest.raises(StoreCorrupt, match=r"meta\.db is damaged or is no SQLite database"):
        Registry(path)
    assert path.read_bytes() == content


def open_and_read(path):
    with contextlib.closing(Registry(path)) as registry:
        return registry.get("readings")


def test_a_damaged_file_is_named(tmp_path, readings):
    path = tmp_path / "meta.db"
    registry = Registry(path)
    registry.create(readings, now=1, also=nothing)
    registry.close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(bytes(data))
    with pytest.raises(StoreCorrupt):
        open_and_read(path)


def test_a_path_that_cannot_be_opened_is_named(tmp_path):
    folder = tmp_path / "meta.db"
    folder.mkdir()
    with pytest.raises(StoreUnavailable, match=r"meta\.db"):
        Registry(folder)


def test_a_closed_registry_is_unavailable(open_registry):
    registry = open_registry()
    registry.close()
    with pytest.raises(StoreUnavailable):
        registry.get("readings")
