"""Event files that TensorBoard shows, written without TensorFlow.

A file is TFRecords (`training.formats.tfrecord`). Each holds an `Event` of
tensorflow/core/util/event.proto with a `Summary` of tensorflow/core/framework/summary.proto; the
few fields that are used are encoded here.
"""

from __future__ import annotations

import itertools
import math
import os
import struct
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self, final

import numpy as np
import numpy.typing as npt

from training.errors import InvalidData
from training.formats.tfrecord import framed

__all__ = ["EventWriter"]

_VERSION: Final = b"brain.Event:2"
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_GREATEST: Final = 3.4028234663852886e38
_NUMBERS: Final = itertools.count()


@final
class EventWriter:
    """Writes one event file; what is flushed can be shown.

    Args:
        folder: of the run, made when absent; each writer makes a file of its own in it.
        host: who writes, a part of the file's name.

    Attributes:
        path: the file.

    >>> import tempfile
    >>> with EventWriter(Path(tempfile.mkdtemp())) as writer:
    ...     writer.scalar("train/loss", 0.5, step=1)
    >>> writer.path.name.startswith("events.out.tfevents.")
    True
    """

    def __init__(self, folder: Path, *, host: str = "algo-1") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        now = time.time()
        name = f"events.out.tfevents.{int(now):010d}.{host}.{os.getpid()}.{next(_NUMBERS)}"
        self.path = folder / name
        self._file = self.path.open("xb")
        self._write(_double(1, now) + _bytes(3, _VERSION))
        self._file.flush()

    def scalar(self, tag: str, value: float, *, step: int, time_s: float | None = None) -> None:
        """Add a value; the file keeps it as float32.

        Args:
            tag: what it is of; the part before a slash groups it.
            value: of it; one beyond float32 becomes infinite.
            step: of the fit.
            time_s: when, in seconds since 1970; None: now.
        """
        kept = (
            value
            if math.isnan(value) or abs(value) <= _GREATEST
            else math.copysign(math.inf, value)
        )
        self._add(tag, _key(2, 5) + struct.pack("<f", kept), step, time_s)

    def histogram(
        self,
        tag: str,
        values: npt.ArrayLike,
        *,
        step: int,
        bins: int = 30,
        time_s: float | None = None,
    ) -> None:
        """Add how values are spread: counted in equal bins from the least to the greatest.

        Args:
            tag: what they are of.
            values: at least one finite number, of any shape.
            step: of the fit.
            bins: 1 or more.
            time_s: when, in seconds since 1970; None: now.

        Raises:
            InvalidData: there is no value, or one is no finite number.
        """
        numbers = np.asarray(values, np.float64).ravel()
        if not len(numbers) or not np.isfinite(numbers).all():
            raise InvalidData(
                f"histogram {tag!r}: expected one or more finite numbers, got {len(numbers)} of "
                f"which {int(np.isfinite(numbers).sum())} are finite",
                column=tag,
            )
        counts, edges = np.histogram(numbers, bins)
        body = b"".join(
            (
                *(
                    _double(field, float(value))
                    for field, value in (
                        (1, numbers.min()),
                        (2, numbers.max()),
                        (3, len(numbers)),
                        (4, numbers.sum()),
                        (5, np.square(numbers).sum()),
                    )
                ),
                _bytes(6, edges[1:].astype("<f8").tobytes()),
                _bytes(7, counts.astype("<f8").tobytes()),
            )
        )
        self._add(tag, _bytes(5, body), step, time_s)

    def image(self, tag: str, png: bytes, *, step: int, time_s: float | None = None) -> None:
        """Add an image.

        Args:
            tag: what it shows.
            png: the bytes of a PNG file.
            step: of the fit.
            time_s: when, in seconds since 1970; None: now.

        Raises:
            InvalidData: it is no PNG file.
        """
        if png[:8] != _PNG or len(png) < 33:
            raise InvalidData(f"image {tag!r}: expected a PNG file, got {png[:8]!r}", column=tag)
        width, height, _, kind = struct.unpack(">IIBB", png[16:26])
        channels = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(kind, 3)
        body = _int(1, height) + _int(2, width) + _int(3, channels) + _bytes(4, png)
        self._add(tag, _bytes(4, body), step, time_s)

    def flush(self) -> None:
        """Let readers see what was added."""
        self._file.flush()

    def close(self) -> None:
        """End the file; a second time does nothing."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _add(self, tag: str, value: bytes, step: int, time_s: float | None) -> None:
        summary = _bytes(1, _bytes(1, tag.encode()) + value)
        at = time.time() if time_s is None else time_s
        self._write(_double(1, at) + _int(2, step) + _bytes(5, summary))

    def _write(self, event: bytes) -> None:
        self._file.write(framed(event))


# -- fields of a protobuf message -----------------------------------------------------------------


def _key(field: int, wire: int) -> bytes:
    return bytes((field << 3 | wire,))


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers are written as 64 bits
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _int(field: int, value: int) -> bytes:
    return _key(field, 0) + _varint(value)


def _double(field: int, value: float) -> bytes:
    return _key(field, 1) + struct.pack("<d", value)


def _bytes(field: int, value: bytes) -> bytes:
    return _key(field, 2) + _varint(len(value)) + value
