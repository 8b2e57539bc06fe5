from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.codec import (
    DELETED,
    HARD,
    MAX_KEY,
    NEVER,
    OutboxEntry,
    StoredValue,
    decode_outbox,
    decode_value,
    encode_outbox,
    encode_value,
    group_prefix,
    outbox_key,
    record_key,
)
from featurestore.errors import StoreCorrupt

LONGEST_IN_KEY = MAX_KEY - 4
int64 = st.integers(-(2**63), 2**63 - 1)
groups = st.integers(0, 2**32 - 1)
sequences = st.integers(0, 2**64 - 1)
texts = st.text(min_size=1, max_size=20).map(str.encode) | st.builds(
    lambda text, length: (text.encode() * length)[:length].decode(errors="ignore").encode(),
    st.text(min_size=1, max_size=4),
    st.sampled_from([LONGEST_IN_KEY - 1, LONGEST_IN_KEY, LONGEST_IN_KEY + 1, 600, 2048]),
)
flags = st.sampled_from([0, DELETED, DELETED | HARD])
values = st.builds(
    StoredValue,
    identifier=texts,
    flags=flags,
    schema_version=st.integers(0, 2**16 - 1),
    event_time_us=int64,
    expires_us=int64,
    sequence=sequences,
    record=st.binary(max_size=40),
)
entries = st.builds(
    OutboxEntry,
    sequence=sequences,
    flags=flags,
    schema_version=st.integers(0, 2**16 - 1),
    event_time_us=int64,
    expires_us=int64,
    invocation_us=int64,
    record=st.binary(max_size=40),
)


@given(groups, values)
def test_a_value_round_trips_with_its_identifier(group, value):
    key = record_key(group, value.identifier)
    assert decode_value(key, encode_value(value)) == value


@given(groups, entries)
def test_an_outbox_entry_round_trips(group, entry):
    key = outbox_key(group, entry.sequence)
    assert decode_outbox(key, encode_outbox(entry)) == entry


@given(groups, texts)
def test_a_key_fits_and_begins_with_its_group(group, identifier):
    key = record_key(group, identifier)
    assert len(key) <= MAX_KEY
    assert key.startswith(group_prefix(group))


@given(groups, texts, texts)
def test_keys_of_a_group_sort_as_identifiers_with_the_long_ones_last(group, a, b):
    def rank(identifier: bytes) -> tuple[bool, bytes]:
        return len(identifier) > LONGEST_IN_KEY, identifier

    key_a, key_b = record_key(group, a), record_key(group, b)
    assert (key_a == key_b) == (a == b)
    if rank(a)[0] and rank(b)[0]:
        return  # hashes have an order of their own
    assert (key_a < key_b) == (rank(a) < rank(b))


@given(groups, groups, texts, texts)
def test_keys_of_two_groups_do_not_mix(group_a, group_b, a, b):
    if group_a < group_b:
        assert record_key(group_a, a) < record_key(group_b, b)


@given(groups, groups, sequences, sequences)
def test_outbox_keys_sort_by_group_and_sequence(group_a, group_b, a, b):
    assert (outbox_key(group_a, a) < outbox_key(group_b, b)) == ((group_a, a) < (group_b, b))


def test_the_longest_identifier_that_is_its_own_key():
    inside, hashed = b"x" * LONGEST_IN_KEY, b"x" * (LONGEST_IN_KEY + 1)
    assert record_key(1, inside) == group_prefix(1) + inside
    assert record_key(1, hashed)[4:5] == b"\xff"
    assert len(record_key(1, hashed)) == 4 + 1 + 32


def test_a_value_is_readable_until_it_expires_or_is_deleted():
    value = StoredValue(b"a", 0, 1, 100, 200, 1, b"record")
    assert value.is_readable(0)
    assert value.is_readable(199)
    assert not value.is_readable(200)
    assert StoredValue(b"a", 0, 1, 100, NEVER, 1, b"record").is_readable(2**62)
    for deleted in (DELETED, DELETED | HARD):
        tombstone = StoredValue(b"a", deleted, 1, 100, NEVER, 1, b"")
        assert tombstone.is_deleted
        assert not tombstone.is_readable(0)


@pytest.mark.parametrize("form", [0, 2, 255])
def test_bytes_of_another_form_are_damage(form):
    value = bytes([form]) + encode_value(StoredValue(b"a", 0, 1, 1, 1, 1, b"record"))[1:]
    with pytest.raises(StoreCorrupt, match=f"expected form 1, got {form}"):
        decode_value(record_key(1, b"a"), value)
    entry = bytes([form]) + encode_outbox(OutboxEntry(1, 0, 1, 1, 1, 1, b"record"))[1:]
    with pytest.raises(StoreCorrupt, match=f"expected form 1, got {form}"):
        decode_outbox(outbox_key(1, 1), entry)
