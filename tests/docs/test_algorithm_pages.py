"""The examples of the algorithms' pages run, and each page has what its algorithm declares."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import page, run_examples
from training import find_algorithm, list_algorithms

# Pages whose examples are not written yet have none.
EXAMPLES = {name: 1 for name in list_algorithms() if name != "xgboost"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_pages_examples_run(name, monkeypatch, tmp_path):
    for library in find_algorithm(name).libraries:
        pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    run_examples(f"algorithms/{name}", expected=EXAMPLES[name])


@pytest.mark.parametrize("name", list_algorithms())
def test_the_page_names_every_hyperparameter(name):
    text = page(f"algorithms/{name}").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)`.* \|$", text, re.MULTILINE)
    for item in find_algorithm(name).hyperparameters():
        assert item.name in rows
