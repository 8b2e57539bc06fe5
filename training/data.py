"""Channels become datasets: files are read, the label is set apart, the inputs are encoded.

Arrow all the way: a column of a Parquet file reaches the algorithm as the buffer it was read into.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet

from training.errors import InvalidData
from training.formats import ContentType, content_type_of, files_of, read_source
from training.formats.column import ROLE_KEY
from training.formats.joined import Joined, join
from training.formats.packed import Source
from training.inputs import Inputs, Kind
from training.labelling import (
    input_names,
    label_columns,
    label_name,
    labels_of,
    queries_of,
    roles_of,
    weights_of,
)
from training.matrix import Missing, dense, sparse

__all__ = [
    "METADATA_KEY",
    "Dataset",
    "Labels",
    "as_table",
    "kind_of",
    "manifest_of",
    "read_dataset",
    "read_sources",
    "read_table",
]

Labels = Literal["required", "optional", "none"]

METADATA_KEY = b"featureline.dataset"
"""Where a dataset file keeps its manifest in the schema's metadata."""


@final
@dataclass(frozen=True, eq=False)
class Dataset:
    """What a fit reads: encoded inputs, and the label as numbers.

    Args:
        features: n rows of the input columns, encoded by `inputs`.
        target: n labels as float64; None for unlabelled data.
        inputs: how the features were encoded.
        label: the label's column name.
        channel: what errors call this dataset.
        weights: what each row counts; None: all the same.
        groups: the query of each row, as whole numbers, for rankings; None: there are none.
        upper: where labels are intervals, their upper ends, of which `target` has the lower ones;
            infinite where open. None: labels are numbers.
    """

    features: pa.Table
    target: npt.NDArray[np.float64] | None
    inputs: Inputs
    label: str = "label"
    channel: str = "train"
    weights: npt.NDArray[np.float64] | None = None
    groups: npt.NDArray[np.int64] | None = None
    upper: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.features)

    @property
    def width(self) -> int:
        """How many columns its matrix has."""
        return self.inputs.width

    def matrix(
        self, dtype: npt.DTypeLike = np.float32, *, missing: Missing = "refuse"
    ) -> npt.NDArray[Any]:
        """Return the inputs as an array (n, `width`), row-major; see `training.matrix.dense`."""
        return dense(self.features, self.inputs, dtype=dtype, channel=self.channel, missing=missing)

    def csr(self, dtype: npt.DTypeLike = np.float32) -> Any:
        """Return the inputs as a CSR matrix (n, `width`); see `training.matrix.sparse`."""
        return sparse(self.features, self.inputs, dtype=dtype, channel=self.channel)

    def labels(self) -> npt.NDArray[np.float64]:
        """Return the labels.

        Raises:
            InvalidData: there are none.
        """
        if self.target is None:
            raise InvalidData(f"{self.channel}: there is no label", channel=self.channel)
        return self.target

    def take(self, rows: npt.NDArray[np.integer[Any]], *, channel: str | None = None) -> Dataset:
        """Return the rows of these numbers, in that order, as a dataset of its own."""
        return replace(
            self,
            features=self.features.take(pa.array(rows)),
            target=None if self.target is None else self.target[rows],
            weights=None if self.weights is None else self.weights[rows],
            groups=None if self.groups is None else self.groups[rows],
            upper=None if self.upper is None else self.upper[rows],
            channel=channel or self.channel,
        )

    @classmethod
    def joined(cls, parts: Sequence[Dataset]) -> Dataset:
        """Put datasets that are encoded alike one after another."""
        first = parts[0]
        if len(parts) == 1:
            return first

        def together(name: str) -> Any:
            held = [getattr(part, name) for part in parts]
            return None if held[0] is None else np.concatenate(held)

        return replace(
            first,
            features=pa.concat_tables([part.features for part in parts]),
            target=together("target"),
            weights=together("weights"),
            groups=together("groups"),
            upper=together("upper"),
        )

    def head(self, rows: int) -> Dataset:
        """Return the first rows, at most as many as asked for."""
        return self if len(self) <= rows else self.take(np.arange(rows))

    @classmethod
    def of(
        cls,
        data: object,
        *,
        label: str | None = None,
        features: Sequence[str] = (),
        exclude: Sequence[str] = (),
        inputs: Inputs | None = None,
        channel: str = "train",
        labels: Labels = "required",
        text: Kind = "category",
        intervals: bool = False,
        beside: Mapping[str, str] | None = None,
    ) -> Dataset:
        """Take a table apart into inputs and label.

        The label is the column named, else the one called `label`, else the first; where labels
        are `optional` the first column is none, and where there are `none` no column is. It must
        be finite numbers or booleans without nulls. An interval is a vector of two numbers, or
        two columns with `+` between their names. Dataset files name their key and time columns
        in their metadata; those are no inputs unless `features` says so.

        Args:
            data: n rows, as anything that offers the Arrow C stream.
            label: the column to predict.
            features: the input columns; none: all that are left.
            exclude: columns that are no inputs.
            inputs: those of the training data, to encode validation data the same way.
            channel: what to call the data in errors.
            labels: whether there must be a label, may be one, or is none.
            text: what columns of words are: a `category`, or `text` to keep the words.
            intervals: whether labels may be intervals.
            beside: columns that are no inputs, by what they are: `weight` of a row, or `qid`, the
                query it belongs to. A column that the format marks as such goes before.

        Raises:
            InvalidData: a column is missing or of the wrong type, a label is null or no number, or
                there are no rows.

        >>> data = Dataset.of(pa.table({"late": [0, 1], "wind": [3.5, None]}), label="late")
        >>> data.target.tolist(), data.features.column_names
        ([0.0, 1.0], ['wind'])
        """
        table = as_table(data)
        if not len(table):
            raise InvalidData(f"{channel}: there are no rows", channel=channel)
        duplicates = {n for n in table.column_names if table.column_names.count(n) > 1}
        if duplicates:
            name = min(duplicates)
            raise InvalidData(
                f"{channel}: two columns are called {name!r}", channel=channel, column=name
            )
        manifest = manifest_of(table.schema) or {}
        hidden = {*exclude, *manifest.get("keys", ())}
        if manifest.get("time"):
            hidden.add(manifest["time"])
        # What formats carry beside inputs and label: weights, query ids, a record's own name.
        roles = roles_of(table.schema, beside or {})
        hidden |= {field.name for field in table.schema if ROLE_KEY in (field.metadata or {})}
        hidden |= set(roles.values())
        if labels == "none" and label is not None:
            raise InvalidData(
                f"{channel}: this algorithm takes no label, got label={label!r}; name the input "
                "columns with features=",
                channel=channel,
                column=label,
            )
        is_labelled = labels == "required" or label is not None or "label" in table.column_names
        if labels == "none" or not is_labelled:
            name, target, upper = "", None, None
        else:
            name = label_name(table.column_names, label, hidden, channel, intervals=intervals)
            target, upper = labels_of(table, name, channel, intervals=intervals)
        if inputs is None:
            ends = label_columns(table.column_names, name)
            names = input_names(table.column_names, ends, hidden, features, channel)
            inputs = Inputs.of(table.select(names), channel=channel, text=text)
        return cls(
            features=inputs.encode(table, channel=channel),
            target=target,
            inputs=inputs,
            label=name,
            channel=channel,
            weights=weights_of(table, roles, channel),
            groups=queries_of(table, roles, channel),
            upper=upper,
        )


def read_dataset(
    path: Path,
    *,
    channel: str,
    content_type: str | None = None,
    label: str | None = None,
    features: Sequence[str] = (),
    inputs: Inputs | None = None,
    labels: Labels = "required",
    text: Kind = "category",
    reading: Mapping[str, Mapping[str, str]] | None = None,
    intervals: bool = False,
    beside: Mapping[str, str] | None = None,
) -> Dataset:
    """Read a channel's file or folder as a dataset; see `Dataset.of` for label and inputs.

    `reading` has further parameters by content type, as `Algorithm.reading` returns them.

    Raises:
        InvalidData: it is not there, cannot be read, or does not fit.
    """
    joined = _joined(
        path, channel=channel, content_type=content_type, reading=reading, labels=labels
    )
    try:
        return Dataset.of(
            joined.table,
            label=label,
            features=features,
            inputs=inputs,
            channel=channel,
            labels=labels,
            text=text,
            intervals=intervals,
            beside=beside,
        )
    except InvalidData as error:
        raise joined.located(error) from None


def read_table(
    path: Path,
    *,
    channel: str,
    content_type: str | None = None,
    reading: Mapping[str, Mapping[str, str]] | None = None,
    labels: Labels = "required",
) -> pa.Table:
    """Read a file, or a folder of files of one kind, as one table in the order of the file names.

    Files are put together as `training.formats.joined.join` does it. Where labels are `none`, CSV
    has no label column unless its content type says so.

    Raises:
        InvalidData: nothing is there, it cannot be read, or the files do not fit together.
    """
    return _joined(
        path, channel=channel, content_type=content_type, reading=reading, labels=labels
    ).table


def read_sources(
    sources: Iterable[tuple[str, Source]],
    kind: ContentType,
    *,
    channel: str,
    reading: Mapping[str, Mapping[str, str]] | None = None,
    labels: Labels = "required",
) -> Joined:
    """Read files, or what a pipe brings of them, in the order they are given; see `read_table`.

    Args:
        sources: the name and content of each; the next is asked for when one has been read.
        kind: what they are.
        channel: what errors call them.
        reading: further parameters by content type.
        labels: as of the algorithm.

    Raises:
        InvalidData: one cannot be read, or does not fit those before it.
    """
    kind = _with_parameters(kind, reading, labels)
    tables = [
        (name, read_source(source, kind, name=name, channel=channel)) for name, source in sources
    ]
    return join(tables, kind.base, channel=channel)


def kind_of(
    files: Sequence[Path],
    content_type: str | None,
    *,
    channel: str,
    reading: Mapping[str, Mapping[str, str]] | None = None,
    labels: Labels = "required",
) -> ContentType:
    """Return the content type of a channel's files with all its parameters.

    Raises:
        InvalidData: it cannot be read, or the files' endings do not tell it.
    """
    kind = content_type_of(files, given=content_type, channel=channel)
    return _with_parameters(kind, reading, labels)


def as_table(data: object) -> pa.Table:
    """Take a table in any form: Arrow, or what offers the Arrow C stream (pandas, Polars, DuckDB).

    Raises:
        InvalidData: it is none of these.
    """
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if isinstance(data, pa.RecordBatchReader):
        return data.read_all()
    if hasattr(data, "__arrow_c_stream__"):
        return pa.table(data)
    raise InvalidData(
        f"expected a table as Arrow or something with __arrow_c_stream__, got {type(data).__name__}"
    )


def manifest_of(schema: pa.Schema) -> Mapping[str, Any] | None:
    """Return the dataset manifest that a file's schema carries; None for a plain file."""
    found = (schema.metadata or {}).get(METADATA_KEY)
    return json.loads(found) if found else None


def _joined(
    path: Path,
    *,
    channel: str,
    content_type: str | None,
    reading: Mapping[str, Mapping[str, str]] | None,
    labels: Labels,
) -> Joined:
    files = files_of(path, channel=channel)
    kind = content_type_of(files, given=content_type, channel=channel)
    named = ((file.name, file) for file in files)
    return read_sources(named, kind, channel=channel, reading=reading, labels=labels)


def _with_parameters(
    kind: ContentType, reading: Mapping[str, Mapping[str, str]] | None, labels: Labels
) -> ContentType:
    """Add what the algorithm says of a content type; what the channel says goes before."""
    if labels == "none":
        kind = replace(kind, parameters={"label_size": "0", **kind.parameters})
    if reading and kind.base in reading:
        kind = replace(kind, parameters={**reading[kind.base], **kind.parameters})
    return kind
