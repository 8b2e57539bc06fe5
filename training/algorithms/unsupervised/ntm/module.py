"""The topic model as a torch module on sparse counts. Imports torch."""

from __future__ import annotations

import itertools
from typing import cast, final

import torch
from torch.nn import functional

from training.algorithms.unsupervised.ntm.model import NORM_EPS, Shape
from training.engine.parallel import Group

__all__ = ["TopicModule"]

_ALONE = Group()
# What a batch adds to the averages that evaluation normalises by; torch's own.
_MOMENTUM = 0.1
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

    Args:
        shape: of the model.
        group: the processes whose rows are normalised together.
    """

    def __init__(self, shape: Shape, group: Group = _ALONE) -> None:
        super().__init__()
        self._activate = _ACTIVATIONS[shape.activation]
        sizes = (shape.words, *shape.layers)
        self.layers = torch.nn.ModuleList(
            _Layer(given, made, group, normalised=shape.batch_norm)
            for given, made in itertools.pairwise(sizes)
        )
        self.mean = _Layer(sizes[-1], shape.topics, group, normalised=True)
        self.spread = _Layer(sizes[-1], shape.topics, group, normalised=True)
        self.topics = torch.nn.Parameter(torch.zeros(shape.words, shape.topics))
        self.usual = torch.nn.Parameter(torch.zeros(shape.words))

    def losses(
        self,
        indices: torch.Tensor,
        offsets: torch.Tensor,
        counts: torch.Tensor,
        *,
        noise: torch.Tensor,
        rows: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what is lost of documents (rows,) in a sample, and how far the prior is (rows,).

        Args:
            indices: (numbers,) words of all documents, one after another.
            offsets: (rows,) where each document begins.
            counts: (numbers,) how often each word occurs.
            noise: (rows, topics) normal numbers that make the sample.
            rows: the documents of all processes together.
        """
        mean, spread = self._encoded(indices, offsets, counts, rows)
        drawn = mean + torch.exp(spread / 2) * noise
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
        self, indices: torch.Tensor, offsets: torch.Tensor, counts: torch.Tensor, rows: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        held = torch.log1p(counts)
        first = cast(_Layer, self.layers[0])
        now = self._activate(first.ended(_summed(indices, offsets, held, first.weight), rows))
        for layer in self.layers[1:]:
            now = self._activate(layer(now, rows))
        return self.mean(now, rows), self.spread(now, rows)


@final
class _Layer(torch.nn.Module):
    """A linear layer, or one that is normalised over the batch of all processes together.

    A batch of one row is normalised as in evaluation, since it has no spread of its own.
    """

    average: torch.Tensor
    variance: torch.Tensor

    def __init__(self, given: int, made: int, group: Group, *, normalised: bool) -> None:
        super().__init__()
        self._group = group
        self.weight = torch.nn.Parameter(torch.zeros(given, made))
        self.bias = torch.nn.Parameter(torch.zeros(made))
        self._normalised = normalised
        if normalised:
            self.scale = torch.nn.Parameter(torch.ones(made))
            self.register_buffer("average", torch.zeros(made))
            self.register_buffer("variance", torch.ones(made))

    def forward(self, given: torch.Tensor, rows: int) -> torch.Tensor:
        """Return the rows behind the layer; `rows` is how many all processes have together."""
        return self.ended(given @ self.weight, rows)

    def ended(self, given: torch.Tensor, rows: int) -> torch.Tensor:
        """Return rows that were multiplied by the weights as the layer leaves them."""
        if not self._normalised:
            return given + self.bias
        if self._group.size > 1 and self.training and rows > 1:
            return self._normalised_together(given, rows)
        return functional.batch_norm(
            *(given, self.average, self.variance, self.scale, self.bias),
            training=self.training and len(given) > 1,
            eps=NORM_EPS,
        )

    def _normalised_together(self, given: torch.Tensor, rows: int) -> torch.Tensor:
        """Normalise by mean and variance over all processes, as batch_norm does over one's rows."""
        average = self._group.sum(given.sum(dim=0)) / rows
        apart = given - average
        variance = self._group.sum((apart**2).sum(dim=0)) / rows
        with torch.no_grad():
            self.average.lerp_(average, _MOMENTUM)
            self.variance.lerp_(variance * (rows / (rows - 1)), _MOMENTUM)
        return apart * torch.rsqrt(variance + NORM_EPS) * self.scale + self.bias


def _summed(
    indices: torch.Tensor, offsets: torch.Tensor, weights: torch.Tensor, table: torch.Tensor
) -> torch.Tensor:
    """Return for each document the rows of a table that its words name, weighted and added."""
    found: torch.Tensor = functional.embedding_bag(
        indices, table, offsets, per_sample_weights=weights, mode="sum"
    )
    return found
