"""Context-dependent integration: two noisy streams of evidence, of which a context says which one counts."""

from __future__ import annotations

import numpy as np

from sparse_mrnn.checks import Seed
from sparse_mrnn.errors import TrainingError
from sparse_mrnn.tasks.trials import Trials, random_generator


def context_integration(
    batch: int, *, steps: int = 60, evidence: int = 40,
    coherences: tuple[float, ...] = (-0.5, -0.2, -0.05, 0.05, 0.2, 0.5), noise: float = 1.0,
    seed: Seed | None = None,
) -> Trials:
    """Trials in which the sign of one of two noisy inputs is reported, and a context says of which.

    Inputs: two streams of evidence, each its coherence plus white noise, and one channel for each context,
    which is 1 all the time. The output is the sign of the mean of the stream that counts, after the evidence.

    Parameters
    ----------
    batch : int
    steps : int
        Length of a trial. The evidence begins after 5 steps.
    evidence : int
        Time steps of the evidence.
    coherences : tuple of float
        Means of a stream, drawn for each stream and trial; none is 0.
    noise : float
        Standard deviation of a stream at one time step.
    seed : int, numpy SeedSequence or Generator, optional
        Default: one from torch's global generator.

    Returns
    -------
    Trials
        With the epochs "evidence" and "response". The output counts before the evidence, where it is 0, and
        from 5 steps after the evidence on.

    Raises
    ------
    TrainingError
        If an argument is out of its range, or the trial too short.

    References
    ----------
    Mante, Sussillo, Shenoy & Newsome 2013, Context-dependent computation by recurrent dynamics in prefrontal
    cortex.

    Examples
    --------
    >>> trials = context_integration(4, seed=0)
    >>> trials.inp.shape, trials.target.shape, sorted(trials.epochs)
    (torch.Size([4, 60, 4]), torch.Size([4, 60, 1]), ['evidence', 'response'])
    """
    start, react = 5, 5
    if batch < 1 or evidence < 1:
        sizes = f"batch {batch!r} and evidence {evidence!r}"
        raise TrainingError(f"context_integration: {sizes} must be at least 1.")
    if steps < (least := start + evidence + react + 1):
        raise TrainingError(f"context_integration: a trial takes {least} steps; steps is {steps!r}.")
    if not coherences or 0 in coherences:
        raise TrainingError(f"context_integration: coherences are {coherences!r}; none may be 0.")
    if not noise >= 0:
        raise TrainingError(f"context_integration: noise is {noise!r}; it must be at least 0.")
    generator = random_generator(seed)
    context, trial = generator.integers(0, 2, batch), np.arange(batch)
    means = generator.choice(np.asarray(coherences, dtype=float), (batch, 2))
    end = start + evidence
    inp = np.zeros((batch, steps, 4), dtype=np.float32)
    inp[:, start:end, :2] = means[:, None] + noise * generator.standard_normal((batch, evidence, 2))
    inp[trial, :, 2 + context] = 1
    target = np.zeros((batch, steps, 1), dtype=np.float32)
    target[:, end:, 0] = np.sign(means[trial, context])[:, None]
    mask = np.zeros((batch, steps, 1), dtype=bool)
    mask[:, :start] = mask[:, end + react :] = True
    return Trials.of(inp, target, mask, evidence=(start, end), response=(end, steps))
