"""Options of `featureline ingest` on refused messages: where they go, and how many are too many."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, final

import click

from featureline.cli.store import home_of
from featurestore import FeatureStore
from featurestore.embedded import EmbeddedStore
from ingest import DeadLetterSink, KafkaSecurity, StopRule
from ingest.letters.places import dead_letter_sink

__all__ = ["Refusals", "letters_folder", "refusal_options"]

R = TypeVar("R")


@final
@dataclass(frozen=True, slots=True)
class Refusals:
    """What the options say.

    Args:
        folder: of dead letters; None: the default.
        format: of its files.
        topic: of dead letters; None: none.
        bootstrap: the topic's brokers; None: those that are read from.
        stop_rule: when to stop; None: never.
    """

    folder: Path | None
    format: Literal["jsonl", "parquet"]
    topic: str | None
    bootstrap: str | None
    stop_rule: StopRule | None

    def place(self, store: FeatureStore) -> Path:
        """Return the folder of dead letters."""
        return letters_folder(store, self.folder)

    def settings(self, folder: Path, bootstrap: str) -> dict[str, str]:
        """Return the same for a settings file.

        Args:
            folder: of dead letters.
            bootstrap: the brokers that are read from.
        """
        found = {"folder": str(folder), "format": str(self.format)}
        if self.topic is not None:
            found |= {"topic": self.topic, "bootstrap": self.bootstrap or bootstrap}
        return found

    @property
    def rule_settings(self) -> dict[str, object] | None:
        """The stop rule for a settings file."""
        return None if self.stop_rule is None else asdict(self.stop_rule)

    def sink(
        self,
        store: FeatureStore,
        bootstrap: str | None = None,
        security_file: Path | None = None,
    ) -> DeadLetterSink:
        """Return where refused messages go.

        Args:
            store: of the group.
            bootstrap: the brokers that are read from, if it is Kafka.
            security_file: TLS and SASL towards them; None: from the environment.
        """
        brokers = self.bootstrap or bootstrap
        if self.topic is not None and brokers is None:
            raise click.UsageError("--dead-letter-topic needs --dead-letter-bootstrap HOST:PORT")
        return dead_letter_sink(
            self.place(store),
            format=self.format,
            topic=self.topic,
            bootstrap=brokers,
            security=None if self.topic is None else KafkaSecurity.found(security_file),
        )


def letters_folder(store: FeatureStore, folder: Path | None) -> Path:
    """Return the folder of dead letters: the one given, or that of the store's home."""
    if folder is not None:
        return folder
    return (home_of(store) if isinstance(store, EmbeddedStore) else Path()) / "deadletters"


def refusal_options(command: Callable[..., R]) -> Callable[..., R]:
    """Add the options, and hand them to the command as one argument `refusals`."""

    @functools.wraps(command)
    def gathered(
        *args: Any,
        dead_letters: Path | None,
        dead_letter_format: Literal["jsonl", "parquet"],
        dead_letter_topic: str | None,
        dead_letter_bootstrap: str | None,
        stop_at_share: float,
        stop_after_refusals: int | None,
        **kwargs: Any,
    ) -> R:
        rule = None
        if stop_at_share or stop_after_refusals is not None:
            rule = StopRule(share=stop_at_share or None, count=stop_after_refusals)
        refusals = Refusals(
            dead_letters, dead_letter_format, dead_letter_topic, dead_letter_bootstrap, rule
        )
        return command(*args, refusals=refusals, **kwargs)

    options = (
        click.option(
            "--dead-letters",
            type=click.Path(path_type=Path, file_okay=False),
            help="Folder of refused messages.  [default: HOME/deadletters, or ./deadletters]",
        ),
        click.option(
            "--dead-letter-format",
            type=click.Choice(["jsonl", "parquet"]),
            default="jsonl",
            show_default=True,
            help="Of the files in it.",
        ),
        click.option(
            "--dead-letter-topic", metavar="TOPIC", help="Produce refused messages there as well."
        ),
        click.option(
            "--dead-letter-bootstrap",
            metavar="HOST:PORT",
            help="Brokers of --dead-letter-topic.  [default: those that are read from]",
        ),
        click.option(
            "--stop-at-share",
            type=click.FloatRange(min=0, max=1),
            default=0.9,
            show_default=True,
            help="Stop when so much of the last 1,000 messages is refused; 0: never.",
        ),
        click.option(
            "--stop-after-refusals",
            type=click.IntRange(min=1),
            metavar="N",
            help="Stop when N messages of this run are refused.",
        ),
    )
    described: Callable[..., R] = gathered
    for option in reversed(options):
        described = option(described)
    return described
