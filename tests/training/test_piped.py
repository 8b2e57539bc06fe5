"""Every algorithm that takes a pipe makes the same model of it, bit for bit."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tests.training.case import Case, case_of
from tests.training.channels import bring
from training import Channel
from training.algorithms import find_algorithm, list_algorithms
from training.data import Dataset
from training.errors import InvalidJob
from training.formats import recordio_protobuf
from training.run import Run

KINDS = {"application/x-parquet", "text/csv", "application/x-recordio-protobuf"}


def piped(name: str) -> bool:
    return "Pipe" in find_algorithm(name).channels[0].input_modes


def write(table: pa.Table, kind: str, path: Path, label: str | None) -> None:
    """Write a table as a content type, as far as its columns can be that."""
    if kind == "application/x-parquet":
        pq.write_table(table, path)
        return
    names = [name for name in table.column_names if name != label]
    if kind == "text/csv":
        ordered = table.select([*([label] if label else []), *names])
        pa.csv.write_csv(ordered, path, pa.csv.WriteOptions(include_header=False))
        # As other programs leave it: what ends a line may be missing at the end of a file.
        path.write_bytes(path.read_bytes().rstrip(b"\n"))
        return
    rows = np.column_stack([table[name].cast(pa.float32()).to_numpy() for name in names])
    columns = {"features": pa.FixedSizeListArray.from_arrays(rows.ravel(), rows.shape[1])}
    if label:
        columns["label"] = table[label].cast(pa.float32()).combine_chunks()
    recordio_protobuf.write(pa.table(columns), path)


def saved(case: Case, data: Dataset, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    case.algorithm.fit(data, Run(threads=1)).save(folder)
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.mark.parametrize("name", [name for name in list_algorithms() if piped(name)])
def test_a_pipe_gives_the_model_that_files_give(name: str, tmp_path: Path) -> None:
    for library in find_algorithm(name).libraries:
        pytest.importorskip(library)
    case = case_of(name)
    table = case.train()
    numbers = all(
        pa.types.is_integer(f.type) or pa.types.is_floating(f.type) for f in table.schema
    ) and not any(column.null_count for column in table.columns)
    declared = find_algorithm(name).channels[0]
    kinds = [
        kind
        for kind in declared.content_types
        if kind in KINDS - set(declared.file_only)
        and (kind == "application/x-parquet" or (numbers and (case.label or kind != "text/csv")))
    ]
    read: list[Dataset] = []
    for kind in kinds:
        files = tmp_path / kind.replace("/", "-")
        files.mkdir()
        bounds = itertools.pairwise([0, 130, 131, 300, len(table)])
        for number, (start, end) in enumerate(bounds):
            write(table.slice(start, end - start), kind, files / f"{number}", case.label)
        read = [
            bring(
                tmp_path / f"{files.name}-{mode}",
                Channel(
                    channel_name="train",
                    path=str(files),
                    content_type=kind,
                    label=case.label if kind == "application/x-parquet" else None,
                    input_mode=mode,
                    shuffle_seed=3,
                ),
                algorithm=case.name,
                values=case.values,
            )["train"].dataset
            for mode in ("File", "Pipe")
        ]
        assert read[0].inputs == read[1].inputs
        assert read[0].features.equals(read[1].features)
        np.testing.assert_array_equal(read[0].target, read[1].target)
    # What the formats have in common is shown above; so one of them is enough for the models.
    of_files, of_pipe = (saved(case, data, tmp_path / f"m{n}") for n, data in enumerate(read))
    assert of_files
    assert of_files == of_pipe


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("ipinsights", None, "'train' does not come in input mode Pipe; set input_mode to"),
        ("xgboost", "text/libsvm", "not piped as 'text/libsvm'; set input_mode=File, or"),
        ("lda", "text/csv", "not piped as 'text/csv'; set input_mode=File, or give it as"),
    ],
)
def test_what_is_not_piped_is_refused_by_name(
    name: str, kind: str | None, expected: str, tmp_path: Path
) -> None:
    channel = Channel(channel_name="train", path="x", content_type=kind, input_mode="Pipe")
    with pytest.raises(InvalidJob, match=expected):
        bring(tmp_path, channel, algorithm=name, values=case_of(name).values)
