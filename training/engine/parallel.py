"""Several processes that train one module: each takes a share of every batch."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

from training.errors import LibraryMissing
from training.run import Run
from training.world import HostLost

__all__ = ["Group"]


@final
@dataclass(frozen=True)
class Group:
    """The processes of a fit with torch's process group between them; alone where there is none.

    A step's batch is the same whatever the number of processes: each takes every n-th row of it,
    and gradients are added, each weighted by its rows. So n processes compute what one would, but
    for rounding.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def of(cls, run: Run) -> Self:
        """Return the group of a run's world; its processes connect when the first fit asks.

        Raises:
            HostLost: one of them is gone.
        """
        world = run.world
        if world.size == 1:
            return cls()
        if not dist.is_initialized():
            _kept(lambda: _connect(run))
        return cls(world.rank, world.size)

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    @property
    def own(self) -> slice:
        """The places of a batch that are this process's."""
        return slice(None) if self.size == 1 else slice(self.rank, None, self.size)

    def share(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return this process's rows of a batch."""
        return rows[self.own]

    def add(self, value: torch.Tensor) -> torch.Tensor:
        """Add a value over all processes, in place."""
        if self.size > 1:
            _kept(lambda: dist.all_reduce(value))
        return value

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """Add a value over all processes, so that gradients flow back to each of them."""
        if self.size == 1:
            return value
        added: torch.Tensor = _Sum.apply(value)  # type: ignore[no-untyped-call]
        return added

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
            given = parameter.grad
            if id(parameter) in sparse or (given is not None and given.is_sparse):
                # All processes must bring the same kind, also one that had no rows of the batch.
                gradient = _no_rows(parameter) if given is None else given.coalesce()
                parameter.grad = self._sparse_sum(gradient)
            else:
                if given is None:
                    parameter.grad = torch.zeros_like(parameter)
                assert parameter.grad is not None
                dense.append(parameter.grad)
        if dense:
            flat = self.add(torch.cat([gradient.reshape(-1) for gradient in dense]))
            place = 0
            for gradient in dense:
                part = flat[place : place + gradient.numel()]
                gradient.copy_(part.view_as(gradient))
                place += gradient.numel()

    def _sparse_sum(self, gradient: torch.Tensor) -> torch.Tensor:
        """Add sparse gradients: every process's rows, padded to the most that one has."""
        rows, values = gradient.indices()[0], gradient.values()
        counts = torch.zeros(self.size, dtype=torch.int64, device=values.device)
        counts[self.rank] = len(rows)
        sizes = self.add(counts).tolist()
        most = max(sizes)
        places = [torch.zeros(most, dtype=rows.dtype, device=rows.device) for _ in sizes]
        held = [values.new_zeros(most, *values.shape[1:]) for _ in sizes]
        if most:
            for mine, every in ((rows, places), (values, held)):
                padded = mine.new_zeros(most, *mine.shape[1:])
                padded[: len(mine)] = mine
                _kept(functools.partial(dist.all_gather, every, padded))
        return torch.sparse_coo_tensor(
            torch.cat([one[:size] for one, size in zip(places, sizes, strict=True)])[None],
            torch.cat([one[:size] for one, size in zip(held, sizes, strict=True)]),
            gradient.shape,
            check_invariants=False,
        ).coalesce()


class _Sum(torch.autograd.Function):
    """The sum over all processes; what each makes of it flows back to all."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        added = value.clone()
        _kept(lambda: dist.all_reduce(added))
        return added

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        added = gradient.clone()
        _kept(lambda: dist.all_reduce(added))
        return added


def _connect(run: Run) -> None:
    """Make the process group: over NCCL where each process has a GPU of its own, else gloo."""
    if not dist.is_available():
        raise LibraryMissing(
            "several hosts need a torch with torch.distributed, and this one is built without it; "
            "set InstanceCount to 1",
            library="torch",
        )
    world = run.world
    stores: Any = dist  # Its stubs do not name the store.
    store: Any = None
    if world.is_first:
        # The system chooses the port.
        store = stores.TCPStore(world.address, 0, world.size, True, wait_for_workers=False)
    port = world.gather(None if store is None else store.port)[0]
    if store is None:
        store = stores.TCPStore(world.address, port, world.size, False)
    used = world.gather((os.environ.get("CUDA_VISIBLE_DEVICES", ""), str(run.device)))
    has_own = run.device.kind == "cuda" and len(set(used)) == world.size
    if has_own:
        torch.cuda.set_device(run.device.index)
    dist.init_process_group(
        "nccl" if has_own else "gloo", store=store, rank=world.rank, world_size=world.size
    )


def _kept(act: Callable[[], Any]) -> None:
    """Do what needs all processes.

    Raises:
        HostLost: one of them is gone, which torch tells in many words.
    """
    try:
        act()
    except RuntimeError as error:
        raise HostLost(f"this host cannot go on alone: {str(error).splitlines()[0]}") from error


def _no_rows(parameter: torch.Tensor) -> torch.Tensor:
    places = torch.zeros((1, 0), dtype=torch.int64, device=parameter.device)
    values = torch.zeros((0, parameter.shape[1]), dtype=parameter.dtype, device=parameter.device)
    return torch.sparse_coo_tensor(
        places, values, parameter.shape, check_invariants=False
    ).coalesce()
