"""What a transform job has answered so far, so that an equal one goes on from there.

The process of a job appends to a journal beside its answers, after the bytes are on the disk: of
which file how many requests are answered, and how long the answers are. A job that does not
complete keeps both. The next one that asks the same of the same model takes over what was answered
of files whose bytes are the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Final, Self, final

from training.transforms.job import TransformJob
from training.transforms.registry import TransformJobs

__all__ = ["ANSWERS", "Journal", "Part", "TakenOver", "begin", "clear", "take_over"]

ANSWERS: Final = "answers"
"""The folder of the answers, below that of the job's output."""
_JOURNAL: Final = "answers.journal"
_INPUTS: Final = "answers.inputs"
_EARLIER_JOBS: Final = 100


@final
@dataclass(frozen=True, kw_only=True)
class Part:
    """How much of one input file is answered.

    Attributes:
        file: its name.
        requests: how many of its requests, from the first.
        records: how many records these hold.
        size_bytes: how long their answers are.
        is_whole: whether these are all.
    """

    file: str
    requests: int = 0
    records: int = 0
    size_bytes: int = 0
    is_whole: bool = False


@final
@dataclass(frozen=True)
class TakenOver:
    """What was answered by earlier jobs.

    Attributes:
        parts: by the name of the input file.
        jobs: the names of these jobs.
    """

    parts: Mapping[str, Part]
    jobs: Sequence[str]


@final
class Journal:
    """Says which answers are on the disk.

    Args:
        output: the job's folder of output.
    """

    def __init__(self, output: Path) -> None:
        self._file: IO[bytes] = (output / _JOURNAL).open("ab")

    def note(self, part: Part) -> None:
        """Say how much of a file is answered; the answers themselves must be on the disk."""
        self._file.write(json.dumps(asdict(part)).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def begin(output: Path, digests: Mapping[str, str]) -> None:
    """Note the input files of a job before any is asked.

    Args:
        output: the job's folder of output.
        digests: of the files, by name.
    """
    (output / _INPUTS).write_text(json.dumps(dict(digests)), encoding="utf-8")


def take_over(
    jobs: TransformJobs, job: TransformJob, model: str, digests: Mapping[str, str]
) -> TakenOver:
    """Move what earlier jobs have answered of the same files into a job's folder.

    Only jobs that have ended without completing, that had the same model, and that asked the same
    are looked at, the last hundred of them. Of each file the longest answers are taken.

    Args:
        jobs: of the home.
        job: that goes on.
        model: the digest of its model.
        digests: of its input files, by name.
    """
    output = jobs.folder(job.transform_job_name).output
    parts: dict[str, Part] = {}
    taken: list[str] = []
    for known in jobs.unfinished(limit=_EARLIER_JOBS):
        name = known.job.transform_job_name
        if known.model_digest != model or _question(known.job) != _question(job):
            continue
        earlier = jobs.folder(name).output
        for part in _read(earlier, digests):
            before = parts.get(part.file)
            if before is not None and before.size_bytes >= part.size_bytes:
                continue
            source, target = _answers(earlier, part), _answers(output, part)
            # Another job may have been faster, or someone has cut the file short.
            with contextlib.suppress(OSError):
                if source.stat().st_size >= part.size_bytes:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    source.replace(target)
                    os.truncate(target, part.size_bytes)
                    parts[part.file] = part
                    taken.append(name)
    with Journal(output) as journal:
        for part in parts.values():
            journal.note(part)
    return TakenOver(parts, list(dict.fromkeys(taken)))


def clear(output: Path, *, is_complete: bool) -> None:
    """Leave nothing of the answers of a job that completed, else those that are in its journal.

    Args:
        output: the job's folder of output.
        is_complete: whether it did.
    """
    parts = {} if is_complete else {_answers(output, part): part for part in _last(output)}
    for file in list((output / ANSWERS).rglob("*")):
        if file.is_file():
            if file in parts:
                os.truncate(file, min(file.stat().st_size, parts[file].size_bytes))
            else:
                file.unlink()
    if not parts:
        shutil.rmtree(output / ANSWERS, ignore_errors=True)
        for left in (_JOURNAL, _INPUTS):
            (output / left).unlink(missing_ok=True)


def _answers(output: Path, part: Part) -> Path:
    return output / ANSWERS / f"{part.file}.out"


def _read(output: Path, digests: Mapping[str, str]) -> list[Part]:
    """Return what a job has answered of files with these digests."""
    try:
        inputs = json.loads((output / _INPUTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []  # It was not asked anything, or the machine went down while it was noted.
    return [
        part for part in _last(output) if digests.get(part.file) == inputs.get(part.file, "none")
    ]


def _last(output: Path) -> list[Part]:
    """Return the last word of a journal on each file."""
    last: dict[str, Part] = {}
    with contextlib.suppress(OSError):
        for line in (output / _JOURNAL).read_bytes().splitlines():
            # The last line may have been cut short.
            with contextlib.suppress(ValueError, TypeError):
                part = Part(**json.loads(line))
                last[part.file] = part
    return [part for part in last.values() if part.requests or part.is_whole]


def _question(job: TransformJob) -> str:
    """Return a digest of what decides on the answers, but for the model and the input's bytes."""
    output = job.transform_output
    plain = replace(
        job,
        transform_job_name="any",
        model_name="any",
        transform_input=replace(job.transform_input, path="any", data_type="S3Prefix")
        if job.transform_input.path is not None
        else replace(job.transform_input, table_version=None),
        transform_output=replace(output, path="any")
        if output.path is not None
        else replace(output, feature_group="any", features={}, event_time=""),
        max_concurrent_transforms=0,
        transform_resources=replace(job.transform_resources, threads=0, memory_mb=0),
        tags={},
    )
    return hashlib.sha256(json.dumps(plain.to_json(), sort_keys=True).encode()).hexdigest()
