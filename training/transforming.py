"""Batch transform: a file answered row by row by a model, as a job that lineage knows."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import lineage
from training.artifact import Artifact
from training.errors import InvalidData
from training.formats import content_type_of, files_of
from training.formats.inference import Accept, encode_reply
from training.home import Store, home_of
from training.jobs.script import SCRIPT
from training.predict import answer_file, model_folder
from training.provenance import model_entity
from training.transforms.answering import Responder, inference_settings, open_responder
from training.transforms.cutting import requests_of

__all__ = ["transform"]

_ACCEPT: Final = Accept("application/jsonlines")
_TABLES: Final = ("application/x-parquet", "application/vnd.apache.arrow.file")
_LINED: Final = ("text/csv", "application/jsonlines", *_TABLES)
_REQUEST_BYTES: Final = 6 << 20


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
        on_rows: told now and then how many rows are answered.

    Returns:
        how many rows were answered.

    Raises:
        ModelNotFound, ModelAltered, TrainingJobNotFound, InvalidData: see `load_model` and
            `predict_file`.
        RecordingFailed: lineage cannot be written; nothing was answered, or the replies are kept
            and the job fails.
    """
    artifact = Artifact.read(model_folder(model, home=home))
    source, out = Path(source), Path(out)
    answers = _answers(artifact, source, content_type)
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
            with part.open("wb") as file:
                for lines in answers:
                    file.write(lines)
                    rows += lines.count(b"\n")
                    if on_rows is not None:
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


def _answers(artifact: Artifact, source: Path, content_type: str | None) -> Iterator[bytes]:
    """Load the model now; return what answers, as JSON lines."""
    if artifact.algorithm == SCRIPT:
        responder = open_responder(artifact.path, inference_settings())
        return _asked(responder, source, content_type)
    model = artifact.load().served(inference_settings())
    answers = answer_file(model, source, content_type=content_type)
    return (encode_reply(table, _ACCEPT.content_type) for table in answers)


def _asked(responder: Responder, source: Path, content_type: str | None) -> Iterator[bytes]:
    """Ask a script's model, which takes the bytes of requests."""
    for file in files_of(source, channel=source.name):
        kind = content_type_of([file], given=content_type, channel=file.name)
        split = "Line" if kind.base in _LINED else "None"
        for request in requests_of(
            file,
            base=kind.base,
            split=split,
            single=False,
            compressed=False,
            most_bytes=_REQUEST_BYTES,
        ):
            asked = _ACCEPT.content_type if kind.base in _TABLES else str(kind)
            try:
                reply = responder.answer(request.body(lines=split == "Line"), asked, _ACCEPT)
            except InvalidData as error:
                raise InvalidData(f"{file.name}, {request.named}: {error.message}") from error
            yield reply if not reply or reply.endswith(b"\n") else reply + b"\n"


@contextmanager
def _graph_of(home: Store | str | Path | None) -> Iterator[lineage.Graph]:
    if home is None or isinstance(home, str | Path):
        where = home_of(home or os.environ.get("FEATURELINE_HOME") or ".featureline")
        with lineage.open_home(where) as graph:
            yield graph
    else:
        yield home.graph
