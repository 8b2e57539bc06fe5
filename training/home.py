"""Where jobs and models live: a home folder, named by its path or by the store that has it open."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import lineage

__all__ = ["Store", "home_of"]


class Store(Protocol):
    """What the training layer needs of an embedded feature store: its home and its lineage."""

    @property
    def home(self) -> Path:
        """The home folder."""

    @property
    def graph(self) -> lineage.Graph:
        """The lineage graph."""


def home_of(store_or_home: Store | str | Path) -> Path:
    """Return the home folder as an absolute path."""
    if isinstance(store_or_home, str | Path):
        return Path(store_or_home).absolute()
    return Path(store_or_home.home).absolute()
