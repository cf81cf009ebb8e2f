"""sparse-mrnn: large multi-regional recurrent networks, sparse from declaration to gradient.

Every name is imported when it is first used, so that `sparse-mrnn --help`, or a graph without a network, does
not wait for torch. The imports below are for type checkers; `__getattr__` reads in them where a name is.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparse_mrnn import (  # noqa: F401
        analysis,
        connectome,
        distributed,
        fly_vision,
        interop,
        plot,
        presets,
        recording,
        simulation,
        spectral,
        stimulus,
        tasks,
        training,
    )
    from sparse_mrnn.declaration.config import (
        NetworkConfig,
        load_config,
        read_config,
        to_config,
        write_config,
    )
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
    from sparse_mrnn.models.elman import ElmanmRNN
    from sparse_mrnn.models.leaky import mRNN
    from sparse_mrnn.models.lif import LIF
    from sparse_mrnn.models.loading import from_config, load
    from sparse_mrnn.models.network import mRNNBase
    from sparse_mrnn.models.network_state import NetworkState
    from sparse_mrnn.ops.activations import linear
    from sparse_mrnn.recording import Record, open_recording
    from sparse_mrnn.simulation import simulate
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
    "LIF",
    "AllToAll",
    "BalancedEI",
    "Bernoulli",
    "Clamp",
    "ConnectionRule",
    "Constant",
    "Default",
    "DistanceDependent",
    "ElmanmRNN",
    "Explicit",
    "FixedFanIn",
    "FixedFanOut",
    "FixedNumber",
    "Gain",
    "Gamma",
    "Initializer",
    "Lesion",
    "LogNormal",
    "NetworkConfig",
    "NetworkState",
    "Normal",
    "OneToOne",
    "Projection",
    "Record",
    "Region",
    "RegionGraph",
    "SpectralResult",
    "Stimulus",
    "Uniform",
    "XavierNormal",
    "differentiable_spectral_radius",
    "from_config",
    "leading_eigenpairs",
    "linear",
    "load",
    "load_checkpoint",
    "load_config",
    "mRNN",
    "mRNNBase",
    "open_recording",
    "read_config",
    "save_checkpoint",
    "simulate",
    "spectral_abscissa",
    "spectral_radius",
    "spectral_search",
    "to_config",
    "write_config",
]

if not TYPE_CHECKING:  # a type checker would take any name for one of the package

    def __getattr__(name: str) -> Any:
        """Import a name on its first use."""
        module = _modules().get(name)
        if module is None:
            import_module(f"{__name__}.errors").check_mrnntorch_class(name)
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if module == __name__:
            return import_module(f"{module}.{name}")
        found = globals()[name] = getattr(import_module(module), name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *_modules()})

    def _modules() -> dict[str, str]:
        """Return the module of each name, as the imports above say."""
        import ast

        tree = ast.parse(__spec__.loader.get_source(__name__))
        imports = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.col_offset)
        return {alias.name: node.module for node in imports for alias in node.names}
