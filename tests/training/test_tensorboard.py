"""Event files of TensorBoard: written by us, read by something else."""

from __future__ import annotations

import importlib.util
import io
import math
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import training
from tests.inprocess import run_command
from tests.training.programs import program_maker
from training import (
    EventWriter,
    MetricDefinition,
    TensorBoardOutputConfig,
    TrainingJob,
    TrainingJobs,
    convert,
    train,
)
from training.errors import InvalidData, InvalidJob
from training.formats.tfrecord import masked_crc32c

MakeJob = Callable[..., TrainingJob]


def crc32c(data: bytes) -> int:
    """Bit by bit, after RFC 3720, appendix B.4."""
    crc = 0xFFFFFFFF
    for byte in data:
        for bit in range(8):
            low = (crc ^ (byte >> bit)) & 1
            crc = (crc >> 1) ^ (0x82F63B78 if low else 0)
    return crc ^ 0xFFFFFFFF


def unmasked(crc: int) -> int:
    rotated = (crc - 0xA282EAD8) & 0xFFFFFFFF
    return (rotated << 15 | rotated >> 17) & 0xFFFFFFFF


def records(path: Path) -> Iterator[bytes]:
    """Read TFRecords, with both of their sums."""
    file = io.BytesIO(path.read_bytes())
    while head := file.read(12):
        size, crc = struct.unpack("<QI", head)
        assert unmasked(crc) == crc32c(head[:8])
        data = file.read(size)
        (crc,) = struct.unpack("<I", file.read(4))
        assert unmasked(crc) == crc32c(data)
        yield data


def number(file: io.BytesIO) -> int:
    value = shift = 0
    while True:
        (byte,) = file.read(1)
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
        shift += 7


def fields(data: bytes) -> dict[int, list[Any]]:
    """Read a protobuf message: by field its values, messages and texts as bytes."""
    file, found = io.BytesIO(data), {}  # type: ignore[var-annotated]
    while file.tell() < len(data):
        key = number(file)
        match key & 7:
            case 0:
                value: Any = number(file)
            case 1:
                (value,) = struct.unpack("<d", file.read(8))
            case 2:
                value = file.read(number(file))
            case 5:
                (value,) = struct.unpack("<f", file.read(4))
        found.setdefault(key >> 3, []).append(value)
    return found


def events(folder: Path) -> list[tuple[str, int, float, dict[int, list[Any]]]]:
    """Read tag, step, time and value of what is in the event files of a folder."""
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        first, *rest = (fields(record) for record in records(path))
        assert first[3] == [b"brain.Event:2"]
        for event in rest:
            (summary,) = event[5]
            (value,) = fields(summary)[1]
            inside = fields(value)
            found.append((inside[1][0].decode(), event.get(2, [0])[0], event[1][0], inside))
    return found


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for tag, step, _, value in events(folder):
        found.setdefault(tag, []).append((step, value[2][0]))
    return found


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = b"".join(b"\0" + bytes(3 * width) for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


VALUES = np.random.default_rng(1).normal(size=1000)


@pytest.fixture
def board(tmp_path: Path) -> Path:
    with EventWriter(tmp_path / "board") as writer:
        writer.scalar("train/loss", 0.1, step=0, time_s=1000.5)
        writer.scalar("train/loss", math.nan, step=300, time_s=1001.0)
        writer.scalar("train/loss", 1e300, step=2**40)
        writer.histogram("weights", VALUES, step=7, bins=10)
        writer.image("sample", png(4, 3), step=9)
    return tmp_path / "board"


def test_the_sums_are_those_of_the_standard() -> None:
    # RFC 3720, appendix B.4: 32 bytes of zeros, of ones, ascending.
    assert unmasked(masked_crc32c(bytes(32))) == 0x8A9136AA
    assert unmasked(masked_crc32c(b"\xff" * 32)) == 0x62A8AB43
    assert unmasked(masked_crc32c(bytes(range(32)))) == 0x46DD794E


def test_what_is_written_is_read_back(board: Path) -> None:
    first, second, third, histogram, image = events(board)
    assert (first[:3], first[3][2]) == (("train/loss", 0, 1000.5), [np.float32(0.1)])
    assert second[1] == 300
    assert math.isnan(second[3][2][0])
    assert (third[1], third[3][2]) == (2**40, [math.inf])
    spread = fields(histogram[3][5][0])
    counts, edges = np.histogram(VALUES, 10)
    assert [spread[field][0] for field in (1, 2, 3, 4, 5)] == [
        *(VALUES.min(), VALUES.max(), 1000.0, VALUES.sum(), np.square(VALUES).sum())
    ]
    assert np.array_equal(np.frombuffer(spread[6][0]), edges[1:])
    assert np.array_equal(np.frombuffer(spread[7][0]), counts)
    shown = fields(image[3][4][0])
    assert (shown[1], shown[2], shown[3], shown[4]) == ([3], [4], [3], [png(4, 3)])


@pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="TensorBoard is not installed"
)
def test_tensorboard_reads_it(board: Path) -> None:
    accumulator = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    read = accumulator.EventAccumulator(str(board))
    read.Reload()
    first, *_ = read.Scalars("train/loss")
    assert (first.wall_time, first.step, first.value) == (1000.5, 0, np.float32(0.1))
    (spread,) = read.Histograms("weights")
    assert spread.histogram_value.num == 1000
    assert list(spread.histogram_value.bucket_limit) == list(np.histogram(VALUES, 10)[1][1:])
    (image,) = read.Images("sample")
    assert (image.width, image.height, image.encoded_image_string) == (4, 3, png(4, 3))


def test_what_is_no_picture_and_no_spread_is_refused(tmp_path: Path) -> None:
    with EventWriter(tmp_path) as writer:
        with pytest.raises(InvalidData, match="histogram 'w': expected one or more finite numbers"):
            writer.histogram("w", [1.0, math.inf], step=0)
        with pytest.raises(InvalidData, match="image 'i': expected a PNG file, got b'GIF89a'"):
            writer.image("i", b"GIF89a", step=0)
    assert events(tmp_path) == []


def test_a_job_writes_what_it_reports(home: Path, tmp_path: Path, make_job: MakeJob) -> None:
    job = make_job(tensor_board_output_config=TensorBoardOutputConfig(path=str(tmp_path / "kept")))
    assert TrainingJob.from_json(job.to_json()) == job
    assert convert.job_from_message(convert.job_to_message(job)) == job
    train(home, job).check()
    folder = home / "jobs" / "flights-1" / "output" / "tensorboard"
    with TrainingJobs(home) as jobs:
        table = jobs.metrics("flights-1")
    expected: dict[str, list[tuple[int, float]]] = {}
    for row in table.to_pylist():
        kept = float(np.float32(row["value"]))
        expected.setdefault(row["name"].replace(":", "/"), []).append((row["step"], kept))
    assert scalars(folder) == expected
    assert len(expected["validation/auc"]) == 20
    assert scalars(tmp_path / "kept") == expected


def test_a_script_writes_beside_what_is_read_from_its_log(home: Path, tmp_path: Path) -> None:
    make = program_maker(tmp_path)
    text = """\
import json, os
from pathlib import Path
from training import EventWriter
config = Path(os.environ["SM_INPUT_CONFIG_DIR"], "tensorboardoutputconfig.json")
root = Path(os.environ["SM_MODEL_DIR"]).parent
where = root / Path(json.loads(config.read_text())["LocalPath"]).relative_to("/opt/ml")
with EventWriter(where, host="own") as writer:
    writer.scalar("own", 3.0, step=1)
print("loss=0.5")
print("loss=0.25")
"""
    job = make(
        text,
        "shown-1",
        hosts=2,
        environment={"PYTHONPATH": str(Path(training.__file__).parents[1])},
        metric_definitions=[MetricDefinition(name="loss", regex=r"loss=(\S+)")],
        tensor_board_output_config=TensorBoardOutputConfig(local_path="/opt/ml/board"),
    )
    train(home, job).check()
    folder = home / "jobs" / "shown-1" / "output" / "tensorboard"
    losses = [(0, 0.5), (1, 0.25)]
    assert scalars(folder) == {"own": [(1, 3.0)], "loss": losses}
    assert scalars(folder / "algo-2")["loss"] == losses


def test_the_command_asks_for_it(home: Path, tmp_path: Path, make_job: MakeJob) -> None:
    source = make_job().input_data_config[0].path
    ended = run_command(
        *("train", "xgboost", "--job", "shown-1", "--threads", 1, "--device", "cpu"),
        *("--channel", f"train={source},label=late", "--set", "num_round=2", "--tensorboard"),
        *("--set", "objective=binary:logistic", "--home", home),
    )
    assert ended.returncode == 0, ended.stderr
    found = scalars(home / "jobs" / "shown-1" / "output" / "tensorboard")
    assert [step for step, _ in found["train/logloss"]] == [0, 1]


def test_a_place_that_is_taken_is_refused() -> None:
    for place in ("/opt/ml/model", "output/data", "/tmp/elsewhere", "../up"):
        with pytest.raises(InvalidJob, match="LocalPath"):
            TensorBoardOutputConfig(local_path=place)
    with pytest.raises(InvalidJob, match="S3OutputPath: expected a folder of this machine"):
        TensorBoardOutputConfig(path="s3://bucket/board")
