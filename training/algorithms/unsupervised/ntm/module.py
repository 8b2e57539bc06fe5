"""The topic model as a torch module on sparse counts. Imports torch."""

from __future__ import annotations

import itertools
from typing import cast, final

import torch
from torch.nn import functional

from training.algorithms.unsupervised.ntm.model import NORM_EPS, Shape

__all__ = ["TopicModule"]

_ACTIVATIONS = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}


@final
class TopicModule(torch.nn.Module):
    """Documents to a Gaussian over topics, a sample of it to words.

    Layers lead to the mean and the log variance of the Gaussian, each normalised over the batch so
    that no topic falls asleep; the softmax of a sample is the mixture, and the softmax of the
    mixture's topics and of how usual words are is the distribution of words.

    Sources: Kingma and Welling, "Auto-Encoding Variational Bayes", 2014; Miao, Grefenstette and
    Blunsom, "Discovering Discrete Latent Topics with Neural Variational Inference", 2017; batch
    normalisation against collapse: Srivastava and Sutton, "Autoencoding Variational Inference for
    Topic Models", 2017, section 3.3.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self._activate = _ACTIVATIONS[shape.activation]
        sizes = (shape.words, *shape.layers)
        self.layers = torch.nn.ModuleList(
            _Layer(given, made, normalised=shape.batch_norm)
            for given, made in itertools.pairwise(sizes)
        )
        self.mean = _Layer(sizes[-1], shape.topics, normalised=True)
        self.spread = _Layer(sizes[-1], shape.topics, normalised=True)
        self.topics = torch.nn.Parameter(torch.zeros(shape.words, shape.topics))
        self.usual = torch.nn.Parameter(torch.zeros(shape.words))

    def losses(
        self, indices: torch.Tensor, offsets: torch.Tensor, counts: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what is lost of documents (rows,) in a sample, and how far the prior is (rows,).

        Args:
            indices: (numbers,) words of all documents, one after another.
            offsets: (rows,) where each document begins.
            counts: (numbers,) how often each word occurs.
        """
        mean, spread = self._encoded(indices, offsets, counts)
        drawn = mean + torch.exp(spread / 2) * torch.randn_like(mean)
        mixture = torch.softmax(drawn, dim=1)
        # Only the words that occur are weighed; all words are looked at but for the sum.
        own = _summed(indices, offsets, counts, self.topics)
        usual = _summed(indices, offsets, counts, self.usual[:, None])[:, 0]
        length = _summed(indices, offsets, counts, torch.ones_like(self.usual)[:, None])[:, 0]
        every = torch.logsumexp(torch.addmm(self.usual, mixture, self.topics.T), dim=1)
        lost = length * every - (mixture * own).sum(dim=1) - usual
        far = (mean**2 + torch.exp(spread) - 1 - spread).sum(dim=1) / 2
        return lost, far

    def _encoded(
        self, indices: torch.Tensor, offsets: torch.Tensor, counts: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        held = torch.log1p(counts)
        first = cast(_Layer, self.layers[0])
        now = self._activate(first.ended(_summed(indices, offsets, held, first.weight)))
        for layer in self.layers[1:]:
            now = self._activate(layer(now))
        return self.mean(now), self.spread(now)


@final
class _Layer(torch.nn.Module):
    """A linear layer, or one that is normalised over the batch.

    A batch of one row is normalised as in evaluation, since it has no spread of its own.
    """

    average: torch.Tensor
    variance: torch.Tensor

    def __init__(self, given: int, made: int, *, normalised: bool) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(given, made))
        self.bias = torch.nn.Parameter(torch.zeros(made))
        self._normalised = normalised
        if normalised:
            self.scale = torch.nn.Parameter(torch.ones(made))
            self.register_buffer("average", torch.zeros(made))
            self.register_buffer("variance", torch.ones(made))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the rows behind the layer."""
        return self.ended(rows @ self.weight)

    def ended(self, rows: torch.Tensor) -> torch.Tensor:
        """Return rows that were multiplied by the weights as the layer leaves them."""
        if not self._normalised:
            return rows + self.bias
        return functional.batch_norm(
            *(rows, self.average, self.variance, self.scale, self.bias),
            training=self.training and len(rows) > 1,
            eps=NORM_EPS,
        )


def _summed(
    indices: torch.Tensor, offsets: torch.Tensor, weights: torch.Tensor, table: torch.Tensor
) -> torch.Tensor:
    """Return for each document the rows of a table that its words name, weighted and added."""
    found: torch.Tensor = functional.embedding_bag(
        indices, table, offsets, per_sample_weights=weights, mode="sum"
    )
    return found
