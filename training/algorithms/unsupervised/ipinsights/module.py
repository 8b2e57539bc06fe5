"""IP Insights as a torch module. Imports torch."""

from __future__ import annotations

from typing import final

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from training.algorithms.unsupervised.ipinsights.address import PAD

__all__ = ["IPEncoder"]

Array = npt.NDArray[np.float32]


@final
class IPEncoder(torch.nn.Module):
    """Vectors of entities, and of addresses from their networks.

    Args:
        entities: (entities, dimensions).
        networks: (buckets + 1, dimensions), the first 0.
        weights: (layers, dimensions, dimensions).
        biases: (layers, dimensions).
    """

    def __init__(self, entities: Array, networks: Array, weights: Array, biases: Array) -> None:
        super().__init__()
        self.entities = torch.nn.Parameter(torch.from_numpy(entities))
        self.networks = torch.nn.Parameter(torch.from_numpy(networks))
        self.weights = torch.nn.ParameterList([torch.from_numpy(w.copy()) for w in weights])
        self.biases = torch.nn.ParameterList([torch.from_numpy(b.copy()) for b in biases])

    def entity(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the vectors (n, dimensions) of the entities in these rows."""
        return functional.embedding(rows, self.entities, sparse=True)

    def address(self, buckets: torch.Tensor) -> torch.Tensor:
        """Return the vectors (n, dimensions) of addresses whose networks are in these buckets."""
        vectors = functional.embedding_bag(
            buckets, self.networks, mode="sum", sparse=True, padding_idx=PAD
        )
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if number:
                vectors = functional.relu(vectors)
            vectors = functional.linear(vectors, weight, bias)
        return vectors
