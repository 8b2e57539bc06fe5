"""Object2Vec as a torch module. Imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final, final

import torch
from torch.nn import functional

from training.algorithms.text.object2vec.architecture import Architecture, Encoder
from training.algorithms.text.object2vec.sequence import PAD

__all__ = ["Drawn", "PairNetwork"]

_SPREAD: Final = 0.005
"""The deviation of a token's numbers at the start."""

_ACTIVATIONS: Final = {
    "linear": torch.nn.Identity,
    "relu": torch.nn.ReLU,
    "tanh": torch.nn.Tanh,
}


@final
@dataclass(frozen=True)
class Drawn:
    """For which rows a training step draws what it leaves out, so that processes draw alike.

    Attributes:
        rows: of the step, in all processes together.
        own: those of this process.
        times: how many pairs there are of each row, one block of all rows after another.
    """

    rows: int
    own: slice
    times: int


@final
class PairNetwork(torch.nn.Module):
    """Two encoders, what is compared of their vectors, and dense layers over that.

    Args:
        architecture: what it is made of.
        dropout: the share of numbers that a training step leaves out before each hidden layer;
            before the output only where there is none, since a value would be made uneven by it.
        is_sparse: whether tables of tokens have sparse gradients.

    Sources: Conneau et al., "Supervised Learning of Universal Sentence Representations", 2017, §3.2
    for the encoders.
    """

    def __init__(
        self, architecture: Architecture, *, dropout: float = 0.0, is_sparse: bool = False
    ) -> None:
        super().__init__()
        self.outputs = architecture.outputs
        self._comparators = architecture.comparators
        first, second = architecture.encoders
        self.enc0 = _TokenEncoder(first, is_sparse=is_sparse)
        self.enc1 = _TokenEncoder(second, is_sparse=is_sparse)
        if architecture.is_tied:
            self.enc1.tokens = self.enc0.tokens
        layers: list[torch.nn.Module] = []
        width = architecture.compared
        for _ in range(architecture.mlp_layers):
            layers.append(_Dropout(dropout))
            layers.append(torch.nn.Linear(width, architecture.mlp_dim))
            layers.append(_ACTIVATIONS[architecture.mlp_activation]())
            width = architecture.mlp_dim
        if not architecture.mlp_layers:
            layers.append(_Dropout(dropout))
        layers.append(torch.nn.Linear(width, architecture.outputs))
        self.mlp = torch.nn.Sequential(*layers)

    def compared(
        self, first: torch.Tensor, second: torch.Tensor, *, drawn: Drawn | None = None
    ) -> torch.Tensor:
        """Return the outputs (n, outputs) of n pairs of vectors.

        Args:
            first: (n, size).
            second: (n, size).
            drawn: the rows of a training step; None: nothing is left out.
        """
        made = {
            "hadamard": lambda: [first * second],
            "concat": lambda: [first, second],
            "abs_diff": lambda: [(first - second).abs()],
        }
        parts = [part for name in self._comparators for part in made[name]()]
        outputs = torch.cat(parts, dim=1)
        for layer in self.mlp:
            outputs = layer(outputs, drawn) if isinstance(layer, _Dropout) else layer(outputs)
        return outputs

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Return the outputs of n pairs of padded sequences."""
        return self.compared(self.enc0(first), self.enc1(second))


@final
class _Dropout(torch.nn.Module):
    """Dropout that is drawn for all rows of a step, of which each process takes its own."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self._kept = 1 - share

    def forward(self, rows: torch.Tensor, drawn: Drawn | None) -> torch.Tensor:
        """Return rows (pairs, width) without some of their numbers, the others larger for it."""
        if drawn is None or self._kept == 1:
            return rows
        if not self._kept:
            return rows * 0
        size = (drawn.times, drawn.rows, rows.shape[1])
        held = torch.empty(size, dtype=rows.dtype, device=rows.device).bernoulli_(self._kept)
        return rows * held[:, drawn.own].reshape(rows.shape).div_(self._kept)


@final
class _TokenEncoder(torch.nn.Module):
    def __init__(self, encoder: Encoder, *, is_sparse: bool) -> None:
        super().__init__()
        self.size = encoder.size
        self.tokens = torch.nn.Embedding(encoder.vocab_size, encoder.token_dim, sparse=is_sparse)
        torch.nn.init.normal_(self.tokens.weight, std=_SPREAD)
        match encoder.network:
            case "hcnn":
                self.network: torch.nn.Module = _Convolutions(encoder)
            case "bilstm":
                self.network = _BothWays(encoder)
            case "pooled_embedding":
                self.network = _Mean()

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the vectors (n, size) of padded sequences (n, longest)."""
        held = (tokens != PAD)[:, :, None]
        vectors: torch.Tensor = self.network(self.tokens(tokens) * held, held)
        return vectors


@final
class _Mean(torch.nn.Module):
    def forward(self, vectors: torch.Tensor, held: torch.Tensor) -> torch.Tensor:
        return vectors.sum(dim=1) / held.sum(dim=1).clamp(min=1)


@final
class _Convolutions(torch.nn.Module):
    """Convolutions on each other, each one's largest values side by side."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        width = encoder.filter_width
        self._padding = ((width - 1) // 2, width // 2)
        share, more = divmod(encoder.size, encoder.layers)
        sizes = [encoder.token_dim, *(share + (n < more) for n in range(encoder.layers))]
        self.layers = torch.nn.ModuleList(
            torch.nn.Conv1d(before, after, width) for before, after in pairwise(sizes)
        )

    def forward(self, vectors: torch.Tensor, held: torch.Tensor) -> torch.Tensor:
        # What stands in a filled place must not be seen from its neighbours in any layer.
        across, mask = vectors.transpose(1, 2), held.transpose(1, 2)
        largest = []
        for layer in self.layers:
            across = functional.relu(layer(functional.pad(across, self._padding))) * mask
            largest.append(across.amax(dim=2))
        return torch.cat(largest, dim=1)


@final
class _BothWays(torch.nn.Module):
    """An LSTM in both directions, its largest values over the tokens."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self._size = encoder.size
        self.lstm = torch.nn.LSTM(
            encoder.token_dim,
            -(-encoder.size // 2),
            num_layers=encoder.layers,
            batch_first=True,
            bidirectional=True,
        )

    def forward(self, vectors: torch.Tensor, held: torch.Tensor) -> torch.Tensor:
        places = torch.arange(1, held.shape[1] + 1, device=held.device)
        # Up to the last token: one that is 0 among others is a place without a vector.
        lengths = (held[:, :, 0] * places).amax(dim=1).clamp(min=1)
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            vectors, lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        states, _ = torch.nn.utils.rnn.pad_packed_sequence(
            self.lstm(packed)[0], batch_first=True, padding_value=-torch.inf
        )
        return states.amax(dim=1)[:, : self._size]
