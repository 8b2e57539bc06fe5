"""A home with policies, and the engine's oracle."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from featurestore.auth import AccessDatabase, Guard

GROUPS = "arn:aws:sagemaker:*:*:feature-group/"


def _oracle() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "auth_oracle", Path(__file__).with_name("oracle.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def oracle() -> ModuleType:
    """The rules, written a second time."""
    return _oracle()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def database(home: Path) -> Iterator[AccessDatabase]:
    opened = AccessDatabase(home)
    yield opened
    opened.close()


@pytest.fixture
def guard(home: Path) -> Iterator[Guard]:
    home.mkdir(exist_ok=True)
    with Guard.open(home) as opened:
        yield opened


@pytest.fixture
def put(database: AccessDatabase) -> Callable[..., None]:
    """Store a policy of some statements."""

    def stored(name: str, *statements: dict[str, Any]) -> None:
        database.put_policy(name, json.dumps({"Statement": list(statements)}))

    return stored


@pytest.fixture(scope="session")
def allow() -> Callable[..., dict[str, Any]]:
    """Make a statement that allows actions on a group."""

    def made(action: str | list[str], group: str = "*", **more: Any) -> dict[str, Any]:
        return {"Effect": "Allow", "Action": action, "Resource": GROUPS + group, **more}

    return made


@pytest.fixture(scope="session")
def deny(allow: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Make a statement that denies actions on a group, or a feature of one."""

    def made(action: str | list[str], group: str = "*", **more: Any) -> dict[str, Any]:
        return allow(action, group, **more) | {"Effect": "Deny"}

    return made
