"""What a run depends on, as JSON: stored with it, and compared when it is resumed."""

from __future__ import annotations

import hashlib
import json
import platform
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparse_mrnn.declaration.config import to_config
from sparse_mrnn.errors import ConfigError
from sparse_mrnn.models.network import mRNNBase

LARGEST_CONFIG = 20_000
"""Explicit synapses up to which a recording carries the whole configuration of its network."""


def network_fingerprint(net: mRNNBase) -> dict[str, Any]:
    """Digests of everything in a network that its dynamics depend on. O(synapses)."""
    regions = net.layout().regions
    found: dict[str, Any] = {
        "model": type(net).__name__,
        "regions": {r.name: r.n for r in regions},
        "inputs": {r.name: r.n for r in net.layout("input").regions},
        "dtype": str(net.dtype).removeprefix("torch."),
        "activations": digest(*(f"{r.activation or net.activation.name}:{r.n}".encode() for r in regions)),
        "time constants": digest(net.alpha),
        "tonic input": digest(net.tonic_inp),
        "initial state": digest(net.initial_condition),
        "unit noise": digest(torch.as_tensor(net.hid_noise_const, dtype=torch.float64)),
        "input noise": net.inp_noise_const,
        "backend": net.backend,
        "device": net.device.type,
    }
    for weights in net.weight_matrices():
        found[f"{weights.kind} synapses"] = digest(weights.crow, weights.col)
        found[f"{weights.kind} weights"] = digest(weights.csr_values())
        found[f"{weights.kind} delays"] = digest(repr(weights.delays).encode())
        if weights.low_rank is not None:
            names = repr((weights.low_rank.names, weights.low_rank.delays)).encode()
            found[f"{weights.kind} low-rank projections"] = digest(names, weights.low_rank.stored_values())
    return found


def digest(*parts: Tensor | bytes) -> str:
    """A short digest of tensors or bytes."""
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        array = part if isinstance(part, bytes) else part.detach().cpu().numpy()
        found.update(array if isinstance(array, bytes) else np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def graph_config(net: mRNNBase) -> str:
    """The network's configuration as JSON; empty where JSON cannot name a class or synapses are many."""
    explicit = sum(p.synapses.nnz for p in net.graph.projections() if p.synapses is not None)
    if explicit > LARGEST_CONFIG:
        return ""
    try:
        return json.dumps(to_config(net.graph))
    except ConfigError:  # a rule or initialiser of the user's own has no name in JSON
        return ""


def software_versions() -> dict[str, Any]:
    """Versions and the thread count, on which the last bits of a result depend."""
    import sparse_mrnn

    return {
        "sparse_mrnn": sparse_mrnn.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
    }
