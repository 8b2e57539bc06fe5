import hashlib
import os
from pathlib import Path

import pytest

from lineage import InvalidEntity, bytes_digest, file_digest, folder_digest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "code").mkdir(parents=True)
    (folder / "weights.bin").write_bytes(b"\x00" * 100)
    (folder / "code" / "infer.py").write_text("print()")
    return folder


def test_bytes_and_file_agree_with_sha256(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    path = tmp_path / "large.bin"
    path.write_bytes(data)
    assert file_digest(path) == bytes_digest(data) == hashlib.sha256(data).hexdigest()


def test_a_folder_is_what_its_files_are_called_and_hold(folder: Path, tmp_path: Path) -> None:
    before = folder_digest(folder)
    moved = folder.rename(tmp_path / "elsewhere")
    os.utime(moved / "weights.bin", (1, 1))
    (moved / "weights.bin").chmod(0o600)
    (moved / "empty").mkdir()
    assert folder_digest(moved) == before


def test_every_change_of_a_folder_shows(folder: Path) -> None:
    digests = {folder_digest(folder)}
    (folder / "weights.bin").write_bytes(b"\x00" * 99)
    digests.add(folder_digest(folder))
    (folder / "weights.bin").rename(folder / "weights")
    digests.add(folder_digest(folder))
    (folder / "weights").rename(folder / "code" / "weights")
    digests.add(folder_digest(folder))
    (folder / "code" / "infer.py").unlink()
    digests.add(folder_digest(folder))
    assert len(digests) == 5


def test_name_and_content_are_not_run_together(tmp_path: Path) -> None:
    digests = set()
    for number, (name, content) in enumerate([("a", "bc"), ("ab", "c"), ("abc", "")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / name).write_text(content)
        digests.add(folder_digest(folder))
    assert len(digests) == 3


def test_a_link_counts_as_what_it_leads_to(folder: Path, tmp_path: Path) -> None:
    before = folder_digest(folder)
    (folder / "weights.bin").rename(tmp_path / "blob")
    (folder / "weights.bin").symlink_to(tmp_path / "blob")
    (folder / "code").rename(tmp_path / "code")
    (folder / "code").symlink_to(tmp_path / "code")
    assert folder_digest(folder) == before


def test_a_link_back_is_refused(folder: Path) -> None:
    (folder / "code" / "again").symlink_to(folder)
    with pytest.raises(InvalidEntity, match="leads back"):
        folder_digest(folder)


def test_a_file_is_no_folder(folder: Path) -> None:
    with pytest.raises(InvalidEntity, match="file_digest"):
        folder_digest(folder / "weights.bin")


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        file_digest(tmp_path / "none")


def test_reading_a_file_can_be_ended(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(3 << 20))
    calls: list[None] = []

    def check() -> None:
        calls.append(None)
        if len(calls) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        file_digest(tmp_path / "large", check=check)
    assert len(calls) == 2
