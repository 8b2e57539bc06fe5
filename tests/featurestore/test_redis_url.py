"""URLs of a Redis store."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from featurestore.errors import InvalidRequest
from featurestore.online import RedisUrl


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("redis://cache:6380/2", "redis://cache:6380/2?namespace=default"),
        ("redis://cache", "redis://cache:6379/0?namespace=default"),
        ("redis://[::1]:7000/0", "redis://[::1]:7000/0?namespace=default"),
        ("redis://[::1]", "redis://[::1]:6379/0?namespace=default"),
        ("rediss://u:p%40@cache:1/?namespace=a.b", "rediss://cache:1/0?namespace=a.b"),
        ("redis+cluster://a:1,b:2", "redis+cluster://a:1,b:2/0?namespace=default"),
        ("rediss+cluster://a:1", "rediss+cluster://a:1/0?namespace=default"),
    ],
)
def test_forms(text, location):
    url = RedisUrl.parse(text)
    assert url.location == location
    assert url.text == text
    again = RedisUrl.parse(url.location)
    assert (again.hosts, again.cluster, again.tls) == (url.hosts, url.cluster, url.tls)


def test_login_and_options():
    url = RedisUrl.parse(
        "redis://me:s%3Acret@h:1/0?durability=everysec&replicas=2&replica_timeout_ms=50"
        "&timeout_s=1.5&ca_certs=/ca.pem"
    )
    assert (url.username, url.password) == ("me", "s:cret")
    assert (url.durability, url.replicas, url.replica_timeout_ms) == ("everysec", 2, 50)
    assert (url.timeout_s, url.ca_certs) == (1.5, "/ca.pem")
    assert "cret" not in repr(url)
    assert "cret" not in url.location


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http://h:1", r"expected a URL like redis://.*got the scheme 'http'"),
        ("h:6379", "expected a URL like redis://"),
        ("redis://[::1:6379", "expected a URL like redis://"),
        ("redis://", r"expected host:port, got ''"),
        ("redis://h:port", r"expected host:port, got 'h:port'"),
        ("redis://h:70000", r"expected host:port, got 'h:70000'"),
        ("redis://a:1,b:2", r"expected one host in a redis:// URL"),
        ("redis://h:1/x", r"expected a database number, got 'x'"),
        ("redis+cluster://h:1/2", r"expected a database number of 0 in a cluster, got '2'"),
        ("redis://h:1?durable=yes", r"expected the options ca_certs.*got 'durable'"),
        ("redis://h:1?durability=sure", r"durability: expected always or everysec or none, got"),
        ("redis://h:1?replicas=-1", r"replicas: expected a whole number, got '-1'"),
        ("redis://h:1?namespace=a/b", r"namespace: expected 1 to 64 letters"),
        ("redis://h:1?timeout_s=0", r"timeout_s: expected seconds from 0 to 3600, got '0'"),
    ],
)
def test_refusals_say_what_was_expected(text, message):
    with pytest.raises(InvalidRequest, match=message):
        RedisUrl.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "redis://me:secret@h:port",
        "redis://:secret/more@h:1",
        "redis://:1/secret@h:1",
        "redis://:secret?more@h:1",
        "redis://:secret#more@h:1",
        "redis://h:1?secret=1@h",
        "secret://me:secret@h:1",
        "//me:secret@h",
        "me:secret@h:1",
    ],
)
def test_a_refusal_hides_the_password(text):
    with pytest.raises(InvalidRequest, match="online store: expected") as refusal:
        RedisUrl.parse(text)
    assert "secret" not in str(refusal.value).replace("the scheme 'secret'", "")


@pytest.mark.parametrize("password", ["a/b", "a?b", "a#b", "a@b", "a:b", "ä %"])
def test_a_password_that_is_quoted_may_hold_anything(password):
    url = RedisUrl.parse(f"redis://her-name:{quote(password, safe='')}@h:1")
    assert (url.username, url.password, url.hosts) == ("her-name", password, (("h", 1),))
    assert "her-name" not in repr(url)
