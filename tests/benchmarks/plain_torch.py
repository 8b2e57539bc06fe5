"""Models as a user would write them in plain torch: a module, an optimiser, batches by index."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

__all__ = ["Factors", "Logins", "Pairs", "Topics", "prefix_buckets", "train", "train_stopped"]

Array = npt.NDArray[Any]

_BUCKETS: Final = 20_011


def train(
    module: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    loss: Callable[..., torch.Tensor],
    rows: Sequence[torch.Tensor],
    *,
    epochs: int,
    batch_rows: int,
) -> None:
    """Train a module on tensors of n rows each, which `loss` takes a batch of."""
    module.train()
    for _ in range(epochs):
        for index in torch.randperm(len(rows[0])).split(batch_rows):
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss(*(tensor[index] for tensor in rows)).backward()
            for optimizer in optimizers:
                optimizer.step()
    module.eval()


def train_stopped(
    module: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    loss: Callable[..., torch.Tensor],
    rows: Sequence[torch.Tensor],
    *,
    held_out: Callable[[], float],
    epochs: int,
    batch_rows: int,
) -> int:
    """Train as `train`, and keep the epoch that has the least `held_out`; return how many ran."""
    best, kept = float("inf"), module.state_dict()
    for _ in range(epochs):
        train(module, optimizers, loss, rows, epochs=1, batch_rows=batch_rows)
        with torch.no_grad():
            now = held_out()
        if now < best:
            best = now
            kept = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    module.load_state_dict(kept)
    return epochs


@final
class Factors(nn.Module):
    """A factorization machine of two identifiers, whose tables are dense to the optimiser."""

    def __init__(self, columns: int, factors: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.full((1,), 3.5))
        self.linear = nn.Embedding(columns, 1)
        self.factors = nn.Embedding(columns, factors)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.normal_(self.factors.weight, std=0.05)

    def forward(self, columns: torch.Tensor) -> torch.Tensor:
        """Return the scores of rows of column numbers (rows, 2)."""
        vectors = self.factors(columns)
        pairs = (vectors.sum(dim=1) ** 2 - (vectors**2).sum(dim=1)).sum(dim=1) / 2
        score: torch.Tensor = self.bias + self.linear(columns)[..., 0].sum(dim=1) + pairs
        return score

    def loss(self, columns: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Return the squared error, with a penalty on what a row looks up."""
        held = 0.01 * self.factors(columns).pow(2).sum() + 0.005 * self.linear(columns).pow(2).sum()
        return functional.mse_loss(self(columns), wanted) + held / len(columns)


@final
class Pairs(nn.Module):
    """The vectors of two tokens, compared in three ways, through a layer to a number."""

    def __init__(self, sizes: tuple[int, int], width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.first, self.second = (nn.Embedding(size, width) for size in sizes)
        self.layers = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(4 * width, hidden),
            nn.Tanh(),
            nn.Dropout(dropout),
            nn.Linear(hidden, 1),
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the scores of pairs of tokens (rows, 2)."""
        one, other = self.first(tokens[:, 0]), self.second(tokens[:, 1])
        compared = torch.cat([one * other, one, other, (one - other).abs()], dim=1)
        score: torch.Tensor = self.layers(compared)[:, 0]
        return score


@final
class Logins(nn.Module):
    """Entities, and addresses by their prefixes; the score is the product of their vectors."""

    def __init__(self, entities: int, width: int) -> None:
        super().__init__()
        self.entities = nn.Embedding(entities, width, sparse=True)
        self.prefixes = nn.EmbeddingBag(_BUCKETS, width, mode="sum", sparse=True)
        self.layer = nn.Linear(width, width)
        nn.init.normal_(self.entities.weight, std=0.05)
        nn.init.normal_(self.prefixes.weight, std=0.05)

    def forward(self, entity: torch.Tensor, buckets: torch.Tensor) -> torch.Tensor:
        """Return the scores of entities (rows,) at addresses of prefixes (rows, 7)."""
        address = self.layer(self.prefixes(buckets))
        score: torch.Tensor = (self.entities(entity) * address).sum(dim=1)
        return score

    def loss(self, entity: torch.Tensor, buckets: torch.Tensor, some: torch.Tensor) -> torch.Tensor:
        """Tell what was seen from random addresses, and from those of others in the batch."""
        mixed = buckets[torch.randperm(len(buckets))]
        drawn = some[torch.randint(len(some), (len(buckets),))]
        score = torch.cat([self(entity, one) for one in (buckets, mixed, drawn)])
        wanted = torch.zeros_like(score)
        wanted[: len(entity)] = 1
        return functional.binary_cross_entropy_with_logits(score, wanted)


def prefix_buckets(addresses: Sequence[str]) -> Array:
    """Hash the prefixes /8, /12, … /32 of addresses: buckets (rows, 7)."""
    whole = [int.from_bytes(map(int, address.split(".")), "big") for address in addresses]
    return np.array(
        [
            [zlib.crc32(b"%d/%d" % (one >> 32 - length, length)) % _BUCKETS for length in _LENGTHS]
            for one in whole
        ]
    )


_LENGTHS: Final = range(8, 33, 4)


@final
class Topics(nn.Module):
    """An encoder of dense counts to a Gaussian over topics, and a softmax decoder to words."""

    def __init__(self, words: int, topics: int, hidden: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(words, hidden), nn.Tanh())
        self.mean = nn.Sequential(nn.Linear(hidden, topics), nn.BatchNorm1d(topics, affine=False))
        self.spread = nn.Sequential(nn.Linear(hidden, topics), nn.BatchNorm1d(topics, affine=False))
        self.decoder = nn.Linear(topics, words)

    def loss(self, counts: torch.Tensor) -> torch.Tensor:
        """Return the loss of a document, reconstruction and KL, in the mean of (rows, words)."""
        held = self.encoder(torch.log1p(counts))
        mean, spread = self.mean(held), self.spread(held)
        drawn = mean
        if self.training:
            drawn = mean + torch.exp(spread / 2) * torch.randn_like(mean)
        words = functional.log_softmax(self.decoder(torch.softmax(drawn, dim=1)), dim=1)
        far = (mean**2 + torch.exp(spread) - 1 - spread).sum(dim=1) / 2
        return (far - (counts * words).sum(dim=1)).mean()
