"""A child process with limits of memory and time, which reads what compiled code cannot be trusted with.

The child is this file as a script. It sends the variables of a .mat file as a line of JSON (name, type, shape
of each array) and their bytes; nothing is unpickled. It imports nothing of the package, so it starts quickly.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

MEMORY = 4 << 30
"""Bytes of address space of the child."""
SECONDS, RATE = 30, 10e6
"""Seconds that the child may take, and bytes of the file that add one."""


class ReadingError(Exception):
    """The child could not read the file; the message says why."""


def read_mat(path: Path) -> dict[str, dict[str, Any]]:
    """Read a .mat file's variables: "matrix"; of a sparse one "row", "col", "data", "shape"; or "text"."""
    command = [sys.executable, "-P", __file__, str(path)]
    one_thread = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # each maps memory
    options: dict[str, Any] = {"capture_output": True, "stdin": subprocess.DEVNULL, "env": one_thread}
    limit = SECONDS + path.stat().st_size / RATE
    try:
        child = subprocess.run(command, timeout=limit, check=False, **options)
    except subprocess.TimeoutExpired:
        raise ReadingError(f"reading it takes more than {limit:.1f} s") from None
    if child.returncode < 0:
        raise ReadingError(f"it crashes the reader (signal {-child.returncode})")
    head, _, body = child.stdout.partition(b"\n")
    if child.returncode or not head:
        last_line = child.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise ReadingError(last_line or "unknown damage")
    variables: dict[str, dict[str, Any]] = {}
    start = 0
    for name, part, value in json.loads(head):
        if part not in ("text", "shape"):
            kind, shape = np.dtype(value["type"]), tuple(value["shape"])
            stop = start + kind.itemsize * int(np.prod(shape, dtype=np.int64))
            value = np.frombuffer(body[start:stop], kind).reshape(shape)
            start = stop
        variables.setdefault(name, {})[part] = value
    return variables


def _send(path: str) -> None:
    """Read a file and print its variables, in the child."""
    import scipy.io
    import scipy.sparse as sp

    parts: list[tuple[str, str, Any]] = []
    arrays: list[np.ndarray[Any, Any]] = []

    def add(name: str, part: str, values: Any) -> None:
        values = np.ascontiguousarray(values)
        arrays.append(values)
        parts.append((name, part, {"type": values.dtype.str, "shape": values.shape}))

    for name, value in scipy.io.loadmat(path).items():
        if name.startswith("__"):
            continue
        if sp.issparse(value):
            entries = value.tocoo()
            parts.append((name, "shape", [int(n) for n in value.shape]))
            for part in ("row", "col", "data"):
                add(name, part, getattr(entries, part))
        elif isinstance(value, np.ndarray) and value.dtype.kind in "OU":
            parts.append((name, "text", [str(np.squeeze(item)).strip() for item in np.ravel(value)]))
        elif isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
            add(name, "matrix", value)
    sys.stdout.buffer.write(json.dumps(parts).encode() + b"\n")
    for values in arrays:
        sys.stdout.buffer.write(values.tobytes())


def _limit() -> None:
    """Limit the memory of this process, the child."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY if most == resource.RLIM_INFINITY else min(MEMORY, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))


if __name__ == "__main__":
    _limit()
    try:
        _send(sys.argv[1])
    except MemoryError:
        sys.exit(f"it needs more than {MEMORY:,} bytes")
    except BaseException as error:  # whatever it is, the parent names the file
        sys.exit(f"{type(error).__name__}: {error}")
