"""The parts of a transform job's definition: what is answered, what is kept of it, and where."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, final

from training.formats import ContentType
from training.jobs.shape import check_keys, check_word, given, invalid
from training.transforms.pointing import Pointer

__all__ = ["DataProcessing", "ModelClientConfig", "TransformInput", "TransformOutput"]

_SPLITS: Final = ("None", "Line", "RecordIO", "TFRecord")
_MOST_SECONDS: Final = 3_600
_MOST_RETRIES: Final = 3
_LINES: Final = "application/jsonlines"


@final
@dataclass(frozen=True, kw_only=True)
class TransformInput:
    """What is answered: files, or the records of a feature group.

    Exactly one of `path` and `feature_group` says where it is.

    Args:
        path: a file, a folder, or a manifest file.
        feature_group: the latest record of each identifier in its offline store.
        table_version: of the feature group; None: the newest, after a flush.
        content_type: of the files; None: by their ending, and `application/jsonlines` for the
            records of a feature group and of Parquet files.
        split_type: None: a file is one request; Line, RecordIO, TFRecord: it holds records; "": as
            the content type is usually cut.
        compression: Gzip: the files are unpacked.
        data_type: S3Prefix: `path` is the data; ManifestFile: `path` lists it in JSON.
    """

    path: str | None = None
    feature_group: str | None = None
    table_version: int | None = None
    content_type: str | None = None
    split_type: str = ""
    compression: str = "None"
    data_type: str = "S3Prefix"

    def __post_init__(self) -> None:
        if (self.path is None) == (self.feature_group is None):
            raise invalid(
                f"expected exactly one of a path and a feature group, got {self.path!r} and "
                f"{self.feature_group!r}",
                "TransformInput",
            )
        if self.split_type:
            check_word(self.split_type, _SPLITS, "split", "SplitType")
        check_word(self.compression, ("None", "Gzip"), "compression", "CompressionType")
        check_word(self.data_type, ("S3Prefix", "ManifestFile"), "data type", "S3DataType")
        version = self.table_version
        if version is not None and (self.feature_group is None or version < 0):
            raise invalid(
                f"expected a version >= 0 of a feature group, got {version}",
                "TableVersion",
            )
        if self.feature_group is not None:
            self._check_group()
        if self.path is not None:
            object.__setattr__(self, "path", _local(self.path, "S3Uri"))

    def _check_group(self) -> None:
        if self.content_type is not None and ContentType.parse(self.content_type).base != _LINES:
            raise invalid(
                f"the records of a feature group are {_LINES}, got {self.content_type!r}",
                "ContentType",
            )
        if (
            self.split_type not in ("", "Line")
            or self.compression != "None"
            or self.data_type != "S3Prefix"
        ):
            raise invalid(
                "the records of a feature group are lines of JSON: leave SplitType, "
                "CompressionType and S3DataType out",
                "SplitType",
            )

    def to_json(self) -> dict[str, Any]:
        """Write it in SageMaker's shape; Path, FeatureGroup and TableVersion are ours."""
        source = given(
            Path=self.path,
            FeatureGroup=self.feature_group,
            TableVersion=self.table_version,
            S3DataType=None if self.data_type == "S3Prefix" else self.data_type,
        )
        return given(
            DataSource=source,
            ContentType=self.content_type,
            SplitType=self.split_type or None,
            CompressionType=None if self.compression == "None" else self.compression,
        )

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> TransformInput:
        """Read what `to_json` wrote, or an S3DataSource whose S3Uri is a path."""
        keys = ("DataSource", "ContentType", "SplitType", "CompressionType")
        check_keys("TransformInput", body, keys)
        source = dict(body.get("DataSource", {}))
        if "S3DataSource" in source:
            check_keys("DataSource", source, ("S3DataSource",))
            source = dict(source["S3DataSource"])
            if "S3Uri" in source:
                source["Path"] = source.pop("S3Uri")
        kinds = ("Path", "FeatureGroup", "TableVersion", "S3DataType")
        check_keys("DataSource", source, kinds)
        return cls(
            path=source.get("Path"),
            feature_group=source.get("FeatureGroup"),
            table_version=source.get("TableVersion"),
            data_type=source.get("S3DataType", "S3Prefix"),
            content_type=body.get("ContentType"),
            split_type=body.get("SplitType", ""),
            compression=body.get("CompressionType", "None"),
        )


@final
@dataclass(frozen=True, kw_only=True)
class TransformOutput:
    """Where the answers go: a folder with one `.out` for each input file, or a feature group.

    Args:
        path: a folder; made when absent.
        feature_group: gets one record for each answer, once, however often the job is done.
        features: of the group, each with the path of its value in the joined record; none: each
            feature that the answer or the input has under its own name.
        event_time: of all records of the group; "": each answer has its own, or its input has.
        accept: content type of the answers; None: that of the requests.
        assemble_with: Line: each answer ends with a line end; None: as they are.
    """

    path: str | None = None
    feature_group: str | None = None
    features: Mapping[str, str] = field(default_factory=dict)
    event_time: str = ""
    accept: str | None = None
    assemble_with: str = "None"

    def __post_init__(self) -> None:
        if (self.path is None) == (self.feature_group is None):
            raise invalid(
                f"expected exactly one of a path and a feature group, got {self.path!r} and "
                f"{self.feature_group!r}",
                "TransformOutput",
            )
        check_word(self.assemble_with, ("None", "Line"), "assembly", "AssembleWith")
        object.__setattr__(self, "features", MappingProxyType(dict(self.features)))
        for name, path in self.features.items():
            Pointer.parse(path, field=f"Features[{name}]")
        if (self.features or self.event_time) and self.feature_group is None:
            raise invalid("Features and EventTime go with a FeatureGroup", "TransformOutput")
        if self.path is not None:
            object.__setattr__(self, "path", _local(self.path, "S3OutputPath"))

    def __hash__(self) -> int:
        return hash((self.path, self.feature_group, self.accept))

    def to_json(self) -> dict[str, Any]:
        """Write it in SageMaker's shape; FeatureGroup, Features and EventTime are ours."""
        return given(
            S3OutputPath=self.path,
            FeatureGroup=self.feature_group,
            Features=dict(self.features) or None,
            EventTime=self.event_time or None,
            Accept=self.accept,
            AssembleWith=None if self.assemble_with == "None" else self.assemble_with,
        )

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> TransformOutput:
        """Read what `to_json` wrote."""
        keys = ("S3OutputPath", "FeatureGroup", "Features", "EventTime", "Accept", "AssembleWith")
        check_keys("TransformOutput", body, keys)
        return cls(
            path=body.get("S3OutputPath"),
            feature_group=body.get("FeatureGroup"),
            features=body.get("Features", {}),
            event_time=body.get("EventTime", ""),
            accept=body.get("Accept"),
            assemble_with=body.get("AssembleWith", "None"),
        )


@final
@dataclass(frozen=True, kw_only=True)
class DataProcessing:
    """What of an input is asked, and what of input and answer is kept.

    Args:
        input_filter: the part of a record that is sent to the model.
        output_filter: the part of the joined record, or of the answer, that is kept.
        join_source: Input: the record is put beside its answer; None: the answer alone.
    """

    input_filter: str = "$"
    output_filter: str = "$"
    join_source: str = "None"

    def __post_init__(self) -> None:
        Pointer.parse(self.input_filter, field="InputFilter")
        Pointer.parse(self.output_filter, field="OutputFilter")
        check_word(self.join_source, ("None", "Input"), "join source", "JoinSource")

    @property
    def is_plain(self) -> bool:
        """Whether records and answers stay as they are."""
        return self == DataProcessing()

    def to_json(self) -> dict[str, Any]:
        """Write it in SageMaker's shape."""
        return {
            "InputFilter": self.input_filter,
            "OutputFilter": self.output_filter,
            "JoinSource": self.join_source,
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> DataProcessing:
        """Read what `to_json` wrote."""
        check_keys("DataProcessing", body, ("InputFilter", "OutputFilter", "JoinSource"))
        return cls(
            input_filter=body.get("InputFilter", "$"),
            output_filter=body.get("OutputFilter", "$"),
            join_source=body.get("JoinSource", "None"),
        )


@final
@dataclass(frozen=True, kw_only=True)
class ModelClientConfig:
    """How long the functions of a script may answer a request, and how often they are asked again.

    The models of our algorithms always answer alike: they are asked once, and have all the time.

    Args:
        timeout_seconds: of a request, 1 to 3,600.
        max_retries: how often a request that failed is asked again, 0 to 3.
    """

    timeout_seconds: int = 600
    max_retries: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.timeout_seconds <= _MOST_SECONDS:
            raise invalid(
                f"expected 1 to {_MOST_SECONDS}, got {self.timeout_seconds}",
                "InvocationsTimeoutInSeconds",
            )
        if not 0 <= self.max_retries <= _MOST_RETRIES:
            raise invalid(
                f"expected 0 to {_MOST_RETRIES}, got {self.max_retries}", "InvocationsMaxRetries"
            )

    def to_json(self) -> dict[str, Any]:
        """Write it in SageMaker's shape."""
        return {
            "InvocationsTimeoutInSeconds": self.timeout_seconds,
            "InvocationsMaxRetries": self.max_retries,
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> ModelClientConfig:
        """Read what `to_json` wrote."""
        keys = ("InvocationsTimeoutInSeconds", "InvocationsMaxRetries")
        check_keys("ModelClientConfig", body, keys)
        return cls(
            timeout_seconds=int(body.get(keys[0], cls.timeout_seconds)),
            max_retries=int(body.get(keys[1], cls.max_retries)),
        )


def _local(path: str, field: str) -> str:
    path = str(path).removeprefix("file://")
    if not path or re.match(r"[a-z][a-z0-9+.\-]+://", path):
        raise invalid(f"expected a file or folder of this machine, got {path!r}", field)
    return path
