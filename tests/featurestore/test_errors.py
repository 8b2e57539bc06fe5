from __future__ import annotations

import copy
import pickle
import re

import grpc
import pytest

from featurestore import errors
from featurestore.errors import (
    FeatureGroupNotFound,
    FeatureNotFound,
    FeatureStoreError,
    InvalidRecord,
    InvalidRequest,
    PositionConflict,
    nearest,
)

CLASSES = sorted(
    (
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, FeatureStoreError)
    ),
    key=lambda cls: cls.__name__,
)


def drawn_tree() -> dict[str, tuple[str, str]]:
    """Read the tree of the module's docstring: class → (base, status)."""
    tree = {}
    bases = ["FeatureStoreError"]
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"([│├└─ ]+)(\w+)\s+([A-Z_]+)\b", line)
        if found:
            depth = len(found.group(1)) // 4
            del bases[depth:]
            tree[found.group(2)] = (bases[-1], found.group(3))
            bases.append(found.group(2))
    return tree


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes():
    of_classes = {
        cls.__name__: (cls.__bases__[0].__name__, cls.code)
        for cls in CLASSES
        if cls is not FeatureStoreError
    }
    assert drawn_tree() == of_classes


def test_the_docstring_names_the_builtin_bases():
    for line in (errors.__doc__ or "").splitlines():
        found = re.search(r"(\w+)\s+[A-Z_]+\s+\(also an? (\w+)\)", line)
        if found:
            cls = getattr(errors, found.group(1))
            assert found.group(2) in {base.__name__ for base in cls.__mro__}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_code_is_a_grpc_status(cls):
    assert cls.code in grpc.StatusCode.__members__


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_class_is_documented_and_exported(cls):
    assert cls.__doc__
    assert cls.__name__ in errors.__all__


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("duplicate", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy])
def test_an_error_survives_pickling_and_copying(cls, duplicate):
    error = cls("what went wrong", group="weather", stored={"0": 7})
    again = duplicate(error)
    assert type(again) is cls
    assert str(again) == "what went wrong"
    assert again.message == "what went wrong"
    assert again.facts == {"group": "weather", "stored": {"0": 7}}
    assert again.stored == {"0": 7}


def test_facts_read_as_attributes_and_others_do_not():
    error = InvalidRecord("message", feature="temp")
    assert error.feature == "temp"
    with pytest.raises(AttributeError, match="InvalidRecord has no attribute 'temperature'"):
        _ = error.temperature


def test_errors_are_caught_as_the_builtins_they_also_are():
    assert issubclass(InvalidRequest, ValueError)
    assert issubclass(FeatureGroupNotFound, LookupError)
    assert issubclass(FeatureNotFound, LookupError)
    assert not issubclass(PositionConflict, ValueError)


def test_not_found_names_the_nearest():
    error = FeatureGroupNotFound.named("wether", ["planes", "weather"])
    assert str(error) == "feature group 'wether' does not exist; did you mean 'weather'?"
    assert error.group == "wether"
    feature = FeatureNotFound.named("weather", "tmp", ["temp", "wind"])
    assert str(feature) == "feature group 'weather' has no feature 'tmp'; did you mean 'temp'?"
    assert (feature.group, feature.feature) == ("weather", "tmp")


def test_nothing_near_gives_no_hint():
    assert nearest("weather", ["x", "y"]) == ""
    assert nearest("weather", []) == ""
