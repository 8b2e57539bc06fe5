"""`ingest.__all__` is what the package exposes."""

from __future__ import annotations

import types

import ingest


def test_all_lists_every_public_name_and_nothing_else():
    exposed = {
        name
        for name, value in vars(ingest).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert exposed == set(ingest.__all__)


def test_every_public_name_is_documented():
    undocumented = [
        name
        for name in ingest.__all__
        if isinstance(getattr(ingest, name), type) and not getattr(ingest, name).__doc__
    ]
    assert undocumented == []
