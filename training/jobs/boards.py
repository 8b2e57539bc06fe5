"""The metrics of a job as TensorBoard shows them: an event file for each host."""

from __future__ import annotations

from pathlib import Path
from typing import final

from training.jobs.folder import HOST
from training.tfevents import EventWriter

__all__ = ["Boards", "board_tag"]


@final
class Boards:
    """Writes metrics into event files; a job that goes on adds files of its own.

    Args:
        folder: of the first host's files; others have folders in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[str, EventWriter] = {}
        self._counts: dict[tuple[str, str], int] = {}

    def add(
        self,
        name: str,
        value: float,
        *,
        host: str,
        micros: int,
        step: int | None,
        epoch: int | None,
    ) -> None:
        """Add one value; one without step and epoch counts as the next of its name."""
        if host not in self._writers:
            folder = self._folder if host == HOST else self._folder / host
            self._writers[host] = EventWriter(folder, host=host)
        count = self._counts.get((host, name), 0)
        self._counts[host, name] = count + 1
        at = step if step is not None else epoch if epoch is not None else count
        self._writers[host].scalar(board_tag(name), value, step=at, time_s=micros / 1e6)

    def flush(self) -> None:
        """Let TensorBoard see what was added."""
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """End the files."""
        for writer in self._writers.values():
            writer.close()


def board_tag(metric: str) -> str:
    """Return the tag of a metric: TensorBoard groups by what is before a slash.

    >>> board_tag("validation:auc")
    'validation/auc'
    """
    return metric.replace(":", "/", 1)
