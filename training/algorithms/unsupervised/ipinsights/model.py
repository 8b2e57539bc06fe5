"""A fitted IP Insights model and its reply."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from training.algorithm import Model
from training.algorithms.unsupervised.ipinsights.address import Addresses
from training.data import as_table
from training.hashing import hash_words
from training.inputs import Inputs

__all__ = ["FILES", "IPInsightsModel", "row_of"]

FILES = (
    *("ipinsights.json", "rows.npy", "entities.npy", "networks.npy"),
    *("weights.npy", "biases.npy", "inputs.json"),
)

_ROWS = 16_384

Array = npt.NDArray[np.float64]


def row_of(entities: pa.Array | pa.ChunkedArray, count: int) -> npt.NDArray[np.int64]:
    """Return the row, 0 to `count` - 1, that each entity's name is hashed to."""
    return (hash_words(entities) % np.uint64(count)).astype(np.int64)


@final
@dataclass(frozen=True, eq=False)
class IPInsightsModel(Model):
    """Vectors of entities, of networks, and the layers that make an address of its networks.

    The reply has `dot_product`, unbounded: the larger, the more usual is the address for the
    entity. An entity that training did not see has the vector 0, so the answer 0. What is no
    address, and a missing entity, is answered with null. With `predict_verbose` there are also
    `entity_embedding` and `ip_embedding`.

    Attributes:
        columns: the entity's column and the address's.
        num_entity_vectors: rows that names are hashed to.
        rows: (known,) those that training used, ascending.
        entities: (known, dimensions) of float32, their vectors.
        networks: (buckets + 1, dimensions) of float32, the first 0 for no network.
        weights: (layers, dimensions, dimensions) of float32.
        biases: (layers, dimensions) of float32.
    """

    columns: Inputs
    num_entity_vectors: int
    rows: npt.NDArray[np.int64]
    entities: npt.NDArray[np.float32]
    networks: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    biases: npt.NDArray[np.float32]

    @property
    def inputs(self) -> Inputs:
        """The columns it takes."""
        return self.columns

    def predict(self, batch: object) -> pa.Table:
        """Answer n rows."""
        return pa.table({"dot_product": self._answered(batch)[0]})

    def predict_verbose(self, batch: object) -> pa.Table:
        """Answer n rows with the vectors that were multiplied."""
        dots, entities, addresses = self._answered(batch)
        return pa.table(
            {
                "dot_product": dots,
                "entity_embedding": _lists(entities),
                "ip_embedding": _lists(addresses),
            }
        )

    def entity_vectors(self, entities: pa.Array | pa.ChunkedArray) -> Array:
        """Return the vector (n, dimensions) of each entity; 0 for one that is not known."""
        wanted = row_of(entities, self.num_entity_vectors)
        places = np.searchsorted(self.rows, wanted).clip(max=len(self.rows) - 1)
        found: Array = self.entities[places].astype(np.float64)
        found[self.rows[places] != wanted] = 0
        return found

    def address_vectors(self, addresses: Addresses) -> Array:
        """Return the vector (n, dimensions) of each address."""
        parts = [np.zeros((0, self.networks.shape[1]))]
        for start in range(0, len(addresses), _ROWS):
            part = addresses.take(np.arange(start, min(start + _ROWS, len(addresses))))
            buckets = part.buckets(len(self.networks) - 1)
            vectors = np.zeros((len(part), self.networks.shape[1]))
            for place in range(buckets.shape[1]):
                vectors += self.networks[buckets[:, place]]
            for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
                if number:
                    np.maximum(vectors, 0, out=vectors)
                vectors = vectors @ weight.astype(np.float64).T + bias
            parts.append(vectors)
        return np.concatenate(parts)

    def _answered(self, batch: object) -> tuple[Any, Array, Array]:
        table = self.columns.encode(as_table(batch))
        names, words = table.column(0), table.column(1)
        addresses = Addresses.parse(words)
        entity, address = self.entity_vectors(names), self.address_vectors(addresses)
        unknown = names.is_null().to_numpy() | (addresses.version == 0)
        dots = pa.array((entity * address).sum(axis=1), mask=unknown)
        return dots, entity, address

    def save(self, folder: Path) -> None:
        """Write the arrays as NumPy files, the rest as JSON."""
        for name in ("rows", "entities", "networks", "weights", "biases"):
            np.save(folder / f"{name}.npy", getattr(self, name))
        body = {"num_entity_vectors": self.num_entity_vectors}
        text = json.dumps(body, indent=1) + "\n"
        (folder / "ipinsights.json").write_text(text, encoding="utf-8")
        self.columns.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        body = json.loads((folder / "ipinsights.json").read_text(encoding="utf-8"))
        names = ("rows", "entities", "networks", "weights", "biases")
        return cls(
            Inputs.load(folder),
            body["num_entity_vectors"],
            *(np.load(folder / f"{name}.npy") for name in names),
        )


def _lists(vectors: Array) -> pa.Array:
    offsets = np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1]
    return pa.ListArray.from_arrays(offsets, vectors.astype(np.float32).ravel())
