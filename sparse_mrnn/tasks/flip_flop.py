"""The flip-flop memory: every output holds the sign of the last pulse on its input."""

from __future__ import annotations

import numpy as np

from sparse_mrnn.checks import Seed
from sparse_mrnn.errors import TrainingError
from sparse_mrnn.tasks.trials import Trials, random_generator


def flip_flop(
    batch: int, steps: int, *, bits: int = 3, rate: float = 0.04, width: int = 3, settle: int = 10,
    seed: Seed | None = None,
) -> Trials:
    """Trials of the flip-flop task: every output holds the sign of the last pulse on its input.

    A trial begins with a pulse on every input, so that each output has a value to hold.

    Parameters
    ----------
    batch, steps, bits : int
        Trials, time steps, and inputs (as many as outputs).
    rate : float in [0, 1]
        Probability that a pulse begins at a time step without one.
    width : int
        Time steps of a pulse, of +1 or -1.
    settle : int
        Time steps from the beginning of a pulse on, for which its output does not count.
    seed : int, numpy SeedSequence or Generator, optional
        Default: one from torch's global generator.

    Returns
    -------
    Trials, with targets of +1 and -1

    Raises
    ------
    TrainingError
        If an argument is out of its range.

    References
    ----------
    Sussillo & Barak 2013, Opening the black box: low-dimensional dynamics in high-dimensional networks.

    Examples
    --------
    >>> trials = flip_flop(2, 50, seed=0)
    >>> trials.inp.shape, trials.target.unique().tolist()
    (torch.Size([2, 50, 3]), [-1.0, 1.0])
    """
    sizes = {"batch": batch, "steps": steps, "bits": bits, "width": width, "settle": settle}
    for name, value in sizes.items():
        if value < (least := int(name != "settle")):
            raise TrainingError(f"flip_flop: {name} is {value!r}; it must be at least {least}.")
    if not 0 <= rate <= 1:
        raise TrainingError(f"flip_flop: rate is {rate!r}; it must be a probability.")
    generator = random_generator(seed)
    begins = generator.random((batch, steps, bits)) < rate
    signs = generator.choice(np.array([-1.0, 1.0], dtype=np.float32), (batch, steps, bits))
    begins[:, 0] = True
    inp, target = np.zeros((2, batch, steps, bits), dtype=np.float32)
    mask = np.zeros((batch, steps, bits), dtype=bool)
    since, held = np.full((batch, bits), width), np.zeros((batch, bits), dtype=np.float32)
    for t in range(steps):
        fresh = begins[:, t] & (since >= width)
        since = np.where(fresh, 0, since)
        held = np.where(fresh, signs[:, t], held)
        inp[:, t] = np.where(since < width, held, 0)
        target[:, t], mask[:, t] = held, since >= settle
        since = since + 1
    return Trials.of(inp, target, mask)
