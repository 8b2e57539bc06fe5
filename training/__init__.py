"""Training: jobs in processes of their own, models named by their content, lineage without asking.

>>> import tempfile, pyarrow as pa, pyarrow.parquet as pq
>>> home = tempfile.mkdtemp()
>>> pq.write_table(pa.table({"late": [0, 1] * 20, "wind": [3.5, 21.0] * 20}), f"{home}/f.parquet")
>>> job = TrainingJob(
...     training_job_name="flights-1",
...     algorithm_name="xgboost",
...     hyper_parameters={"num_round": 5, "objective": "binary:logistic"},
...     input_data_config=[Channel(channel_name="train", path=f"{home}/f.parquet", label="late")],
... )
>>> result = train(home, job)
>>> result.status.value, sorted(result.metrics)
('Completed', ['train:logloss'])
>>> load_model(result.model).predict(pa.table({"wind": [25.0]}))["score"][0].as_py() > 0.5
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.algorithm import Algorithm, ChannelDeclaration, MetricDeclaration, Model
    from training.algorithms import find_algorithm, list_algorithms
    from training.artifact import Artifact
    from training.client import TrainingClient, connect
    from training.data import Dataset
    from training.device import Device
    from training.errors import (
        AccessDenied,
        AlgorithmNotFound,
        DeviceUnavailable,
        FitFailed,
        InternalError,
        InvalidData,
        InvalidHyperparameter,
        InvalidJob,
        InvalidLogin,
        LibraryMissing,
        ModelAltered,
        ModelNotFound,
        ReportNotFound,
        TrainingError,
        TrainingJobExists,
        TrainingJobFailed,
        TrainingJobNotFound,
        TrainingStopped,
        TrainingUnavailable,
        TransformJobExists,
        TransformJobNotFound,
        Unauthenticated,
    )
    from training.feed import TorchBatches, to_quantile_dmatrix, to_torch
    from training.hyperparameter import Hyperparameter
    from training.inputs import Input, Inputs
    from training.jobs.budget import Budget
    from training.jobs.description import FinalMetric, TrainingJobDescription
    from training.jobs.job import (
        Channel,
        CheckpointConfig,
        MetricDefinition,
        ResourceConfig,
        RetryStrategy,
        SecondaryStatus,
        StoppingCondition,
        TensorBoardOutputConfig,
        TrainingJob,
        TrainingJobStatus,
        Transition,
        job_name,
    )
    from training.jobs.registry import TrainingJobs
    from training.jobs.result import JobResult, Progress
    from training.jobs.runner import RunningJob, submit, train
    from training.jobs.script import script_hyperparameters
    from training.predict import load_model, predict_file, replies
    from training.replaying import ReplayReport, ReplayStep, replay
    from training.run import MemorySink, Run, Sink
    from training.service import TrainingService
    from training.tfevents import EventWriter
    from training.transforming import transform
    from training.transforms.client import TransformClient
    from training.transforms.description import (
        TransformJobDescription,
        TransformProgress,
        TransformResult,
    )
    from training.transforms.job import (
        DataProcessing,
        ModelClientConfig,
        TransformInput,
        TransformJob,
        TransformOutput,
    )
    from training.transforms.registry import TransformJobs
    from training.transforms.runner import RunningTransform, run_transform, submit_transform
    from training.transforms.service import TransformService
    from training.world import Contributed, World

__all__ = [  # noqa: RUF022  # grouped by topic
    # running jobs
    "train",
    "submit",
    "RunningJob",
    "JobResult",
    "Progress",
    # what a job is
    "TrainingJob",
    "Channel",
    "StoppingCondition",
    "ResourceConfig",
    "RetryStrategy",
    "CheckpointConfig",
    "TensorBoardOutputConfig",
    "MetricDefinition",
    "script_hyperparameters",
    "job_name",
    "TrainingJobStatus",
    "SecondaryStatus",
    "Transition",
    # training a model again
    "replay",
    "ReplayReport",
    "ReplayStep",
    # the jobs of a home
    "TrainingJobs",
    "Budget",
    "TrainingJobDescription",
    "FinalMetric",
    # answering files and feature groups
    "run_transform",
    "submit_transform",
    "RunningTransform",
    "TransformResult",
    "TransformProgress",
    "TransformJob",
    "TransformInput",
    "TransformOutput",
    "DataProcessing",
    "ModelClientConfig",
    "TransformJobs",
    "TransformJobDescription",
    # models
    "load_model",
    "predict_file",
    "transform",
    "replies",
    "Artifact",
    "Model",
    # algorithms
    "find_algorithm",
    "list_algorithms",
    "Algorithm",
    "Hyperparameter",
    "ChannelDeclaration",
    "MetricDeclaration",
    "Dataset",
    "to_torch",
    "TorchBatches",
    "to_quantile_dmatrix",
    "Input",
    "Inputs",
    "Run",
    "Sink",
    "MemorySink",
    "EventWriter",
    "Device",
    "World",
    "Contributed",
    # over the network
    "connect",
    "TrainingClient",
    "TrainingService",
    "TransformClient",
    "TransformService",
    # errors
    "TrainingError",
    "InvalidJob",
    "InvalidHyperparameter",
    "InvalidData",
    "AlgorithmNotFound",
    "TrainingJobNotFound",
    "ModelNotFound",
    "ReportNotFound",
    "TrainingJobExists",
    "TransformJobNotFound",
    "TransformJobExists",
    "LibraryMissing",
    "DeviceUnavailable",
    "FitFailed",
    "TrainingJobFailed",
    "TrainingStopped",
    "ModelAltered",
    "TrainingUnavailable",
    "InvalidLogin",
    "Unauthenticated",
    "AccessDenied",
    "InternalError",
]

# Names load on first use. A job's own process imports this package too, and starts half a second
# sooner without gRPC, DuckDB and the Delta reader, which it does not need.
_MODULES = {
    "algorithm": ("Algorithm", "ChannelDeclaration", "MetricDeclaration", "Model"),
    "algorithms": ("find_algorithm", "list_algorithms"),
    "artifact": ("Artifact",),
    "client": ("TrainingClient", "connect"),
    "data": ("Dataset",),
    "jobs.description": ("FinalMetric", "TrainingJobDescription"),
    "device": ("Device",),
    "errors": (
        *("AlgorithmNotFound", "DeviceUnavailable", "FitFailed", "InternalError", "InvalidData"),
        *("InvalidHyperparameter", "InvalidJob", "LibraryMissing", "ModelAltered"),
        *("ModelNotFound", "ReportNotFound", "TrainingError", "TrainingJobExists"),
        "TrainingJobFailed",
        *("TrainingJobNotFound", "TrainingStopped", "TrainingUnavailable"),
        *("AccessDenied", "InvalidLogin", "Unauthenticated"),
        *("TransformJobExists", "TransformJobNotFound"),
    ),
    "feed": ("TorchBatches", "to_quantile_dmatrix", "to_torch"),
    "hyperparameter": ("Hyperparameter",),
    "inputs": ("Input", "Inputs"),
    "jobs.budget": ("Budget",),
    "jobs.job": (
        *("Channel", "CheckpointConfig", "MetricDefinition", "ResourceConfig", "RetryStrategy"),
        *("SecondaryStatus", "StoppingCondition", "TensorBoardOutputConfig", "TrainingJob"),
        *("TrainingJobStatus", "Transition", "job_name"),
    ),
    "jobs.script": ("script_hyperparameters",),
    "predict": ("load_model", "predict_file", "replies"),
    "transforming": ("transform",),
    "jobs.registry": ("TrainingJobs",),
    "replaying": ("ReplayReport", "ReplayStep", "replay"),
    "jobs.result": ("JobResult", "Progress"),
    "run": ("MemorySink", "Run", "Sink"),
    "jobs.runner": ("RunningJob", "submit", "train"),
    "service": ("TrainingService",),
    "world": ("Contributed", "World"),
    "transforms.client": ("TransformClient",),
    "transforms.description": (
        *("TransformJobDescription", "TransformProgress", "TransformResult"),
    ),
    "transforms.job": (
        "DataProcessing",
        "ModelClientConfig",
        "TransformInput",
        "TransformJob",
        "TransformOutput",
    ),
    "transforms.registry": ("TransformJobs",),
    "transforms.runner": ("RunningTransform", "run_transform", "submit_transform"),
    "transforms.service": ("TransformService",),
    "tfevents": ("EventWriter",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'training' has no attribute {name!r}")
    found = getattr(importlib.import_module(f"training.{_MODULE_OF[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
