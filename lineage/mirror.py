"""The mirror: associations as arrays in memory, for processes that ask often or ask for much.

Compressed sparse rows of int32 in both directions, a byte for each type: 75 MB for a million
entities and 2.6 million associations. It is a copy of the store's edges at one sequence, brought
up to the state that a query reads before each walk; what it cannot answer goes to the store.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from lineage.association import AssociationType
from lineage.errors import LineageError
from lineage.store import Edge, LineageStore, Reaching, TimedEdge, View

# In the order of their texts, which is the order of the store's indexes.
_TYPES: Final = tuple(sorted(link.value for link in AssociationType))
_CODES: Final = {link: code for code, link in enumerate(_TYPES)}
_ENDED: Final = 255

_AT_ONCE: Final = 20_000
_NODES_AT_ONCE: Final = 4_000
# A frontier of so many nodes is gathered by NumPy; below, slices cost less.
_WIDE: Final = 48
# A walk steps through arrays from so many nodes in a frontier on.
_WIDE_STEP: Final = 64
# New associations are kept beside the arrays until there are so many, and then sorted in.
_FOLD: Final = 50_000
_SPARE_NODES: Final = 1_024

# When it is worth it: so many entities walked, or so many queries asked.
_MANY_NODES: Final = 200_000
_OFTEN: Final = 200
# Who has asked so many, or for so much at once, asks more: the store may read ahead. Not before, as
# a walk alone is slower beside that.
_SEVERAL: Final = 8
_MUCH: Final = 10_000

_MAGIC: Final = b"featureline lineage mirror 1\n"
_HEADER: Final = struct.Struct(">I")

_Ints = npt.NDArray[np.int32]
_Bytes = npt.NDArray[np.uint8]


@final
class _Side:
    """The associations in one direction: for each node the others, in order.

    Args:
        starts: where the part of node n begins, n + 1 entries and more for nodes to come.
        others: the other end of each association.
        codes: its type, or `_ENDED`.
    """

    def __init__(self, starts: _Ints, others: _Ints, codes: _Bytes) -> None:
        self.starts = starts
        self.others = others
        self.codes = codes
        # Reading single numbers from a memoryview costs a third of what it does from an array.
        self._starts = memoryview(starts.data)
        self._others = memoryview(others.data)
        self._codes = memoryview(codes.data)
        self._nodes = len(starts) - 1
        self.added: dict[int, list[tuple[int, int]]] = {}

    @classmethod
    def sorted_from(cls, at: _Ints, others: _Ints, codes: _Bytes, nodes: int) -> _Side:
        """Sort associations by the node they are looked up by, then by the other end and type."""
        order = np.lexsort((codes, others, at))
        counts = np.bincount(at, minlength=nodes + 1)
        starts = np.zeros(len(counts) + 1, np.int32)
        np.cumsum(counts, out=starts[1:])
        return cls(starts, others[order], codes[order])

    def of(self, node: int) -> list[tuple[int, int]]:
        """The other ends and types of a node's associations, in order."""
        found: list[tuple[int, int]] = []
        if node < self._nodes:
            first, last = self._starts[node], self._starts[node + 1]
            if first < last:
                codes = self._codes[first:last].tolist()
                found = list(zip(self._others[first:last].tolist(), codes, strict=True))
                if _ENDED in codes:
                    found = [pair for pair in found if pair[1] != _ENDED]
        added = self.added.get(node)
        return sorted(found + added) if added else found

    def gather(self, nodes: _Ints) -> tuple[_Ints, _Ints, _Bytes]:
        """The associations at any of many nodes: node, other end and type of each."""
        inside = nodes[nodes < self._nodes]
        first, last = self.starts[inside], self.starts[inside + 1]
        counts = last - first
        total = int(counts.sum())
        # Counts on from the beginning of each part.
        place = np.arange(total, dtype=np.int32)
        place += np.repeat(first - np.concatenate(([0], np.cumsum(counts)[:-1])), counts).astype(
            np.int32
        )
        at, others, codes = np.repeat(inside, counts), self.others[place], self.codes[place]
        if _ENDED in codes:
            valid = codes != _ENDED
            at, others, codes = at[valid], others[valid], codes[valid]
        if self.added:
            keys = np.fromiter(self.added, np.int32, len(self.added))
            more = [
                (node, other, code)
                for node in np.sort(keys[np.isin(keys, nodes)]).tolist()
                for other, code in self.added[node]
            ]
            if more:
                new = np.array(more, np.int32)
                at = np.concatenate((at, new[:, 0]))
                others = np.concatenate((others, new[:, 1]))
                codes = np.concatenate((codes, new[:, 2].astype(np.uint8)))
        return at, others, codes

    def add(self, node: int, other: int, code: int) -> None:
        """Add an association beside the arrays."""
        self.added.setdefault(node, []).append((other, code))

    def end(self, node: int, other: int, code: int) -> None:
        """Take an association out."""
        added = self.added.get(node, [])
        if (other, code) in added:
            added.remove((other, code))
            return
        first, last = int(self.starts[node]), int(self.starts[node + 1])
        found = np.flatnonzero(
            (self.others[first:last] == other) & (self.codes[first:last] == code)
        )
        self.codes[first + int(found[0])] = _ENDED

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.starts.nbytes + self.others.nbytes + self.codes.nbytes


@final
class Mirror:
    """The valid associations of a store, in memory.

    May be used from any thread, one at a time; see `walking`.

    Args:
        sequence: of the last event that it knows.
        up: by destination.
        down: by source.
    """

    def __init__(self, sequence: int, up: _Side, down: _Side) -> None:
        self.sequence = sequence
        self.lock = threading.Lock()
        self._up = up
        self._down = down
        self._changed = 0
        self._nodes = len(up.starts)

    @classmethod
    def of(cls, view: View, *, stop: Callable[[], bool] = bool) -> Mirror | None:
        """Read the associations of a present view; None when told to stop meanwhile.

        Cost: seconds for a million; see `load`.
        """
        bulk = view.reaching
        columns = _read(view.edges(0), stop) if bulk is None else _read_in_bulk(bulk, stop)
        return None if columns is None else cls(view.sequence(), *_both(*columns))

    def refresh(self, view: View) -> bool:
        """Take in what was recorded since, up to the state of the view.

        Returns:
            False when the mirror is ahead of the view already: another query has refreshed it.
        """
        sequence = view.sequence()
        if sequence <= self.sequence:
            return bool(sequence == self.sequence)
        # One that ends now may begin again with a later event: ends come first.
        begun: list[TimedEdge] = []
        for edge in view.edges(self.sequence):
            if edge.valid_from <= self.sequence:
                code = _CODES[edge.type]
                self._changed += 1
                self._up.end(edge.destination, edge.source, code)
                self._down.end(edge.source, edge.destination, code)
            elif edge.valid_to is None:
                begun.append(edge)
        for edge in begun:
            code = _CODES[edge.type]
            self._up.add(edge.destination, edge.source, code)
            self._down.add(edge.source, edge.destination, code)
            self._nodes = max(self._nodes, edge.source + 1, edge.destination + 1)
        self._changed += len(begun)
        self.sequence = sequence
        if self._changed > _FOLD:
            self._fold()
        return True

    def neighbours(self, nodes: Sequence[int], *, upstream: bool) -> list[Edge]:
        """The associations that end (upstream) or start (downstream) at any of `nodes`."""
        side = self._up if upstream else self._down
        if upstream:
            return [(other, node, _TYPES[code]) for node in nodes for other, code in side.of(node)]
        return [(node, other, _TYPES[code]) for node in nodes for other, code in side.of(node)]

    @property
    def least(self) -> int:
        """From so many nodes in a frontier on, arrays cost less than sets."""
        return _WIDE_STEP

    def begin(self, nodes: Collection[int]) -> Any:
        """One flag for each node, those of `nodes` set."""
        seen = np.zeros(self._nodes, bool)
        seen[np.fromiter(nodes, np.int32, len(nodes))] = True
        return seen

    def step(
        self,
        frontier: Any,
        seen: Any,
        *,
        upstream: bool,
        downstream: bool,
        through: Collection[str],
    ) -> tuple[Any, Callable[[], list[Edge]]]:
        """The next frontier in order, marked as seen, and what was walked to it."""
        nodes = np.asarray(frontier, np.int32)
        wanted_codes = np.array([_CODES[link] for link in through], np.uint8)
        parts: list[tuple[_Ints, _Ints, _Bytes]] = []
        reached: list[_Ints] = []
        for is_up, side in ((True, self._up), (False, self._down)):
            if not (upstream if is_up else downstream):
                continue
            at, others, codes = side.gather(nodes)
            if through:
                wanted = np.isin(codes, wanted_codes)
                at, others, codes = at[wanted], others[wanted], codes[wanted]
            parts.append((others, at, codes) if is_up else (at, others, codes))
            reached.append(others)
        met = reached[0] if len(reached) == 1 else np.concatenate(reached)
        # Marking and looking costs less than sorting what was met several times.
        met = met[~seen[met]]
        seen[met] = True
        met.sort()
        is_first = np.ones(len(met), bool)
        np.not_equal(met[1:], met[:-1], out=is_first[1:])
        return met[is_first], partial(_edges, parts)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays; what was added since comes on top, at most some megabytes."""
        return self._up.nbytes + self._down.nbytes

    def save(self, path: Path, hash: bytes) -> None:
        """Write a snapshot for the next process; it appears only when it is whole.

        Args:
            path: of the file.
            hash: of the log's event at this sequence, which ties the file to its log.
        """
        self._fold()
        arrays = _arrays(self._up, self._down)
        digest = hashlib.sha256()
        for array in arrays:
            digest.update(array.data)
        header = json.dumps(
            {
                "sequence": self.sequence,
                "hash": hash.hex(),
                "types": _TYPES,
                "lengths": [len(array) for array in arrays],
                "digest": digest.hexdigest(),
            }
        ).encode()
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                file.write(_MAGIC + _HEADER.pack(len(header)) + header)
                file.write(bytes(-file.tell() % 8))
                for array in arrays:
                    file.write(array.data)
                    file.write(bytes(-array.nbytes % 8))
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path, hash_at: Callable[[int], bytes | None]) -> Mirror | None:
        """Read a snapshot, or None when there is none of this log, or it is damaged.

        Args:
            path: of the file.
            hash_at: the hash of the log's event at a sequence; None when it has none.
        """
        try:
            data = np.memmap(path, np.uint8, mode="c")
        except (OSError, ValueError):
            return None
        place = len(_MAGIC)
        if bytes(data[:place]) != _MAGIC:
            return None
        (size,) = _HEADER.unpack(bytes(data[place : place + _HEADER.size]))
        place += _HEADER.size
        try:
            header = json.loads(bytes(data[place : place + size]))
            lengths, sequence = header["lengths"], int(header["sequence"])
            if tuple(header["types"]) != _TYPES:
                return None
            if sequence and hash_at(sequence) != bytes.fromhex(header["hash"]):
                return None
        except (ValueError, KeyError, TypeError):
            return None
        place += size
        digest = hashlib.sha256()
        arrays: list[Any] = []
        for length, kind in zip(lengths, (np.int32, np.int32, np.uint8) * 2, strict=True):
            place += -place % 8
            end = place + length * np.dtype(kind).itemsize
            arrays.append(data[place:end].view(kind))
            digest.update(arrays[-1].data)
            place = end
        if len(data) < place or digest.hexdigest() != header["digest"]:
            return None
        return cls(sequence, _Side(*arrays[:3]), _Side(*arrays[3:]))

    def _fold(self) -> None:
        """Sort what was added into the arrays, and leave out what has ended."""
        if not self._changed:
            return
        sources, destinations, codes = self._down.gather(np.arange(self._nodes, dtype=np.int32))
        self._up, self._down = _both(sources, destinations, codes)
        self._changed = 0
        self._nodes = len(self._up.starts)


@final
class Mirroring:
    """Decides when a graph's associations are worth having in memory, and keeps them there.

    A process that asks once reads the store alone. One that has asked often, or for much,
    reads the associations in a thread of its own, from a snapshot beside the store when there is
    one; the store answers until they are there.

    Args:
        store: that keeps the graph.
    """

    def __init__(self, store: LineageStore) -> None:
        self._store = store
        self._mirror: Mirror | None = None
        self._loading: threading.Thread | None = None
        self._reading = threading.Lock()
        self._queries = 0
        self._walked = 0
        self._closed = False

    @property
    def mirror(self) -> Mirror | None:
        """The mirror, once it is there."""
        return self._mirror

    @contextmanager
    def walking(self, view: View) -> Iterator[Mirror | None]:
        """The mirror in the state of a view, for one walk; None: walk in the store."""
        mirror = self._mirror
        # Whoever finds it in use walks in the store meanwhile.
        if mirror is None or not mirror.lock.acquire(blocking=False):
            yield None
            return
        try:
            yield mirror if mirror.refresh(view) else None
        finally:
            mirror.lock.release()

    def walked(self, count: int) -> None:
        """Note a walk, and begin to read the associations when it is worth it."""
        self._queries += 1
        self._walked += count
        if self._queries == _SEVERAL or count >= _MUCH:
            self._store.read_ahead()
        if self._mirror is not None or self._loading is not None or self._closed:
            return
        if self._walked >= _MANY_NODES or self._queries >= _OFTEN:
            self._loading = threading.Thread(target=self._load, name="lineage mirror", daemon=True)
            self._loading.start()

    def load(self) -> Mirror | None:
        """Read the associations now, and wait for them; None when the graph was closed meanwhile.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        with self._reading:
            if self._mirror is None:
                self._mirror = self._read()
        return self._mirror

    def close(self) -> None:
        """Stop reading, and read no more."""
        self._closed = True
        if self._loading is not None:
            self._loading.join()

    def _load(self) -> None:
        try:
            self.load()
        except LineageError:
            # The store answers by itself, or says what is wrong with it.
            self._loading = None
            self._queries = self._walked = 0

    def _read(self) -> Mirror | None:
        path = self._store.mirror_path
        look = hash_at(self._store)
        known = None if path is None else Mirror.load(path, look)
        if known is not None:
            return known
        with self._store.view() as view:
            known = Mirror.of(view, stop=lambda: self._closed)
        if known is None:
            return None
        event = look(known.sequence) if known.sequence else None
        if path is not None and event is not None:
            # A full disk costs the next process some seconds, and this one nothing.
            with suppress(OSError):
                known.save(path, event)
        return known


def _edges(parts: Sequence[tuple[_Ints, _Ints, _Bytes]]) -> list[Edge]:
    found: list[Edge] = []
    for sources, destinations, codes in parts:
        names = map(_TYPES.__getitem__, codes.tolist())
        found += zip(sources.tolist(), destinations.tolist(), names, strict=True)
    return found


def _both(sources: _Ints, destinations: _Ints, codes: _Bytes) -> tuple[_Side, _Side]:
    nodes = int(max(sources.max(initial=0), destinations.max(initial=0))) + _SPARE_NODES
    return (
        _Side.sorted_from(destinations, sources, codes, nodes),
        _Side.sorted_from(sources, destinations, codes, nodes),
    )


def _arrays(up: _Side, down: _Side) -> list[Any]:
    return [array for side in (up, down) for array in (side.starts, side.others, side.codes)]


def _read_in_bulk(
    reaching: Reaching, stop: Callable[[], bool]
) -> tuple[_Ints, _Ints, _Bytes] | None:
    """The same from a store that gives them in bulk, at a sixth of the cost."""
    sources: list[_Ints] = [np.empty(0, np.int32)]
    destinations: list[_Ints] = [np.empty(0, np.int32)]
    codes: list[_Bytes] = [np.empty(0, np.uint8)]
    for first in range(0, reaching.last_node() + 1, _NODES_AT_ONCE):
        if stop():
            return None
        source, destination, code = reaching.links(first, first + _NODES_AT_ONCE, _TYPES)
        sources.append(source.astype(np.int32))
        destinations.append(destination.astype(np.int32))
        codes.append(code.astype(np.uint8))
    return np.concatenate(sources), np.concatenate(destinations), np.concatenate(codes)


def _read(
    edges: Iterator[TimedEdge], stop: Callable[[], bool]
) -> tuple[_Ints, _Ints, _Bytes] | None:
    """The valid associations as columns, read part by part."""
    sources: list[_Ints] = [np.empty(0, np.int32)]
    destinations: list[_Ints] = [np.empty(0, np.int32)]
    codes: list[_Bytes] = [np.empty(0, np.uint8)]
    while part := list(islice(edges, _AT_ONCE)):
        if stop():
            return None
        starts, ends, types, _, ended = zip(*part, strict=True)
        columns = (
            np.array(starts, np.int32),
            np.array(ends, np.int32),
            np.array(list(map(_CODES.__getitem__, types)), np.uint8),
        )
        if any(ended):
            valid = np.array([event is None for event in ended])
            columns = (columns[0][valid], columns[1][valid], columns[2][valid])
        sources.append(columns[0])
        destinations.append(columns[1])
        codes.append(columns[2])
    return np.concatenate(sources), np.concatenate(destinations), np.concatenate(codes)


def hash_at(store: LineageStore) -> Callable[[int], bytes | None]:
    """Looks up the hash of an event by its sequence."""

    def look(sequence: int) -> bytes | None:
        with store.log(sequence - 1) as (events, _):
            event = next(events, None)
        return None if event is None or event.sequence != sequence else event.hash

    return look
