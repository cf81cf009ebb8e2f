"""Versions and errors of saved networks and checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from pydantic import ValidationError

from sparse_mrnn.errors import DistributedError, SavedFileError, SparseMRNNError

STATE = "state."
"""Prefix of the entries of a state dict in a file."""
MALFORMED = (
    ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError, SparseMRNNError
)  # fmt: skip
"""Errors that a header put together by hand may raise; those of pydantic are ValueErrors."""


def software_versions() -> dict[str, str]:
    """Versions of this package and of torch."""
    import sparse_mrnn

    return {"sparse_mrnn": sparse_mrnn.__version__, "torch": torch.__version__}


@contextmanager
def damaged_if_malformed(path: Path) -> Iterator[None]:
    """Turn any error of a file's content into one that says that the file is damaged.

    Raises
    ------
    SavedFileError
    """
    try:
        yield
    except MALFORMED as error:
        if isinstance(error, SavedFileError) and str(error).startswith(str(path)):
            raise
        raise SavedFileError(f"{path} is damaged: {said(error)}. Use a copy.") from error


@contextmanager
def nothing_changed(path: Path) -> Iterator[None]:
    """Turn any error of a checkpoint into one that says that it is not loaded.

    Raises
    ------
    SavedFileError
    """
    try:
        yield
    except DistributedError:  # another rank has ended, which says nothing of the file
        raise
    except MALFORMED as error:
        raise SavedFileError(f"{path} is not loaded, and nothing has changed: {said(error)}.") from error


def said(error: BaseException) -> str:
    """Text of an error without a full stop; with its place in a header, if pydantic found it."""
    if isinstance(error, ValidationError):
        problem = error.errors()[0]
        return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
    text = f"{error}".rstrip(".")
    return text if isinstance(error, SparseMRNNError) else f"{type(error).__name__}: {text}"
