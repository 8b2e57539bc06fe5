"""Statistics of columns, against the plainest way to compute them."""

from __future__ import annotations

import json
import math
import statistics as plain
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.statistics import QUANTILES, describe


@given(
    values=st.lists(st.none() | st.floats(-1e6, 1e6) | st.just(math.nan) | st.just(math.inf)),
    cut=st.integers(0, 5),
)
def test_numbers(values, cut):
    column = pa.chunked_array(
        [pa.array(values[:cut], pa.float64()), pa.array(values[cut:], pa.float64())]
    )
    found = describe(pa.table({"x": column}))["x"]
    known = [x for x in values if x is not None]
    finite = [x for x in known if math.isfinite(x)]
    assert (found["count"], found["nulls"]) == (len(known), len(values) - len(known))
    assert found["not_finite"] == len(known) - len(finite)
    json.dumps(found, allow_nan=False)
    if not finite:
        assert found["mean"] is None
        return
    assert found["mean"] == pytest.approx(plain.fmean(finite), rel=1e-9, abs=1e-6)
    assert found["std"] == pytest.approx(plain.pstdev(finite), rel=1e-6, abs=1e-6)
    assert (found["min"], found["max"]) == (min(finite), max(finite))
    ordered = sorted(finite)
    for q in QUANTILES:
        place = q * (len(ordered) - 1)
        low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
        expected = low + (high - low) * (place - math.floor(place))
        assert found["quantiles"][str(q)] == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_the_largest_numbers_do_not_overflow():
    found = describe(pa.table({"x": [1.7e308, 1.7e308], "n": [2**63 - 1, -(2**63)]}))
    assert found["x"]["mean"] == 1.7e308
    assert (found["n"]["min"], found["n"]["max"]) == (-(2**63), 2**63 - 1)


@given(words=st.lists(st.none() | st.sampled_from([f"w{i}" for i in range(14)]), max_size=60))
def test_words(words):
    found = describe(pa.table({"w": pa.array(words, pa.string()).dictionary_encode()}))["w"]
    counts = Counter(word for word in words if word is not None)
    top = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:10]
    assert found["distinct"] == len(counts)
    assert found["top"] == [{"value": value, "count": count} for value, count in top]


def test_other_types():
    moment = pa.array([0, None, 5_000], pa.timestamp("ns", "UTC"))
    found = describe(
        pa.table(
            {
                "when": moment,
                "flag": [True, True, None],
                "list": [[1, 2], None, []],
                "none": pa.nulls(3),
                "day": pa.array([1, 2, None], pa.date32()),
                "never": pa.nulls(3, pa.timestamp("us", "UTC")),
            }
        )
    )
    assert (found["when"]["min"], found["when"]["max"]) == (
        "1970-01-01T00:00:00Z",
        "1970-01-01T00:00:00.000005Z",
    )
    assert found["flag"]["top"] == [{"value": True, "count": 2}]
    assert found["list"]["length"]["mean"] == 1.0
    assert (found["none"]["count"], found["none"]["nulls"]) == (0, 3)
    assert found["day"] == {"type": "date32[day]", "count": 2, "nulls": 1}
    assert found["never"]["count"] == 0
    assert list(describe(pa.table({"a": [1], "b": [2]}), ["b"])) == ["b"]


def test_a_million_numbers_take_no_time():
    table = pa.table({"x": np.random.default_rng(0).normal(size=1_000_000)})
    found = describe(table)["x"]
    assert found["mean"] == pytest.approx(0, abs=0.01)
    assert found["quantiles"]["0.5"] == pytest.approx(0, abs=0.01)
