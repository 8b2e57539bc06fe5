"""`python -m tests.benchmarks [NAME …] [--tiny | --full] [--out FOLDER]`."""

from __future__ import annotations

import argparse
import importlib
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.benchmarks import harness
from tests.benchmarks.child import module_command
from tests.benchmarks.harness import BenchmarkSkipped, Size

BENCHMARKS: Final = (
    "online",
    "offline",
    "windows",
    "ingest",
    "lineage",
    "training",
    "encryption",
    "redis",
)


def main(arguments: list[str]) -> int:
    """Run the named benchmarks, or all, each in a process of its own."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Print a table per benchmark and write FOLDER/NAME.json.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument(
        "--tiny",
        dest="size",
        action="store_const",
        const=Size.TINY,
        default=Size.DEFAULT,
        help="only see that they work, in a few seconds each; no bars",
    )
    sizes.add_argument(
        "--full",
        dest="size",
        action="store_const",
        const=Size.FULL,
        help="the sizes that the bars name; minutes each",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="default: build/bench, or build/bench/tiny, so that trying out keeps the figures",
    )
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"expected {', '.join(BENCHMARKS)}, got {', '.join(sorted(unknown))}")
    names = options.names or list(BENCHMARKS)
    out = options.out or Path("build/bench") / ("tiny" if options.size is Size.TINY else "")
    if len(names) > 1:
        flags = [] if options.size is Size.DEFAULT else [f"--{options.size.value}"]
        statuses = [_in_own_process(name, *flags, "--out", out) for name in names]
        return int(any(statuses))
    return _run(names[0], options.size, out.resolve())


def _in_own_process(name: str, *flags: object) -> int:
    # What one leaves behind (threads, memory, an open gRPC) must not slow the next.
    return subprocess.run(module_command("tests.benchmarks", name, *flags), check=False).returncode


def _run(name: str, size: Size, out: Path) -> int:
    print(f"{name} ({size.value})", file=sys.stderr)
    benchmark = importlib.import_module(f"tests.benchmarks.{name}")
    machine = harness.machine(size)
    began = time.monotonic()
    # Beside the results, not in a system folder that may lie in memory: the disk is measured too.
    out.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=out))
    try:
        figures = benchmark.run(size, work)
    except BenchmarkSkipped as reason:
        print(f"{name}: not run: {reason}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(work, ignore_errors=True)
    harness.note(f"took {time.monotonic() - began:.0f} s")
    harness.print_table(name, figures, machine)
    harness.write_figures(out / f"{name}.json", figures, machine)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
