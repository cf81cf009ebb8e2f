"""What saved networks and checkpoints have in common: state dicts in a file, versions, and errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from sparse_mrnn.errors import DistributedError, SavedFileError, SparseMRNNError
from sparse_mrnn.files.nested import pack, unpack
from sparse_mrnn.files.tensors import Tensors

STATE, EXTRA = "state.", "extra."
"""Prefixes of tensors in a file: of entries of a state dict, and of tensors within its other values."""
MALFORMED = (
    ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError, SparseMRNNError
)  # fmt: skip
"""What a header that was put together by hand may raise; errors of pydantic are ValueErrors."""


def pack_state(state: Mapping[str, Any], tensors: Tensors) -> dict[str, Any]:
    """Put the tensors of a state dict into ``tensors``; return its other values as JSON."""
    extra: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(value, Tensor):
            tensors[f"{STATE}{name}"] = value
        else:
            extra[name] = pack(value, f"{EXTRA}{name}", tensors)
    return extra


def unpack_extra(extra: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The values of a state dict that are not tensors, from what `pack_state` returned."""
    return {name: unpack(value, tensors) for name, value in extra.items()}


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
    """What an error says, without a full stop; where it is in a header, if pydantic found it."""
    if isinstance(error, ValidationError):
        problem = error.errors()[0]
        return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
    text = f"{error}".rstrip(".")
    return text if isinstance(error, SparseMRNNError) else f"{type(error).__name__}: {text}"
