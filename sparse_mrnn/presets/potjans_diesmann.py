"""The cortical column of Potjans & Diesmann (2014), with the published tables."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch

from sparse_mrnn.checks import option, real_number
from sparse_mrnn.declaration.connectivity import FixedNumber
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.declaration.initializers import Gamma
from sparse_mrnn.errors import ConfigError
from sparse_mrnn.models.lif import LIF

POPULATIONS = ("L23E", "L23I", "L4E", "L4I", "L5E", "L5I", "L6E", "L6I")
SIZES = (20_683, 5_834, 21_915, 5_479, 4_850, 1_065, 14_395, 2_948)
PROBABILITIES = np.array([
    [0.1009, 0.1689, 0.0437, 0.0818, 0.0323, 0.0, 0.0076, 0.0],
    [0.1346, 0.1371, 0.0316, 0.0515, 0.0755, 0.0, 0.0042, 0.0],
    [0.0077, 0.0059, 0.0497, 0.135, 0.0067, 0.0003, 0.0453, 0.0],
    [0.0691, 0.0029, 0.0794, 0.1597, 0.0033, 0.0, 0.1057, 0.0],
    [0.1004, 0.0622, 0.0505, 0.0057, 0.0831, 0.3726, 0.0204, 0.0],
    [0.0548, 0.0269, 0.0257, 0.0022, 0.06, 0.3158, 0.0086, 0.0],
    [0.0156, 0.0066, 0.0211, 0.0166, 0.0572, 0.0197, 0.0396, 0.2252],
    [0.0364, 0.001, 0.0034, 0.0005, 0.0277, 0.008, 0.0658, 0.1443],
])  # fmt: skip
"""Probability that a pair of units is connected, from each population (column) to each (row); table 5."""
EXTERNAL = np.array([1600, 1500, 2100, 1900, 2000, 1900, 2900, 2100])
"""External inputs of a unit; table 5."""
RATES = np.array([0.903, 2.965, 4.414, 5.876, 7.569, 8.633, 1.105, 7.829])
"""Rates of the full network with a constant drive, spikes/s: INM-6, microcircuit-PD14-model."""
RATES_POISSON = np.array([0.943, 3.026, 4.368, 5.882, 7.733, 8.664, 1.096, 7.851])
"""Rates with the Poisson drive, spikes/s: copies of NEST's example Potjans_2014, full_mean_rates."""
START = (
    (-68.28, -63.16, -63.33, -63.45, -63.11, -61.66, -66.72, -61.43),
    (5.36, 4.57, 4.74, 4.94, 4.94, 4.55, 5.46, 4.48),
)
"""Mean and standard deviation of initial potentials that spare the network a burst, mV; NEST, "optimized"."""
RESTING, TAU_M, TAU_SYN, CAPACITANCE = -65.0, 10.0, 0.5, 250.0
WEIGHT = 87.8 * TAU_M / CAPACITANCE
"""Weight of an excitatory synapse, mV: a current of 87.8 pA (a potential of 0.15 mV) times the resistance."""


def potjans_diesmann_2014(
    scale: float = 1.0, *, drive: Literal["poisson", "dc"] = "poisson", seed: int = 0,
    device: str | torch.device | None = None,
) -> LIF:
    """Return the model of a cortical column under 1 mm2: 77,169 units, 0.3 billion synapses.

    Eight populations of excitatory and inhibitory units in four layers, whose connection probabilities are
    from anatomy (Potjans & Diesmann 2014, Cerebral Cortex 24:785, tables 4 and 5). Weights are gamma
    distributed with the published means and standard deviations (10%); the paper's are normal. Delays are
    drawn for each synapse: 1.5 +- 0.75 ms if excitatory, else 0.75 +- 0.375 ms.

    Parameters
    ----------
    scale : float
        Fraction of the units, and of the inputs of each. Below 1, weights are divided by its square root,
        and a constant drive replaces what the mean input has lost, so that mean and variance of the input
        stay, and about the rates; correlations do not (van Albada et al. 2015, PLoS Computational Biology
        11:e1004490).
    drive : {"poisson", "dc"}
        External input: Poisson events of 8 Hz from each external input, or their mean as a constant drive.
    seed : int
        Of the synapses, weights and initial potentials.
    device : str or torch.device, optional
        As of `LIF`.

    Returns
    -------
    LIF

    Raises
    ------
    ConfigError
        If the scale is not in (0, 1], or leaves a population without units.

    Examples
    --------
    >>> net = potjans_diesmann_2014(0.02, device="cpu")
    >>> net.layout().n
    1544
    """
    scale = real_number(scale, "scale", ConfigError)
    if not 0 < scale <= 1:
        raise ConfigError(f"scale is {scale!r}; it must be above 0, and at most 1.")
    option(drive, ("poisson", "dc"), "drive", ConfigError)
    sizes = [round(scale * n) for n in SIZES]
    if min(sizes) < 1:
        raise ConfigError(f"scale = {scale:g} leaves {POPULATIONS[int(np.argmin(sizes))]} without units.")
    full = np.array(SIZES, dtype=np.float64)
    pairs = np.outer(full, full)
    synapses = np.log1p(-PROBABILITIES) / np.log1p(-1 / pairs)
    weights = np.where(np.arange(8) % 2, -4.0, 1.0) * np.full((8, 8), WEIGHT)
    weights[0, 2] *= 2  # from L4E to L2/3E
    root, per_second = math.sqrt(scale), TAU_SYN / 1000
    external = 8.0 * EXTERNAL * WEIGHT * per_second  # mean of the external input, mV
    rates = RATES if drive == "dc" else RATES_POISSON
    constant = (1 - root) * ((weights * synapses / full[:, None]) @ rates) * per_second
    constant += external if drive == "dc" else (1 - root) * external
    graph, rng = RegionGraph(name="Potjans & Diesmann 2014"), np.random.default_rng(seed)
    for k, (name, n) in enumerate(zip(POPULATIONS, sizes, strict=True)):
        start = rng.normal(START[0][k] - RESTING, START[1][k], n)
        own: dict[str, Any] = {"sign": "pos" if name[-1] == "E" else "neg", "init": start}
        if drive == "poisson":
            own |= {"background_rate": 8.0 * float(EXTERNAL[k]) * scale, "background_weight": WEIGHT / root}
        graph.add_region(name, n, base_firing=float(constant[k]), **own)
    for i, target in enumerate(POPULATIONS):
        for j, source in enumerate(POPULATIONS):
            count = round(synapses[i, j] / pairs[i, j] * sizes[i] * sizes[j])
            if not count:
                continue
            delay = 1.5 if source[-1] == "E" else 0.75
            drawn = Gamma(abs(float(weights[i, j])) / root, 100.0)  # of shape 100: 10% standard deviation
            graph.add_projection(
                source, target, rule=FixedNumber(count), initializer=drawn, delay=delay, delay_std=delay / 2,
                trainable=False,
            )
    return LIF(
        graph, dt=0.1, tau_m=TAU_M, tau_syn=TAU_SYN, v_rest=RESTING, threshold=-50.0, v_reset=RESTING,
        t_ref=2.0, seed=seed, device=device,
    )
