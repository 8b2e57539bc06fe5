"""The settings of many pipelines: one TOML file, checked whole before anything is started."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

import featurestore
from featurestore import ClientTls, FeatureStore
from featurestore.embedded import open_store
from featurestore.errors import nearest
from ingest.decode import Decoder, JsonDecoder, TombstoneKey, Tombstones, with_tombstones
from ingest.errors import IngestError, InvalidMapping, InvalidSettings
from ingest.fleet.keys import Key, Reading, read_table
from ingest.fleet.kinds import FORMATS, SOURCES, kafka_security
from ingest.letters.letter import DeadLetterSink
from ingest.letters.places import dead_letter_sink
from ingest.mapping.file import read_mapping, transforms_of
from ingest.pipeline import Pipeline
from ingest.source import Source
from ingest.sources.kafka_security import KafkaSecurity
from ingest.stoprule import StopRule
from ingest.transform import Transform

__all__ = ["FleetSettings", "PipelineSettings", "StoreSettings", "read_settings"]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_AUTO: Final = "auto"

_STORE: Final[Mapping[str, Key]] = {
    "home": Key("path"),
    "connect": Key(),
    "token": Key(secret=True),
    "tls_ca": Key("path"),
    "tls_cert": Key("path"),
    "tls_key": Key("path"),
    "tls_server_name": Key(),
}
_FLEET: Final[Mapping[str, Key]] = {"state": Key("path")}
_PIPELINE: Final[Mapping[str, Key]] = {
    "name": Key(required=True),
    "group": Key(required=True),
    "source": Key("table", required=True),
    "format": Key("table"),
    "tombstones": Key(choices=("refuse", "skip", "delete"), default="refuse"),
    "tombstone_key": Key(choices=("text", "json"), default="text"),
    "workers": Key("whole", minimum=1, default=1),
    "processes": Key("truth", default=False),
    "batch_size": Key("whole", minimum=1, default=2000),
    "retry_s": Key("number", minimum=0, default=60.0),
    "lineage_s": Key("number", minimum=1, default=60.0),
    "until_caught_up": Key("truth", default=False),
}
_LETTERS: Final[Mapping[str, Key]] = {
    "folder": Key("path"),
    "format": Key(choices=("jsonl", "parquet")),
    "topic": Key(),
    "bootstrap": Key(),
}
_RULE: Final[Mapping[str, Key]] = {
    "share": Key("number", minimum=0),
    "of_last": Key("whole", minimum=1),
    "count": Key("whole", minimum=1),
    "within_s": Key("number", minimum=0),
}
_OF_ALL: Final = {name: key for name, key in _PIPELINE.items() if name not in ("name", "group")}


@final
@dataclass(frozen=True)
class StoreSettings:
    """Which store the pipelines write to.

    Args:
        home: of an embedded store; with neither, `$FEATURELINE_HOME` or `./.featureline`.
        connect: `HOST:PORT` of a server instead.
        token: for the server; None: `$FEATURELINE_TOKEN`, if set.
        tls_ca, tls_cert, tls_key: PEM files.
        tls_server_name: that the server's certificate must have.
    """

    home: str | None = None
    connect: str | None = None
    token: str | None = field(default=None, repr=False)
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_server_name: str | None = None

    def open(self) -> FeatureStore:
        """Open the store, or connect to it."""
        if self.connect is None:
            return open_store(self.home)
        tls = None
        if self.tls_ca or self.tls_cert or self.tls_key:
            ca, certificate, key = (
                None if path is None else Path(path)
                for path in (self.tls_ca, self.tls_cert, self.tls_key)
            )
            tls = ClientTls(ca, certificate, key, self.tls_server_name)
        return featurestore.connect(self.connect, token=self.token, tls=tls)


@final
@dataclass(frozen=True)
class PipelineSettings:
    """One pipeline, as plain values.

    Args:
        name: of the pipeline.
        group: the feature group.
        source: `kind` and the values of that kind; may hold secrets.
        format: `kind` and the values of that kind.
        mapping: feature → field, or a declaration for `transforms_of`; empty: fields have the
            features' names.
        tombstones: what a message without a value does: `refuse`, `skip` or `delete`.
        tombstone_key: how keys of tombstones are written: `text` or `json`.
        dead_letters: where refused messages go: `folder`, and maybe `format`, `topic` and
            `bootstrap`; None: the first one ends the pipeline.
        stop_rule: arguments of `StopRule`; None: no number of refusals ends the pipeline.
        workers: how many processes share the source.
        processes: whether one worker, too, is a process of its own.
        batch_size: messages in a transaction, at most.
        retry_s: how long a store that is away is tried again.
        lineage_s: how often the running action says how far it is.
        until_caught_up: it ends when everything is stored that was there when it began.
    """

    name: str
    group: str
    source: Mapping[str, Any] = field(repr=False)
    format: Mapping[str, Any] = field(default_factory=lambda: {"kind": _AUTO})
    mapping: Mapping[str, Any] = field(default_factory=dict)
    tombstones: Tombstones = "refuse"
    tombstone_key: TombstoneKey = "text"
    dead_letters: Mapping[str, str] | None = None
    stop_rule: Mapping[str, Any] | None = field(default_factory=dict)
    workers: int = 1
    processes: bool = False
    batch_size: int = 2000
    retry_s: float = 60.0
    lineage_s: float = 60.0
    until_caught_up: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, secrets too."""
        return dict(vars(self))

    @property
    def digest(self) -> str:
        """A digest of all values: two pipelines of one digest do the same."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def open_source(self) -> Source:
        """Make the source; nothing is connected yet.

        Raises:
            ValueError, IngestError: the values do not fit together.
        """
        values = {name: value for name, value in self.source.items() if name != "kind"}
        return SOURCES[self.source["kind"]].build(values)

    @property
    def tells_ends(self) -> bool:
        """Whether the source knows where its partitions end."""
        return SOURCES[self.source["kind"]].tells_ends

    def open_aside(self) -> Source:
        """Make the source so that it can be looked into while the pipeline runs."""
        kind = SOURCES[self.source["kind"]]
        values = {name: value for name, value in self.source.items() if name != "kind"}
        return kind.build(kind.aside(values))

    def open_sink(self) -> DeadLetterSink | None:
        """Make the place of refused messages; None: the first one ends the pipeline."""
        if self.dead_letters is None:
            return None
        letters: dict[str, Any] = {
            "bootstrap": self.source.get("bootstrap"),
            **self.dead_letters,
        }
        if "topic" not in letters:
            return dead_letter_sink(**letters)
        table = self.source.get("security")
        if table is not None:
            security = kafka_security(table)
        else:
            security = KafkaSecurity.found(self.source.get("security_file"))
        return dead_letter_sink(**letters, security=security)

    def check(self) -> None:
        """Make everything that can be made without a store.

        Raises:
            ValueError, IngestError: the values do not fit together.
        """
        self.open_source()
        self._decoder()
        self._transforms()
        self._rule()
        self.open_sink()

    def build(self, store: FeatureStore, sink: DeadLetterSink | None) -> Pipeline:
        """Make the pipeline; nothing is connected yet.

        Args:
            store: where it writes.
            sink: from `open_sink`, for the caller to close.

        Raises:
            ValueError, IngestError: the values do not fit together.
        """
        decoder = self._decoder()
        if self.tombstones != "refuse":
            identifier = store.describe_feature_group(self.group).record_identifier
            decoder = with_tombstones(
                decoder or JsonDecoder(self._short()),
                self.tombstones,
                identifier=identifier,
                key=self.tombstone_key,
            )
        return Pipeline(
            self.open_source(),
            store,
            self.group,
            decoder=decoder,
            mapping=self._short() if decoder is None else None,
            transforms=self._transforms(),
            dead_letters=sink,
            stop_rule=self._rule(),
            batch_size=self.batch_size,
            retry_s=self.retry_s,
            lineage_s=self.lineage_s,
            label=self.name,
        )

    def _short(self) -> Mapping[str, str]:
        """The mapping, where it only renames: then the decoder does it."""
        is_short = all(isinstance(of, str) for of in self.mapping.values())
        return self.mapping if is_short else {}

    def _decoder(self) -> Decoder | None:
        kind = self.format["kind"]
        if kind == _AUTO:
            return None
        values = {name: value for name, value in self.format.items() if name != "kind"}
        return FORMATS[kind].build(values, self._short())

    def _transforms(self) -> list[Transform]:
        if self._short() or not self.mapping:
            return []
        return transforms_of(self.mapping, topic=self.source.get("topic"))

    def _rule(self) -> StopRule | None:
        return None if self.stop_rule is None else StopRule(**self.stop_rule)


@final
@dataclass(frozen=True)
class FleetSettings:
    """All pipelines of one file.

    Args:
        store: where they write.
        pipelines: in the order of the file.
        state: folder of what the fleet has to remember and to tell.
        files: the file, and others that it named and that were read.
    """

    store: StoreSettings
    pipelines: tuple[PipelineSettings, ...]
    state: Path
    files: tuple[Path, ...] = ()

    def pipeline(self, name: str) -> PipelineSettings:
        """Return one pipeline.

        Raises:
            IngestError: there is none of this name.
        """
        for found in self.pipelines:
            if found.name == name:
                return found
        names = [found.name for found in self.pipelines]
        raise IngestError(
            f"pipeline {name!r}: expected one of {', '.join(names)}{nearest(name, names)}"
        )


def read_settings(path: str | Path, *, environ: Mapping[str, str] | None = None) -> FleetSettings:
    """Read a settings file and check all of it.

    Relative paths begin at the file's folder. `${NAME}` in a text is an environment variable, `$$`
    a dollar sign; what came from there, or from a file that a key `…_file` names, is never shown.

    Args:
        path: of the TOML file.
        environ: default: the environment.

    Raises:
        InvalidSettings: it cannot be read, or has mistakes; all of them are told at once.
    """
    path = Path(path)
    try:
        body = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidSettings(str(path), [f"it cannot be read: {error.strerror}"]) from error
    except ValueError as error:
        raise InvalidSettings(str(path), [f"it is no TOML: {error}"]) from error
    folder = path.resolve().parent
    reading = Reading(folder, dict(os.environ if environ is None else environ))
    tables = {"store", "fleet", "defaults", "pipeline"}
    for name in body.keys() - tables:
        expected = f"one of {', '.join(sorted(tables))}"
        reading.problem(name, expected, repr(name), nearest(name, tables))
    store = _store(body.get("store", {}), reading)
    fleet = read_table(_resolved(body, "fleet", reading), _FLEET, "fleet", reading)
    state = Path(fleet["state"]) if "state" in fleet else _default_state(store, path)
    defaults = _resolved(body, "defaults", reading)
    if "mapping" in defaults:
        defaults["mapping"] = body["defaults"]["mapping"]
    defaults = _known_defaults(defaults, reading)
    listed = body.get("pipeline", [])
    if not isinstance(listed, list) or not listed:
        reading.problem("pipeline", "at least one [[pipeline]]", "none")
        listed = []
    letters = state / "deadletters" if store.connect is not None else _home(store) / "deadletters"
    pipelines: list[PipelineSettings] = []
    for number, values in enumerate(listed):
        made = _pipeline(values, number, defaults, letters, reading)
        if made is not None:
            pipelines.append(made)
    _check_together(pipelines, reading)
    if reading.problems:
        raise InvalidSettings(str(path), reading.problems)
    return FleetSettings(store, tuple(pipelines), state, (path.resolve(), *reading.files))


def _resolved(body: Mapping[str, Any], name: str, reading: Reading) -> dict[str, Any]:
    found = reading.resolved(body.get(name, {}), name)
    if isinstance(found, dict):
        return found
    reading.problem(name, f"a table [{name}]", repr(found))
    return {}


def _store(values: object, reading: Reading) -> StoreSettings:
    found = read_table(reading.resolved(values, "store"), _STORE, "store", reading)
    if "home" in found and "connect" in found:
        reading.problem("store", "home or connect", "both")
    if "connect" not in found:
        for name in sorted(found.keys() - {"home"}):
            reading.problem(f"store.{name}", "it beside connect", "no connect")
    if ("tls_cert" in found) != ("tls_key" in found):
        reading.problem("store", "tls_cert and tls_key together", "one of them")
    return StoreSettings(**found)


def _default_state(store: StoreSettings, path: Path) -> Path:
    if store.connect is not None:
        return path.resolve().parent / ".featureline-ingest" / path.stem
    return _home(store) / "ingest" / path.stem


def _home(store: StoreSettings) -> Path:
    return Path(store.home or os.environ.get("FEATURELINE_HOME") or ".featureline").resolve()


def _known_defaults(defaults: Mapping[str, Any], reading: Reading) -> dict[str, Any]:
    """Return the defaults without keys that no pipeline has; each pipeline checks the values."""
    known = [*_OF_ALL, "mapping", "dead_letters", "stop_rule"]
    for name in defaults:
        if name not in known:
            expected = f"one of {', '.join(known)}"
            reading.problem(f"defaults.{name}", expected, repr(name), nearest(name, known))
    return {name: value for name, value in defaults.items() if name in known}


def _pipeline(
    values: object,
    number: int,
    defaults: Mapping[str, Any],
    default_letters: Path,
    reading: Reading,
) -> PipelineSettings | None:
    before = len(reading.problems)
    name = declared = None
    if isinstance(values, dict):
        # SQL has dollar signs of its own.
        name, declared = values.get("name"), values.get("mapping", defaults.get("mapping"))
        values = {key: value for key, value in values.items() if key != "mapping"}
        defaults = {key: value for key, value in defaults.items() if key != "mapping"}
    where = f"pipeline {name!r}" if isinstance(name, str) else f"pipeline number {number + 1}"
    resolved = reading.resolved(values, where)
    if not isinstance(resolved, dict):
        reading.problem(where, "a table [[pipeline]]", repr(resolved))
        return None
    table = _with_defaults(resolved, defaults)
    letters = table.pop("dead_letters", None)
    rule = table.pop("stop_rule", None)
    found = read_table(table, _PIPELINE, where, reading)
    if "name" in found and not _NAME.fullmatch(found["name"]):
        got = repr(found["name"])
        reading.problem(f"{where}.name", "1 to 64 letters, digits, _ . -", got)
    source = _kind(found.get("source"), SOURCES, f"{where}.source", reading)
    if source is not None and source["kind"] == "kafka" and "group" in found:
        source.setdefault("consumer_group", f"featureline-{found['group']}")
    chosen = found.get("format")
    if chosen is not None:
        chosen = _kind(chosen, FORMATS, f"{where}.format", reading)
    elif source is not None:
        chosen = {"kind": SOURCES[source["kind"]].format}
    mapping = _mapping(declared, f"{where}.mapping", reading)
    letters_at = _dead_letters(letters, default_letters, f"{where}.dead_letters", reading)
    rule_of = _stop_rule(rule, f"{where}.stop_rule", reading)
    if source is not None and found.get("workers", 1) > 1:
        kind = SOURCES[source["kind"]]
        if not kind.is_shared(source):
            got = str(found["workers"])
            advice = "; this source is not shared out among workers"
            reading.problem(f"{where}.workers", "1", got, advice)
    if len(reading.problems) > before or source is None or chosen is None:
        return None
    made = PipelineSettings(
        **{**found, "source": source, "format": chosen, "mapping": mapping},
        dead_letters=letters_at,
        stop_rule=rule_of,
    )
    try:
        made.check()
    except (OSError, ImportError, ValueError, IngestError) as error:
        reading.problems.append(f"{where}: {error}")
        return None
    return made


def _with_defaults(table: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return a pipeline's table over the defaults; tables of one kind are merged key by key."""
    merged = {**defaults, **table}
    for name in ("source", "format"):
        own, common = table.get(name), defaults.get(name)
        if isinstance(own, dict) and isinstance(common, dict):
            kind = common.get("kind")
            merged[name] = {**common, **own} if own.get("kind", kind) == kind else own
    return merged


def _kind(
    values: object, kinds: Mapping[str, Any], where: str, reading: Reading
) -> dict[str, Any] | None:
    """Check a table whose `kind` says which keys it has."""
    if not isinstance(values, Mapping):
        return None  # told already
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        got = "nothing" if kind is None else repr(kind)
        advice = nearest(kind, kinds) if isinstance(kind, str) else ""
        reading.problem(f"{where}.kind", f"one of {', '.join(kinds)}", got, advice)
        return None
    own = {name: value for name, value in values.items() if name != "kind"}
    return {"kind": kind, **read_table(own, kinds[kind].keys, where, reading)}


def _dead_letters(
    value: object, default: Path, where: str, reading: Reading
) -> dict[str, Any] | None:
    if value is None:
        return {"folder": str(default)}
    if value is False:
        return None
    if isinstance(value, str) and value:
        return {"folder": str(reading.path(value))}
    if isinstance(value, Mapping):
        return {"folder": str(default), **read_table(value, _LETTERS, where, reading)}
    expected = "a folder, a table, or false for none"
    reading.problem(where, expected, "true" if value is True else repr(value))
    return None


def _mapping(value: object, where: str, reading: Reading) -> Mapping[str, Any]:
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return value
    if not isinstance(value, str):
        reading.problem(where, "a table, or the path of a file with it", repr(value))
        return {}
    path = reading.path(value)
    reading.files.append(path)
    try:
        return read_mapping(path)
    except InvalidMapping as error:
        reading.problems.append(f"{where}: {error}")
        return {}


def _stop_rule(value: object, where: str, reading: Reading) -> dict[str, Any] | None:
    if value is None:
        return {}
    if value is False:
        return None
    if isinstance(value, Mapping):
        return read_table(value, _RULE, where, reading)
    reading.problem(where, "a table, or false for none", "true" if value is True else repr(value))
    return None


def _check_together(pipelines: Sequence[PipelineSettings], reading: Reading) -> None:
    """Refuse pipelines that would be in each other's way."""
    names: dict[str, int] = {}
    readers: dict[tuple[str, ...], str] = {}
    for one in pipelines:
        names[one.name] = names.get(one.name, 0) + 1
        identity = SOURCES[one.source["kind"]].identity
        if identity:
            key = (one.source["kind"], *(str(one.source.get(part)) for part in identity))
            other = readers.setdefault(key, one.name)
            if other != one.name:
                reading.problem(
                    f"pipeline {one.name!r}.source",
                    f"another {identity[-1]} than that of pipeline {other!r}",
                    "the same, so that each would get half of the messages",
                )
    for name, times in names.items():
        if times > 1:
            reading.problem(f"pipeline {name!r}", "each name once", f"it {times} times")
