"""Channels: the named inputs of a job, in SageMaker's words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from training.errors import InvalidJob, nearest
from training.jobs.shape import check_keys, check_word, given, invalid

__all__ = ["INPUT_MODES", "Channel"]

INPUT_MODES = ("File", "FastFile", "Pipe")
_NAME = re.compile(r"[A-Za-z0-9.\-_]{1,64}")
_DISTRIBUTIONS = ("FullyReplicated", "ShardedByS3Key")
_COMPRESSIONS = ("None", "Gzip")
_AUGMENTED = "AugmentedManifestFile"
_DATA_TYPES = ("S3Prefix", "ManifestFile", _AUGMENTED)
_WRAPPERS = ("None", "RecordIO")
_MOST_ATTRIBUTES = 16
_LARGEST_SEED = 2**63 - 1


@final
@dataclass(frozen=True, kw_only=True)
class Channel:
    """One input of a job.

    Exactly one of `path` and `dataset` says where the data is.

    Args:
        channel_name: such as `train`.
        path: a file, a folder of files of one kind, or a manifest file.
        dataset: the fingerprint of a dataset that was written to a file; for the channel `model`
            the digest of a model of the home.
        content_type: None: by the files' ending.
        label: the column to predict; None: the one called `label`, else the first. Two columns with
            `+` between them are the ends of an interval, where an algorithm takes those.
        features: the input columns; none: all but the label, and a dataset's keys and time.
        input_mode: File, FastFile for files too large to copy, or Pipe; None: the job's.
        shuffle_seed: put the files into an order drawn with this seed before hosts share them
            out and a pipe delivers them, in a pipe anew in each epoch; None: in order of names.
        distribution: FullyReplicated: every host gets all files; ShardedByS3Key: each its share.
        compression: Gzip: files are unpacked on their way.
        data_type: S3Prefix: `path` is the data; ManifestFile: `path` lists it in JSON;
            AugmentedManifestFile: `path` has it in JSON lines, and refers to files.
        attributes: of an augmented manifest's lines, 1 to 16 in order; others are passed over.
        record_wrapper: RecordIO: each file, or each attribute of an augmented manifest, is piped
            as a frame of its own; None: one after the other with nothing between.

    >>> Channel.parse("train=flights.parquet,label=late").label
    'late'
    """

    channel_name: str
    path: str | None = None
    dataset: str | None = None
    content_type: str | None = None
    label: str | None = None
    features: tuple[str, ...] = ()
    input_mode: str | None = None
    shuffle_seed: int | None = None
    distribution: str = "FullyReplicated"
    compression: str = "None"
    data_type: str = "S3Prefix"
    attributes: tuple[str, ...] = ()
    record_wrapper: str = "None"

    _OPTIONS: ClassVar = (
        *("content_type", "label", "features", "input_mode"),
        *("shuffle_seed", "distribution", "compression", "data_type"),
        *("attributes", "record_wrapper"),
    )

    def __post_init__(self) -> None:
        where = f"channel {self.channel_name!r}"
        if not _NAME.fullmatch(self.channel_name):
            raise invalid(
                f"{where}: expected a name of 1 to 64 letters, digits, '.', '-' or '_'",
                "ChannelName",
            )
        if (self.path is None) == (self.dataset is None):
            raise invalid(
                f"{where}: expected exactly one of path and dataset, got path={self.path!r}, "
                f"dataset={self.dataset!r}",
                "DataSource",
            )
        if self.content_type is not None and len(self.content_type) > 256:
            raise invalid(
                f"{where}: expected a content type of at most 256 characters", "ContentType"
            )
        if self.input_mode is not None:
            check_word(self.input_mode, INPUT_MODES, f"{where}: input mode", "InputMode")
        check_word(
            self.distribution, _DISTRIBUTIONS, f"{where}: distribution", "S3DataDistributionType"
        )
        check_word(self.compression, _COMPRESSIONS, f"{where}: compression", "CompressionType")
        check_word(self.data_type, _DATA_TYPES, f"{where}: data type", "S3DataType")
        check_word(self.record_wrapper, _WRAPPERS, f"{where}: record wrapper", "RecordWrapperType")
        if self.data_type != "S3Prefix" and self.path is None:
            raise invalid(f"{where}: a manifest is a file, so give its path", "S3DataType")
        self._check_attributes(where)
        if self.shuffle_seed is not None and not 0 <= self.shuffle_seed <= _LARGEST_SEED:
            raise invalid(
                f"{where}: expected a seed of 0 to {_LARGEST_SEED}, got {self.shuffle_seed}",
                "ShuffleConfig",
            )
        path = None if self.path is None else str(self.path).removeprefix("file://")
        if path is not None and re.match(r"[a-z][a-z0-9+.\-]+://", path):
            raise invalid(
                f"{where}: {path!r} is not on this machine; copy it here and give the path of the "
                "file or folder",
                "S3Uri",
            )
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "features", tuple(self.features))
        object.__setattr__(self, "attributes", tuple(self.attributes))

    @property
    def is_augmented(self) -> bool:
        """Whether its data is in the lines of an augmented manifest."""
        return self.data_type == _AUGMENTED

    @property
    def is_wrapped(self) -> bool:
        """Whether what is piped is in frames of RecordIO."""
        return self.record_wrapper == "RecordIO"

    @classmethod
    def parse(cls, text: str) -> Channel:
        """Read `NAME=PATH_OR_DATASET[,option=value…]` as the command line takes it.

        Options: content_type, label, features (names with `+` between them), input_mode,
        shuffle_seed, distribution, compression, data_type, attributes (likewise with `+`) and
        record_wrapper. A source of 64 hexadecimal digits is a dataset's fingerprint.

        Raises:
            InvalidJob: it has another form; the message names the options.
        """
        name, _, rest = text.partition("=")
        source, *options = rest.split(",")
        if not name or not source:
            raise invalid(f"channel {text!r}: expected NAME=PATH[,option=value]", "Channel")
        values: dict[str, Any] = {}
        for option in options:
            key, _, value = option.partition("=")
            if key not in cls._OPTIONS or not value:
                raise invalid(
                    f"channel {name!r}: option {option!r} is none of {', '.join(cls._OPTIONS)}"
                    f"{nearest(key, cls._OPTIONS)}",
                    "Channel",
                )
            values[key] = _option(name, key, value)
        if re.fullmatch(r"[0-9a-f]{64}", source):
            return cls(channel_name=name, dataset=source, **values)
        return cls(channel_name=name, path=source, **values)

    def to_json(self) -> dict[str, Any]:
        """Write it in SageMaker's shape; `Label`, `Features` and `Dataset` are ours."""
        source: dict[str, Any] = (
            {"Path": self.path} if self.path is not None else {"Dataset": self.dataset}
        )
        if self.distribution != "FullyReplicated":
            source["S3DataDistributionType"] = self.distribution
        if self.data_type != "S3Prefix":
            source["S3DataType"] = self.data_type
        if self.attributes:
            source["AttributeNames"] = list(self.attributes)
        return given(
            ChannelName=self.channel_name,
            DataSource=source,
            ContentType=self.content_type,
            CompressionType=None if self.compression == "None" else self.compression,
            RecordWrapperType=None if self.record_wrapper == "None" else self.record_wrapper,
            InputMode=self.input_mode,
            ShuffleConfig=None if self.shuffle_seed is None else {"Seed": self.shuffle_seed},
            Label=self.label,
            Features=list(self.features) or None,
        )

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Channel:
        """Read what `to_json` wrote, or a channel as SageMaker writes it.

        An S3DataSource has a path as its S3Uri; a FileSystemDataSource is its DirectoryPath.

        Raises:
            InvalidJob: a key is unknown or a value breaks a rule.
        """
        check_keys(
            "channel",
            body,
            (
                *("ChannelName", "DataSource", "ContentType", "CompressionType"),
                *("RecordWrapperType", "InputMode", "ShuffleConfig", "Label", "Features"),
            ),
        )
        source = dict(body.get("DataSource", {}))
        if "FileSystemDataSource" in source:
            source = _mounted(source, body)
        if "S3DataSource" in source:
            check_keys("DataSource", source, ("S3DataSource",))
            source = dict(source["S3DataSource"])
            if "S3Uri" in source:
                source["Path"] = source.pop("S3Uri")
        kinds = ("Path", "Dataset", "S3DataType", "S3DataDistributionType", "AttributeNames")
        check_keys("DataSource", source, kinds)
        shuffle = body.get("ShuffleConfig", {})
        check_keys("ShuffleConfig", shuffle, ("Seed",))
        return cls(
            channel_name=str(body.get("ChannelName", "")),
            path=source.get("Path"),
            dataset=source.get("Dataset"),
            content_type=body.get("ContentType"),
            label=body.get("Label"),
            features=tuple(body.get("Features", ())),
            input_mode=body.get("InputMode"),
            shuffle_seed=int(shuffle["Seed"]) if "Seed" in shuffle else None,
            distribution=source.get("S3DataDistributionType", "FullyReplicated"),
            compression=body.get("CompressionType", "None"),
            data_type=source.get("S3DataType", "S3Prefix"),
            attributes=tuple(source.get("AttributeNames", ())),
            record_wrapper=body.get("RecordWrapperType", "None"),
        )

    def _check_attributes(self, where: str) -> None:
        names = list(self.attributes)
        if not self.is_augmented:
            if names:
                raise invalid(
                    f"{where}: attributes are those of an augmented manifest; set data_type="
                    f"{_AUGMENTED}, or leave them out",
                    "AttributeNames",
                )
            return
        if not 1 <= len(names) <= _MOST_ATTRIBUTES or len({*names, ""}) <= len(names):
            raise invalid(
                f"{where}: expected 1 to {_MOST_ATTRIBUTES} different attributes of the manifest's "
                f"lines, got {', '.join(map(repr, names)) or 'none'}",
                "AttributeNames",
            )
        if self.compression != "None":
            raise invalid(
                f"{where}: what an augmented manifest refers to is delivered as it is; leave the "
                "compression None (the manifest itself may be packed with gzip)",
                "CompressionType",
            )


def _mounted(source: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the source of a channel on a file system: here that is a folder of this machine."""
    check_keys("DataSource", source, ("FileSystemDataSource",))
    mount = source["FileSystemDataSource"]
    keys = ("FileSystemId", "FileSystemType", "FileSystemAccessMode", "DirectoryPath")
    check_keys("FileSystemDataSource", mount, keys)
    where = f"channel {body.get('ChannelName')!r}"
    if mount.get("FileSystemAccessMode", "ro") != "ro":
        raise invalid(
            f"{where}: expected 'ro', got {mount['FileSystemAccessMode']!r}; a job does not write "
            "to its data, so let it write to its model or output folder",
            "FileSystemAccessMode",
        )
    if body.get("InputMode", "File") != "File":
        raise invalid(
            f"{where}: a file system is read in input mode File, got {body['InputMode']!r}; give "
            "its folder as a path for the others",
            "InputMode",
        )
    return {"Path": mount.get("DirectoryPath")}


def _option(name: str, key: str, value: str) -> object:
    if key in ("features", "attributes"):
        return tuple(value.split("+"))
    if key == "shuffle_seed":
        try:
            return int(value)
        except ValueError:
            raise InvalidJob(
                f"channel {name!r}: shuffle_seed: expected a whole number, got {value!r}",
                field="ShuffleConfig",
            ) from None
    return value
