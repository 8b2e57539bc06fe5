"""A fitted topic model: topics, how usual each is, and the mixture of a document."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from training.algorithm import Model
from training.algorithms.unsupervised.counts import counts_of
from training.algorithms.unsupervised.lda_variational import complete, mixtures
from training.data import as_table
from training.inputs import Inputs
from training.matrix import dimensions

__all__ = ["FILES", "LDAModel"]

FILES: Final = ("alpha.npy", "beta.npy")


@final
@dataclass(frozen=True, eq=False)
class LDAModel(Model):
    """Topics as distributions of words.

    Attributes:
        columns: the inputs.
        alpha: (topics,) Dirichlet parameters of the mixtures; they sum to `alpha0`.
        beta: (topics, vocabulary) each topic's distribution of words, none of them 0.
    """

    columns: Inputs
    alpha: npt.NDArray[np.float64]
    beta: npt.NDArray[np.float64]

    @property
    def inputs(self) -> Inputs:
        """The columns it takes."""
        return self.columns

    def predict(self, batch: object) -> pa.Table:
        """Answer n rows with a column `topic_mixture`: lists of a share for each topic."""
        table = self.columns.encode(as_table(batch))
        counts = counts_of(table, self.columns, channel="input")
        shares = mixtures(counts, self.beta, self.alpha)
        offsets = np.arange(len(shares) + 1, dtype=np.int32) * len(self.alpha)
        return pa.table({"topic_mixture": pa.ListArray.from_arrays(offsets, shares.ravel())})

    def pwll(self, batch: object, *, seed: int = 0) -> float:
        """Return the log likelihood of a word when the other half of its document is known.

        Args:
            batch: n rows.
            seed: of the halves.

        Returns:
            per word; higher is better. Not a number where no document has two words.
        """
        table = self.columns.encode(as_table(batch))
        counts = counts_of(table, self.columns, channel="input")
        return complete(counts, self.beta, self.alpha, np.random.default_rng(seed))

    def top_words(self, count: int = 10) -> list[list[str]]:
        """Name the most probable dimensions of each topic, the most probable first."""
        names = dimensions(self.columns)
        order = np.argsort(-self.beta, axis=1, kind="stable")[:, :count]
        return [[names[place] for place in topic] for topic in order]

    def save(self, folder: Path) -> None:
        """Write `alpha.npy`, `beta.npy` and the inputs."""
        np.save(folder / "alpha.npy", self.alpha)
        np.save(folder / "beta.npy", self.beta)
        self.columns.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        alpha, beta = (np.load(folder / name) for name in FILES)
        return cls(Inputs.load(folder), alpha, beta)
