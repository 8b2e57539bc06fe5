"""A fitted neural topic model, in NumPy: mixtures of documents, and what their words are worth."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from training import metrics
from training.algorithm import Model
from training.algorithms.unsupervised.counts import counts_of
from training.algorithms.unsupervised.lda_variational import halves
from training.data import as_table
from training.inputs import Inputs
from training.matrix import dimensions

__all__ = ["FILES", "NORM_EPS", "Activation", "NTMModel", "Shape"]

Activation = Literal["sigmoid", "tanh", "relu"]
Array = npt.NDArray[np.float64]

FILES: Final = ("ntm.json", "encoder.npy", "topics.npy", "usual.npy", "inputs.json")
NORM_EPS: Final = 1e-5

_VOCABULARY: Final = "vocab.txt"
_PIECE_NUMBERS: Final = 1 << 22


@final
@dataclass(frozen=True)
class Shape:
    """How large a topic model is, and what it is made of.

    Attributes:
        words: of the vocabulary.
        topics: how many.
        layers: sizes of the encoder's layers.
        activation: behind each of them.
        batch_norm: whether they are normalised over the batch.
    """

    words: int
    topics: int
    layers: tuple[int, ...]
    activation: Activation
    batch_norm: bool


@final
@dataclass(frozen=True, eq=False)
class NTMModel(Model):
    """An encoder of documents and topics of words.

    The reply has `topic_weights`: lists of a share for each topic, which sum to 1.

    Attributes:
        columns: the inputs.
        shape: sizes and kinds.
        parameters: arrays of float32 by the names that the torch module gives them; `topics` are
            (words, topics) and `usual` (words,).
        vocabulary: the words; none: they have the names of the inputs.
    """

    columns: Inputs
    shape: Shape
    parameters: Mapping[str, npt.NDArray[np.float32]]
    vocabulary: tuple[str, ...] = ()

    @property
    def inputs(self) -> Inputs:
        """The columns it takes."""
        return self.columns

    def predict(self, batch: object) -> pa.Table:
        """Answer n rows with a column `topic_weights`: lists of a share for each topic."""
        shares = self.mixtures(self._counts(batch))
        offsets = np.arange(len(shares) + 1, dtype=np.int32) * self.shape.topics
        return pa.table({"topic_weights": pa.ListArray.from_arrays(offsets, shares.ravel())})

    def pwll(self, batch: object, *, seed: int = 0) -> float:
        """Return the log likelihood of a word when the other half of its document is known.

        Args:
            batch: n rows.
            seed: of the halves.

        Returns:
            per word; higher is better. Not a number where no document has two words.
        """
        return self.completed(self._counts(batch), np.random.default_rng(seed))

    def top_words(self, count: int = 10) -> list[list[str]]:
        """Name the heaviest words of each topic, the heaviest first."""
        names = self.vocabulary or dimensions(self.columns)
        return [[names[place] for place in topic] for topic in self.heaviest(count)]

    def heaviest(self, count: int) -> npt.NDArray[np.int64]:
        """Number the heaviest words of each topic (topics, count), the heaviest first."""
        found: npt.NDArray[np.int64] = metrics.top_words(self.parameters["topics"].T, count)
        return found

    def mixtures(self, counts: Any) -> Array:
        """Return the mixture (n, topics) of each document of a CSR matrix of counts."""
        return _softmax(self._encoded(counts)[0])

    def completed(self, counts: Any, random: np.random.Generator) -> float:
        """Return the log likelihood of a word of the second halves, given the first; see `pwll`."""
        known, asked = halves(counts, random)
        words = float(asked.sum())
        if not words:
            return float("nan")
        return -float(self._lost(asked, self.mixtures(known)).sum()) / words

    def losses(self, counts: Any) -> Mapping[str, float]:
        """Return mean losses of documents where the mixture is that of the mean.

        Returns:
            `total_loss`, the sum of `reconstruction` and `kl`, the distance from the prior.
        """
        mean, spread = self._encoded(counts)
        lost = float(self._lost(counts, _softmax(mean)).mean())
        far = float((mean**2 + np.exp(spread) - 1 - spread).sum(axis=1).mean() / 2)
        return {"total_loss": lost + far, "reconstruction": lost, "kl": far}

    def save(self, folder: Path) -> None:
        """Write the topics as NumPy files, the encoder as one array, the rest as JSON."""
        encoder = {name: self.parameters[name] for name in sorted(self._encoder())}
        np.save(folder / "encoder.npy", np.concatenate([a.ravel() for a in encoder.values()]))
        np.save(folder / "topics.npy", np.ascontiguousarray(self.parameters["topics"].T))
        np.save(folder / "usual.npy", self.parameters["usual"])
        body = asdict(self.shape) | {"encoder": {n: list(a.shape) for n, a in encoder.items()}}
        (folder / "ntm.json").write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
        if self.vocabulary:
            lines = "".join(f"{word}\n" for word in self.vocabulary)
            (folder / _VOCABULARY).write_text(lines, encoding="utf-8", newline="\n")
        self.columns.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        body = json.loads((folder / "ntm.json").read_text(encoding="utf-8"))
        sizes = body.pop("encoder")
        flat, place = np.load(folder / "encoder.npy"), 0
        parameters = {
            "topics": np.ascontiguousarray(np.load(folder / "topics.npy").T),
            "usual": np.load(folder / "usual.npy"),
        }
        for name, size in sizes.items():
            count = int(np.prod(size))
            parameters[name] = flat[place : place + count].reshape(size)
            place += count
        words = folder / _VOCABULARY
        return cls(
            Inputs.load(folder),
            Shape(**{**body, "layers": tuple(body["layers"])}),
            parameters,
            tuple(words.read_text(encoding="utf-8").split("\n")[:-1]) if words.is_file() else (),
        )

    def _encoder(self) -> set[str]:
        return {*self.parameters} - {"topics", "usual"}

    def _counts(self, batch: object) -> Any:
        return counts_of(self.columns.encode(as_table(batch)), self.columns, channel="input")

    def _encoded(self, counts: Any) -> tuple[Array, Array]:
        """Return the means and the log variances (n, topics)."""
        rows, held = _narrow(counts)
        rows.data = np.log1p(rows.data)
        now = rows @ self.parameters["layers.0.weight"][held].astype(np.float64)
        now = _ACTIVATIONS[self.shape.activation](self._ended(now, "layers.0"))
        for number in range(1, len(self.shape.layers)):
            now = self._layer(now, f"layers.{number}")
            now = _ACTIVATIONS[self.shape.activation](now)
        return self._layer(now, "mean"), self._layer(now, "spread")

    def _layer(self, rows: Array, name: str) -> Array:
        return self._ended(rows @ self.parameters[f"{name}.weight"].astype(np.float64), name)

    def _ended(self, rows: Array, name: str) -> Array:
        bias = self.parameters[f"{name}.bias"].astype(np.float64)
        if f"{name}.scale" not in self.parameters:
            return rows + bias
        scale, average, variance = (
            self.parameters[f"{name}.{part}"].astype(np.float64)
            for part in ("scale", "average", "variance")
        )
        return (rows - average) / np.sqrt(variance + NORM_EPS) * scale + bias

    def _lost(self, counts: Any, shares: Array) -> Array:
        """Return minus the log likelihood (n,) of documents under mixtures."""
        topics = self.parameters["topics"].astype(np.float64)
        usual = self.parameters["usual"].astype(np.float64)
        lost = np.empty(counts.shape[0])
        for rows in _pieces(counts.shape[0], len(usual)):
            part, mixed = counts[rows], shares[rows]
            scores = mixed @ topics.T + usual
            top = scores.max(axis=1)
            every = top + np.log(np.exp(scores - top[:, None]).sum(axis=1))
            length = np.asarray(part.sum(axis=1)).ravel()
            lost[rows] = length * every - part @ usual - ((part @ topics) * mixed).sum(axis=1)
        return lost


def _sigmoid(rows: Array) -> Array:
    with np.errstate(over="ignore"):
        made: Array = 1 / (1 + np.exp(-rows))
    return made


_ACTIVATIONS: Final[Mapping[str, Callable[[Array], Array]]] = {
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "relu": lambda rows: np.maximum(rows, 0),
}


def _softmax(rows: Array) -> Array:
    made: Array = np.exp(rows - rows.max(axis=1, keepdims=True, initial=-np.inf))
    made /= made.sum(axis=1, keepdims=True)
    return made


def _narrow(counts: Any) -> tuple[Any, npt.NDArray[np.int64]]:
    """Return the counts with only the words that occur, and which those are."""
    held, places = np.unique(counts.indices, return_inverse=True)
    narrow = type(counts)((counts.data, places, counts.indptr), shape=(counts.shape[0], len(held)))
    return narrow.copy(), held


def _pieces(rows: int, words: int) -> Iterator[slice]:
    """Cut documents into pieces for which the scores of all words fit into memory."""
    size = max(1, _PIECE_NUMBERS // words)
    for start in range(0, rows, size):
        yield slice(start, start + size)
