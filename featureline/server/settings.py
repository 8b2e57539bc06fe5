"""How a server runs."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self, final

__all__ = ["Settings", "Tls"]


@final
@dataclass(frozen=True)
class Tls:
    """The files of a listener that speaks TLS, as PEM.

    Args:
        certificate: of the server, with the chain that leads to its authority.
        key: private, without a passphrase.
        client_ca: of the authorities whose certificates clients must show; None: they need none.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None


@final
@dataclass(frozen=True)
class Settings:
    """How a server runs.

    Args:
        home: folder of the stores.
        grpc: `host:port`; port 0 takes a free one.
        flush_s: how often the outbox is moved into the Delta tables, seconds.
        front: what speaks gRPC: `grpc`, `native`, or `auto` for native where it is installed and
            the listener is plaintext.
        workers: processes that serve the home on one port.
        tls: None: plaintext.
        drain_s: how long calls in flight may take to finish at the end, seconds.
        metrics: `host:port` of the pages for operators; None: there are none.
        log_format: `text` or `json`.
        slow_ms: calls that take longer are logged, a few of a kind; None: none is.
        flush_records: the outbox is moved as soon as so many records wait; None: by time only.
        flush_bytes: or so many bytes.
        maintain_s: how often the offline tables are maintained, seconds; None: never.
        outbox_records: writes are refused while so many records wait; None: never.
        outbox_bytes: or so many bytes.
        dataset_memory_bytes: what one build of a dataset into a file may take.
        scripts: whether callers' jobs may run programs of this machine.
        run: names the run, where a supervisor sums the counts of several workers.
        http: `host:port` of the HTTP listener; None: there is none.
        emit: URL or file to which jobs are sent as events of OpenLineage; None: they are not.
        online: URL of the online store, with its login; None: the one that the home remembers.

    >>> settings = Settings(Path("home"), "127.0.0.1:0", online="redis://:secret@cache")
    >>> Settings.from_json(settings.to_json()).home.name, "secret" in settings.to_json()
    ('home', False)
    """

    home: Path
    grpc: str
    flush_s: float = 30.0
    front: str = "auto"
    workers: int = 1
    tls: Tls | None = None
    drain_s: float = 10.0
    metrics: str | None = None
    log_format: str = "text"
    slow_ms: float | None = None
    flush_records: int | None = 500_000
    flush_bytes: int | None = 256 << 20
    maintain_s: float | None = 3600.0
    outbox_records: int | None = 20_000_000
    outbox_bytes: int | None = 16 << 30
    dataset_memory_bytes: int = 1 << 30
    scripts: bool = False
    run: str = ""
    http: str | None = None
    emit: str | None = None
    online: str | None = field(default=None, repr=False)

    def to_json(self) -> str:
        """Write them for the process of a worker, without `online`.

        Everybody on the machine sees the arguments of a process; secrets go by `environment`.
        """
        values = asdict(self)
        del values["online"]
        return json.dumps(values, default=str)

    def environment(self) -> dict[str, str]:
        """Return this process's environment variables, with what `to_json` leaves out."""
        secrets = {} if self.online is None else {"FEATURELINE_ONLINE": self.online}
        return {**os.environ, **secrets}

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        values = json.loads(text)
        tls = values.pop("tls")
        if tls is not None:
            client_ca = tls.pop("client_ca")
            files = {name: Path(path) for name, path in tls.items()}
            tls = Tls(**files, client_ca=None if client_ca is None else Path(client_ca))
        return cls(home=Path(values.pop("home")), tls=tls, **values)
