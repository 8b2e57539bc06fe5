"""Jobs on several hosts, and channels that are piped, compressed, listed or a model."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import lineage
from tests.training.programs import MakeProgram, program_maker
from training import Channel, TrainingJob, TrainingJobs, TrainingJobStatus, submit, train
from training.artifact import open_model
from training.errors import InvalidData
from training.formats.recordio.framing import find_frames
from training.jobs.downloading import Download
from training.jobs.folder import JobFolder

MakeJob = Callable[..., TrainingJob]

# Says what it sees, by host.
SEEING = """\
import json, os
variables = {k: os.environ[k] for k in ("SM_HOSTS", "SM_CURRENT_HOST", "RANK", "WORLD_SIZE")}
resources = json.load(open(os.environ["SM_INPUT_CONFIG_DIR"] + "/resourceconfig.json"))
seen = {
    "variables": variables,
    "current": resources["current_host"],
    "shards": sorted(os.listdir(os.environ["SM_CHANNEL_SHARDS"])),
    "all": sorted(os.listdir(os.environ["SM_CHANNEL_ALL"])),
}
host = os.environ["SM_CURRENT_HOST"]
json.dump(seen, open(os.path.join(os.environ["SM_MODEL_DIR"], host), "w"))
print(f"#quality_metric: host={host}, epoch=1, train loss <loss>=0.{host[-1]}")
"""
# Reads two epochs of a channel, and says what came.
PIPED = """\
import os, time
base = os.environ["SM_CHANNEL_TRAIN"]
for epoch in range(2):
    while not os.path.exists(f"{base}_{epoch}"):
        time.sleep(0.01)
    print(open(f"{base}_{epoch}").read().replace("\\n", " "))
"""
# Says what is in a folder, and what two epochs of a pipe brought.
AUGMENTED = """\
import json, os, time
host, folder = os.environ["SM_CURRENT_HOST"], os.environ["SM_CHANNEL_FILES"]
lines = [json.loads(line) for line in open(os.path.join(folder, "notes.manifest"))]
seen = {"lines": lines, "epochs": []}
for line in lines:
    line["text-ref"] = open(os.path.join(folder, line["text-ref"])).read()
base = os.environ["SM_CHANNEL_PIPED"]
for epoch in range(2):
    while not os.path.exists(f"{base}_{epoch}"):
        time.sleep(0.01)
    seen["epochs"].append(open(f"{base}_{epoch}", "rb").read().hex())
json.dump(seen, open(os.path.join(os.environ["SM_MODEL_DIR"], host), "w"))
"""


@pytest.fixture
def make(tmp_path: Path) -> MakeProgram:
    return program_maker(tmp_path)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "rows"
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.csv").write_text(f"{name}\n")
    return folder


def log_of(home: Path, name: str) -> list[str]:
    with TrainingJobs(home) as jobs:
        return list(jobs.logs(name))


def test_each_host_has_its_share_and_all_share_a_model(
    home: Path, make: MakeProgram, files: Path
) -> None:
    job = make(
        SEEING,
        "hosts-1",
        hosts=2,
        channels=[
            Channel(channel_name="shards", path=str(files), distribution="ShardedByS3Key"),
            Channel(channel_name="all", path=str(files)),
        ],
    )
    job = TrainingJob.from_json(
        job.to_json()
        | {
            "AlgorithmSpecification": {
                "AlgorithmName": "script",
                "MetricDefinitions": [{"Name": "loss", "Regex": "<loss>=(.*)"}],
            }
        }
    )
    result = train(home, job).check()
    assert result.model is not None
    seen = {name: json.loads((result.model / name).read_text()) for name in ("algo-1", "algo-2")}
    assert [seen[name]["shards"] for name in seen] == [["a.csv", "c.csv"], ["b.csv"]]
    for rank, (name, said) in enumerate(seen.items()):
        assert said["all"] == ["a.csv", "b.csv", "c.csv"]
        assert said["current"] == name
        assert said["variables"] == {
            "SM_HOSTS": '["algo-1","algo-2"]',
            "SM_CURRENT_HOST": name,
            "RANK": str(rank),
            "WORLD_SIZE": "2",
        }
    assert sorted(log_of(home, "hosts-1"))[0].startswith("algo-1: #quality_metric: host=algo-1")
    with TrainingJobs(home) as jobs:
        table = jobs.metrics("hosts-1")
        # Both hosts had a core.
        assert jobs.describe("hosts-1").to_json()["ResourceConfig"]["InstanceCount"] == 2
    rows = zip(*(table[name].to_pylist() for name in ("host", "epoch", "value")), strict=True)
    assert sorted(rows) == [("algo-1", 1, 0.1), ("algo-2", 1, 0.2)]


def test_a_host_that_fails_ends_the_others(home: Path, make: MakeProgram) -> None:
    text = "import os, time\nif os.environ['RANK'] == '1': raise ValueError('here')\ntime.sleep(60)"
    result = train(home, make(text, "hosts-2", hosts=2))
    assert result.status is TrainingJobStatus.FAILED
    assert result.failure_reason.startswith("algo-2: ValueError: here (train.py, line 2)")


def test_a_host_that_stops_sooner_does_not_end_the_others(home: Path, make: MakeProgram) -> None:
    text = (
        "import os, signal, sys, time\n"
        "def stop(number, frame):\n"
        "    time.sleep(0.3)\n"
        "    open(os.environ['SM_MODEL_DIR'] + '/saved', 'w').close()\n"
        "    sys.exit(0)\n"
        "if os.environ['RANK'] == '0': signal.signal(signal.SIGTERM, stop)\n"
        "print('up')\n"
        "time.sleep(60)\n"
    )
    running = submit(home, make(text, "hosts-3", hosts=2))
    with TrainingJobs(home) as jobs:
        lines = jobs.logs("hosts-3", follow=True)
        assert sorted([next(lines), next(lines)]) == ["algo-1: up", "algo-2: up"]
    running.stop()
    result = running.wait(20)
    assert result.status is TrainingJobStatus.STOPPED
    assert result.model is not None
    assert (result.model / "saved").is_file()


def test_a_piped_channel_comes_anew_in_each_epoch(
    home: Path, make: MakeProgram, files: Path
) -> None:
    for file in files.iterdir():
        file.write_bytes(gzip.compress(file.read_bytes()))
    channel = Channel(
        channel_name="train",
        path=str(files),
        input_mode="Pipe",
        shuffle_seed=1,
        compression="Gzip",
    )
    train(home, make(PIPED, "piped-1", channels=[channel])).check()
    first, second = log_of(home, "piped-1")
    assert sorted(first.split()) == sorted(second.split()) == ["a", "b", "c"]
    assert first != second
    folder = home / "jobs" / "piped-1" / "input"
    assert list((folder / "data").iterdir()) == []
    said = json.loads((folder / "config" / "inputdataconfig.json").read_text())
    assert said["train"]["TrainingInputMode"] == "Pipe"


def test_an_augmented_manifest_is_shared_out_line_by_line_as_files_and_as_frames(
    home: Path, tmp_path: Path, make: MakeProgram
) -> None:
    manifest = tmp_path / "notes.manifest"
    with manifest.open("w") as lines:
        for number in range(4):
            (tmp_path / f"{number}.txt").write_text(f"note {number}")
            line = {"n": number, "text-ref": f"{number}.txt", "n-metadata": {"by": "hand"}}
            lines.write(json.dumps(line) + "\n")

    def channel(name: str, mode: str, seed: int | None, wrapper: str = "None") -> Channel:
        return Channel(
            channel_name=name,
            path=str(manifest),
            data_type="AugmentedManifestFile",
            attributes=("text-ref", "n"),
            distribution="ShardedByS3Key",
            input_mode=mode,
            shuffle_seed=seed,
            record_wrapper=wrapper,
        )

    channels = [channel("files", "File", None), channel("piped", "Pipe", 3, "RecordIO")]
    result = train(home, make(AUGMENTED, "augmented-1", hosts=2, channels=channels)).check()
    assert result.model is not None
    seen = [json.loads((result.model / name).read_text()) for name in ("algo-1", "algo-2")]
    assert [one["lines"] for one in seen] == [
        [{"text-ref": "note 0", "n": 0}, {"text-ref": "note 2", "n": 2}],
        [{"text-ref": "note 1", "n": 1}, {"text-ref": "note 3", "n": 3}],
    ]
    epochs = []
    for epoch in range(2):
        frames = [find_frames(bytes.fromhex(one["epochs"][epoch])) for one in seen]
        assert [len(found) for found in frames] == [4, 4]
        payloads = [found.payload(n).decode() for found in frames for n in range(4)]
        assert [f"note {n}" for n in payloads[1::2]] == payloads[::2]
        assert sorted(payloads[1::2]) == ["0", "1", "2", "3"]
        epochs.append(payloads)
    assert epochs[0] != epochs[1]
    with lineage.open_home(home) as graph:
        [data] = graph.find(type="DataSet")
    assert data.properties["files"] == 5


def test_a_pipe_that_breaks_fails_a_program_that_took_it_for_the_end(
    home: Path, make: MakeProgram, files: Path
) -> None:
    (files / "b.csv").write_bytes(b"not packed")
    for name in "ac":
        (files / f"{name}.csv").write_bytes(gzip.compress(b"x\n"))
    channel = Channel(channel_name="train", path=str(files), input_mode="Pipe", compression="Gzip")
    text = "import os\nprint(open(os.environ['SM_CHANNEL_TRAIN'] + '_0').read())\n"
    result = train(home, make(text, "piped-2", channels=[channel]))
    assert result.status is TrainingJobStatus.FAILED
    assert result.failure_reason.startswith("train: Not a gzipped file")


def test_a_model_to_go_on_from_comes_unpacked_and_connects_the_lineage(
    home: Path, tmp_path: Path, make_job: MakeJob
) -> None:
    first = train(home, make_job()).check()
    assert first.model is not None
    archive = home / "jobs" / "flights-1" / "model.tar.gz"
    train_channel = Channel(channel_name="train", path=str(tmp_path / "train.parquet"))
    for number, source in enumerate(
        ({"dataset": first.digest}, {"path": str(archive)}, {"path": str(first.model)})
    ):
        channel = Channel(channel_name="model", **source)
        job = make_job(f"more-{number}", channels=[train_channel, channel])
        folder = JobFolder(tmp_path / f"more-{number}")
        graph = lineage.Graph(lineage.MemoryStore())
        download = Download(job, folder, home, ("algo-1",), for_script=False)
        with lineage.Recorder(graph, "TrainingJob", "more") as run:
            said = download.bring(run)
        assert open_model(folder.channel("model")).inputs.names
        (model,) = graph.find(type="Model")
        assert said["model"]["uid"] == model.uid
        # The same identity as the output of the job that made it.
        assert (model.source_uri, model.content_hash) == (first.model.as_uri(), first.digest)
    (tmp_path / "two").mkdir()
    for name in ("model.tar.gz", "other.tar.gz"):
        shutil.copy(archive, tmp_path / "two" / name)
    job = make_job("more-9", channels=[Channel(channel_name="model", path=str(tmp_path / "two"))])
    with (
        pytest.raises(InvalidData, match=r"it has more files than one model\.tar\.gz"),
        lineage.Recorder(graph, "TrainingJob", "more-9") as run,
    ):
        Download(job, folder, home, ("algo-1",), for_script=False).bring(run)
