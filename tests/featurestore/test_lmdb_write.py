"""Many writes of one LMDB transaction end as they do one after the other."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.codec import DELETED, HARD, NEVER
from featurestore.online import Batch, LmdbStore, MemoryStore, OnlineStore, PutColumns, Write

IDENTIFIERS = [b"a", b"b", b"c", b"x" * 507, b"x" * 508]

writes = st.lists(
    st.builds(
        Write,
        group=st.integers(1, 3),
        identifier=st.sampled_from(IDENTIFIERS),
        event_time_us=st.integers(0, 5),
        record=st.integers(0, 99).map(lambda n: f"record {n}".encode()),
        flags=st.sampled_from([0, 0, 0, DELETED, DELETED | HARD]),
        expires_us=st.sampled_from([NEVER, 7]),
        schema_version=st.integers(1, 3),
        invocation_us=st.integers(0, 9),
        online=st.booleans(),
        offline=st.booleans(),
        expected=st.none() | st.none() | st.integers(1, 20),
    ),
    max_size=30,
)


@st.composite
def columns(draw) -> PutColumns:
    identifiers = draw(
        st.lists(st.sampled_from(IDENTIFIERS[:4]), unique=True, max_size=4)
        | st.lists(st.sampled_from(IDENTIFIERS), max_size=6)
    )
    many = len(identifiers)

    def numbers(strategy):
        return np.array(draw(st.lists(strategy, min_size=many, max_size=many)), np.int64)

    return PutColumns(
        draw(st.integers(1, 3)),
        identifiers,
        numbers(st.integers(0, 5)),
        [f"record {draw(st.integers(0, 99))}".encode() for _ in identifiers],
        numbers(st.sampled_from([NEVER, 7])),
        draw(st.sampled_from([1, 2, 65_535])),
        draw(st.integers(0, 9)),
        draw(st.booleans()),
        draw(st.booleans()),
    )


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def state(store: OnlineStore) -> list[object]:
    return [
        [
            [value for _, value in store.scan(group, after=None, limit=1000)],
            list(store.outbox.read(group, after=0, limit=1000)),
        ]
        for group in (1, 2, 3)
    ]


@given(st.lists(st.lists(writes | columns(), min_size=1, max_size=3), min_size=1, max_size=3))
def test_writes_end_as_in_memory(folder, transactions):
    lmdb, memory = LmdbStore(folder / "many", map_bytes=64 << 20), MemoryStore()
    try:
        for group in (1, 2, 3):
            lmdb.drop(group)
        # The sequence goes on over a drop: let both begin at the same number.
        lmdb.put([Batch([write_of(b"first")])])
        first = lmdb.get(1, [b"first"])[0].sequence
        lmdb.drop(1)
        for batches in transactions:
            sent = [
                batch
                if isinstance(batch, PutColumns)
                else [
                    write
                    if write.expected is None
                    else write._replace(expected=write.expected + first)
                    for write in batch
                ]
                for batch in batches
            ]
            assert lmdb.put([Batch(batch) for batch in sent]) == memory.put(
                [Batch(batch) for batch in batches]
            )
            assert shifted(state(lmdb), first) == state(memory)
    finally:
        lmdb.close()
        memory.close()


def write_of(identifier: bytes) -> Write:
    return Write(1, identifier, 1, b"record", 0, NEVER, 1, 1)


def shifted(found: list[object], by: int) -> list[object]:
    """The state with sequences counted from `by`."""
    return [
        [[entry._replace(sequence=entry.sequence - by) for entry in part] for part in group]
        for group in found
    ]


@given(columns())
def test_columns_are_a_sequence_of_writes(puts):
    made = list(puts)
    assert [puts[place] for place in range(len(puts))] == made
    assert list(puts[1:]) == made[1:]
    assert list(PutColumns.join([puts, puts[1:]])) == made + made[1:]
    assert all(type(write.event_time_us) is int for write in made)
    assert [write.expected for write in made] == [None] * len(made)
