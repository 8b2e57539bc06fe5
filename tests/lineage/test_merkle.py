"""The Merkle tree: the shape of RFC 9162, and proofs that hold and fail where they must."""

from __future__ import annotations

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from lineage.proofs.merkle import (
    Frontier,
    Subtrees,
    consistency_ranges,
    inclusion_ranges,
    is_consistent,
    leaf_hash,
    root_from_inclusion,
)

LEAVES = [hashlib.sha256(bytes([n])).digest() for n in range(200)]


def root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 9162, section 2.1.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + root(leaves[:split]) + root(leaves[split:])).digest()


def test_the_frontier_has_the_root_of_every_size() -> None:
    tree = Frontier()
    assert tree.root == root([])
    for size, data in enumerate(LEAVES, start=1):
        tree.append(data)
        assert tree.root == root(LEAVES[:size])
        tree = Frontier(size, tree.packed)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_proofs_hold_and_altered_ones_do_not(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, len(LEAVES)), "size")
    place = data.draw(st.integers(0, size - 1), "place")
    saved = data.draw(st.lists(st.integers(1, size), max_size=3), "saved")
    frontiers = []
    for known in saved:
        tree = Frontier()
        tree.extend(LEAVES[:known])
        frontiers.append((known, tree.packed))
    subtrees = Subtrees(lambda start, end: LEAVES[start:end], frontiers)
    whole = root(LEAVES[:size])
    path = [subtrees.hash(*one) for one in inclusion_ranges(place, size)]
    assert root_from_inclusion(place, size, leaf_hash(LEAVES[place]), path) == whole
    assert root_from_inclusion(place, size, leaf_hash(b"another"), path) != whole
    assert root_from_inclusion(place, size, leaf_hash(LEAVES[place]), [*path, whole]) is None
    growth = [subtrees.hash(*one) for one in consistency_ranges(place, size)]
    assert is_consistent(place, root(LEAVES[:place]), size, whole, growth)
    if place:
        assert not is_consistent(place, root([*LEAVES[: place - 1], b""]), size, whole, growth)
        assert not is_consistent(place, root(LEAVES[:place]), size, bytes(32), growth)
        assert not is_consistent(place, root(LEAVES[:place]), size, whole, growth[1:])
