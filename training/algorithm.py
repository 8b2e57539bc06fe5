"""What an algorithm declares and does, and what a model does."""

from __future__ import annotations

import importlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Self, final

import pyarrow as pa

from training.data import Dataset, Labels
from training.errors import InvalidData, InvalidHyperparameter, InvalidJob, nearest
from training.hyperparameter import Dependency, Hyperparameter, declared, schema
from training.inputs import Inputs, Kind
from training.run import Run
from training.streaming import Stream

__all__ = ["Algorithm", "ChannelDeclaration", "MetricDeclaration", "Model"]


@final
@dataclass(frozen=True, kw_only=True)
class ChannelDeclaration:
    """A channel that an algorithm reads.

    Attributes:
        name: such as `train`.
        about: what is in it.
        required: whether a job must give it.
        content_types: what it may hold; none: whatever can be read.
        input_modes: how it may come: File, FastFile, Pipe. A pipe is read once, and the rows kept.
        file_only: those of the content types that are not piped.
        distributions: how files are spread over hosts.
    """

    name: str
    about: str
    required: bool = False
    content_types: tuple[str, ...] = ()
    input_modes: tuple[str, ...] = ("File", "FastFile", "Pipe")
    file_only: tuple[str, ...] = ()
    distributions: tuple[str, ...] = ("FullyReplicated",)


_LINES: Final = "application/jsonlines"
_DOCUMENT: Final = "application/json"
_MODEL: Final = ChannelDeclaration(
    name="model",
    about="the model a fit goes on from",
    content_types=("application/x-sagemaker-model",),
    input_modes=("File", "FastFile"),
)


@final
@dataclass(frozen=True, kw_only=True)
class MetricDeclaration:
    """A metric that an algorithm reports.

    Attributes:
        name: such as `validation:auc`.
        maximize: whether larger is better.
        pattern: the regular expression that finds its value in the log.
    """

    name: str
    maximize: bool
    pattern: str


class Model(ABC):
    """What a fit returns: parameters that answer.

    A model is saved as files alone in a folder, the same bytes for the same model, and loaded from
    them; names, times and paths of the job that made it are kept elsewhere.
    """

    @property
    @abstractmethod
    def inputs(self) -> Inputs:
        """The columns it takes."""

    @abstractmethod
    def predict(self, batch: object) -> pa.Table:
        """Answer n rows.

        Args:
            batch: n rows with at least the input columns, as anything with the Arrow C stream.

        Returns:
            n rows in the same order: a column per value of the algorithm's reply.

        Raises:
            InvalidData: a column is missing or has the wrong type; the message names it.
        """

    def predict_verbose(self, batch: object) -> pa.Table:
        """Answer n rows with what only some callers want too: those who ask for `verbose=true`.

        The columns of `predict` come first; a model that has no more returns just these.
        """
        return self.predict(batch)

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the model's files into a folder that exists."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; the loaded model predicts the same."""

    def served(self, settings: Mapping[str, str]) -> Self:
        """Return the model as it is to answer requests.

        Args:
            settings: variables `SAGEMAKER_INFERENCE_*` of the process; a model says which it knows.

        Raises:
            InvalidJob: a setting has a value that cannot be.
        """
        return self


class Algorithm(ABC):
    """A way to fit: a frozen dataclass whose fields are its hyperparameters.

    Subclasses declare each field with a function of `training.hyperparameter`, the class variables
    here, and `fit`. Values are checked when one is made, by name or from text, so a fit never
    starts with a wrong one.

    Attributes:
        name: as jobs call it.
        model: the class of its models.
        channels: what it reads.
        metrics: what it may report.
        answers: content types of its replies.
        files: the files of its artifact.
        libraries: what does the work: module to import → PyPI package, whose version goes into
            lineage.
        dependencies: rules between hyperparameters.
        continues: whether a fit can go on from a model of its own, given as the channel `model`.
        streams: whether it can fit on rows that do not fit into memory; see `fit_stream`.
        labels: whether its training data must have a label, may have one, or has none.
        text: what columns of words are to it: categories, or the words themselves.
        reply: the word over its replies in JSON, such as `predictions`.
        legacy: names of other versions that are dropped with a warning, and what replaces them.
        hosts: how several processes make one fit. `one`: they cannot. `steps`: each is given all
            rows and computes its part of every step. `rows`: each is given rows of its own. What
            they are is in `Run.world`; all processes call `fit`, and those that are not the first
            may leave it with `Contributed`.
        one_host: why there can be no more than one, where that is so.
        float32_only: why it does not compute in the precisions bf16 and fp16; "" where it does.
        cpu_only: whether it computes on the CPU, also where there is a CUDA device.
        given: of one that `of` made, the names of the fields that it was given.
    """

    name: ClassVar[str]
    model: ClassVar[type[Model]]
    channels: ClassVar[tuple[ChannelDeclaration, ...]]
    metrics: ClassVar[tuple[MetricDeclaration, ...]] = ()
    answers: ClassVar[tuple[str, ...]] = ("application/jsonlines",)
    files: ClassVar[tuple[str, ...]] = ()
    libraries: ClassVar[Mapping[str, str]] = {}
    dependencies: ClassVar[tuple[Dependency, ...]] = ()
    continues: ClassVar[bool] = False
    streams: ClassVar[bool] = False
    labels: ClassVar[Labels] = "required"
    text: ClassVar[Kind] = "category"
    reply: ClassVar[str] = "predictions"
    legacy: ClassVar[Mapping[str, str]] = {}
    hosts: ClassVar[Literal["one", "steps", "rows"]] = "one"
    one_host: ClassVar[str] = "its fit is made for one process"
    float32_only: ClassVar[str] = "it does not train by torch's products of matrices"
    cpu_only: ClassVar[bool] = False
    given: frozenset[str] = frozenset()

    @abstractmethod
    def fit(self, train: Dataset, run: Run, *, validation: Dataset | None = None) -> Model:
        """Learn a model.

        The data is not changed. The same data, hyperparameters, seed and number of threads give
        the same model on the CPU.

        Raises:
            InvalidData: the data does not suit; the message names the column.
            TrainingStopped: the run asked to stop and there is no model to keep.
        """

    def fit_stream(self, train: Stream, run: Run, *, validation: Stream | None = None) -> Model:
        """Learn a model from rows that do not fit into memory, where `streams` says it can.

        Raises:
            InvalidJob: it cannot.
            FitFailed: the run's scratch folder has no room.
        """
        raise InvalidJob(
            f"{self.name}: the rows do not fit into memory, and it needs all of them at once",
            field="ResourceConfig",
        )

    def reading(self) -> Mapping[str, Mapping[str, str]]:
        """Return parameters of content types that its hyperparameters ask for.

        Such as `{"text/csv": {"weight_size": "1"}}`; what a channel says goes before.
        """
        return {}

    def beside(self) -> Mapping[str, str]:
        """Return columns that are neither inputs nor label, by what they are: `weight`, `qid`.

        Such as `{"qid": "query"}`; what a format marks as such goes before.
        """
        return {}

    @property
    def intervals(self) -> bool:
        """Whether labels may be intervals, two numbers each."""
        return False

    def evaluate(self, model: Model, data: Dataset) -> Mapping[str, float]:
        """Measure a model on a channel that is labelled as the training data is.

        Returns:
            metrics by name without the channel: a job reports them as `test:NAME`.
        """
        return {}

    def __post_init__(self) -> None:
        for item in self.hyperparameters():
            given = getattr(self, item.field_name)
            if given is None and not item.required:
                continue
            try:
                # Frozen to callers; a value given as text becomes what the field declares.
                object.__setattr__(self, item.field_name, item.parse(given))
            except InvalidHyperparameter as error:
                raise self._refuse(error.message, item.name) from None
        for rule in self.dependencies:
            if not rule.holds(self):
                values = {item.name: getattr(self, item.field_name) for item in self._named(rule)}
                shown = {name: value for name, value in values.items() if value is not None}
                if len(values) <= _FEW:
                    shown = values
                got = ", ".join(f"{name}={value!r}" for name, value in shown.items())
                raise self._refuse(f"{rule.rule}; got {got}", *values)

    @classmethod
    def prepare(cls) -> None:
        """Import the libraries; called early in a job's own process, before its data is there."""
        for library in cls.libraries:
            importlib.import_module(library)

    @classmethod
    def hyperparameters(cls) -> tuple[Hyperparameter, ...]:
        """Return the declared hyperparameters in order."""
        return declared(cls)

    @classmethod
    def schema(cls) -> dict[str, Any]:
        """Return the JSON schema of the hyperparameters."""
        return schema(
            cls.name, cls.hyperparameters(), dependencies=cls.dependencies, legacy=cls.legacy
        )

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Self:
        """Make one from hyperparameters by name, as text or typed.

        Aliases are taken; legacy names are dropped with a warning that names the replacement.

        Raises:
            InvalidHyperparameter: a name is unknown or given twice, a required one is missing, a
                value is not allowed, or a dependency is broken. The message names what is allowed.
        """
        known = {item.name: item for item in cls.hyperparameters()}
        by_alias = {alias: item.name for item in known.values() for alias in item.aliases}
        fields: dict[str, Any] = {}
        for given, value in values.items():
            if given in cls.legacy:
                warnings.warn(f"{cls.name}: {given} is dropped; {cls.legacy[given]}", stacklevel=2)
                continue
            name = by_alias.get(given, given)
            if name not in known:
                raise InvalidHyperparameter(
                    f"{cls.name}: there is no hyperparameter {given!r}"
                    f"{nearest(given, [*known, *by_alias])}; allowed are {', '.join(known)}",
                    algorithm=cls.name,
                    names=[given],
                )
            item = known[name]
            if item.field_name in fields:
                raise cls._refuse(f"{name}: given twice, also as one of {item.aliases}", name)
            try:
                fields[item.field_name] = item.parse(value)
            except InvalidHyperparameter as error:
                raise cls._refuse(error.message, name) from None
        for item in known.values():
            if item.required and item.field_name not in fields:
                raise cls._refuse(f"{item.name}: required, expected {item.allowed}", item.name)
        made = cls(**fields)
        object.__setattr__(made, "given", frozenset(fields))
        return made

    def values(self) -> dict[str, Any]:
        """Return the hyperparameters that are set, by name, as typed values."""
        return {
            item.name: value
            for item in self.hyperparameters()
            if (value := getattr(self, item.field_name)) is not None
        }

    def required_channels(self) -> tuple[str, ...]:
        """Name the channels that this algorithm with these hyperparameters must be given."""
        return tuple(channel.name for channel in self.channels if channel.required)

    def check_channels(self, names: Collection[str]) -> None:
        """Refuse channels that are missing or that the algorithm does not read.

        Raises:
            InvalidJob: the message names the channels there are.
        """
        allowed = [channel.name for channel in self.channels]
        if self.continues:
            allowed.append("model")
        for name in names:
            if name not in allowed:
                raise InvalidJob(
                    f"{self.name}: there is no channel {name!r}{nearest(name, allowed)}; it reads "
                    f"{', '.join(allowed)}",
                    field="InputDataConfig",
                )
        for name in self.required_channels():
            if name not in names:
                raise InvalidJob(
                    f"{self.name}: channel {name!r} is required with these hyperparameters; got "
                    f"{', '.join(names) or 'none'}",
                    field="InputDataConfig",
                )

    def check_input(self, name: str, *, input_mode: str, content_type: str | None) -> None:
        """Refuse how a channel comes, or what it holds, where the algorithm does not read that.

        Args:
            name: of a channel that it reads.
            input_mode: File, FastFile or Pipe.
            content_type: without parameters; None: not known yet.

        Raises:
            InvalidJob: the message names what is allowed.
        """
        channel = next((c for c in self.channels if c.name == name), _MODEL)
        if input_mode not in channel.input_modes:
            raise InvalidJob(
                f"{self.name}: channel {name!r} does not come in input mode {input_mode}; set "
                f"input_mode to one of {', '.join(channel.input_modes)}",
                field="InputMode",
            )
        allowed = channel.content_types
        if content_type is None or not allowed:
            return
        # A JSON document of rows is read as its lines would be.
        known = _LINES if content_type == _DOCUMENT and _LINES in allowed else content_type
        if known not in allowed:
            raise InvalidJob(
                f"{self.name}: channel {name!r} is not read as {content_type!r}; it may be "
                f"{', '.join(allowed)}",
                field="ContentType",
            )
        if input_mode == "Pipe" and known in channel.file_only:
            piped = ", ".join(kind for kind in allowed if kind not in channel.file_only)
            raise InvalidJob(
                f"{self.name}: channel {name!r} is not piped as {content_type!r}; set "
                f"input_mode=File, or give it as {piped}",
                field="InputMode",
            )

    def check_hosts(self, count: int) -> None:
        """Refuse more hosts than one where a fit cannot be spread over them.

        Raises:
            InvalidJob: the message says why.
        """
        if count > 1 and self.hosts == "one":
            raise InvalidJob(
                f"{self.name}: InstanceCount={count}, and it trains on one host: {self.one_host}; "
                "set InstanceCount to 1 and give that host the threads",
                field="InstanceCount",
            )

    def check_precision(self, precision: str) -> None:
        """Refuse a mixed precision where a fit does not compute in one.

        Raises:
            InvalidJob: the message says why.
        """
        if precision != "float32" and self.float32_only:
            raise InvalidJob(
                f"{self.name}: Precision={precision}, and it computes in float32 alone: "
                f"{self.float32_only}; leave Precision out",
                field="Precision",
            )

    def _check_width(self, train: Dataset, feature_dim: int | None) -> None:
        """Refuse data that has not as many dimensions as the hyperparameter feature_dim says.

        Raises:
            InvalidHyperparameter: the message has both numbers.
        """
        if feature_dim is not None and feature_dim != train.width:
            raise self._refuse(
                f"feature_dim: expected the number of dimensions of channel {train.channel!r}, "
                f"which is {train.width} ({_few(train.inputs.names)}), got {feature_dim}",
                "feature_dim",
            )

    def _gone_on_from(self, run: Run, train: Dataset | Stream) -> Model | None:
        """Return the model a run starts from, which is of this algorithm and has these inputs.

        Raises:
            InvalidData: it is another algorithm's, or takes other inputs.
        """
        start = run.start
        if start is None:
            return None
        if not isinstance(start, self.model):
            raise InvalidData(
                f"model: {self.name} goes on from a model of {self.name}, got "
                f"{type(start).__name__}",
                channel="model",
            )
        if start.inputs != train.inputs:
            raise InvalidData(
                f"model: {self.name} goes on from a model with the same inputs; it takes "
                f"{_few(start.inputs.names)} and {train.channel} has {_few(train.inputs.names)}, "
                "or their kinds differ",
                channel="model",
            )
        return start

    def _named(self, rule: Dependency) -> list[Hyperparameter]:
        return [item for item in self.hyperparameters() if item.name in rule.names]

    @classmethod
    def _refuse(cls, message: str, *names: str) -> InvalidHyperparameter:
        return InvalidHyperparameter(
            f"{cls.name}: {message}", algorithm=cls.name, names=list(names)
        )


_FEW: Final = 4
"""Of how many hyperparameters a message shows also those that are not set."""


def _few(names: Sequence[str]) -> str:
    """Name the first few of many columns."""
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
