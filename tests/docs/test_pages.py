"""The worked examples of the pages that need nothing but an empty folder."""

from __future__ import annotations

import pytest

from tests.docs.pages import run_examples


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("algorithms/lda", 2),
        ("algorithms/ntm", 1),
        ("algorithms/randomcutforest", 3),
        ("ingest-deadletters", 4),
        ("ingest-decoders", 8),
        ("ingest-mapping", 4),
        ("ingest", 3),
        ("windowed-features", 4),
        ("ingest-run", 2),
        ("lineage-capture", 6),
        ("lineage-questions", 8),
        ("training-formats", 8),
    ],
)
def test_the_examples_of_a_page_run(name, expected, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run_examples(name, expected=expected)
