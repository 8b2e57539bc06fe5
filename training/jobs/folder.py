"""The job folder: SageMaker's container contract on disk, one folder per job.

input/config/*.json     what was asked for
input/brought.json      which data it is, once code and data are whole
input/data/<channel>/   File: hard links or copies; FastFile: links; Pipe: <channel>_<epoch>
input/piped/<channel>/  what is piped, kept for the epochs that follow
input/listing/<channel> in which order an algorithm of ours reads its files
model/                  becomes the artifact, and model.tar.gz
output/data/            becomes output.tar.gz
output/tensorboard/     event files of TensorBoard, when the job writes some
output/failure          its first 1,024 characters become the failure reason
checkpoints/  code/     as the job needs them
scratch/                data that does not fit into memory, while the job runs
training.log            what the job printed
metrics.arrows          every metric the job reported
supervisor.log          what a process printed that went on with the job after its runner died
hosts/algo-2/ ...       the same for further hosts, which share model, checkpoints and code
"""

from __future__ import annotations

import gzip
import json
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from training.jobs.job import TrainingJob

__all__ = ["CHECKPOINTS", "HOST", "JobFolder", "host_names", "resources"]

HOST = "algo-1"
"""The name of the first host of a job."""
CHECKPOINTS = "checkpoints"

_BROUGHT = "brought.json"
_SHARED = ("model", "code", CHECKPOINTS)

_SCRATCH = "scratch"

_FAILURE_CHARACTERS = 1024
_TAIL_BYTES = 16_384


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
        return self.root / CHECKPOINTS

    @property
    def code(self) -> Path:
        """Where the user's source is, in script mode."""
        return self.root / "code"

    @property
    def tensorboard(self) -> Path:
        """Where event files of TensorBoard are: SageMaker's default place for them."""
        return self.output / "tensorboard"

    @property
    def report(self) -> Path:
        """The page on how the model was measured, where an algorithm has written one."""
        return self.output / "data" / "report.html"

    @property
    def log(self) -> Path:
        """What the job printed."""
        return self.root / "training.log"

    @property
    def metrics(self) -> Path:
        """Every metric the job reported; see `training.metricfile`."""
        return self.root / "metrics.arrows"

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Make a folder for what a process keeps on disk meanwhile, and remove it afterwards."""
        folder = self.root / _SCRATCH
        self.clear_scratch()
        folder.mkdir()
        try:
            yield folder
        finally:
            self.clear_scratch()

    def clear_scratch(self) -> None:
        """Remove what a process that was killed has left in its scratch folder."""
        shutil.rmtree(self.root / _SCRATCH, ignore_errors=True)

    def host(self, name: str) -> JobFolder:
        """Return the folder that a host of the job sees as `/opt/ml`."""
        return self if name == HOST else JobFolder(self.root / "hosts" / name)

    def channel(self, name: str) -> Path:
        """Return where a channel's files are."""
        return self.root / "input" / "data" / name

    def listing(self, name: str) -> Path:
        """Return where an algorithm's process reads in which order a channel's files come.

        Of a pipe's epoch it has `_<epoch>` added, and grows as the files are sent.
        """
        return self.root / "input" / "listing" / name

    def piped(self, name: str) -> Path:
        """Return where the files of a piped channel are kept for its epochs."""
        return self.root / "input" / "piped" / name

    def create(self, hosts: Sequence[str] = (HOST,)) -> None:
        """Make the folders, those of further hosts included."""
        for folder in (
            self.config,
            self.root / "input" / "data",
            self.model,
            self.output / "data",
            self.checkpoints,
            self.code,
        ):
            folder.mkdir(parents=True, exist_ok=True)
        for name in hosts:
            other = self.host(name)
            if other is self:
                continue
            other.config.mkdir(parents=True, exist_ok=True)
            (other.root / "input" / "data").mkdir(exist_ok=True)
            other.output.mkdir(exist_ok=True)
            for shared in _SHARED:
                _point(other.root / shared, self.root / shared)
            _point(other.output / "data", self.output / "data")

    def create_boards(self, hosts: Sequence[str] = (HOST,)) -> None:
        """Make the folder of event files; each further host has its own in it."""
        for name in hosts:
            other = self.host(name)
            if other is self:
                self.tensorboard.mkdir(parents=True, exist_ok=True)
                continue
            (self.tensorboard / name).mkdir(parents=True, exist_ok=True)
            _point(other.tensorboard, self.tensorboard / name)

    def write_config(
        self,
        job: TrainingJob,
        *,
        hosts: Sequence[str] = (HOST,),
        current: str = HOST,
        hyperparameters: Mapping[str, str] | None = None,
    ) -> None:
        """Write the configuration files of the contract.

        Args:
            job: what was asked for.
            hosts: of the job.
            current: whose folder this is.
            hyperparameters: those of the file, where they are not the job's.
        """
        channels = {
            channel.channel_name: {"TrainingInputMode": job.input_mode(channel)}
            | ({"ContentType": channel.content_type} if channel.content_type else {})
            | {
                "S3DistributionType": channel.distribution,
                "RecordWrapperType": channel.record_wrapper,
            }
            for channel in job.input_data_config
        }
        self._write("hyperparameters.json", dict(hyperparameters or job.hyper_parameters))
        self._write("inputdataconfig.json", channels)
        self._write("resourceconfig.json", resources(hosts, current=current))
        if job.checkpoint_config is not None:
            self._write("checkpointconfig.json", job.checkpoint_config.to_json())
        if job.tensor_board_output_config is not None:
            self._write("tensorboardoutputconfig.json", job.tensor_board_output_config.to_json())

    def failure(self) -> str:
        """Return the job's own account of its failure, at most 1,024 characters; "" for none."""
        path = self.output / "failure"
        if not path.is_file():
            return ""
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_FAILURE_CHARACTERS).strip()

    def last_line(self) -> str:
        """Return the last line of the log that says something; "" for none."""
        return next((line.strip() for line in reversed(self.last_lines()) if line.strip()), "")

    def last_lines(self) -> list[str]:
        """Return the end of the log, at most 16 KiB of it."""
        if not self.log.is_file():
            return []
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            return file.read().decode("utf-8", errors="replace").splitlines()

    def clear_attempt(self, hosts: Sequence[str] = (HOST,)) -> None:
        """Remove what an attempt that failed has left of a model, and its word on the failure."""
        for left in self.model.iterdir():
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()
        for name in hosts:
            (self.host(name).output / "failure").unlink(missing_ok=True)

    def note_brought(self, channels: Mapping[str, Any]) -> None:
        """Write down that code and data are in the folder, and what data it is."""
        part = self.root / "input" / f"{_BROUGHT}.part"
        part.write_text(json.dumps(dict(channels)), encoding="utf-8")
        part.replace(self.root / "input" / _BROUGHT)

    def brought(self) -> Mapping[str, Any] | None:
        """Return what `note_brought` wrote; None where not all was brought yet."""
        path = self.root / "input" / _BROUGHT
        if not path.is_file():
            return None
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def clear_for_another(self, hosts: Sequence[str] = (HOST,)) -> None:
        """Remove what is brought or made anew when another process goes on with the job.

        Its checkpoints, logs and metrics stay, and the code, if all of it was brought.
        """
        if self.model.is_symlink():
            self.model.unlink()  # It was in the store, and nobody knew of it.
        gone = [self.model, self.root / "input" / "piped"]
        gone += [self.host(name).root / "input" / "data" for name in hosts]
        if self.brought() is None:
            gone.append(self.code)
        for folder in gone:
            shutil.rmtree(folder, ignore_errors=True)
        for name in hosts:
            (self.host(name).output / "failure").unlink(missing_ok=True)

    def collect_model(self) -> None:
        """Pack `model/` as model.tar.gz; equal files give equal archives."""
        _pack(self.root / "model.tar.gz", self.model)

    def collect_output(self) -> None:
        """Pack `output/data/` as output.tar.gz, unless it is empty."""
        _pack(self.root / "output.tar.gz", self.output / "data")

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        text = json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True)
        (self.config / name).write_text(text + "\n", encoding="utf-8")


def host_names(count: int) -> tuple[str, ...]:
    """Return the names of a job's hosts.

    >>> host_names(2)
    ('algo-1', 'algo-2')
    """
    return tuple(f"algo-{number}" for number in range(1, count + 1))


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


def _pack(archive: Path, folder: Path) -> None:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    if not files:
        return
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


def _point(link: Path, to: Path) -> None:
    if not link.is_symlink():
        # Not relative: a program may see the host's folder in another place.
        link.symlink_to(to.absolute())
