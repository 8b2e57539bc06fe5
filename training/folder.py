"""The job folder: SageMaker's container contract on disk, one folder per job.

input/config/*.json     what was asked for
input/data/<channel>/   File: hard links or copies; FastFile: links
model/                  becomes the artifact, and model.tar.gz
output/data/            becomes output.tar.gz
output/tensorboard/     event files of TensorBoard, when the job writes some
output/failure          its first 1,024 characters become the failure reason
checkpoints/  code/     as the job needs them
training.log            what the job printed
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from training.errors import InvalidData
from training.formats import files_of
from training.job import TrainingJob

__all__ = ["HOST", "JobFolder"]

HOST = "algo-1"
"""The name of the first host of a job."""

_FAILURE_CHARACTERS = 1024


@final
@dataclass(frozen=True)
class JobFolder:
    """The paths of one job, and how its folder is filled and collected.

    Args:
        root: the folder that the job sees as `/opt/ml`.
    """

    root: Path

    @property
    def config(self) -> Path:
        """Where the configuration files are."""
        return self.root / "input" / "config"

    @property
    def model(self) -> Path:
        """Where the job writes its model."""
        return self.root / "model"

    @property
    def output(self) -> Path:
        """Where the failure file and further output go."""
        return self.root / "output"

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are."""
        return self.root / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        """Where event files of TensorBoard are: SageMaker's default place for them."""
        return self.output / "tensorboard"

    @property
    def log(self) -> Path:
        """What the job printed."""
        return self.root / "training.log"

    @property
    def metrics(self) -> Path:
        """Every metric the job reported, one JSON array a line: name, value, step, time in µs."""
        return self.root / "metrics.jsonl"

    def channel(self, name: str) -> Path:
        """Return where a channel's files are."""
        return self.root / "input" / "data" / name

    def create(self) -> None:
        """Make the folders."""
        for folder in (
            self.config,
            self.root / "input" / "data",
            self.model,
            self.output / "data",
            self.checkpoints,
            self.root / "code",
        ):
            folder.mkdir(parents=True, exist_ok=True)

    def write_config(self, job: TrainingJob) -> None:
        """Write the configuration files of the contract."""
        channels = {
            channel.channel_name: {"TrainingInputMode": job.input_mode(channel)}
            | ({"ContentType": channel.content_type} if channel.content_type else {})
            | {"S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
            for channel in job.input_data_config
        }
        self._write("hyperparameters.json", dict(job.hyper_parameters))
        self._write("inputdataconfig.json", channels)
        self._write("resourceconfig.json", resources())

    def attach(self, name: str, source: Path, *, input_mode: str) -> list[Path]:
        """Bring a channel's files into the folder.

        File: hard links, so the job keeps the bytes even when the source is replaced; a copy where
        the file system does not allow that. FastFile: a link to the source.

        Returns:
            the source's files, in the order of their names.

        Raises:
            InvalidData: nothing is there.
        """
        files = files_of(source, channel=name)
        target = self.channel(name)
        if input_mode == "FastFile":
            target.mkdir(parents=True, exist_ok=True)
            for file in files:
                link = target / _below(file, source)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(file.resolve())
            return files
        for file in files:
            to = target / _below(file, source)
            to.parent.mkdir(parents=True, exist_ok=True)
            try:
                # A link to a link would share its target's name, not its bytes.
                os.link(file.resolve(), to)
            except OSError:
                self._copy(file, to, name)
        return files

    def failure(self) -> str:
        """Return the job's own account of its failure, at most 1,024 characters; "" for none."""
        path = self.output / "failure"
        if not path.is_file():
            return ""
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_FAILURE_CHARACTERS).strip()

    def last_line(self) -> str:
        """Return the last line of the log that says something; "" for none."""
        if not self.log.is_file():
            return ""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - 8192))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def collect(self) -> None:
        """Pack `model/` and `output/data/` as the contract names them, unless they are empty.

        Equal files give equal archives.
        """
        for folder, archive in (
            (self.model, self.root / "model.tar.gz"),
            (self.output / "data", self.root / "output.tar.gz"),
        ):
            files = sorted(file for file in folder.rglob("*") if file.is_file())
            if files:
                _pack(archive, folder, files)

    def _copy(self, file: Path, to: Path, channel: str) -> None:
        try:
            shutil.copyfile(file, to)
        except OSError as error:
            raise InvalidData(
                f"{channel}: {file} cannot be read: {error.strerror}",
                channel=channel,
                path=str(file),
            ) from error

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        text = json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True)
        (self.config / name).write_text(text + "\n", encoding="utf-8")


def resources(hosts: Sequence[str] = (HOST,), *, current: str = HOST) -> dict[str, Any]:
    """Return the content of `resourceconfig.json`."""
    return {
        "current_host": current,
        "hosts": sorted(hosts),
        "network_interface_name": "lo",
        "current_instance_type": "local",
        "current_group_name": "homogeneousCluster",
        "instance_groups": [
            {
                "instance_group_name": "homogeneousCluster",
                "instance_type": "local",
                "hosts": sorted(hosts),
            }
        ],
    }


def _below(file: Path, source: Path) -> Path:
    return Path(file.name) if source.is_file() else file.relative_to(source)


def _pack(archive: Path, folder: Path, files: Iterable[Path]) -> None:
    # No times, owners or name in the archive; level 1, since models rarely compress well.
    with (
        archive.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for file in files:
            entry = tarfile.TarInfo(str(file.relative_to(folder)))
            entry.size = file.stat().st_size
            entry.mode = 0o644
            with file.open("rb") as content:
                tar.addfile(entry, content)
