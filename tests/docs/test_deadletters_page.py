"""The worked examples of `docs/ingest-deadletters.md` run, one after another, as a reader would."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "ingest-deadletters.md"


def test_the_pages_examples_run(monkeypatch, tmp_path):
    text = PAGE.read_text(encoding="utf-8")
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    assert len(blocks) == 4
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "letters-page"}
    for block in blocks:
        line = text.count("\n", 0, block.start(1))
        # The page's own line numbers, in case an example fails.
        exec(compile("\n" * line + block.group(1), str(PAGE), "exec"), names)
