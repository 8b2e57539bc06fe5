"""Tables of answers: never cut, since a uid that is cut cannot be copied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["listing"]


def listing(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, empty: str) -> str:
    """Write rows as aligned columns under their names; numbers stand to the right.

    Args:
        rows: values by column.
        columns: to write, in their order; one that is empty throughout is left out.
        empty: what to write instead when there are no rows.

    >>> print(listing([{"n": 7, "name": "ada"}, {"n": 12, "name": "eve"}], ["n", "name"], empty=""))
     n  name
     7  ada
    12  eve
    """
    if not rows:
        return empty
    shown = [name for name in columns if any(row.get(name, "") != "" for row in rows)]
    table = [shown, *([str(row.get(name, "")) for name in shown] for row in rows)]
    widths = [max(len(line[place]) for line in table) for place in range(len(shown))]
    right = {
        place
        for place, name in enumerate(shown)
        if all(isinstance(row.get(name), int) for row in rows)
    }
    return "\n".join(
        "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    )
