"""Which online store a home has, and how it remembers."""

from __future__ import annotations

import json
import stat

import pytest

from featurestore.codec import NEVER
from featurestore.errors import InvalidRequest, StoreCorrupt, StoreUnavailable
from featurestore.online import Batch, LmdbStore, RedisStore, Write, open_online

WRITE = Write(1, b"a", 1, b"record", 0, NEVER, 1, 1)


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def open_home(home):
    opened = []

    def make(url: str | None = None):
        store = open_online(home, url)
        opened.append(store)
        return store

    yield make
    for store in opened:
        store.close()


def test_it_is_lmdb_by_default(open_home, home):
    assert isinstance(open_home(), LmdbStore)
    assert isinstance(open_home(), LmdbStore)
    assert (home / "online" / "data.mdb").exists()
    assert not (home / "online.json").exists()


def test_a_url_given_once_is_remembered(open_home, home, redis_url):
    url = redis_url()
    first = open_home(url)
    assert isinstance(first, RedisStore)
    first.put([Batch([WRITE])])
    for again in (open_home(), open_home(url)):
        assert again.store_id == first.store_id
        assert again.get(1, [b"a"])[0].record == b"record"
    remembered = home / "online.json"
    assert json.loads(remembered.read_text()) == {"url": url, "store_id": first.store_id}
    assert stat.S_IMODE(remembered.stat().st_mode) == 0o600
    assert sorted(path.name for path in home.iterdir()) == ["locks", "online.json"]


def test_options_and_login_may_change_the_place_may_not(open_home, home, redis_url):
    url = redis_url()
    first = open_home(url)
    assert open_home(f"{url}&timeout_s=3").store_id == first.store_id
    assert open_home().url.timeout_s == 3
    with pytest.raises(StoreUnavailable, match=r"has its online store at redis://.*leave the URL"):
        open_home(redis_url())
    assert open_home().store_id == first.store_id


def test_records_in_lmdb_are_not_left_behind(open_home, home, redis_url):
    open_home().put([Batch([WRITE])])
    with pytest.raises(StoreUnavailable, match=r"in LMDB, with records.*`featureline migrate --h"):
        open_home(redis_url())
    assert open_home().get(1, [b"a"])[0] is not None


def test_an_empty_lmdb_makes_way_and_says_so_to_who_has_it_open(open_home, home, redis_url):
    before = open_home()
    after = open_home(redis_url())
    assert isinstance(after, RedisStore)
    with pytest.raises(StoreUnavailable, match=r"has migrated to redis://.*restart this process"):
        before.put([Batch([WRITE])])
    with pytest.raises(StoreUnavailable, match="has migrated"):
        before.get(1, [b"a"])
    after.put([Batch([WRITE])])
    assert open_home().get(1, [b"a"])[0].record == b"record"


def test_the_store_of_another_home_is_refused(open_home, tmp_path, redis_url):
    url = redis_url()
    open_home(url).put([Batch([WRITE])])
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(StoreUnavailable, match=r"online store of another home.*\?namespace=NAME"):
        open_online(other, url)
    assert not (other / "online.json").exists()


def test_a_server_that_is_not_there_is_not_remembered(open_home, home, own_redis, redis_url):
    server = own_redis()
    server.kill()
    with pytest.raises(StoreUnavailable, match="does not answer"):
        open_home(server.url)
    # It comes up, and is taken; so would be another place in its stead.
    server.start()
    assert isinstance(open_home(server.url), RedisStore)


def test_a_wrong_url_is_named(open_home):
    with pytest.raises(InvalidRequest, match="expected a URL like redis://"):
        open_home("memcached://h:1")


@pytest.mark.parametrize("content", ["", "{}", '{"url": 1}', '{"url": "x://", "store_id": "a"}'])
def test_a_damaged_memory_is_named(open_home, home, content):
    (home / "online.json").write_text(content)
    with pytest.raises(StoreCorrupt, match=r"online.json is damaged.*restore it from a backup"):
        open_home()
