"""The command `featureline` and its server as processes of their own, as a user runs them."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from featureline.cli import main

ROOT = Path(__file__).parents[2]
FEATURELINE = [sys.executable, "-m", "featureline"]


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document that is all of stdout."""
        return json.loads(self.out)


class ServerProcess:
    """`featureline serve` over a home.

    Args:
        home: its folder.
        log: where its stderr goes.
        options: more of the command line.
    """

    def __init__(self, home: Path, log: Path, options: Sequence[str] = ()) -> None:
        self.home = home
        self._log = log
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        self.ready: dict[str, Any] = {}

    @property
    def address(self) -> str:
        return str(self.ready["grpc"])

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> ServerProcess:
        """Start it on a free port, and return when it accepts calls."""
        command = [*FEATURELINE, "serve", "--home", str(self.home), "--grpc", "127.0.0.1:0"]
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [*command, *self._options],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self._log.read_text()
        self.ready = json.loads(line)
        return self

    def end(self, number: int) -> tuple[int, str]:
        """Send a signal; return the exit code and what was printed since the ready line."""
        assert self._process is not None
        self._process.send_signal(number)
        rest, _ = self._process.communicate(timeout=30)
        return self._process.returncode, rest

    def log(self) -> str:
        """What it wrote on stderr."""
        return self._log.read_text()

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self.end(signal.SIGKILL)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., ServerProcess]]:
    """Make server processes over homes; not started."""
    made: list[ServerProcess] = []
    logs = tmp_path_factory.mktemp("logs")

    def make(home: Path, *options: str) -> ServerProcess:
        made.append(ServerProcess(home, logs / f"{len(made)}.log", options))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture(scope="session")
def featureline() -> list[str]:
    """The command, by the tests' own interpreter."""
    return FEATURELINE


@pytest.fixture(scope="session")
def run() -> Callable[..., Ended]:
    """Run the command in a process of its own."""

    def made(*arguments: object, text: str = "", cwd: Path = ROOT, **variables: str) -> Ended:
        # The tests' own interpreter runs it, wherever the test stands.
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **variables}
        done = subprocess.run(
            [*FEATURELINE, *map(str, arguments)],
            input=text,
            capture_output=True,
            text=True,
            timeout=120,
            cwd=cwd,
            env=environment,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    return made


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command in a process group of its own; what is left at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def made(*arguments: object, cwd: Path = ROOT) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*FEATURELINE, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
            start_new_session=True,
        )
        started.append(process)
        return process

    yield made
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Ended]]:
    """Run the command inside the test's process: the same, a second sooner."""

    def made(*arguments: object, text: str = "") -> Ended:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["featureline", *map(str, arguments)])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
            with pytest.raises(SystemExit) as ended:
                main()
        captured = capsys.readouterr()
        return Ended(int(ended.value.code or 0), captured.out, captured.err)

    root = logging.getLogger()
    before, level, hooks = root.handlers[:], root.level, (sys.excepthook, threading.excepthook)
    yield made
    # `serve` sets up the logging of its process, which here is the tests'.
    logging.captureWarnings(False)
    root.handlers[:], root.level = before, level
    sys.excepthook, threading.excepthook = hooks
