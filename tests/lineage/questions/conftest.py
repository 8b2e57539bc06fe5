"""Questions are asked of views, which have a suite of their own: two stores are enough here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import lineage
from lineage import Graph, MemoryStore


@pytest.fixture(params=["memory", "sqlite"])
def graph(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Graph]:
    """An empty graph."""
    if request.param == "memory":
        yield Graph(MemoryStore())
        return
    with lineage.open(tmp_path / "lineage.db") as opened:
        yield opened
