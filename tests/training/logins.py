"""Users who log in from the networks they live in."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

__all__ = ["make_logins"]


def make_logins(
    rows: int, *, seed: int, users: int = 40, networks: int = 8, most_homes: int = 2
) -> pa.Table:
    """Make `user` and `address`: 4 of 5 times a user's own address, else one of its network.

    Users, their networks and addresses are the same for every seed; networks are as popular as
    1 / rank ** 1.5.
    """
    world, random = np.random.default_rng(7), np.random.default_rng(seed)
    popularity = 1 / np.arange(1, networks + 1) ** 1.5
    upper = world.choice(65_536, networks, replace=False)
    homes = [
        world.choice(
            networks,
            world.integers(1, most_homes + 1),
            replace=False,
            p=popularity / popularity.sum(),
        )
        for _ in range(users)
    ]
    own = [world.integers(0, 65_536, len(some)) for some in homes]
    user = random.integers(0, users, rows)
    address = []
    for number in user.tolist():
        home = int(random.integers(len(homes[number])))
        is_own = random.random() < 0.8
        lower = int(own[number][home]) if is_own else int(random.integers(65_536))
        whole = int(upper[homes[number][home]]) * 65_536 + lower
        address.append(".".join(str(whole >> shift & 255) for shift in (24, 16, 8, 0)))
    return pa.table({"user": [f"user-{number}" for number in user.tolist()], "address": address})
