"""`featureline token` and `featureline policy`: who may do what at the servers of a home."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from featureline.cli.output import console, emit, emit_table
from featurestore import FeatureGroup, InvalidRequest, eventtime
from featurestore.auth import AccessDatabase, AccessRequest, Decision, Verdict, arn, explain
from featurestore.auth.arn import ACCOUNT, group_of
from featurestore.auth.condition import ContextValue, folded, glob
from featurestore.auth.grants import READS, Grants
from featurestore.auth.policy import Policy, Statement
from featurestore.auth.token import Token
from featurestore.errors import nearest
from featurestore.record import now_us
from featurestore.registry import Registry
from featurestore.server.permission import ACTIONS

__all__ = ["policy", "token"]

_DURATION: Final = re.compile(r"([1-9][0-9]{0,5})([smhdw])\Z")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_home_option = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the stores.  [default: $FEATURELINE_HOME or ./.featureline]",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@click.group()
def token() -> None:
    """Create, list and revoke the tokens that clients show to a server."""


@token.command()
@click.option("--principal", required=True, help="Who will hold the token.")
@click.option(
    "--policy", "policies", required=True, multiple=True, help="What it may do; several may be."
)
@click.option("--expires", metavar="90d", help="For how long it is valid: 30m, 12h, 90d, 52w.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="aws:PrincipalTag/KEY.")
@_home_option
@_json_option
def create(
    principal: str,
    policies: tuple[str, ...],
    expires: str | None,
    tags: tuple[str, ...],
    home: Path | None,
    as_json: bool,
) -> None:
    """Make a token and print it: this once, since only a digest of it is kept."""
    now = now_us()
    ends = None if expires is None else now + _duration_us(expires)
    with _opened(home) as database:
        made = database.create_token(
            principal, policies, expires_us=ends, tags=_pairs("--tag", tags), now=now
        )
    emit(
        {
            "id": made.id,
            "token": made.text,
            "principal": principal,
            "policies": list(dict.fromkeys(policies)),
            "expires": None if ends is None else eventtime.format_iso(ends),
        },
        as_json=as_json,
        text=made.text,
    )
    if not as_json:
        until = "does not expire" if ends is None else f"expires {eventtime.format_iso(ends)}"
        console.print(f"token {made.id} of {principal}, {until}; it is not shown again")


@token.command(name="list")
@_home_option
@_json_option
def list_tokens(home: Path | None, as_json: bool) -> None:
    """List tokens, with the hour in which each was last used."""
    with _opened(home) as database:
        found = database.tokens()
    now = now_us()
    rows = [_token_row(entry, now) for entry in found]
    if not as_json:
        rows = [{name: _cell(value) for name, value in row.items()} for row in rows]
    emit_table(
        rows,
        ("id", "principal", "policies", "state", "created", "expires", "last_used"),
        as_json=as_json,
        empty="no tokens; make one with `featureline token create`",
    )


@token.command()
@click.argument("token_id", metavar="ID")
@_home_option
@_json_option
def revoke(token_id: str, home: Path | None, as_json: bool) -> None:
    """Make the token ID invalid for good; running servers refuse it within a second."""
    with _opened(home) as database:
        revoked = database.revoke_token(token_id)
    emit(
        _token_row(revoked, now_us()),
        as_json=as_json,
        text=f"revoked token {revoked.id} of {revoked.principal}",
    )


@click.group()
def policy() -> None:
    """Put, show and delete policies, and explain what they decide."""


@policy.command()
@click.argument("name")
@click.argument(
    "file", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True)
)
@_home_option
@_json_option
def put(name: str, file: Path, home: Path | None, as_json: bool) -> None:
    """Store the policy in FILE (JSON in IAM's shape; - is stdin) under NAME; it acts at once."""
    data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{file}: expected text in UTF-8: {error}") from error
    with _opened(home) as database:
        made = database.put_policy(name, text)
        is_first = len(database.policies()) == 1 and not database.tokens()
    for note in _doubts(made):
        console.print(f"note: {note}", markup=False)
    emit(
        {"name": name, "statements": len(made.statements)},
        as_json=as_json,
        text=f"put policy {name} ({len(made.statements)} statements)",
    )
    if is_first:
        console.print(
            "servers of this home now ask every caller for a token: featureline token create "
            f"--principal NAME --policy {name}"
        )


@policy.command(name="list")
@_home_option
@_json_option
def list_policies(home: Path | None, as_json: bool) -> None:
    """List policies, and how many tokens in use have each."""
    now = now_us()
    with _opened(home) as database:
        kept = database.policies()
        live = [entry for entry in database.tokens() if entry.state(now) == "active"]
    emit_table(
        [
            {
                "name": name,
                "statements": len(entry.policy.statements),
                "tokens": sum(name in holder.policies for holder in live),
                "modified": eventtime.format_iso(entry.modified_us),
            }
            for name, entry in kept.items()
        ],
        ("name", "statements", "tokens", "modified"),
        as_json=as_json,
        empty="no policies; make one with `featureline policy put NAME FILE`",
    )


@policy.command()
@click.argument("name")
@_home_option
@click.option("--json", "as_json", is_flag=True, help="It is JSON in any case.")
def show(name: str, home: Path | None, as_json: bool) -> None:
    """Print the document of the policy NAME as it was put."""
    with _opened(home) as database:
        click.echo(database.policy(name).policy.text.rstrip("\n"))


@policy.command()
@click.argument("name")
@_home_option
@_json_option
def delete(name: str, home: Path | None, as_json: bool) -> None:
    """Delete the policy NAME; not while a token that can be used has it."""
    with _opened(home) as database:
        database.delete_policy(name)
    emit({"deleted": name}, as_json=as_json, text=f"deleted policy {name}")


@policy.command(name="explain")
@click.option("--token", "token_id", metavar="ID", help="The token whose policies decide.")
@click.option("--principal", help="Each token in use of this principal, one by one.")
@click.option("--policy", "policies", multiple=True, help="These policies, without a token.")
@click.option("--action", required=True, help="For example sagemaker:GetRecord.")
@click.option("--resource", required=True, help="A resource name, or KIND/NAME in short.")
@click.option("--feature", "features", multiple=True, help="Features that are read or written.")
@click.option("--source-ip", help="Address of the caller.")
@click.option("--at", "moment", metavar="TIME", help="When.  [default: now]")
@click.option("--tls/--plaintext", "secure", default=False, help="How the call comes.")
@_home_option
@_json_option
def explain_command(
    token_id: str | None,
    principal: str | None,
    policies: tuple[str, ...],
    action: str,
    resource: str,
    features: tuple[str, ...],
    source_ip: str | None,
    moment: str | None,
    secure: bool,
    home: Path | None,
    as_json: bool,
) -> None:
    """Say whether an action is allowed, by which statement, and why each other one does not match.

    Exit code 0 when it is allowed (with --principal: to one of the tokens), 1 when it is denied.
    """
    if sum(bool(way) for way in (token_id, principal, policies)) != 1:
        raise click.UsageError("give one of --token, --principal and --policy")
    full = resource if resource == "*" or resource.startswith("arn:") else arn(*_kind(resource))
    now = now_us()
    with _opened(home) as database:
        asked = _asked(database, token_id, principal, policies, now)
    group = _group_of(_home(home), full)
    at_us = now if moment is None else _moment_us(moment)
    context = _context(group, features, source_ip, at_us, secure)
    explained = [_explained(grants, action, full, context, group) for grants in asked]
    if as_json:
        emit(explained, as_json=True, text="")
    else:
        for entry in explained:
            _print_explained(entry)
    if not any(entry["effect"] == "Allow" for entry in explained):
        raise click.exceptions.Exit(1)


def _explained(
    grants: Grants,
    action: str,
    resource: str,
    context: Mapping[str, ContextValue],
    group: FeatureGroup | None,
) -> dict[str, Any]:
    request = AccessRequest(action, resource, {**grants.static, **context})
    decision, verdicts = explain(grants.statements, request)
    hidden: Mapping[str, Statement] = {}
    if group is not None and action in READS and group_of(resource) is None:
        hidden = grants.denied_features(group, READS, lambda: context)
    return {
        "token": grants.token.id or None,
        "principal": grants.token.principal or None,
        "action": action,
        "resource": resource,
        "effect": decision.effect.value,
        "reason": decision.reason,
        "statement": _statement_row(decision),
        "hidden_features": {name: entry.label for name, entry in hidden.items()},
        "statements": [_verdict_row(entry) for entry in verdicts],
    }


def _print_explained(entry: Mapping[str, Any]) -> None:
    who = f"token {entry['token']} of {entry['principal']}: " if entry["token"] else ""
    click.echo(f"{who}{entry['effect']}: {entry['reason']}")
    for feature, label in entry["hidden_features"].items():
        click.echo(f"  without feature {feature}: denied by {label}")
    emit_table(
        entry["statements"],
        ("policy", "index", "sid", "effect", "matches", "reason"),
        as_json=False,
        empty="it has no statements",
    )


def _statement_row(decision: Decision) -> dict[str, Any] | None:
    found = decision.statement
    if found is None:
        return None
    return {"policy": found.policy, "index": found.index, "sid": found.sid}


def _verdict_row(verdict: Verdict) -> dict[str, Any]:
    entry = verdict.statement
    return {
        "policy": entry.policy,
        "index": entry.index,
        "sid": entry.sid,
        "effect": entry.effect.value,
        "matches": verdict.matches,
        "reason": verdict.reason,
    }


def _asked(
    database: AccessDatabase,
    token_id: str | None,
    principal: str | None,
    policies: Sequence[str],
    now: int,
) -> list[Grants]:
    if policies:
        nobody = Token("", "", tuple(policies), {}, now, None, None, None, b"")
        return [_grants(database, nobody)]
    if token_id is not None:
        found = database.token(token_id)
        state = found.state(now)
        if state != "active":
            raise InvalidRequest(f"token {token_id} is {state}: every call with it is refused")
        return [_grants(database, found)]
    held = [entry for entry in database.tokens() if entry.principal == principal]
    live = [entry for entry in held if entry.state(now) == "active"]
    if not live:
        names = {entry.principal for entry in database.tokens()}
        raise InvalidRequest(
            f"expected a principal with a token in use, got {principal!r}"
            f"{nearest(str(principal), names)}"
        )
    return [_grants(database, entry) for entry in live]


def _grants(database: AccessDatabase, holder: Token) -> Grants:
    statements = [
        statement
        for name in holder.policies
        for statement in database.policy(name).policy.statements
    ]
    return Grants(holder, tuple(statements))


def _context(
    group: FeatureGroup | None,
    features: tuple[str, ...],
    source_ip: str | None,
    at_us: int,
    secure: bool,
) -> dict[str, ContextValue]:
    context: dict[str, ContextValue] = {
        "aws:CurrentTime": eventtime.format_iso(at_us),
        "aws:EpochTime": str(at_us // 1_000_000),
        "aws:SecureTransport": "true" if secure else "false",
    }
    if source_ip is not None:
        context["aws:SourceIp"] = source_ip
    if group is not None:
        for key, value in group.tags.items():
            context[f"aws:ResourceTag/{key}"] = value
            context[f"sagemaker:ResourceTag/{key}"] = value
        context["featureline:FeatureNames"] = features or group.feature_names
    elif features:
        context["featureline:FeatureNames"] = features
    return folded(context)


def _group_of(home: Path, resource: str) -> FeatureGroup | None:
    """Return the group that a resource is, or is in, where the home has it: for tags, features."""
    if ":feature-group/" not in resource or not (home / "meta.db").exists():
        return None
    name = (group_of(resource) or resource).rpartition(":feature-group/")[2]
    registry = Registry(home / "meta.db")
    try:
        found = registry.current().get(name)
    finally:
        registry.close()
    return None if found is None else found.group


def _kind(resource: str) -> tuple[str, str]:
    kind, slash, name = resource.partition("/")
    if not slash:
        raise click.UsageError(
            f"--resource: expected arn:aws:sagemaker:…:{ACCOUNT}:KIND/NAME, KIND/NAME or *, "
            f"got {resource!r}"
        )
    return kind, name


def _doubts(made: Policy) -> Iterator[str]:
    """Name the actions that nothing here asks for: a Deny on them protects nothing."""
    for statement in made.statements:
        for pattern in statement.actions:
            service = pattern.partition(":")[0]
            fits = glob(pattern)
            if not any(fits(action.lower()) for action in ACTIONS):
                hint = nearest(pattern, {action.lower() for action in ACTIONS})
                more = "" if service in ("sagemaker", "featureline") else " of another service"
                yield f"{statement.label}: no call here asks for {pattern!r}{more}{hint}"


def _token_row(entry: Token, now: int) -> dict[str, Any]:
    return {
        "id": entry.id,
        "principal": entry.principal,
        "policies": list(entry.policies),
        "tags": dict(entry.tags),
        "state": entry.state(now),
        "created": eventtime.format_iso(entry.created_us),
        "expires": _time(entry.expires_us),
        "revoked": _time(entry.revoked_us),
        "last_used": _time(entry.last_used_us),
    }


def _time(us: int | None) -> str | None:
    return None if us is None else eventtime.format_iso(us)


def _cell(value: Any) -> Any:
    if value is None:
        return "-"
    return ", ".join(value) if isinstance(value, list) else value


def _duration_us(text: str) -> int:
    found = _DURATION.match(text)
    if found is None:
        raise click.UsageError(
            f"--expires: expected a number and s, m, h, d or w, like 90d, got {text!r}"
        )
    return int(found[1]) * _SECONDS[found[2]] * 1_000_000


def _moment_us(text: str) -> int:
    try:
        return eventtime.parse_iso(text)
    except ValueError as error:
        raise click.UsageError(f"--at: {error}") from error


def _pairs(option: str, entries: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for entry in entries:
        key, equals, value = entry.partition("=")
        if not equals or not key:
            raise click.UsageError(f"{option}: expected KEY=VALUE, got {entry!r}")
        pairs[key] = value
    return pairs


def _home(home: Path | None) -> Path:
    return Path(home or os.environ.get("FEATURELINE_HOME") or ".featureline").resolve()


@contextmanager
def _opened(home: Path | None) -> Iterator[AccessDatabase]:
    database = AccessDatabase(_home(home))
    try:
        yield database
    finally:
        database.close()
