"""A Merkle tree over the log: one hash for all of it, and short proofs about what is in it.

The shape is that of RFC 9162, section 2.1: leaves and nodes are hashed with different first bytes,
and a tree of n leaves splits at the largest power of two below n. The leaves are the hashes of
the events, in sequence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias, final

Range: TypeAlias = tuple[int, int]
"""The leaves of a subtree: from the first, to the one behind the last."""

_HASH_BYTES = 32
# A subtree that nobody has saved is hashed from its leaves, and larger ones from their halves.
_LEAVES_AT_ONCE = 4096
_sha256 = hashlib.sha256


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf: an event's hash."""
    return _sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node from those of its halves."""
    return _sha256(b"\1" + left + right).digest()


@final
class Frontier:
    """The right edge of a growing tree: all that is needed to add leaves and to know the root.

    Args:
        size: how many leaves there are.
        packed: the hashes of the largest whole subtrees, from the left, one after another.

    >>> tree = Frontier()
    >>> for data in (b"a", b"b", b"c"):
    ...     tree.append(data)
    >>> ab = node_hash(leaf_hash(b"a"), leaf_hash(b"b"))
    >>> tree.root == node_hash(ab, leaf_hash(b"c"))
    True
    """

    def __init__(self, size: int = 0, packed: bytes = b"") -> None:
        self.size = size
        self._peaks = [
            packed[place : place + _HASH_BYTES] for place in range(0, len(packed), _HASH_BYTES)
        ]

    def append(self, data: bytes) -> None:
        """Add a leaf. Cost: two hashes on average."""
        hashed, size, peaks = leaf_hash(data), self.size, self._peaks
        while size & 1:
            hashed = node_hash(peaks.pop(), hashed)
            size >>= 1
        peaks.append(hashed)
        self.size += 1

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add several leaves."""
        for data in leaves:
            self.append(data)

    @property
    def packed(self) -> bytes:
        """What the constructor takes, to go on later."""
        return b"".join(self._peaks)

    @property
    def root(self) -> bytes:
        """The hash of the whole tree; that of nothing for an empty one."""
        return joined(self._peaks)


def joined(peaks: Sequence[bytes]) -> bytes:
    """The root over whole subtrees that stand side by side, the larger ones left."""
    if not peaks:
        return _sha256(b"").digest()
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = node_hash(peak, root)
    return root


def peak_ranges(size: int) -> list[Range]:
    """The largest whole subtrees of a tree, from the left.

    >>> peak_ranges(11)
    [(0, 8), (8, 10), (10, 11)]
    """
    ranges, start = [], 0
    for bit in reversed(range(size.bit_length())):
        if size & (1 << bit):
            ranges.append((start, start + (1 << bit)))
            start += 1 << bit
    return ranges


def inclusion_ranges(place: int, size: int) -> list[Range]:
    """The subtrees beside the way from a leaf to the root, from below.

    >>> inclusion_ranges(2, 5)
    [(3, 4), (0, 2), (4, 5)]
    """
    return _inclusion(place, 0, size)


def consistency_ranges(old: int, new: int) -> list[Range]:
    """The subtrees that show a tree to be the beginning of a larger one, from below.

    >>> consistency_ranges(3, 5)
    [(2, 3), (3, 4), (0, 2), (4, 5)]
    """
    return _consistency(old, 0, new, is_whole=True) if 0 < old < new else []


def root_from_inclusion(place: int, size: int, leaf: bytes, path: Sequence[bytes]) -> bytes | None:
    """The root that a leaf and the subtrees beside its way lead to.

    Returns:
        None when the path has another length than the tree demands.
    """
    if not 0 <= place < size or len(path) != len(inclusion_ranges(place, size)):
        return None
    root = leaf
    for (start, _), beside in zip(inclusion_ranges(place, size), path, strict=True):
        root = node_hash(beside, root) if start < place else node_hash(root, beside)
    return root


def is_consistent(
    old: int, old_root: bytes, new: int, new_root: bytes, path: Sequence[bytes]
) -> bool:
    """Whether a tree is the beginning of a larger one, by the subtrees that are to show it."""
    if old == 0 or old == new:
        return not path and (old == 0 or old_root == new_root)
    if not 0 < old < new or len(path) != len(consistency_ranges(old, new)):
        return False
    return _both_roots(old, new, old_root, path, is_whole=True) == (old_root, new_root)


@final
class Subtrees:
    """Hashes of the subtrees of a log's tree, from saved ones where there are any.

    Args:
        leaves: reads leaves (start, end).
        saved: for trees that were saved, their size and `Frontier.packed`.
    """

    def __init__(
        self, leaves: Callable[[int, int], Sequence[bytes]], saved: Iterable[tuple[int, bytes]]
    ) -> None:
        self._leaves = leaves
        self._known: dict[Range, bytes] = {}
        for size, packed in saved:
            parts = [packed[i : i + _HASH_BYTES] for i in range(0, len(packed), _HASH_BYTES)]
            self._known.update(zip(peak_ranges(size), parts, strict=False))

    def hash(self, start: int, end: int) -> bytes:
        """The hash of the subtree over the leaves of a range."""
        known = self._known.get((start, end))
        if known is not None:
            return known
        if end - start <= _LEAVES_AT_ONCE:
            tree = Frontier()
            tree.extend(self._leaves(start, end))
            return tree.root
        middle = start + _split(end - start)
        return node_hash(self.hash(start, middle), self.hash(middle, end))


def _split(size: int) -> int:
    """The largest power of two below the number of leaves."""
    return 1 << ((size - 1).bit_length() - 1)


def _inclusion(place: int, start: int, end: int) -> list[Range]:
    if end - start == 1:
        return []
    middle = start + _split(end - start)
    if place < middle:
        return [*_inclusion(place, start, middle), (middle, end)]
    return [*_inclusion(place, middle, end), (start, middle)]


def _consistency(old: int, start: int, end: int, *, is_whole: bool) -> list[Range]:
    """Of the old tree's leaves those from `start` on; `is_whole` while these are all of it."""
    if old == end:
        return [] if is_whole else [(start, end)]
    middle = start + _split(end - start)
    if old <= middle:
        return [*_consistency(old, start, middle, is_whole=is_whole), (middle, end)]
    return [*_consistency(old, middle, end, is_whole=False), (start, middle)]


def _both_roots(
    old: int, new: int, old_root: bytes, path: Sequence[bytes], *, is_whole: bool
) -> tuple[bytes, bytes]:
    if old == new:
        known = old_root if is_whole else path[0]
        return known, known
    split, beside, inner = _split(new), path[-1], path[:-1]
    if old <= split:
        before, after = _both_roots(old, split, old_root, inner, is_whole=is_whole)
        return before, node_hash(after, beside)
    before, after = _both_roots(old - split, new - split, old_root, inner, is_whole=False)
    return node_hash(beside, before), node_hash(beside, after)


def parts(start: int, end: int) -> Iterator[Range]:
    """A range of leaves in parts that fit into memory."""
    for first in range(start, end, _LEAVES_AT_ONCE):
        yield first, min(first + _LEAVES_AT_ONCE, end)
