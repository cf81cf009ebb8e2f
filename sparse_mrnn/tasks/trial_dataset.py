"""A torch data set of the trials of any task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset

from sparse_mrnn.errors import TrainingError
from sparse_mrnn.tasks.trials import Trials


class TrialDataset(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Single trials of a task as a map-style data set, for a `torch.utils.data.DataLoader`.

    Item k is ``inp`` (time, inputs), ``target`` (time, outputs) and ``mask`` (bool, as the target). It is
    drawn when it is asked for, from a stream of ``seed`` and k: the same in every order and by any number of
    worker processes.

    Parameters
    ----------
    task : callable
        ``task(batch, rng=..., **options)`` returns `Trials`; `flip_flop`, `delayed_response`, or your own.
    length : int
        Number of items.
    seed : int
    pad_to : int, optional
        Trials that are shorter are filled up with time steps that do not count, so that those of different
        lengths make batches.
    **options
        Passed on to the task.

    Raises
    ------
    TrainingError
        If length or seed is negative; when an item is drawn, if the trial is longer than ``pad_to``.

    Examples
    --------
    >>> from torch.utils.data import DataLoader
    >>> from sparse_mrnn.tasks import flip_flop
    >>> data = TrialDataset(flip_flop, 100, bits=2, steps=40)
    >>> inp, target, mask = next(iter(DataLoader(data, batch_size=16)))
    >>> inp.shape, mask.dtype
    (torch.Size([16, 40, 2]), torch.bool)
    """

    def __init__(
        self, task: Callable[..., Trials], length: int, *, seed: int = 0, pad_to: int | None = None,
        **options: Any,
    ) -> None:
        if length < 0 or seed < 0:
            raise TrainingError(f"TrialDataset: length {length!r} and seed {seed!r} must be at least 0.")
        self.task, self.length, self.seed, self.pad_to, self.options = task, length, seed, pad_to, options

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        if not 0 <= index < self.length:
            raise IndexError(f"item {index} of {self.length} trials")
        trials = self.task(1, rng=np.random.default_rng([self.seed, index]), **self.options)
        parts = trials.inp[0], trials.target[0], trials.mask[0]
        if self.pad_to is None:
            return parts
        missing = self.pad_to - len(trials.inp[0])
        if missing < 0:
            raise TrainingError(
                f"TrialDataset: trial {index} takes {len(trials.inp[0])} time steps; pad_to is {self.pad_to}."
            )
        inp, target, mask = (pad(part, (0, 0, 0, missing)) for part in parts)
        return inp, target, mask
