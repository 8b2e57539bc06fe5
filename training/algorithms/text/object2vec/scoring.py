"""Answers of an Object2Vec network, a block of rows at a time. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from training.algorithms.text.object2vec.architecture import Architecture
from training.algorithms.text.object2vec.module import PairNetwork
from training.algorithms.text.object2vec.sequence import Sequences

__all__ = ["module_of", "scores", "vectors"]

Numbers = npt.NDArray[np.float32]

_TOKENS: Final = 65_536
_ROWS: Final = 8_192


def module_of(
    architecture: Architecture, weights: Mapping[str, Numbers], **options: Any
) -> PairNetwork:
    """Return the network with these weights."""
    module = PairNetwork(architecture, **options)
    module.load_state_dict({name: torch.tensor(held) for name, held in weights.items()})
    return module.eval()


def scores(module: PairNetwork, first: Sequences, second: Sequences) -> Numbers:
    """Return the outputs (n, outputs) of pairs: probabilities where there are several."""

    def score(rows: npt.NDArray[np.int64]) -> torch.Tensor:
        outputs: torch.Tensor = module(_tensor(module, first, rows), _tensor(module, second, rows))
        return outputs if outputs.shape[1] == 1 else outputs.softmax(dim=1)

    longest = max(_longest(first), _longest(second))
    return _by_blocks(module, score, rows=len(first), longest=longest, width=module.outputs)


def vectors(module: PairNetwork, number: int, sequences: Sequences) -> Numbers:
    """Return the vectors (n, size) of the first (0) or second (1) encoder."""
    encoder = (module.enc0, module.enc1)[number]

    def encode(rows: npt.NDArray[np.int64]) -> torch.Tensor:
        vectors: torch.Tensor = encoder(_tensor(module, sequences, rows))
        return vectors

    longest = _longest(sequences)
    return _by_blocks(module, encode, rows=len(sequences), longest=longest, width=encoder.size)


def _by_blocks(
    module: PairNetwork,
    answer: Callable[[npt.NDArray[np.int64]], torch.Tensor],
    *,
    rows: int,
    longest: int,
    width: int,
) -> Numbers:
    size = min(max(_TOKENS // longest, 1), _ROWS)
    training = module.training
    module.eval()
    parts = [np.zeros((0, width), np.float32)]
    with torch.no_grad():
        for start in range(0, rows, size):
            block = answer(np.arange(start, min(start + size, rows)))
            parts.append(block.float().cpu().numpy())
    module.train(training)
    return np.concatenate(parts)


def _tensor(module: PairNetwork, sequences: Sequences, rows: npt.NDArray[np.int64]) -> torch.Tensor:
    device = next(module.parameters()).device
    return torch.from_numpy(sequences.padded(rows)).to(device)


def _longest(sequences: Sequences) -> int:
    return max(int(sequences.lengths.max(initial=0)), 1)
