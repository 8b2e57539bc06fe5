"""`profile=auto`: hyperparameters that nobody set follow the size of the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from training.algorithm import Algorithm
from training.hyperparameter import as_text, categorical
from training.run import Run

__all__ = ["AUTO", "profile", "suited"]

AUTO: Final = "auto"

A = TypeVar("A", bound=Algorithm)


def profile(about: str) -> Any:
    """Declare the hyperparameter `profile`.

    Args:
        about: which hyperparameters `auto` chooses, and how.
    """
    return categorical(
        "default",
        AUTO,
        default="default",
        about=f"default: SageMaker's values; auto: what is not set follows the data's size: {about}"
        "; not in SageMaker",
    )


def suited(algorithm: A, values: Mapping[str, Any], run: Run) -> A:
    """Return an algorithm with the values that suit the data, where its profile is `auto`.

    What was set stays as it is: what `Algorithm.of` was given, also where that is the default; of
    one made otherwise, what differs from the default. The log and the property `profile` tell what
    was chosen.

    Args:
        algorithm: with a hyperparameter `profile`.
        values: by name, what suits the data.
        run: of the fit.
    """
    if algorithm.values()["profile"] != AUTO:
        return algorithm
    fields = {item.name: item for item in algorithm.hyperparameters()}
    chosen = {
        name: value
        for name, value in values.items()
        if name not in algorithm.given
        and getattr(algorithm, fields[name].field_name) == fields[name].default
    }
    told = ", ".join(f"{name}={as_text(value)}" for name, value in chosen.items())
    run.sink.log(f"profile: auto: {told or 'all values were set'}")
    run.sink.property("profile", dict(chosen))
    return replace(algorithm, **chosen)  # type: ignore[type-var]
