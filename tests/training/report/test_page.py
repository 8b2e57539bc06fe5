"""The report of a job: what is drawn of what, whole and well-formed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest

from training.report import Report, chart, write_report

ROWS = [("train:loss", 1 / (1 + step), step) for step in range(5)]
ROWS += [("validation:auc", 0.9, None), ("validation:loss", 0.4, 0), ("validation:loss", 0.3, 1)]


def written(tmp_path: Path, **options: Any) -> str:
    path = tmp_path / "output" / "report.html"
    options = {"hyperparameters": {"eta": 0.1}, "rows": ROWS, **options}
    write_report(Report(job="flights <1>", algorithm="xgboost", **options), path)
    return path.read_text(encoding="utf-8")


def captions(page: str) -> list[str]:
    return re.findall("<figcaption>(.*?)</figcaption>", page)


def test_every_picture_is_well_formed_and_nothing_is_loaded(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    target = (random.random(200) < 0.4).astype(float)
    page = written(
        tmp_path,
        importance={"wind & rain": 2.0, "x" * 60: 1.0},
        channel="validation",
        target=target,
        answers=pa.table({"score": np.clip(target * 0.3 + random.random(200) * 0.7, 0, 1)}),
    )
    pictures = re.findall("<svg.*?</svg>", page, re.DOTALL)
    for picture in pictures:
        ElementTree.fromstring(picture)
    assert len(pictures) == len(captions(page)) == 5
    assert "flights &lt;1&gt;" in page
    assert not re.search(r"(src|href)=|https?:", page)
    assert captions(page)[0] == "loss by step"
    assert any(re.fullmatch(r"ROC on validation, area 0\.\d+", one) for one in captions(page))


@pytest.mark.parametrize(
    ("target", "answers", "expected"),
    [
        (
            [0.0, 1.0, 2.0],
            {"score": [[0.7, 0.2, 0.1]] * 3, "predicted_label": [0.0, 0.0, 2.0]},
            ["Confusion on test"],
        ),
        ([0.5, 1.5, 2.5], {"score": [0.4, 1.4, 2.8]}, ["Predictions on test"]),
        ([1.0, 1.0], {"score": [0.4, 0.6]}, ["Predictions on test"]),
        ([0.0, 1.0], {"closest_cluster": [0.0, 1.0]}, []),
        (
            [0.0, 1.0, 1.0],
            {"scores": [[0.8, 0.2], [0.4, 0.6], [0.1, 0.9]]},
            [
                "Confusion on test",
                "ROC on test, area 1.0000",
                "Precision and recall on test, mean precision 1.0000",
            ],
        ),
        ([0.0, 2.0], {"scores": [[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]]}, ["Confusion on test"]),
        ([0.5, 1.5], {"scores": [[0.4], [1.4]]}, ["Predictions on test"]),
    ],
)
def test_what_is_drawn_depends_on_labels_and_replies(
    tmp_path: Path, target: list[float], answers: dict[str, Any], expected: list[str]
) -> None:
    page = written(
        tmp_path, rows=[], channel="test", target=np.array(target), answers=pa.table(answers)
    )
    assert captions(page) == expected


def test_topics_are_drawn_by_their_share_and_named_by_their_words(tmp_path: Path) -> None:
    topics = [
        {"alpha": 0.1, "words": ["sail", "mast", "rope", "sea"]},
        {"alpha": 0.3, "words": ["cat", "dog"]},
    ]
    page = written(tmp_path, rows=[], topics=topics)
    assert captions(page) == ["Topics by their share"]
    assert page.index("1: cat dog") < page.index("0: sail mast rope<")
    widths = [float(width) for width in re.findall(r'<rect [^>]*width="([0-9.]+)"', page)]
    assert widths[0] == pytest.approx(3 * widths[1], abs=0.2)


def test_a_line_ends_where_its_last_point_is() -> None:
    xs, ys = np.array([0.0, 1.0, 2.0]), np.array([5.0, float("nan"), 9.0])
    picture = chart.lines({"loss": (xs, ys)}, x="step", y="loss")
    path = re.search(r'<path d="M(.*?)" fill="none"', picture)
    assert path is not None
    assert path[1].split("L") == ["62.0 256.0", "446.0 14.0"]


def test_a_matrix_counts_each_pair() -> None:
    picture = chart.matrix(np.array([[90, 10], [0, 5]]), ["0", "1"], x="predicted", y="label")
    assert "<title>label 0, predicted 1: 10</title>" in picture


@pytest.mark.parametrize("values", [[], [3.0], [2.0, 2.0], [1e-9, 1e9], [float("inf"), 1.0]])
def test_any_numbers_can_be_drawn(values: list[float]) -> None:
    numbers = np.array(values)
    for picture in (
        chart.lines({"a": (np.arange(len(values)), numbers)}, x="x", y="y"),
        chart.points(numbers, numbers, x="x", y="y"),
    ):
        ElementTree.fromstring(picture)
        assert "nan" not in picture
