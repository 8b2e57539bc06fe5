"""`featurestore.__all__` is what the package exposes."""

from __future__ import annotations

import importlib
import pkgutil
import types

import pytest

import featurestore
from featurestore import errors

MODULES = [
    module.name
    for module in pkgutil.walk_packages(featurestore.__path__, "featurestore.")
    if not module.name.startswith("featurestore.v1")
]


def test_all_lists_every_public_name_and_nothing_else():
    exposed = {
        name
        for name, value in vars(featurestore).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert exposed == set(featurestore.__all__) - {"aio"}
    assert isinstance(featurestore.aio, types.ModuleType)
    assert len(featurestore.__all__) == len(set(featurestore.__all__))


def test_every_public_name_is_documented():
    values = {name: getattr(featurestore, name) for name in featurestore.__all__}
    undocumented = [
        name
        for name, value in values.items()
        if (isinstance(value, type) or callable(value)) and not value.__doc__
    ]
    assert undocumented == []


def test_every_error_can_be_caught_from_the_package():
    assert {name for name in errors.__all__ if name[0].isupper()} <= set(featurestore.__all__)


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is_for_and_keeps_its_promises(name):
    module = importlib.import_module(name)
    assert module.__doc__
    first = module.__doc__.strip().splitlines()[0]
    assert first.endswith((".", ":")), first
    for exported in getattr(module, "__all__", ()):
        assert hasattr(module, exported), f"{name}.{exported}"


@pytest.mark.parametrize("name", featurestore.__all__)
def test_every_method_of_a_public_class_is_documented(name):
    value = getattr(featurestore, name)
    if not isinstance(value, type):
        return
    undocumented = [
        attribute
        for attribute, member in vars(value).items()
        if not attribute.startswith("_")
        and isinstance(member, types.FunctionType | classmethod | staticmethod | property)
        and not getattr(value, attribute).__doc__
    ]
    assert undocumented == []


def test_the_package_does_not_import_its_heavy_neighbours(run_python):
    code = (
        "import sys, featurestore\n"
        "print([m for m in ('torch', 'xgboost', 'pandas', 'sklearn', 'ingest', 'training',"
        " 'featureline') if m in sys.modules])"
    )
    assert run_python(["-c", code]).communicate(timeout=60)[0].strip() == "[]"
