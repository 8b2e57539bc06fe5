"""The worked examples of `docs/ingest-run.md` run, and its settings file is right."""

from __future__ import annotations

import re
from pathlib import Path

from ingest.fleet.settings import read_settings

PAGE = Path(__file__).parents[2] / "docs" / "ingest-run.md"


def test_the_pages_examples_run(monkeypatch, tmp_path):
    text = PAGE.read_text(encoding="utf-8")
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    assert len(blocks) == 2
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "ingest-run-page"}
    for block in blocks:
        line = text.count("\n", 0, block.start(1))
        # The page's own line numbers, in case an example fails.
        exec(compile("\n" * line + block.group(1), str(PAGE), "exec"), names)


def test_the_pages_settings_are_right(tmp_path):
    (toml,) = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "ingest.toml").write_text(toml)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/token").write_text("t")
    (tmp_path / "kafka-security.toml").write_text('protocol = "SSL"')
    found = read_settings(tmp_path / "ingest.toml", environ={"BROKERS": "broker:9092"})
    assert [one.name for one in found.pipelines] == ["weather", "planes"]
    assert found.pipelines[0].source["security"] == {"protocol": "SSL"}
