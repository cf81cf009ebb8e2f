"""Random streams that one seed makes, for a network and for a simulation."""

from __future__ import annotations

import numpy as np

from sparse_mrnn.checks import Seed

RUN_KEY, LOW_RANK_KEY = 7, 8
"""Keep the streams of a simulation's stimuli and of low-rank projections apart from those of the synapses."""


def synapse_stream(seed: int, kind: str) -> np.random.Generator:
    """Stream that draws the synapses and initial weights of the "recurrent" or the "input" matrix.

    >>> bool(synapse_stream(0, "recurrent").random() == synapse_stream(0, "recurrent").random())
    True
    """
    streams = np.random.SeedSequence(seed).spawn(4)
    return np.random.default_rng(streams[0 if kind == "recurrent" else 1])


class SynapseStreams:
    """Streams of one weight matrix: one for each band of target rows, and others for whole projections.

    The seed is that of the first band; the streams of the others follow from it.

    Examples
    --------
    >>> a, b = SynapseStreams(0), SynapseStreams(0)
    >>> bool(a.band(0).random() == np.random.default_rng(0).random())
    True
    >>> _ = a.band(1).random()
    >>> bool(a.band(2).random() == b.band(2).random())
    True
    """

    def __init__(self, seed: Seed | None) -> None:
        self._first = np.random.default_rng(seed)
        source = self._first.bit_generator.seed_seq
        if not isinstance(source, np.random.SeedSequence):  # of a legacy generator
            source = np.random.SeedSequence(int(self._first.integers(2**63)))
        self._root = source.spawn(1)[0]  # another one for each use of a generator

    def band(self, number: int) -> np.random.Generator:
        """Stream that draws the synapses and initial weights of a band of rows."""
        return self._first if number == 0 else self._keyed(0, number)

    def projection(self, number: int, first: int, last: int) -> np.random.Generator:
        """Stream that draws what bands ``first`` to ``last`` of a projection have in common."""
        return self._keyed(1, number, first, last)

    def _keyed(self, *key: int) -> np.random.Generator:
        seed = np.random.SeedSequence(self._root.entropy, spawn_key=(*self._root.spawn_key, *key))
        return np.random.default_rng(seed)


def low_rank_stream(seed: int, kind: str) -> np.random.Generator:
    """Stream that draws U and V of the low-rank projections of the "recurrent" or the "input" sources."""
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

    The seeds of a trial do not depend on how many there are; the first trial has those of `noise_seeds`.

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
