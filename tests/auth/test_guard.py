"""The guard: tokens, decisions that are remembered, and changes by other processes."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from featurestore import (
    AccessDenied,
    FeatureGroup,
    FeatureStoreError,
    StoreCorrupt,
    Unauthenticated,
    feature_definitions,
)
from featurestore.auth import Guard, group_arn
from featurestore.auth.grants import WRITES

ROOT = Path(__file__).parents[2]
GET, PUT = "sagemaker:GetRecord", "sagemaker:PutRecord"
WEATHER = group_arn("weather")
PEOPLE = FeatureGroup(
    "people",
    record_identifier="id",
    event_time="at",
    features=feature_definitions(
        [("id", "String"), ("at", "String"), ("ssn", "String"), ("age", "Integral")]
    ),
)
HOUR_US = 3_600_000_000


@pytest.fixture
def caller_with(database, guard, put):
    """Make a token with statements, and the caller who holds it."""

    def made(*statements, address="10.0.0.7", secure=False, **options):
        put("own", *statements)
        token = database.create_token("ada", ["own"], **options).text
        guard._next_look = 0.0  # this process makes the change, and does not wait for the look
        return guard.authenticate(token, address, secure=secure)

    return made


def may(guard, caller, action=GET, resource=WEATHER, **conditions):
    try:
        guard.authorize(caller, action, resource, conditions=lambda: conditions)
    except AccessDenied:
        return False
    return True


def audited(home):
    return [json.loads(line) for line in (home / "audit.log").read_text().splitlines()]


def eventually(claim, timeout_s=1.0):
    ends = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < ends, "not within a second"
        time.sleep(0.01)


def test_a_home_without_tokens_and_policies_is_open_and_nothing_is_made_there(guard, home):
    assert not guard.is_active
    assert list(home.iterdir()) == []


def test_it_closes_with_the_first_policy(database, guard, put, allow):
    put("readers", allow(GET))
    eventually(lambda: guard.is_active)
    with pytest.raises(Unauthenticated, match="authorization: Bearer"):
        guard.authenticate(None, "10.0.0.7")


def test_a_token_says_who_calls(caller_with, allow):
    caller = caller_with(allow(GET), tags={"team": "ops"})
    assert (caller.principal, caller.address) == ("ada", "10.0.0.7")
    assert [statement.policy for statement in caller.statements] == ["own"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda text: "", "of the form"),
        (lambda text: text + "x", "of the form"),
        (lambda text: text.upper(), "of the form"),
        (lambda text: text[:-1] + ("b" if text[-1] == "a" else "a"), "not valid"),
        (lambda text: "flk_" + "0" * 12 + text[16:], "not valid"),
    ],
)
def test_a_token_that_was_tampered_with_is_refused_and_audited(
    database, guard, put, allow, home, spoil, said
):
    put("readers", allow(GET))
    text = database.create_token("ada", ["readers"]).text
    guard._next_look = 0.0
    with pytest.raises(Unauthenticated, match=said) as refused:
        guard.authenticate(spoil(text), "10.0.0.9")
    assert text not in str(refused.value)
    line = audited(home)[-1]
    assert (line["address"], line["outcome"]) == ("10.0.0.9", "UNAUTHENTICATED")
    assert text[17:] not in json.dumps(line)


def test_an_expired_token_is_refused_also_where_it_was_remembered(guard, caller_with, allow):
    ends = time.time_ns() // 1000 + 150_000
    caller = caller_with(allow(GET), expires_us=ends)
    assert may(guard, caller)
    time.sleep(0.2)
    with pytest.raises(Unauthenticated, match="expired"):
        guard.authorize(caller, GET, WEATHER)
    assert not guard._state.callers or all(
        until <= time.time() for _, until in guard._state.callers.values()
    )


def test_a_revoked_token_ends_calls_that_are_under_way(database, guard, put, allow):
    put("readers", allow(GET))
    made = database.create_token("ada", ["readers"])
    guard._next_look = 0.0
    caller = guard.authenticate(made.text, "")
    database.revoke_token(made.id)

    def is_refused():
        try:
            guard.authorize(caller, GET, WEATHER)
        except Unauthenticated:
            return True
        return False

    eventually(is_refused)
    with pytest.raises(Unauthenticated, match="not valid"):
        guard.authenticate(made.text, "")


def test_a_change_by_another_process_acts_within_a_second(database, guard, put, allow, home):
    put("readers", allow(GET))
    token = database.create_token("ada", ["readers"]).text
    guard._next_look = 0.0
    caller = guard.authenticate(token, "")
    assert may(guard, caller)
    file = home / "deny.json"
    file.write_text(json.dumps({"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}))
    command = [sys.executable, "-m", "featureline", "policy", "put", "readers", str(file)]
    done = subprocess.run(
        [*command, "--home", str(home)], cwd=ROOT, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    eventually(lambda: not may(guard, caller))


def test_a_denial_names_principal_action_resource_and_statement(guard, caller_with, allow, deny):
    caller = caller_with(allow("sagemaker:*"), deny(PUT, "weather") | {"Sid": "NoWrites"})
    with pytest.raises(AccessDenied) as refused:
        guard.authorize(caller, PUT, WEATHER)
    assert refused.value.facts == {
        "principal": "ada",
        "action": PUT,
        "resource": WEATHER,
        "statement": "NoWrites of policy own",
    }
    assert "featureline policy explain" in str(refused.value)
    with pytest.raises(AccessDenied, match="no statement allows it"):
        guard.authorize(caller, "other:Thing", WEATHER)


@pytest.mark.parametrize(
    ("condition", "holds", "fails"),
    [
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, "10.1.2.3", "192.168.1.1"),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, "::ffff:10.1.2.3", ""),
        ({"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, "", "10.1.2.3"),
    ],
)
def test_a_decision_on_an_address_is_made_for_each(
    guard, caller_with, allow, condition, holds, fails
):
    caller = caller_with(allow(GET, Condition=condition))
    for _ in range(2):
        assert may(guard, replace(caller, address=holds))
        assert not may(guard, replace(caller, address=fails))


def test_a_decision_on_the_time_ends_with_it(guard, caller_with, allow, deny):
    ends = time.time_ns() // 1000 + 300_000
    moment = f"{ends / 1_000_000:.6f}"
    caller = caller_with(allow(GET, Condition={"DateLessThan": {"aws:CurrentTime": moment}}))
    assert may(guard, caller)
    time.sleep(0.35)
    assert not may(guard, caller)


def test_tags_of_the_group_and_of_the_principal(guard, caller_with, allow):
    own = {"StringEquals": {"aws:ResourceTag/team": "ops", "aws:PrincipalTag/role": "loader"}}
    caller = caller_with(allow(GET, Condition=own), tags={"Role": "loader"})
    assert may(guard, caller, **{"aws:resourcetag/team": "ops"})
    assert not may(guard, caller, **{"aws:resourcetag/team": "sales"})
    assert not may(guard, caller)


def test_a_secure_transport_can_be_asked_for(guard, caller_with, allow):
    tls = {"Bool": {"aws:SecureTransport": "true"}}
    caller = caller_with(allow(GET, Condition=tls), secure=True)
    assert may(guard, caller)
    assert not may(guard, replace(caller, secure=False))


def test_what_is_remembered_is_what_would_be_decided(guard, caller_with, allow, deny):
    caller = caller_with(
        allow("sagemaker:*", "a*"),
        deny(PUT, "ab", Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}),
        deny("sagemaker:Delete*", "*", Condition={"StringEquals": {"aws:username": "ada"}}),
    )
    expected = {("a", GET): True, ("a", PUT): True, ("ab", PUT): False, ("b", GET): False}
    expected[("a", "sagemaker:DeleteRecord")] = False
    for _ in range(3):
        for (group, action), allowed in expected.items():
            assert may(guard, caller, action, group_arn(group)) == allowed
    assert may(guard, replace(caller, address=""), PUT, group_arn("ab"))


def test_a_denied_feature_is_hidden_from_every_kind_of_read(guard, caller_with, allow, deny):
    caller = caller_with(
        allow("sagemaker:*"), deny("sagemaker:BatchGetRecord", "people/feature/s?n")
    )
    assert guard.hidden_features(caller, PEOPLE) == {"ssn"}
    assert guard.denied_features(caller, PEOPLE, WRITES) == {}


def test_a_deny_on_the_group_says_nothing_of_its_features(guard, caller_with, allow, deny):
    caller = caller_with(allow("sagemaker:*"), deny("sagemaker:BatchGetRecord", "people*"))
    assert guard.hidden_features(caller, PEOPLE) == frozenset()
    assert may(guard, caller, GET, group_arn("people"))
    assert not may(guard, caller, "sagemaker:BatchGetRecord", group_arn("people"))


def test_all_but_some_features_can_be_hidden(guard, caller_with, allow, deny):
    others = {"ForAnyValue:StringNotEquals": {"featureline:FeatureNames": ["id", "at", "age"]}}
    caller = caller_with(allow("sagemaker:*"), deny("*", "people/feature/*", Condition=others))
    assert guard.hidden_features(caller, PEOPLE) == {"ssn"}
    more = PEOPLE.with_features(feature_definitions([("income", "Fractional")]))
    assert guard.hidden_features(caller, more) == {"ssn", "income"}


def test_a_feature_can_be_hidden_by_address(guard, caller_with, allow, deny):
    outside = {"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}
    caller = caller_with(allow("sagemaker:*"), deny("*", "*/feature/ssn", Condition=outside))
    for _ in range(2):
        assert guard.hidden_features(caller, PEOPLE) == frozenset()
        assert guard.hidden_features(replace(caller, address="1.1.1.1"), PEOPLE) == {"ssn"}


def test_what_cannot_be_read_is_closed_until_it_can(database, guard, put, allow, home, caplog):
    put("readers", allow(GET))
    token = database.create_token("ada", ["readers"]).text
    guard._next_look = 0.0
    guard.authenticate(token, "")
    restored = home / "access.old"
    with sqlite3.connect(home / "access.db") as db, sqlite3.connect(restored) as copy:
        db.backup(copy)
    db.close()
    copy.close()
    database.close()
    with caplog.at_level(logging.CRITICAL):
        broken = home / "access.new"
        broken.write_bytes(b"this is no database" * 100)
        for journal in ("-wal", "-shm"):
            (home / f"access.db{journal}").unlink(missing_ok=True)
        broken.replace(home / "access.db")
        guard._next_look = 0.0
        assert guard.is_active
        with pytest.raises(StoreCorrupt):
            guard.authenticate(token, "")
        with pytest.raises(StoreCorrupt):
            guard.authenticate(None, "")
    restored.replace(home / "access.db")
    guard._next_look = 0.0
    assert guard.authenticate(token, "").principal == "ada"


def test_a_file_that_lost_its_rows_opens_nothing(database, guard, put, allow):
    put("readers", allow(GET))
    guard._next_look = 0.0
    assert guard.is_active
    database.delete_policy("readers")
    guard._next_look = 0.0
    assert guard.is_active


def test_a_file_that_is_taken_away_opens_nothing(database, guard, put, allow, home):
    put("readers", allow(GET))
    guard._next_look = 0.0
    assert guard.is_active
    for file in home.glob("access.db*"):
        file.unlink()
    guard._next_look = 0.0
    assert guard.is_active


def test_the_last_use_of_a_token_is_noted(database, guard, caller_with, allow):
    caller = caller_with(allow(GET))
    last = database.token(caller.token_id).last_used_us
    now = time.time_ns() // 1000
    assert last is not None
    assert now - 2 * HOUR_US < last <= now
    assert last % HOUR_US == 0


def test_many_threads_share_one_guard_while_policies_change(database, guard, put, allow, deny):
    put("own", allow(GET))
    token = database.create_token("ada", ["own"]).text
    guard._next_look = 0.0
    caller = guard.authenticate(token, "")
    failed = []
    stop = threading.Event()

    def ask():
        try:
            while not stop.is_set():
                assert may(guard, guard.authenticate(token, ""))
                assert not may(guard, caller, PUT)
        except (AssertionError, FeatureStoreError) as error:
            failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(20):
        put("own", allow(GET), deny("s3:*", f"g{number}"))
        guard._next_look = 0.0
        time.sleep(0.02)
    stop.set()
    for thread in threads:
        thread.join()
    assert failed == []


def test_memory_does_not_grow_with_what_requests_name(guard, caller_with, allow):
    caller = caller_with(allow(GET, "a*"))
    for number in range(25_000):
        may(guard, caller, GET, group_arn(f"b{number}"))
    assert len(guard.grants(caller)._decided) <= 10_000


def test_a_line_that_cannot_be_written_goes_to_the_process_log(guard, home, caplog, monkeypatch):
    def full(file, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with caplog.at_level(logging.ERROR):
        guard.audit(None, "sagemaker:Search", "*", "OK", address="10.0.0.7")
    assert "sagemaker:Search" in caplog.text
    assert "10.0.0.7" in caplog.text


def test_a_closed_guard_does_not_look_again(home, put, allow):
    put("readers", allow(GET))
    guard = Guard.open(home)
    guard.close()
    assert guard.is_active
    guard.close()
