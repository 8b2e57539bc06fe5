from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from training.algorithms.tabular.boosting.learner import XGBoost
from training.artifact import MANIFEST, Artifact, ModelStore, open_model, seal
from training.data import Dataset
from training.errors import ModelAltered, ModelNotFound
from training.run import Run

ALGORITHM = XGBoost(num_round=3, objective="binary:logistic")


@pytest.fixture
def sealed(tmp_path: Path, flights: pa.Table) -> Artifact:
    return make(tmp_path / "sealed", flights)


def make(folder: Path, flights: pa.Table, algorithm: XGBoost = ALGORITHM) -> Artifact:
    folder.mkdir()
    model = algorithm.fit(Dataset.of(flights, label="late"), Run(threads=1))
    model.save(folder)
    return seal(folder, algorithm, model, metrics={"train:logloss": 0.5})


def test_the_manifest_says_what_the_model_is(sealed: Artifact) -> None:
    body = json.loads((sealed.path / MANIFEST).read_text())
    assert body["algorithm"] == "xgboost"
    assert body["hyperparameters"]["num_round"] == 3
    assert body["inputs"][2] == {
        "name": "origin",
        "kind": "category",
        "categories": ["EWR", "JFK", "LGA"],
    }
    assert body["metrics"] == {"train:logloss": 0.5}
    assert set(body["files"]) == {"xgboost-model", "inputs.json"}
    assert body["digest"] == sealed.digest
    assert Artifact.read(sealed.path) == sealed


def test_the_digest_names_the_content_and_nothing_else(
    sealed: Artifact, tmp_path: Path, flights: pa.Table
) -> None:
    again = make(tmp_path / "elsewhere", flights)
    assert again.digest == sealed.digest
    other = make(tmp_path / "other", flights, XGBoost(num_round=3, eta=0.1))
    assert other.digest != sealed.digest


@pytest.mark.parametrize("name", ["xgboost-model", "inputs.json"])
def test_an_altered_file_is_refused_by_name(sealed: Artifact, name: str) -> None:
    path = sealed.path / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelAltered, match=f"{name} was altered: expected SHA-256") as caught:
        open_model(sealed.path)
    assert caught.value.expected == sealed.files[name]


def test_a_missing_and_an_added_file_are_refused_by_name(sealed: Artifact) -> None:
    (sealed.path / "extra.py").write_text("print()")
    with pytest.raises(ModelAltered, match=r"extra\.py was added"):
        open_model(sealed.path)
    (sealed.path / "extra.py").unlink()
    (sealed.path / "inputs.json").unlink()
    with pytest.raises(ModelAltered, match=r"inputs\.json is missing"):
        open_model(sealed.path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hyperparameters", {"num_round": 4}),
        ("algorithm", "other"),
        ("inputs", []),
        ("digest", "0" * 64),
    ],
)
def test_an_altered_manifest_is_refused(sealed: Artifact, key: str, value: object) -> None:
    path = sealed.path / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ModelAltered, match=r"manifest\.json was altered"):
        open_model(sealed.path)


@pytest.mark.parametrize("text", ["{", "[]", '{"digest": "x"}'])
def test_a_manifest_that_cannot_be_read_is_refused(sealed: Artifact, text: str) -> None:
    (sealed.path / MANIFEST).write_text(text)
    with pytest.raises(ModelAltered, match="cannot be read"):
        open_model(sealed.path)


def test_a_folder_without_a_manifest_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"expected a folder with manifest\.json"):
        open_model(tmp_path)


def test_the_store_keeps_a_model_under_its_digest(sealed: Artifact, tmp_path: Path) -> None:
    store = ModelStore.of(tmp_path)
    kept = store.add(sealed.path)
    assert kept.path == tmp_path / "artifacts" / "models" / sealed.digest
    assert not sealed.path.exists()
    assert all(path.stat().st_mode & 0o222 == 0 for path in kept.path.iterdir())
    assert open_model(kept.path).inputs.names == ("wind", "delay", "origin", "night", "seats")


def test_the_same_model_twice_is_one_folder(
    sealed: Artifact, tmp_path: Path, flights: pa.Table
) -> None:
    store = ModelStore.of(tmp_path)
    first = store.add(sealed.path)
    again = make(tmp_path / "again", flights)
    assert store.add(again.path).path == first.path
    assert not again.path.exists()


def test_the_store_refuses_a_model_that_was_altered(sealed: Artifact, tmp_path: Path) -> None:
    (sealed.path / "inputs.json").write_text("[]")
    with pytest.raises(ModelAltered):
        ModelStore.of(tmp_path).add(sealed.path)


def test_a_damaged_model_in_the_store_is_not_passed_off_as_a_new_one(
    sealed: Artifact, tmp_path: Path
) -> None:
    store = ModelStore.of(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(sealed.path, copy)
    kept = store.add(sealed.path)
    (kept.path / "inputs.json").unlink()
    with pytest.raises(ModelAltered, match=r"inputs\.json is missing"):
        store.add(copy)
