"""Trials: inputs, targets and epochs of a batch, and the generator that they are drawn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Rng = np.random.Generator | int | None


@dataclass(frozen=True)
class Trials:
    """A batch of trials.

    Parameters
    ----------
    inp : Tensor, shape (batch, time, inputs)
    target : Tensor, shape (batch, time, outputs)
    mask : Tensor of bool, shape (batch, time, outputs)
        Where the output counts.
    epochs : dict
        Trial epochs by name, in time steps: (first, one past the last), Tensors of shape (batch,).
    """

    inp: Tensor
    target: Tensor
    mask: Tensor
    epochs: dict[str, tuple[Tensor, Tensor]]

    def loss(self, output: Tensor) -> Tensor:
        """Mean squared error of an output of shape (batch, time, outputs), where it counts."""
        return (output - self.target)[self.mask].square().mean()


def random_generator(rng: Rng) -> np.random.Generator:
    """A generator as it is, from a seed, or (None) seeded by torch's global generator."""
    return np.random.default_rng(int(torch.randint(2**62, ()).item()) if rng is None else rng)
