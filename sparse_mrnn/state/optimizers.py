"""Optimisers and schedulers in checkpoints: whose they are, and loading all of them or none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from sparse_mrnn.errors import SavedFileError, SparseMRNNError


def names_by_group(
    optimizer: torch.optim.Optimizer, names: Mapping[int, str], whose: str, advice: str
) -> list[list[str]]:
    """Name the parameters of an optimiser, group by group, from names by ``id``.

    Raises
    ------
    SavedFileError
        If one that has entries is without a name; ``whose`` and ``advice`` say what it should have been.
    """
    for k, group in enumerate(optimizer.param_groups):
        for n, parameter in enumerate(group["params"]):
            if id(parameter) not in names and parameter.numel():
                what = f"parameter {n} in group {k} of {type(optimizer).__name__}"
                raise SavedFileError(f"{what} is not in {whose}; {advice}")
    return [[names[id(p)] for p in group["params"] if id(p) in names] for group in optimizer.param_groups]


@contextmanager
def all_or_nothing(given: Sequence[Any]) -> Iterator[None]:
    """Load states of optimisers and schedulers within this block: after any error all are as they were.

    Raises
    ------
    SavedFileError
        If one cannot take its state.
    """
    before = [dict(vars(one)) for one in given]  # torch replaces what is in them, and changes none of it
    try:
        yield
    except Exception as error:  # torch raises anything for a state of something else
        for one, attributes in zip(given, before, strict=True):
            vars(one).clear()
            vars(one).update(attributes)
        if isinstance(error, SparseMRNNError):
            raise
        text = "a state of its optimisers or schedulers cannot be loaded"
        raise SavedFileError(f"{text}: {error!r}") from error
