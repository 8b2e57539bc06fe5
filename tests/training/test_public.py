from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import training


def test_every_public_name_is_there_and_listed_once() -> None:
    assert len(set(training.__all__)) == len(training.__all__)
    for name in training.__all__:
        assert getattr(training, name).__name__ == name


def test_the_lazy_table_and_the_list_agree() -> None:
    assert set(training._MODULE_OF) == set(training.__all__)
    assert set(training.__all__) <= set(dir(training))


def test_the_static_imports_and_the_lazy_table_agree() -> None:
    tree = ast.parse(Path(training.__file__).read_text(encoding="utf-8"))
    static = {
        alias.name: node.module.removeprefix("training.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("training")
        for alias in node.names
    }
    assert static == training._MODULE_OF


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(training, "fit_everything")


def test_a_jobs_process_does_not_load_what_it_does_not_need() -> None:
    code = (
        "import sys, training.jobs.main;"
        "print([m for m in ('grpc', 'lineage', 'duckdb', 'deltalake', 'torch', 'pandas')"
        " if m in sys.modules])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(training.__file__).parents[1],
    )
    assert loaded.stdout.strip() == "[]"
