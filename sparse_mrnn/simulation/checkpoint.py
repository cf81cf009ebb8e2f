"""Checkpoints of a run: one file, written beside its path and renamed, so it is whole or the one before."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.errors import ResumeError
from sparse_mrnn.recording.store import sync

DESCRIPTION = "description"


def save(path: Path, arrays: dict[str, NDArray[Any]], description: dict[str, Any]) -> None:
    """Write arrays, and a description as JSON; the file is on disk whole on return, or the old one still
    is."""
    partial = path.with_name(path.name + ".partial")
    text = np.frombuffer(json.dumps(description).encode(), dtype=np.uint8)
    try:
        with open(partial, "wb") as file:
            np.savez(file, **{DESCRIPTION: text}, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def load(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read a checkpoint.

    Raises
    ------
    ResumeError
        If it cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
            return arrays, json.loads(arrays.pop(DESCRIPTION).tobytes())
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        advice = "Start the run anew with mode='overwrite' (--overwrite)."
        raise ResumeError(f"cannot read the checkpoint {path}: {error}. {advice}") from error
