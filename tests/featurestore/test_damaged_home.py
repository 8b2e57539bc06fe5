"""`featureline serve` over a damaged or foreign home: exit code 1 and one paragraph that helps."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

import featurestore

ROOT = Path(featurestore.__file__).parents[1]
PAGE = 4096


@pytest.fixture
def home(make_store, readings, reading) -> Path:
    store = make_store()
    store.create_feature_group(readings)
    for n in range(100):
        store.put("readings", reading(f"s{n}", n, note="x" * 300))
    store.flush()
    home = store.home
    store.close()
    return home


def serve(home: Path) -> subprocess.CompletedProcess[str]:
    command = ["serve", "--home", str(home), "--grpc", "127.0.0.1:0"]
    return subprocess.run(
        [sys.executable, "-m", "featureline", *command],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2 // PAGE * PAGE]


def metas(data: bytes) -> bytes:
    return bytes(2 * PAGE) + data[2 * PAGE :]


def behind(data: bytes) -> bytes:
    return data[: 2 * PAGE] + bytes(len(data) - 2 * PAGE)


def noise(data: bytes) -> bytes:
    return random.Random(1).randbytes(len(data))


@pytest.mark.parametrize(
    ("name", "change", "helps"),
    [
        ("online/data.mdb", cut, "restore a backup, or rebuild it from the offline store"),
        ("online/data.mdb", metas, "restore a backup, or rebuild it from the offline store"),
        ("online/data.mdb", behind, "restore a backup, or rebuild it from the offline store"),
        ("online/data.mdb", noise, "restore a backup, or rebuild it from the offline store"),
        ("meta.db", noise, "move it away and restore a backup"),
        ("meta.db", cut, "restore a backup"),
        ("lineage.db", noise, "restore the file from a backup"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_damaged_home_is_refused_with_a_way_out(home, name, change, helps):
    path = home / name
    changed = change(path.read_bytes())
    path.write_bytes(changed)
    ended = serve(home)
    assert (ended.returncode, ended.stdout) == (1, "")
    paragraph = _paragraph(ended.stderr)
    assert str(path if "online" not in name else path.parent) in paragraph
    assert helps in paragraph
    if change is not cut:
        assert path.read_bytes() == changed, "what is damaged may be all there is: it is kept"


def test_a_home_that_cannot_be_written_is_named(home, small_disk):
    disk = small_disk(8 << 20)
    subprocess.run(["cp", "-r", str(home), str(disk / "home")], check=True)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    ended = serve(disk / "home")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert str(disk / "home") in _paragraph(ended.stderr)


def test_a_home_on_a_full_disk_is_served_or_refused_with_a_word(home, small_disk):
    disk = small_disk(8 << 20)
    subprocess.run(["cp", "-r", str(home), str(disk / "home")], check=True)
    (disk / "home" / "online" / "lock.mdb").unlink()
    with pytest.raises(OSError, match="No space left"):
        (disk / "filler").write_bytes(bytes(8 << 20))
    ended = serve(disk / "home")
    assert (ended.returncode, ended.stdout) == (1, "")
    paragraph = _paragraph(ended.stderr)
    assert "no space left" in paragraph or "No space left" in paragraph
    assert str(disk / "home") in paragraph


def _paragraph(text: str) -> str:
    """The one line on stderr that is no log."""
    lines = [line for line in text.splitlines() if line]
    assert len(lines) == 1, text
    assert lines[0].startswith("featureline: ")
    return lines[0]
