"""The HTML page in a real browser: what a reader sees and does."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lineage.association import Association
from lineage.entity import (
    Entity,
    action,
    amended,
    artifact,
    context,
    derived_uid,
    trial_component,
)
from lineage.render import Drawing, to_html

EVIL = "</script><img src=x onerror=alert(1)>\"'`&amp;<!--"
Open = Callable[[Drawing], "Reader"]


class Reader:
    """One page in the browser."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def item(self, name: str) -> Any:
        """What stands for the entity of a name."""
        return next(one for one in self.items() if name in one["names"])

    def items(self) -> list[Any]:
        items: list[Any] = self.run("return lineagePage.items()")
        return items

    def names(self, key: str) -> set[str]:
        """The names of those of which something holds."""
        return {name for one in self.items() if one[key] for name in one["names"]}

    def click(self, selector: str) -> None:
        self.run("document.querySelector(arguments[0]).click()", selector)

    def point(self, name: str, *, click: bool = False) -> None:
        """Move the pointer to an entity, with the browser's own events."""
        from selenium.webdriver import ActionChains
        from selenium.webdriver.common.by import By

        canvas = self.driver.find_element(By.ID, "drawing")
        x, y = self.item(name)["onScreen"]
        middle = canvas.size["width"] / 2, canvas.size["height"] / 2
        chain = ActionChains(self.driver, duration=0)
        chain.move_to_element_with_offset(canvas, x + 20 - middle[0], y + 8 - middle[1])
        (chain.click() if click else chain).perform()

    def press(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.driver, duration=0).send_keys(*keys).perform()

    def set(self, selector: str, value: object) -> None:
        self.run(
            "const one = document.querySelector(arguments[0]); one.value = arguments[1];"
            "one.dispatchEvent(new Event('input', {bubbles: true}))",
            selector,
            value,
        )

    def text(self, selector: str) -> str:
        shown: str = self.run("return document.querySelector(arguments[0]).innerText", selector)
        return shown


@pytest.fixture(scope="module")
def open_page(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Open:
    folder = tmp_path_factory.mktemp("pages")
    pages: dict[int, Path] = {}

    def open_one(drawing: Drawing) -> Reader:
        if id(drawing) not in pages:
            pages[id(drawing)] = folder / f"{len(pages)}.html"
            pages[id(drawing)].write_text(to_html(drawing), encoding="utf-8")
        browser.get(pages[id(drawing)].as_uri())
        reader = Reader(browser)
        assert reader.run("return document.documentElement.dataset.ready") == "true"
        return reader

    return open_one


@pytest.fixture(autouse=True)
def silent(browser: Any) -> Iterator[None]:
    """No test leaves a word in the console: no error, and nothing the policy refused."""
    yield
    assert browser.get_log("browser") == []


def at_times(entities: list[Entity]) -> list[Entity]:
    """As stored, a minute apart."""
    first = datetime(2024, 1, 1, tzinfo=UTC)
    return [
        amended(
            entity,
            uid=derived_uid(entity),
            created=first + timedelta(minutes=n),
            modified=first + timedelta(minutes=n),
        )
        for n, entity in enumerate(entities)
    ]


def drawn(entities: list[Entity], links: list[tuple[int, int, str]], start: int) -> Drawing:
    stored = at_times(entities)
    ends = [(stored[a].uid, stored[b].uid, link) for a, b, link in links]
    return Drawing(stored[start].uid, "both", tuple(stored), tuple(Association(*e) for e in ends))


@pytest.fixture(scope="module")
def flights() -> Drawing:
    """Three tables, a join, two trainings (one failed), a model, an endpoint, and a stranger."""
    entities = [
        artifact("DataSet", "s3://b/weather", name="weather", content_hash="1", version=3),
        artifact("DataSet", "s3://b/planes", name="planes"),
        artifact("DataSet", "s3://b/flights", name="flights"),
        trial_component("ProcessingJob", "join", state="Completed"),
        artifact("DataSet", "s3://b/joined", name="joined"),
        trial_component("TrainingJob", "train", state="Completed"),
        trial_component("TrainingJob", "retry", state="Failed"),
        artifact("Model", "s3://b/model", name="model", properties={"metrics": {"rmse": 33.1}}),
        context("Endpoint", "live"),
        artifact(EVIL[:200], f"s3://{EVIL}", name=EVIL),
    ]
    links = [
        (0, 3, "ContributedTo"),
        (1, 3, "ContributedTo"),
        (2, 3, "ContributedTo"),
        (3, 4, "Produced"),
        (4, 5, "ContributedTo"),
        (4, 6, "ContributedTo"),
        (5, 7, "Produced"),
        (7, 8, "AssociatedWith"),
        (4, 7, "DerivedFrom"),
    ]
    return drawn(entities, links, 7)


@pytest.fixture(scope="module")
def many() -> Drawing:
    """5,000 entities: hubs, layers of hundreds, chains."""
    dice = random.Random(7)
    entities: list[Entity] = [
        artifact("DataSet", f"s3://b/table-{n}", name=f"table-{n}") for n in range(40)
    ]
    links = []
    while len(entities) < 5_000:
        job = len(entities)
        kind = dice.choice(["TrainingJob", "ProcessingJob", "TransformJob"])
        state = "Failed" if dice.random() < 0.1 else "Completed"
        entities.append(trial_component(kind, f"job-{job}", state=state))
        entities.append(artifact("Model", f"s3://m/{job}/model.tar.gz"))
        near = range(max(0, job - 400), job)
        inputs = {
            n for n in dice.sample(near, k=min(3, len(near))) if "job" not in entities[n].name
        }
        inputs.add(dice.randrange(40))
        links += [(n, job, "ContributedTo") for n in sorted(inputs)]
        links.append((job, job + 1, "Produced"))
    entities.append(action("Approval", "the-last-one"))
    links.append((len(entities) - 2, len(entities) - 1, "ContributedTo"))
    return drawn(entities, links, 2_001)


def test_what_is_there_can_be_read(open_page: Open, flights: Drawing) -> None:
    page = open_page(flights)
    assert page.text("h1") == "Lineage of model"
    assert "10 entities · 9 associations" in page.text("header")
    side = page.text("#side")
    for word in ("ProcessingJob", "Failed", "ContributedTo", "DerivedFrom"):
        assert word in side
    assert all(one["shown"] == 1 and not one["isStack"] for one in page.items())
    assert page.run("return document.querySelectorAll('img, link').length") == 0


def test_names_that_only_another_type_has_too_stay_short(open_page: Open) -> None:
    entities = [
        artifact("Topic", "kafka://host/weather", name="weather"),
        context("FeatureGroup", "weather", source_uri="/srv/offline/weather"),
        artifact("DataSet", "s3://monday/flights", name="flights"),
        artifact("DataSet", "s3://tuesday/flights", name="flights"),
    ]
    page = open_page(drawn(entities, [(0, 1, "ContributedTo")], 0))
    shown = [one["called"] for one in page.items()]
    assert sorted(shown) == ["monday/flights", "tuesday/flights", "weather", "weather"]


def test_lines_that_only_pass_by_do_not_hide_the_others(open_page: Open, many: Drawing) -> None:
    page = open_page(many)
    items, edges = page.items(), page.run("return lineagePage.edges()")
    gaps = [
        (items[one["to"]]["box"][0] - items[one["from"]]["box"][0], one["alpha"])
        for one in edges
        if one["alpha"]  # in the window
    ]
    layer = min(abs(gap) for gap, _ in gaps if gap)
    near = [alpha for gap, alpha in gaps if abs(gap) < 1.5 * layer]
    passing = [alpha for gap, alpha in gaps if abs(gap) > 1.5 * layer]
    assert len(passing) > 150
    assert max(passing) < 0.31
    assert max(near) == 1


def test_nothing_lies_on_anything(open_page: Open, flights: Drawing, many: Drawing) -> None:
    for drawing in (flights, many):
        page = open_page(drawing)
        for found in (boxes(page), labels(page)):
            assert overlapping(found) == []
    page.click("#all")
    page.click("#fit")
    unfolded = boxes(page)
    assert len(unfolded) == 5_001
    assert overlapping(unfolded) == []
    page.run("lineagePage.paint()")
    assert labels(page) != []
    assert overlapping(labels(page)) == []


def test_pointing_marks_where_something_comes_from_and_goes(
    open_page: Open, flights: Drawing
) -> None:
    page = open_page(flights)
    page.point("joined")
    assert page.names("up") == {"weather", "planes", "flights", "join"}
    assert page.names("down") == {"train", "retry", "model", "live"}
    assert "DataSet v1" in page.text("#tip")
    lit = {(e["from"], e["to"]) for e in page.run("return lineagePage.edges()") if e["up"]}
    assert len(lit) == 4
    page.point("joined", click=True)
    details = page.text("#details")
    assert "s3://b/joined" in details
    assert "2024-01-01 00:04:00 UTC" in details
    page.press("\ue014")  # right
    assert page.text("#details h2") in ("train", "retry", "model")
    page.press("\ue012", "\ue012")  # left, twice
    assert page.text("#details h2") in ("join", "flights", "planes", "weather")
    page.press("\ue00c")  # Escape
    assert page.names("up") == set()
    assert not page.run("return document.getElementById('details').checkVisibility()")


def test_search_finds(open_page: Open, flights: Drawing) -> None:
    page = open_page(flights)
    page.press("/", "s3 joined")
    assert page.text("#hits") == "1"
    assert page.names("hits") == {"joined"}
    assert "joined" in page.text("#found")
    page.press("\ue007")  # Enter
    assert page.text("#details h2") == "joined"
    page.set("#search", "onerror")
    assert page.names("hits") == {EVIL}
    page.set("#search", "no such thing")
    assert page.text("#found") == "nothing found"
    page.click("[data-what='TrialComponent TrainingJob']")
    assert page.names("hits") == {"train", "retry"}


def test_a_type_folds_and_unfolds(open_page: Open, flights: Drawing) -> None:
    page = open_page(flights)
    fold = "[data-fold='Artifact DataSet']"
    page.click(fold)
    stack = page.item("weather")
    assert stack["isStack"]
    assert set(stack["names"]) == {"weather", "planes", "flights"}
    assert len(page.items()) == 8
    into_join = [e for e in page.run("return lineagePage.edges()") if e["associations"] == 3]
    assert len(into_join) == 1
    # Search takes an entity out of its stack.
    page.set("#search", "planes")
    page.run("document.querySelector('#found li').click()")
    assert not page.item("planes")["isStack"]
    page.click(fold)
    assert len(page.items()) == 10


def test_a_kind_of_association_can_be_hidden(open_page: Open, flights: Drawing) -> None:
    page = open_page(flights)
    page.click("[data-link='ContributedTo']")
    shown = {e["type"] for e in page.run("return lineagePage.edges()") if e["shown"]}
    assert shown == {"Produced", "DerivedFrom", "AssociatedWith"}
    page.point("model")
    assert page.names("up") == {"train", "joined", "join"}


def test_the_slider_shows_the_graph_of_a_time(open_page: Open, flights: Drawing) -> None:
    page = open_page(flights)
    assert page.text("#at") == "now · 10 of 10"
    page.set("#until", 4)
    assert page.text("#at") == "as of 2024-01-01 00:04:00 UTC · 5 of 10"
    assert page.names("shown") == {"weather", "planes", "flights", "join", "joined"}
    assert sum(e["shown"] for e in page.run("return lineagePage.edges()")) == 4
    page.press("]")
    assert "train" in page.names("shown")
    page.set("#until", 9)
    assert len(page.names("shown")) == 10


def test_dark_and_light(open_page: Open, flights: Drawing) -> None:
    page = open_page(flights)
    colours = "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]"
    light = page.run(colours)
    page.click("#theme")
    dark = page.run(colours)
    assert light[0] != dark[0]
    assert light[1] != dark[1]
    page.run("lineagePage.paint()")
    corner = page.run(
        "return [...document.getElementById('drawing').getContext('2d')"
        ".getImageData(0, 0, 1, 1).data]"
    )
    assert sum(corner[:3]) < 200, "the drawing is dark too"


def test_5000_entities_begin_folded_and_can_be_used(
    open_page: Open, many: Drawing, tmp_path: Path
) -> None:
    page = open_page(many)
    items = page.items()
    assert len(items) < 500
    assert sum(one["shown"] for one in items) == 5_001
    page.set("#search", "the-last-one")
    page.press("/", "\ue007")
    assert page.text("#details h2") == "the-last-one"
    folded = [one for one in page.items() if one["isStack"] and one["up"]]
    assert folded
    page.click("#details .actions button")
    assert page.names("up") > set()
    assert not [one for one in page.items() if one["isStack"] and one["up"]]
    picture = tmp_path / "page.png"
    assert page.driver.save_screenshot(str(picture))
    assert picture.stat().st_size > 20_000


def boxes(page: Reader) -> list[list[float]]:
    """Left, top, width and height of all that is drawn."""
    found: list[list[float]] = page.run("return lineagePage.items().map((one) => one.box)")
    return found


def labels(page: Reader) -> list[list[float]]:
    """The boxes of free labels as left, top, width, height."""
    found = page.run("return lineagePage.labels()")
    return [[left, top, right - left, bottom - top] for left, top, right, bottom in found]


def overlapping(boxes: list[list[float]]) -> list[tuple[list[float], list[float]]]:
    """Pairs of boxes that share more than their edge; compares only what is near."""
    found = []
    cells: dict[tuple[int, int], list[list[float]]] = {}
    for box in boxes:
        x, y, width, height = box
        near = {
            (column, row)
            for column in range(int(x // 300), int((x + width) // 300) + 1)
            for row in range(int(y // 300), int((y + height) // 300) + 1)
        }
        for cell in near:
            for a, b, w, h in cells.setdefault(cell, []):
                if (
                    x < a + w - 0.1
                    and a < x + width - 0.1
                    and y < b + h - 0.1
                    and b < y + height - 0.1
                ):
                    found.append((box, [a, b, w, h]))
            cells[cell].append(box)
    return found
