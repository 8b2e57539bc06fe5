from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from training import metrics

RANDOM = np.random.default_rng(3)
TARGET = RANDOM.integers(0, 2, 500)
SCORE = np.clip(np.round(TARGET * 0.3 + RANDOM.random(500) * 0.8, 2), 0.01, 0.99)
GUESS = (SCORE > 0.5).astype(float)
CLASSES = RANDOM.integers(0, 4, 500)
CLASS_GUESS = np.where(RANDOM.random(500) < 0.6, CLASSES, RANDOM.integers(0, 5, 500))
VALUES = RANDOM.normal(3, 2, 500)
VALUE_GUESS = VALUES + RANDOM.normal(0, 0.5, 500)


def sk_rmse(target: Any, guess: Any) -> float:
    return float(sk.root_mean_squared_error(target, guess))


@pytest.mark.parametrize(
    ("ours", "theirs", "target", "guess"),
    [
        (metrics.auc, sk.roc_auc_score, TARGET, SCORE),
        (metrics.auc, sk.roc_auc_score, TARGET, np.full(500, 0.5)),
        (metrics.logloss, sk.log_loss, TARGET, SCORE),
        (metrics.accuracy, sk.accuracy_score, CLASSES, CLASS_GUESS),
        (metrics.balanced_accuracy, sk.balanced_accuracy_score, CLASSES, CLASS_GUESS),
        (metrics.precision, sk.precision_score, TARGET, GUESS),
        (metrics.recall, sk.recall_score, TARGET, GUESS),
        (metrics.f1_binary, sk.f1_score, TARGET, GUESS),
        (metrics.mse, sk.mean_squared_error, VALUES, VALUE_GUESS),
        (metrics.rmse, sk_rmse, VALUES, VALUE_GUESS),
        (metrics.mae, sk.mean_absolute_error, VALUES, VALUE_GUESS),
        (metrics.mape, sk.mean_absolute_percentage_error, VALUES, VALUE_GUESS),
        (metrics.r2, sk.r2_score, VALUES, VALUE_GUESS),
    ],
)
def test_a_metric_equals_scikit_learns(
    ours: Callable[..., float], theirs: Callable[..., float], target: Any, guess: Any
) -> None:
    with warnings.catch_warnings():
        # A class that was guessed and never occurs is meant.
        warnings.simplefilter("ignore", UserWarning)
        expected = theirs(target, guess)
    assert ours(target, guess) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("ours", "theirs", "average"),
    [
        (metrics.f1, sk.f1_score, "macro"),
        (metrics.precision_macro, sk.precision_score, "macro"),
        (metrics.precision_micro, sk.precision_score, "micro"),
        (metrics.recall_macro, sk.recall_score, "macro"),
        (metrics.recall_micro, sk.recall_score, "micro"),
    ],
)
def test_an_averaged_metric_equals_scikit_learns(
    ours: Callable[..., float], theirs: Callable[..., float], average: str
) -> None:
    expected = theirs(CLASSES, CLASS_GUESS, average=average, zero_division=0)
    assert ours(CLASSES, CLASS_GUESS) == pytest.approx(expected, abs=1e-12)


def test_the_auc_of_one_class_is_not_a_number() -> None:
    assert np.isnan(metrics.auc(np.ones(3), np.array([0.1, 0.2, 0.3])))


def test_r2_of_a_constant_label() -> None:
    assert metrics.r2(np.ones(3), np.ones(3)) == 1
    assert metrics.r2(np.ones(3), np.array([1.0, 1.0, 2.0])) == 0


def test_nothing_predicted_gives_zero_and_no_warning() -> None:
    assert metrics.precision(np.array([0, 1]), np.array([0, 0])) == 0
    assert metrics.f1_binary(np.array([0, 0]), np.array([0, 0])) == 0


def test_quality_lines_are_found_by_sagemakers_expressions() -> None:
    line = metrics.quality_line("test:msd", 0.25)
    assert line == "#quality_metric: host=algo-1, test msd <loss>=0.25"


RELEVANCE = RANDOM.integers(0, 4, (50, 6)).astype(float)
RANKED = np.round(RANDOM.random((50, 6)), 1)
PROBABILITY = RANDOM.dirichlet(np.ones(4), 500)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            lambda: metrics.average_precision(TARGET, SCORE),
            lambda: sk.average_precision_score(TARGET, SCORE),
        ),
        (
            lambda: metrics.f_beta(TARGET, GUESS, 0.5),
            lambda: sk.fbeta_score(TARGET, GUESS, beta=0.5),
        ),
        (
            lambda: metrics.f_beta_macro(CLASSES, CLASSES[::-1], 2),
            lambda: sk.fbeta_score(CLASSES, CLASSES[::-1], beta=2, average="macro"),
        ),
        (
            lambda: metrics.cross_entropy(CLASSES, PROBABILITY),
            lambda: sk.log_loss(CLASSES, PROBABILITY),
        ),
        (
            lambda: metrics.top_k_accuracy(CLASSES, PROBABILITY, 2),
            lambda: sk.top_k_accuracy_score(CLASSES, PROBABILITY, k=2),
        ),
        (lambda: metrics.dcg(RELEVANCE, RANKED), lambda: sk.dcg_score(RELEVANCE, RANKED)),
        (lambda: metrics.dcg(RELEVANCE, RANKED, k=3), lambda: sk.dcg_score(RELEVANCE, RANKED, k=3)),
        (
            lambda: metrics.ndcg(RELEVANCE, RANKED, k=3),
            lambda: sk.ndcg_score(RELEVANCE, RANKED, k=3),
        ),
        (
            lambda: metrics.mean_average_precision(RELEVANCE >= 2, RANKED),
            lambda: sk.label_ranking_average_precision_score(RELEVANCE >= 2, RANKED),
        ),
        (
            lambda: metrics.adjusted_rand_index(CLASSES, CLASS_GUESS),
            lambda: sk.adjusted_rand_score(CLASSES, CLASS_GUESS),
        ),
        (
            lambda: metrics.normalized_mutual_information(CLASSES, CLASS_GUESS),
            lambda: sk.normalized_mutual_info_score(CLASSES, CLASS_GUESS),
        ),
        (lambda: metrics.adjusted_rand_index(CLASSES, CLASSES * 0), lambda: 0.0),
        (lambda: metrics.normalized_mutual_information(CLASSES * 0, CLASSES * 0), lambda: 1.0),
    ],
)
def test_metrics_of_scores_orders_and_clusters_equal_scikit_learns(
    ours: Callable[[], float], theirs: Callable[[], float]
) -> None:
    assert ours() == pytest.approx(theirs(), abs=1e-12)


def test_curves_equal_scikit_learns() -> None:
    expected = sk.roc_curve(TARGET, SCORE, drop_intermediate=False)
    for one, other in zip(metrics.roc_curve(TARGET, SCORE), expected, strict=True):
        np.testing.assert_allclose(one, other)
    expected = sk.precision_recall_curve(TARGET, SCORE)
    for one, other in zip(metrics.precision_recall_curve(TARGET, SCORE), expected, strict=True):
        np.testing.assert_allclose(one, other)
    table = metrics.confusion_matrix(CLASSES, CLASS_GUESS)
    assert (table == sk.confusion_matrix(CLASSES, CLASS_GUESS)).all()


def test_words_of_topics() -> None:
    scipy_sparse = pytest.importorskip("scipy.sparse")
    documents = scipy_sparse.csr_matrix([[1, 1, 0, 0], [2, 1, 0, 0], [0, 0, 1, 1], [0, 0, 3, 1]])
    topics = np.array([[0.5, 0.4, 0.1, 0.0], [0.0, 0.1, 0.4, 0.5]])
    words = metrics.top_words(topics, 2)
    assert words.tolist() == [[0, 1], [3, 2]]
    assert metrics.npmi(words, documents) == pytest.approx(1.0)
    assert metrics.npmi(np.array([[0, 2]]), documents) == -1.0
    vectors = np.array([[1.0, 1.0], [0.0, 3.0], [2.0, 0.0], [0.0, 0.0]])
    pairs = [np.sqrt(0.5), np.sqrt(0.5), 0.0]
    assert metrics.wetc(vectors[[[0, 1, 2]]]) == pytest.approx(np.mean(pairs))
    assert metrics.wetc(vectors[[[0, 3], [1, 1]]]) == pytest.approx(0.5)
