"""Checkpoints of fits that keep their state in arrays: one file, written beside and renamed."""

from __future__ import annotations

import io
import json
import os
import time
import zipfile
from collections.abc import Mapping
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from training.errors import FitFailed
from training.run import CHECKPOINT_EVERY_S, Run

__all__ = ["FILE", "Snapshots"]

FILE: Final = "state.npz"
_IDENTITY: Final = "identity"


@final
class Snapshots:
    """The checkpoints of one fit, in its run's folder; none where the run keeps none.

    Where several processes make a fit, each has a file of its own.

    Args:
        run: the fit's run.
        identity: JSON values that a checkpoint must have been made with to be gone on from, beside
            the run's seed.
    """

    def __init__(self, run: Run, identity: Mapping[str, Any]) -> None:
        self._folder = run.checkpoints
        self._file = FILE if run.world.is_first else f"state-{run.world.rank + 1}.npz"
        hosts = {} if run.world.size == 1 else {"hosts": run.world.size}
        self._identity = json.loads(json.dumps({"seed": run.seed, **hosts, **identity}))
        every = run.checkpoint_every_s
        self._every_s = CHECKPOINT_EVERY_S if every is None else every
        self._saved_at = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether the last checkpoint is so old that the next should be written."""
        return self._folder is not None and time.monotonic() - self._saved_at >= self._every_s

    def save(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write a checkpoint; at any moment the folder holds the one before or this one, whole."""
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        kept: dict[str, Any] = {**arrays, _IDENTITY: np.array(json.dumps(self._identity))}
        np.savez(buffer, **kept)
        part = self._folder / f".{self._file}.part"
        with part.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._folder / self._file)
        self._saved_at = time.monotonic()

    def load(self) -> dict[str, npt.NDArray[Any]] | None:
        """Read the checkpoint; None where there is none.

        Raises:
            FitFailed: the file is no checkpoint, or one of another fit; the message names what
                differs.
        """
        if self._folder is None or not (self._folder / self._file).is_file():
            return None
        path = self._folder / self._file
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            kept = json.loads(str(arrays.pop(_IDENTITY)))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise FitFailed(
                f"{path} cannot be read as a checkpoint ({error}); remove it to begin anew",
                library="numpy",
            ) from error
        now = self._identity
        names = sorted(n for n in {*kept, *now} if kept.get(n) != now.get(n))
        if names:
            differs = ", ".join(f"{n}: {kept.get(n)!r}, now {now.get(n)!r}" for n in names)
            raise FitFailed(
                f"the checkpoint in {self._folder} is of another fit ({differs}); remove it to "
                "begin anew",
                library="numpy",
            )
        return arrays
