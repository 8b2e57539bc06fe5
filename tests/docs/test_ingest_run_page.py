"""The settings file of `docs/ingest-run.md` is right."""

from __future__ import annotations

import re

from ingest.fleet import read_settings
from tests.docs.pages import page


def test_the_pages_settings_are_right(tmp_path):
    text = page("ingest-run").read_text(encoding="utf-8")
    (toml,) = re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "ingest.toml").write_text(toml)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/token").write_text("t")
    (tmp_path / "kafka-security.toml").write_text('protocol = "SSL"')
    found = read_settings(tmp_path / "ingest.toml", environ={"BROKERS": "broker:9092"})
    assert [one.name for one in found.pipelines] == ["weather", "planes"]
    assert found.pipelines[0].source["security"] == {"protocol": "SSL"}
