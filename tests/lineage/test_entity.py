import math
import pickle
from dataclasses import FrozenInstanceError, replace
from enum import StrEnum
from typing import Any

import numpy as np
import pytest

from lineage import Entity, InvalidEntity, Kind, action, artifact, context, derived_uid, trial


class Colour(StrEnum):
    RED = "red"


def test_kinds_have_sagemakers_words() -> None:
    assert {str(kind) for kind in Kind} == {
        "TrialComponent", "Trial", "Experiment", "Context", "Action", "Artifact"
    }  # fmt: skip


def test_a_kind_may_be_given_as_text() -> None:
    assert Entity("Action", "Approval", "a").kind is Kind.ACTION  # type: ignore[arg-type]


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidEntity, match=r"TrialComponent.*got 'Artefact'"):
        Entity("Artefact", "Model", "m")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\x00b", "x" * 1025, "evil\u202egnp.exe", 7])
def test_a_name_that_cannot_be_shown_is_refused(name: Any) -> None:
    with pytest.raises(InvalidEntity, match="name"):
        context("FeatureGroup", name)


@pytest.mark.parametrize("uid", ["with space", "tab\there", "x" * 2049])
def test_a_uid_is_one_printable_word(uid: str) -> None:
    with pytest.raises(InvalidEntity, match="uid"):
        Entity(Kind.CONTEXT, "Endpoint", "e", uid=uid)


def test_names_of_any_language_are_fine() -> None:
    assert context("Größe", "天気 🌦").name == "天気 🌦"


def test_an_artifact_without_a_source_uri_is_refused() -> None:
    with pytest.raises(InvalidEntity, match="source_uri"):
        Entity(Kind.ARTIFACT, "Model", "m")


@pytest.mark.parametrize("version", [0, -1, 2**31, 1.5, True])
def test_a_version_counts_from_one(version: Any) -> None:
    with pytest.raises(InvalidEntity, match="version"):
        artifact("Model", "m", version=version)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (math.nan, "finite"),
        (-math.inf, "finite"),
        ({"deep": [1, {"er": math.inf}]}, r"'p'\.deep\[1\]\.er: expected a finite"),
        (2**64, "at most 64 bits, got one of 65"),
        (b"bytes", "builtins.bytes"),
        ({1: "key"}, "property names"),
        ({"set": {1}}, "builtins.set"),
        ("\ud800", "surrogate"),
        (object(), "builtins.object"),
    ],
)
def test_a_property_that_is_not_json_is_refused_with_its_place(value: Any, complaint: str) -> None:
    with pytest.raises(InvalidEntity, match=complaint):
        context("Endpoint", "e", properties={"p": value})


def test_nesting_without_end_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(InvalidEntity, match="nested"):
        context("Endpoint", "e", properties={"p": value})


def test_properties_become_plain_json_of_their_own() -> None:
    inner = [1, 2]
    entity = context(
        "Endpoint",
        "e",
        properties={
            "list": inner,
            "tuple": (1, (2.5, None)),
            "float": np.float32(0.5),  # type: ignore[dict-item]
            "int": np.int64(3),  # type: ignore[dict-item]
            "text": Colour.RED,
            "large": 2**63,
        },
    )
    inner.append(3)
    assert entity.properties == {
        "list": [1, 2],
        "tuple": [1, [2.5, None]],
        "float": 0.5,
        "int": 3,
        "text": "red",
        "large": 2**63,
    }
    assert {type(value) for value in entity.properties.values()} == {list, float, int, str}


def test_an_entity_is_a_frozen_value() -> None:
    entity = artifact("Model", "s3://b/m", properties={"a": [1]})
    assert entity == artifact("Model", "s3://b/m", properties={"a": [1]})
    assert hash(entity) == hash(artifact("Model", "s3://b/m"))
    assert pickle.loads(pickle.dumps(entity)) == entity
    with pytest.raises(FrozenInstanceError):
        entity.name = "other"  # type: ignore[misc]
    with pytest.raises(InvalidEntity):
        replace(entity, name="")


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("s3://bucket/a/model.tar.gz", "model.tar.gz"),
        ("s3://bucket/prefix/", "prefix"),
        ("kafka://broker:9092/flights", "flights"),
        ("https://host/data.csv?version=3#rows", "data.csv"),
        ("model.bin", "model.bin"),
        ("/", "/"),
    ],
)
def test_an_artifact_is_named_after_the_last_part_of_its_uri(uri: str, name: str) -> None:
    assert artifact("DataSet", uri).name == name


class TestDerivedUid:
    def test_an_artifacts_depends_on_its_identity_alone(self) -> None:
        one = artifact("DataSet", "s3://b/x.csv", content_hash="1", name="a")
        same = artifact("Model", "s3://b/x.csv", content_hash="1", name="b")
        other = artifact("DataSet", "s3://b/x.csv", content_hash="2", name="a")
        assert derived_uid(one) == derived_uid(same) != derived_uid(other)

    def test_uri_and_hash_are_not_run_together(self) -> None:
        assert derived_uid(artifact("D", "ab", content_hash="c")) != derived_uid(
            artifact("D", "a", content_hash="bc")
        )

    def test_others_depend_on_kind_type_and_name(self) -> None:
        uids = {
            derived_uid(entity)
            for entity in (
                context("A", "x"), action("A", "x"), context("B", "x"), context("A", "y"),
                context("A:x", "y"), context("A", "x:y"), trial("A", "x"),
                context("A", "x@y"), context("A", "x%40y"),
            )
        }  # fmt: skip
        assert len(uids) == 9

    def test_it_is_a_readable_urn(self) -> None:
        uid = derived_uid(Entity(Kind.TRIAL_COMPONENT, "TrainingJob", "flights-1"))
        assert uid == "urn:fs:trial-component:TrainingJob:flights-1"
        uid = derived_uid(context("Ort", "Köln am Rhein"))
        assert uid == "urn:fs:context:Ort:K%C3%B6ln%20am%20Rhein"

    def test_long_names_stay_apart_and_short_enough(self) -> None:
        one, two = (derived_uid(context("T", "天" * 1023 + end)) for end in "ab")
        assert one != two
        assert len(one) < 400
