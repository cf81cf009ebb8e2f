"""Analysis of a network's dynamics: fixed points, Jacobians, flow, Lyapunov exponents, dimensions, lesions.

Everything runs on the sparse weights, in float64, without noise. Delays between units are refused; those of
inputs count.
"""

from typing import TYPE_CHECKING, Any

from sparse_mrnn.analysis.components import (
    Plane,
    PrincipalComponents,
    Rotation,
    axes_plane,
    dimensionality,
    plane_of,
    principal_components,
    principal_plane,
    rotational_plane,
)
from sparse_mrnn.analysis.fixed_points import FixedPoints, find_fixed_points
from sparse_mrnn.analysis.flow import FlowField, flow_field
from sparse_mrnn.analysis.gramian import Gramian
from sparse_mrnn.analysis.linear import Linearization, Modes, linearize
from sparse_mrnn.analysis.lyapunov import LyapunovSpectrum, lyapunov_spectrum
from sparse_mrnn.analysis.newton import SolverOptions
from sparse_mrnn.analysis.perturb import Perturbations, perturbation
from sparse_mrnn.analysis.readout import MemoryCapacity, Readout, memory_capacity, ridge_readout
from sparse_mrnn.analysis.sampling import run_states, sample_states
from sparse_mrnn.analysis.screen import screen
from sparse_mrnn.analysis.source_currents import currents
from sparse_mrnn.analysis.spikes import spike_statistics
from sparse_mrnn.analysis.sweep import sweep
from sparse_mrnn.errors import check_mrnntorch_class

__all__ = [
    "FixedPoints", "FlowField", "Gramian", "Linearization", "LyapunovSpectrum", "MemoryCapacity", "Modes",
    "Perturbations", "Plane", "PrincipalComponents", "Readout", "Rotation", "SolverOptions", "axes_plane",
    "currents", "dimensionality", "find_fixed_points", "flow_field", "linearize", "lyapunov_spectrum",
    "memory_capacity", "perturbation", "plane_of", "principal_components", "principal_plane",
    "ridge_readout", "rotational_plane", "run_states", "sample_states", "screen", "spike_statistics",
    "sweep",
]

if not TYPE_CHECKING:  # a type checker would take any name for one of the package

    def __getattr__(name: str) -> Any:
        """Say which function does what a class of mRNNTorch does."""
        check_mrnntorch_class(name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
