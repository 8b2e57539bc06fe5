"""The examples in docs/ingest-sources.md do what they say."""

from __future__ import annotations

import doctest
import re

from tests.docs.pages import page

PAGE = page("ingest-sources")


def test_the_examples_run(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 6
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), names, PAGE.name, None, 0)
    result = doctest.DocTestRunner().run(test, clear_globs=False)
    test.globs["store"].close()
    assert result.failed == 0, capsys.readouterr().out
    assert result.attempted > 20
