"""Metrics of topics: whether their words belong together, and differ between topics."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["npmi", "top_words", "topic_uniqueness", "wetc"]

Array = npt.NDArray[Any]


def top_words(weights: Array, count: int) -> Array:
    """Return the numbers of the heaviest words of each topic, heaviest first.

    Args:
        weights: (topics, words).
        count: how many words of each.
    """
    return np.argsort(-np.asarray(weights), axis=1, kind="stable")[:, :count]


def npmi(words: Array, documents: Any) -> float:
    """Mean normalised pointwise mutual information of the pairs of each topic's words.

    A pair that is in no document together counts -1, one that is in every document 1.

    Args:
        words: (topics, words of each), by number.
        documents: (documents, vocabulary), a CSR matrix of counts.

    Source: Bouma, 2009; Lau, Newman and Baldwin, 2014.
    """
    total = documents.shape[0]
    scores = []
    for topic in np.asarray(words):
        held = np.asarray((documents[:, topic] > 0).todense(), np.float64)
        alone, together = held.mean(axis=0), held.T @ held / total
        for first in range(len(topic)):
            for second in range(first):
                joint = together[first, second]
                if joint == 0:
                    scores.append(-1.0)
                elif joint == 1:
                    scores.append(1.0)
                else:
                    ratio = joint / (alone[first] * alone[second])
                    scores.append(float(np.log(ratio) / -np.log(joint)))
    return float(np.mean(scores))


def topic_uniqueness(words: Array) -> float:
    """Mean over the words of 1 / the number of topics that have it: 1 when no word is shared.

    Source: Nan et al., "Topic Modeling with Wasserstein Autoencoders", 2019.

    >>> topic_uniqueness(np.array([[0, 1], [2, 3]])), topic_uniqueness(np.array([[0, 1], [0, 1]]))
    (1.0, 0.5)
    """
    words = np.asarray(words)
    counts = np.bincount(words.ravel())
    return float(np.mean(1 / counts[words]))


def wetc(vectors: Array) -> float:
    """Mean cosine of the pairs of each topic's words, as vectors that say what words mean.

    A word whose vector is all zeros is like no other.

    Args:
        vectors: (topics, words of each, size), two words or more.

    Source: Ding, Nallapati and Xiang, "Coherence-Aware Neural Topic Modeling", 2018, section 3.

    >>> wetc(np.array([[[1.0, 0.0], [2.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]]))
    0.5
    """
    vectors = np.asarray(vectors, np.float64)
    sizes = np.linalg.norm(vectors, axis=2, keepdims=True)
    along = vectors / np.where(sizes == 0, 1, sizes)
    cosines = along @ along.transpose(0, 2, 1)
    first, second = np.triu_indices(vectors.shape[1], 1)
    return float(cosines[:, first, second].mean())
