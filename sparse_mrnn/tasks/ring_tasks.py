"""Directions on a ring, with a fixation signal and a rule: some of the twenty tasks of Yang et al. 2019."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.checks import Seed
from sparse_mrnn.errors import TrainingError, suggest
from sparse_mrnn.tasks.trials import Trials, random_generator

RULES = (
    "go", "reaction go", "delay go", "anti", "reaction anti", "delay anti", "decision", "match", "non-match",
)  # fmt: skip
"""Rules by the order of their input channels."""
COMPARING = ("match", "non-match")
REST, FIXATING = 0.05, 0.85
"""Activity of output units that are asked for none, and of the fixation unit before the response."""
RESPONSE, REACTION = 500.0, 100.0
"""Length of the response, and what of it does not count, ms."""


def ring_task(
    rule: str, batch: int, *, dt: float = 20.0, units: int = 32, noise: float = 0.1, seed: Seed | None = None
) -> Trials:
    """Trials of one rule: respond to, or away from, a direction shown, at once or from memory.

    - "go": the direction stays on; respond to it when the fixation signal ends.
    - "reaction go": respond as soon as a direction is shown; the fixation signal stays on.
    - "delay go": the direction is shown shortly; respond to it, from memory, when the fixation signal ends.
    - "anti", "reaction anti", "delay anti": respond in the opposite direction.
    - "decision": two directions at once; respond to the stronger one when the fixation signal ends.
    - "match", "non-match": a direction, a delay, and a second direction with the end of the fixation signal;
      respond to the second one if it is the same (another), else keep fixating.

    Inputs: the fixation signal, a ring of ``units`` preferred directions, one channel for each of `RULES`.
    Outputs: fixation, and a ring of as many units. The ring has 0.8 exp(-(angle / (pi / 8))^2 / 2).

    Parameters
    ----------
    rule : str
        One of `RULES`.
    batch : int
    dt : float
        Time step, ms.
    units : int
        Units of a ring.
    noise : float
        Standard deviation of the noise on the inputs at a time step.
    seed : int, numpy SeedSequence or Generator, optional
        Default: one from torch's global generator.

    Returns
    -------
    Trials
        With the epochs "fixation", "stimulus", "delay" and "response". The output counts at all times but the
        first 100 ms of the response; in "reaction" rules the fixation signal stays on through it.

    Raises
    ------
    TrainingError
        If the rule is unknown, or an argument out of its range.

    References
    ----------
    Yang, Joglekar, Song, Newsome & Wang 2019, Task representations in neural networks trained to perform many
    cognitive tasks. Nature Neuroscience 22.

    Examples
    --------
    >>> trials = ring_task("delay go", 3, seed=0)
    >>> trials.inp.shape[2], trials.target.shape[2]    # 1 + 32 + 9 and 1 + 32
    (42, 33)
    """
    if rule not in RULES:
        raise TrainingError(f"ring_task: unknown rule {rule!r}. {suggest(rule, RULES, what='rules')}")
    if batch < 1 or units < 4:
        raise TrainingError(f"ring_task: batch {batch!r} must be at least 1 and units {units!r} at least 4.")
    if not 0 < dt <= 100 or not noise >= 0:
        raise TrainingError(f"ring_task: dt {dt!r} must be in (0, 100] ms, and noise {noise!r} at least 0.")
    generator = random_generator(seed)
    comparing, remembered = rule in COMPARING, rule in COMPARING or rule.startswith("delay")
    reaction = rule.startswith("reaction")
    on = _time_steps(generator, batch, (300, 700), dt)
    shown = on + _time_steps(generator, batch, (300, 700), dt)
    go = on if reaction else shown + _time_steps(generator, batch, (200, 800), dt) if remembered else shown
    steps = int(go.max()) + round(RESPONSE / dt)
    off, time = shown if remembered else np.full(batch, steps), np.arange(steps)

    inp = np.zeros((batch, steps, 1 + units + len(RULES)), dtype=np.float32)
    first = generator.uniform(0, 2 * math.pi, batch)
    direction, responds = first, np.ones(batch, dtype=bool)
    strength = np.ones(batch)
    if rule == "decision":
        second = first + generator.uniform(math.pi / 2, 3 * math.pi / 2, batch)
        strength = 1 + generator.choice([-0.16, -0.08, 0.08, 0.16], batch)
        _show(inp, units, (time >= on[:, None]) & (time < off[:, None]), second, 2 - strength)
        direction = np.where(strength > 1, first, second)
    _show(inp, units, (time >= on[:, None]) & (time < off[:, None]), first, strength)
    if comparing:
        same = generator.random(batch) < 0.5
        direction = np.where(same, first, first + generator.uniform(math.pi / 4, 7 * math.pi / 4, batch))
        responds = same if rule == "match" else ~same
        _show(inp, units, time >= go[:, None], direction, np.ones(batch))
    if rule.endswith("anti"):
        direction = direction + math.pi
    inp[:, :, 0] = 1 if reaction else time < go[:, None]
    inp[:, :, 1 + units + RULES.index(rule)] = 1
    inp += noise * generator.standard_normal(inp.shape).astype(np.float32)

    responding = (time >= go[:, None]) & responds[:, None]
    target = np.full((batch, steps, 1 + units), REST, dtype=np.float32)
    target[:, :, 0] = np.where(responding, REST, FIXATING)
    _show(target, units, responding, direction, np.ones(batch))
    counts = (time < go[:, None]) | (time >= (go + round(REACTION / dt))[:, None])
    mask = np.repeat(counts[:, :, None], 1 + units, axis=2)
    return Trials.of(
        inp,
        target,
        mask,
        fixation=(0, on),
        stimulus=(on, off),
        delay=(np.minimum(shown, go), go),
        response=(go, steps),
    )


def _time_steps(
    generator: np.random.Generator, batch: int, bounds: tuple[float, float], dt: float
) -> NDArray[np.int64]:
    """Durations of each trial between bounds in ms, in time steps."""
    return np.maximum(np.round(generator.uniform(*bounds, batch) / dt), 1).astype(np.int64)


def _show(
    values: NDArray[np.float32], units: int, when: NDArray[np.bool_], direction: NDArray[np.float64],
    strength: NDArray[np.float64],
) -> None:
    """Add a bump at a direction to the ring, which follows the fixation unit; ``when`` is (batch, time)."""
    preferred = 2 * math.pi * np.arange(units) / units
    apart = np.abs((preferred - direction[:, None] + math.pi) % (2 * math.pi) - math.pi)
    bump = 0.8 * strength[:, None] * np.exp(-0.5 * (apart / (math.pi / 8)) ** 2)
    values[:, :, 1 : 1 + units] += np.where(when[:, :, None], bump[:, None], 0)
