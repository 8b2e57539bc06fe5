"""Keys are wrapped, values are sealed, and nothing opens that was altered, moved or shredded."""

from __future__ import annotations

import base64
import os
import sqlite3
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.encryption import (
    FIRST_RESERVE,
    MASTER_KEY,
    MASTER_KEY_FILE,
    Cipher,
    KeyRing,
    MasterKey,
    data_keys,
    sealed_extra,
)
from featurestore.errors import InvalidRequest, StoreCorrupt, StoreUnavailable

KEY = bytes(range(32))
OTHER = bytes(range(1, 33))


def environment(key: bytes = KEY) -> dict[str, str]:
    return {MASTER_KEY: base64.b64encode(key).decode()}


@pytest.fixture
def open_ring(tmp_path):
    opened = []

    def make(key: bytes | None = KEY, **options) -> KeyRing:
        environ = options.pop("environ", {} if key is None else environment(key))
        ring = KeyRing.open(tmp_path, environ=environ, **options)
        opened.append(ring)
        return ring

    yield make
    for ring in opened:
        ring.close()


@pytest.fixture
def cipher(open_ring) -> Cipher:
    return open_ring().create(7)


# -- sealing ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lasting_cipher(tmp_path_factory):
    with KeyRing.open(tmp_path_factory.mktemp("ring"), environ=environment()) as ring:
        yield ring.create(7)


@given(st.binary(max_size=2000), st.binary(max_size=2048))
def test_what_was_sealed_opens_for_its_identifier_and_for_no_other(
    lasting_cipher, data, identifier
):
    sealed = lasting_cipher.seal(data, identifier)
    assert lasting_cipher.open(sealed, identifier) == data
    assert lasting_cipher.open(sealed) == data, "an outbox entry has no other identifier"
    with pytest.raises(StoreCorrupt, match="sealed for another identifier"):
        lasting_cipher.open(sealed, identifier + b"x")


@given(st.data())
def test_no_changed_bit_goes_unnoticed(lasting_cipher, data):
    sealed = bytearray(lasting_cipher.seal(b"record", b"id"))
    place = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[place // 8] ^= 1 << place % 8
    with pytest.raises(StoreCorrupt, match="in group 7 cannot be opened"):
        lasting_cipher.open(bytes(sealed))


@given(st.integers(0, 60))
def test_no_cut_off_value_opens(lasting_cipher, length):
    sealed = lasting_cipher.seal(b"record", b"id")
    with pytest.raises(StoreCorrupt, match="cannot be opened"):
        lasting_cipher.open(sealed[: min(length, len(sealed) - 1)])


def test_the_identifier_that_the_bytes_carry_cannot_be_exchanged(cipher):
    one, other = cipher.seal(b"one", b"a"), cipher.seal(b"other", b"b")
    swapped = one.replace(b"a", b"b", 1) if one.count(b"a") == 1 else one[:19] + b"b" + one[20:]
    for forged in (swapped, other[:17] + one[17:], one[:17] + other[17:]):
        with pytest.raises(StoreCorrupt):
            cipher.open(forged, b"b" if forged[19:20] == b"b" else b"a")


def test_a_value_of_another_group_does_not_open(open_ring):
    ring = open_ring()
    sealed = ring.create(1).seal(b"record", b"id")
    with pytest.raises(StoreCorrupt, match=r"of 'id' in group 2 .* its bytes were changed"):
        ring.create(2).open(sealed, b"id")


def test_equal_records_are_sealed_to_different_bytes(cipher):
    sealed = {cipher.seal(b"record", b"id") for _ in range(1000)}
    assert len(sealed) == 1000
    assert not any(b"record" in each for each in sealed)


def test_a_sealed_value_is_little_larger(cipher):
    assert len(cipher.seal(bytes(200), b"0123456789")) == 200 + 10 + 35


# -- the ring ---------------------------------------------------------------------------------


def test_a_home_without_encrypted_groups_needs_no_key_and_gets_no_file(open_ring, tmp_path):
    ring = open_ring(None)
    assert ring.cipher(1) is None
    ring.destroy(1)
    assert list(tmp_path.iterdir()) == []
    assert data_keys(tmp_path) == []
    with pytest.raises(InvalidRequest, match=r"needs a master key: make one with `featureline key"):
        ring.create(1)


def test_keys_are_there_when_opened_again(open_ring):
    ring = open_ring()
    sealed = ring.create(1).seal(b"record", b"id")
    assert ring.cipher(1) is ring.cipher(1)
    assert ring.cipher(2) is None
    ring.close()
    again = open_ring().cipher(1)
    assert again is not None
    assert again.open(sealed, b"id") == b"record"


def test_a_key_that_is_there_is_kept(open_ring):
    ring = open_ring()
    sealed = ring.create(1).seal(b"record", b"id")
    assert ring.create(1).open(sealed, b"id") == b"record"
    assert open_ring().create(1).open(sealed, b"id") == b"record"


def test_the_file_is_for_its_owner_and_holds_no_key_in_clear(open_ring, tmp_path):
    ring = open_ring()
    ring.create(1)
    (key,) = ring.unwrapped(1).values()
    path = tmp_path / "keys.db"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = path.read_bytes()
    assert key not in content
    assert KEY not in content


def test_the_wrong_master_key_is_refused_at_open_by_its_name(open_ring, tmp_path):
    open_ring().create(1)
    right, wrong = (MasterKey(key, "").fingerprint for key in (KEY, OTHER))
    with pytest.raises(StoreUnavailable) as refused:
        open_ring(OTHER)
    assert str(refused.value) == (
        f"{tmp_path / 'keys.db'}: the data keys are wrapped with master key {right}, and "
        f"FEATURELINE_MASTER_KEY holds master key {wrong}; give the right one"
    )
    with pytest.raises(
        StoreUnavailable, match=f"set FEATURELINE_MASTER_KEY_FILE to the file.*{right}"
    ):
        open_ring(None)


def test_a_wrapped_key_that_was_moved_to_another_group_does_not_unwrap(open_ring, tmp_path):
    ring = open_ring()
    ring.create(1)
    ring.create(2)
    ring.close()
    with sqlite3.connect(tmp_path / "keys.db") as db:
        db.execute(
            "UPDATE data_key SET wrapped = (SELECT wrapped FROM data_key WHERE group_number = 2)"
            " WHERE group_number = 1"
        )
    db.close()
    ring = open_ring()
    assert ring.cipher(2) is not None
    with pytest.raises(StoreCorrupt, match=r"the data key of group 1, version 1, does not open"):
        ring.cipher(1)


@pytest.mark.parametrize("content", [b"no database" * 1000, None], ids=["text", "foreign"])
def test_another_programs_file_is_refused(open_ring, tmp_path, content):
    path = tmp_path / "keys.db"
    if content is None:
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE theirs (a)")
        db.close()
    else:
        path.write_bytes(content)
    with pytest.raises(StoreCorrupt, match=r"keys.db .*(damaged|another program)"):
        open_ring()


def test_use_after_close_is_refused(open_ring):
    ring = open_ring()
    ring.create(1)
    ring.close()
    with pytest.raises(StoreUnavailable, match="the key ring is closed"):
        ring.cipher(1)


# -- shredding --------------------------------------------------------------------------------


def test_destroyed_keys_open_nothing_any_more(open_ring, tmp_path):
    ring = open_ring()
    shredded, kept = ring.create(1), ring.create(2)
    sealed, other = shredded.seal(b"record", b"id"), kept.seal(b"record", b"id")
    (wrapped,) = sqlite3_column(tmp_path, "SELECT wrapped FROM data_key WHERE group_number = 1")
    ring.destroy(1)

    assert wrapped not in (tmp_path / "keys.db").read_bytes(), "not even in a free page"
    assert ring.cipher(1) is None
    for use in (lambda: shredded.open(sealed, b"id"), lambda: shredded.seal(b"record", b"id")):
        with pytest.raises(StoreUnavailable, match="the keys of group 1 were destroyed"):
            use()
    assert open_ring().cipher(1) is None
    assert kept.open(other, b"id") == b"record"
    with pytest.raises(InvalidRequest, match="the keys of group 1 were destroyed"):
        ring.create(1)
    gone, there = data_keys(tmp_path)
    assert gone.destroyed_us is not None
    assert there.destroyed_us is None


def test_where_all_keys_were_destroyed_another_master_key_may_come(open_ring):
    ring = open_ring()
    ring.create(1)
    assert ring.numbers() == {1}
    ring.destroy(1)
    assert ring.numbers() == set()
    ring.close()
    open_ring(None).close()
    other = open_ring(OTHER)
    sealed = other.create(2).seal(b"record", b"id")
    assert open_ring(OTHER).cipher(2).open(sealed) == b"record"
    with pytest.raises(StoreUnavailable, match="give the right one"):
        open_ring()


def sqlite3_column(home: Path, query: str) -> list[bytes]:
    db = sqlite3.connect(home / "keys.db")
    try:
        return [row[0] for row in db.execute(query)]
    finally:
        db.close()


# -- rotation ---------------------------------------------------------------------------------


def test_rotation_wraps_again_and_leaves_the_values(open_ring):
    ring = open_ring()
    sealed = {number: ring.create(number).seal(b"record", b"id") for number in range(1, 6)}
    assert ring.rotate(MasterKey(OTHER, "new")) == 5
    for cipher_of in (ring, open_ring(OTHER)):
        for number, value in sealed.items():
            cipher = cipher_of.cipher(number)
            assert cipher is not None
            assert cipher.open(value, b"id") == b"record"
    with pytest.raises(StoreUnavailable, match="give the right one"):
        open_ring(KEY)


def test_a_ring_that_is_open_during_a_rotation_reads_the_master_key_again(tmp_path, open_ring):
    path = tmp_path / "master.key"
    MasterKey.generate(path)
    running = open_ring(environ={MASTER_KEY_FILE: str(path)})
    known = running.create(1)
    rotating = open_ring(environ={MASTER_KEY_FILE: str(path)})
    new = tmp_path / "new.key"
    rotating.rotate(MasterKey.generate(new))
    sealed = rotating.create(2).seal(b"record", b"id")

    assert known.open(known.seal(b"record", b"id")) == b"record", "what it has it goes on with"
    with pytest.raises(StoreUnavailable, match="give the right one"):
        running.cipher(2)
    new.replace(path)
    cipher = running.cipher(2)
    assert cipher is not None
    assert cipher.open(sealed, b"id") == b"record"
    running.create(3)


def test_a_rotation_that_cannot_be_is_refused(open_ring, tmp_path):
    with pytest.raises(InvalidRequest, match="no keys to wrap"):
        open_ring().rotate(MasterKey(OTHER, "new"))
    ring = open_ring()
    ring.create(1)
    with pytest.raises(InvalidRequest, match="new holds the present master key"):
        ring.rotate(MasterKey(KEY, "new"))


def test_a_rotation_half_way_leaves_all_as_it_was(open_ring, tmp_path):
    ring = open_ring()
    sealed = ring.create(1).seal(b"record", b"id")
    ring.create(2)
    db = sqlite3.connect(tmp_path / "keys.db")
    with db:
        db.execute("UPDATE data_key SET wrapped = ? WHERE group_number = 2", (bytes(60),))
    db.close()
    with pytest.raises(StoreCorrupt, match="group 2, version 1"):
        ring.rotate(MasterKey(OTHER, "new"))
    assert open_ring().create(1).open(sealed, b"id") == b"record"


# -- the bound of messages per key ------------------------------------------------------------


def test_a_key_that_is_used_up_gets_a_successor_and_opens_on(open_ring, tmp_path):
    ring = open_ring(messages_per_key=10)
    cipher = ring.create(1)
    sealed = [cipher.seal(b"%d" % n, b"id") for n in range(35)]
    assert [entry.version for entry in data_keys(tmp_path)] == [1, 2, 3, 4]
    assert all(entry.reserved <= 10 for entry in data_keys(tmp_path))
    versions = [int.from_bytes(each[1:5], "little") for each in sealed]
    assert max(versions.count(version) for version in versions) <= 10
    for reader in (cipher, open_ring().create(1)):
        assert [reader.open(each) for each in sealed] == [b"%d" % n for n in range(35)]


def test_many_sealed_at_once_are_each_their_own(open_ring, tmp_path):
    ring = open_ring(messages_per_key=10)
    cipher = ring.create(1)
    records = [b"record"] * 25
    identifiers = [b"%d" % n for n in range(25)]
    sealed = cipher.seal_all(records, identifiers)
    assert [cipher.open(each, b"%d" % n) for n, each in enumerate(sealed)] == records
    assert len({each[5:17] for each in sealed}) == 25, "a nonce is never used again"
    assert [entry.version for entry in data_keys(tmp_path)] == [1, 2, 3]
    assert {len(each) - len(records[0]) for each in sealed} == set(map(sealed_extra, identifiers))
    assert cipher.seal_all([], []) == []


def test_two_rings_share_the_bound_and_open_each_others_values(open_ring, tmp_path):
    rings = [open_ring(messages_per_key=10) for _ in range(2)]
    ciphers = [ring.create(1) for ring in rings]
    sealed = [ciphers[n % 2].seal(b"%d" % n, b"id") for n in range(40)]
    versions = [int.from_bytes(each[1:5], "little") for each in sealed]
    assert max(versions.count(version) for version in versions) <= 10
    for cipher in ciphers:
        assert [cipher.open(each, b"id") for each in sealed] == [b"%d" % n for n in range(40)]


def test_a_process_that_only_reads_reserves_nothing(open_ring, tmp_path):
    sealed = open_ring().create(1).seal(b"record", b"id")
    (before,) = data_keys(tmp_path)
    assert before.reserved == FIRST_RESERVE
    assert open_ring().create(1).open(sealed) == b"record"
    assert data_keys(tmp_path) == [before]


def test_many_threads_stay_within_what_was_reserved(open_ring, tmp_path):
    cipher = open_ring(messages_per_key=50).create(1)
    sealed: list[bytes] = []

    def work() -> None:
        sealed.extend([cipher.seal(b"record", b"id") for _ in range(200)])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    versions = [int.from_bytes(each[1:5], "little") for each in sealed]
    assert len(versions) == 1600
    assert max(versions.count(version) for version in set(versions)) <= 50
    assert {cipher.open(each, b"id") for each in sealed} == {b"record"}


MAKE = """
import sys
from featurestore.encryption import KeyRing
print("ready", flush=True)
sys.stdin.readline()
with KeyRing.open(sys.argv[2], messages_per_key=100) as ring:
    for number in (1, 2, 3):
        cipher = ring.create(number)
        for n in range(120):
            print(number, cipher.seal(b"%d" % n, b"id").hex())
"""


def test_processes_that_race_share_keys(run_both, tmp_path, open_ring, monkeypatch):
    monkeypatch.setenv(MASTER_KEY, environment()[MASTER_KEY])
    answers = run_both(MAKE, str(tmp_path))
    ring = open_ring()
    used: dict[tuple[int, bytes], int] = {}
    for answer in answers:
        for n, line in enumerate(answer):
            number, sealed = int(line.split()[0]), bytes.fromhex(line.split()[1])
            cipher = ring.cipher(number)
            assert cipher is not None
            assert cipher.open(sealed, b"id") == b"%d" % (n % 120)
            used[number, sealed[1:5]] = used.get((number, sealed[1:5]), 0) + 1
    assert max(used.values()) <= 100


# -- the master key ---------------------------------------------------------------------------


def test_a_new_key_file_is_for_its_owner_and_is_never_overwritten(tmp_path):
    path = tmp_path / "master.key"
    made = MasterKey.generate(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert MasterKey.from_file(path).key == made.key
    assert MasterKey.from_environment({MASTER_KEY_FILE: str(path)}).key == made.key
    with pytest.raises(InvalidRequest, match="a master key is never overwritten"):
        MasterKey.generate(path)
    assert MasterKey.from_file(path).key == made.key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_a_key_file_that_others_may_use_is_refused(tmp_path, mode):
    path = tmp_path / "master.key"
    MasterKey.generate(path)
    path.chmod(mode)
    with pytest.raises(StoreUnavailable, match=rf"mode {mode:04o}\); run `chmod 600"):
        MasterKey.from_file(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "got 0 bytes"),
        (base64.b64encode(bytes(16)), "got 16 bytes"),
        (b"not base64 at all!", "in base64"),
        (os.urandom(32), "32 bytes in base64"),
        ("schlüssel".encode(), "in base64"),
    ],
)
def test_a_key_file_of_another_form_is_refused(tmp_path, text, said):
    path = tmp_path / "master.key"
    path.write_bytes(text)
    path.chmod(0o600)
    with pytest.raises(InvalidRequest, match=said) as refused:
        MasterKey.from_file(path)
    assert str(path) in str(refused.value)


def test_a_missing_key_file_is_named(tmp_path):
    with pytest.raises(StoreUnavailable, match=r"absent.key: the master key cannot be read"):
        MasterKey.from_environment({MASTER_KEY_FILE: str(tmp_path / "absent.key")})


def test_two_master_keys_are_one_too_many(tmp_path):
    with pytest.raises(InvalidRequest, match="are both set; keep one"):
        MasterKey.from_environment({MASTER_KEY_FILE: "somewhere", **environment()})
    assert MasterKey.from_environment({}) is None


def test_a_master_key_does_not_show_itself(tmp_path):
    key = MasterKey(KEY, "here")
    assert base64.b64encode(KEY).decode() not in repr(key)
    assert KEY.hex() not in repr(key)
    assert len(key.fingerprint) == 16
    assert key.fingerprint != MasterKey(OTHER, "here").fingerprint


def test_without_the_extra_the_message_names_it(run_python, tmp_path):
    code = (
        "import sys\n"
        "sys.modules['cryptography.hazmat.primitives.ciphers.aead'] = None\n"
        "from featurestore.encryption import KeyRing\n"
        "from featurestore.errors import StoreUnavailable\n"
        "KeyRing.open(sys.argv[1], environ={}).close()\n"
        "try:\n"
        "    KeyRing.open(sys.argv[1], environ={'FEATURELINE_MASTER_KEY': sys.argv[2]})\n"
        "except StoreUnavailable as error:\n"
        "    print(error)\n"
    )
    process = run_python(["-c", code, str(tmp_path), environment()[MASTER_KEY]])
    assert "pip install 'featureline[encryption]'" in process.communicate(timeout=60)[0]
    assert process.returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_goes_on_with_its_keys_and_does_not_touch_the_file(
    run_python, tmp_path, monkeypatch
):
    code = (
        "import os, sys\n"
        "from featurestore.encryption import KeyRing\n"
        "from featurestore.errors import StoreUnavailable\n"
        "ring = KeyRing.open(sys.argv[1])\n"
        "cipher = ring.create(1)\n"
        "sealed = cipher.seal(b'record', b'id')\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    print(cipher.open(sealed).decode())\n"
        "    try:\n"
        "        ring.create(2)\n"
        "    except StoreUnavailable as error:\n"
        "        print(error)\n"
        "    sys.stdout.flush()\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "print(ring.create(2).open(ring.create(2).seal(b'parent', b'id')).decode())\n"
    )
    monkeypatch.setenv(MASTER_KEY, environment()[MASTER_KEY])
    process = run_python(["-c", code, str(tmp_path)])
    first, refusal, last = process.communicate(timeout=60)[0].splitlines()
    assert (first, last) == ("record", "parent")
    assert "was opened before this process was forked" in refusal
