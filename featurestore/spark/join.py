"""The point-in-time rule as Spark SQL.

Spine and history go into one window of each identifier, in the order of `VERSION_ORDER`, where a
spine row comes after every version of its own time; it sees the last version before it. The
identifiers are spread over the executors by their hash, and a window is read as a stream: what
does not fit into an executor's memory is sorted and kept on its disk, also when one identifier has
most of the rows; that one is then the work of one task. Spine rows without an identifier see
nothing, and are spread by their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from featurestore.feature import FeatureDefinition, FeatureType
from featurestore.offline.base import Snapshot
from featurestore.schema import FeatureGroup
from featurestore.spark.session import read_parquet

__all__ = ["Step", "as_of_join", "quoted", "spark_type"]

_TYPES: Final = {
    FeatureType.INTEGRAL: "BIGINT",
    FeatureType.FRACTIONAL: "DOUBLE",
    FeatureType.STRING: "STRING",
}
_INTERNAL: Final = {
    "_event_time": "TIMESTAMP",
    "is_deleted": "BOOLEAN",
    "write_time": "TIMESTAMP",
    "_sequence": "BIGINT",
}
# With so few spine rows every executor gets their identifiers, and others are left out before the
# history is spread.
_FEW_ROWS: Final = 200_000


@final
@dataclass(frozen=True)
class Step:
    """One selection's part of the join.

    Args:
        group: the definition.
        features: names of m features.
        key: SQL of the spine's identifier, in the type of the group's.
        columns: names of the m columns that the join adds.
        age: name of the column with the seen version's age in µs; null where nothing was known.
        snapshot: the table version's files that the spine can see; None or no file: nothing was
            ever written.
        lookback_us: how old a value may be, µs; None: any age.
    """

    group: FeatureGroup
    features: tuple[str, ...]
    key: str
    columns: tuple[str, ...]
    age: str
    snapshot: Snapshot | None
    lookback_us: int | None


def as_of_join(
    spark: Any,
    spine: Any,
    steps: Sequence[Step],
    *,
    rows: int,
    latest_us: int,
    as_of_us: int | None,
) -> Any:
    """Add to each spine row what each step's group knew at its time.

    Args:
        spark: the session, within `configured`.
        spine: a DataFrame of `_row` (a number of its own), `_time` (µs since the epoch), and
            columns whose names do not begin with an underscore.
        steps: the selections, one after another.
        rows: of the spine.
        latest_us: the spine's latest time.
        as_of_us: only rows whose write time is at or before it count; None: all.

    Returns:
        A DataFrame of the spine's rows, in any order: its columns, then those of the steps.
    """
    joined = spine
    for step in steps:
        if step.snapshot is None or not step.snapshot.files:
            joined = joined.selectExpr("*", *_nothing_known(step))
            continue
        history = _history(spark, step, latest_us, as_of_us)
        if rows <= _FEW_ROWS:
            history = spark.sql(
                f"SELECT /*+ BROADCAST(asked) */ h.* FROM {{history}} h LEFT SEMI JOIN "
                f"(SELECT DISTINCT {step.key} AS _key FROM {{spine}}) asked ON h._key = asked._key",
                history=history,
                spine=spine,
            )
        joined = spark.sql(_query(step, joined.columns), spine=joined, history=history)
    return joined


def _history(spark: Any, step: Step, latest_us: int, as_of_us: int | None) -> Any:
    """Return a step's versions: their identifier, what orders them, and what is seen of them."""
    assert step.snapshot is not None
    group = step.group
    kinds = group.definitions
    named = dict.fromkeys([group.record_identifier, *step.features])
    schema = ", ".join(
        [
            *(f"{quoted(name)} {spark_type(kinds[name])}" for name in named),
            *(f"{name} {kind}" for name, kind in _INTERNAL.items()),
        ]
    )
    identifier = quoted(group.record_identifier)
    known = "" if as_of_us is None else f"AND write_time <= timestamp_micros({as_of_us}L)"
    features = "".join(
        f", {quoted(name)} AS f{number}" for number, name in enumerate(step.features)
    )
    return spark.sql(
        f"""
        SELECT {identifier} AS _key, unix_micros(_event_time) AS _time, NOT is_deleted AS _live,
               write_time AS _written, _sequence,
               struct(unix_micros(_event_time) AS _at, is_deleted AS _gone{features}) AS _version
        FROM {{files}}
        WHERE {identifier} IS NOT NULL AND _event_time <= timestamp_micros({latest_us}L) {known}
        """,
        files=read_parquet(spark, step.snapshot.files, schema),
    )


def _query(step: Step, carried: Sequence[str]) -> str:
    """Write the join of `{spine}` and `{history}`."""
    payload = [name for name in carried if name not in ("_row", "_time")]
    visible = "NOT _seen._gone"
    if step.lookback_us is not None:
        visible += f" AND _time - _seen._at <= {step.lookback_us}L"
    outputs = [f"_carried.{name} AS {name}" for name in payload]
    outputs += [
        f"CASE WHEN {visible} THEN _seen.f{number} END AS {name}"
        for number, name in enumerate(step.columns)
    ]
    outputs.append(f"CASE WHEN {visible} THEN _time - _seen._at END AS {step.age}")
    return f"""
        SELECT _row, _time, {", ".join(outputs)}
        FROM (
            SELECT _row, _time, _asks, _carried, last(_version, true) OVER (
                PARTITION BY _key, _lonely
                ORDER BY _time, _asks, _live, _written, _sequence
                ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
            ) AS _seen
            FROM (
                SELECT _key, CASE WHEN _key IS NULL THEN _row END AS _lonely, _time,
                       true AS _asks, NULL AS _live, NULL AS _written, NULL AS _sequence,
                       NULL AS _version, _row, _carried
                FROM (SELECT *, {step.key} AS _key, struct({", ".join(payload)}) AS _carried
                      FROM {{spine}})
                UNION ALL
                SELECT _key, NULL, _time, false, _live, _written, _sequence, _version, NULL, NULL
                FROM {{history}}
            )
        )
        WHERE _asks
        """


def _nothing_known(step: Step) -> list[str]:
    kinds = step.group.definitions
    return [
        *(
            f"CAST(NULL AS {spark_type(kinds[feature])}) AS {name}"
            for feature, name in zip(step.features, step.columns, strict=True)
        ),
        f"CAST(NULL AS BIGINT) AS {step.age}",
    ]


def spark_type(feature: FeatureDefinition) -> str:
    """Return the Spark SQL type of a feature's values."""
    kind = _TYPES[feature.type]
    return kind if feature.collection is None else f"ARRAY<{kind}>"


def quoted(name: str) -> str:
    """Write a name as Spark SQL does."""
    return "`" + name.replace("`", "``") + "`"
