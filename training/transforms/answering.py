"""Answers requests by a model: bytes of one content type in, bytes of another out."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final, final

from training.algorithm import Algorithm, Model
from training.algorithms import find_algorithm
from training.artifact import Artifact
from training.errors import InvalidData
from training.formats import ContentType
from training.formats.inference import Accept, decode_request, encode_reply
from training.jobs.script import SCRIPT
from training.transforms.serving import ServedScript

__all__ = ["ModelResponder", "Responder", "inference_settings", "open_responder"]

_SETTINGS: Final = ("SAGEMAKER_INFERENCE_", "INFERENCE_")
_OF_TRAINING: Final = ("text/csv", "application/x-recordio-protobuf")


class Responder(ABC):
    """What answers requests.

    Attributes:
        may_differ: whether a request that failed may be answered when it is asked again.
    """

    may_differ: ClassVar[bool] = False

    @abstractmethod
    def answer(self, body: bytes, content_type: str, accept: Accept) -> bytes:
        """Answer one request.

        Args:
            body: of the request.
            content_type: of the body, with its parameters.
            accept: what the answer is to be.

        Raises:
            TrainingError: the request cannot be read or answered so; the message says where.
        """


@final
class ModelResponder(Responder):
    """Answers by a model of an algorithm, through `training.formats.inference`.

    Args:
        model: as it is served.
        algorithm: that made it.
    """

    def __init__(self, model: Model, algorithm: type[Algorithm]) -> None:
        self._model = model
        self._word = algorithm.reply
        self._name = algorithm.name
        read = {kind for channel in algorithm.channels for kind in channel.content_types}
        # JSON is for requests alone; of what training data comes as, an algorithm says what it is.
        self._refused = {kind for kind in _OF_TRAINING if read and kind not in read}

    def answer(self, body: bytes, content_type: str, accept: Accept) -> bytes:
        """See `Responder.answer`."""
        kind = ContentType.parse(content_type)
        base = kind.base
        if base in self._refused:
            raise InvalidData(
                f"a model of {self._name} takes no {base}; send application/json or "
                "application/jsonlines"
            )
        table = decode_request(body, content_type)
        if base == "text/csv":
            self._model.inputs.check_unnamed(table)
        model = self._model.asked(kind.parameters)
        predict = model.predict_verbose if accept.verbose else model.predict
        return encode_reply(predict(table), accept.content_type, word=self._word, request=table)


@final
class ScriptResponder(Responder):
    """Answers by the functions of a script.

    Args:
        script: with its model loaded.
    """

    may_differ: ClassVar = True

    def __init__(self, script: ServedScript) -> None:
        self._script = script

    def answer(self, body: bytes, content_type: str, accept: Accept) -> bytes:
        """See `Responder.answer`."""
        return self._script.answer(body, content_type, accept.content_type)


def inference_settings() -> dict[str, str]:
    """Return the variables `SAGEMAKER_INFERENCE_*` and `INFERENCE_*` of this process."""
    return {name: text for name, text in os.environ.items() if name.startswith(_SETTINGS)}


def open_responder(folder: Path, settings: Mapping[str, str]) -> Responder:
    """Load a model's folder, after checking it against its digest, to answer requests.

    Args:
        folder: of the model.
        settings: see `inference_settings`.

    Raises:
        ModelNotFound: there is no model, or a script's that has no serving functions.
        ModelAltered: it is not what its digest says.
        ScriptFailed: the script or its `model_fn` raised an error.
    """
    artifact = Artifact.read(folder)
    if artifact.algorithm == SCRIPT:
        return ScriptResponder(ServedScript.load(folder))
    return ModelResponder(artifact.load().served(settings), find_algorithm(artifact.algorithm))
