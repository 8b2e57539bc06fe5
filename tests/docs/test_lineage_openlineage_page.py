"""The worked example of `docs/lineage-openlineage.md`: client, server, query, and back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from featureline.server.http import HttpServer
from featurestore.embedded import open_store
from tests.docs.pages import run_examples


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Where a server of the home `store` listens."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    with closing(open_store(tmp_path / "store")) as store:
        server = HttpServer(store, "127.0.0.1:0")
        asyncio.run_coroutine_threadsafe(server.start(), loop).result()
        yield server.address
        asyncio.run_coroutine_threadsafe(server.stop(1.0), loop).result()
    asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_the_pages_examples_run(
    address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    run_examples("lineage-openlineage", expected=4, names={"address": address})
