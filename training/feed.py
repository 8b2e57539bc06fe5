"""The feature store's datasets as what libraries train on: torch tensors, XGBoost matrices."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

import featurestore
from featurestore import parted
from training.data import METADATA_KEY, Dataset, as_table, manifest_of
from training.errors import InvalidData, LibraryMissing, nearest
from training.inputs import Inputs, is_number

try:
    _Base: Any = importlib.import_module("torch.utils.data").IterableDataset
except ModuleNotFoundError:  # an optional library; `to_torch` says which extra has it
    _Base = object

__all__ = ["TorchBatches", "to_quantile_dmatrix", "to_torch"]

_BATCH_ROWS: Final = 65_536
_BLOCK_ROWS: Final = 131_072
_PART_ROWS: Final = 4_096

_Floats = npt.NDArray[np.float32]
_Order = npt.NDArray[np.int64] | None


@final
@dataclass(frozen=True)
class _Rows:
    """Rows of features, shape (n, features), and their labels, shape (n,)."""

    matrix: _Floats
    labels: _Floats | None

    def __len__(self) -> int:
        return len(self.matrix)

    @classmethod
    def of(cls, parts: Sequence[_Rows]) -> _Rows:
        """Join rows."""
        if len(parts) == 1:
            return parts[0]
        labels = [part.labels for part in parts if part.labels is not None]
        return cls(
            np.concatenate([part.matrix for part in parts]),
            np.concatenate(labels) if labels else None,
        )

    def taken(self, start: int, stop: int, order: _Order) -> _Rows:
        """Return a copy of some rows, by their places or by those of an order."""
        if order is None:
            labels = None if self.labels is None else self.labels[start:stop].copy()
            return _Rows(self.matrix[start:stop].copy(), labels)
        places = order[start:stop]
        labels = None if self.labels is None else self.labels.take(places)
        return _Rows(self.matrix.take(places, axis=0), labels)


_Block = tuple[_Rows, _Order]


@final
class TorchBatches(_Base):  # type: ignore[misc]  # torch may be missing
    """Batches of tensors for `torch.utils.data.DataLoader(…, batch_size=None)`; see `to_torch`.

    Each iteration gives every row once. With several workers each gives a part of the batches.
    """

    def __init__(
        self,
        source: pa.Table | Path,
        features: tuple[str, ...],
        label: str | None,
        batch_rows: int,
        seed: int | None,
    ) -> None:
        self.features = features
        self.label = label
        self._source = source
        self._batch_rows = batch_rows
        self._seed = seed
        self._epoch = 0
        self._whole: _Rows | None = None

    def __iter__(self) -> Iterator[Any]:
        import torch

        worker = torch.utils.data.get_worker_info()
        number, count = (0, 1) if worker is None else (worker.id, worker.num_workers)
        order = None
        if self._seed is not None:
            order = np.random.default_rng([self._seed, self._epoch])
        self._epoch += 1
        for place, rows in enumerate(_cut(self._blocks(order), self._batch_rows)):
            if place % count == number:
                yield self._tensors(torch, rows)

    def __getstate__(self) -> dict[str, Any]:
        # Another process makes its own, sooner than it would read this.
        return self.__dict__ | {"_whole": None}

    def _blocks(self, order: np.random.Generator | None) -> Iterator[_Block]:
        """Yield the rows as matrices, each with the order to take them in; None: as they are."""
        if isinstance(self._source, pa.Table):
            if self._whole is None:
                self._whole = self._made(self._source)
            yield self._whole, None if order is None else order.permutation(len(self._whole))
            return
        for rows in self._read_ahead(order):
            yield rows, None if order is None else order.permutation(len(rows))

    def _read_ahead(self, order: np.random.Generator | None) -> Iterator[_Rows]:
        """Yield the blocks of the files; the next is read while one is taken."""
        assert isinstance(self._source, Path)
        blocks = self._read(_files(self._source), order)
        with ThreadPoolExecutor(1, thread_name_prefix="to_torch") as thread:
            ahead = thread.submit(next, blocks, None)
            while (rows := ahead.result()) is not None:
                ahead = thread.submit(next, blocks, None)
                yield rows

    def _read(self, files: Sequence[Path], order: np.random.Generator | None) -> Iterator[_Rows]:
        assert isinstance(self._source, Path)
        if order is None:
            schema = _schema(self._source)
            for batch in parted.batches(files, schema, _BLOCK_ROWS, self._columns):
                yield self._made(pa.Table.from_batches([batch]))
            return
        groups = [
            (file, number)
            for file in files
            for number in range(pq.read_metadata(file).num_row_groups)
        ]
        # Of a generator of its own: the blocks are read beside those that are taken.
        np.random.default_rng(order.integers(1 << 62)).shuffle(groups)
        for file, chosen in groupby(groups, key=lambda group: group[0]):
            numbers = [number for _, number in chosen]
            with pq.ParquetFile(file) as opened:
                for batch in opened.iter_batches(
                    _BLOCK_ROWS, row_groups=numbers, columns=self._columns
                ):
                    yield self._made(pa.Table.from_batches([batch]))

    def _made(self, table: pa.Table) -> _Rows:
        return _rows(table, self.features, self.label)

    @property
    def _columns(self) -> list[str]:
        return [*self.features, *([] if self.label is None else [self.label])]

    def _tensors(self, torch: Any, rows: _Rows) -> Any:
        inputs = torch.from_numpy(rows.matrix)
        return inputs if rows.labels is None else (inputs, torch.from_numpy(rows.labels))


def _cut(blocks: Iterable[_Block], batch_rows: int) -> Iterator[_Rows]:
    """Yield the rows of blocks in batches, copied; all but the last have the same size."""
    held: list[_Rows] = []
    count = 0
    for block, order in blocks:
        start = 0
        while start < len(block):
            stop = min(len(block), start + batch_rows - count)
            held.append(block.taken(start, stop, order))
            count += stop - start
            start = stop
            if count == batch_rows:
                yield _Rows.of(held)
                held, count = [], 0
    if held:
        yield _Rows.of(held)


def _rows(table: pa.Table, features: Sequence[str], label: str | None) -> _Rows:
    """Return features as a matrix of shape (rows, features), each row in one piece."""
    matrix = np.empty((len(table), len(features)), np.float32)
    columns = [_floats(table[name]) for name in features]
    # Part by part: one fits into the processor's cache.
    for start in range(0, len(table), _PART_ROWS):
        part = matrix[start : start + _PART_ROWS]
        for place, column in enumerate(columns):
            part[:, place] = column[start : start + _PART_ROWS]
    labels = None if label is None else _floats(table[label]).astype(np.float32, copy=False)
    return _Rows(matrix, labels)


def to_torch(
    dataset: featurestore.Dataset | featurestore.WrittenDataset | str | Path | object,
    features: Sequence[str] = (),
    label: str | None = None,
    *,
    batch_rows: int = 1024,
    seed: int | None = None,
) -> TorchBatches:
    """Give a dataset to torch: an `IterableDataset` of batches, in the dataset's order.

    A batch is a float32 tensor of shape (rows, features), and with a label the pair of that and
    a float32 tensor of shape (rows,). Nulls are NaN, booleans 0 and 1. Numbers beyond what
    float32 holds exactly are rounded. A file is read in blocks of 131,072 rows, the next one
    while a block is taken; of a table in memory a float32 copy is kept.

    Args:
        dataset: of the feature store, in memory or written; a dataset file; or an Arrow table.
        features: the input columns, which are numbers; none: all features of the dataset.
        label: a column of numbers without nulls; None: no label.
        batch_rows: of a batch; the last may have fewer.
        seed: shuffles, differently in each iteration: rows in memory as a whole, those of a
            file by row groups and within blocks. None: in order.

    Raises:
        InvalidData: a column is missing or no number, or a label is null.
        LibraryMissing: torch is not installed.
    """
    if _Base is object:
        raise LibraryMissing(
            "to_torch needs torch: pip install 'featureline[training]'",
            library="torch",
            extra="training",
        )
    if batch_rows < 1:
        raise InvalidData(f"batch_rows: expected 1 or more, got {batch_rows}")
    source = _source(dataset)
    schema = source.schema if isinstance(source, pa.Table) else _schema(source)
    chosen = tuple(features) or _features(schema, label)
    if not chosen:
        raise InvalidData("the dataset has no feature column beside the label; name some")
    for name in (*chosen, *([] if label is None else [label])):
        if name not in schema.names:
            raise InvalidData(
                f"column {name!r} is missing{nearest(name, schema.names)}; the data has "
                f"{', '.join(schema.names)}",
                column=name,
            )
        if not is_number(schema.field(name).type):
            raise InvalidData(
                f"column {name!r} is {schema.field(name).type}, and a tensor holds numbers: leave "
                f"it out, or encode it with training.Inputs",
                column=name,
            )
    if label is not None and (nulls := _nulls(source, label)):
        raise InvalidData(
            f"label column {label!r} has {nulls} missing values; leave those rows out", column=label
        )
    return TorchBatches(source, chosen, label, batch_rows, seed)


def to_quantile_dmatrix(
    dataset: featurestore.Dataset | featurestore.WrittenDataset | str | Path | object,
    features: Sequence[str] = (),
    label: str | None = None,
    **options: Any,
) -> Any:
    """Give a dataset to XGBoost: a `QuantileDMatrix` made from the Arrow columns.

    Text columns become categories, nulls missing values; keys and times are no inputs unless
    they are named.

    Args:
        dataset: as `to_torch` takes it.
        features: the input columns; none: all features of the dataset.
        label: a column of finite numbers; None: no label.
        options: more arguments of `xgboost.QuantileDMatrix`, such as `max_bin` or `ref`.

    Raises:
        InvalidData: a column is missing or of the wrong type, or a label is null.
        LibraryMissing: XGBoost is not installed.
    """
    try:
        import xgboost
    except ModuleNotFoundError:
        raise LibraryMissing(
            "to_quantile_dmatrix needs xgboost: pip install 'featureline[training]'",
            library="xgboost",
            extra="training",
        ) from None
    source = _source(dataset)
    table = source if isinstance(source, pa.Table) else _read(source)
    chosen = tuple(features) or _features(table.schema, label, numbers=False)
    if label is None:
        inputs = Inputs.of(table.select(chosen))
        return xgboost.QuantileDMatrix(inputs.encode(table), enable_categorical=True, **options)
    data = Dataset.of(table, label=label, features=chosen)
    return xgboost.QuantileDMatrix(
        data.features, label=data.target, enable_categorical=True, **options
    )


def _source(dataset: object) -> pa.Table | Path:
    if isinstance(dataset, featurestore.WrittenDataset):
        return dataset.path
    if isinstance(dataset, featurestore.Dataset):
        manifest = json.dumps(dict(dataset.manifest))
        return dataset.table.replace_schema_metadata({METADATA_KEY: manifest})
    if isinstance(dataset, str | Path):
        if not Path(dataset).exists():
            raise InvalidData(f"{dataset}: no such file", path=str(dataset))
        return Path(dataset)
    return as_table(dataset)


def _read(source: Path) -> pa.Table:
    return parted.read(source) if source.is_dir() else pq.read_table(source)


def _schema(source: Path) -> pa.Schema:
    return parted.schema_of(source) if source.is_dir() else pq.read_schema(source)


def _files(source: Path) -> list[Path]:
    """Return the files of a dataset: of a folder, as Spark writes it, its parts in order."""
    return parted.parts_of(source) if source.is_dir() else [source]


def _features(schema: pa.Schema, label: str | None, *, numbers: bool = True) -> tuple[str, ...]:
    """Return the columns that are inputs by themselves: the features of the groups."""
    manifest = manifest_of(schema)
    names: Sequence[str] = schema.names
    if manifest is not None:
        names = [name for name, origin in manifest["columns"].items() if origin != "spine"]
    return tuple(
        name
        for name in names
        if name != label and (not numbers or is_number(schema.field(name).type))
    )


def _floats(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Return numbers as doubles, or as floats where they are; nulls are NaN."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    if not pa.types.is_float32(column.type):
        # Numbers of any width as doubles, which float32 then rounds.
        column = column.cast(pa.float64(), safe=False)
    values: npt.NDArray[Any] = column.to_numpy()
    return values


def _nulls(source: pa.Table | Path, label: str) -> int:
    if isinstance(source, pa.Table):
        return int(source[label].null_count)
    batches = parted.batches(_files(source), _schema(source), _BATCH_ROWS, [label])
    return sum(batch.column(0).null_count for batch in batches)
