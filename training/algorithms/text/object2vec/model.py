"""A fitted Object2Vec network and its reply."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from training.algorithm import Model
from training.algorithms.text.object2vec.architecture import Architecture
from training.algorithms.text.object2vec.sequence import Sequences
from training.data import as_table
from training.errors import InvalidData, InvalidJob
from training.inputs import Inputs

__all__ = ["FILES", "Object2VecModel"]

FILES = ("object2vec.json", "weights.npy", "inputs.json")

_MODE: Final = "INFERENCE_PREFERRED_MODE"
_MODES: Final = ("classification", "embedding")
_LENGTHS: Final = "infer_max_seqlens"
_LENGTH: Final = re.compile("[1-9][0-9]{0,3}")
_MOST: Final = 5000

Weights = Mapping[str, npt.NDArray[np.float32]]


@final
@dataclass(frozen=True, eq=False)
class Object2VecModel(Model):
    """Two encoders and what compares their vectors.

    Rows with both columns are answered with `scores`: a probability for each class, or one value.
    Where the batch has only one of the two columns, or the other is null in every row, the reply is
    `embeddings`: the vector that the encoder of that column makes.

    Attributes:
        columns: those of the first and of the second encoder.
        architecture: what the network is made of.
        weights: its parameters by name.
        longest: how many tokens of each column are looked at; None: as in training.
        preferred: what is answered on a CUDA device, if there is one: pairs (`classification`) or
            single sequences (`embedding`); "": nothing.
    """

    columns: Inputs
    architecture: Architecture
    weights: Weights
    longest: tuple[int, int] | None = None
    preferred: str = ""

    @property
    def inputs(self) -> Inputs:
        """The columns it takes."""
        return self.columns

    def predict(self, batch: object) -> pa.Table:
        """Answer n rows; see the class for the columns of the reply."""
        from training.algorithms.text.object2vec import scoring

        table = as_table(batch)
        given = [number for number, name in enumerate(self.columns.names) if _has(table, name)]
        columns = self.columns if len(given) != 1 else Inputs((self.columns.columns[given[0]],))
        encoded = columns.encode(table)
        numbers = given if len(given) == 1 else [0, 1]
        sequences = [self.sequences(encoded, number, channel="input") for number in numbers]
        if len(sequences) == 1:
            vectors = scoring.vectors(self._module_for("embedding"), numbers[0], sequences[0])
            return pa.table({"embeddings": _lists(vectors)})
        scores = scoring.scores(self._module_for("classification"), *sequences)
        return pa.table({"scores": _lists(scores)})

    def served(self, settings: Mapping[str, str]) -> Self:
        """Answer what `INFERENCE_PREFERRED_MODE` names on the CUDA device, if there is one.

        The other kind of request is answered too, on the CPU.

        Raises:
            InvalidJob: it is neither `classification` nor `embedding`.
        """
        mode = settings.get(_MODE, "").strip().lower()
        if mode not in ("", *_MODES):
            raise InvalidJob(
                f"{_MODE}: expected one of {', '.join(_MODES)}, got {mode!r}", field="Environment"
            )
        return replace(self, preferred=mode) if mode else self

    def asked(self, parameters: Mapping[str, str]) -> Self:
        """Look at as many tokens as `infer_max_seqlens=L0,L1` says, in place of training's.

        Raises:
            InvalidData: there are not two whole numbers from 1 to 5000.
        """
        given = parameters.get(_LENGTHS)
        if given is None:
            return self
        words = [word.strip() for word in given.split(",")]
        if len(words) != 2 or not all(_LENGTH.fullmatch(w) and int(w) <= _MOST for w in words):
            raise InvalidData(
                f"{_LENGTHS}: expected two whole numbers from 1 to {_MOST:,}, the tokens that are "
                f"looked at in {' and '.join(self.columns.names)}, such as {_LENGTHS}=10,20; got "
                f"{given!r}"
            )
        other = replace(self, longest=(int(words[0]), int(words[1])))
        # The networks are made once, not for each request.
        for mode in _MODES:
            self._module_for(mode)
        for name in ("module", "_module_on_gpu"):
            if name in self.__dict__:
                other.__dict__[name] = self.__dict__[name]
        return other

    def sequences(self, encoded: pa.Table, number: int, *, channel: str) -> Sequences:
        """Return the sequences of the first (0) or second (1) encoder's column."""
        name = self.columns.names[number]
        encoder = self.architecture.encoders[number]
        if self.longest is not None:
            encoder = replace(encoder, max_seq_len=self.longest[number])
        return Sequences.of(encoded[name], encoder, name=name, channel=channel)

    @cached_property
    def module(self) -> Any:
        """The network on the CPU, for answers."""
        from training.algorithms.text.object2vec import scoring

        return scoring.module_of(self.architecture, self.weights)

    @cached_property
    def _module_on_gpu(self) -> Any:
        return copy.deepcopy(self.module).to("cuda")

    def _module_for(self, mode: str) -> Any:
        if mode != self.preferred:
            return self.module
        import torch

        return self._module_on_gpu if torch.cuda.is_available() else self.module

    def save(self, folder: Path) -> None:
        """Write all weights as one NumPy file, their names and shapes with the rest as JSON."""
        flat = [self.weights[name].ravel() for name in self.weights]
        np.save(folder / "weights.npy", np.concatenate(flat))
        body = {
            "architecture": self.architecture.to_json(),
            "weights": {name: list(held.shape) for name, held in self.weights.items()},
        }
        text = json.dumps(body, indent=1) + "\n"
        (folder / "object2vec.json").write_text(text, encoding="utf-8")
        self.columns.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        body = json.loads((folder / "object2vec.json").read_text(encoding="utf-8"))
        flat = np.load(folder / "weights.npy")
        weights, start = {}, 0
        for name, shape in body["weights"].items():
            size = int(np.prod(shape))
            weights[name] = flat[start : start + size].reshape(shape)
            start += size
        return cls(Inputs.load(folder), Architecture.from_json(body["architecture"]), weights)


def _has(table: pa.Table, name: str) -> bool:
    if name not in table.column_names:
        return False
    return not len(table) or table[name].null_count < len(table)


def _lists(rows: npt.NDArray[np.float32]) -> pa.Array:
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1]
    return pa.ListArray.from_arrays(offsets, rows.astype(np.float64).ravel())
