"""A small problem: flights that are late in wind, with words, nulls and numbers of all kinds."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

__all__ = ["make_flights"]


def make_flights(rows: int, *, seed: int) -> pa.Table:
    """Flights that are late in wind, at one airport, and when they were late before."""
    random = np.random.default_rng(seed)
    wind = random.gamma(2.0, 6.0, rows)
    delay = random.normal(0, 10, rows)
    origin = random.choice(["EWR", "JFK", "LGA"], rows)
    night = random.random(rows) < 0.3
    signal = 0.15 * (wind - 12) + 0.12 * delay + 1.5 * (origin == "LGA") - 0.5
    late = random.random(rows) < 1 / (1 + np.exp(-signal))
    return pa.table(
        {
            "late": pa.array(late.astype(np.int64)),
            "wind": pa.array(wind, mask=random.random(rows) < 0.1),
            "delay": pa.array(delay.astype(np.float32)),
            "origin": pa.array(origin),
            "night": pa.array(night),
            "seats": pa.array(random.integers(50, 300, rows)),
        }
    )


def make_full_flights(rows: int, *, seed: int) -> pa.Table:
    """Flights without nulls, for algorithms that take none."""
    flights = make_flights(rows, seed=seed)
    place = flights.column_names.index("wind")
    return flights.set_column(place, "wind", flights["wind"].fill_null(10.0))
