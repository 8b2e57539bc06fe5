"""`featureline feature` and `featureline search`: what is said of features, and finding them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import click

from featureline.cli.output import emit, emit_table
from featureline.cli.store import common_options, open_any
from featurestore import Expression, Filter, InvalidRequest, MetadataChange
from featurestore.search import Operator

__all__ = ["feature", "search"]

# Signs for people, beside the operators' own names.
_SIGNS: Final = {
    "=": Operator.EQUALS,
    "!=": Operator.NOT_EQUALS,
    ">": Operator.GREATER_THAN,
    ">=": Operator.GREATER_THAN_OR_EQUAL_TO,
    "<": Operator.LESS_THAN,
    "<=": Operator.LESS_THAN_OR_EQUAL_TO,
    "~": Operator.CONTAINS,
}
_FILTER: Final = re.compile(
    r"(?P<name>[\w.\-]+?)\s*(?P<sign>!=|>=|<=|=|>|<|~)\s*(?P<value>.*)", re.S
)
_SOUGHT: Final = {"groups": "FeatureGroup", "features": "FeatureMetadata"}


@click.group()
def feature() -> None:
    """Describe single features, and say what they mean."""


@feature.command()
@click.argument("group")
@click.argument("name")
@common_options
def describe(group: str, name: str, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Describe the feature NAME of GROUP."""
    with open_any(home, connect) as store:
        found = store.feature_metadata(group, name)
    lines = [f"{group}.{name}: {found.feature.type.value}"]
    lines += [found.description] if found.description else []
    lines += [f"  {key} = {value}" for key, value in sorted(found.parameters.items())]
    emit(found.to_json(), as_json=as_json, text="\n".join(lines))


@feature.command()
@click.argument("group")
@click.argument("name")
@click.option("--description", help="What it is.")
@click.option("--set", "additions", multiple=True, metavar="KEY=VALUE", help="Set a parameter.")
@click.option("--remove", "removals", multiple=True, metavar="KEY", help="Take a parameter away.")
@common_options
def update(
    group: str,
    name: str,
    description: str | None,
    additions: tuple[str, ...],
    removals: tuple[str, ...],
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Change what is said of the feature NAME of GROUP: description and parameters."""
    given: dict[str, str] = {}
    for addition in additions:
        key, sign, value = addition.partition("=")
        if not sign:
            raise InvalidRequest(f"--set: expected KEY=VALUE, got {addition!r}")
        given[key] = value
    change = MetadataChange(description, given, removals)
    with open_any(home, connect) as store:
        changed = store.update_feature_metadata(group, name, change)
    emit(changed.to_json(), as_json=as_json, text=f"updated {group}.{name}")


@click.command()
@click.argument("resource", type=click.Choice(list(_SOUGHT)))
@click.argument("filters", nargs=-1, metavar="[FILTER]...")
@click.option(
    "--any", "any_of", is_flag=True, help="One filter is enough; without it all must hold."
)
@click.option("--sort-by", default="LastModifiedTime", show_default=True, help="A property.")
@click.option("--ascending", is_flag=True, help="Oldest or smallest first.")
@common_options
def search(
    resource: str,
    filters: tuple[str, ...],
    any_of: bool,
    sort_by: str,
    ascending: bool,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Find feature groups or features by their properties.

    A FILTER is a property, a sign (= != > >= < <=, ~ for contains) and a value, for example
    'FeatureGroupName~weather', 'Tags.team=ops' or 'Parameters.unit=kelvin'.
    """
    expression = Expression(tuple(map(_filter, filters)), any_of=any_of)
    with open_any(home, connect) as store:
        found = store.search(
            _SOUGHT[resource], expression, sort_by=sort_by, descending=not ascending
        )
    rows = [entry.to_json() for entry in found]
    if resource == "groups":
        columns = ("FeatureGroupName", "Version", "Description", "LastModifiedTime")
    else:
        columns = ("FeatureGroupName", "FeatureName", "FeatureType", "Description")
    emit_table(rows, columns, as_json=as_json, empty=f"no {resource} that fulfil this")


def _filter(text: str) -> Filter:
    found = _FILTER.fullmatch(text)
    if found is None:
        raise InvalidRequest(
            f"filter: expected a property, a sign and a value such as 'FeatureGroupName~weather', "
            f"got {text!r}"
        )
    return Filter(found["name"], _SIGNS[found["sign"]], found["value"])
