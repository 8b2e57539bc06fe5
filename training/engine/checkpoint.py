"""Checkpoints of torch fits: one file, replaced whole, read back only for its own fit."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from training.errors import FitFailed

__all__ = ["FILE", "check", "load", "save"]

FILE: Final = "checkpoint.pt"


def save(folder: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint; at any moment the folder holds the one before or this one, whole."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{FILE}.part"
    with part.open("wb") as file:
        torch.save(dict(state), file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / FILE)


def load(folder: Path, *, device: torch.device) -> dict[str, Any] | None:
    """Read the checkpoint of a folder; None where there is none.

    Only tensors and plain values are read, never code.

    Raises:
        FitFailed: the file is no checkpoint.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        kept: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise FitFailed(
            f"{path} cannot be read as a checkpoint ({error}); remove it to begin anew",
            library="torch",
        ) from error
    return kept


def check(kept: Mapping[str, Any], expected: Mapping[str, Any], *, folder: Path) -> None:
    """Refuse a checkpoint that was made with other data or hyperparameters.

    Raises:
        FitFailed: the message names what differs.
    """
    names = sorted(n for n in {*kept, *expected} if kept.get(n) != expected.get(n))
    if names:
        differs = ", ".join(f"{n}: {kept.get(n)!r}, now {expected.get(n)!r}" for n in names)
        raise FitFailed(
            f"the checkpoint in {folder} is of another fit ({differs}); remove it to begin anew",
            library="torch",
        )
