"""The processes that make one fit together, as an algorithm sees them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Final, final

__all__ = ["ALONE", "Contributed", "HostLost", "World"]


class World(ABC):
    """The processes of one fit, one on each host of the job; all run the same program.

    Attributes:
        rank: of this process, from 0.
        size: how many there are.
        address: where the first one listens, for libraries that connect the processes themselves.
    """

    rank: int
    size: int
    address: str

    @property
    def is_first(self) -> bool:
        """Whether this process reports, keeps checkpoints and makes the model."""
        return self.rank == 0

    @abstractmethod
    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes in their order; each of them must call it.

        Args:
            value: of this process, one that can be pickled.

        Raises:
            HostLost: one of them is gone.
        """


@final
class _Alone(World):
    rank = 0
    size = 1
    address = "127.0.0.1"

    def gather(self, value: Any) -> list[Any]:
        return [value]


ALONE: Final[World] = _Alone()
"""The world of a fit in one process."""


@final
class HostLost(Exception):
    """Another process of the fit is gone: its own end says why, this one only cannot go on."""


@final
class Contributed(Exception):
    """Raised by a fit in a process whose part is done: the first process makes the model."""
