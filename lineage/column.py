"""Column-level lineage: which column of what went into which column of what else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import final

from lineage.entity import JSON, MAX_RANK, End, check_storable, plain_json
from lineage.errors import InvalidAssociation

_MAX_CHARACTERS = {
    "source_column": 1024,
    "column": 1024,
    "type": 64,
    "subtype": 256,
    "description": 8192,
}


@final
@dataclass(frozen=True)
class ColumnEdge:
    """One column of a source that went into one column of a destination.

    Args:
        source: what the column was read from.
        source_column: its name there; empty for the source as a whole.
        column: its name in the destination; empty where it touches every row or column
            there, as a join key or a filter does.
        type: `DIRECT` or `INDIRECT`, as OpenLineage has them.
        subtype: such as IDENTITY, TRANSFORMATION, AGGREGATION, JOIN, FILTER.
        description: the expression, for people.
        masking: whether the value is hidden on the way.
        properties: anything else, such as `{"importance": 0.31}`.

    Raises:
        InvalidAssociation: a name is no text or too long.
        InvalidEntity: a property is not JSON, or a text has a NUL or a lone surrogate.
    """

    source: End
    source_column: str
    column: str
    type: str = "DIRECT"
    subtype: str = ""
    description: str = ""
    masking: bool = False
    properties: Mapping[str, JSON] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name, limit in _MAX_CHARACTERS.items():
            value = getattr(self, name)
            if not isinstance(value, str) or len(value) > limit:
                raise InvalidAssociation(
                    f"column lineage: {name}: expected text of at most {limit} characters, "
                    f"got {value!r:.200}"
                )
            check_storable(value, f"column lineage: {name}")
        if not isinstance(self.masking, bool):
            raise InvalidAssociation(
                f"column lineage: masking: expected a bool, got {self.masking!r:.200}"
            )
        where = f"column lineage of {self.column!r}: properties"
        object.__setattr__(self, "properties", plain_json(self.properties, where))


@final
@dataclass(frozen=True)
class ColumnLineage:
    """All that one job says about the columns of one destination.

    What the same job says of the same destination later replaces it as a whole; later is
    what has the greater rank, so the order of recording does not matter.

    Args:
        destination: whose columns these are.
        by: the uid of the job that says so, or another name of who does.
        edges: none twice.
        rank: time of what is said, such as UTC microseconds; 0 to 2^63 - 1.

    Raises:
        InvalidAssociation: the rank or `by` is out of range.
        InvalidEntity: `by` has a NUL or a lone surrogate.
    """

    destination: End
    by: str
    edges: tuple[ColumnEdge, ...]
    rank: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.rank, bool) or not isinstance(self.rank, int):
            raise InvalidAssociation(f"column lineage: rank: expected an int, got {self.rank!r}")
        if not 0 <= self.rank <= MAX_RANK:
            raise InvalidAssociation(
                f"column lineage: rank: expected 0 to {MAX_RANK}, got {self.rank}"
            )
        if not isinstance(self.by, str) or len(self.by) > 2048:
            raise InvalidAssociation(
                f"column lineage: by: expected text of at most 2048 characters, "
                f"got {self.by!r:.200}"
            )
        check_storable(self.by, "column lineage: by")
        object.__setattr__(self, "edges", tuple(self.edges))


@final
@dataclass(frozen=True)
class ColumnNode:
    """A column that a walk met.

    Args:
        entity: uid of what has it.
        column: its name; empty for the entity as a whole.
        depth: edges from the start.
    """

    entity: str
    column: str
    depth: int


@final
@dataclass(frozen=True)
class ColumnLink:
    """An edge between two columns, as stored: see `ColumnEdge` for the fields."""

    source: str
    source_column: str
    destination: str
    column: str
    by: str
    type: str
    subtype: str
    description: str
    masking: bool
    properties: Mapping[str, JSON] = field(default_factory=dict, hash=False)


@final
@dataclass(frozen=True)
class ColumnResult:
    """The columns that a walk from one column, or from all of an entity, met.

    Args:
        columns: nearest first, the start included.
        links: the edges walked.
    """

    columns: tuple[ColumnNode, ...]
    links: tuple[ColumnLink, ...]

    def __len__(self) -> int:
        return len(self.columns)

    def __iter__(self) -> Iterator[ColumnNode]:
        return iter(self.columns)
