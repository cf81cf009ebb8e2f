"""The network of a graph with the settings of a configuration."""

from __future__ import annotations

from typing import Any

from sparse_mrnn.config import SimulationConfig
from sparse_mrnn.graph import RegionGraph
from sparse_mrnn.models.elman import ElmanmRNN
from sparse_mrnn.models.leaky import mRNN


def build_network(
    graph: RegionGraph, settings: SimulationConfig, device: str | None = None
) -> mRNN | ElmanmRNN:
    """The network of a graph with the settings of a configuration's ``simulation`` section.

    Examples
    --------
    >>> g = RegionGraph(); g.add_region("a", 3)
    >>> build_network(g, SimulationConfig(model="elman"), "cpu").hid_regions
    ['a']
    """
    common: dict[str, Any] = {
        "activation": settings.activation,
        "noise_level_act": settings.noise_level_act,
        "noise_level_inp": settings.noise_level_inp,
        "spectral_radius": settings.spectral_radius,
        "seed": settings.seed,
        "device": device,
        "dt": settings.dt,
    }
    if settings.model == "elman":
        return ElmanmRNN(graph, **common)
    return mRNN(graph, tau=settings.tau, integrator=settings.integrator, **common)
