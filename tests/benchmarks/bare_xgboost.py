"""What one writes without a training layer: `… bare_xgboost FILE LABEL MODEL ROUNDS THREADS`.

With `lean` as one more argument scikit-learn is hidden from XGBoost, as if it were not installed:
importing it takes a second that a fit does not need.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

import pyarrow.parquet as pq

if __name__ == "__main__" and sys.argv[-1] == "lean":
    sys.modules["sklearn"] = None  # type: ignore[assignment]

import xgboost

__all__ = ["PARAMETERS", "fit"]

PARAMETERS: Final = {
    "objective": "binary:logistic",
    "eta": 0.1,
    "max_depth": 6,
    "tree_method": "hist",
    "eval_metric": "logloss",
    "seed": 0,
}


def fit(table: Any, label: str, *, rounds: int, threads: int) -> tuple[Any, float]:
    """Train on an Arrow table; return the booster and its last log loss."""
    matrix = xgboost.QuantileDMatrix(
        table.drop_columns([label]), label=table[label].to_numpy(), nthread=threads
    )
    log: dict[str, dict[str, list[float]]] = {}
    booster = xgboost.train(
        {**PARAMETERS, "nthread": threads},
        matrix,
        rounds,
        evals=[(matrix, "train")],
        evals_result=log,
        verbose_eval=False,
    )
    return booster, log["train"]["logloss"][-1]


def main(path: str, label: str, model: str, rounds: str, threads: str, *_: str) -> None:
    """Read, train, save, and print the metric."""
    booster, metric = fit(pq.read_table(path), label, rounds=int(rounds), threads=int(threads))
    booster.save_model(model)
    print(json.dumps({"train:logloss": metric}))


if __name__ == "__main__":
    main(*sys.argv[1:])
