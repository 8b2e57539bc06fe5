"""`profile=auto`: values for hyperparameters that were not given, by how much data there is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from training.algorithm import Algorithm
from training.hyperparameter import as_text, categorical
from training.run import Run

__all__ = ["AUTO", "is_given", "profile", "profiled"]

AUTO: Final = "auto"

_Learner = TypeVar("_Learner", bound=Algorithm)


def profile() -> Any:
    """Declare the hyperparameter `profile` of an algorithm that chooses values by itself."""
    return categorical(
        *("sagemaker", AUTO),
        default="sagemaker",
        about="auto: what is not given is chosen by how many rows there are, and the log says what",
    )


def is_given(learner: Algorithm, name: str) -> bool:
    """Whether a hyperparameter was given, also as its default; made by hand, one that is not it."""
    given = learner.given
    if given is not None:
        return name in given
    item = next(item for item in learner.hyperparameters() if item.field_name == name)
    return bool(getattr(learner, name) != item.default)


def profiled(learner: _Learner, chosen: Mapping[str, Any], run: Run) -> _Learner:
    """Return a learner with values for what it was not given, where its `profile` is `auto`.

    Args:
        learner: with the hyperparameter `profile`.
        chosen: values by field; those that were given stay as they are.
        run: its log says what was chosen, and so does its property `profile`.
    """
    made: Any = learner
    if made.profile != AUTO:
        return learner
    free = {name: value for name, value in chosen.items() if not is_given(learner, name)}
    texts = {name: as_text(value) for name, value in free.items()}
    shown = ", ".join(f"{name}={text}" for name, text in texts.items())
    run.sink.log(f"profile=auto: {shown or 'nothing to choose, all was given'}")
    run.sink.property("profile", texts)
    changed: _Learner = dataclasses.replace(made, **free)
    return changed
