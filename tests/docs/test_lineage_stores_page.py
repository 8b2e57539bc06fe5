"""The examples in docs/lineage-stores.md do what they say."""

from __future__ import annotations

from tests.docs.pages import run_examples


def test_the_examples_run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run_examples("lineage-stores", expected=3)
