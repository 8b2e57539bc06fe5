"""Which models a fit trains beside each other: the one asked for, and its neighbours."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

__all__ = ["Candidate", "candidates"]

_RATES: Final = (1.0, 0.3, 3.0, 0.1, 10.0, 0.03, 30.0, 0.01)
_DECAYS: Final = (1.0, 10.0, 0.1, 100.0)
_SPARSITIES: Final = (0.0, 1e-4, 1e-3)
_FROM_ZERO: Final = (0.0, 1e-5, 1e-4, 1e-3)


@final
@dataclass(frozen=True)
class Candidate:
    """The hyperparameters that differ between the models of a fit.

    Attributes:
        learning_rate: at the start.
        wd: decay of the weights.
        l1: threshold of the weights.
        positive_weight: what a row of class 1 counts.
    """

    learning_rate: float
    wd: float
    l1: float
    positive_weight: float = 1.0


def candidates(
    count: int,
    *,
    learning_rate: float,
    wd: float | None,
    l1: float | None,
    positive_weights: Sequence[float],
    rows: int,
    rates_matter: bool = True,
    can_judge: bool = True,
) -> list[Candidate]:
    """Return up to `count` different settings, nearest to the one asked for first.

    The first is the given one. A value that is not given has a start by the number of rows.

    Args:
        count: how many.
        learning_rate: of the first.
        wd: of the first; None: by the number of rows, as a prior of one row's weight.
        l1: of the first; None: none.
        positive_weights: what class 1 may count; the first is the given one.
        rows: those of the training data.
        rates_matter: whether models with other learning rates end elsewhere.
        can_judge: whether there are rows besides the training data to judge by. Without them a
            fit cannot tell too little regularisation from enough, so wd and l1 stay as they are.

    >>> one, other = candidates(
    ...     2, learning_rate=0.1, wd=0.0, l1=None, positive_weights=[1.0], rows=100
    ... )
    >>> one
    Candidate(learning_rate=0.1, wd=0.0, l1=0.0, positive_weight=1.0)
    """
    start = min(1.0, max(1e-7, 1 / rows)) if wd is None else wd
    rates = [learning_rate * factor for factor in _RATES]
    decays = [start * factor for factor in _DECAYS] if start else list(_FROM_ZERO)
    sparsities = [l1 * factor for factor in _DECAYS] if l1 else list(_SPARSITIES)
    axes = (
        rates if rates_matter else rates[:1],
        decays if can_judge else decays[:1],
        (sparsities if can_judge else sparsities[:1]) if rates_matter else [0.0],
        list(positive_weights),
    )
    places = itertools.product(*(range(len(axis)) for axis in axes))
    # Nearest first: by how far the places are from the first in sum, then in their order.
    nearest = sorted(places, key=lambda place: (sum(place), place))
    chosen = [
        Candidate(*(axis[at] for axis, at in zip(axes, place, strict=True))) for place in nearest
    ]
    return list(dict.fromkeys(chosen))[:count]
