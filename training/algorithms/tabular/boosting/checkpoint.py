"""Checkpoints of a fit: `xgboost-checkpoint.N`, the model after N rounds and what was measured."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

from training.algorithms.tabular.boosting.matrix import library
from training.errors import FitFailed

__all__ = ["Checkpoints", "Log"]

Log = dict[str, dict[str, list[float]]]
"""Of each channel and metric, its value after each round."""

_NAME: Final = "xgboost-checkpoint"
_KEPT: Final = 5
_ATTRIBUTE: Final = "featureline"
_FIRST_S: Final = 0.5
_SHARE: Final = 0.02
"""Of the time of a fit, how much may go into checkpoints."""


@final
@dataclass
class Checkpoints:
    """The checkpoints of one fit in a folder, the newest five of them.

    Each is a model that the library loads. What was measured until then is in an attribute of it,
    so a checkpoint is one file, replaced whole.

    Args:
        folder: where they are.
        about: what the fit is of, as JSON values: a checkpoint of another one is refused.
        is_kept_here: whether this process writes them: of several that make one fit, one does, and
            all go on from what it has written.
        every_s: seconds from one to the next; None: as often as `_SHARE` allows.
    """

    folder: Path
    about: Mapping[str, Any]
    is_kept_here: bool = True
    every_s: float | None = None
    _due: float = field(init=False)

    def __post_init__(self) -> None:
        self._due = time.monotonic() + (_FIRST_S if self.every_s is None else self.every_s)

    def newest(self) -> tuple[Any, Log] | None:
        """Return the newest model and what was measured; None where there is none.

        Raises:
            FitFailed: it cannot be read, or is of a fit with other data or hyperparameters.
        """
        numbers = self._numbers()
        if not numbers:
            return None
        path = self._path(numbers[-1])
        xgboost = library()
        booster = xgboost.Booster()
        try:
            booster.load_model(bytearray(path.read_bytes()))
            known = json.loads(booster.attr(_ATTRIBUTE) or "{}")
            about, log = known["about"], known["log"]
        except (xgboost.core.XGBoostError, ValueError, KeyError, OSError) as error:
            raise FitFailed(
                f"{path} cannot be read as a checkpoint; remove it to go on from the one before",
                library="xgboost",
            ) from error
        differing = sorted(n for n in {*about, *self.about} if about.get(n) != self.about.get(n))
        if differing:
            differs = ", ".join(
                f"{n}: {about.get(n)!r}, now {self.about.get(n)!r}" for n in differing
            )
            raise FitFailed(
                f"the checkpoint {path} is of another fit ({differs}); remove the checkpoints to "
                "begin anew",
                library="xgboost",
            )
        booster.set_attr(**{_ATTRIBUTE: None})
        return booster, log

    def keep(self, booster: Any, log: Log, *, now: bool = False) -> None:
        """Write a checkpoint, unless the last one was so recently that this would cost time.

        At any moment the folder holds only whole ones.
        """
        began = time.monotonic()
        if not self.is_kept_here or (not now and began < self._due):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        booster.set_attr(**{_ATTRIBUTE: json.dumps({"about": self.about, "log": log})})
        raw = booster.save_raw("ubj")
        booster.set_attr(**{_ATTRIBUTE: None})
        path = self._path(booster.num_boosted_rounds())
        part = path.with_name(f".{path.name}.part")
        with part.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        for number in self._numbers()[:-_KEPT]:
            self._path(number).unlink(missing_ok=True)
        end = time.monotonic()
        self._due = end + ((end - began) / _SHARE if self.every_s is None else self.every_s)

    def _path(self, number: int) -> Path:
        return self.folder / f"{_NAME}.{number}"

    def _numbers(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        found = (re.fullmatch(rf"{_NAME}\.(\d+)", path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in found if match)
