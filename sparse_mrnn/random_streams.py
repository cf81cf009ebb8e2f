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
    """Seeds of the input and the unit noise after ``reset_noise(seed)``, and of a simulation of that seed."""
    return _torch_seeds(np.random.SeedSequence(seed).spawn(2))


def run_streams(seed: int) -> tuple[np.random.SeedSequence, np.random.SeedSequence]:
    """Streams of a simulation's stimuli and of its interventions."""
    stimuli, interventions = np.random.SeedSequence(seed, spawn_key=(RUN_KEY,)).spawn(2)
    return stimuli, interventions


def _torch_seeds(streams: list[np.random.SeedSequence]) -> tuple[int, int]:
    """A seed below 2^63 from each of two streams, as torch's generators take them."""
    first, second = (int(stream.generate_state(1, np.uint64)[0]) >> 1 for stream in streams)
    return first, second
