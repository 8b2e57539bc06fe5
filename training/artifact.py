"""Model artifacts: a folder of files with a manifest, named by the digest of its content.

The digest is the SHA-256 of the algorithm, its hyperparameters, the inputs and every file, and of
nothing else: no time, path, job name or metric. So the same data, seed and hyperparameters give
the same digest, and two jobs that made the same model share one folder.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from training.algorithm import Algorithm, Model
from training.algorithms import find_algorithm
from training.errors import ModelAltered, ModelNotFound
from training.jobs.script import SCRIPT

__all__ = ["MANIFEST", "Artifact", "ModelStore", "open_model", "seal", "seal_files"]

MANIFEST = "manifest.json"
_FORMAT = 1


@final
@dataclass(frozen=True)
class Artifact:
    """What a manifest says of a model.

    Attributes:
        path: the folder.
        digest: names the content.
        algorithm: the algorithm's name.
        hyperparameters: those that were set, typed.
        inputs: the input columns with their kinds and categories.
        files: name → SHA-256.
        metrics: the final metrics of the job that made it first; not part of the digest.
    """

    path: Path
    digest: str
    algorithm: str
    hyperparameters: Mapping[str, Any]
    inputs: list[dict[str, Any]]
    files: Mapping[str, str]
    metrics: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Artifact:
        """Read a model's folder and check every file against the digest.

        Raises:
            ModelNotFound: there is no manifest.
            ModelAltered: a file is missing, added or changed, or the manifest does not fit.
        """
        path = folder / MANIFEST
        if not path.is_file():
            raise ModelNotFound(
                f"{folder} holds no model: expected a folder with {MANIFEST}", name=str(folder)
            )
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
            known = cls(
                path=folder,
                digest=body["digest"],
                algorithm=body["algorithm"],
                hyperparameters=body["hyperparameters"],
                inputs=body["inputs"],
                files=body["files"],
                metrics=body["metrics"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ModelAltered(
                f"{path}: expected a model's manifest, and it cannot be read ({error!r})",
                path=str(path),
            ) from error
        found = _files(folder)
        for name in sorted(found.keys() | known.files.keys()):
            if found.get(name) != known.files.get(name):
                raise _altered(folder / name, known.files.get(name), found.get(name))
        digest = _digest(known.algorithm, known.hyperparameters, known.inputs, found)
        if digest != known.digest:
            raise _altered(path, known.digest, digest)
        return known

    def load(self) -> Model:
        """Load the model.

        Raises:
            ModelNotFound: a script made it, so only the script's own code can read its files.
        """
        if self.algorithm == SCRIPT:
            raise ModelNotFound(
                f"{self.path} was made by a script; read its files "
                f"({', '.join(sorted(self.files))}) as the script wrote them, or answer files by "
                "`featureline predict` and transform jobs, which use the script's model_fn",
                name=str(self.path),
            )
        return find_algorithm(self.algorithm).model.load(self.path)


def seal(
    folder: Path, algorithm: Algorithm, model: Model, *, metrics: Mapping[str, float]
) -> Artifact:
    """Write the manifest of a folder into which a model was saved.

    Equal models and hyperparameters get equal digests.
    """
    return seal_files(
        folder,
        algorithm=algorithm.name,
        hyperparameters=algorithm.values(),
        inputs=model.inputs.to_json(),
        metrics=metrics,
    )


def seal_files(
    folder: Path,
    *,
    algorithm: str,
    hyperparameters: Mapping[str, Any],
    inputs: list[dict[str, Any]],
    metrics: Mapping[str, float],
) -> Artifact:
    """Write the manifest of a folder of files, whatever they are."""
    # As they are read again, so that the digest of the two is one.
    hyperparameters = json.loads(json.dumps(dict(hyperparameters)))
    files = _files(folder)
    sealed = Artifact(
        path=folder,
        digest=_digest(algorithm, hyperparameters, inputs, files),
        algorithm=algorithm,
        hyperparameters=hyperparameters,
        inputs=inputs,
        files=files,
        metrics=dict(metrics),
    )
    body = {
        "format": _FORMAT,
        "digest": sealed.digest,
        "algorithm": sealed.algorithm,
        "hyperparameters": hyperparameters,
        "inputs": inputs,
        "files": files,
        "metrics": sealed.metrics,
    }
    text = json.dumps(body, ensure_ascii=False, indent=1)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return sealed


def open_model(folder: Path) -> Model:
    """Check a model's folder against its digest and load it.

    Raises:
        ModelNotFound: there is no model.
        ModelAltered: it is not what its digest says.
    """
    return Artifact.read(folder).load()


@final
class ModelStore:
    """The models of a home, each in a folder named by its digest.

    Args:
        root: the folder of all models; made with the first.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def of(cls, home: Path) -> ModelStore:
        """Return the models of a home."""
        return cls(home / "artifacts" / "models")

    def path(self, digest: str) -> Path:
        """Return where a model of this digest is or would be."""
        return self.root / digest

    def add(self, folder: Path) -> Artifact:
        """Move a sealed model in; durable on return. One that is there already is kept.

        Raises:
            ModelAltered: the folder, or the model that is there, is not what its digest says.
        """
        sealed = Artifact.read(folder)
        target = self.path(sealed.digest)
        if target.exists():
            shutil.rmtree(folder)
            return Artifact.read(target)
        self.root.mkdir(parents=True, exist_ok=True)
        for file in folder.rglob("*"):
            if file.is_file():
                file.chmod(0o444)
                _sync(file)
        _sync(folder)
        # Another job may have made the same model in the meantime; its files are as good.
        try:
            folder.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            shutil.rmtree(folder)
        _sync(self.root)
        return Artifact.read(target)


def _files(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): _file_digest(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.relative_to(folder).as_posix() != MANIFEST
    }


def _file_digest(path: Path) -> str:
    # As lineage.file_digest; not imported, since a job's process starts without that package.
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(
    algorithm: str,
    hyperparameters: Mapping[str, Any],
    inputs: list[dict[str, Any]],
    files: Mapping[str, str],
) -> str:
    body = {
        "format": _FORMAT,
        "algorithm": algorithm,
        "hyperparameters": dict(hyperparameters),
        "inputs": inputs,
        "files": dict(files),
    }
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _altered(path: Path, expected: str | None, got: str | None) -> ModelAltered:
    if got is None:
        problem = "is missing"
    elif expected is None:
        problem = "was added"
    else:
        problem = f"was altered: expected SHA-256 {expected}, got {got}"
    return ModelAltered(
        f"{path} {problem}; restore the artifact or train again",
        path=str(path),
        expected=expected,
        got=got,
    )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
