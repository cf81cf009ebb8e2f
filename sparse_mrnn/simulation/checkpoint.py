"""Checkpoints of a run: a file of tensors with a digest, whole at its path or the one before."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from torch import Tensor

from sparse_mrnn.errors import ResumeError, SavedFileError
from sparse_mrnn.files.tensors import RUN, read_tensors, write_tensors


def save(path: Path, description: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write a description, as JSON, and tensors; the file is there whole on return, or the old one still is.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    try:
        write_tensors(path, RUN, description, tensors)
    except SavedFileError as error:
        cause = error.__cause__
        raise cause if isinstance(cause, OSError) else OSError(errno.EIO, str(cause)) from error


def load(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The description and the tensors of a checkpoint.

    Raises
    ------
    ResumeError
        If it cannot be read, or is not as it was written.
    """
    try:
        return read_tensors(path, RUN)
    except SavedFileError as error:
        advice = "Restore it, or start the run anew with mode='overwrite' (--overwrite)."
        raise ResumeError(f"cannot read the checkpoint: {error} {advice}") from error
