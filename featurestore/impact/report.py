"""What a record reached, as values."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Final, final

_SHOWN: Final = 10

__all__ = ["DatasetHit", "Downstream", "HeldRow", "ImpactReport"]


@final
@dataclass(frozen=True)
class HeldRow:
    """A row of a group's table.

    Args:
        event_time: of the record.
        write_time: when it was acknowledged.
        is_deleted: whether it marks a deletion.
        versions: first and last number of the table's versions that have it, in stretches.
        files: the data files that have it, as paths in the table; the newest last. Compaction
            writes a row again into another file.
    """

    event_time: dt.datetime
    write_time: dt.datetime
    is_deleted: bool
    versions: tuple[tuple[int, int], ...]
    files: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Write it as JSON values."""
        return {
            "event_time": self.event_time.isoformat(),
            "write_time": self.write_time.isoformat(),
            "is_deleted": self.is_deleted,
            "versions": [list(stretch) for stretch in self.versions],
            "files": list(self.files),
        }

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> HeldRow:
        """Read what `to_json` wrote."""
        return cls(
            dt.datetime.fromisoformat(body["event_time"]),
            dt.datetime.fromisoformat(body["write_time"]),
            body["is_deleted"],
            tuple((first, last) for first, last in body["versions"]),
            tuple(body["files"]),
        )


@final
@dataclass(frozen=True)
class DatasetHit:
    """A dataset that the record may be in.

    Args:
        uid: in the lineage graph; empty for a dataset that the graph does not know.
        name: for people.
        rows: how many of its rows have values of the record; None where that cannot be told: the
            dataset was not saved, and read a version of the table that has the record.
    """

    uid: str
    name: str
    rows: int | None

    @property
    def is_certain(self) -> bool:
        """Whether it was derived row by row that the record is in it."""
        return bool(self.rows)


@final
@dataclass(frozen=True)
class Downstream:
    """Something that comes from a dataset with the record: a job, a model, what was made of it.

    Args:
        uid: in the lineage graph.
        type: of the entity.
        name: of the entity.
        state: of the entity; empty where it has none.
        is_certain: whether any of the datasets that lead here certainly has the record.
    """

    uid: str
    type: str
    name: str
    state: str
    is_certain: bool


@final
@dataclass(frozen=True)
class ImpactReport:
    """What records of an identifier reached.

    Args:
        group: the feature group.
        identifier: of the record, as text.
        event_time: of the record, or of the first; None: every record of the identifier.
        until: of the last; None: there is one, or all.
        rows: of the group's table; none where it was never flushed, or vacuumed away.
        datasets: that have it, or may have it: the certain ones first.
        downstream: what comes from them, jobs and models and all else.
    """

    group: str
    identifier: str
    event_time: dt.datetime | None
    until: dt.datetime | None
    rows: tuple[HeldRow, ...]
    datasets: tuple[DatasetHit, ...]
    downstream: tuple[Downstream, ...]

    @property
    def models(self) -> tuple[Downstream, ...]:
        """The models among what comes from it."""
        return tuple(one for one in self.downstream if one.type == "Model")

    def to_json(self) -> dict[str, Any]:
        """Write it as JSON values."""
        return {
            "group": self.group,
            "identifier": self.identifier,
            "event_time": None if self.event_time is None else self.event_time.isoformat(),
            "until": None if self.until is None else self.until.isoformat(),
            "rows": [row.to_json() for row in self.rows],
            "datasets": [dict(vars(hit), certain=hit.is_certain) for hit in self.datasets],
            "downstream": [dict(vars(one)) for one in self.downstream],
        }

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> ImpactReport:
        """Read what `to_json` wrote."""
        first, last = (
            None if body[name] is None else dt.datetime.fromisoformat(body[name])
            for name in ("event_time", "until")
        )
        return cls(
            body["group"],
            body["identifier"],
            first,
            last,
            tuple(map(HeldRow.from_json, body["rows"])),
            tuple(DatasetHit(one["uid"], one["name"], one["rows"]) for one in body["datasets"]),
            tuple(Downstream(**one) for one in body["downstream"]),
        )

    def to_text(self) -> str:
        """The report for people, a few lines for each part."""
        what = f"{self.group} {self.identifier}"
        if self.event_time is not None:
            what += f" of {self.event_time.isoformat()}"
        if self.until is not None:
            what += f" to {self.until.isoformat()}"
        lines = [f"{what}: {len(self.rows)} row(s) in the table"]
        for row in self.rows[:_SHOWN]:
            held = ", ".join(
                str(first) if first == last else f"{first} to {last}"
                for first, last in row.versions
            )
            mark = ", marks a deletion" if row.is_deleted else ""
            lines.append(
                f"  event time {row.event_time.isoformat()}, written {row.write_time.isoformat()}"
                f"{mark}: versions {held or 'none'} in {row.files[-1]}"
            )
        if len(self.rows) > _SHOWN:
            lines.append(f"  and {len(self.rows) - _SHOWN:,} more")
        lines.append(f"datasets: {len(self.datasets)}")
        for hit in self.datasets:
            rows = "may have it" if hit.rows is None else f"{hit.rows:,} row(s) of it"
            lines.append(f"  {hit.name}: {rows}")
        lines.append(f"downstream: {len(self.downstream)}, of which {len(self.models)} model(s)")
        for one in self.downstream:
            state = f" ({one.state})" if one.state else ""
            doubt = "" if one.is_certain else "  (if a dataset above has it)"
            lines.append(f"  {one.type} {one.name}{state}{doubt}")
        return "\n".join(lines)
