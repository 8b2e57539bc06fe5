"""How a channel's files reach a job: found, shared out, linked, unpacked, piped."""

from __future__ import annotations

import gzip
import json
import tarfile
import time
from itertools import chain
from pathlib import Path

import pytest

from training.errors import InvalidData
from training.jobs.channel import Channel
from training.jobs.delivery import (
    SourceFile,
    deliver,
    find_files,
    open_source,
    share_out,
    unpack_archive,
)
from training.jobs.piping import Part, Pipe, read_parts


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for name in ("b/2.csv", "a/1.csv", "_SUCCESS", "c.csv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def channel(**fields: object) -> Channel:
    return Channel(**({"channel_name": "train", "path": "x"} | fields))  # type: ignore[arg-type]


def names(files: list[SourceFile]) -> list[str]:
    return [file.name for file in files]


# -- which files ------------------------------------------------------------------------------


def test_files_are_found_in_the_order_of_their_names(data: Path) -> None:
    assert names(find_files(channel(), data, hidden=False)) == ["a/1.csv", "b/2.csv", "c.csv"]
    assert names(find_files(channel(), data, hidden=True))[0] == "_SUCCESS"
    assert names(find_files(channel(), data / "c.csv", hidden=True)) == ["c.csv"]


@pytest.mark.parametrize("hidden", [True, False])
def test_data_that_is_not_there_is_refused(tmp_path: Path, hidden: bool) -> None:
    with pytest.raises(InvalidData, match=r"train: .* does not exist"):
        find_files(channel(), tmp_path / "nothing", hidden=hidden)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidData, match="is empty"):
        find_files(channel(), tmp_path / "empty", hidden=hidden)


def test_a_manifest_lists_files_below_its_prefix(data: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    listed = channel(data_type="ManifestFile")
    for prefix in (f"{data}/", f"file://{data}/", "data/"):
        manifest.write_text(json.dumps([{"prefix": prefix}, "c.csv", "a/1.csv"]))
        found = find_files(listed, manifest, hidden=False)
        assert [(f.name, f.path.read_text()) for f in found] == [
            ("c.csv", "c.csv"),
            ("a/1.csv", "a/1.csv"),
        ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", "is no list"),
        ("[", "is not JSON"),
        ('[{"prefix": "data/"}]', "names no file"),
        ('[{"prefix": "data/"}, 3]', "has 3 as entry 1"),
        ('[{"prefix": "data/"}, "c.csv", "../x"]', r"has '\.\./x' as entry 2"),
        ('[{"prefix": "data/"}, "d.csv"]', r"names .*data/d\.csv, which is not there"),
    ],
)
def test_a_manifest_that_cannot_be_followed_is_refused(
    data: Path, tmp_path: Path, text: str, expected: str
) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(InvalidData, match=expected):
        find_files(channel(data_type="ManifestFile"), tmp_path / "manifest.json", hidden=False)


# -- which host -------------------------------------------------------------------------------


def test_shards_cover_all_files_once_and_a_host_may_get_none() -> None:
    files = [SourceFile(Path(str(n)), str(n)) for n in range(7)]
    assert share_out(files, channel(), 2) == [files, files]
    shares = share_out(files, channel(distribution="ShardedByS3Key"), 3)
    assert [len(share) for share in shares] == [3, 2, 2]
    assert sorted(names([*chain(*shares)])) == names(files)
    assert share_out(files[:1], channel(distribution="ShardedByS3Key"), 2)[1] == []


def test_a_seed_draws_one_order_and_another_in_each_epoch() -> None:
    files = [SourceFile(Path(str(n)), str(n)) for n in range(20)]
    shuffled = channel(shuffle_seed=3, distribution="ShardedByS3Key")
    first = share_out(files, shuffled, 2)
    assert first == share_out(files, shuffled, 2)
    again = share_out(files, shuffled, 2, epoch=1)
    assert again != first
    assert sorted(names([*chain(*again)])) == sorted(names(files))
    assert first != share_out(files, channel(shuffle_seed=4, distribution="ShardedByS3Key"), 2)


# -- into the folder --------------------------------------------------------------------------


def test_a_file_is_linked_so_that_replacing_it_changes_nothing(tmp_path: Path) -> None:
    source = tmp_path / "x.csv"
    source.write_text("0,1\n")
    files = [SourceFile(source, "x.csv")]
    for mode, copies in (("File", False), ("File", True), ("FastFile", True)):
        to = tmp_path / f"{mode}{copies}"
        deliver(files, to, channel=channel(), input_mode=mode, copies=copies)
        assert (to / "x.csv").is_symlink() == (mode == "FastFile")
        assert (to / "x.csv").samefile(source) == (mode == "FastFile" or not copies)
    replacement = tmp_path / "new"
    replacement.write_text("9,9\n")
    replacement.replace(source)
    assert (tmp_path / "FileFalse" / "x.csv").read_text() == "0,1\n"


def test_compressed_files_are_unpacked_whatever_they_are_called(tmp_path: Path) -> None:
    files = []
    for name in ("a.csv.gz", "b.csv"):
        (tmp_path / name).write_bytes(gzip.compress(b"0,1\n"))
        files.append(SourceFile(tmp_path / name, name))
    packed = channel(compression="Gzip")
    deliver(files, tmp_path / "to", channel=packed, input_mode="FastFile", copies=False)
    assert {f.name: f.read_bytes() for f in (tmp_path / "to").iterdir()} == {
        "a.csv": b"0,1\n",
        "b.csv": b"0,1\n",
    }
    (tmp_path / "c.csv").write_text("0,1\n")
    with pytest.raises(InvalidData, match=r"train: .*c\.csv cannot be read: Not a gzipped file"):
        deliver(
            [SourceFile(tmp_path / "c.csv", "c.csv")],
            tmp_path / "to",
            channel=packed,
            input_mode="File",
            copies=False,
        )


def test_an_archive_that_would_write_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    for name, expected in (("../outside", "cannot be unpacked"), ("inside", "")):
        with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
            tar.add(tmp_path / "x", arcname=name)
        if expected:
            with pytest.raises(InvalidData, match=expected):
                unpack_archive(tmp_path / "a.tar.gz", tmp_path / "to", channel="model")
        else:
            unpack_archive(tmp_path / "a.tar.gz", tmp_path / "to", channel="model")
            assert (tmp_path / "to" / "inside").read_text() == "x"


# -- through a pipe ---------------------------------------------------------------------------


def read(path: Path, size: int = -1) -> bytes:
    """Read a FIFO, which must be there in time."""
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    with path.open("rb") as pipe:
        return pipe.read(size)


def part(path: Path, **fields: object) -> Part:
    file = SourceFile(path, path.name)
    return Part(path.name, lambda: open_source(file, channel(**fields)))


@pytest.fixture
def big(tmp_path: Path) -> list[Part]:
    parts = []
    for name, content in (("a", b"a" * 1_000_000), ("b", b"b" * 1_000_000)):
        (tmp_path / name).write_bytes(content)
        parts.append(part(tmp_path / name))
    return parts


def test_each_epoch_is_a_pipe_with_all_files_one_after_the_other(
    tmp_path: Path, big: list[Part]
) -> None:
    target = tmp_path / "input" / "train"
    pipe = Pipe(target, lambda epoch: big if epoch % 2 == 0 else big[::-1])
    try:
        whole = b"a" * 1_000_000 + b"b" * 1_000_000
        assert read(tmp_path / "input" / "train_0") == whole
        # The second is left early, and the third is whole again.
        assert read(tmp_path / "input" / "train_1", 10) == b"b" * 10
        assert read(tmp_path / "input" / "train_2") == whole
        assert not (tmp_path / "input" / "train_0").exists()
    finally:
        pipe.close()
    assert pipe.error == ""
    assert list((tmp_path / "input").iterdir()) == []


def test_a_pipe_nobody_reads_is_closed_at_once(tmp_path: Path, big: list[Part]) -> None:
    began = time.monotonic()
    Pipe(tmp_path / "train", lambda epoch: big).close()
    assert time.monotonic() < began + 2


def test_a_pipe_unpacks_and_says_when_it_cannot(tmp_path: Path, big: list[Part]) -> None:
    (tmp_path / "z.gz").write_bytes(gzip.compress(b"0,1\n"))
    packed = [part(tmp_path / name, compression="Gzip") for name in ("z.gz", "a")]
    pipe = Pipe(tmp_path / "train", lambda epoch: packed)
    try:
        assert read(tmp_path / "train_0") == b"0,1\n"
    finally:
        pipe.close()
    assert pipe.error.startswith("train: Not a gzipped file")


def test_a_reader_that_asks_gets_the_parts_one_by_one(tmp_path: Path, big: list[Part]) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "c").write_bytes(b"c")
    parts = [part(tmp_path / "empty"), *big, part(tmp_path / "c"), part(tmp_path / "c")]
    target, listing = tmp_path / "in" / "train", tmp_path / "list" / "train"
    pipe = Pipe(target, lambda epoch: parts if epoch == 0 else parts[::-1], listing=listing)
    try:
        for epoch, expected in enumerate((parts, parts[::-1])):
            read = list(read_parts(target, listing, epoch=epoch))
            assert [name for name, _ in read] == [one.name for one in expected]
            assert all(data == (tmp_path / name).read_bytes() for name, data in read)
    finally:
        pipe.close()


def test_a_job_that_is_tried_again_finds_the_first_epoch_anew(
    tmp_path: Path, big: list[Part]
) -> None:
    target, listing = tmp_path / "in" / "train", tmp_path / "list" / "train"
    for epochs in (1, 2):
        pipe = Pipe(target, lambda epoch: big, listing=listing)
        try:
            for epoch in range(epochs - 1):
                assert [name for name, _ in read_parts(target, listing, epoch=epoch)] == ["a", "b"]
            # Killed in the middle of an epoch.
            parts = read_parts(target, listing, epoch=epochs - 1)
            assert next(parts)[0] == "a"
            parts.close()
        finally:
            pipe.close()
        assert list(target.parent.iterdir()) == []


def test_half_an_epoch_is_not_taken_for_a_whole_one(tmp_path: Path, big: list[Part]) -> None:
    broken = [big[0], part(tmp_path / "gone"), big[1]]
    pipe = Pipe(tmp_path / "train", lambda epoch: broken, listing=tmp_path / "list" / "train")
    try:
        parts = read_parts(tmp_path / "train", tmp_path / "list" / "train")
        assert next(parts)[0] == "a"
        with pytest.raises(InvalidData, match="train: the pipe ended before epoch 0 was whole"):
            next(parts)
    finally:
        pipe.close()
    assert "gone" in pipe.error
