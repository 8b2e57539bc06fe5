"""Datasets of the feature store as tensors and as XGBoost matrices."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost

import featurestore
import training
from featurestore import FeatureGroup, feature_definitions, parted
from training.errors import InvalidData

FEATURES = [("id", "Integral"), ("at", "String"), ("temp", "Fractional"), ("sky", "String")]
ROWS = 50


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One dataset, in memory and in a file."""
    with featurestore.open(tmp_path_factory.mktemp("home")) as store:
        store.create_feature_group(
            FeatureGroup(
                "readings",
                record_identifier="id",
                event_time="at",
                features=feature_definitions([*FEATURES, ("n", "Integral")]),
            )
        )
        at = "2024-01-01T00:00:00Z"
        for i in range(0, ROWS, 2):
            record = {"id": i, "at": at, "temp": i / 4, "sky": "wet" if i % 4 else "dry", "n": -i}
            store.put("readings", record)
        spine = pa.table(
            {
                "id": list(range(ROWS)),
                "event_time": ["2024-01-02T00:00:00Z"] * ROWS,
                "late": [i % 3 == 0 for i in range(ROWS)],
                "holes": pa.array([None if i == 7 else 1.0 for i in range(ROWS)]),
            }
        )
        path = tmp_path_factory.mktemp("out") / "rows.parquet"
        memory = store.dataset(spine, ["readings"])
        written = store.write_dataset(spine, ["readings"], path, memory_limit="256MB")
    folder = tmp_path_factory.mktemp("folder")
    for number, start in enumerate(range(0, ROWS, 20)):
        pq.write_table(memory.table.slice(start, 20), folder / f"part-{number:05d}.parquet")
    parted.seal(folder, pq.read_schema(path))
    parts = featurestore.WrittenDataset(folder, written.manifest)
    forms = {"memory": memory, "written": written, "file": path, "folder": folder, "parts": parts}
    return forms | {"table": memory.table}


FORMS = ["memory", "written", "file", "folder", "parts"]


def rows_of(batches: Any) -> tuple[Any, Any]:
    pairs = list(batches)
    return np.concatenate([x for x, _ in pairs]), np.concatenate([y for _, y in pairs])


class TestTorch:
    @pytest.fixture(autouse=True)
    def _needs_torch(self) -> None:
        pytest.importorskip("torch")

    @pytest.mark.parametrize("form", FORMS)
    def test_batches_hold_every_row_in_order(self, built: dict[str, Any], form: str) -> None:
        batches = training.to_torch(built[form], label="late", batch_rows=16)

        assert batches.features == ("temp", "n")
        first, second = next(iter(batches))
        assert (tuple(first.shape), tuple(second.shape)) == ((16, 2), (16,))
        assert str(first.dtype) == str(second.dtype) == "torch.float32"
        x, y = rows_of(batches)
        expected = [math.nan if i % 2 else i / 4 for i in range(ROWS)]
        np.testing.assert_array_equal(x[:, 0], np.array(expected, np.float32))
        np.testing.assert_array_equal(y, [float(i % 3 == 0) for i in range(ROWS)])

    def test_without_a_label_and_with_named_columns(self, built: dict[str, Any]) -> None:
        batches = list(training.to_torch(built["table"], ["n", "id"], batch_rows=ROWS))
        assert [tuple(batch.shape) for batch in batches] == [(ROWS, 2)]
        assert batches[0][4].tolist() == [-4.0, 4.0]

    @pytest.mark.parametrize("form", FORMS)
    def test_a_seed_shuffles_each_iteration_and_repeats(
        self, built: dict[str, Any], form: str
    ) -> None:
        def made() -> Any:
            return training.to_torch(built[form], ["id"], label="late", batch_rows=8, seed=3)

        one, other = made(), made()
        first, second = rows_of(one), rows_of(one)
        assert sorted(first[0].ravel()) == sorted(second[0].ravel()) == list(range(ROWS))
        assert first[0].tolist() != second[0].tolist()
        assert first[0].tolist() == rows_of(other)[0].tolist()
        assert first[1].tolist() == [float(i % 3 == 0) for i in first[0].ravel()]

    @pytest.mark.parametrize("workers", [0, 2])
    def test_workers_share_the_batches(self, built: dict[str, Any], workers: int) -> None:
        from torch.utils.data import DataLoader, IterableDataset

        batches = training.to_torch(built["memory"], ["id"], label="late", batch_rows=7)
        assert isinstance(batches, IterableDataset)
        # Forked workers would warn of this process's threads.
        context = "spawn" if workers else None
        loader = DataLoader(
            batches, batch_size=None, num_workers=workers, multiprocessing_context=context
        )
        x, _ = rows_of(loader)
        assert sorted(x.ravel()) == list(range(ROWS))

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"features": ["tmp"]}, "column 'tmp' is missing; did you mean 'temp'"),
            ({"features": ["sky"]}, "column 'sky' is string, and a tensor holds numbers"),
            ({"label": "holes"}, "label column 'holes' has 1 missing values"),
            ({"batch_rows": 0}, "batch_rows: expected 1 or more"),
        ],
    )
    @pytest.mark.parametrize("form", ["memory", "file"])
    def test_what_does_not_fit(
        self, built: dict[str, Any], form: str, options: dict[str, Any], words: str
    ) -> None:
        with pytest.raises(InvalidData, match=words):
            training.to_torch(built[form], **options)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="no such file"):
        training.to_quantile_dmatrix(tmp_path / "x.parquet")


@pytest.mark.parametrize("form", FORMS)
def test_a_quantile_matrix_has_the_features(built: dict[str, Any], form: str) -> None:
    matrix = training.to_quantile_dmatrix(built[form], label="late", max_bin=8)

    assert isinstance(matrix, xgboost.QuantileDMatrix)
    assert matrix.feature_names == ["temp", "sky", "n"]
    assert matrix.feature_types == ["float", "c", "int"]
    assert (matrix.num_row(), matrix.num_nonmissing()) == (ROWS, 3 * ROWS // 2)
    assert matrix.get_label().tolist() == [float(i % 3 == 0) for i in range(ROWS)]
    trained = xgboost.train({"max_depth": 2, "max_bin": 8}, matrix, num_boost_round=2)
    assert len(trained.predict(matrix)) == ROWS


def test_a_quantile_matrix_without_a_label(built: dict[str, Any]) -> None:
    matrix = training.to_quantile_dmatrix(built["memory"], ["temp"])
    assert (matrix.feature_names, len(matrix.get_label())) == (["temp"], 0)
