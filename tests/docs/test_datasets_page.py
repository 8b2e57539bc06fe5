"""The worked examples of `docs/datasets.md`; those on Spark where there is one."""

from __future__ import annotations

import pytest

from tests.docs.pages import run_examples


# Spark's Python leaves the sockets of its results to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_the_pages_examples_run(request, monkeypatch, tmp_path):
    has_spark = True
    try:
        request.getfixturevalue("spark")
    except pytest.skip.Exception:
        has_spark = False
    monkeypatch.chdir(tmp_path)
    run_examples("datasets", expected=11, only=lambda code: has_spark or "pyspark" not in code)
