"""`featureline erase`: identifiers leave every store, and a signed report says so."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from featureline.cli.output import emit, read_json
from featureline.cli.store import common_options, open_any
from featureline.erasing import reach_everything
from featurestore.embedded import EmbeddedStore
from featurestore.erasure import ErasureReport, verify_report
from featurestore.erasure.signing import PUBLIC, public_key_of
from featurestore.errors import InvalidRequest, StoreUnavailable

__all__ = ["erase"]

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("group", required=False)
@click.argument("identifiers", nargs=-1, metavar="ID…")
@click.option("--reason", default="", help="For the report; it must not name an identifier.")
@click.option(
    "--datasets",
    type=click.Choice(["keep", "delete"]),
    default="keep",
    show_default=True,
    help="What becomes of saved datasets with rows of the identifiers.",
)
@click.option("--out", type=_FILE, metavar="REPORT.json", help="Write the signed report there.")
@click.option(
    "--verify", "check", type=_FILE, metavar="REPORT.json", help="Check a report; erase nothing."
)
@click.option(
    "--public-key",
    type=_FILE,
    help=f"The key that must have signed it.  [default: {PUBLIC} of the home, if there is one]",
)
@common_options
def erase(
    group: str | None,
    identifiers: tuple[str, ...],
    reason: str,
    datasets: str,
    out: Path | None,
    check: Path | None,
    public_key: Path | None,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Erase the identifiers ID… of GROUP from every store, and report it, signed.

    All their records with an event time up to now go: online, in the outbox, in every version of
    the offline table, in dead letters. Those that arrive later are erased on arrival; a later
    record is a new one. The report names the datasets and models that have seen them. A second
    try finishes an erasure that was cut. Exit code 0 also when nothing was held.
    """
    if check is not None:
        if group is not None or out is not None:
            raise click.UsageError("--verify checks a report and takes neither GROUP nor --out")
        _verify(check, public_key, home, as_json=as_json)
        return
    if group is None or not identifiers:
        raise click.UsageError("give GROUP and one identifier or more, or --verify REPORT.json")
    if public_key is not None:
        raise click.UsageError("--public-key is for --verify")
    if out is not None and not out.absolute().parent.is_dir():
        raise InvalidRequest(f"--out {out}: the folder does not exist; nothing was erased")
    with open_any(home, connect) as store:
        if isinstance(store, EmbeddedStore):
            reach_everything(store)
        report = store.erase(group, identifiers, reason=reason, datasets=datasets)
    document = report.to_json()
    if out is not None:
        try:
            out.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        except OSError as error:
            raise StoreUnavailable(
                f"--out {out}: {error.strerror}; the erasure is done, and its report is in the "
                f"home, as erasures/{report.erasure}.report.json"
            ) from error
    emit(document, as_json=as_json, text=_text(report, out))


def _verify(path: Path, public_key: Path | None, home: Path | None, *, as_json: bool) -> None:
    if not path.exists():
        raise InvalidRequest(f"{path}: no such file")
    chosen = public_key
    if chosen is None:
        folder = home or Path(os.environ.get("FEATURELINE_HOME") or ".featureline")
        chosen = folder / PUBLIC if (folder / PUBLIC).exists() else None
    report = verify_report(
        read_json(path), public_key=None if chosen is None else public_key_of(chosen)
    )
    body: dict[str, Any] = {
        "valid": True,
        "erasure": report.erasure,
        "signer": "the key it names" if chosen is None else str(chosen),
    }
    text = f"{path}: valid, erasure {report.erasure}, signed by {body['signer']}"
    if chosen is None:
        text += "\n  it is not altered; who signed it only a --public-key can tell"
    emit(body, as_json=as_json, text=text)


def _text(report: ErasureReport, out: Path | None) -> str:
    document = report.document
    offline = document["offline"]
    if not report.is_found:
        lines = [f"{document['group']}: nothing was held of the identifiers (erasure "]
        lines[0] += f"{report.erasure}); from now on late records of them are erased on arrival"
    else:
        lines = [
            f"{document['group']}: erased {len(document['identifiers'])} identifiers (erasure "
            f"{report.erasure})",
            f"  online: {document['online']['removed']} records",
            f"  offline: {offline['rows']} rows, {len(offline['files_deleted'])} files deleted; "
            f"versions lost: {_stretches(offline['versions_lost'])}",
            *(
                f"  {name}: {holder.get('removed', 0)} removed"
                for name, holder in document["elsewhere"].items()
            ),
        ]
    for one in report.datasets:
        seen = f"{one['rows']} rows of them" if one["holds"] == "yes" else "may have seen them"
        lines.append(f"  {one['name']}: {seen}{', deleted' if one.get('deleted') else ''}")
    lines += [f"  model {one['name']}: may have seen them ({one['uid']})" for one in report.models]
    lines += [f"  not reached: {text}" for text in report.not_reached]
    if out is not None:
        lines.append(f"  report: {out}")
    return "\n".join(lines)


def _stretches(held: list[list[int]]) -> str:
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in held) or "none"
