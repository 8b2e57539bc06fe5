"""The load generator: unary gRPC calls, so many in flight, for so long."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, final

import numpy as np

from tests.benchmarks.child import ROOT, module_command

__all__ = ["WARM_UP_S", "Load", "Requests", "Sample"]

WARM_UP_S: Final = 0.2


@final
@dataclass(frozen=True, slots=True)
class Sample:
    """What one run of calls gave.

    Args:
        per_second: calls.
        p50_ms: the time that half of the calls took at most.
        p99_ms: the time that all but one in a hundred took at most.
        p999_ms: the time that all but one in a thousand took at most.
    """

    per_second: float
    p50_ms: float
    p99_ms: float
    p999_ms: float

    @classmethod
    def of(cls, milliseconds: Sequence[float], seconds: float) -> Self:
        """Sum up the calls of a stretch of time."""
        if not len(milliseconds):
            raise RuntimeError(f"no call came to its end within {seconds} s")
        p50, p99, p999 = np.percentile(np.asarray(milliseconds), [50, 99, 99.9])
        return cls(len(milliseconds) / seconds, float(p50), float(p99), float(p999))


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


@final
class Load:
    """Makes calls from a process of its own, see `load_process`; a context manager.

    It sends all requests in turn: a server that is asked for one record over and over has it in
    its caches, and a store that is given one record over and over writes one page.
    """

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

    def run(
        self, requests: Requests, *, in_flight: int, seconds: float, connections: int = 1
    ) -> Sample:
        """Call for so long after a short warm-up, with so many calls under way at any time.

        Args:
            requests: what to call.
            in_flight: calls under way, on all connections together.
            seconds: how long.
            connections: what they are spread over; processes on one port share connections out.
        """
        order = {
            "address": requests.address,
            "method": requests.method,
            "messages": str(self._file(requests)),
            "in_flight": in_flight,
            "connections": connections,
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
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _file(self, requests: Requests) -> Path:
        key = requests.address + requests.method
        if key not in self._files:
            path = self._work / f"requests-{len(self._files)}"
            path.write_text("\n".join(message.hex() for message in requests.messages))
            self._files[key] = path
        return self._files[key]
