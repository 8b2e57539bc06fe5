"""The examples of the algorithms' pages run, and each page has what its algorithm declares."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import page, run_examples
from training import find_algorithm, list_algorithms

PAGES = {name: page(f"algorithms/{name}") for name in list_algorithms()}
TEXTS = {name: path.read_text(encoding="utf-8") for name, path in PAGES.items() if path.is_file()}
EXAMPLES = {name: len(re.findall(r"^```python$", text, re.M)) for name, text in TEXTS.items()}


@pytest.mark.parametrize("name", [name for name, count in EXAMPLES.items() if count])
def test_the_pages_examples_run(name, monkeypatch, tmp_path):
    for library in find_algorithm(name).libraries:
        pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    run_examples(f"algorithms/{name}", expected=EXAMPLES[name])


@pytest.mark.parametrize("name", TEXTS)
def test_the_page_names_every_hyperparameter(name):
    rows = re.findall(r"^\| `([^`]+)`.* \|$", TEXTS[name], re.MULTILINE)
    for item in find_algorithm(name).hyperparameters():
        assert item.name in rows
