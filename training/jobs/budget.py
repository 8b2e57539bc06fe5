"""What the jobs of a home may use at once, and who comes next."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, final

from training.device import cuda_device_count
from training.jobs.shape import invalid
from training.run import available_cores

__all__ = ["Budget", "Demand", "Share", "memory_bytes"]

_LIMIT: Final = Path("/sys/fs/cgroup/memory.max")


@final
@dataclass(frozen=True, kw_only=True)
class Demand:
    """What a job asks for.

    Args:
        cores: of all its hosts.
        memory_mb: of all its hosts.
        gpus: how many, any of them.
        gpu: one of a certain number instead.
    """

    cores: int = 1
    memory_mb: int = 0
    gpus: int = 0
    gpu: int | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Share:
    """What a running job has: as a demand, with the numbers of its GPUs."""

    cores: int = 1
    memory_mb: int = 0
    gpus: tuple[int, ...] = ()


@final
@dataclass(frozen=True, kw_only=True)
class Budget:
    """The cores, megabytes of memory and GPUs for the jobs of a home."""

    cores: int
    memory_mb: int
    gpus: int

    def __post_init__(self) -> None:
        if self.cores < 1 or self.memory_mb < 1 or self.gpus < 0:
            raise invalid(
                f"expected at least one core, one megabyte and no negative number of GPUs, got "
                f"{self.cores}, {self.memory_mb} and {self.gpus}",
                "Budget",
            )

    @classmethod
    def of_machine(cls) -> Self:
        """Everything that is here."""
        return cls(
            cores=available_cores(),
            memory_mb=max(1, memory_bytes() // (1 << 20)),
            gpus=cuda_device_count(),
        )

    def admit(self, demand: Demand, running: Sequence[Share]) -> Share | None:
        """Return the share of a job that fits beside those that run, or None.

        A job that asks for more than the whole budget gets all of it, and so runs alone.

        >>> budget = Budget(cores=4, memory_mb=1000, gpus=2)
        >>> budget.admit(Demand(cores=2, gpus=1), [Share(cores=2, gpus=(0,))]).gpus
        (1,)
        >>> budget.admit(Demand(cores=3), [Share(cores=2)]) is None
        True
        """
        cores = self.cores - sum(share.cores for share in running)
        memory = self.memory_mb - sum(share.memory_mb for share in running)
        taken = {number for share in running for number in share.gpus}
        free = [number for number in range(self.gpus) if number not in taken]
        wanted = Demand(
            cores=min(demand.cores, self.cores),
            memory_mb=min(demand.memory_mb, self.memory_mb),
            gpus=min(demand.gpus, self.gpus),
        )
        if demand.gpu is not None and demand.gpu < self.gpus:
            if demand.gpu not in free:
                return None
            gpus: tuple[int, ...] = (demand.gpu,)
        else:
            gpus = tuple(free[: wanted.gpus])
        if cores < wanted.cores or memory < wanted.memory_mb or len(gpus) < wanted.gpus:
            return None
        return Share(cores=wanted.cores, memory_mb=wanted.memory_mb, gpus=gpus)


def memory_bytes() -> int:
    """Return the bytes this process may use: the machine's, or a container's limit."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = _LIMIT.read_text(encoding="ascii").strip()
    except OSError:
        return memory
    return min(memory, int(limit)) if limit.isdigit() else memory
