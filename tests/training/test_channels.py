"""What a channel says of its data, as an algorithm of ours gets it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.training.channels import bring
from tests.training.flights import make_flights
from training import Channel, ResourceConfig, TrainingJob, TrainingJobStatus, provenance, train
from training.data import Dataset
from training.errors import InvalidData, InvalidJob
from training.formats import recordio_protobuf
from training.formats.recordio.framing import find_frames
from training.jobs.augmented import Augmented
from training.jobs.delivery import SourceFile
from training.jobs.folder import JobFolder

MODES = ("File", "FastFile", "Pipe")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Five files of a row each, which says its number."""
    folder = tmp_path / "rows"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.csv").write_text(f"{number % 2},{number}\n")
    return folder


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """An augmented manifest of four lines, the third of them blank."""
    lines = [
        {"wind": 1.5, "late": "1", "sky": "wet", "late-metadata": {"job": 7}},
        {"wind": 2, "late": "0", "sky": "dry"},
        None,
        {"wind": 0, "late": "1", "sky": "12"},
    ]
    path = tmp_path / "notes.manifest"
    path.write_text("".join("\n" if one is None else json.dumps(one) + "\n" for one in lines))
    return path


def channel(path: Path, mode: str = "File", **fields: Any) -> Channel:
    return Channel(**{"channel_name": "train", "path": str(path), "input_mode": mode, **fields})


def order(data: Dataset) -> list[int]:
    return [int(value) for value in data.features["f0"].to_pylist()]


def lines(path: Path, mode: str = "File", **fields: Any) -> Channel:
    """A channel of an augmented manifest."""
    return channel(
        path,
        mode,
        data_type="AugmentedManifestFile",
        attributes=("wind", "late", "sky"),
        label="late",
        record_wrapper="RecordIO" if mode == "Pipe" else "None",
        **fields,
    )


# -- which files, in which order --------------------------------------------------------------


def test_a_seed_orders_the_files_alike_in_every_mode(tmp_path: Path, rows: Path) -> None:
    found = [
        order(bring(tmp_path / mode, channel(rows, mode, shuffle_seed=4))["train"].dataset)
        for mode in MODES
    ]
    assert found[0] == found[1] == found[2] != [0, 1, 2, 3, 4]
    assert sorted(found[0]) == [0, 1, 2, 3, 4]
    other = bring(tmp_path / "other", channel(rows, shuffle_seed=5))["train"].dataset
    assert order(other) != found[0]


@pytest.mark.parametrize("mode", MODES)
def test_a_manifest_orders_the_files_and_may_name_one_twice(
    mode: str, tmp_path: Path, rows: Path
) -> None:
    manifest = tmp_path / "order.json"
    manifest.write_text(json.dumps([{"prefix": "rows/"}, "3.csv", "0.csv", "3.csv"]))
    listed = channel(manifest, mode, data_type="ManifestFile")
    assert order(bring(tmp_path / "job", listed)["train"].dataset) == [3, 0, 3]


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("mode", ["File", "FastFile"])
def test_what_is_shared_out_is_read_whole_in_the_order_of_one_host(
    mode: str, seed: int | None, tmp_path: Path, rows: Path
) -> None:
    given = channel(rows, mode, distribution="ShardedByS3Key", shuffle_seed=seed)
    alone = bring(tmp_path / "alone", given)["train"].dataset
    linear = {"predictor_type": "binary_classifier"}
    shared = {"algorithm": "linear-learner", "values": linear, "instance_count": 2}
    for rank in range(2):
        data = bring(tmp_path / f"of-{rank}", given, rank=rank, **shared)["train"].dataset
        assert order(data) == order(alone)
    assert (order(alone) == [0, 1, 2, 3, 4]) == (seed is None)


def test_lines_that_are_shared_out_are_read_whole(tmp_path: Path) -> None:
    manifest = tmp_path / "lines.manifest"
    manifest.write_text("".join(f'{{"x": {n}, "label": {n % 2}}}\n' for n in range(5)))
    given = channel(
        manifest,
        data_type="AugmentedManifestFile",
        attributes=("label", "x"),
        distribution="ShardedByS3Key",
    )
    linear = {"predictor_type": "binary_classifier"}
    shared = {"algorithm": "linear-learner", "values": linear, "instance_count": 2}
    data = bring(tmp_path / "job", given, rank=1, **shared)["train"].dataset
    assert data.features["x"].to_pylist() == [0, 1, 2, 3, 4]


def test_an_algorithm_on_several_hosts_reads_shares_from_files(tmp_path: Path, rows: Path) -> None:
    given = channel(rows, "Pipe", distribution="ShardedByS3Key")
    with pytest.raises(InvalidJob, match="set input_mode=File, or distribution=FullyReplicated"):
        bring(tmp_path / "job", given, instance_count=2)
    whole = bring(tmp_path / "whole", channel(rows, "Pipe"), instance_count=2)["train"].dataset
    assert order(whole) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("mode", MODES)
def test_packed_files_are_unpacked_in_every_mode(mode: str, tmp_path: Path, rows: Path) -> None:
    for file in list(rows.iterdir()):
        file.with_suffix(".csv.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    for compression in ("Gzip", "None"):
        packed = channel(rows, mode, compression=compression)
        data = bring(tmp_path / compression, packed)["train"].dataset
        assert order(data) == [0, 1, 2, 3, 4]


def test_two_files_that_would_have_one_name_are_refused(tmp_path: Path, rows: Path) -> None:
    for name in ("0.csv", "0.csv.gz"):
        (rows / name).write_bytes(gzip.compress(b"0,1\n"))
    with pytest.raises(InvalidData, match=r"0\.csv and .*0\.csv\.gz would both be '0\.csv'"):
        bring(tmp_path / "job", channel(rows, compression="Gzip"))


def test_each_of_two_piped_channels_comes_whole(tmp_path: Path, rows: Path) -> None:
    named = channel(rows / "3.csv", "Pipe", channel_name="validation")
    read = bring(tmp_path / "job", channel(rows, "Pipe"), named)
    assert order(read["train"].dataset) == [0, 1, 2, 3, 4]
    assert order(read["validation"].dataset) == [3]


# -- in place ---------------------------------------------------------------------------------


def test_a_file_is_opened_in_place_when_it_is_read(tmp_path: Path, rows: Path) -> None:
    def look(folder: JobFolder) -> None:
        found = folder.channel("train") / "2.csv"
        assert found.is_symlink()
        assert found.resolve() == (rows / "2.csv").resolve()
        (rows / "2.csv").unlink()

    with pytest.raises(InvalidData, match=r"train: '2\.csv' cannot be read in place any more"):
        bring(tmp_path / "job", channel(rows, "FastFile"), then=look)


def test_a_file_that_changes_in_place_is_refused_and_a_linked_one_is_not(
    tmp_path: Path, rows: Path
) -> None:
    def change(folder: JobFolder) -> None:
        (tmp_path / "new").write_text("1,99\n")
        (tmp_path / "new").replace(rows / "2.csv")

    with pytest.raises(InvalidData, match=r"'2\.csv' was changed while the job read it in place"):
        bring(tmp_path / "fast", channel(rows, "FastFile"), then=change)
    (rows / "2.csv").write_text("0,2\n")
    for mode in ("File", "Pipe"):
        (rows / "2.csv").write_text("0,2\n")
        read = bring(tmp_path / mode, channel(rows, mode), then=change)
        assert order(read["train"].dataset) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("mode", ["File", "Pipe"])
def test_the_lineage_names_the_bytes_that_are_read(
    mode: str, tmp_path: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: list[list[SourceFile]] = []
    record = provenance.record_channel

    def replaced(
        run: Any, given: Channel, source: Path, files: list[SourceFile], **more: Any
    ) -> Any:
        (tmp_path / "new").write_text("1,99\n")
        (tmp_path / "new").replace(rows / "2.csv")
        recorded.append(files)
        return record(run, given, source, files, **more)

    monkeypatch.setattr(provenance, "record_channel", replaced)
    data = bring(tmp_path / "job", channel(rows, mode))["train"].dataset
    assert order(data) == [0, 1, 2, 3, 4]
    assert [file.path.read_text() for file in recorded[0]][2] == "0,2\n"


# -- augmented manifests ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", [None, 4])
def test_an_augmented_manifest_is_the_same_table_in_every_mode(
    seed: int | None, tmp_path: Path, notes: Path
) -> None:
    found = [
        bring(tmp_path / mode, lines(notes, mode, shuffle_seed=seed))["train"] for mode in MODES
    ]
    assert found[0].joined.table.equals(found[1].joined.table)
    assert found[0].joined.table.equals(found[2].joined.table)
    data = found[0].dataset
    assert data.target is not None
    read = zip(data.features["wind"].to_pylist(), data.target.tolist(), strict=True)
    expected = [(1.5, 1.0), (2.0, 0.0), (0.0, 1.0)]
    assert (list(read) == expected) == (seed is None)
    assert data.inputs.names == ("wind", "sky")
    # "12" is a word among words, and "1" a number where all are numbers.
    assert data.inputs.columns[1].categories == ("12", "dry", "wet")


@pytest.mark.parametrize("mode", MODES)
def test_a_line_that_cannot_be_read_has_the_number_of_the_manifest(
    mode: str, tmp_path: Path, notes: Path
) -> None:
    notes.write_text(notes.read_text().replace('"late": "0"', '"late": null'))
    with pytest.raises(InvalidData, match=r"'late' has 1 missing .*\('notes\.manifest line 2'"):
        bring(tmp_path / "label", lines(notes, mode, shuffle_seed=4))
    notes.write_text(notes.read_text().replace('"wind": 0', '"wind": "n/k"'))
    with pytest.raises(InvalidData, match=r"train: 'notes\.manifest': line 4: expected 'wind' to"):
        bring(tmp_path / "value", lines(notes, mode, shuffle_seed=4))


def test_what_lines_refer_to_comes_with_them(tmp_path: Path) -> None:
    for name in ("a/x.bin", "b/x.bin"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(name)
    manifest = tmp_path / "images.manifest"
    uris = ["a/x.bin", (tmp_path / "b/x.bin").as_uri(), "a/x.bin"]
    manifest.write_text("".join(json.dumps({"image-ref": uri, "n": 1}) + "\n" for uri in uris))
    given = channel(manifest, data_type="AugmentedManifestFile", attributes=("image-ref",))
    read = Augmented.read(given, manifest)
    assert [file.name for file in read.sources] == [
        *("images.manifest", "files/x.bin", "files/x-2.bin")
    ]
    to = tmp_path / "to"
    read.deliver(read.entries[1:], to, channel=given, input_mode="FastFile", copies=True)
    assert [json.loads(line) for line in (to / manifest.name).read_text().splitlines()] == [
        {"image-ref": "files/x-2.bin"},
        {"image-ref": "files/x.bin"},
    ]
    assert (to / "files" / "x-2.bin").resolve() == tmp_path / "b" / "x.bin"
    with pytest.raises(InvalidData, match="column 'image-ref' is binary, and an input must be"):
        bring(tmp_path / "job", given, algorithm="kmeans", values={"k": 2, "feature_dim": 1})
    (tmp_path / "b" / "x.bin").unlink()
    with pytest.raises(InvalidData, match=r"'images\.manifest': line 2: 'image-ref': .* no file"):
        bring(tmp_path / "job2", given)


# -- what does not fit ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"a.csv": "0,1\n1,2\n", "b.csv": "0,1\n1,2\n0,n/k\n"},
            r"train: 'b\.csv': row 3, column 2 \(f0\): expected a number .* got 'n/k'",
        ),
        (
            {"a.csv": "0,1\n", "b.csv": "1,dry\n"},
            r"'b\.csv': row 1, column 2 \(f0\): expected int64 as in 'a\.csv', got string: 'dry'",
        ),
        (
            {"a.csv": "0,1,2\n", "b.csv": "1,2\n"},
            r"'b\.csv': row 1: expected 3 columns as in 'a\.csv', got 2",
        ),
        (
            {"a.csv": "0,1\n1,1\n", "b.csv": "1,1\n,2\n"},
            r"label column 'label' has 1 missing values, .* row 4; .* \('b\.csv', row 2\)",
        ),
        (
            {"a.libsvm": "0 0:1\n", "b.libsvm": "1 0:1\n1 x:1\n"},
            r"train: 'b\.libsvm': line 2: expected",
        ),
        (
            {"a.jsonl": '{"x": 1, "label": 0}\n', "b.jsonl": '{"x": "w", "label": 1}\n'},
            r"'b\.jsonl': row 1, column 1 \(x\): expected .* as in 'a\.jsonl', got string: 'w'",
        ),
        (
            {"a.csv": "0,1\n", "b.jsonl": '{"x": 1}\n'},
            r"'a\.csv' and 'b\.jsonl' are of different content types",
        ),
        ({"a.dat": "0,1\n"}, r"the ending of 'a\.dat' does not tell its content type"),
    ],
)
def test_an_error_names_file_row_and_column(
    mode: str, files: Mapping[str, str], expected: str, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    values = {"predictor_type": "regressor"}
    with pytest.raises(InvalidData, match=expected):
        bring(
            tmp_path / "job",
            channel(folder, mode),
            algorithm="linear-learner",
            values=values,
        )


def test_records_of_other_dimensions_are_refused_by_file(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name, size in (("a.pbr", 2), ("b.pbr", 3)):
        vectors = pa.array([[1.0] * size], pa.list_(pa.float32(), size))
        recordio_protobuf.write(pa.table({"features": vectors}), folder / name)
    values = {"k": 2, "feature_dim": 2}
    with pytest.raises(InvalidData, match=r"'b\.pbr': row 1, column 1 \(features\): expected fix"):
        bring(tmp_path / "job", channel(folder), algorithm="kmeans", values=values)


def test_what_an_algorithm_does_not_read_is_refused_by_name(tmp_path: Path, rows: Path) -> None:
    machines = {"feature_dim": 1, "num_factors": 2, "predictor_type": "regressor"}
    refused = "factorization-machines: channel 'train' is not read as 'text/csv'; it may be appl"
    for given in (channel(rows), channel(rows, content_type="text/csv")):
        with pytest.raises(InvalidJob, match=refused):
            bring(
                tmp_path / str(given.content_type)[:4],
                given,
                algorithm="factorization-machines",
                values=machines,
            )
    with pytest.raises(InvalidJob, match="channel 'model' is not read as 'text/csv'"):
        bring(
            tmp_path / "job",
            channel(rows),
            channel(rows, channel_name="model", content_type="text/csv"),
        )
    with pytest.raises(InvalidJob, match="channel 'model' does not come in input mode Pipe"):
        bring(tmp_path / "job", channel(rows), channel(rows, "Pipe", channel_name="model"))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"attributes": ("a",)}, "attributes are those of an augmented manifest"),
        ({"data_type": "AugmentedManifestFile"}, "1 to 16 different attributes .* got none"),
        (
            {"data_type": "AugmentedManifestFile", "attributes": ("a", "a")},
            "1 to 16 different attributes of the manifest's lines, got 'a', 'a'",
        ),
        (
            {"data_type": "AugmentedManifestFile", "attributes": ("a",), "compression": "Gzip"},
            "leave the compression None",
        ),
        (
            {"data_type": "AugmentedManifestFile", "attributes": ("a",), "input_mode": "Pipe"},
            "set record_wrapper=RecordIO, or input_mode=File",
        ),
        (
            {
                "data_type": "AugmentedManifestFile",
                "attributes": ("a",),
                "content_type": "text/csv",
            },
            "an augmented manifest is read as application/jsonlines, .* got 'text/csv'",
        ),
        ({"record_wrapper": "RecordIO"}, r"set input_mode=Pipe, .* \(it is File\)"),
        ({"record_wrapper": "Recordio"}, "did you mean 'RecordIO'"),
        (
            {"record_wrapper": "RecordIO", "input_mode": "Pipe", "content_type": "text/csv"},
            "reads frames of RecordIO as content_type=application/x-recordio-protobuf",
        ),
    ],
)
def test_a_channel_that_cannot_be_delivered_is_refused(
    fields: dict[str, Any], expected: str, tmp_path: Path, rows: Path
) -> None:
    with pytest.raises(InvalidJob, match=expected):
        bring(tmp_path / "job", channel(rows, **fields))


def test_files_of_one_record_each_are_framed_on_their_way(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    folder.mkdir()
    vectors = pa.array([[1, 2], [3, 4]], pa.list_(pa.float32(), 2))
    table = pa.table({"features": vectors, "label": pa.array([0, 1], pa.float32())})
    frames = find_frames(recordio_protobuf.encode(table))
    for number in range(2):
        (folder / str(number)).write_bytes(frames.payload(number))
    wrapped = channel(
        folder,
        "Pipe",
        content_type="application/x-recordio-protobuf",
        record_wrapper="RecordIO",
    )
    data = bring(tmp_path / "job", wrapped)["train"].dataset
    assert data.features["features"].to_pylist() == [[1, 2], [3, 4]]
    assert data.labels().tolist() == [0, 1]


# -- jobs -------------------------------------------------------------------------------------


def test_a_piped_job_makes_the_model_of_files_and_its_lineage_is_the_same(
    home: Path, make_job: Any, flight_files: dict[str, Path]
) -> None:
    made = {}
    for mode in ("File", "Pipe"):
        channels = [
            Channel(channel_name=name, path=str(path), label="late", input_mode=mode)
            for name, path in flight_files.items()
        ]
        made[mode] = train(home, make_job(f"job-{mode}", channels=channels)).check()
    assert made["File"].digest == made["Pipe"].digest
    assert made["File"].metrics == made["Pipe"].metrics
    folder = home / "jobs" / "job-Pipe" / "input"
    assert list((folder / "data").iterdir()) == []
    assert (folder / "piped" / "train" / "train.parquet").samefile(flight_files["train"])
    said = json.loads((folder / "config" / "inputdataconfig.json").read_text())
    assert said["train"]["TrainingInputMode"] == "Pipe"


def test_a_row_that_the_fit_refuses_is_named_with_its_file(
    home: Path, tmp_path: Path, make_job: Any
) -> None:
    for name, winds in (("a", [1.0, 2.0]), ("b", [3.0, None])):
        table = pa.table({"late": [0, 1], "wind": pa.array(winds, pa.float64())})
        (tmp_path / "data").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / "data" / f"{name}.parquet")
    job = make_job(channels=[channel(tmp_path / "data", "Pipe", label="late")])
    body = job.to_json()
    body["AlgorithmSpecification"]["AlgorithmName"] = "knn"
    body["HyperParameters"] = {
        "k": "1",
        "feature_dim": "1",
        "sample_size": "4",
        "predictor_type": "regressor",
    }
    result = train(home, TrainingJob.from_json(body))
    assert result.status is TrainingJobStatus.FAILED
    assert "column 'wind' has no value in row 4" in result.failure_reason
    assert "('b.parquet', row 2)" in result.failure_reason


def test_what_a_pipe_brings_beyond_memory_is_read_from_disk(
    home: Path, tmp_path: Path, make_job: Any
) -> None:
    for seed in range(2):
        (tmp_path / "data").mkdir(exist_ok=True)
        flights = make_flights(2000, seed=seed)
        pq.write_table(flights, tmp_path / "data" / f"{seed}.parquet")
    made = []
    for name, memory_mb in (("much", 0), ("little", 1)):
        given = channel(tmp_path / "data", "Pipe", label="late", shuffle_seed=2)
        job = make_job(name, channels=[given], hyper_parameters={"eval_metric": "logloss"})
        resources = ResourceConfig(threads=1, device="cpu", memory_mb=memory_mb)
        made.append(train(home, replace(job, resource_config=resources)).check())
    assert made[0].digest == made[1].digest
    log = (home / "jobs" / "little" / "training.log").read_text()
    assert "it stays on disk" in log
    assert not list((home / "jobs").rglob("scratch"))
