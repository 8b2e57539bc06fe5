"""`python -m tests.benchmarks.quality [NAME …]`: measure algorithms and write their pages' tables.

Each module beside this one measures one algorithm: its `measure()` returns rows. A reference
library that is not installed is named with how to get it.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Final

from tests.benchmarks.quality.harness import write
from training import list_algorithms

_HERE: Final = Path(__file__).parent
_ROOT: Final = _HERE.parents[2]


def main(arguments: list[str]) -> int:
    """Measure the named algorithms, or all that have a module here."""
    known = [name for name in list_algorithms() if (_HERE / f"{_module(name)}.py").is_file()]
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.quality")
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[*known, []])
    missed = 0
    for name in parser.parse_args(arguments).names or known:
        print(f"measuring {name}", file=sys.stderr, flush=True)
        rows = importlib.import_module(f"tests.benchmarks.quality.{_module(name)}").measure()
        page = _ROOT / "docs" / "algorithms" / f"{name}.md"
        write(name, rows, page=page, figures=_ROOT / "build" / "bench")
        for row in rows:
            print(f"  {row.case}: {row.measure} {row.ours:.4g} (met: {row.met})")
            missed += row.met is False
    return 1 if missed else 0


def _module(name: str) -> str:
    return name.replace("-", "_")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
