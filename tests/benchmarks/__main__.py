"""Run the works and print the table; exit code 1 if one is over its bound."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterable, Iterator

from tests.benchmarks.arena import CORES, Arena
from tests.benchmarks.registry import WORKS
from tests.benchmarks.report import Row, as_json, head, line

BUSY = 1.5


def main(words: list[str] | None = None) -> int:
    """Do what the command line says."""
    options = _parser().parse_args(words)
    load = os.getloadavg()[0]
    if load > BUSY:
        print(f"warning: load average {load:.2f}: others are at work here, the ratios will be noisy", file=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with Arena(options.scale) as arena:
        rows = list(_measured(arena, options.only or WORKS, shown=not options.json))
    if options.json:
        print(as_json(rows, {"cores": CORES, "load": load, "scale": options.scale}))
    return int(any(row.verdict == "over" for row in rows))


def _measured(arena: Arena, names: Iterable[str], *, shown: bool) -> Iterator[Row]:
    """Run works, showing each row as it comes."""
    if shown:
        print(head(), flush=True)
    for name in names:
        for row in WORKS[name](arena):
            if shown:
                print(line(row), flush=True)
            yield row


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", metavar="NAME", choices=WORKS, action="append", help=f"one of: {', '.join(WORKS)}")
    parser.add_argument("--scale", type=float, default=1.0, metavar="FLOAT", help="size of the works (default: 1.0)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
