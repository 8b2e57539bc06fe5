"""SageMaker's rules of associations: what is refused, and that the text names the rule."""

from __future__ import annotations

from itertools import product

import pytest

from lineage import (
    Entity,
    EntityConflict,
    EntityNotFound,
    Graph,
    InvalidAssociation,
    InvalidEntity,
    Kind,
    MemoryStore,
    action,
    artifact,
    context,
    experiment,
    trial,
    trial_component,
)


@pytest.fixture
def graph() -> Graph:
    """What is refused is settled before any store is asked."""
    return Graph(MemoryStore())


EXPERIMENTS = {
    Kind.EXPERIMENT: experiment("Experiment", "e"),
    Kind.TRIAL: trial("Trial", "t"),
    Kind.TRIAL_COMPONENT: trial_component("TrainingJob", "j"),
}
OTHERS = {
    Kind.ARTIFACT: artifact("DataSet", "s3://d"),
    Kind.ACTION: action("Approval", "a"),
    Kind.CONTEXT: context("Endpoint", "c"),
}


def twin(entity: Entity) -> Entity:
    return Entity(entity.kind, entity.type, f"{entity.name}2", source_uri=entity.source_uri)


@pytest.mark.parametrize(("source", "destination"), list(product(EXPERIMENTS, EXPERIMENTS)))
def test_two_experiment_entities_are_never_associated(
    graph: Graph, source: Kind, destination: Kind
) -> None:
    with pytest.raises(InvalidAssociation, match=f"a {source} is never associated with a"):
        graph.record(
            [],
            [(EXPERIMENTS[source], twin(EXPERIMENTS[destination]), "AssociatedWith")],
            kind="T",
        )
    assert graph.stats()["events"] == 0


def test_any_other_two_are(graph: Graph) -> None:
    everything = [*EXPERIMENTS.values(), *OTHERS.values()]
    links = [
        (source, twin(destination), "AssociatedWith")
        for source, destination in product(everything, everything)
        if not (source.kind.is_experiment and destination.kind.is_experiment)
        and not source.kind is destination.kind is Kind.ARTIFACT
    ]
    graph.record([], links, kind="T")
    assert graph.stats()["associations"] == len(links)


def test_no_entity_with_itself(graph: Graph) -> None:
    one = OTHERS[Kind.ACTION]
    stored = graph.record([one], kind="T").entities[0]
    for link in ("AssociatedWith", "SameAs", "DerivedFrom"):
        with pytest.raises(InvalidAssociation, match="never associated with itself"):
            graph.record([], [(one, stored.uid, link)], kind="T")


@pytest.mark.parametrize("place", [0, 1])
def test_an_end_that_does_not_exist(graph: Graph, place: int) -> None:
    graph.record([context("Endpoint", "live")], kind="T")
    ends = ["urn:fs:context:Endpoint:live", "urn:fs:context:Endpoint:lvie"][:: 1 if place else -1]
    with pytest.raises(EntityNotFound, match="did you mean 'urn:fs:context:Endpoint:live'"):
        graph.record([], [(ends[0], ends[1], "AssociatedWith")], kind="T")


def test_an_unknown_type_names_the_nearest(graph: Graph) -> None:
    with pytest.raises(InvalidAssociation, match=r"ContributedTo, .*did you mean 'Produced'"):
        graph.record([], [(OTHERS[Kind.ARTIFACT], OTHERS[Kind.ACTION], "Produces")], kind="T")


def test_nothing_is_its_own_origin(graph: Graph) -> None:
    a, b, c = (action("A", name) for name in "abc")
    graph.record([], [(a, b, "ContributedTo"), (b, c, "Produced")], kind="T")
    with pytest.raises(InvalidAssociation, match="circle"):
        graph.record([], [(c, a, "DerivedFrom")], kind="T")
    graph.record([], [(c, a, "SameAs")], kind="T")  # loose ties may run in circles
    graph.record([], [(c, a, "DerivedFrom")], kind="T", cycles="allow")


def test_an_unknown_kind_and_a_uid_of_another_kind(graph: Graph) -> None:
    with pytest.raises(InvalidEntity, match=r"kind: expected one of TrialComponent, .*'Job'"):
        Entity("Job", "T", "x")  # type: ignore[arg-type]
    graph.record([Entity(Kind.ACTION, "A", "a", uid="mine")], kind="T")
    with pytest.raises(EntityConflict, match="is of kind Action, not Context"):
        graph.record([Entity(Kind.CONTEXT, "A", "a", uid="mine")], kind="T")


def test_a_refusal_leaves_nothing_of_its_event(graph: Graph) -> None:
    good = context("Endpoint", "live")
    with pytest.raises(InvalidAssociation):
        graph.record(
            [good],
            [(good, EXPERIMENTS[Kind.TRIAL], "AssociatedWith"), (good, good, "SameAs")],
            kind="T",
        )
    assert graph.stats() == {"events": 0, "entities": 0, "associations": 0}
