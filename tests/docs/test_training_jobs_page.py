"""The worked examples of `docs/training-jobs.md`, run one after another, as a reader would."""

from __future__ import annotations

from tests.docs.pages import run_page


def test_the_examples_of_the_page_run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run_page("training-jobs", commands=8)
