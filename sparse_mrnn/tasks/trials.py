"""Trials: inputs, targets and epochs of a batch; a torch data set of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset

from sparse_mrnn.checks import Seed
from sparse_mrnn.errors import TrainingError


@dataclass(frozen=True)
class Trials:
    """A batch of trials.

    Parameters
    ----------
    inp : Tensor, shape (batch, time, inputs)
    target : Tensor, shape (batch, time, outputs)
    mask : Tensor of bool, shape (batch, time, outputs)
        True where the output counts.
    epochs : dict
        Trial epochs by name, in time steps: (first, one past the last), Tensors of shape (batch,).
    """

    inp: Tensor
    target: Tensor
    mask: Tensor
    epochs: dict[str, tuple[Tensor, Tensor]]

    @classmethod
    def of(
        cls, inp: NDArray[np.float32], target: NDArray[np.float32], mask: NDArray[np.bool_],
        **epochs: tuple[NDArray[np.int64] | int, NDArray[np.int64] | int],
    ) -> Trials:
        """Make a batch of arrays; the bounds of an epoch are numbers, or one per trial."""

        def per_trial(end: NDArray[np.int64] | int) -> Tensor:
            return torch.from_numpy(np.broadcast_to(end, len(inp)).copy())

        bounds = {name: (per_trial(first), per_trial(stop)) for name, (first, stop) in epochs.items()}
        parts = torch.from_numpy(inp), torch.from_numpy(target), torch.from_numpy(mask)
        return cls(*parts, bounds)

    def loss(self, output: Tensor) -> Tensor:
        """Mean squared error of an output of shape (batch, time, outputs), where it counts."""
        return (output - self.target)[self.mask].square().mean()


def random_generator(seed: Seed | None) -> np.random.Generator:
    """A generator as it is, from a seed, or (None) seeded by torch's global generator."""
    return np.random.default_rng(int(torch.randint(2**62, ()).item()) if seed is None else seed)


class TrialDataset(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Single trials of a task as a map-style data set, for a `torch.utils.data.DataLoader`.

    Item k is ``inp`` (time, inputs), ``target`` (time, outputs) and ``mask`` (bool, as the target). It is
    drawn when it is asked for, from a stream of ``seed`` and k: the same in every order and by any number of
    worker processes.

    Parameters
    ----------
    task : callable
        ``task(batch, seed=..., **options)`` returns `Trials`; `flip_flop`, `delayed_response`, or your own.
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
        trials = self.task(1, seed=np.random.default_rng([self.seed, index]), **self.options)
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
