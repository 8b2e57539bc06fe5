"""The example in docs/erasure.md does what it says."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import featurestore
from featurestore import FeatureGroup, feature_definitions

PAGE = Path(__file__).parents[2] / "docs" / "erasure.md"


def test_the_example_runs(tmp_path, capsys):
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
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
        test = doctest.DocTestParser().get_doctest(block, {"store": store}, PAGE.name, None, 0)
        result = doctest.DocTestRunner().run(test)
    assert result.failed == 0, capsys.readouterr().out
    assert result.attempted == 7
