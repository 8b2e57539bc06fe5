"""Runs krcf or gensim on arrays in files, in an environment that has them; prints the seconds."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def forest(folder: Path) -> float:
    """Give krcf the rows of `train.npy` one by one, then score those of `later.npy`."""
    import krcf

    train, later = np.load(folder / "train.npy"), np.load(folder / "later.npy")
    # Another key would be ignored without a word.
    options = {"dimensions": train.shape[1], "shingle_size": 1, "num_trees": 100}
    options |= {"sample_size": 256, "output_after": 1, "random_seed": 0}
    began = time.perf_counter()
    made = krcf.RandomCutForest(options)
    for row in train:
        made.update(row)
    scores = np.array([made.score(row) for row in later])
    took = time.perf_counter() - began
    np.save(folder / "answers.npy", scores)
    return took


def topics(folder: Path) -> float:
    """Let gensim find as many topics as `topics.json` says in the counts of `train.npy`."""
    from gensim.models import LdaModel

    counts: Any = np.load(folder / "train.npy")
    wanted = json.loads((folder / "topics.json").read_text(encoding="utf-8"))
    documents = [[(int(word), float(row[word])) for word in np.flatnonzero(row)] for row in counts]
    began = time.perf_counter()
    made = LdaModel(
        documents,
        num_topics=wanted["topics"],
        id2word={word: str(word) for word in range(counts.shape[1])},
        passes=wanted["passes"],
        random_state=0,
    )
    took = time.perf_counter() - began
    np.save(folder / "answers.npy", made.get_topics())
    return took


if __name__ == "__main__":
    subjects: dict[str, Callable[[Path], float]] = {"forest": forest, "topics": topics}
    print(json.dumps({"seconds": subjects[sys.argv[1]](Path(sys.argv[2]))}))
