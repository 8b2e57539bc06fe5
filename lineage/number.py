"""Numbers that JSON lacks, kept as text and given back: NaN and the infinities."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, Final, SupportsFloat

from lineage.entity import JSON, Entity
from lineage.errors import InvalidEntity
from lineage.run import Run

_TEXTS: Final = {math.inf: "Infinity", -math.inf: "-Infinity"}
_NUMBERS: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
# What a parameter that is such a number is kept under: as text alone it might be a word.
_TAG: Final = "float"
_MAX_STEP: Final = 2**63 - 1
# Deeper than what JSON may be here; that is for others to refuse.
_MAX_DEPTH: Final = 32


def parameters_of(job: Entity | Run) -> dict[str, Any]:
    """The parameters of a job or of one of its runs, NaN and infinities as numbers again.

    >>> from lineage import Graph, MemoryStore, start_run
    >>> with start_run("r", graph=Graph(MemoryStore()), parameters={"missing": math.nan}) as run:
    ...     pass
    >>> run.entity.properties["parameters"], parameters_of(run.entity)
    ({'missing': {'float': 'NaN'}}, {'missing': nan})
    """
    given = job.properties.get("parameters")
    return _untagged(given) if isinstance(given, Mapping) else {}


def metrics_of(job: Entity | Run) -> dict[str, Any]:
    """The last metrics of a job or of one of its runs, NaN and infinities as numbers again."""
    given = job.properties.get("metrics")
    if not isinstance(given, Mapping):
        return {}
    return {name: _NUMBERS.get(v, v) if isinstance(v, str) else v for name, v in given.items()}


def as_number(value: SupportsFloat | str, where: str) -> float:
    """A metric as a float.

    Raises:
        InvalidEntity: it is none, or beyond the greatest float.
    """
    try:
        return float(value)
    except OverflowError:
        raise InvalidEntity(
            f"{where}: expected a number that a float can hold (up to 1.8e308), got a larger one; "
            f"log its logarithm, or record it as a parameter in text"
        ) from None
    except (TypeError, ValueError):
        raise InvalidEntity(f"{where}: expected a number, got {value!r:.200}") from None


def as_step(value: Any, where: str) -> int:
    """The step of a metric.

    Raises:
        InvalidEntity: it is no whole number of 64 bits.
    """
    try:
        step = int(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidEntity(f"{where}: step: expected a whole number, got {value!r:.200}") from None
    if not -_MAX_STEP <= step <= _MAX_STEP:
        raise InvalidEntity(
            f"{where}: step: expected at most 2^63 - 1, got one of {step.bit_length()} bits"
        )
    return step


def kept_number(number: float) -> float | str:
    """A metric as JSON has it: itself, or `NaN`, `Infinity`, `-Infinity`.

    >>> kept_number(1.5), kept_number(-math.inf)
    (1.5, '-Infinity')
    """
    return number if math.isfinite(number) else _TEXTS.get(number, "NaN")


def tagged(value: object, *, depth: int = 1) -> object:
    """A parameter with every NaN and infinity in it as `{"float": "NaN"}`; see `parameters_of`.

    >>> tagged({"range": [0.0, math.inf]})
    {'range': [0.0, {'float': 'Infinity'}]}
    """
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral):
        number = float(value)
        return value if math.isfinite(number) else {_TAG: kept_number(number)}
    if depth > _MAX_DEPTH:
        return value
    if isinstance(value, Mapping):
        return {name: tagged(item, depth=depth + 1) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        return [tagged(item, depth=depth + 1) for item in value]
    return value


def _untagged(value: JSON) -> Any:
    if isinstance(value, Mapping):
        if len(value) == 1 and (found := _NUMBERS.get(str(value.get(_TAG)))) is not None:
            return found
        return {name: _untagged(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_untagged(item) for item in value]
    return value
