"""Batch transform: a file answered row by row by a model, as a job that lineage knows."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import lineage
from training.artifact import Artifact
from training.home import Store, home_of
from training.predict import inference_settings, model_folder, predict_file
from training.provenance import model_entity

__all__ = ["transform"]


def transform(
    model: str | Path,
    source: str | Path,
    out: str | Path,
    *,
    home: Store | str | Path | None = None,
    content_type: str | None = None,
    name: str = "",
    on_rows: Callable[[int], object] | None = None,
) -> int:
    """Answer each row of a file, as JSON lines; the job is recorded in the home's lineage.

    The file of the replies appears whole or not at all.

    Args:
        model: a model's folder, a job's name, or a digest.
        source: rows to answer: a file, or a folder of files of one kind.
        out: where the replies go.
        home: see `training.load_model`.
        content_type: None: by the file's ending.
        name: of the transform job; by default made from model and time.
        on_rows: told every 1,000 rows how many are answered.

    Returns:
        how many rows were answered.

    Raises:
        ModelNotFound, ModelAltered, TrainingJobNotFound, InvalidData: see `load_model` and
            `predict_file`.
        RecordingFailed: lineage cannot be written; nothing was answered, or the replies are kept
            and the job fails.
    """
    artifact = Artifact.read(model_folder(model, home=home))
    loaded = artifact.load().served(inference_settings())
    source, out = Path(source), Path(out)
    at = dt.datetime.now(dt.UTC)
    name = name or f"transform-{artifact.digest[:12]}-{at:%Y%m%dT%H%M%S.%fZ}"
    with (
        _graph_of(home) as graph,
        lineage.Recorder(
            graph,
            "TransformJob",
            f"{name}-aws-transform-job",
            parameters={} if content_type is None else {"content_type": content_type},
            properties={
                "job": name,
                "source_type": "SageMakerTransformJob",
                "model": artifact.digest,
            },
        ) as run,
    ):
        run.input(model_entity(artifact))
        run.input(lineage.as_artifact(source))
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_name(f".{out.name}.{os.getpid()}.part")
        rows = 0
        try:
            with part.open("w", encoding="utf-8") as file:
                for reply in predict_file(loaded, source, content_type=content_type):
                    file.write(json.dumps(reply) + "\n")
                    rows += 1
                    if on_rows is not None and rows % 1000 == 0:
                        on_rows(rows)
            part.replace(out)
        finally:
            part.unlink(missing_ok=True)
            # A row that went in has come out, as long as the job goes on.
            run.property("rows_in", rows)
            run.property("rows_out", rows)
        made = run.output(lineage.as_artifact(out))
        run.columns(
            made,
            [
                lineage.ColumnEdge(
                    model_entity(artifact), column["name"], "", "INDIRECT", "TRANSFORMATION"
                )
                for column in artifact.inputs
            ],
        )
    return rows


@contextmanager
def _graph_of(home: Store | str | Path | None) -> Iterator[lineage.Graph]:
    if home is None or isinstance(home, str | Path):
        where = home_of(home or os.environ.get("FEATURELINE_HOME") or ".featureline")
        with lineage.open_home(where) as graph:
            yield graph
    else:
        yield home.graph
