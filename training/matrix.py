"""Encoded inputs as one matrix, dense or sparse, as algorithms compute on them.

A number takes one column of the matrix, a vector as many as it has numbers, a category one for each
word that training saw: 1 where the row has that word, all 0 where it has an unknown one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from training.encoding import Input
from training.errors import InvalidData, LibraryMissing
from training.inputs import Inputs

__all__ = ["Missing", "check_complete", "dense", "dimensions", "scipy_sparse", "sparse"]

Missing = Literal["refuse", "nan"]

_BLOCK_ROWS = 8_192


def dense(
    table: pa.Table,
    inputs: Inputs,
    *,
    dtype: npt.DTypeLike = np.float32,
    channel: str = "input",
    missing: Missing = "refuse",
) -> npt.NDArray[Any]:
    """Return n rows of encoded inputs as a matrix.

    Args:
        table: n rows as `Inputs.encode` returns them.
        inputs: how they were encoded.
        dtype: float32 or float64.
        channel: what to call the table in an error.
        missing: `refuse` missing values, or keep them as `nan`.

    Returns:
        an array (n, `inputs.width`) in row-major order. It may share memory with the table, and
        must not be written to.

    Raises:
        InvalidData: a value is missing, or a column is text or tokens; the message names it.

    >>> inputs = Inputs.of(pa.table({"wind": [1.5, 2], "sky": ["wet", "dry"]}))
    >>> dense(inputs.encode(pa.table({"wind": [3], "sky": ["wet"]})), inputs)
    array([[3., 0., 1.]], dtype=float32)
    """
    columns = inputs.columns
    if len(columns) == 1 and columns[0].kind == "vector" and table.column(0).num_chunks == 1:
        flat = table.column(0).chunk(0).flatten().to_numpy(zero_copy_only=False)
        shared: npt.NDArray[Any] = flat.reshape(len(table), columns[0].size)
        return _cast(shared, columns[0], dtype, channel)
    out: npt.NDArray[Any] = np.zeros((len(table), inputs.width), dtype)
    # Blocks of rows, so that the pieces of a row that lie side by side are in the cache together.
    for start in range(0, len(table), _BLOCK_ROWS):
        part = table.slice(start, _BLOCK_ROWS)
        block = out[start : start + _BLOCK_ROWS]
        place = 0
        for column in columns:
            target = block[:, place : place + column.width]
            _fill(target, column, part[column.name], start, channel, missing)
            place += column.width
    return out


def sparse(
    table: pa.Table,
    inputs: Inputs,
    *,
    dtype: npt.DTypeLike = np.float32,
    channel: str = "input",
) -> Any:
    """Return n rows of encoded inputs as a `scipy.sparse.csr_matrix` (n, `inputs.width`).

    A sparse column or a category is never made dense. Zeros of number columns are left out.

    Raises:
        InvalidData: as for `dense`.
        LibraryMissing: SciPy is not installed.
    """
    library = scipy_sparse()
    blocks = [
        _sparse_block(library, column, table[column.name], dtype, channel)
        for column in inputs.columns
    ]
    if len(blocks) == 1:
        return blocks[0]
    return library.hstack(blocks, format="csr", dtype=dtype)


def check_complete(table: pa.Table, inputs: Inputs, *, channel: str = "input") -> None:
    """Refuse rows of which `dense` would refuse one, for those who make a matrix of a few alone.

    Raises:
        InvalidData: as for `dense`.
    """
    for column in inputs.columns:
        values = table[column.name]
        match column.kind:
            case "number":
                wrong = pc.is_null(values, nan_is_null=pa.types.is_floating(values.type))
                row = pc.index(wrong, True).as_py()
                if row >= 0:
                    raise _missing(column, row, channel)
            case "sparse":
                for rows, _, stored in _entries(values):
                    infinite = ~np.isfinite(stored)
                    if infinite.any():
                        raise _not_finite(column, int(rows[infinite.argmax()]), channel)
            case "category" | "vector":
                pass
            case _:
                raise _no_number(column, channel)


def dimensions(inputs: Inputs) -> list[str]:
    """Name the columns of the matrix: `wind`, `sky=wet`, `features[3]`."""
    names = []
    for column in inputs.columns:
        match column.kind:
            case "category":
                names += [f"{column.name}={word}" for word in column.categories]
            case "vector" | "sparse":
                names += [f"{column.name}[{place}]" for place in range(column.size)]
            case _:
                names.append(column.name)
    return names


def scipy_sparse() -> Any:
    """Import `scipy.sparse`, late: dense numbers do without it.

    Raises:
        LibraryMissing: SciPy is not installed.
    """
    try:
        import scipy.sparse
    except ModuleNotFoundError as error:
        raise LibraryMissing(
            "sparse inputs need scipy: pip install 'featureline[training]'",
            library="scipy",
            extra="training",
        ) from error
    return scipy.sparse


def _fill(
    target: npt.NDArray[Any],
    column: Input,
    values: pa.ChunkedArray,
    start: int,
    channel: str,
    missing: Missing,
) -> None:
    match column.kind:
        case "number":
            numbers = values
            if pa.types.is_boolean(values.type):
                numbers = values.cast(pa.uint8())
            elif values.null_count and pa.types.is_integer(values.type):
                numbers = values.cast(pa.float64(), safe=False)
            given = numbers.to_numpy()
            with np.errstate(over="ignore"):
                target[:, 0] = given
            if missing == "refuse":
                _refuse_missing(np.isnan(target[:, 0]), column, start, channel)
            if given.dtype.itemsize > target.dtype.itemsize:
                _refuse_too_large(np.isinf(target[:, 0]), column, start, channel)
        case "category":
            if not column.categories:
                return
            codes = _codes(column, values, start, channel, missing)
            known = codes >= 0
            target[np.flatnonzero(known), codes[known]] = 1
        case "vector":
            parts = [chunk.flatten().to_numpy() for chunk in values.chunks]
            if parts:
                flat = np.concatenate(parts).reshape(-1, column.size)
                target[:] = _cast(flat, column, target.dtype, channel, start)
        case "sparse":
            for rows, places, stored in _entries(values):
                wrong = ~np.isfinite(stored)
                if missing == "refuse" and wrong.any():
                    raise _not_finite(column, start + int(rows[wrong.argmax()]), channel)
                np.add.at(target, (rows, places), stored)
        case _:
            raise _no_number(column, channel)


def _sparse_block(
    library: Any, column: Input, values: pa.ChunkedArray, dtype: npt.DTypeLike, channel: str
) -> Any:
    shape = (len(values), column.width)
    match column.kind:
        case "sparse":
            lengths: list[npt.NDArray[Any]] = [np.zeros(1, np.int64)]
            indices: list[npt.NDArray[Any]] = [np.zeros(0, np.int32)]
            numbers: list[npt.NDArray[Any]] = [np.zeros(0, np.float32)]
            for chunk in values.chunks:
                lists = chunk.field("indices")
                lengths.append(_lengths(lists))
                indices.append(lists.flatten().to_numpy())
                numbers.append(chunk.field("values").flatten().to_numpy())
            given = np.concatenate(numbers)
            with np.errstate(over="ignore"):
                data = given.astype(dtype, copy=False)
            made = library.csr_matrix(
                (data, np.concatenate(indices), np.cumsum(np.concatenate(lengths))), shape=shape
            )
            if not np.isfinite(data).all():
                place = int((~np.isfinite(data)).argmax())
                row = int(np.searchsorted(made.indptr, place + 1)) - 1
                if np.isfinite(given[place]):
                    raise _too_large(column, row, channel)
                raise _not_finite(column, row, channel)
            made.sum_duplicates()
            return made
        case "category":
            if not column.categories:
                return library.csr_matrix(shape, dtype=dtype)
            codes = _codes(column, values, 0, channel, "refuse")
            known = codes >= 0
            indptr = np.concatenate([[0], np.cumsum(known)])
            ones = np.ones(int(known.sum()), dtype)
            return library.csr_matrix((ones, codes[known], indptr), shape=shape)
        case _:
            block = np.zeros(shape, dtype)
            _fill(block, column, values, 0, channel, "refuse")
            return library.csr_matrix(block)


def _codes(
    column: Input, values: pa.ChunkedArray, start: int, channel: str, missing: Missing
) -> npt.NDArray[np.int32]:
    """Return the code of each row's word, -1 for a word that training did not see or for null."""
    parts = [chunk.indices.fill_null(-1).to_numpy() for chunk in values.chunks]
    return np.concatenate(parts) if parts else np.zeros(0, np.int32)


def _entries(
    values: pa.ChunkedArray,
) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]]:
    """Give the rows, places and numbers of sparse vectors, a chunk at a time."""
    start = 0
    for chunk in values.chunks:
        lists = chunk.field("indices")
        rows = np.repeat(np.arange(start, start + len(chunk)), _lengths(lists))
        yield rows, lists.flatten().to_numpy(), chunk.field("values").flatten().to_numpy()
        start += len(chunk)


def _lengths(lists: pa.Array) -> npt.NDArray[np.int64]:
    lengths: npt.NDArray[Any] = pc.list_value_length(lists).to_numpy()
    return lengths.astype(np.int64)


def _refuse_missing(wrong: npt.NDArray[np.bool_], column: Input, start: int, channel: str) -> None:
    if wrong.any():
        raise _missing(column, start + int(wrong.argmax()), channel)


def _refuse_too_large(
    wrong: npt.NDArray[np.bool_], column: Input, start: int, channel: str
) -> None:
    if wrong.any():
        raise _too_large(column, start + int(wrong.argmax()), channel)


def _too_large(column: Input, row: int, channel: str) -> InvalidData:
    return InvalidData(
        f"{channel}: column {column.name!r} has a number in row {row + 1} that is larger than "
        "single precision holds (3.4e38): divide the column by a constant, or leave the row out",
        channel=channel,
        column=column.name,
        row=row + 1,
    )


def _cast(
    vectors: npt.NDArray[Any], column: Input, dtype: npt.DTypeLike, channel: str, start: int = 0
) -> npt.NDArray[Any]:
    """Return vectors in another precision, and refuse numbers that it cannot hold."""
    if vectors.dtype.itemsize <= np.dtype(dtype).itemsize:
        return vectors.astype(dtype, copy=False)
    with np.errstate(over="ignore"):
        cast: npt.NDArray[Any] = vectors.astype(dtype)
    _refuse_too_large(np.isinf(cast).any(axis=1), column, start, channel)
    return cast


def _not_finite(column: Input, row: int, channel: str) -> InvalidData:
    return InvalidData(
        f"{channel}: column {column.name!r} has a value that is missing or not finite in row "
        f"{row + 1}; a sparse vector has a finite number at each of its indices",
        channel=channel,
        column=column.name,
        row=row + 1,
    )


def _missing(column: Input, row: int, channel: str) -> InvalidData:
    return InvalidData(
        f"{channel}: column {column.name!r} has no value in row {row + 1}, and this algorithm "
        "needs one in every row: fill it or leave the row out",
        channel=channel,
        column=column.name,
        row=row + 1,
    )


def _no_number(column: Input, channel: str) -> InvalidData:
    return InvalidData(
        f"{channel}: column {column.name!r} is {column.kind}, and this algorithm takes numbers",
        channel=channel,
        column=column.name,
    )
