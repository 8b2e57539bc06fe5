"""The variables a job's process is given: SageMaker's `SM_*`, and how many threads to use."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from training.jobs.folder import HOST, JobFolder, resources
from training.jobs.job import TrainingJob

__all__ = [
    "SECRETS",
    "algorithm_hyperparameters",
    "arguments",
    "gpu_variables",
    "loopback_variables",
    "sagemaker_variables",
    "split_hyperparameters",
    "thread_variables",
    "world_variables",
]

_CONSUMED = frozenset(
    {
        "sagemaker_program",
        "sagemaker_submit_directory",
        "sagemaker_job_name",
        "sagemaker_region",
        "sagemaker_container_log_level",
        "sagemaker_s3_output",
        "sagemaker_enable_cloudwatch_metrics",
        "_tuning_objective_metric",
        "default_user_module_name",
    }
)
_INFO = "20"


SECRETS: Final = frozenset(
    {
        "FEATURELINE_LINEAGE",
        "FEATURELINE_MASTER_KEY",
        "FEATURELINE_MASTER_KEY_FILE",
        "FEATURELINE_ONLINE",
        "FEATURELINE_TOKEN",
    }
)
"""Variables of the process that starts a job which the job, third parties' code, must not see."""


def algorithm_hyperparameters(values: Mapping[str, str]) -> dict[str, str]:
    """Return the hyperparameters that are an algorithm's, as they were given.

    >>> algorithm_hyperparameters({"eta": "0.1", "_tuning_objective_metric": "validation:auc"})
    {'eta': '0.1'}
    """
    return {name: value for name, value in values.items() if name not in _CONSUMED}


def split_hyperparameters(
    values: Mapping[str, str],
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Decode hyperparameters and sort them by whom they are for.

    Each is read as JSON, and kept as text where that fails.

    Returns:
        the user's; those of the framework; those that the runner consumes.

    >>> split_hyperparameters({"epochs": "3", "name": "a", "sagemaker_program": "train.py"})
    ({'epochs': 3, 'name': 'a'}, {}, {'sagemaker_program': 'train.py'})
    """
    user: dict[str, Any] = {}
    framework: dict[str, Any] = {}
    consumed: dict[str, Any] = {}
    for name, text in values.items():
        value = _decode(text)
        if name in _CONSUMED:
            consumed[name] = value
        elif name.startswith("sagemaker_"):
            framework[name] = value
        else:
            user[name] = value
    return user, framework, consumed


def arguments(hyperparameters: Mapping[str, Any]) -> list[str]:
    """Write hyperparameters as a script's arguments: sorted, values as Python text.

    >>> arguments({"lr": 0.1, "b": 1, "flip": True, "sizes": {"a": 1, "b": 2}})
    ['-b', '1', '--flip', 'True', '--lr', '0.1', '--sizes', 'a=1,b=2']
    """
    words: list[str] = []
    for name in sorted(hyperparameters):
        value = hyperparameters[name]
        if isinstance(value, Mapping):
            text = ",".join(f"{key}={item}" for key, item in sorted(value.items()))
        else:
            text = "" if value is None else str(value)
        words += [f"-{name}" if len(name) == 1 else f"--{name}", text]
    return words


def sagemaker_variables(
    job: TrainingJob,
    folder: JobFolder,
    *,
    cores: int,
    gpus: int,
    hosts: Sequence[str] = (HOST,),
    current: str = HOST,
) -> dict[str, str]:
    """Return the `SM_*` variables of a job.

    Names are upper case with hyphens kept; text goes in as it is, nothing as an empty string, all
    else as compact JSON with sorted keys.

    Args:
        job: what was asked for.
        folder: of the host, with its configuration files.
        cores: of the host.
        gpus: of the host.
        hosts: of the job.
        current: this host.
    """
    user, framework, consumed = split_hyperparameters(job.hyper_parameters)
    where = resources(hosts, current=current)
    channels = {c.channel_name: str(folder.channel(c.channel_name)) for c in job.input_data_config}
    config = folder.config / "inputdataconfig.json"
    program = str(consumed.get("sagemaker_program", ""))
    module = re.sub(r"\.py$", "", program)
    group = where["current_group_name"]
    values: dict[str, Any] = {
        "model_dir": str(folder.model),
        "output_dir": str(folder.output),
        "output_data_dir": str(folder.output / "data"),
        "output_intermediate_dir": str(folder.output / "intermediate"),
        "input_dir": str(folder.root / "input"),
        "input_config_dir": str(folder.config),
        "channels": sorted(channels),
        "hps": user,
        "current_host": where["current_host"],
        "hosts": where["hosts"],
        "num_gpus": gpus,
        "num_cpus": cores,
        "num_neurons": 0,
        "user_args": arguments(user),
        "user_entry_point": program,
        "module_name": module,
        "module_dir": str(consumed.get("sagemaker_submit_directory", "")),
        "log_level": int(consumed.get("sagemaker_container_log_level", _INFO)),
        "network_interface_name": where["network_interface_name"],
        "resource_config": where,
        "input_data_config": json.loads(config.read_text(encoding="utf-8")),
        "framework_params": framework,
        "framework_module": "",
        "current_instance_type": where["current_instance_type"],
        "current_instance_group": group,
        "current_instance_group_hosts": where["hosts"],
        "instance_groups": [group],
        "instance_groups_dict": {g["instance_group_name"]: g for g in where["instance_groups"]},
        "distribution_instance_groups": [],
        "is_hetero": False,
    }
    variables = {f"SM_{name.upper()}": _encode(value) for name, value in values.items()}
    variables |= {f"SM_HP_{name.upper()}": _encode(value) for name, value in user.items()}
    variables |= {f"SM_CHANNEL_{name.upper()}": path for name, path in channels.items()}
    training = dict(values, channel_input_dirs=channels, hyperparameters=user)
    training["job_name"] = job.training_job_name
    training["additional_framework_parameters"] = framework
    training["framework_module"] = None
    training["master_hostname"] = where["hosts"][0]
    training["is_master"] = where["current_host"] == where["hosts"][0]
    training["distribution_hosts"] = []
    training["topology"] = []
    variables["SM_TRAINING_ENV"] = _encode(training)
    variables["TRAINING_JOB_NAME"] = job.training_job_name
    variables["TRAINING_JOB_ARN"] = (
        f"arn:aws:sagemaker:local:000000000000:training-job/{job.training_job_name}"
    )
    variables["SAGEMAKER_BASE_DIR"] = str(folder.root)
    return variables


def thread_variables(threads: int, *, crowded: bool) -> dict[str, str]:
    """Return the variables that hold the numeric libraries to a number of threads.

    They are read when a library loads, so they must be set before the process starts.

    Args:
        threads: for this job.
        crowded: whether more threads run on this machine than it has cores. Then waiting threads
            sleep: spinning ones slowed fits by 10 to 50 times.
    """
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    variables = dict.fromkeys(names, str(threads))
    if crowded:
        variables["OMP_WAIT_POLICY"] = "PASSIVE"
    return variables


def gpu_variables(device: str, gpus: Sequence[int], variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variable that shows a process its own GPUs alone.

    A job that names a device by number sees all of them, so that the number means what it says.

    Args:
        device: as the job asks for it.
        gpus: the numbers of those it has, among those that this process sees.
        variables: of this process.

    >>> gpu_variables("auto", [1], {"CUDA_VISIBLE_DEVICES": "4,7"})
    {'CUDA_VISIBLE_DEVICES': '7'}
    """
    if not gpus or ":" in device:
        return {}
    seen = [name for name in variables.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return {"CUDA_VISIBLE_DEVICES": ",".join(seen[n] if seen else str(n) for n in gpus)}


def loopback_variables() -> dict[str, str]:
    """Return what keeps torch's connections on this machine, whatever its name resolves to."""
    names = [name for _, name in socket.if_nameindex()]
    loopback = next((name for name in ("lo", "lo0") if name in names), None)
    if loopback is None:
        return {}
    return {"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback}


def world_variables(
    hosts: Sequence[str], free_port: Callable[[], int]
) -> dict[str, dict[str, str]]:
    """Return by host what torch.distributed reads to find the others, all on this machine."""
    port = str(free_port())
    return {
        host: {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(len(hosts)),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        for rank, host in enumerate(hosts)
    }


def _decode(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _encode(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
