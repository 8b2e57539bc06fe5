"""Pipe mode: a channel as FIFOs `<channel>_0`, `<channel>_1` …, one for each epoch."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from training.errors import InvalidData

__all__ = ["Part", "Pipe", "read_parts"]

_LOOK_S: Final = 0.02
_CHUNK: Final = 1 << 18


@final
@dataclass(frozen=True)
class Part:
    """What a pipe sends in one piece: a file, or a line of an augmented manifest.

    Attributes:
        name: of the file, or the number of the line.
        open: opens it to read its bytes.
    """

    name: str
    open: Callable[[], Any]


@final
class Pipe:
    """Feeds one channel of one host, in a thread, until it is closed.

    A reader reads an epoch to its end or closes it early, then opens the next. The next FIFO is
    there before the last one ends; one that was read is gone. What is held in memory is one chunk
    of a file, whatever the reader's pace; all of a file or line where it is wrapped in frames.

    Args:
        target: the channel's path; `_0` and so on is added.
        parts: those of an epoch, in order.
        listing: where `read_parts` learns where each part ends, `_0` and so on added likewise;
            None: the reader does not ask.
    """

    def __init__(
        self,
        target: Path,
        parts: Callable[[int], Iterable[Part]],
        *,
        listing: Path | None = None,
    ) -> None:
        self._target = target
        self._parts = parts
        self._listing = listing
        self._closing = threading.Event()
        self.error: str = ""
        target.parent.mkdir(parents=True, exist_ok=True)
        if listing is not None:
            listing.parent.mkdir(parents=True, exist_ok=True)
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

    def _make(self, epoch: int) -> None:
        if self._listing is not None:
            _of(self._listing, epoch).write_bytes(b"")
        with contextlib.suppress(FileExistsError):
            os.mkfifo(_of(self._target, epoch))

    def _feed(self) -> None:
        epoch = 0
        while (descriptor := self._open(epoch)) is not None:
            self._make(epoch + 1)
            try:
                for part in self._parts(epoch):
                    self._note(epoch, [part.name, self._send(part, descriptor)])
                if not self._closing.is_set():
                    self._note(epoch, None)
            except BrokenPipeError:
                pass  # Closed early: the reader has enough of this epoch.
            except (OSError, EOFError, zlib.error, InvalidData) as error:
                self.error = f"{self._target.name}: {error}"
            finally:
                # Before the end is seen: nobody may open an epoch that is over.
                _of(self._target, epoch).unlink(missing_ok=True)
                os.close(descriptor)
            if self.error or self._closing.is_set():
                return
            epoch += 1

    def _open(self, epoch: int) -> int | None:
        """Wait for a reader; None when the pipe is closed first."""
        while not self._closing.wait(_LOOK_S):
            try:
                descriptor = os.open(
                    _of(self._target, epoch), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
                )
            except OSError as error:
                if error.errno != errno.ENXIO:
                    self.error = f"{self._target.name}: {error}"
                    return None
            else:
                if hasattr(fcntl, "F_SETPIPE_SZ"):
                    with contextlib.suppress(OSError):
                        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _CHUNK)
                return descriptor
        return None

    def _send(self, part: Part, descriptor: int) -> int:
        """Send a part; return how many bytes it has."""
        sent = 0
        with part.open() as source:
            while chunk := source.read(_CHUNK):
                rest = memoryview(chunk)
                while rest:
                    if self._closing.is_set():
                        return sent
                    _, writable, _ = select.select([], [descriptor], [], _LOOK_S)
                    if writable:
                        with contextlib.suppress(BlockingIOError):
                            count = os.write(descriptor, rest)
                            rest, sent = rest[count:], sent + count
        return sent

    def _note(self, epoch: int, line: list[Any] | None) -> None:
        """Tell a reader that asks where a part ends; None: that the epoch is whole."""
        if self._listing is not None:
            with _of(self._listing, epoch).open("a", encoding="utf-8") as notes:
                notes.write(json.dumps(line) + "\n")


def read_parts(target: Path, listing: Path, *, epoch: int = 0) -> Iterator[tuple[str, bytes]]:
    """Read an epoch of a pipe that keeps a listing, part by part.

    What is held in memory is one part, at its end twice, and what the FIFO holds.

    Args:
        target: the channel's path, as the pipe was given it.
        listing: likewise.
        epoch: which, from 0.

    Raises:
        InvalidData: the pipe ended before the epoch was whole.
    """
    held, rest, is_whole = bytearray(), b"", False
    with (
        _of(target, epoch).open("rb", buffering=0) as pipe,
        _of(listing, epoch).open("rb") as notes,
    ):
        while True:
            chunk = pipe.read(_CHUNK)
            held += chunk
            # A part is noted before the next begins, so what came belongs to parts that are noted
            # and to one that is not.
            *lines, rest = (rest + notes.read()).split(b"\n")
            for line in map(json.loads, lines):
                if line is None:
                    is_whole = True
                    continue
                name, size = line
                while len(held) < size and (more := pipe.read(_CHUNK)):
                    held += more
                yield name, bytes(held[:size])
                del held[:size]
            if not chunk:
                break
    if not is_whole or held:
        raise InvalidData(
            f"{target.name}: the pipe ended before epoch {epoch} was whole", channel=target.name
        )


def _of(path: Path, epoch: int) -> Path:
    return path.with_name(f"{path.name}_{epoch}")
