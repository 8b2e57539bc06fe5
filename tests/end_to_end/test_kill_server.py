"""What was acknowledged is there: the server is killed again and again while clients put."""

from __future__ import annotations

import random
from itertools import cycle, islice

import pytest
from deltalake import DeltaTable

from featurestore.embedded import open_store
from featurestore.server import native_is_available
from tests.soak.kills import live_and_die, make_writers
from tests.soak.writer import GROUP, lost_online, offline_faults

pytestmark = pytest.mark.timeout(200)

ROUNDS = 8


def test_acknowledged_records_outlive_kill_9(tmp_path):
    """Both fronts, with 1 and 3 workers, follow each other over one home and flush all the time.

    Hundreds of rounds of each: `make soak`.
    """
    fronts = ["grpc", "native"] if native_is_available() else ["grpc"]
    settings = [(front, workers) for workers in (1, 3) for front in fronts]
    chance = random.Random(20240507)
    writers = make_writers()
    with open_store(tmp_path / "home") as store:
        store.create_feature_group(GROUP)

    lives = [
        live_and_die(tmp_path, front, workers, writers, chance)
        for front, workers in islice(cycle(settings), ROUNDS)
    ]

    assert [writer.failures for writer in writers] == [[]] * len(writers)
    assert sum(life.lost for life in lives) == 0, "an acknowledged record is gone"
    assert sum(life.left for life in lives) == 0, "a process outlived its server"
    assert sum(life.stored for life in lives) >= ROUNDS // 2, "too few lives stored anything"
    assert any(life.workers_killed for life in lives), "no worker was killed by itself"
    with open_store(tmp_path / "home") as store:
        assert lost_online(store, writers) == 0
        flushed = DeltaTable(store.offline_uri("readings")).version()
        faults = offline_faults(store, writers)
    assert faults == (0, 0, 0, 0)
    assert flushed > ROUNDS // 2, "too few lives flushed: the test shows nothing of it"
