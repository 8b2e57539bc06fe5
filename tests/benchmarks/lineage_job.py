"""One job's lineage, and what it is compared with: its rows put into SQLite without a log."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final, final

import lineage
from lineage import Entity, derived_uid

__all__ = ["Job", "PlainFile", "make_job"]

_INPUTS: Final = 6
_OUTPUTS: Final = 5
_DERIVED: Final = 9
_BUSY_TIMEOUT_S: Final = 60.0
_TIME_US: Final = 1_704_067_200_000_000


@final
@dataclass(frozen=True)
class Job:
    """What one job records.

    Args:
        entities: 12: the job, its inputs and its outputs, all new.
        associations: 20 between them.
        rows: the entities as the entity table has them.
        edges: the associations as (place of the destination, place of the source, type).
    """

    entities: tuple[Entity, ...]
    associations: tuple[tuple[Entity, Entity, str], ...]
    rows: tuple[tuple[str | int, ...], ...]
    edges: tuple[tuple[int, int, str], ...]


def make_job(writer: int, number: int) -> Job:
    """Make the job of a writer with a number, unlike any other."""
    name = f"job-{writer}-{number}"
    entities = (
        lineage.trial_component(
            "TrainingJob",
            name,
            state="Completed",
            properties={"parameters": {"eta": 0.1, "num_round": 100}, "metrics": {"auc": 0.9}},
        ),
        *(
            lineage.artifact("DataSet", f"s3://bucket/{name}/in-{n}", content_hash=_digest(name, n))
            for n in range(_INPUTS)
        ),
        *(
            lineage.artifact("Model", f"s3://bucket/{name}/out-{n}", content_hash=_digest(name, -n))
            for n in range(_OUTPUTS)
        ),
    )
    inputs = range(1, 1 + _INPUTS)
    outputs = range(1 + _INPUTS, 1 + _INPUTS + _OUTPUTS)
    edges = [(0, place, "ContributedTo") for place in inputs]
    edges += [(place, 0, "Produced") for place in outputs]
    pairs = [(output, source, "DerivedFrom") for output in outputs for source in inputs]
    edges += pairs[:_DERIVED]
    return Job(
        entities,
        tuple(
            (entities[source], entities[destination], link) for destination, source, link in edges
        ),
        tuple(_row(entity) for entity in entities),
        tuple(edges),
    )


def _digest(name: str, place: int) -> str:
    """Unlike any other: equal content would be told of as the same."""
    return lineage.bytes_digest(f"{name} {place}".encode())


@final
class PlainFile:
    """The lineage file's tables and durability without its log, hashes and merging.

    Args:
        path: the file; made with the tables when absent.
    """

    def __init__(self, path: Path) -> None:
        is_new = not path.exists()
        self._connection = sqlite3.connect(
            path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        if is_new:
            for script in ("log.sql", "graph.sql"):
                schema = files("lineage.store").joinpath(script).read_text("utf-8")
                self._connection.executescript(schema)

    def write(self, job: Job) -> None:
        """Put one job's rows in, in one transaction that is durable at the end."""
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        nodes = [
            run(
                "INSERT INTO entity (kind, type, name, uid, source_uri, content_hash, version, "
                "state, properties, facets, created_us, modified_us, created_seq, modified_seq) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '{}', ?, ?, 1, 1)",
                row,
            ).lastrowid
            for row in job.rows
        ]
        self._connection.executemany(
            "INSERT INTO edge (dst, src, type, valid_from_seq) VALUES (?, ?, ?, 1)",
            [(nodes[destination], nodes[source], link) for destination, source, link in job.edges],
        )
        run("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _row(entity: Entity) -> tuple[str | int, ...]:
    return (
        entity.kind.value,
        entity.type,
        entity.name,
        derived_uid(entity),
        entity.source_uri,
        entity.content_hash,
        entity.version,
        entity.state,
        '{"metrics":{"auc":0.9},"parameters":{"eta":0.1,"num_round":100}}'
        if entity.properties
        else "{}",
        _TIME_US,
        _TIME_US,
    )
