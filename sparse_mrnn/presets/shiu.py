"""The whole-brain model of the fly by Shiu et al. (2024), on a connectome."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from sparse_mrnn.checks import real_number
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.errors import ConfigError
from sparse_mrnn.lowering.layout import Layout, UnitNames
from sparse_mrnn.models.lif import LIF
from sparse_mrnn.stimulus import Poisson, Stimulus

WEIGHT, DELAY, FACTOR = 0.275, 1.8, 250.0
TAU_M, TAU_SYN, DT, T_REF = 20.0, 5.0, 0.1, 2.2
"""Parameters of the published model.py: mV a synapse, ms, weight of an event in synapses; then ms."""


def shiu2024(
    graph: RegionGraph, driven: Sequence[str | int] = (), *, rate: float = 150.0, weight: float = WEIGHT,
    device: str | torch.device | None = None, seed: int = 0,
) -> tuple[LIF, list[Stimulus]]:
    """Return Shiu et al.'s model (2024, Nature 634:210) of a connectome, and the drive of some neurons.

    Every unit is the same leaky integrate-and-fire neuron (resting and reset potential -52 mV, threshold
    -45 mV, tau_m 20 ms, tau_syn 5 ms, refractory for 2.2 ms; g is reset with v, and a refractory
    unit takes no input);
    a spike adds 0.275 mV for each synapse after 1.8 ms. Driven units receive Poisson events of 250 times that
    weight and are not refractory. The published code adds these events to v, so that each is a spike in the
    next step; here the event is added to g, with the weight that moves v as much in that step. Spikes are
    those of the published code in Brian2, step by step (`benchmarks/spiking_brian.py`): Brian2 counts the
    step of a spike as the first of the refractory time, so t_ref is a time step shorter here.

    Parameters
    ----------
    graph : RegionGraph
        Connectome whose explicit weights are numbers of synapses, as `sparse_mrnn.connectome` imports it, for
        instance ``read_release("shiu-783", folder)``. It is not changed.
    driven : sequence of str or int
        Ids of the units that are activated.
    rate : float
        Poisson events of each of them, Hz.
    weight : float
        Weight of one synapse, mV.
    device : str or torch.device, optional
        As of `LIF`.
    seed : int
        As of `LIF`.

    Returns
    -------
    net : LIF
    stimulus : list of Stimulus
        The drive, for ``simulate(net, 1000, stimulus=stimulus)``.

    Raises
    ------
    ConfigError
        If a projection has no explicit weights, the graph has inputs, or the rate is negative.
    UnknownNameError
        If a driven unit does not exist.

    Examples
    --------
    >>> import numpy as np
    >>> g = RegionGraph(); g.add_region("brain", 3, unit_ids=["a", "b", "c"])
    >>> g.add_projection("brain", "brain", weights=np.diag([100.0, 80.0], -1))
    >>> net, drive = shiu2024(g, ["a"], device="cpu")
    >>> [round(w, 4) for w in net.weights("recurrent").csr_values().tolist()]
    [27.5, 22.0]
    """
    rate = real_number(rate, "rate", ConfigError)
    weight = real_number(weight, "weight", ConfigError)
    if rate < 0 or weight <= 0:
        raise ConfigError(f"rate = {rate:g} Hz and weight = {weight:g} mV; they must be positive.")
    if graph.regions("input"):
        raise ConfigError(f"shiu2024: the graph has the input {graph.regions('input')[0].name!r}; remove it.")
    found = graph.copy()
    columns = graph.projection_columns().columns
    for projection in () if (columns.table >= 0).all() else graph.projections():
        if projection.weights is None:
            label = f"projection {projection.source!r} -> {projection.target!r}"
            raise ConfigError(f"shiu2024: {label} has no explicit weights; give numbers of synapses.")
    settings = tuple((key, _settings(attrs, weight)) for key, attrs in columns.settings)
    arrays = tuple(replace(a, values=a.values * np.float32(weight)) for a in columns.arrays)
    found.replace_columns(replace(columns, settings=settings, arrays=arrays))
    layout = Layout.of(graph)
    t_ref = np.full(layout.n, T_REF - DT)
    t_ref[_units(graph, driven)] = 0.0
    for region, first in zip(layout.regions, layout.ptr.tolist(), strict=False):
        found.set_region(replace(region, t_ref=t_ref[first : first + region.n]))
    net = LIF(
        found, dt=DT, tau_m=TAU_M, tau_syn=TAU_SYN, v_rest=-52.0, threshold=-45.0, v_reset=-52.0,
        reset_g=True, device=device, seed=seed,
    )  # fmt: skip
    if not len(driven):
        return net, []
    keep_v, keep_g = math.exp(-DT / TAU_M), math.exp(-DT / TAU_SYN)
    into_g = keep_v / (TAU_SYN / (TAU_M - TAU_SYN) * (keep_v - keep_g))
    return net, [Stimulus(units=list(driven), waveform=Poisson(rate, amplitude=FACTOR * weight * into_g))]


def _units(graph: RegionGraph, ids: Sequence[str | int]) -> list[int]:
    """Return the numbers of units with these ids."""
    names = UnitNames(graph)
    return [int(unit) for one in ids for unit in names.find(one)[1]]


def _settings(attrs: dict[str, Any], weight: float) -> dict[str, Any]:
    """Return the settings of a projection with Shiu's delay, and its own weights in mV."""
    changed = {**attrs, "delay": DELAY, "trainable": False}
    if "weights" in attrs:
        changed["weights"] = attrs["weights"].tocsr() * np.float32(weight)
    return changed
