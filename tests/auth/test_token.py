"""Tokens and policies at rest: what is kept, and what is refused."""

from __future__ import annotations

import sqlite3
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore import InvalidRequest, StoreCorrupt
from featurestore.auth import AccessDatabase, Token
from featurestore.auth.token import new_credential, proves, read_credential

HOUR_US = 3_600_000_000


@pytest.fixture(autouse=True)
def readers(put, allow):
    put("readers", allow("sagemaker:GetRecord"))


def test_only_a_digest_of_the_secret_is_kept_and_nobody_else_may_read_it(database, home):
    made = database.create_token("ada", ["readers"])
    [token] = database.tokens()
    assert (token.id, token.principal, token.policies) == (made.id, "ada", ("readers",))
    for file in home.iterdir():
        assert made.secret.encode() not in file.read_bytes()
        if not file.name.endswith(".lock"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert made.secret not in repr(token)
    assert repr(token.digest) not in repr(token)


def test_secrets_are_never_the_same_and_long_enough():
    made = [new_credential() for _ in range(200)]
    assert len({entry.id for entry in made}) == len({entry.secret for entry in made}) == 200
    assert all(len(entry.secret) == 43 and entry.secret.isalnum() for entry in made)


@given(st.text() | st.binary().map(repr), st.sampled_from(["", "flk_", "flk_0123456789ab_"]))
def test_no_other_text_is_a_token(text, start):
    assert read_credential(start + text[:42]) is None


@given(st.data())
def test_one_changed_letter_of_the_secret_proves_nothing(data):
    made = new_credential()
    place = data.draw(st.integers(0, len(made.secret) - 1))
    drawn = data.draw(st.sampled_from("abcXYZ019"))
    letter = drawn if drawn != made.secret[place] else "Q"  # no letter depends on the secret drawn
    tampered = made._replace(secret=made.secret[:place] + letter + made.secret[place + 1 :])
    token = _token(made)
    assert proves(made, token)
    assert not proves(tampered, token)
    assert not proves(made, None)


def test_an_expiry_is_the_first_moment_at_which_it_is_over(database):
    made = database.create_token("ada", ["readers"], expires_us=5 * HOUR_US, now=HOUR_US)
    token = database.token(made.id)
    assert token.state(5 * HOUR_US - 1) == "active"
    assert token.state(5 * HOUR_US) == "expired"


def test_a_revoked_token_keeps_its_first_time(database):
    made = database.create_token("ada", ["readers"])
    assert database.revoke_token(made.id, now=7).revoked_us == 7
    assert database.revoke_token(made.id, now=9).revoked_us == 7
    assert database.token(made.id).state(0) == "revoked"


def test_the_last_use_is_kept_by_the_hour_and_never_goes_back(database):
    made = database.create_token("ada", ["readers"])
    database.mark_used(made.id, 5 * HOUR_US + 123)
    assert database.token(made.id).last_used_us == 5 * HOUR_US
    database.mark_used(made.id, 4 * HOUR_US)
    assert database.token(made.id).last_used_us == 5 * HOUR_US


@pytest.mark.parametrize("principal", ["", "  ", "a\nb", "x" * 129])
def test_a_principal_is_a_name(database, principal):
    with pytest.raises(InvalidRequest, match="principal: expected 1 to 128 printable"):
        database.create_token(principal, ["readers"])


def test_an_unknown_policy_is_refused_with_the_nearest_name(database):
    with pytest.raises(InvalidRequest, match="did you mean 'readers'"):
        database.create_token("ada", ["reader"])
    with pytest.raises(InvalidRequest, match="at least one"):
        database.create_token("ada", [])
    assert database.tokens() == []


def test_a_policy_stays_while_a_token_that_can_be_used_has_it(database):
    made = database.create_token("ada", ["readers"])
    with pytest.raises(InvalidRequest, match=made.id):
        database.delete_policy("readers")
    database.revoke_token(made.id)
    database.delete_policy("readers")
    assert database.policies() == {}
    with pytest.raises(InvalidRequest, match="does not exist"):
        database.delete_policy("readers")


def test_a_refused_document_leaves_the_old_one(database):
    before = database.policy("readers")
    with pytest.raises(InvalidRequest):
        database.put_policy("readers", "{}")
    assert database.policy("readers") == before


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "access.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreCorrupt, match="is no SQLite database"):
        AccessDatabase(tmp_path)


def test_the_file_is_an_ordinary_database(database, home):
    database.create_token("ada", ["readers"])
    with sqlite3.connect(home / "access.db") as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


def _token(made):
    return Token(made.id, "ada", (), {}, 0, None, None, None, made.digest)
