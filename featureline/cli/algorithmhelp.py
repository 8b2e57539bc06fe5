"""`featureline train ALGORITHM --help`: what one algorithm takes, and the list of all."""

from __future__ import annotations

import inspect
from typing import Final

import click

import training
from training.hyperparameter import as_text

__all__ = ["TrainCommand", "summary"]

_WIDTH: Final = 100


class TrainCommand(click.Command):
    """A command whose help tells of the algorithm that is named beside `--help`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Print an algorithm's help where one is asked for."""
        if "--help" in args:
            known = training.list_algorithms()
            for given in args:
                if given in known:
                    click.echo(_help(training.find_algorithm(given)))
                    ctx.exit()
        return super().parse_args(ctx, args)


def summary(name: str) -> str:
    """Return the first sentence of what an algorithm is, or why it cannot be had."""
    try:
        algorithm = training.find_algorithm(name)
    except training.LibraryMissing as error:
        return str(error)
    return _about(algorithm)


def _about(algorithm: type[training.Algorithm]) -> str:
    return (inspect.getdoc(algorithm) or "").split("\n", 1)[0]


def _help(algorithm: type[training.Algorithm]) -> str:
    formatter = click.HelpFormatter(width=_WIDTH, max_width=_WIDTH)
    formatter.write_usage(
        "featureline train", f"{algorithm.name} --channel NAME=PATH … --set NAME=VALUE …"
    )
    formatter.write_paragraph()
    formatter.write_text(_about(algorithm))
    with formatter.section("Channels"):
        formatter.write_dl([_channel(channel) for channel in algorithm.channels])
    with formatter.section("Hyperparameters (--set NAME=VALUE)"):
        formatter.write_dl([_item(item) for item in algorithm.hyperparameters()])
    if algorithm.dependencies:
        with formatter.section("Rules"):
            for rule in algorithm.dependencies:
                formatter.write_text(rule.rule)
    with formatter.section("Metrics"):
        formatter.write_text(", ".join(metric.name for metric in algorithm.metrics))
    return formatter.getvalue().rstrip()


def _channel(channel: training.ChannelDeclaration) -> tuple[str, str]:
    types = f" ({', '.join(channel.content_types)})" if channel.content_types else ""
    required = "  [required]" if channel.required else ""
    return channel.name, f"{channel.about}{types}{required}"


def _item(item: training.Hyperparameter) -> tuple[str, str]:
    default = item.default if item.default is not None else item.library
    tail = "  [required]" if item.required else ""
    if default is not None:
        tail = f"  [default: {as_text(default)}]"
    names = ", ".join((item.name, *item.aliases))
    return names, f"{item.about}: {item.allowed}{tail}"
