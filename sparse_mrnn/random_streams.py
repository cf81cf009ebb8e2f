"""The random streams that one seed makes, of a network and of a simulation."""

from __future__ import annotations

import numpy as np

RUN_KEY, LOW_RANK_KEY = 7, 8
"""Keep the streams of a simulation's stimuli and of low-rank projections apart from those of the synapses."""


def synapse_stream(seed: int, kind: str) -> np.random.Generator:
    """Draws the synapses and initial weights of the "recurrent" or the "input" matrix.

    >>> bool(synapse_stream(0, "recurrent").random() == synapse_stream(0, "recurrent").random())
    True
    """
    streams = np.random.SeedSequence(seed).spawn(4)
    return np.random.default_rng(streams[0 if kind == "recurrent" else 1])


def low_rank_stream(seed: int, kind: str) -> np.random.Generator:
    """Draws U and V of the low-rank projections of the "recurrent" or the "input" sources."""
    key = LOW_RANK_KEY, int(kind == "input")
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def network_noise_seeds(seed: int) -> tuple[int, int]:
    """Seeds of the input and the unit noise of a network, until its noise is reset."""
    return _torch_seeds(np.random.SeedSequence(seed).spawn(4)[2:])


def noise_seeds(seed: int) -> tuple[int, int]:
    """Seeds of the input and the unit noise after ``reset_noise(seed)``."""
    return _torch_seeds(np.random.SeedSequence(seed).spawn(2))


def trial_noise_seeds(seed: int, trials: int) -> tuple[list[int], list[int]]:
    """Seeds of the input and the unit noise of each trial of a simulation.

    Those of a trial do not depend on how many there are; those of the first are `noise_seeds`.

    >>> trial_noise_seeds(0, 3)[1][:2] == trial_noise_seeds(0, 2)[1]
    True
    """
    inputs, units = (_seeds(stream, trials) for stream in np.random.SeedSequence(seed).spawn(2))
    return inputs, units


def run_streams(seed: int) -> tuple[np.random.SeedSequence, np.random.SeedSequence]:
    """Streams of a simulation's stimuli and of its interventions."""
    stimuli, interventions = np.random.SeedSequence(seed, spawn_key=(RUN_KEY,)).spawn(2)
    return stimuli, interventions


def _torch_seeds(streams: list[np.random.SeedSequence]) -> tuple[int, int]:
    """A seed from each of two streams."""
    first, second = (_seeds(stream, 1)[0] for stream in streams)
    return first, second


def _seeds(stream: np.random.SeedSequence, count: int) -> list[int]:
    """Seeds below 2^63, as torch's generators take them."""
    return [int(word) >> 1 for word in stream.generate_state(count, np.uint64)]
