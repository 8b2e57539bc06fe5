"""Several processes that train one module: each takes a share of every batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

__all__ = ["World"]


@final
@dataclass(frozen=True)
class World:
    """The processes of a fit, as torch's process group knows them; alone where there is none.

    A step's batch is the same whatever the number of processes: each takes every n-th row of it,
    and gradients are added, each weighted by its rows. So n processes compute what one would, but
    for rounding.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> Self:
        """Return the process group that was initialised in this process."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    def share(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return this process's rows of a batch."""
        return rows[self.rank :: self.size]

    def add(self, value: torch.Tensor) -> torch.Tensor:
        """Add a value over all processes."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def add_gradients(self, module: torch.nn.Module) -> None:
        """Add the gradients of all processes; a parameter without one counts as zero."""
        if self.size == 1:
            return
        sparse = {
            id(part.weight)
            for part in module.modules()
            if isinstance(part, torch.nn.Embedding | torch.nn.EmbeddingBag) and part.sparse
        }
        dense: list[torch.Tensor] = []
        for parameter in module.parameters():
            if not parameter.requires_grad:
                continue
            if id(parameter) in sparse:
                # All processes must bring the same kind, also one that had no rows of the batch.
                given = parameter.grad
                gradient = _no_rows(parameter) if given is None else given.coalesce()
                dist.all_reduce(gradient)
                parameter.grad = gradient
            else:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                dense.append(parameter.grad)
        if dense:
            flat = torch.cat([gradient.reshape(-1) for gradient in dense])
            dist.all_reduce(flat)
            place = 0
            for gradient in dense:
                part = flat[place : place + gradient.numel()]
                gradient.copy_(part.view_as(gradient))
                place += gradient.numel()

    def gather(self, value: Any) -> list[Any]:
        """Return one plain value of every process, in their order."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values


def _no_rows(parameter: torch.Tensor) -> torch.Tensor:
    places = torch.zeros((1, 0), dtype=torch.int64, device=parameter.device)
    values = torch.zeros((0, parameter.shape[1]), dtype=parameter.dtype, device=parameter.device)
    return torch.sparse_coo_tensor(places, values, parameter.shape).coalesce()
