"""Which algorithms there are: ours in one table, third parties' by entry point.

A package adds its own under the entry point group `featureline.algorithms`, the name as jobs call
it and the value like those in `ALGORITHMS`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Mapping

from training.algorithm import Algorithm
from training.errors import AlgorithmNotFound, LibraryMissing, nearest

__all__ = ["ALGORITHMS", "ENTRY_POINTS", "find_algorithm", "list_algorithms"]

ALGORITHMS: Mapping[str, str] = {
    "factorization-machines": (
        "training.algorithms.tabular.factorization.learner:FactorizationMachines"
    ),
    "ipinsights": "training.algorithms.unsupervised.ipinsights.learner:IPInsights",
    "kmeans": "training.algorithms.unsupervised.kmeans:KMeans",
    "knn": "training.algorithms.tabular.knn:KNN",
    "lda": "training.algorithms.unsupervised.lda:LDA",
    "linear-learner": "training.algorithms.tabular.linear.learner:LinearLearner",
    "ntm": "training.algorithms.unsupervised.ntm.learner:NTM",
    "object2vec": "training.algorithms.text.object2vec.learner:Object2Vec",
    "pca": "training.algorithms.unsupervised.pca:PCA",
    "randomcutforest": "training.algorithms.unsupervised.randomcutforest:RandomCutForest",
    "xgboost": "training.algorithms.tabular.boosting.learner:XGBoost",
}

ENTRY_POINTS = "featureline.algorithms"


def list_algorithms() -> tuple[str, ...]:
    """Name the algorithms that `find_algorithm` knows, sorted."""
    return tuple(sorted(_table()))


def find_algorithm(name: str) -> type[Algorithm]:
    """Return the algorithm of this name; its library is not imported before a fit.

    Raises:
        AlgorithmNotFound: there is none; the message has the nearest name.
        LibraryMissing: a third party's algorithm cannot be imported.

    >>> find_algorithm("xgboost").name
    'xgboost'
    """
    table = _table()
    if name not in table:
        raise AlgorithmNotFound(
            f"algorithm {name!r} does not exist{nearest(name, table)}; there are "
            f"{', '.join(sorted(table))}",
            name=name,
        )
    module, _, attribute = table[name].partition(":")
    try:
        found: type[Algorithm] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise LibraryMissing(
            f"algorithm {name!r} is declared as {table[name]}, which cannot be imported: {error}",
            library=module,
        ) from error
    return found


def _table() -> dict[str, str]:
    points = importlib.metadata.entry_points(group=ENTRY_POINTS)
    # Ours come last, so that no installed package replaces one of them unseen.
    return {point.name: point.value for point in points} | dict(ALGORITHMS)
