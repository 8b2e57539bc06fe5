"""A process that puts records in a child, made anew at every line on its standard input.

Forking from a process that has imported everything makes a life of a few milliseconds possible,
so that kills also land in the first moments. A line is the first number to put. Answers with the
child's process id, and with `gone` once it was killed. The child puts one number after the other,
writes each into a file when the store has acknowledged it, and flushes now and then.

Arguments: the store's home, the file of acknowledged numbers.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import featurestore

STATIONS = 5
FLUSH_EVERY = 40


def put(home: str, acknowledged: int, first: int) -> NoReturn:
    store = featurestore.open(home)
    number = first
    while True:
        minutes, second = divmod(number, 60)
        hour, minute = divmod(minutes, 60)
        record = {
            "station": f"s{number % STATIONS}",
            "time": f"2024-01-01T{hour:02d}:{minute:02d}:{second:02d}Z",
            "count": number,
        }
        store.put("readings", record)
        os.write(acknowledged, b"%d\n" % number)
        number += 1
        if number % FLUSH_EVERY == 0:
            store.flush("readings")


def main() -> None:
    home, path = sys.argv[1:]
    acknowledged = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            put(home, acknowledged, int(line))
        print(child, flush=True)
        os.waitpid(child, 0)
        print("gone", flush=True)


if __name__ == "__main__":
    main()
