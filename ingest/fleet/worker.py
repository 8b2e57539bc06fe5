"""One worker of a pipeline: a thread of the fleet's process, or a process of its own.

A process gets its settings as one line of JSON on standard input, where secrets are seen by nobody
else, and tells how far it is in lines of JSON on standard output. It ends after the batch in hand
when a line `stop` comes, and just so when standard input ends: the fleet is gone then.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from typing import IO, Final, final

from featurestore import FeatureStore, FeatureStoreError
from ingest.errors import IngestError, InvalidSettings, MessageRefused, PositionLost
from ingest.fleet.settings import PipelineSettings, StoreSettings
from ingest.pipeline import Look
from lineage import LineageError

__all__ = ["Outcome", "ProcessWorker", "Progress", "ThreadWorker", "Worker", "serve"]

_log = logging.getLogger(__name__)

_EXPECTED: Final = (IngestError, FeatureStoreError, LineageError, OSError, ValueError)
# What a new start meets again: somebody has to decide.
_LASTING: Final = (PositionLost, MessageRefused, InvalidSettings)


@final
@dataclass(frozen=True, slots=True)
class Progress:
    """What a worker has done since it was started, and where it stands.

    Args:
        read, written, refused, skipped, bytes, conflicts: as in `Report`.
        position_name: under which the store keeps the source's positions; "" before the first look.
        positions: partition → where the store stood when the worker last knew, of those that it
            reads or has stored.
        ends: partition → its end, None while it is not known, of those the worker reads.
        times: partition → when the source got the last stored message, µs UTC.
    """

    read: int = 0
    written: int = 0
    refused: int = 0
    skipped: int = 0
    bytes: int = 0
    conflicts: int = 0
    position_name: str = ""
    positions: Mapping[str, int] = field(default_factory=dict)
    ends: Mapping[str, int | None] = field(default_factory=dict)
    times: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, look: Look) -> Progress:
        """Make the progress of a look at a run."""
        report = look.report
        return cls(
            report.read,
            report.written,
            report.refused,
            report.skipped,
            report.bytes,
            report.conflicts,
            look.position_name,
            {
                partition: at
                for partition, at in look.positions.items()
                if partition in look.ends or partition in report.positions
            },
            look.ends,
            report.times,
        )


@final
@dataclass(frozen=True, slots=True)
class Outcome:
    """How a worker ended.

    Args:
        reason: the error; "" when it ended as it should.
        is_lasting: a new start would end the same way.
    """

    reason: str = ""
    is_lasting: bool = False

    @classmethod
    def of(cls, error: BaseException) -> Outcome:
        """Make the outcome of an error."""
        return cls(f"{type(error).__name__}: {error}", isinstance(error, _LASTING))


class Worker(ABC):
    """One run of a pipeline that is under way, or has ended."""

    @property
    @abstractmethod
    def progress(self) -> Progress:
        """What it told last."""

    @property
    @abstractmethod
    def outcome(self) -> Outcome | None:
        """How it ended; None while it runs."""

    @property
    @abstractmethod
    def pid(self) -> int:
        """The process that it runs in."""

    @abstractmethod
    def stop(self) -> None:
        """Let it end after the batch in hand; returns at once."""

    @abstractmethod
    def kill(self) -> None:
        """End it at once where that is possible; the store keeps batches whole."""

    @abstractmethod
    def join(self, timeout_s: float) -> None:
        """Wait until it has ended."""


@final
class ThreadWorker(Worker):
    """Runs a pipeline in a thread of this process."""

    def __init__(self, settings: PipelineSettings, store: FeatureStore) -> None:
        self._settings = settings
        self._store = store
        self._stop = threading.Event()
        self._progress = Progress()
        self._outcome: Outcome | None = None
        self._thread = threading.Thread(
            target=self._run, name=f"ingest {settings.name}", daemon=True
        )
        self._thread.start()

    @property
    def progress(self) -> Progress:
        """See Worker."""
        return self._progress

    @property
    def outcome(self) -> Outcome | None:
        """See Worker."""
        return None if self._thread.is_alive() else self._outcome or Outcome("the thread was lost")

    @property
    def pid(self) -> int:
        """See Worker."""
        return os.getpid()

    def stop(self) -> None:
        """See Worker."""
        self._stop.set()

    def kill(self) -> None:
        """Ask it to stop; a thread cannot be ended from outside."""
        self._stop.set()

    def join(self, timeout_s: float) -> None:
        """See Worker."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        self._outcome = _run(self._settings, self._store, self._stop, self._tell)

    def _tell(self, progress: Progress) -> None:
        self._progress = progress


@final
class ProcessWorker(Worker):
    """Runs a pipeline in a process of its own.

    Args:
        settings: of the pipeline.
        store: which store the process opens.
        command: starts `serve`.
    """

    def __init__(
        self, settings: PipelineSettings, store: StoreSettings, command: Sequence[str]
    ) -> None:
        self._progress = Progress()
        self._told: Outcome | None = None
        self._stopping = False
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,  # Ctrl-C is the fleet's: it says when to stop
        )
        body = {"store": vars(store), "pipeline": settings.to_json()}
        self._say(json.dumps(body))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def progress(self) -> Progress:
        """See Worker."""
        return self._progress

    @property
    def outcome(self) -> Outcome | None:
        """See Worker."""
        code = self._process.poll()
        if code is None or self._reader.is_alive():
            return None
        if self._told is not None:
            return self._told
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return Outcome(f"the process ended by {how}")

    @property
    def pid(self) -> int:
        """See Worker."""
        return self._process.pid

    def stop(self) -> None:
        """See Worker."""
        if not self._stopping:
            self._stopping = True
            self._say("stop")

    def kill(self) -> None:
        """See Worker."""
        self._process.kill()

    def join(self, timeout_s: float) -> None:
        """See Worker."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        if self._process.poll() is not None:
            self._reader.join()
            for pipe in (self._process.stdin, self._process.stdout):
                with suppress(BrokenPipeError):
                    assert pipe is not None
                    pipe.close()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended; its outcome says how
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                body = json.loads(line)
            except ValueError:
                _log.warning("a worker's process printed %r", line)
                continue
            if "outcome" in body:
                self._told = Outcome(**body["outcome"])
            else:
                self._progress = Progress(**body["progress"])


def serve(requests: IO[bytes], replies: IO[bytes]) -> int:
    """Be the process of a worker; return its exit code.

    Args:
        requests: standard input, unbuffered: a thread waits in it until the very end.
        replies: standard output, unbuffered.
    """
    body = json.loads(requests.readline())
    stop = threading.Event()

    def listen() -> None:
        requests.readline()  # `stop`, or the end
        stop.set()

    def tell(kind: str, what: Progress | Outcome) -> None:
        with suppress(BrokenPipeError):  # the fleet is gone: the end of its pipe says so as well
            replies.write((json.dumps({kind: asdict(what)}) + "\n").encode())

    threading.Thread(target=listen, daemon=True).start()
    try:
        with StoreSettings(**body["store"]).open() as store:
            settings = PipelineSettings(**body["pipeline"])
            outcome = _run(settings, store, stop, lambda progress: tell("progress", progress))
    except _EXPECTED as error:
        outcome = Outcome.of(error)
    tell("outcome", outcome)
    return 1 if outcome.reason else 0


def _run(
    settings: PipelineSettings,
    store: FeatureStore,
    stop: threading.Event,
    tell: Callable[[Progress], None],
) -> Outcome:
    """Run a pipeline to its end; whatever goes wrong is its outcome."""
    try:
        with ExitStack() as closed:
            sink = settings.open_sink()
            if sink is not None:
                closed.callback(sink.close)
            settings.build(store, sink).run(
                until_caught_up=settings.until_caught_up,
                stop=stop,
                on_look=lambda look: tell(Progress.of(look)),
            )
    except _EXPECTED as error:
        _log.warning("pipeline %s: %s: %s", settings.name, type(error).__name__, error)
        return Outcome.of(error)
    except Exception as error:  # noqa: BLE001  # the outermost frame of a pipeline among others
        _log.exception("pipeline %s ended by an error that should not be", settings.name)
        return Outcome.of(error)
    return Outcome()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the fleet's
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s", level="WARNING")
    with open(0, "rb", buffering=0) as stdin, open(1, "wb", buffering=0) as stdout:
        sys.exit(serve(stdin, stdout))
