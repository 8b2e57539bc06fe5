"""Every error a caller can catch.

TrainingError
├── InvalidJob                 INVALID_ARGUMENT      (also a ValueError)
│   └── InvalidHyperparameter  INVALID_ARGUMENT      refused before any data is read
├── InvalidData                INVALID_ARGUMENT      (also a ValueError) a file, column or value
├── AlgorithmNotFound          NOT_FOUND             (also a LookupError)
├── TrainingJobNotFound        NOT_FOUND             (also a LookupError)
├── TransformJobNotFound       NOT_FOUND             (also a LookupError)
├── ModelNotFound              NOT_FOUND             (also a LookupError)
├── ReportNotFound             NOT_FOUND             (also a LookupError)
├── TrainingJobExists          ALREADY_EXISTS
├── TransformJobExists         ALREADY_EXISTS
├── LibraryMissing             FAILED_PRECONDITION   (also an ImportError) names the extra
├── DeviceUnavailable          FAILED_PRECONDITION
├── FitFailed                  FAILED_PRECONDITION   a library refused data and hyperparameters
├── TrainingJobFailed          ABORTED               the job ran and did not complete
├── TrainingStopped            CANCELLED             a fit ended early because it was asked to
├── ModelAltered               DATA_LOSS             an artifact is not what its digest says
├── TrainingUnavailable        UNAVAILABLE           retry with backoff
└── InternalError              INTERNAL              a fault of the server; its log has it

The same class is raised embedded and over gRPC: the server sends the class name and the facts as
trailing metadata, the client raises it again.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import ClassVar

__all__ = [
    "AccessDenied",
    "AlgorithmNotFound",
    "DeviceUnavailable",
    "FitFailed",
    "InternalError",
    "InvalidData",
    "InvalidHyperparameter",
    "InvalidJob",
    "InvalidLogin",
    "LibraryMissing",
    "ModelAltered",
    "ModelNotFound",
    "ReportNotFound",
    "TrainingError",
    "TrainingJobExists",
    "TrainingJobFailed",
    "TrainingJobNotFound",
    "TrainingStopped",
    "TrainingUnavailable",
    "TransformJobExists",
    "TransformJobNotFound",
    "Unauthenticated",
    "nearest",
]


class TrainingError(Exception):
    """Base of all errors of the training layer.

    `code` is the gRPC status by name. `facts` are the error's details as JSON values, readable as
    attributes too: `error.name`. Errors of a call to a server have the fact `request_id`: its logs
    name the call by it.
    """

    code: ClassVar[str] = "UNKNOWN"

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.facts: dict[str, object] = facts

    def __getattr__(self, name: str) -> object:
        facts: dict[str, object] = self.__dict__.get("facts", {})
        if name in facts:
            return facts[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.facts))


class InvalidJob(TrainingError, ValueError):
    """A training job's definition breaks a rule. Fact: `field`."""

    code = "INVALID_ARGUMENT"


class InvalidLogin(TrainingError, ValueError):
    """A token or the files of TLS cannot be used; the text says which and why."""

    code = "INVALID_ARGUMENT"


class Unauthenticated(TrainingError):
    """The call carries no token, or one that is unknown, expired or revoked."""

    code = "UNAUTHENTICATED"


class AccessDenied(TrainingError):
    """The caller may not do this. Facts: `principal`, `action`, `resource`, `statement`."""

    code = "PERMISSION_DENIED"


class InvalidHyperparameter(InvalidJob):
    """A hyperparameter is unknown, malformed, out of range or breaks a dependency.

    Facts: `algorithm`, `names` (those concerned).
    """


class InvalidData(TrainingError, ValueError):
    """A channel's data cannot be used as asked.

    Facts, where they apply: `channel`, `path`, `column`, `row` (from 1).
    """

    code = "INVALID_ARGUMENT"


class AlgorithmNotFound(TrainingError, LookupError):
    """No algorithm has this name. Fact: `name`."""

    code = "NOT_FOUND"


class TrainingJobNotFound(TrainingError, LookupError):
    """No training job has this name. Fact: `name`."""

    code = "NOT_FOUND"


class TransformJobNotFound(TrainingError, LookupError):
    """No transform job has this name. Fact: `name`."""

    code = "NOT_FOUND"


class ModelNotFound(TrainingError, LookupError):
    """There is no model at this path, or this job made none. Fact: `name`."""

    code = "NOT_FOUND"


class ReportNotFound(TrainingError, LookupError):
    """A training job has no report, or none yet. Fact: `name`."""

    code = "NOT_FOUND"


class TrainingJobExists(TrainingError):
    """A training job of this name exists already. Fact: `name`."""

    code = "ALREADY_EXISTS"


class TransformJobExists(TrainingError):
    """A transform job of this name exists already. Fact: `name`."""

    code = "ALREADY_EXISTS"


class LibraryMissing(TrainingError, ImportError):
    """An algorithm's library is not installed. Facts: `library`, `extra`."""

    code = "FAILED_PRECONDITION"


class DeviceUnavailable(TrainingError):
    """The device asked for is not there. Fact: `device`."""

    code = "FAILED_PRECONDITION"


class FitFailed(TrainingError):
    """A library refused these hyperparameters on this data. Fact: `library`."""

    code = "FAILED_PRECONDITION"


class TrainingJobFailed(TrainingError):
    """A training job ended without a model. Facts: `name`, `status`."""

    code = "ABORTED"


class TrainingStopped(TrainingError):
    """A fit ended early, without a model, because its run was asked to stop."""

    code = "CANCELLED"


class ModelAltered(TrainingError):
    """A model artifact's files are not those its digest names. Facts: `path`, `expected`, `got`."""

    code = "DATA_LOSS"


class TrainingUnavailable(TrainingError):
    """The training service or the job registry cannot be reached."""

    code = "UNAVAILABLE"


class InternalError(TrainingError):
    """A fault inside the server that is not the caller's."""

    code = "INTERNAL"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint `; did you mean 'x'?` with the nearest known name, or an empty string.

    >>> nearest("max_dept", ["max_depth", "eta"])
    "; did you mean 'max_depth'?"
    """
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else ""


def _rebuild(cls: type[TrainingError], message: str, facts: Mapping[str, object]) -> TrainingError:
    return cls(message, **facts)
