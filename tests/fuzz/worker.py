"""The child: runs cases one after another and says of each how it ended."""

from __future__ import annotations

import json
import resource
import shutil
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from fuzz import recording_targets
from fuzz.registry import InvalidInputError, Target, UnjudgedError, same, targets
from helpers.common import resident

MEMORY = 2 << 30
"""Address space that a case may add to that of the process."""
GROWTH = 384 << 20
"""Resident memory that a case may add."""


def run_case(target: Target, seed: int, number: int, folder: Path) -> dict[str, Any]:
    """One case: its outcome and, for a fault, what happened."""
    from sparse_mrnn.errors import RoundingWarning, SparseMRNNError, StepSizeWarning

    rng = np.random.default_rng([seed, number])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            target.make(folder, rng)
        except Exception:
            return {"outcome": "harness", "detail": traceback.format_exc()[-1500:]}
        warnings.simplefilter("error")
        for what_a_user_is_told in (RoundingWarning, StepSizeWarning):
            warnings.simplefilter("ignore", what_a_user_is_told)
        try:
            found = target.load(folder)
        except SparseMRNNError as error:
            return {"outcome": "refused", "detail": str(error)[:300]}
        except MemoryError:
            return {"outcome": "memory", "detail": traceback.format_exc()[-1500:]}
        except BaseException:  # whatever reaches a user
            return {"outcome": "raw", "detail": traceback.format_exc()[-1500:]}
        if target.oracle is None:
            return {"outcome": "read"}
        warnings.simplefilter("ignore")
        try:
            expected = target.oracle(folder)
        except InvalidInputError as error:
            return {"outcome": "silent", "detail": f"accepted, though {error}"}
        except UnjudgedError:
            return {"outcome": "unjudged"}
        except Exception:
            return {"outcome": "harness", "detail": traceback.format_exc()[-1500:]}
    if expected is None:
        return {"outcome": "unjudged"}
    if same(found, expected):
        return {"outcome": "read"}
    return {"outcome": "silent", "detail": f"read     {found!r:.700}\nexpected {expected!r:.700}"}


def main() -> None:
    """Read lines of JSON (name, seed, number), write one for each."""
    everything = targets()
    import sparse_mrnn.connectome
    import sparse_mrnn.interop  # noqa: F401

    recording_targets.store("whole")  # which loads and compiles what the limit must not count
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    root = Path(tempfile.mkdtemp(prefix="fuzz"))
    print("ready", flush=True)
    try:
        for line in sys.stdin:
            name, seed, number = json.loads(line)
            folder = root / str(number)
            folder.mkdir()
            before = resident("VmRSS", forget_peak=True)
            result = run_case(everything[name], seed, number, folder)
            grown = resident("VmHWM") - before
            if grown > GROWTH:
                result = {"outcome": "memory", "detail": f"{grown >> 20} MiB more"}
            shutil.rmtree(folder, ignore_errors=True)
            print(json.dumps(result), flush=True)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
