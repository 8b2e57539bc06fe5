"""The Parquet files of a table version as rows with numbers, read by the piece or by number."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from featurestore import numpyview
from featurestore.errors import StoreCorrupt, StoreUnavailable
from featurestore.offline.files import ORDER_KEY, order_of
from featurestore.workers import Workers

__all__ = ["HistoryFiles", "Piece"]

Ints = npt.NDArray[np.int64]

# So many files stay open from the first pass to the second.
_KEPT_OPEN: Final = 256
_BATCH_ROWS: Final = 1 << 16
_WHOLE_ROWS: Final = 1 << 17
_FOOTERS: Final = 16


class Piece(NamedTuple):
    """A row group.

    Args:
        file: number of its file.
        group: its number in the file.
        first: number of its first row among the rows of all files.
        rows: how many it has.
        has_markers: whether some of its rows may be delete markers.
        is_sorted: whether its file says that its rows are sorted by identifier and version.
    """

    file: int
    group: int
    first: int
    rows: int
    has_markers: bool
    is_sorted: bool


class _Footer(NamedTuple):
    metadata: Any
    columns: frozenset[str]
    is_sorted: bool


@final
class HistoryFiles:
    """The rows of a group's Parquet files, numbered in the order of the files and of their rows.

    Files never change, so a row has its number in every pass.

    Args:
        group: the feature group, for errors.
        files: local paths.
        identifier: the column of the record identifier.
        texts: columns of texts that will be read; those of few values are read as such.
        workers: read in parallel.

    Raises:
        StoreUnavailable, StoreCorrupt: a file is gone or cannot be read; here and in each method.
    """

    def __init__(
        self,
        group: str,
        files: Sequence[str],
        identifier: str,
        *,
        texts: Sequence[str] = (),
        workers: Workers,
    ) -> None:
        self._group = group
        self._files = files
        self._identifier = identifier
        self._order = order_of(identifier)
        self._places: dict[str, int] = {}
        self._encoded = [identifier, *self._of_few_values(texts)]
        self._opened: dict[int, Any] = {}
        slices = [range(i, min(i + _FOOTERS, len(files))) for i in range(0, len(files), _FOOTERS)]
        footers = workers.each(lambda numbers: list(map(self._footer, numbers)), slices)
        self._footers: list[_Footer] = [footer for some in footers for footer in some]

    @property
    def sorted_rows(self) -> int:
        """How many rows are in files that say that they are sorted."""
        return sum(footer.metadata.num_rows for footer in self._footers if footer.is_sorted)

    def pieces(self, identifiers: Sequence[object] | None = None) -> list[Piece]:
        """Return the row groups in the order of their rows.

        Args:
            identifiers: sorted; row groups that can have none of them are left out. None: all.
        """
        found = []
        first = 0
        for number, footer in enumerate(self._footers):
            for group in range(footer.metadata.num_row_groups):
                described = footer.metadata.row_group(group)
                rows = described.num_rows
                if rows and self._may_have(described, identifiers):
                    markers = self._ends(described, "is_deleted")
                    has_markers = markers is None or bool(markers[1])
                    found.append(Piece(number, group, first, rows, has_markers, footer.is_sorted))
                first += rows
        return found

    def read(self, piece: Piece, columns: Sequence[str]) -> pa.Table:
        """Read columns of a row group; texts of the identifier come as a dictionary."""
        with self._file(piece.file) as file:
            return file.read_row_group(piece.group, columns=list(columns), use_threads=False)

    def close(self) -> None:
        """Close the files."""
        for file in self._opened.values():
            file.close()
        self._opened.clear()

    def lots(self, pieces: Sequence[Piece], rows: int) -> list[Sequence[Piece]]:
        """Put neighbours together so that each lot has about so many rows."""
        return _lots(pieces, [piece.rows for piece in pieces], rows)

    def wanted(self, rows: Ints, pieces: Sequence[Piece]) -> list[Sequence[tuple[Piece, Ints]]]:
        """Return what `take` shall take, in order, as lots of row groups with places of rows.

        Args:
            rows: their numbers, ascending, each as often as it shall come.
            pieces: all that have one of them, in order.
        """
        bounds = np.searchsorted(
            rows, [[piece.first, piece.first + piece.rows] for piece in pieces]
        )
        wanted = [
            (piece, rows[low:high] - piece.first)
            for piece, (low, high) in zip(pieces, bounds.tolist(), strict=True)
            if high > low
        ]
        return _lots(wanted, [piece.rows for piece, _ in wanted], _WHOLE_ROWS)

    def take(self, wanted: Sequence[tuple[Piece, Ints]], schema: pa.Schema) -> list[pa.Table]:
        """Read single rows, in order, in one or more tables.

        Args:
            wanted: of `wanted`.
            schema: of what is read; a column that a file lacks is null.
        """
        return [self._taken(piece, places, schema) for piece, places in wanted]

    def _taken(self, piece: Piece, places: Ints, schema: pa.Schema) -> pa.Table:
        columns = [name for name in schema.names if name in self._footers[piece.file].columns]
        if not columns:
            return schema.empty_table().take(pa.nulls(len(places), pa.int64()))
        picked = []
        with self._file(piece.file) as file:
            if piece.rows <= _WHOLE_ROWS:
                table = file.read_row_group(piece.group, columns=columns, use_threads=False)
                picked.append(table.take(numpyview.from_int64(places)))
            else:
                batches = file.iter_batches(
                    _BATCH_ROWS, row_groups=[piece.group], columns=columns, use_threads=False
                )
                begin = 0
                for batch in batches:
                    low, high = np.searchsorted(places, [begin, begin + len(batch)])
                    if high > low:
                        some = batch.take(numpyview.from_int64(places[low:high] - begin))
                        picked.append(pa.Table.from_batches([some]))
                    begin += len(batch)
        table = pa.concat_tables(picked)
        return pa.table(
            [
                _cast(table[field.name], field.type)
                if field.name in columns
                else pa.nulls(len(table), field.type)
                for field in schema
            ],
            schema=schema,
        )

    def _of_few_values(self, texts: Sequence[str]) -> Iterator[str]:
        """Choose texts whose values the first file has in a dictionary."""
        if not texts:
            return
        with self._reading(0), pq.ParquetFile(self._files[0]) as file:
            if not file.metadata.num_row_groups:
                return
            described = file.metadata.row_group(0)
            for name in texts:
                chunk = self._chunk(described, name)
                # Each text by itself takes four bytes for its length alone.
                if chunk is not None and chunk.total_uncompressed_size < 4 * described.num_rows:
                    yield name

    def _footer(self, number: int) -> _Footer:
        with self._reading(number):
            file = pq.ParquetFile(self._files[number], read_dictionary=self._encoded)
        if number < _KEPT_OPEN:
            self._opened[number] = file
        else:
            file.close()
        said = (file.metadata.metadata or {}).get(ORDER_KEY)
        return _Footer(file.metadata, frozenset(file.schema_arrow.names), said == self._order)

    @contextmanager
    def _file(self, number: int) -> Iterator[Any]:
        """Lend a file that no other thread has meanwhile."""
        with self._reading(number):
            file = self._opened.pop(number, None) or pq.ParquetFile(
                self._files[number],
                metadata=self._footers[number].metadata,
                read_dictionary=self._encoded,
            )
            yield file
            if number < _KEPT_OPEN:
                self._opened[number] = file
            else:
                file.close()

    @contextmanager
    def _reading(self, number: int) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise StoreUnavailable(
                f"{self._group}: the file {self._files[number]} of the offline table is gone; was "
                f"it vacuumed meanwhile? try again"
            ) from error
        except (pa.ArrowInvalid, OSError) as error:
            raise StoreCorrupt(
                f"{self._group}: the file {self._files[number]} of the offline table cannot be "
                f"read: {error}; restore it from a backup"
            ) from error

    def _may_have(self, described: Any, identifiers: Sequence[Any] | None) -> bool:
        if identifiers is None:
            return True
        ends = self._ends(described, self._identifier)
        if ends is None:
            return True
        place = bisect_left(identifiers, ends[0])
        return place < len(identifiers) and identifiers[place] <= ends[1]

    def _ends(self, described: Any, name: str) -> tuple[Any, Any] | None:
        """Return what a row group's footer says of the least and the greatest value."""
        chunk = self._chunk(described, name)
        known = None if chunk is None else chunk.statistics
        return None if known is None or not known.has_min_max else (known.min, known.max)

    def _chunk(self, described: Any, name: str) -> Any | None:
        """Return what a row group's footer says of a column that is no list."""
        place = self._places.get(name, 0)
        if place < described.num_columns and described.column(place).path_in_schema == name:
            return described.column(place)
        for place in range(described.num_columns):
            if described.column(place).path_in_schema == name:
                self._places[name] = place
                return described.column(place)
        return None


def _lots(items: Sequence[Any], sizes: Sequence[int], wanted: int) -> list[Sequence[Any]]:
    """Put neighbours together in lots of one size, about, and at most a little above the wanted.

    >>> _lots("abcdef", [2, 2, 2, 2, 2, 2], 8)
    ['abc', 'def']
    """
    total = sum(sizes)
    count = max(1, -(-total // wanted))
    lots: list[Sequence[Any]] = []
    begin = size = 0
    for number, rows in enumerate(sizes):
        size += rows
        # One that is much smaller than the others would leave a processor without work.
        if size * count >= total * (len(lots) + 1):
            lots.append(items[begin : number + 1])
            begin = number + 1
    return lots


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        decoded = [chunk.dictionary_decode() for chunk in column.chunks]
        column = pa.chunked_array(decoded, column.type.value_type)
    return column if column.type == kind else column.cast(kind)
