"""The examples in docs/offline-store.md do what they say."""

from __future__ import annotations

import doctest
import re
import time
from pathlib import Path

import featurestore
from featurestore import FeatureGroup, feature_definitions

PAGE = Path(__file__).parents[2] / "docs" / "offline-store.md"
OPTIONS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL


def test_the_examples_run(tmp_path, capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 6
    with featurestore.open(tmp_path / "home") as store:
        store.create_feature_group(
            FeatureGroup(
                "readings",
                record_identifier="station",
                event_time="time",
                features=feature_definitions(
                    [("station", "String"), ("time", "String"), ("temp", "Fractional")]
                ),
            )
        )
        names = {"store": store, "time": time}
        test = doctest.DocTestParser().get_doctest("\n".join(blocks), names, PAGE.name, None, 0)
        result = doctest.DocTestRunner(optionflags=OPTIONS).run(test)
    assert result.failed == 0, capsys.readouterr().out
    assert result.attempted > 10
