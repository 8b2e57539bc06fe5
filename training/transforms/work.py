"""A transform job's own process: `python -m training.transforms.work FOLDER EVENTS`.

The same talk with the runner as `training.jobs.main` has: two lines on standard input, then it
stays open and its end means that the runner is gone. Each of `processes` workers has the model
loaded and answers one request at a time; with one process there is no other than this.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, final

import pyarrow as pa

from training.errors import InvalidData, TrainingError
from training.formats import ContentType
from training.formats.inference import Accept
from training.formats.text import to_json
from training.jobs.events import EventSink
from training.jobs.folder import JobFolder
from training.jobs.launch import install_requirements
from training.transforms.answering import Responder, inference_settings, open_responder
from training.transforms.cutting import Request, requests_of
from training.transforms.deadline import TookTooLong, at_most
from training.transforms.job import ModelClientConfig, TransformJob
from training.transforms.joining import Joiner
from training.transforms.journal import ANSWERS, Journal, Part
from training.transforms.serving import CODE

__all__ = ["AT", "Asked", "main"]

AT: Final = "at"
"""The file that tells which request the process is at, in the same folder."""
_ORPHANED: Final = 70
_NO_REQUIREMENTS: Final = 71
_GO: Final = "go"
_TELL_S: Final = 0.5
_NOTE_S: Final = 2.0
_AHEAD: Final = 2


@final
@dataclass(frozen=True)
class Asked:
    """How the requests of one content type are asked and answered.

    Attributes:
        content_type: of the requests.
        accept: what the answers are.
        joiner: filters and join.
        is_text: whether a record is a line.
        as_lines: whether the joined records are kept as lines of JSON, for a feature group.
        client: how long and how often a responder is asked whose answers may differ.
    """

    content_type: str
    accept: Accept
    joiner: Joiner
    is_text: bool
    as_lines: bool
    client: ModelClientConfig = field(default_factory=ModelClientConfig)

    @classmethod
    def of(cls, job: TransformJob, content_type: str) -> Asked:
        """Return how a job asks for the answers of files of a content type."""
        kind, accept = job.request_type(content_type), job.accept_of(content_type, any_type=True)
        base, where = ContentType.parse(kind).base, job.transform_output
        return cls(
            content_type=kind,
            accept=accept,
            joiner=Joiner(
                job.data_processing,
                base,
                accept.content_type,
                ends_lines=where.assemble_with == "Line",
                joins=where.feature_group is not None,
            ),
            is_text=job.cut_of(content_type)[0] == "Line",
            as_lines=where.feature_group is not None,
            client=job.model_client_config,
        )

    def answer(self, responder: Responder, request: Request) -> bytes:
        """Answer a request; return what is written of it.

        Raises:
            InvalidData: it cannot be answered; the message has the first record that cannot.
        """
        left = self.client.max_retries if responder.may_differ else 0
        while True:
            try:
                return self._answer(responder, request)
            except TookTooLong as error:
                if not left:
                    raise InvalidData(f"{request.named}: {error.message}") from error
                print(f"{request.named}: {error.message}; asked again", file=sys.stderr)
            except Exception as error:
                # A library may refuse the data in words of its own.
                if not isinstance(error, TrainingError):
                    traceback.print_exc()
                if not left:
                    raise self._refused(responder, request, error) from error
                print(f"{request.named}: {_worded(error)}; asked again", file=sys.stderr)
            left -= 1

    def _refused(self, responder: Responder, request: Request, error: Exception) -> InvalidData:
        """Return the error with the first record that is refused."""
        culprit, told = self._first_refused(responder, request, error)
        return InvalidData(f"{culprit.named}: {_worded(told)}")

    def _answer(self, responder: Responder, request: Request) -> bytes:
        sent = Request(request.first, tuple(map(self.joiner.ask, request.records)))
        body = sent.body(lines=self.is_text)
        with at_most(self.client.timeout_seconds if responder.may_differ else None):
            reply = responder.answer(body, self.content_type, self.accept)
        if not self.as_lines:
            return self.joiner.output(request.records, reply)
        joined = self.joiner.answers(request.records, reply)
        return b"".join(to_json(value) + b"\n" for value in joined)

    def _first_refused(
        self, responder: Responder, request: Request, error: Exception
    ) -> tuple[Request, Exception]:
        """Halve a request until what is refused is one record, or no half is refused alone."""
        while len(request.records) > 1:
            middle = len(request.records) // 2
            for half in (request.part(0, middle), request.part(middle, len(request.records))):
                try:
                    self._answer(responder, half)
                except Exception as found:  # noqa: BLE001 - the same as above
                    request, error = half, found
                    break
            else:
                break
        return request, error


@final
class _Crew:
    """Answers requests, several at once, and gives the answers in order.

    Args:
        model: the folder of the model.
        job: what is asked for.
        at: a file that tells which request this process is at.
    """

    def __init__(self, model: Path, job: TransformJob, at: Path) -> None:
        self._size = job.processes
        self._pool: ProcessPoolExecutor | None = None
        # What this process is at, should it be killed: a line is a few microseconds.
        self._at = os.open(at, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        if self._size == 1:
            _load(str(model), job.to_json())
            return
        self._pool = ProcessPoolExecutor(
            self._size,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_load,
            initargs=(str(model), job.to_json()),
        )
        # All of them load the model now, and one that cannot says why.
        first = [self._pool.submit(_why_not_loaded) for _ in range(self._size)]
        for future in first:
            why = future.result()
            if why is not None:
                raise why

    def answers(
        self, requests: Iterator[tuple[_File, Request | None]]
    ) -> Iterator[tuple[_File, Request | None, bytes]]:
        """Yield each request with what is written of it, in their order.

        Raises:
            InvalidData: a request cannot be cut or answered; the message has file and record.
        """
        waiting: deque[tuple[_File, Request | None, Future[bytes] | None]] = deque()
        for file, request in requests:
            if self._pool is None:
                yield file, request, b"" if request is None else self._named(file, request)
                continue
            future = None
            if request is not None:
                future = self._pool.submit(_answer, file.content_type, request)
            waiting.append((file, request, future))
            if len(waiting) > self._size * _AHEAD:
                yield self._next(waiting)
        while waiting:
            yield self._next(waiting)

    def close(self) -> None:
        """Let the workers go."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _next(
        self, waiting: deque[tuple[_File, Request | None, Future[bytes] | None]]
    ) -> tuple[_File, Request | None, bytes]:
        file, request, future = waiting.popleft()
        try:
            return file, request, b"" if future is None else future.result()
        except BrokenProcessPool as error:
            assert request is not None
            raise InvalidData(
                f"{file.name}, {request.named}, or one asked at the same time: the process that "
                "answered ended at once; the usual cause is that memory ran out: use a smaller "
                "MaxPayloadInMB or fewer MaxConcurrentTransforms"
            ) from error
        except TrainingError as error:
            raise InvalidData(f"{file.name}, {error.message}") from error

    def _named(self, file: _File, request: Request) -> bytes:
        os.pwrite(self._at, f"{file.name}, {request.named}\n".encode(), 0)
        try:
            return _answer(file.content_type, request)
        except TrainingError as error:
            raise InvalidData(f"{file.name}, {error.message}") from error


@final
@dataclass(frozen=True)
class _File:
    """One input file.

    Attributes:
        path: where it is.
        name: what it is called in answers and errors.
        content_type: of the file.
        done: what is answered of it already.
    """

    path: Path
    name: str
    content_type: str
    done: Part

    def requests(self, job: TransformJob) -> Iterator[Request]:
        """Cut what is not answered of it into requests."""
        split, strategy = job.cut_of(self.content_type)
        try:
            cut = requests_of(
                self.path,
                base=ContentType.parse(self.content_type).base,
                split=split,
                single=strategy == "SingleRecord",
                compressed=job.transform_input.compression == "Gzip",
                most_bytes=job.max_payload_bytes,
            )
            yield from islice(cut, self.done.requests, None)
        except TrainingError as error:
            raise InvalidData(f"{self.name}: {error.message}", path=str(self.path)) from error


def main(arguments: Sequence[str]) -> int:
    """Do one job; return the exit status."""
    folder = JobFolder(Path(arguments[0]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with os.fdopen(int(arguments[1]), "w", encoding="utf-8") as stream:
        sink = EventSink(stream)
        try:
            order = json.loads(sys.stdin.readline())
            if sys.stdin.readline().strip() != _GO:
                return 0
            threading.Thread(target=_watch_runner, daemon=True).start()
            return _work(order, folder, sink)
        except TrainingError as error:
            _fail(folder, error.message)
            return 1
        except Exception as error:  # noqa: BLE001 - the process's outermost loop
            traceback.print_exc()
            _fail(folder, _named(error))
            return 1


def _work(order: dict[str, Any], folder: JobFolder, sink: EventSink) -> int:
    job = TransformJob.from_json(order["job"])
    pa.set_cpu_count(int(order["threads"]))
    model = Path(order["model"])
    if (model / CODE / "requirements.txt").is_file() and not _with_requirements(folder, model):
        return _NO_REQUIREMENTS
    crew = _Crew(model, job, folder.output / AT)
    sink.send("ready", order["device"])
    files = [
        _File(Path(path), name, kind, Part(**done)) for path, name, kind, done in order["files"]
    ]

    def requests() -> Iterator[tuple[_File, Request | None]]:
        for file in files:
            for request in file.requests(job):
                yield file, request
            yield file, None

    out = folder.output / ANSWERS
    count, told = int(order["records"]), time.monotonic()
    noted = told
    with ExitStack() as opened:
        opened.callback(crew.close)
        journal = opened.enter_context(Journal(folder.output))
        writing: IO[bytes] | None = None
        for file, request, answer in crew.answers(requests()):
            if writing is None:
                part = file.done
                writing = _opened(out / f"{file.name}.out", opened, size=part.size_bytes)
            writing.write(answer)
            if request is None:
                _note(journal, writing, replace(part, is_whole=True))
                writing.close()
                writing = None
                sink.send("file", file.name, count)
                continue
            count += len(request.records)
            part = replace(
                part,
                requests=part.requests + 1,
                records=part.records + len(request.records),
                size_bytes=part.size_bytes + len(answer),
            )
            if time.monotonic() > noted + _NOTE_S:
                _note(journal, writing, part)
                noted = time.monotonic()
            if time.monotonic() > told + _TELL_S:
                told = time.monotonic()
                sink.send("progress", count, 0)
    sink.send("sealed", count)
    return 0


def _opened(path: Path, opened: ExitStack, *, size: int) -> IO[bytes]:
    """Open a file of answers behind those that are there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("r+b" if size else "wb")
    opened.callback(file.close)
    file.seek(size)
    file.truncate()
    return file


def _note(journal: Journal, answers: IO[bytes], part: Part) -> None:
    answers.flush()
    os.fsync(answers.fileno())
    journal.note(part)


# -- in a worker ------------------------------------------------------------------------------

_LOADED: dict[str, Responder] = {}
_JOB: list[TransformJob] = []
_WHY_NOT: list[TrainingError] = []


def _load(model: str, job: dict[str, Any]) -> None:
    """Load the model; in a worker of a pool an error waits until it is asked for."""
    is_worker = multiprocessing.parent_process() is not None
    if is_worker:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    _JOB.append(TransformJob.from_json(job))
    try:
        _LOADED["model"] = open_responder(Path(model), inference_settings())
    except Exception as error:
        if not is_worker:
            raise
        why = error if isinstance(error, TrainingError) else InvalidData(_named(error))
        _WHY_NOT.append(why)


def _why_not_loaded() -> TrainingError | None:
    return _WHY_NOT[0] if _WHY_NOT else None


def _answer(content_type: str, request: Request) -> bytes:
    return _asked(content_type).answer(_LOADED["model"], request)


@lru_cache
def _asked(content_type: str) -> Asked:
    return Asked.of(_JOB[0], content_type)


# -- beginning and end ------------------------------------------------------------------------


def _with_requirements(folder: JobFolder, model: Path) -> bool:
    """Install what the model's code needs, for this process and its workers."""
    site = install_requirements(folder.root, model / CODE)
    if site is None:
        return False
    sys.path.append(str(site))
    return True


def _watch_runner() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    # Nobody would take the answers. The workers are in this process's group.
    os.killpg(0, signal.SIGKILL)
    os._exit(_ORPHANED)


def _worded(error: Exception) -> str:
    return error.message if isinstance(error, TrainingError) else _named(error)


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _fail(folder: JobFolder, text: str) -> None:
    print(text, file=sys.stderr, flush=True)
    folder.output.mkdir(parents=True, exist_ok=True)
    (folder.output / "failure").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    # The classes that travel to workers are those of the module, not of `__main__`.
    from training.transforms import work

    status = work.main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
