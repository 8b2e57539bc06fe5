"""Rows sorted within a bound of memory: in pieces, which wait on the disk and are merged.

Memory grows neither with the number of rows nor with those of one key. (DuckDB's own sort does
not do for this: it gives up on rows of some kilobytes where they exceed the memory.)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, count
from pathlib import Path
from typing import Any, Final, final

import pyarrow as pa

__all__ = ["in_order"]

# So many sorted pieces are merged at once, a block of each in memory.
_FAN_IN: Final = 64


def in_order(
    batches: Iterable[pa.RecordBatch],
    *,
    arranged: Callable[[pa.Table], pa.Table],
    keys: Callable[[pa.RecordBatch], Sequence[pa.Array]],
    piece_bytes: int,
    spill: Path,
) -> Iterator[pa.Table]:
    """Yield the rows of batches in order, in tables of about the size of a piece at most.

    Args:
        batches: all with one schema.
        arranged: sorts a table, ascending by its keys. It may leave out all but the first of equal
            keys, and gets rows that it has left over once more.
        keys: returns what rows are compared by, the first array first; no nulls.
        piece_bytes: of a piece; about four times as much memory is taken.
        spill: an existing folder; it takes up to what all rows take.

    Cost: O(n log n) time for n rows.
    """
    paths = (spill / f"piece-{number}.arrow" for number in count())
    pieces = _pieces(batches, piece_bytes, arranged)
    held = [piece for piece in (next(pieces, None), next(pieces, None)) if piece is not None]
    if len(held) < 2:
        yield from held
        return
    block_bytes = piece_bytes // _FAN_IN
    files = [_write([piece], next(paths), block_bytes) for piece in chain(_taken(held), pieces)]
    while len(files) > _FAN_IN:
        files = [
            _write(_merge(files[first : first + _FAN_IN], arranged, keys), next(paths), block_bytes)
            for first in range(0, len(files), _FAN_IN)
        ]
    yield from _merge(files, arranged, keys)


def _pieces(
    batches: Iterable[pa.RecordBatch], size_bytes: int, arranged: Callable[[pa.Table], pa.Table]
) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        held.append(batch)
        size += batch.nbytes
        if size >= size_bytes:
            yield arranged(pa.Table.from_batches(_taken(held)))
            size = 0
    if held:
        yield arranged(pa.Table.from_batches(_taken(held)))


def _taken(held: list[Any]) -> Iterator[Any]:
    """Yield what a list holds and let go of it at once."""
    while held:
        yield held.pop(0)


def _write(tables: Iterable[pa.Table], path: Path, block_bytes: int) -> Path:
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with ExitStack() as opened:
        sink = opened.enter_context(pa.OSFile(str(path), "wb"))
        writer = None
        for table in tables:
            if writer is None:
                writer = opened.enter_context(
                    pa.ipc.new_stream(sink, table.schema, options=options)
                )
            rows = max(1, len(table) * block_bytes // max(1, table.nbytes))
            writer.write_table(table.combine_chunks(), max_chunksize=rows)
    return path


@final
class _Head:
    """The block of a sorted file that is read next."""

    def __init__(self, path: Path, keys: Callable[[pa.RecordBatch], Sequence[pa.Array]]) -> None:
        self._source = pa.OSFile(str(path))
        self._reader = pa.ipc.open_stream(self._source)
        self._path = path
        self._keys_of = keys
        self._keys: Sequence[pa.Array] = ()
        self.block: Any = None
        self._next()

    def last(self) -> tuple[Any, ...]:
        """Return the last key of the block."""
        return self[len(self) - 1]

    def take_through(self, bound: tuple[Any, ...]) -> pa.RecordBatch:
        """Return the block's rows up to a key, and go on behind them."""
        end = bisect_right(self, bound)
        rows = self.block.slice(0, end)
        self.block = self.block.slice(end)
        self._keys = [key.slice(end) for key in self._keys]
        if not len(self.block):
            self._next()
        return rows

    def __len__(self) -> int:
        return len(self.block)

    def __getitem__(self, row: int) -> tuple[Any, ...]:
        return tuple(key[row].as_py() for key in self._keys)

    def _next(self) -> None:
        for batch in self._reader:
            if len(batch):
                self.block, self._keys = batch, self._keys_of(batch)
                return
        self.block = None
        self._source.close()
        self._path.unlink()


def _merge(
    paths: Sequence[Path],
    arranged: Callable[[pa.Table], pa.Table],
    keys: Callable[[pa.RecordBatch], Sequence[pa.Array]],
) -> Iterator[pa.Table]:
    """Merge sorted files, which are gone afterwards.

    What is before the earliest last key of all blocks cannot be in a block that is not read yet;
    what is equal to it can only where nothing was left out, and then comes right behind.
    """
    heads = [head for head in (_Head(path, keys) for path in paths) if head.block is not None]
    while heads:
        bound = min(head.last() for head in heads)
        parts = [head.take_through(bound) for head in heads]
        heads = [head for head in heads if head.block is not None]
        yield arranged(pa.Table.from_batches(parts))
