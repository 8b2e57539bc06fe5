import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest

from lineage import Graph, InvalidQuery, LineageResult, MemoryStore, action, artifact
from lineage.render import Drawing, to_html

EVIL = "</script><img src=x onerror=alert(1)>\"'`&amp;<!--@@DATA@@@@SCRIPT@@]]>"


class Page(HTMLParser):
    """A page as a browser reads it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "input"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, "every element is closed in order"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self._open[-1] if self._open else "", []).append(data)

    @property
    def data(self) -> Any:
        return json.loads(self.texts["script"][0])


def drawn(names: list[str], **options: Any) -> LineageResult:
    graph = Graph(MemoryStore())
    nodes = [artifact("DataSet", f"s3://b/{n}", name=name) for n, name in enumerate(names)]
    graph.record(nodes, [(a, b, "DerivedFrom") for a, b in pairwise(nodes)], kind="T")
    return graph.query(nodes[-1], **options)


def test_a_page_holds_everything_itself() -> None:
    text = drawn(["flights.parquet", "model.tar.gz"]).to_html(title="Where it comes from")
    page = Page(text)
    tags = [tag for tag, _ in page.tags]
    assert {"link", "img", "iframe", "object", "base"}.isdisjoint(tags)
    for _, attributes in page.tags:
        assert "src" not in attributes
        assert "href" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
    assert not re.search(r"(?:https?:)?//(?!www\.w3\.org/2000/svg)[a-z]", text.replace("s3://", ""))
    assert "@import" not in text
    assert "url(" not in text
    assert page.texts["title"][0] == page.texts["h1"][0] == "Where it comes from"


def test_every_entity_and_association_is_there() -> None:
    result = drawn(["a", "b", "c"])
    page = Page(result.to_html())
    assert [entity["name"] for entity in page.data["entities"]] == ["c", "b", "a"]
    assert page.data["start"] == 0
    assert page.data["types"] == ["DerivedFrom"]
    assert page.data["associations"] == [[1, 0, 0], [2, 1, 0]]


def test_any_name_is_harmless() -> None:
    graph = Graph(MemoryStore())
    a = artifact(EVIL, f"s3://{EVIL}", name=EVIL, properties={EVIL: [EVIL], "n": {"x": EVIL}})
    b = action("Job", EVIL, state=EVIL[:60])
    graph.record([a, b], [(a, b, "ContributedTo")], kind="T")
    text = graph.query(a, "descendants").to_html(title=EVIL)
    page = Page(text)
    assert "img" not in [tag for tag, _ in page.tags]
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert text.count("<!--") == 0
    assert page.texts["h1"][0] == EVIL
    entity = page.data["entities"][0]
    assert (entity["name"], entity["type"]) == (EVIL, EVIL)
    assert entity["properties"] == {EVIL: [EVIL], "n": {"x": EVIL}}


def test_the_policy_allows_the_pages_own_script_and_style_alone() -> None:
    text = drawn(["a", "b"]).to_html()
    page = Page(text)
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    style = re.search("<style>(.*?)</style>", text, re.S)
    script = re.search("<script>(.*?)</script>", text, re.S)
    for kind, found in (("style", style), ("script", script)):
        assert found is not None
        digest = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not [a for _, a in page.tags if "style" in a], "the policy would refuse it"


def test_the_page_is_the_same_each_time() -> None:
    result = drawn(["a", "b", "c"])
    assert result.to_html() == result.to_html()


def test_the_title_says_what_was_asked() -> None:
    assert "<title>Where b &amp; c comes from</title>" in drawn(["a", "b & c"]).to_html()
    assert "<title>What comes from b</title>" in drawn(["b"], direction="descendants").to_html()


def test_too_much_to_draw_is_refused_with_what_to_do() -> None:
    one = artifact("DataSet", "s3://b/1")
    drawing = Drawing("", "both", (one,) * 20_001, ())
    with pytest.raises(InvalidQuery, match=r"at most 20000 entities, got 20001.*limit"):
        to_html(drawing)


def test_a_value_of_megabytes_is_cut() -> None:
    graph = Graph(MemoryStore())
    log, table = "x" * 2_000_000, [[0.5] * 100] * 100
    a = action("Job", "a", properties={"log": log, "table": table, "short": [1, 2]})
    graph.record([a], kind="T")
    text = graph.query(a).to_html()
    assert len(text) < 150_000
    properties = Page(text).data["entities"][0]["properties"]
    assert properties["short"] == [1, 2]
    assert properties["log"].endswith("x… (2,000,000 characters)")
    assert properties["table"].startswith("[[0.5,0.5,")
