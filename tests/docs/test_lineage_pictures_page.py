"""The examples in docs/lineage-pictures.md do what they say."""

from __future__ import annotations

from tests.docs.pages import run_examples


def test_the_examples_run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    # The page sets it; after the test it is as it was.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    run_examples("lineage-pictures", expected=7)
