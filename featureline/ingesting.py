"""The pipelines that fleets run on a home, as they tell it themselves."""

from __future__ import annotations

from pathlib import Path

from ingest.fleet.control import Control
from ingest.fleet.progress import PipelineStatus

__all__ = ["pipelines_of_home"]


def pipelines_of_home(home: Path) -> list[PipelineStatus]:
    """Return where the pipelines stand of all fleets that run on a home on this machine."""
    found: list[PipelineStatus] = []
    for folder in sorted((home / "ingest").glob("*/")):
        control = Control(folder)
        if control.is_held():
            told = control.told().get("pipelines", [])
            found += [PipelineStatus.from_json(one) for one in told]
    return found
