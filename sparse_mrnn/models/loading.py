"""Making a network from a file that `mRNNBase.save` wrote."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse_mrnn.declaration.sharing import SynapseLabels
from sparse_mrnn.errors import ConfigError, SavedFileError
from sparse_mrnn.models.devices import chosen_device
from sparse_mrnn.models.elman import ElmanmRNN
from sparse_mrnn.models.explicit_graph import synapse_blocks
from sparse_mrnn.models.leaky import mRNN
from sparse_mrnn.models.state_checks import check_state
from sparse_mrnn.ops.products import torch_sparse
from sparse_mrnn.ops.torch_modes import ordinary_tensors
from sparse_mrnn.state.checkpoint import damaged_if_malformed
from sparse_mrnn.state.describe import LABELS
from sparse_mrnn.state.network_file import SavedNetwork, read_network

MODELS: dict[str, type[mRNN] | type[ElmanmRNN]] = {model.model: model for model in (mRNN, ElmanmRNN)}
"""Networks by the name that a file and a configuration have for them."""
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def load(
    path: str | os.PathLike[str],
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    activation: Callable[[Tensor], Tensor] | None = None,
) -> mRNN | ElmanmRNN:
    """Load a network that ``net.save(path)`` wrote. Nothing in the file is executed.

    Parameters
    ----------
    path : path
    device : str or torch.device, optional
        Default: CUDA where there is one, else the CPU, wherever the network was saved.
    dtype : torch.float32 or torch.float64, optional
        Default: as saved.
    activation : callable, optional
        The function or module of a network that was saved with one of the user's: a file holds its name, and
        the state of a module, which is loaded into the one given here.

    Returns
    -------
    mRNN or ElmanmRNN
        Its noise begins at the seed, as that of a new network; a backend that is not installed is "auto".

    Raises
    ------
    SavedFileError
        If the file is missing, damaged, of another kind or of another version; the message says which.
    ConfigError
        If the device or dtype is not available.

    Examples
    --------
    >>> import tempfile, sparse_mrnn as sm
    >>> net = sm.mRNN({"recurrent_regions": [{"name": "a", "num_units": 3}]}, tau=50, device="cpu")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     net.save(f"{folder}/net.safetensors")
    ...     loaded = sm.load(f"{folder}/net.safetensors", device="cpu", dtype=torch.float64)
    >>> loaded.hid_regions, loaded.tau, loaded.dtype
    (['a'], 50, torch.float64)
    """
    if dtype not in (None, *DTYPES.values()):
        raise ConfigError(f"dtype {dtype} is not supported; use torch.float32 or torch.float64.")
    where, file = chosen_device(device), Path(path)
    with ordinary_tensors():
        saved = read_network(file)
        with damaged_if_malformed(file):
            net = _network(saved, _settings(saved.settings, file, activation))
        return net.to(where, dtype or net.dtype)


def _settings(
    saved: dict[str, Any], path: Path, activation: Callable[[Tensor], Tensor] | None
) -> dict[str, Any]:
    settings = {**saved, "dtype": DTYPES[saved["dtype"]]}
    if settings["backend"] == "torch_sparse" and not torch_sparse.available():
        settings["backend"] = "auto"
    named = settings["activation"]
    if isinstance(named, dict):
        if activation is None:
            name = named["function"]
            raise SavedFileError(
                f"{path}: the activation of this network is a function, {name!r}, which a file cannot hold; "
                f"give it: load(path, activation={name})."
            )
        settings["activation"] = activation
    elif activation is not None:
        raise SavedFileError(f"{path}: the activation of this network is {named!r}; leave activation= out.")
    return settings


def _network(saved: SavedNetwork, settings: dict[str, Any]) -> mRNN | ElmanmRNN:
    """Build the network, on the CPU. The state is checked here, once; torch and the models then trust it."""
    model = MODELS[settings.pop("model")]
    net = model(saved.graph, config_finalize=False, device="cpu", **settings)
    net.allocate()
    check_state(net, saved.state)
    try:
        net.load_state_dict({**saved.state, **saved.extra})
    except RuntimeError as error:
        raise SavedFileError(str(error).replace("\n\t", " ")) from error
    blocks = synapse_blocks(net.weight_matrices(), base=True) if saved.explicit else {}
    for source, target, key in saved.explicit:
        edge = net.graph.edges[source, target, key]
        edge["weights"] = blocks[source, target, key]
        if LABELS in edge:
            codes = net.weights(net.kind_of(source)).gain_codes((source, target, key))
            edge[LABELS] = SynapseLabels(codes.cpu().numpy(), edge[LABELS].names)
    net.set_noise_seeds(saved.noise_seeds)
    parameters = dict(net.named_parameters())
    for name in saved.not_trained:
        parameters[name].requires_grad_(False)
    return net
