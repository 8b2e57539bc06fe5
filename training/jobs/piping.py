"""Pipe mode: a channel as FIFOs `<channel>_0`, `<channel>_1` …, one for each epoch."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import threading
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, final

from training.jobs.channel import Channel
from training.jobs.delivery import SourceFile, open_source

__all__ = ["Pipe"]

_LOOK_S: Final = 0.02
_CHUNK: Final = 1 << 18


@final
class Pipe:
    """Feeds one channel of one host, in a thread, until it is closed.

    A reader reads an epoch to its end or closes it early, then opens the next. The next FIFO is
    there before the last one ends; one that was read is gone. What is held in memory is one chunk
    of a file, whatever the reader's pace.

    Args:
        target: the channel's path; `_0` and so on is added.
        channel: says whether the files are compressed.
        files: those of an epoch, in order.
    """

    def __init__(
        self, target: Path, channel: Channel, files: Callable[[int], Sequence[SourceFile]]
    ) -> None:
        self._target = target
        self._channel = channel
        self._files = files
        self._closing = threading.Event()
        self.error: str = ""
        target.parent.mkdir(parents=True, exist_ok=True)
        self._make(0)
        self._thread = threading.Thread(target=self._feed, name=f"pipe {target.name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop feeding and remove the FIFOs."""
        self._closing.set()
        self._thread.join()
        for fifo in self._target.parent.glob(f"{self._target.name}_*"):
            if fifo.is_fifo():
                fifo.unlink()

    def _path(self, epoch: int) -> Path:
        return self._target.with_name(f"{self._target.name}_{epoch}")

    def _make(self, epoch: int) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkfifo(self._path(epoch))

    def _feed(self) -> None:
        epoch = 0
        while (descriptor := self._open(epoch)) is not None:
            self._make(epoch + 1)
            try:
                for file in self._files(epoch):
                    self._send(file, descriptor)
            except BrokenPipeError:
                pass  # Closed early: the reader has enough of this epoch.
            except (OSError, EOFError, zlib.error) as error:
                self.error = f"{self._channel.channel_name}: {error}"
            finally:
                # Before the end is seen: nobody may open an epoch that is over.
                self._path(epoch).unlink(missing_ok=True)
                os.close(descriptor)
            if self.error or self._closing.is_set():
                return
            epoch += 1

    def _open(self, epoch: int) -> int | None:
        """Wait for a reader; None when the pipe is closed first."""
        while not self._closing.wait(_LOOK_S):
            try:
                descriptor = os.open(self._path(epoch), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    self.error = f"{self._channel.channel_name}: {error}"
                    return None
            else:
                if hasattr(fcntl, "F_SETPIPE_SZ"):
                    with contextlib.suppress(OSError):
                        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _CHUNK)
                return descriptor
        return None

    def _send(self, file: SourceFile, descriptor: int) -> None:
        with open_source(file, self._channel) as source:
            while chunk := source.read(_CHUNK):
                rest = memoryview(chunk)
                while rest:
                    if self._closing.is_set():
                        return
                    _, writable, _ = select.select([], [descriptor], [], _LOOK_S)
                    if writable:
                        with contextlib.suppress(BlockingIOError):
                            rest = rest[os.write(descriptor, rest) :]
