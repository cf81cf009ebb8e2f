"""Two tasks of the field as data: the flip-flop memory, and a delayed response with distractors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparse_mrnn.errors import TrainingError


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
        """Mean squared error where the output counts.

        Parameters
        ----------
        output : Tensor, shape (batch, time, outputs)
        """
        return (output - self.target)[self.mask].square().mean()


def flip_flop(
    batch: int,
    steps: int,
    *,
    bits: int = 3,
    rate: float = 0.04,
    width: int = 3,
    settle: int = 10,
    rng: np.random.Generator | int | None = None,
) -> Trials:
    """Trials of the flip-flop task: every output holds the sign of the last pulse on its input.

    A trial begins with a pulse on every input, so that each output has a value to hold.

    Parameters
    ----------
    batch, steps : int
    bits : int
        Inputs, and outputs.
    rate : float in [0, 1]
        Probability that a pulse begins at a time step where none is on.
    width : int
        Time steps of a pulse, of +1 or -1.
    settle : int
        Time steps from the beginning of a pulse on, for which its output does not count.
    rng : numpy Generator or int, optional
        Default: seeded by torch's global generator.

    Returns
    -------
    Trials
        Targets are +1 and -1.

    Raises
    ------
    TrainingError
        If an argument is out of its range.

    References
    ----------
    Sussillo & Barak 2013, Opening the black box: low-dimensional dynamics in high-dimensional recurrent neural networks.

    Examples
    --------
    >>> trials = flip_flop(2, 50, rng=0)
    >>> trials.inp.shape, trials.target.unique().tolist()
    (torch.Size([2, 50, 3]), [-1.0, 1.0])
    """
    for name, value, least in (("batch", batch, 1), ("steps", steps, 1), ("bits", bits, 1), ("width", width, 1), ("settle", settle, 0)):
        if value < least:
            raise TrainingError(f"flip_flop: {name} is {value!r}; it must be at least {least}.")
    if not 0 <= rate <= 1:
        raise TrainingError(f"flip_flop: rate is {rate!r}; it must be a probability.")
    generator = _generator(rng)
    begins = generator.random((batch, steps, bits)) < rate
    signs = generator.choice(np.array([-1.0, 1.0], dtype=np.float32), (batch, steps, bits))
    begins[:, 0] = True
    inp, target = np.zeros((2, batch, steps, bits), dtype=np.float32)
    mask = np.zeros((batch, steps, bits), dtype=bool)
    since = np.full((batch, bits), width)
    held = np.zeros((batch, bits), dtype=np.float32)
    for t in range(steps):
        fresh = begins[:, t] & (since >= width)
        since = np.where(fresh, 0, since)
        held = np.where(fresh, signs[:, t], held)
        inp[:, t] = np.where(since < width, held, 0)
        target[:, t], mask[:, t] = held, since >= settle
        since = since + 1
    return Trials(torch.from_numpy(inp), torch.from_numpy(target), torch.from_numpy(mask), {})


def delayed_response(
    batch: int,
    *,
    steps: int = 60,
    sample: int = 10,
    delay: tuple[int, int] = (15, 30),
    distractor: float = 0.5,
    distractor_probability: float = 0.5,
    noise: float = 0.05,
    rng: np.random.Generator | int | None = None,
) -> Trials:
    """Trials of a delayed response: a cue says left or right, the answer waits for the go signal, distractors come between.

    Inputs: the cue for left, the cue for right, go. The one output stays 0 until go and then is -1 (left) or +1 (right).
    The delay differs from trial to trial. A distractor is a short, weaker cue in the middle of the delay, for either side.

    Parameters
    ----------
    batch : int
    steps : int
        Length of a trial. The cue begins after 5 steps; go stays on until the end.
    sample : int
        Time steps of the cue.
    delay : (int, int)
        Shortest and longest time from the end of the cue to go.
    distractor : float
        Its strength; the cue has 1.
    distractor_probability : float in [0, 1]
    noise : float
        Standard deviation of the noise on the cues.
    rng : numpy Generator or int, optional
        Default: seeded by torch's global generator.

    Returns
    -------
    Trials
        With the epochs "sample", "delay" and "response", and "distractor", empty in trials without one. The output
        counts at all times but the first 5 steps after go.

    Raises
    ------
    TrainingError
        If the epochs do not fit into the trial, or an argument is out of its range.

    References
    ----------
    Inagaki et al. 2019, Discrete attractor dynamics underlies persistent activity in the frontal cortex (the task, with
    distractors); Guo et al. 2017, Maintenance of persistent activity in a frontal thalamocortical loop.

    Examples
    --------
    >>> trials = delayed_response(4, rng=0)
    >>> trials.inp.shape, trials.target.shape
    (torch.Size([4, 60, 3]), torch.Size([4, 60, 1]))
    >>> begin, end = trials.epochs["delay"]
    >>> bool((end - begin >= 15).all())
    True
    """
    start, react = 5, 5
    if batch < 1 or sample < 1:
        raise TrainingError(f"delayed_response: batch is {batch!r} and sample {sample!r}; both must be at least 1.")
    if not 1 <= delay[0] <= delay[1]:
        raise TrainingError(f"delayed_response: delay is {delay!r}; it must be (shortest, longest), at least 1.")
    if start + sample + delay[1] + react >= steps:
        least = start + sample + delay[1] + react + 1
        raise TrainingError(f"delayed_response: the longest trial takes {least} steps; steps is {steps!r}.")
    if not 0 <= distractor_probability <= 1:
        raise TrainingError(f"delayed_response: distractor_probability is {distractor_probability!r}; it must be a probability.")
    generator = _generator(rng)
    side = generator.integers(0, 2, batch)
    end = start + sample
    go = end + generator.integers(delay[0], delay[1] + 1, batch)
    there = generator.random(batch) < distractor_probability
    false_side = generator.integers(0, 2, batch)
    time = np.arange(steps)
    trial = np.arange(batch)
    inp = np.zeros((batch, steps, 3), dtype=np.float32)
    inp[trial, start:end, side] = 1.0
    middle = (end + go) // 2
    width = np.where(there, np.maximum((go - end) // 5, 1), 0)
    on = (time >= middle[:, None]) & (time < (middle + width)[:, None])
    inp[trial, :, false_side] += distractor * on
    inp[:, :, :2] += noise * generator.standard_normal((batch, steps, 2)).astype(np.float32)
    after = time >= go[:, None]
    inp[:, :, 2] = after
    target = np.where(after, (2 * side - 1)[:, None], 0).astype(np.float32)[:, :, None]
    mask = (~after | (time >= (go + react)[:, None]))[:, :, None]
    bounds = {
        "sample": (np.full(batch, start), np.full(batch, end)),
        "delay": (np.full(batch, end), go),
        "distractor": (middle, middle + width),
        "response": (go, np.full(batch, steps)),
    }
    epochs = {name: (torch.from_numpy(a), torch.from_numpy(b)) for name, (a, b) in bounds.items()}
    return Trials(torch.from_numpy(inp), torch.from_numpy(target), torch.from_numpy(mask), epochs)


def _generator(rng: np.random.Generator | int | None) -> np.random.Generator:
    return np.random.default_rng(int(torch.randint(2**62, ()).item()) if rng is None else rng)
