import pytest

from lineage import Association, AssociationType, InvalidAssociation


def test_the_types_are_sagemakers() -> None:
    assert {str(value) for value in AssociationType} == {
        "ContributedTo", "AssociatedWith", "DerivedFrom", "Produced", "SameAs"
    }  # fmt: skip


def test_text_becomes_the_type() -> None:
    association = Association("a", "b", "Produced")  # type: ignore[arg-type]
    assert association.type is AssociationType.PRODUCED


def test_an_unknown_type_is_refused_with_the_nearest() -> None:
    with pytest.raises(InvalidAssociation, match="did you mean 'DerivedFrom'"):
        Association("a", "b", "DerivesFrom")  # type: ignore[arg-type]


def test_an_entity_is_never_associated_with_itself() -> None:
    with pytest.raises(InvalidAssociation, match="itself"):
        Association("a", "a", AssociationType.SAME_AS)
