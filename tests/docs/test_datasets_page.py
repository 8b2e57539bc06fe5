"""The worked examples of `docs/datasets.md` run, one after another, as a reader would."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "datasets.md"


# Spark's Python leaves the sockets of its results to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_the_pages_examples_run(request, monkeypatch, tmp_path):
    text = PAGE.read_text(encoding="utf-8")
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    assert len(blocks) > 5
    try:
        request.getfixturevalue("spark")
    except pytest.skip.Exception:
        blocks = [block for block in blocks if "pyspark" not in block.group(1)]
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "datasets"}
    try:
        for block in blocks:
            line = text.count("\n", 0, block.start(1))
            # The page's own line numbers, in case an example fails.
            code = compile("\n" * line + block.group(1), str(PAGE), "exec")
            exec(code, names)
    finally:
        close = getattr(names.get("store"), "close", None)
        if close is not None:
            close()
