"""What a Redis store demands of its servers: when it is opened, and while it is used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from featurestore.errors import StoreUnavailable
from featurestore.online.redis_link import Link, information
from featurestore.online.redis_url import DURABILITIES

__all__ = ["check_facts", "check_servers"]

_OLDEST: Final = (6, 2)  # XTRIM MINID
_SETTINGS: Final = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite")
_LOSS: Final = {
    "everysec": "a crash of the machine loses the last second",
    "none": "a crash of Redis loses what it had not saved",
}


def check_servers(link: Link) -> None:
    """Refuse servers that would lose or evict what was acknowledged.

    Every primary must be one (no replica), be new enough, evict nothing, and keep the append-only
    file as strictly as the URL's `durability` says.

    Raises:
        StoreUnavailable: names the server, the setting, its value and what to do.
    """
    commands = [("INFO",), *(("CONFIG", "GET", name) for name in _SETTINGS)]
    for where, (info, *settings) in link.every(commands):
        facts = information(link.checked(info))
        _check_version(where, facts)
        _check_durability(where, link.url.durability, facts, settings)
        check_facts(where, link.url.durability, facts)


def check_facts(where: str, accepted: str, facts: Mapping[str, str]) -> None:
    """Refuse a server that by its INFO would lose or evict what was acknowledged.

    Settings may change while a store is open, and this much is seen at no further cost.

    Args:
        where: of the server.
        accepted: the URL's `durability`.
        facts: of INFO.

    Raises:
        StoreUnavailable: names the server, what it is, and what to do.
    """
    if facts.get("role") != "master":
        raise StoreUnavailable(
            f"Redis at {where} is a replica and takes no writes; connect to its primary "
            f"{facts.get('master_host')}:{facts.get('master_port')}"
        )
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise StoreUnavailable(
            f"Redis at {where} has maxmemory-policy {policy} and would throw records away "
            f"when its memory is full; set `maxmemory-policy noeviction`"
        )
    if accepted == "none":
        return
    if facts.get("aof_enabled") != "1":
        raise StoreUnavailable(
            f"Redis at {where} keeps no append-only file any more, so that an acknowledged put is "
            f"not durable; set `appendonly yes`"
        )
    if facts.get("aof_last_write_status") == "err":
        raise StoreUnavailable(
            f"Redis at {where} cannot write its append-only file; free space on its disk"
        )


def _check_version(where: str, facts: Mapping[str, str]) -> None:
    version = facts.get("redis_version", "")
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None or (int(found[1]), int(found[2])) < _OLDEST:
        raise StoreUnavailable(
            f"Redis at {where}: expected version {_OLDEST[0]}.{_OLDEST[1]} or later, got "
            f"{version!r}; update it"
        )


def _check_durability(
    where: str, accepted: str, facts: Mapping[str, str], settings: list[Any]
) -> None:
    if accepted == "none":
        return
    if any(isinstance(answer, Exception) or not answer for answer in settings):
        raise StoreUnavailable(
            f"Redis at {where} does not show its settings (CONFIG GET), so that nothing says "
            f"whether an acknowledged put is durable; allow the user +config|get, or accept it "
            f"with ?durability=none"
        )
    appendonly, appendfsync, lazy = (answer[1].decode() for answer in settings)
    # With no-appendfsync-on-rewrite there is no fsync at all while the file is rewritten, which
    # may take minutes; with appendfsync no the system writes when it likes.
    have = "none"
    kept = appendonly == "yes" and facts.get("aof_enabled") == "1" and lazy == "no"
    if kept and appendfsync in DURABILITIES:
        have = appendfsync
    if DURABILITIES.index(have) > DURABILITIES.index(accepted):
        wanted = f"appendonly yes, appendfsync {accepted}"
        if accepted == "always":
            wanted += ", no-appendfsync-on-rewrite no"
        raise StoreUnavailable(
            f"Redis at {where} does not make an acknowledged put durable: expected {wanted}; got "
            f"appendonly {appendonly}, appendfsync {appendfsync}, no-appendfsync-on-rewrite "
            f"{lazy}. Set them, or accept with ?durability={have} that {_LOSS[have]}"
        )
