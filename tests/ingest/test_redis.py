"""A pipeline into a store on Redis: records, deletions and the position go together."""

from __future__ import annotations

import json

import pytest

from featurestore import FeatureGroup, feature_definitions
from featurestore.embedded import open_store
from ingest import Deleted, FileSource, Pipeline, Transform

READINGS = FeatureGroup(
    "readings",
    record_identifier="station",
    event_time="time",
    features=feature_definitions(
        [("station", "Integral"), ("time", "String"), ("sequence", "Integral")]
    ),
)


class _Gone(Transform):
    """Takes sequence numbers that end in 99 for the word that their station is gone."""

    def apply(self, records, messages):
        return [Deleted(record) if record["sequence"] % 100 == 99 else record for record in records]


@pytest.mark.parametrize("url", ["redis_url", "cluster_url"])
def test_a_run_that_is_cut_goes_on_where_the_store_stands(url, request, tmp_path, reading):
    path = tmp_path / "readings.jsonl"
    records = [reading(n) for n in range(1000)]
    for record in records:
        del record["temp"]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    online = request.getfixturevalue(url)()
    with open_store(tmp_path / "home", online=online) as store:
        store.create_feature_group(READINGS)

        def ingest() -> Pipeline:
            source = FileSource(path)
            return Pipeline(source, store, "readings", transforms=[_Gone()], batch_size=64)

        class Cut(Exception):
            pass

        def cut(report):
            if report.read >= 500:
                raise Cut

        with pytest.raises(Cut):
            ingest().run(on_progress=cut)
        report = ingest().run()
        assert report.read == 1000 - 512
        assert ingest().run().read == 0
        assert store.flush("readings")["readings"].records == 1000
        expected = {record["station"]: record for record in records}
        for station, record in expected.items():
            gone = record["sequence"] % 100 == 99
            assert store.get("readings", station) == (None if gone else record)
        assert store.verify("readings").equal
