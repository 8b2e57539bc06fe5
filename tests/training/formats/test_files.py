from __future__ import annotations

import gzip
import importlib
from pathlib import Path

import numpy as np
import pytest

from tests.training.formats.records import serialised
from training.data import read_table
from training.errors import InvalidData
from training.formats import ENDINGS, READERS

RECORDS = serialised([(np.array([1, 2], "f4"), None, None)] * 2, np.array([0, 1], "f4"))
FILES = {
    "x.csv": b"0,1,2\n1,1,2\n",
    "x.libsvm": b"0 0:1 1:2\n1 0:1 1:2\n",
    "x.jsonl": b'{"features":[1,2],"label":0}\n{"features":[1,2],"label":1}\n',
    "x.json": b'[{"features":[1,2],"label":0},{"features":[1,2],"label":1}]',
    "x.pbr": RECORDS,
}


def test_every_reader_is_there_and_every_ending_has_one() -> None:
    assert set(ENDINGS.values()) == set(READERS)
    for module, name in READERS.values():
        assert callable(getattr(importlib.import_module(f"training.formats.{module}"), name))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", list(FILES))
def test_an_ending_tells_the_format_and_gzip_is_unpacked(
    tmp_path: Path, name: str, packed: bool
) -> None:
    # Records carry no `.gz`: a channel with CompressionType Gzip keeps the file's name.
    ending = ".gz" if packed and name != "x.pbr" else ""
    path = tmp_path / (name + ending)
    path.write_bytes(gzip.compress(FILES[name]) if packed else FILES[name])
    table = read_table(path, channel="train")
    assert table["label"].to_pylist() == [0, 1]
    assert set(table.column_names) in ({"label", "features"}, {"label", "f0", "f1"})


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("x.csv", b"1,2\n3\n", "train: 'x.csv': row 2: expected 2 fields"),
        ("x.libsvm", b"1 2\n", "train: 'x.libsvm': line 1: expected index:value"),
        ("x.jsonl", b"{", "train: 'x.jsonl': line 1: expected a JSON object"),
        ("x.pbr", RECORDS[:-4], "train: 'x.pbr': record 2 at byte 52: expected 44 bytes"),
        ("x.pbr", b"", "train: 'x.pbr': expected records, got an empty file"),
        (
            "x.csv.gz",
            gzip.compress(FILES["x.csv"], mtime=0)[:-12],
            "'x.csv.gz' cannot be read as text/csv",
        ),
    ],
)
def test_an_error_names_channel_and_file(
    tmp_path: Path, name: str, data: bytes, expected: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InvalidData, match=expected) as caught:
        read_table(path, channel="train")
    assert caught.value.channel == "train"
    assert caught.value.path == str(path)
