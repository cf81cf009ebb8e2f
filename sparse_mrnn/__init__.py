"""sparse-mrnn: large multi-regional recurrent networks, sparse from declaration to gradient."""

from sparse_mrnn import runtime  # noqa: F401 - before anything imports torch
from sparse_mrnn.declaration.config import NetworkConfig, load_config, read_config, to_config, write_config
from sparse_mrnn.declaration.connectivity import (
    AllToAll,
    Bernoulli,
    ConnectionRule,
    DistanceDependent,
    Explicit,
    FixedFanIn,
    FixedFanOut,
    FixedNumber,
    OneToOne,
)
from sparse_mrnn.declaration.graph import Projection, Region, RegionGraph
from sparse_mrnn.declaration.initializers import (
    BalancedEI,
    Constant,
    Default,
    Gamma,
    Initializer,
    LogNormal,
    Normal,
    Uniform,
    XavierNormal,
)
from sparse_mrnn.lowering.block_sparse import BlockSparse
from sparse_mrnn.lowering.layout import Layout
from sparse_mrnn.lowering.lower import lower
from sparse_mrnn.models.elman import ElmanmRNN
from sparse_mrnn.models.leaky import mRNN
from sparse_mrnn.models.loading import load
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.ops.activations import linear
from sparse_mrnn.recording import Record, open_recording
from sparse_mrnn.simulation import from_config, simulate
from sparse_mrnn.spectral import (
    SpectralResult,
    differentiable_spectral_radius,
    leading_eigenpairs,
    spectral_abscissa,
    spectral_radius,
    spectral_search,
)
from sparse_mrnn.stimulus import Clamp, Gain, Lesion, Stimulus
from sparse_mrnn.training.checkpoint import load_checkpoint, save_checkpoint

__version__ = "0.2.0"

__all__ = [
    "AllToAll", "BalancedEI", "Bernoulli", "BlockSparse", "Clamp", "ConnectionRule", "Constant",
    "Default", "DistanceDependent", "ElmanmRNN", "Explicit", "FixedFanIn", "FixedFanOut", "FixedNumber",
    "Gain", "Gamma", "Initializer", "Layout", "Lesion", "LogNormal", "NetworkConfig", "Normal",
    "OneToOne", "Projection", "Record", "Region", "RegionGraph", "SpectralResult", "Stimulus", "Uniform",
    "XavierNormal", "differentiable_spectral_radius", "from_config", "leading_eigenpairs", "linear",
    "load", "load_checkpoint", "load_config", "lower", "mRNN", "mRNNBase", "open_recording",
    "read_config", "save_checkpoint", "simulate", "spectral_abscissa", "spectral_radius",
    "spectral_search", "to_config", "write_config",
]
