"""The body of an event is canonical JSON, and comes back as it went in."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from lineage import Entity, Facet, Kind
from lineage.change import Change, entity_to_json, to_json

TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029"),
    min_size=1,
    max_size=6,
).filter(lambda text: text.isprintable() and text == text.strip())
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-1, 1) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@st.composite
def entities(draw: st.DrawFn) -> Entity:
    return Entity(
        draw(st.sampled_from(Kind)),
        draw(TEXT),
        draw(TEXT),
        uid=f"urn:{draw(st.integers(0, 99))}",
        source_uri=f"s3://{draw(TEXT)}",
        content_hash=draw(st.sampled_from(["", "51b2"])),
        version=draw(st.integers(1, 2**31 - 1)),
        state=draw(st.sampled_from(["", "Completed", '"\\'])),
        properties=draw(st.dictionaries(st.text(max_size=3), VALUE, max_size=2)),
        facets=draw(
            st.dictionaries(
                st.sampled_from("ab"), st.builds(Facet, st.integers(0, 9), VALUE), max_size=2
            )
        ),
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(entities(), max_size=3),
    st.lists(st.tuples(TEXT, TEXT, st.just("DerivedFrom")), max_size=3),
    st.lists(st.tuples(TEXT, TEXT, st.just("Produced")), max_size=2),
    st.lists(st.tuples(TEXT, TEXT, st.none() | TEXT), max_size=2),
)
def test_the_body_is_canonical_json_of_what_it_says(
    recorded: list[Entity],
    links: list[tuple[str, str, str]],
    retracted: list[tuple[str, str, str]],
    tags: list[tuple[str, str, str | None]],
) -> None:
    change = Change(tuple(recorded), tuple(links), tags=tuple(tags), retractions=tuple(retracted))
    body = change.encode()
    fields = json.loads(body)
    assert to_json(fields).encode() == body
    assert fields["entities"] == [json.loads(to_json(entity_to_json(one))) for one in recorded]
    assert Change.decode(body) == change
