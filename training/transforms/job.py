"""Transform jobs as values: all that is asked for."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, ClassVar, Final, final

from training.errors import InvalidJob
from training.formats import ContentType
from training.formats.inference import Accept
from training.formats.tfrecord import TFRECORDS
from training.jobs.execution import ResourceConfig
from training.jobs.shape import check_keys, check_sizes, check_word, given, invalid
from training.transforms.parts import (
    DataProcessing,
    ModelClientConfig,
    TransformInput,
    TransformOutput,
)

__all__ = [
    "DataProcessing",
    "ModelClientConfig",
    "TransformInput",
    "TransformJob",
    "TransformOutput",
]

_JOB_NAME: Final = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_VARIABLE: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_RECORDS: Final = "application/x-recordio-protobuf"
_TABLES: Final = ("application/x-parquet", "application/vnd.apache.arrow.file")
_LINES: Final = "application/jsonlines"
_TEXTS: Final = ("text/csv", "application/json", _LINES)
_MOST_MB: Final = 100
_MOST_REQUESTS: Final = 64


@final
@dataclass(frozen=True, kw_only=True)
class TransformJob:
    """One batch transform as it is asked for: SageMaker's CreateTransformJob.

    Args:
        transform_job_name: 1 to 63 letters, digits and hyphens, unique among a home's transforms.
        model_name: a training job, a model's digest, or its folder.
        transform_input: what is answered.
        transform_output: where the answers go.
        data_processing: filters and join.
        batch_strategy: MultiRecord: as many records in a request as its size allows;
            SingleRecord: one; "": MultiRecord, but for `application/json`.
        max_payload_in_mb: the most of a request, 0 to 100; 0: no limit.
        max_concurrent_transforms: requests that are answered at once, each by a process of its
            own; 0: one. With the payload at most 100 MB.
        model_client_config: how long a script may answer, and how often it is asked again.
        environment: variables of these processes, at most 16.
        transform_resources: what the job computes on; its threads are those of each process. With
            `instance_count` n there are n times as many processes, all on this machine.
        tags: kept with the job and its lineage, at most 50.

    Raises:
        InvalidJob: a rule is broken; the message names the field and what is allowed.

    >>> job = TransformJob(
    ...     transform_job_name="late-tomorrow",
    ...     model_name="flights-1",
    ...     transform_input=TransformInput(path="tomorrow.csv"),
    ...     transform_output=TransformOutput(path="answers"),
    ... )
    >>> TransformJob.from_json(job.to_json()) == job
    True
    """

    transform_job_name: str
    model_name: str
    transform_input: TransformInput
    transform_output: TransformOutput
    data_processing: DataProcessing = field(default_factory=DataProcessing)
    batch_strategy: str = ""
    max_payload_in_mb: int = 6
    max_concurrent_transforms: int = 0
    model_client_config: ModelClientConfig = field(default_factory=ModelClientConfig)
    environment: Mapping[str, str] = field(default_factory=dict)
    transform_resources: ResourceConfig = field(default_factory=ResourceConfig)
    tags: Mapping[str, str] = field(default_factory=dict)

    _KEYS: ClassVar = (
        *("TransformJobName", "ModelName", "TransformInput", "TransformOutput", "DataProcessing"),
        *("BatchStrategy", "MaxPayloadInMB", "MaxConcurrentTransforms", "ModelClientConfig"),
        *("Environment", "TransformResources", "Tags"),
    )

    def __post_init__(self) -> None:
        if not _JOB_NAME.fullmatch(self.transform_job_name):
            raise invalid(
                f"expected a job name of 1 to 63 letters, digits and hyphens that begins and ends "
                f"with a letter or digit, got {self.transform_job_name!r}",
                "TransformJobName",
            )
        if not self.model_name:
            raise invalid("expected a training job, a digest or a model's folder", "ModelName")
        for name in ("environment", "tags"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        check_sizes("Environment", self.environment, 16, 1024, 10_240)
        for name in self.environment:
            if not _VARIABLE.fullmatch(name):
                raise invalid(f"expected a variable's name, got {name!r}", "Environment")
        check_sizes("Tags", self.tags, 50, 128, 256)
        if self.batch_strategy:
            check_word(
                self.batch_strategy, ("MultiRecord", "SingleRecord"), "strategy", "BatchStrategy"
            )
        self._check_sizes()

    def __hash__(self) -> int:
        return hash((self.transform_job_name, self.model_name, self.transform_input))

    @property
    def processes(self) -> int:
        """How many requests are answered at once."""
        return max(1, self.max_concurrent_transforms) * self.transform_resources.instance_count

    @property
    def max_payload_bytes(self) -> int:
        """The most of a request."""
        return (self.max_payload_in_mb << 20) or 2**62

    def request_type(self, content_type: str) -> str:
        """Return the content type of the requests made of files of this content type."""
        if self.transform_input.feature_group is not None:
            return _LINES
        return _LINES if ContentType.parse(content_type).base in _TABLES else content_type

    def cut_of(self, content_type: str) -> tuple[str, str]:
        """Return split type and batch strategy for files of a content type.

        Raises:
            InvalidJob: they do not go together.
        """
        base = ContentType.parse(content_type).base
        usual = {_RECORDS: "RecordIO", TFRECORDS: "TFRecord"} | dict.fromkeys(
            ("text/csv", _LINES, *_TABLES), "Line"
        )
        split = self.transform_input.split_type or usual.get(base, "None")
        if base in _TABLES and split != "Line":
            raise invalid(f"a record of {base} is a row; leave {split} out", "SplitType")
        if (split == "RecordIO") != (base == _RECORDS) and split != "None":
            fits = usual.get(base, "None")
            raise invalid(f"{split} does not cut {base}; use {fits}", "SplitType")
        if split == "TFRecord" and base in _TEXTS:
            raise invalid(f"TFRecord does not cut {base}; use {usual.get(base)}", "SplitType")
        strategy = self.batch_strategy or (
            "SingleRecord" if base == "application/json" else "MultiRecord"
        )
        if base == "application/json" and split == "Line" and strategy == "MultiRecord":
            raise invalid(
                "lines of application/json are documents, which cannot share a request; use "
                f"SingleRecord, or {_LINES}",
                "BatchStrategy",
            )
        return split, strategy

    def accept_of(self, content_type: str, *, any_type: bool = False) -> Accept:
        """Return what the answers are, for files of a content type.

        Args:
            content_type: of the files.
            any_type: whether the model may write types that only it knows.

        Raises:
            InvalidJob: they cannot be written, joined, filtered or assembled so.
        """
        asked = ContentType.parse(self.request_type(content_type)).base
        if not any_type and asked not in (*_TEXTS, _RECORDS):
            raise invalid(
                f"requests are {', '.join((*_TEXTS, _RECORDS))}, or made of "
                f"{' and '.join(_TABLES)}; got {content_type}",
                "ContentType",
            )
        where = self.transform_output
        usual = asked if where.feature_group is None else _LINES
        try:
            accept = Accept.parse(where.accept, default=usual)
        except ValueError as error:
            if not any_type or "," in (where.accept or ""):
                raise InvalidJob(str(error), field="Accept") from error
            accept = Accept(ContentType.parse(where.accept or usual).base)
        base = accept.content_type
        if where.assemble_with == "Line" and base == _RECORDS:
            raise invalid(f"{base} is no text of lines; use None", "AssembleWith")
        if where.feature_group is not None:
            self._check_records(asked, base)
        elif not self.data_processing.is_plain:
            self._check_processing(asked, base)
        return accept

    def _check_records(self, asked: str, base: str) -> None:
        """Refuse answers that cannot become records of a feature group."""
        if base not in (_LINES, "application/json"):
            raise invalid(
                f"the answers for a feature group have names, so they are {_LINES}; got {base}",
                "Accept",
            )
        if asked not in _TEXTS:
            raise invalid(
                f"the records of a feature group are joined from {', '.join(_TEXTS)}; got {asked}",
                "ContentType",
            )
        if self.data_processing.output_filter != "$":
            raise invalid(
                "a feature group keeps what Features names; leave the filter out", "OutputFilter"
            )

    def _check_processing(self, asked: str, base: str) -> None:
        """Refuse filters and joins of what is no text, or not of one kind."""
        if asked not in _TEXTS or base not in _TEXTS:
            raise invalid(
                f"filters and joins work on {', '.join(_TEXTS)}; got {asked} and answers of {base}",
                "DataProcessing",
            )
        is_csv = asked == "text/csv"
        if self.data_processing.join_source == "Input" and is_csv != (base == "text/csv"):
            raise invalid(
                f"an input of {asked} is joined with an answer of the same kind, got {base}; set "
                "Accept",
                "JoinSource",
            )

    def with_absolute_paths(self) -> TransformJob:
        """Settle relative paths: the working folder may be another when the job reads them."""
        source, where = self.transform_input, self.transform_output
        return replace(
            self,
            transform_input=replace(source, path=source.path and os.path.abspath(source.path)),
            transform_output=replace(where, path=where.path and os.path.abspath(where.path)),
        )

    def to_json(self) -> dict[str, Any]:
        """Write it in the shape of SageMaker's CreateTransformJob."""
        return given(
            TransformJobName=self.transform_job_name,
            ModelName=self.model_name,
            TransformInput=self.transform_input.to_json(),
            TransformOutput=self.transform_output.to_json(),
            DataProcessing=self.data_processing.to_json(),
            BatchStrategy=self.batch_strategy or None,
            MaxPayloadInMB=self.max_payload_in_mb,
            MaxConcurrentTransforms=self.max_concurrent_transforms,
            ModelClientConfig=self.model_client_config.to_json(),
            Environment=dict(self.environment),
            TransformResources=self.transform_resources.to_json(),
            Tags=[{"Key": key, "Value": value} for key, value in self.tags.items()],
        )

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> TransformJob:
        """Read what `to_json` wrote.

        Raises:
            InvalidJob: a key is unknown or a value breaks a rule.
        """
        check_keys("transform job", body, cls._KEYS)
        return cls(
            transform_job_name=str(body.get("TransformJobName", "")),
            model_name=str(body.get("ModelName", "")),
            transform_input=TransformInput.from_json(body.get("TransformInput", {})),
            transform_output=TransformOutput.from_json(body.get("TransformOutput", {})),
            data_processing=DataProcessing.from_json(body.get("DataProcessing", {})),
            batch_strategy=body.get("BatchStrategy", ""),
            max_payload_in_mb=int(body.get("MaxPayloadInMB", 6)),
            max_concurrent_transforms=int(body.get("MaxConcurrentTransforms", 0)),
            model_client_config=ModelClientConfig.from_json(body.get("ModelClientConfig", {})),
            environment=body.get("Environment", {}),
            transform_resources=ResourceConfig.from_json(body.get("TransformResources", {})),
            tags={tag["Key"]: tag["Value"] for tag in body.get("Tags", ())},
        )

    def _check_sizes(self) -> None:
        size, count = self.max_payload_in_mb, self.max_concurrent_transforms
        if not 0 <= size <= _MOST_MB:
            raise invalid(f"expected 0 to {_MOST_MB}, got {size}", "MaxPayloadInMB")
        if not 0 <= count <= _MOST_REQUESTS:
            raise invalid(f"expected 0 to {_MOST_REQUESTS}, got {count}", "MaxConcurrentTransforms")
        if size * max(1, count) > _MOST_MB:
            raise invalid(
                f"expected MaxConcurrentTransforms × MaxPayloadInMB of at most {_MOST_MB}, got "
                f"{count} × {size}",
                "MaxPayloadInMB",
            )
