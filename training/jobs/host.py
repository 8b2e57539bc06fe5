"""One host of a job: its process, the pipe it reports through, its log."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, final

from training.jobs.events import read_event
from training.jobs.folder import JobFolder

__all__ = ["HostProcess"]

logger = logging.getLogger(__name__)


@final
class HostProcess:
    """A process that was started for a host, until `end`.

    Args:
        name: of the host.
        folder: the host's.
        module: what the process starts as: it is given the folder and the pipe.
        variables: its environment.
        inherited: descriptors that it may use too.
    """

    def __init__(
        self,
        name: str,
        folder: JobFolder,
        module: str,
        variables: Mapping[str, str],
        *,
        inherited: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.folder = folder
        self._rest = b""
        receive, send = os.pipe()
        os.set_blocking(receive, False)
        self._events = open(receive, "rb", buffering=0)  # noqa: SIM115 - closed by `end`
        try:
            with folder.log.open("ab") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", module, str(folder.root), str(send)],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=dict(variables),
                    pass_fds=(send, *inherited),
                    # A Ctrl-C in the terminal reaches this process alone, which then decides.
                    start_new_session=True,
                )
        except BaseException:
            self._events.close()
            raise
        finally:
            os.close(send)
        self.is_open = True

    @property
    def number(self) -> int:
        """The number of the process, which leads a session of its own."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        if not hasattr(os, "waitid"):
            return self._process.poll()
        # Not reaped before `end`: until then its number, which is its group's, stays its own.
        seen = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if seen is None:
            return None
        return seen.si_status if seen.si_code == os.CLD_EXITED else -seen.si_status

    def fileno(self) -> int:
        """The descriptor to wait on for reports."""
        return self._events.fileno()

    def tell(self, value: Any) -> None:
        """Write a line to its standard input: text as it is, anything else as JSON."""
        assert self._process.stdin is not None
        line = value if isinstance(value, str) else json.dumps(value)
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            # It died already; its exit status and failure file say why.
            logger.debug("process %s ended before it was told everything", self._process.pid)

    def events(self) -> Iterator[tuple[str, list[Any]]]:
        """Yield what it has reported since the last call; `is_open` says whether more can come."""
        while True:
            data = self._events.read(65536)
            if data is None:
                return
            self.is_open = bool(data)
            *lines, self._rest = (self._rest + data).split(b"\n")
            yield from map(read_event, lines)
            if not data:
                return

    def terminate(self) -> None:
        """Ask it to stop."""
        if self.status is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it and its children; it leads a session of its own."""
        # Children may live on when it has ended; then the group is still theirs.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> int:
        """Leave no process behind; return the exit status."""
        status = self.status
        self.kill()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        killed = self._process.wait()
        self._events.close()
        return killed if status is None else status
