"""`featureline serve` and `featureline demo`: what runs by itself."""

from __future__ import annotations

import os
from pathlib import Path

import click

import lineage
from featureline import demo as demo_module
from featureline import logs, server
from featurestore import InvalidRequest
from featurestore.streamed import memory_bytes

__all__ = ["demo", "serve"]

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    default=".featureline",
    envvar="FEATURELINE_HOME",
    show_default=True,
    help="Folder of the stores.",
)
@click.option(
    "--online",
    metavar="URL",
    envvar="FEATURELINE_ONLINE",
    help="The online store in Redis or Valkey: redis://HOST:PORT/0, rediss://… or "
    "redis+cluster://…; a URL with a password belongs into $FEATURELINE_ONLINE, where other users "
    "do not see it.  [default: the one that the home remembers, at first LMDB in it]",
)
@click.option(
    "--lineage",
    "lineage_url",
    metavar="URL",
    help="The lineage in PostgreSQL: postgresql://HOST/DATABASE; a URL with a password belongs "
    "into $FEATURELINE_LINEAGE, where other users do not see it.  [default: the one that the home "
    "remembers, at first a file in it]",
)
@click.option(
    "--grpc",
    "address",
    default="127.0.0.1:50051",
    show_default=True,
    metavar="HOST:PORT",
    help="Where to listen; port 0 takes a free one.",
)
@click.option(
    "--http",
    metavar="HOST:PORT",
    help="Where to take events of OpenLineage over HTTP: POST /api/v1/lineage; port 0 takes a free "
    "one.  [default: nowhere]",
)
@click.option(
    "--emit-lineage",
    "emit",
    metavar="URL|FILE",
    help="Send every job as events of OpenLineage there; the token of an endpoint is taken from "
    "$OPENLINEAGE_API_KEY.  [default: nowhere]",
)
@click.option(
    "--front",
    type=click.Choice(["auto", "grpc", "native"]),
    default="auto",
    show_default=True,
    help="What speaks gRPC.",
)
@click.option(
    "--flush-seconds",
    type=click.FloatRange(min=0.1),
    default=30.0,
    show_default=True,
    help="How often the outbox is moved into the Delta tables.",
)
@click.option(
    "--flush-records",
    type=click.IntRange(min=1),
    default=500_000,
    show_default=True,
    help="Move it as soon as so many records wait, too.",
)
@click.option(
    "--flush-bytes",
    type=click.IntRange(min=1),
    default=256 << 20,
    show_default=True,
    help="Move it as soon as so many bytes wait, too.",
)
@click.option(
    "--outbox-records",
    type=click.IntRange(min=1),
    default=20_000_000,
    show_default=True,
    help="Refuse writes while so many records wait, because the offline store is away.",
)
@click.option(
    "--outbox-bytes",
    type=click.IntRange(min=1),
    default=16 << 30,
    show_default=True,
    help="Refuse writes while so many bytes wait.",
)
@click.option(
    "--dataset-memory",
    default="1GB",
    show_default=True,
    metavar="SIZE",
    help="What one build of a dataset into a file may take, such as 512MB; clients may ask for "
    "less.",
)
@click.option(
    "--maintain-minutes",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="How often the offline tables are maintained (see `group maintain`); 0: never.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Processes that serve the home together on the one port.",
)
@click.option(
    "--tls-cert",
    type=_FILE,
    help="PEM certificate of the server: it speaks TLS then, by the front grpc.",
)
@click.option("--tls-key", type=_FILE, help="PEM private key of the certificate.")
@click.option(
    "--tls-client-ca",
    type=_FILE,
    help="PEM certificates of the authorities that clients' certificates must come from: mutual "
    "TLS.",
)
@click.option(
    "--scripts/--no-scripts",
    default=False,
    help="Let callers' training jobs run programs of this machine, with the server's rights.",
)
@click.option(
    "--drain-seconds",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    help="How long calls in flight and training jobs may take to finish after SIGTERM.",
)
@click.option(
    "--metrics",
    metavar="HOST:PORT",
    help="Where to offer /metrics, /healthz and /readyz to operators; port 0 takes a free one.",
)
@click.option(
    "--log-format",
    type=click.Choice(logs.FORMATS),
    default="text",
    show_default=True,
    help="Lines on stderr for people, or one JSON object each.",
)
@click.option(
    "--slow-ms",
    type=click.FloatRange(min=0),
    help="Log calls that take longer, a few of a kind.  [default: none]",
)
def serve(
    home: Path,
    online: str | None,
    lineage_url: str | None,
    address: str,
    http: str | None,
    emit: str | None,
    front: str,
    flush_seconds: float,
    flush_records: int,
    flush_bytes: int,
    outbox_records: int,
    outbox_bytes: int,
    dataset_memory: str,
    maintain_minutes: float,
    workers: int,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    scripts: bool,
    drain_seconds: float,
    metrics: str | None,
    log_format: str,
    slow_ms: float | None,
) -> None:
    """Serve the stores of a home over gRPC until SIGTERM or Ctrl-C; a second one ends it at once.

    Prints one line of JSON when it accepts calls.
    """
    logs.configure(log_format)
    if lineage_url or os.environ.get("FEATURELINE_LINEAGE") or lineage.spool_of(home):
        # The home remembers the place for the workers, and records what waited for it.
        lineage.open_home(home, lineage_url).close()
    server.serve(
        server.Settings(
            home,
            address,
            flush_seconds,
            front,
            workers,
            _tls(tls_cert, tls_key, tls_client_ca),
            drain_seconds,
            metrics,
            log_format,
            slow_ms,
            http=http,
            emit=emit,
            online=online,
            flush_records=flush_records,
            flush_bytes=flush_bytes,
            maintain_s=maintain_minutes * 60 or None,
            outbox_records=outbox_records,
            outbox_bytes=outbox_bytes,
            dataset_memory_bytes=_memory(dataset_memory),
            scripts=scripts,
        )
    )


def _memory(text: str) -> int:
    try:
        return memory_bytes(text)
    except InvalidRequest as error:
        problem = error.message.partition(": ")[2]
        raise click.UsageError(f"--dataset-memory: {problem}") from None


def _tls(certificate: Path | None, key: Path | None, client_ca: Path | None) -> server.Tls | None:
    if certificate is not None and key is not None:
        return server.Tls(certificate, key, client_ca)
    if (certificate, key, client_ca) == (None, None, None):
        return None
    raise click.UsageError("TLS takes --tls-cert and --tls-key together")


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default="build",
    show_default=True,
    help="Folder for demo.json, the lineage page and the demo's home, which is made anew.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="For DuckDB; the figures do not depend on it.  [default: all cores]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON document.")
def demo(out: Path, threads: int | None, as_json: bool) -> None:
    """Run the main job on real data: flights in, a trained model out, and a graph that says how."""
    demo_module.run(out, threads=threads, as_json=as_json)
