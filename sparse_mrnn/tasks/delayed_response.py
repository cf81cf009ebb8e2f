"""A delayed response with distractors."""

from __future__ import annotations

import numpy as np

from sparse_mrnn.checks import Seed
from sparse_mrnn.errors import TrainingError
from sparse_mrnn.tasks.trials import Trials, random_generator


def delayed_response(
    batch: int, *, steps: int = 60, sample: int = 10, delay: tuple[int, int] = (15, 30),
    distractor: float = 0.5, distractor_probability: float = 0.5, noise: float = 0.05,
    seed: Seed | None = None,
) -> Trials:
    """Trials in which a cue says left or right, the answer waits for go, and distractors come between.

    Inputs: the cue for left, the cue for right, go. The output is 0 until go, then -1 (left) or +1 (right).
    The delay differs from trial to trial. A distractor is a short, weaker cue for either side in its middle.

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
    seed : int, numpy SeedSequence or Generator, optional
        Default: one from torch's global generator.

    Returns
    -------
    Trials
        With the epochs "sample", "delay" and "response", and "distractor", empty in trials without one. The
        output counts at all times but the first 5 steps after go.

    Raises
    ------
    TrainingError
        If the epochs do not fit into the trial, or an argument is out of its range.

    References
    ----------
    Inagaki et al. 2019, Discrete attractor dynamics underlies persistent activity in the frontal cortex;
    Guo et al. 2017, Maintenance of persistent activity in a frontal thalamocortical loop.

    Examples
    --------
    >>> trials = delayed_response(4, seed=0)
    >>> trials.inp.shape, trials.target.shape
    (torch.Size([4, 60, 3]), torch.Size([4, 60, 1]))
    >>> begin, end = trials.epochs["delay"]
    >>> bool((end - begin >= 15).all())
    True
    """
    start, react = 5, 5
    if batch < 1 or sample < 1:
        raise TrainingError(f"delayed_response: batch {batch!r} and sample {sample!r} must be at least 1.")
    if not 1 <= delay[0] <= delay[1]:
        raise TrainingError(f"delayed_response: delay {delay!r} must be (shortest, longest), at least 1.")
    if steps < (least := start + sample + delay[1] + react + 1):
        raise TrainingError(f"delayed_response: the longest trial takes {least} steps; steps is {steps!r}.")
    if not 0 <= distractor_probability <= 1:
        raise TrainingError("delayed_response: distractor_probability must be a probability.")
    generator = random_generator(seed)
    side, end = generator.integers(0, 2, batch), start + sample
    go = end + generator.integers(delay[0], delay[1] + 1, batch)
    there = generator.random(batch) < distractor_probability
    false_side = generator.integers(0, 2, batch)
    time, trial = np.arange(steps), np.arange(batch)
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
    return Trials.of(
        inp,
        target,
        mask,
        sample=(start, end),
        delay=(end, go),
        distractor=(middle, middle + width),
        response=(go, steps),
    )
