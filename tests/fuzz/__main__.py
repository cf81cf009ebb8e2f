"""Command line of the fuzzer."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from fuzz.registry import in_turn, targets
from fuzz.runner import fuzz
from fuzz.worker import run_case


def main() -> None:
    """Run, print counts as JSON; exit status 1 if a case ended badly."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Fuzz all that reads files.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    parser.add_argument("--target", action="append", help="only this target; repeatable")
    parser.add_argument("--children", type=int, default=2)
    parser.add_argument("--case", type=int, help="run one case in this process, and keep its files")
    options = parser.parse_args()
    if options.case is not None:
        names = in_turn(options.target)
        folder = Path(tempfile.mkdtemp(prefix="case"))
        target = targets()[names[options.case % len(names)]]
        print(target.name, folder, json.dumps(run_case(target, options.seed, options.case, folder), indent=1))
        return
    start = time.monotonic()
    report = fuzz(
        options.seed, options.cases, names=options.target, seconds=options.seconds, children=options.children
    )
    total = report.total()
    summary = {
        "seed": options.seed,
        "cases": total.total(),
        "seconds": round(time.monotonic() - start),
        "outcomes": dict(total),
        "targets": {name: dict(count) for name, count in sorted(report.counts.items())},
        "faults": report.faults,
    }
    print(json.dumps(summary, indent=1))
    sys.exit(bool(report.faults))


if __name__ == "__main__":
    main()
