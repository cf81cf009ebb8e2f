"""The parent: shares cases out among children, restarts those that die or hang, and counts."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz.registry import in_turn

TESTS = Path(__file__).parent.parent
ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
    "MALLOC_ARENA_MAX": "2",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""The package beside the tests is what is fuzzed; threads and their arenas would use up the address space."""
GOOD = ("read", "refused", "unjudged")
SECONDS = 30
"""A case that takes longer hangs."""


@dataclass
class Report:
    """The outcomes of the cases of each target, and the cases that ended badly."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    faults: list[dict[str, Any]] = field(default_factory=list)

    def add(self, name: str, seed: int, number: int, result: dict[str, Any]) -> None:
        """Count a case."""
        self.counts.setdefault(name, Counter())[result["outcome"]] += 1
        if result["outcome"] not in GOOD:
            self.faults.append({"target": name, "seed": seed, "case": number, **result})

    def total(self) -> Counter[str]:
        """Cases by outcome."""
        return sum(self.counts.values(), Counter())


class Child:
    """A worker process, started again after a case that ended it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fuzz.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, cwd=TESTS, env=os.environ | ENVIRONMENT,
        )  # fmt: skip
        self._line(300)

    def _line(self, seconds: float) -> str | None:
        stdout = self.process.stdout
        assert stdout is not None
        ready, _, _ = select.select([stdout], [], [], seconds)
        return stdout.readline() if ready else None

    def run(self, name: str, seed: int, number: int) -> dict[str, Any]:
        """A case's outcome; "died" and "hung" end the child."""
        assert self.process.stdin is not None
        print(json.dumps([name, seed, number]), file=self.process.stdin, flush=True)
        line = self._line(SECONDS)
        if line:
            result: dict[str, Any] = json.loads(line)
            return result
        if line is None:
            self.process.kill()
            self.process.wait()
            return {"outcome": "hung", "detail": f"more than {SECONDS} s"}
        return {"outcome": "died", "detail": f"exit status {self.process.wait()}"}

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(BrokenPipeError):
            self.process.communicate()


def fuzz(
    seed: int, cases: int, names: list[str] | None = None, seconds: float = float("inf"), children: int = 2
) -> Report:
    """Run cases of some targets (default: all) in turn, until there are so many or the time is over."""
    names = in_turn(names)
    report, lock, stop = Report(), threading.Lock(), time.monotonic() + seconds
    numbers = iter(range(cases))

    def work() -> None:
        child = Child()
        try:
            while time.monotonic() < stop:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                name = names[number % len(names)]
                result = child.run(name, seed, number)
                with lock:
                    report.add(name, seed, number, result)
                if result["outcome"] in ("died", "hung", "memory"):
                    child.close()
                    child = Child()
        finally:
            child.close()

    threads = [threading.Thread(target=work) for _ in range(children)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return report
