"""Checkpoints of a run: one file with a digest of its content, whole at its path or the one before."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.errors import ResumeError
from sparse_mrnn.recording.files import reason, whole_file

MAGIC = b"sparse_mrnn checkpoint 1\n"
DIGEST_BYTES = 32
DESCRIPTION = "description"


def save(path: Path, arrays: dict[str, NDArray[Any]], description: dict[str, Any]) -> None:
    """Write arrays, and a description as JSON: `MAGIC`, a digest of the rest, and the rest, which is .npz."""
    text = np.frombuffer(json.dumps(description).encode(), dtype=np.uint8)
    with whole_file(path) as file:
        file.write(MAGIC + bytes(DIGEST_BYTES))
        np.savez(file, **{DESCRIPTION: text}, **arrays)  # type: ignore[arg-type]
        digest = _digest(file)
        file.seek(len(MAGIC))
        file.write(digest)


def load(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read a checkpoint.

    Raises
    ------
    ResumeError
        If it cannot be read, or is not as it was written.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(len(MAGIC) + DIGEST_BYTES)
            if head[: len(MAGIC)] != MAGIC or head[len(MAGIC) :] != _digest(file):
                raise ValueError("it is not as it was written")
            file.seek(len(head))
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        return arrays, json.loads(arrays.pop(DESCRIPTION).tobytes())
    except (OSError, ValueError) as error:
        advice = "Restore it, or start the run anew with mode='overwrite' (--overwrite)."
        raise ResumeError(f"cannot read the checkpoint {path}: {reason(error)}. {advice}") from error


def _digest(file: IO[bytes]) -> bytes:
    """The digest of what follows the head of a file."""
    found = hashlib.blake2b(digest_size=DIGEST_BYTES)
    file.flush()
    file.seek(len(MAGIC) + DIGEST_BYTES)
    while piece := file.read(2**20):
        found.update(piece)
    return found.digest()
