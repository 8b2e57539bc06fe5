"""`python -m tests.soak [NAME] [--minutes N] [--seed N] [--kills N] [--out FOLDER]`."""

from __future__ import annotations

import argparse
import importlib
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.soak.figure import Figure, machine, print_table, write_figures

# Each run's share of the minutes.
RUNS: Final = {"kills": 0.35, "flusher": 0.1, "load": 0.15, "ingest": 0.3, "lineage": 0.1}


def main(arguments: list[str]) -> int:
    """Run the named soak test, or all; exit code 1 when a bar is not met."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description="Print one table and write FOLDER/NAME.json."
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="for all; default: 10")
    one = "one of them, for all the minutes"
    parser.add_argument("name", nargs="?", choices=sorted(RUNS), help=one)
    parser.add_argument("--only", choices=sorted(RUNS), help="the same")
    parser.add_argument("--kills", type=int, help="of the ingesting process; default: 100")
    parser.add_argument("--seed", type=int, help="of what is random; default: another each time")
    parser.add_argument("--out", type=Path, default=Path("build/soak"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    only = options.name or options.only
    shares = {only: 1.0} if only else RUNS
    found: dict[str, Sequence[Figure]] = {}
    failed = False
    for name, share in shares.items():
        print(f"{name}: {options.minutes * share:.1f} minutes, seed {seed}", file=sys.stderr)
        # On the disk of the results: a system folder may lie in memory.
        work = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=out))
        began = time.monotonic()
        run = importlib.import_module(f"tests.soak.{name}").run
        more = {"kills": options.kills} if name == "ingest" else {}
        found[name] = run(options.minutes * 60 * share, work / "run", seed, **more)
        write_figures(out / f"{name}.json", found[name], time.monotonic() - began)
        if all(figure.is_met is not False for figure in found[name]):
            shutil.rmtree(work)
        else:
            failed = True
            print(f"{name}: a bar is not met; its files are kept in {work}", file=sys.stderr)
    where = machine()
    print(
        f"\n{options.minutes:g} minutes, seed {seed}; {where['cores']} cores, {where['system']}\n"
    )
    print_table(found)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
