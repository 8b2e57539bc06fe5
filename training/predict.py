"""Loads models, and answers files row by row in the algorithm's reply form."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from training.algorithm import Model
from training.artifact import MANIFEST, ModelStore, open_model
from training.data import read_table
from training.errors import ModelNotFound
from training.formats import ContentType
from training.formats.inference import encode_reply
from training.home import Store, home_of
from training.jobs.registry import TrainingJobs
from training.transforms.answering import inference_settings

__all__ = ["answer_file", "load_model", "model_folder", "predict_file", "replies"]

_BATCH_ROWS: Final = 65_536
_LINES: Final = "application/jsonlines"


def load_model(source: str | Path, *, home: Store | str | Path | None = None) -> Model:
    """Load a model by its folder, or by the name of its job or its digest in a home.

    Args:
        source: a model's folder, a job's name, or a digest.
        home: an embedded feature store or its home folder; default `$FEATURELINE_HOME`, else
            `./.featureline`.

    Raises:
        ModelNotFound: there is none.
        InvalidJob: the environment has a `SAGEMAKER_INFERENCE_*` or `INFERENCE_*` that the model
            cannot follow.
        ModelAltered: its files are not those its digest names.
        TrainingJobNotFound: neither a folder nor a job of this name exists.
    """
    return open_model(model_folder(source, home=home)).served(inference_settings())


def model_folder(
    source: str | Path, *, home: Store | str | Path | None = None, scripts: bool = True
) -> Path:
    """Return the folder of a model; see `load_model`, and `TrainingJobs` on scripts."""
    if (Path(source) / MANIFEST).is_file():
        return Path(source)
    if isinstance(source, Path):
        raise ModelNotFound(f"{source} holds no model", name=str(source))
    where = home_of(home or os.environ.get("FEATURELINE_HOME") or ".featureline")
    by_digest = ModelStore.of(where).path(source)
    if (by_digest / MANIFEST).is_file():
        return by_digest
    if not where.is_dir():
        raise ModelNotFound(f"{source!r} is no model's folder, and there is no home {where}")
    with TrainingJobs(where, scripts=scripts) as jobs:
        known = jobs.describe(source)
    if known.model_artifacts is None:
        raise ModelNotFound(
            f"training job {source!r} is {known.status.value} and has no model", name=source
        )
    return known.model_artifacts


def predict_file(
    model: Model, path: str | Path, *, content_type: str | None = None
) -> Iterator[dict[str, Any]]:
    """Answer every row of a file or folder, in order: one reply object per row.

    CSV has no label column here; other files may have one, which is not looked at.

    Args:
        model: what answers.
        path: a file, or a folder of files of one kind.
        content_type: None: by ending.

    Raises:
        InvalidData: the file cannot be read, or lacks a column.
    """
    for answers in answer_file(model, path, content_type=content_type):
        yield from map(json.loads, encode_reply(answers, _LINES).splitlines())


def answer_file(
    model: Model, path: str | Path, *, content_type: str | None = None
) -> Iterator[pa.Table]:
    """Answer a file as `predict_file` does, a table of answers for some rows at a time."""
    source = Path(path)
    if content_type is None and source.name.lower().endswith((".csv", ".csv.gz")):
        content_type = "text/csv"
    if content_type is not None and content_type.strip().lower() == "text/csv":
        content_type = "text/csv;label_size=0"
    table = read_table(source, channel=source.name, content_type=content_type)
    if content_type is not None:
        model = model.asked(ContentType.parse(content_type).parameters)
    if content_type is not None and content_type.startswith("text/csv"):
        model.inputs.check_unnamed(table, channel=source.name)
    for start in range(0, len(table), _BATCH_ROWS):
        yield model.predict(table.slice(start, _BATCH_ROWS))


def replies(model: Model, table: Any) -> Iterator[dict[str, Any]]:
    """Answer a table row by row: `{"score": 0.93}`, as SageMaker's algorithms do in JSON Lines.

    Args:
        model: what answers.
        table: a pyarrow Table.

    A value that is no number becomes null, since JSON has no word for it.
    """
    for start in range(0, len(table), _BATCH_ROWS):
        answers = model.predict(table.slice(start, _BATCH_ROWS))
        yield from map(json.loads, encode_reply(answers, _LINES).splitlines())
