"""Algorithms of other packages, found by their entry point."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from training import TrainingJob, find_algorithm, list_algorithms, load_model, train
from training.algorithms import ALGORITHMS
from training.errors import AlgorithmNotFound, LibraryMissing

MEAN = '''
"""Predict the mean of the label, pulled towards zero."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self, final

import pyarrow as pa

from training import Algorithm, ChannelDeclaration, Dataset, Inputs, Model, Run
from training.hyperparameter import continuous


@final
@dataclass(frozen=True)
class MeanModel(Model):
    columns: Inputs
    mean: float

    @property
    def inputs(self) -> Inputs:
        return self.columns

    def predict(self, batch: object) -> pa.Table:
        return pa.table({"score": pa.array([self.mean] * len(self.columns.encode(batch)))})

    def save(self, folder: Path) -> None:
        self.columns.save(folder)
        (folder / "mean.json").write_text(json.dumps(self.mean))

    @classmethod
    def load(cls, folder: Path) -> Self:
        return cls(Inputs.load(folder), json.loads((folder / "mean.json").read_text()))


@final
@dataclass(frozen=True, kw_only=True)
class Mean(Algorithm):
    name: ClassVar = "mean"
    model: ClassVar = MeanModel
    channels: ClassVar = (ChannelDeclaration(name="train", about="rows", required=True),)

    shrink: float = continuous(0.0, low=0, about="pseudo-count of zeros")

    def fit(self, train: Dataset, run: Run, *, validation: Dataset | None = None) -> MeanModel:
        mean = float(train.target.sum() / (len(train) + self.shrink))
        run.sink.metric("train:mean", mean)
        return MeanModel(train.inputs, mean)
'''


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    info = site / "mean_algorithm-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "mean_algorithm.py").write_text(MEAN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mean-algorithm\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        textwrap.dedent(
            """
            [featureline.algorithms]
            mean = mean_algorithm:Mean
            xgboost = mean_algorithm:Mean
            lost = mean_algorithm:Median
            """
        )
    )
    monkeypatch.syspath_prepend(site)


@pytest.mark.usefixtures("third_party")
def test_an_algorithm_of_another_package_runs_like_ours(
    home: Path, make_job: Callable[..., TrainingJob], flights: pa.Table
) -> None:
    assert list_algorithms() == tuple(sorted({"lost", "mean", *ALGORITHMS}))
    ours = make_job().to_json()
    channels = [c for c in ours["InputDataConfig"] if c["ChannelName"] == "train"]
    job = TrainingJob.from_json(
        ours
        | {
            "AlgorithmSpecification": {"AlgorithmName": "mean"},
            "HyperParameters": {"shrink": "0"},
            "InputDataConfig": channels,
        }
    )
    result = train(home, job).check()
    expected = sum(flights["late"].to_pylist()) / len(flights)
    assert result.metrics == {"train:mean": pytest.approx(expected)}
    assert load_model(result.model).predict(flights)["score"][0].as_py() == pytest.approx(expected)


@pytest.mark.usefixtures("third_party")
def test_another_package_does_not_replace_one_of_ours() -> None:
    assert find_algorithm("xgboost").__module__ == "training.algorithms.tabular.boosting.learner"


@pytest.mark.usefixtures("third_party")
def test_an_algorithm_that_cannot_be_imported_says_which() -> None:
    with pytest.raises(LibraryMissing, match="'lost' is declared as mean_algorithm:Median, which"):
        find_algorithm("lost")


def test_an_unknown_algorithm_is_refused_with_the_nearest() -> None:
    with pytest.raises(AlgorithmNotFound, match="'xgbost' does not exist; did you mean 'xgboost'"):
        find_algorithm("xgbost")
