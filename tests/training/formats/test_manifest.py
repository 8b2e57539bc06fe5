from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from training.data import read_table
from training.errors import InvalidData
from training.formats.manifest import manifest_stream, read_manifest
from training.formats.recordio.framing import find_frames


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    (tmp_path / "a 1.bin").write_bytes(b"\x01\x02\x03")
    (tmp_path / "b%41.bin").write_bytes(b"\x04")
    lines: list[dict[str, Any]] = [
        {
            "source-ref": (tmp_path / "a 1.bin").as_uri(),
            "size": 3,
            "tags": [1, 2],
            "kind": "cat",
            "kind-metadata": {"confidence": 0.5},
        },
        {"source-ref": "b%41.bin", "size": 2.5, "tags": [3, 4], "kind": "dog"},
    ]
    path = tmp_path / "x.manifest"
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n", encoding="utf-8")
    return path


def test_attributes_become_columns_in_their_order(manifest: Path) -> None:
    table = read_manifest(manifest, ["size", "source-ref", "tags", "kind"])
    assert table.column_names == ["size", "source-ref", "tags", "kind"]
    assert table.to_pydict() == {
        "size": [3.0, 2.5],
        "source-ref": [b"\x01\x02\x03", b"\x04"],
        "tags": [[1, 2], [3, 4]],
        "kind": ["cat", "dog"],
    }
    assert table.schema.field("source-ref").type == pa.binary()


def test_a_channel_names_the_attributes_in_its_content_type(manifest: Path) -> None:
    kind = "application/jsonlines;attributes=size+kind"
    table = read_table(manifest, channel="train", content_type=kind)
    assert table.to_pydict() == {"size": [3.0, 2.5], "kind": ["cat", "dog"]}


def test_as_a_stream_attributes_follow_each_other_or_are_frames(manifest: Path) -> None:
    names = ["source-ref", "kind", "tags"]
    pieces = [b"\x01\x02\x03", b"cat", b"[1, 2]", b"\x04", b"dog", b"[3, 4]"]
    assert b"".join(manifest_stream(manifest, names)) == b"".join(pieces)
    frames = find_frames(b"".join(manifest_stream(manifest, names, wrapped=True)))
    assert [frames.payload(number) for number in range(len(frames))] == pieces


def test_another_reader_of_uris_can_be_given(manifest: Path) -> None:
    table = read_manifest(manifest, ["source-ref"], fetch=lambda uri: uri[-3:].encode())
    assert table["source-ref"].to_pylist() == [b"bin", b"bin"]


@pytest.mark.parametrize(
    ("attributes", "text", "expected"),
    [
        ([], "", "AttributeNames: expected 1 to 16 different names, got none"),
        (["a", "a"], "", "AttributeNames: expected 1 to 16 different names, got a, a"),
        (["a"], "\n", "expected lines of JSON, got none"),
        (["size"], '{"size":1}\n{"sise":1}', "line 2: attribute 'size' is missing; did you mean"),
        (["size"], '{"size":1}\n[]', "line 2: expected a JSON object, got list"),
        (["size"], '{"size":1}\n{', "line 2: expected a JSON object: "),
        (
            ["size"],
            '{"size":1}\n\n{"size":"x"}\n{"size":"3"}',
            "line 3: expected 'size' to be no word, as in 2 of 3 lines, got 'x'",
        ),
        (["size"], '{"size":[1]}\n{"size":2}', "line 2: expected a list in 'size', got 2"),
        (["x-ref"], '{"x-ref":"gone"}', "line 1: 'x-ref': 'gone' cannot be read: "),
        (["x-ref"], '{"x-ref":"s3://b/k"}', "line 1: .*s3: is not a scheme that is read here"),
        (["x-ref"], '{"x-ref":1}', "line 1: 'x-ref': expected a URI, got 1"),
    ],
)
def test_a_line_that_does_not_fit_is_named(
    tmp_path: Path, attributes: list[str], text: str, expected: str
) -> None:
    path = tmp_path / "x.manifest"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidData, match=expected):
        read_manifest(path, attributes)
