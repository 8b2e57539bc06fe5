"""Load generators: unary gRPC calls, so many in flight on one connection, for so long."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, final

import numpy as np

from featurestore.wire import MAX_MESSAGE_BYTES
from tests.benchmarks.child import ROOT, module_command

__all__ = ["WARM_UP_S", "GrpcLoad", "H2Load", "Load", "Requests", "Sample", "best_load"]

WARM_UP_S: Final = 0.2
_MILLISECOND_US: Final = 1000.0


@final
@dataclass(frozen=True, slots=True)
class Sample:
    """What one run of calls gave.

    Args:
        per_second: calls.
        p50_ms: the time that half of the calls took at most.
        p99_ms: the time that all but one in a hundred took at most.
    """

    per_second: float
    p50_ms: float
    p99_ms: float

    @classmethod
    def of(cls, milliseconds: Sequence[float], seconds: float) -> Self:
        """Sum up the calls of a stretch of time."""
        if not len(milliseconds):
            raise RuntimeError(f"no call came to its end within {seconds} s")
        p50, p99 = np.percentile(np.asarray(milliseconds), [50, 99])
        return cls(len(milliseconds) / seconds, float(p50), float(p99))


@final
@dataclass(frozen=True, slots=True)
class Requests:
    """Calls of one method.

    Args:
        address: of the server.
        method: `/service/method`.
        messages: serialised requests, used in turn.
    """

    address: str
    method: str
    messages: Sequence[bytes]


class Load(ABC):
    """Makes calls from a process of its own; a context manager."""

    name: str

    @abstractmethod
    def run(self, requests: Requests, *, in_flight: int, seconds: float) -> Sample:
        """Call for so long after a short warm-up, with so many calls under way at any time."""

    @abstractmethod
    def close(self) -> None:
        """End the process."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def best_load(work: Path) -> Load:
    """Return h2load where it is installed, else a grpc.aio client.

    h2load takes far less of the machine, but has one request per run and sees no gRPC status: call
    once by another client to see that the request is right.
    """
    program = shutil.which("h2load")
    return H2Load(program, work) if program else GrpcLoad(work)


@final
class GrpcLoad(Load):
    """A grpc.aio client that waits for orders in a process of its own; see `load_process`."""

    name = "grpc.aio client"

    def __init__(self, work: Path) -> None:
        self._work = work
        self._files: dict[str, Path] = {}
        self._process = subprocess.Popen(
            module_command("tests.benchmarks.load_process"),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, requests: Requests, *, in_flight: int, seconds: float) -> Sample:
        order = {
            "address": requests.address,
            "method": requests.method,
            "messages": str(self._file(requests)),
            "in_flight": in_flight,
            "seconds": seconds,
            "warm_up_s": WARM_UP_S,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the load generator ended over {requests.method}; see above")
        reply: dict[str, Any] = json.loads(line)
        return Sample.of(reply["milliseconds"], reply["seconds"])

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _file(self, requests: Requests) -> Path:
        key = requests.address + requests.method
        if key not in self._files:
            path = self._work / f"requests-{len(self._files)}"
            path.write_text("\n".join(message.hex() for message in requests.messages))
            self._files[key] = path
        return self._files[key]


@final
class H2Load(Load):
    """nghttp2's h2load, which sends the first of the requests over and over."""

    name = "h2load"

    def __init__(self, program: str, work: Path) -> None:
        self._program = program
        self._work = work

    def run(self, requests: Requests, *, in_flight: int, seconds: float) -> Sample:
        body, log = self._work / "h2load-body", self._work / "h2load-log"
        message = requests.messages[0]
        # gRPC's frame: not compressed, four bytes of length.
        body.write_bytes(struct.pack(">?I", False, len(message)) + message)
        log.unlink(missing_ok=True)
        done = subprocess.run(
            [
                self._program,
                "--clients=1",
                "--threads=1",
                f"--max-concurrent-streams={in_flight}",
                f"--duration={round(seconds * 1000)}ms",
                f"--warm-up-time={round(WARM_UP_S * 1000)}ms",
                f"--window-bits={(MAX_MESSAGE_BYTES - 1).bit_length()}",
                f"--connection-window-bits={(MAX_MESSAGE_BYTES - 1).bit_length()}",
                f"--data={body}",
                "--header=content-type: application/grpc",
                "--header=te: trailers",
                f"--log-file={log}",
                f"http://{requests.address}{requests.method}",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", done.stdout)
        if done.returncode != 0 or counts is None or set(counts.group(2, 3)) != {"0"}:
            raise RuntimeError(f"h2load could not call {requests.method}:\n{done.stdout}")
        rows = np.loadtxt(log, ndmin=2)
        return Sample.of((rows[:, 2] / _MILLISECOND_US).tolist(), seconds)

    def close(self) -> None:
        """Nothing to end: each run was a process."""
